//! The parts of a job that stand in several files, joined into one.
//!
//! Owns what may stand in more than one part, and the report of a name that stands twice. Each value keeps its own place.

use std::collections::HashMap;
use std::rc::Rc;

use lith_core::value::quoted;

use super::EXAMPLE;
use crate::diagnostic::{Code, Reporter};
use crate::document::{Entry, Key, Kind, Node, Span};

/// Keys whose members may be spread over the parts, with the noun of a member.
const SPREAD: [(&str, &str); 5] = [
    ("volumes", "volume"),
    ("secrets", "secret"),
    ("configs", "config"),
    ("groups", "group"),
    ("tasks", "task"),
];

/// The keys of the whole job; `None`, with its reason, when a part is no mapping.
pub(super) fn joined(roots: &[Rc<Node>], reporter: &mut Reporter) -> Option<Vec<Entry>> {
    let mut parts = Vec::with_capacity(roots.len());
    for root in roots {
        match &root.kind {
            Kind::Map(entries) => parts.push(entries),
            Kind::Null | Kind::Text(_) | Kind::List(_) => {
                let message = format!("a job file is a mapping of keys; this is {}", root.kind.noun());
                reporter.error(Code::WrongType, root.span, message, EXAMPLE);
            }
        }
    }
    if parts.len() != roots.len() {
        return None;
    }
    if let [only] = parts.as_slice() {
        return Some((*only).clone());
    }
    let mut whole: Vec<Entry> = Vec::new();
    let mut members: HashMap<Rc<str>, Members> = HashMap::new();
    for entry in parts.into_iter().flatten() {
        match SPREAD.iter().find(|(key, _)| **key == *entry.key.text) {
            Some((_, noun)) if is_spread(&entry.value) => {
                let members =
                    members.entry(Rc::clone(&entry.key.text)).or_insert_with(|| Members::new(&entry.key));
                members.add(entry, noun, reporter);
            }
            Some(_) if matches!(entry.value.kind, Kind::Null) => {}
            Some(_) => whole.push(entry.clone()),
            None => add(entry, &mut whole, reporter),
        }
    }
    whole.extend(members.into_values().map(Members::entry));
    whole.sort_by_key(|entry| entry.key.span);
    Some(whole)
}

/// What is neither is left to the reading of the key, which says what it takes.
fn is_spread(value: &Node) -> bool {
    match &value.kind {
        Kind::Map(_) => true,
        Kind::List(items) => items.iter().all(|item| matches!(item.kind, Kind::Text(_))),
        Kind::Null | Kind::Text(_) => false,
    }
}

/// A key that one part alone says, or all that say it in the same words: the job's name.
fn add(entry: &Entry, whole: &mut Vec<Entry>, reporter: &mut Reporter) {
    let Some(first) = whole.iter().find(|other| other.key.text == entry.key.text) else {
        return whole.push(entry.clone());
    };
    let (one, other) = (text(&first.value), text(&entry.value));
    if one.is_some() && one == other {
        return;
    }
    let place = reporter.place(first.key.span, entry.key.span);
    let (message, hint) = match (one, other) {
        (Some(one), Some(other)) if &*entry.key.text == "job" => (
            format!("these files are parts of two jobs, {} and {}", quoted(one), quoted(other)),
            format!("the other name stands in {place}; parts of one job name the same one, or none"),
        ),
        _ => (
            format!("the key {} stands in two files", quoted(&entry.key.text)),
            format!("the other stands in {place}; keep one of them"),
        ),
    };
    reporter.error(Code::DuplicateKey, entry.key.span, message, hint);
}

fn text(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Text(text) => Some(text),
        Kind::Null | Kind::List(_) | Kind::Map(_) => None,
    }
}

/// The members of one key, from all parts.
struct Members {
    key: Key,
    entries: Vec<Entry>,
    seen: HashMap<Rc<str>, Span>,
}

impl Members {
    fn new(key: &Key) -> Self {
        Self { key: key.clone(), entries: Vec::new(), seen: HashMap::new() }
    }

    fn add(&mut self, part: &Entry, noun: &str, reporter: &mut Reporter) {
        match &part.value.kind {
            Kind::Map(entries) => entries.iter().for_each(|entry| self.push(entry.clone(), noun, reporter)),
            Kind::List(items) => {
                for item in items {
                    let Some(text) = text(item) else { continue };
                    let key = Key { text: Rc::from(text), span: item.span };
                    self.push(Entry { key, value: Rc::new(Node::null(item.span)) }, noun, reporter);
                }
            }
            Kind::Null | Kind::Text(_) => {}
        }
    }

    fn push(&mut self, entry: Entry, noun: &str, reporter: &mut Reporter) {
        if let Some(first) = self.seen.get(&entry.key.text) {
            if reporter.is_full() {
                return;
            }
            let message = format!("the {noun} {} stands in two files", quoted(&entry.key.text));
            let place = reporter.place(*first, entry.key.span);
            let hint = format!("the other stands in {place}; keep one of them, or give one another name");
            return reporter.error(Code::DuplicateKey, entry.key.span, message, hint);
        }
        self.seen.insert(Rc::clone(&entry.key.text), entry.key.span);
        self.entries.push(entry);
    }

    fn entry(self) -> Entry {
        let span = self.key.span;
        Entry { key: self.key, value: Rc::new(Node::new(span, Kind::Map(self.entries))) }
    }
}
