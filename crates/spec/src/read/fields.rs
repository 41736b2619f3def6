//! The keys of one mapping, taken one by one.
//!
//! Owns the meeting of a key with its value: text, list or nothing, and the report when the value is refused. Must not
//! know what any key means.

use std::rc::Rc;

use lith_core::value::quoted;

use super::mapping;
use crate::diagnostic::{Code, Reporter};
use crate::document::{Entry, Kind, Node, Span};
use crate::keys::{Level, refuse};
use crate::value::{self, Refusal};

/// Longest value repeated in a hint.
const HINTED_BYTES_MAX: usize = 60;

/// The known keys of a mapping.
pub(super) struct Fields<'a> {
    level: Level,
    entries: &'a [Entry],
}

impl<'a> Fields<'a> {
    /// Refuses at once every key that may not stand at this level.
    pub(super) fn new(level: Level, entries: &'a [Entry], reporter: &mut Reporter) -> Self {
        for entry in entries.iter().filter(|entry| !level.has(&entry.key.text)) {
            refuse(level, &entry.key, reporter);
        }
        Self { level, entries }
    }

    /// The key, if it is given; a key without a value counts as not given.
    pub(super) fn take(&mut self, key: &str) -> Option<&'a Entry> {
        assert!(self.level.has(key), "`{key}` is listed at its level");
        let entry = self.entries.iter().find(|entry| &*entry.key.text == key)?;
        (!matches!(entry.value.kind, Kind::Null)).then_some(entry)
    }

    /// The key's value, if it is given and accepted.
    pub(super) fn parse<T>(
        &mut self,
        key: &str,
        reporter: &mut Reporter,
        parse: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let entry = self.take(key)?;
        let text = text(entry, reporter)?;
        accepted(parse(text), &entry.value, reporter)
    }

    /// Whether the key says `true`; `false` when it is not given.
    pub(super) fn switch(&mut self, key: &str, reporter: &mut Reporter) -> bool {
        self.parse(key, reporter, value::switch).unwrap_or(false)
    }

    /// The items of the key's list, each parsed; those that were refused are left out.
    pub(super) fn parse_list<T>(
        &mut self,
        key: &str,
        reporter: &mut Reporter,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Vec<(T, &'a Node)> {
        let Some(entry) = self.take(key) else { return Vec::new() };
        let Some(items) = list(entry, reporter) else { return Vec::new() };
        parsed(entry, items, reporter, parse)
    }

    /// The same for a key that takes one value as well as a list.
    pub(super) fn parse_one_or_list<T>(
        &mut self,
        key: &str,
        reporter: &mut Reporter,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Vec<(T, &'a Node)> {
        let Some(entry) = self.take(key) else { return Vec::new() };
        match &entry.value.kind {
            Kind::List(items) => parsed(entry, items, reporter, parse),
            Kind::Text(_) => parsed(entry, std::slice::from_ref(&entry.value), reporter, parse),
            Kind::Null | Kind::Map(_) => {
                let message =
                    format!("{} takes one value or a list; this is a mapping", quoted(&entry.key.text));
                reporter.error(Code::WrongType, entry.key.span, message, None);
                Vec::new()
            }
        }
    }

    /// The entries of a key that takes a mapping of names to anything.
    pub(super) fn entries(&mut self, key: &str, want: &str, reporter: &mut Reporter) -> &'a [Entry] {
        let Some(entry) = self.take(key) else { return &[] };
        mapping(&entry.key, &entry.value, want, reporter).unwrap_or(&[])
    }
}

fn parsed<'a, T>(
    entry: &Entry,
    items: &'a [Rc<Node>],
    reporter: &mut Reporter,
    parse: impl Fn(&str) -> Result<T, Refusal>,
) -> Vec<(T, &'a Node)> {
    let mut read = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = item_text(entry, item, reporter) else { continue };
        if let Some(value) = accepted(parse(text), item, reporter) {
            read.push((value, &**item));
        }
    }
    read
}

/// What was read of a list, cut at its limit.
pub(super) fn limited<'a, T>(
    key: &str,
    mut items: Vec<(T, &'a Node)>,
    most: usize,
    reporter: &mut Reporter,
) -> Vec<(T, &'a Node)> {
    if let Some((_, node)) = items.get(most) {
        let message = format!("`{key}` holds {} entries; the limit is {most}", items.len());
        reporter.error(Code::TooMany, node.span, message, None);
        items.truncate(most);
    }
    items
}

/// The valid form of a list whose order means nothing: sorted, each once. Says what stands there twice.
pub(super) fn sorted<T: Ord>(
    key: &str,
    items: Vec<(T, &Node)>,
    most: usize,
    reporter: &mut Reporter,
) -> Vec<T> {
    let mut items: Vec<(T, Span)> =
        limited(key, items, most, reporter).into_iter().map(|(item, node)| (item, node.span)).collect();
    // Stable: of two that are the same, the one that stands first stays first.
    items.sort_by(|a, b| a.0.cmp(&b.0));
    for pair in items.windows(2) {
        if pair[0].0 == pair[1].0 {
            let message = format!("this stands in `{key}` already");
            reporter.warning(Code::Repeated, pair[1].1, message, None);
        }
    }
    items.dedup_by(|a, b| a.0 == b.0);
    items.into_iter().map(|(item, _)| item).collect()
}

/// Reports a refused value.
pub(super) fn accepted<T>(parsed: Result<T, Refusal>, node: &Node, reporter: &mut Reporter) -> Option<T> {
    match parsed {
        Ok(value) => Some(value),
        Err(refusal) => {
            reporter.error(refusal.code, node.span, refusal.message, refusal.hint);
            None
        }
    }
}

/// The value of a key that takes one value.
pub(super) fn text<'a>(entry: &'a Entry, reporter: &mut Reporter) -> Option<&'a str> {
    let Kind::Text(text) = &entry.value.kind else {
        let key = quoted(&entry.key.text);
        let message = format!("{key} takes a single value; this is {}", entry.value.kind.noun());
        reporter.error(Code::WrongType, entry.key.span, message, None);
        return None;
    };
    Some(text)
}

/// The items of a key that takes a list.
pub(super) fn list<'a>(entry: &'a Entry, reporter: &mut Reporter) -> Option<&'a [Rc<Node>]> {
    let Kind::List(items) = &entry.value.kind else {
        let key = quoted(&entry.key.text);
        let message = format!("{key} takes a list; this is {}", entry.value.kind.noun());
        let hint = match &entry.value.kind {
            Kind::Text(text) if text.len() <= HINTED_BYTES_MAX => {
                Some(format!("write `{}: [ {} ]`", entry.key.text, crate::write::scalar(text)))
            }
            Kind::Null | Kind::Text(_) | Kind::List(_) | Kind::Map(_) => None,
        };
        reporter.error(Code::WrongType, entry.key.span, message, hint);
        return None;
    };
    Some(items)
}

/// An item of a list of single values.
pub(super) fn item_text<'a>(entry: &Entry, item: &'a Node, reporter: &mut Reporter) -> Option<&'a str> {
    let Kind::Text(text) = &item.kind else {
        let key = quoted(&entry.key.text);
        let message = format!("the items of {key} are single values; this is {}", item.kind.noun());
        let hint = match item.kind {
            Kind::Map(_) => Some(String::from("write each item as one value, in quotes if it holds `: `")),
            Kind::Null => Some(String::from("write `\"\"` for an empty text")),
            Kind::Text(_) | Kind::List(_) => None,
        };
        reporter.error(Code::WrongType, item.span, message, hint);
        return None;
    };
    Some(text)
}
