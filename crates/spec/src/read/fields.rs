//! The keys of one mapping, taken one by one.
//!
//! Owns the meeting of a key with its value: text, list or nothing, and the report when the value is refused. Must not
//! know what any key means.

use std::rc::Rc;

use lith_core::value::quoted;

use super::keys::{Level, refuse};
use crate::diagnostic::{Code, Reporter};
use crate::document::{Entry, Kind, Node};
use crate::value::Refusal;

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
        for entry in entries.iter().filter(|entry| !level.keys().contains(&&*entry.key.text)) {
            refuse(level, &entry.key, reporter);
        }
        Self { level, entries }
    }

    /// The key, if it is given; a key without a value counts as not given.
    pub(super) fn take(&mut self, key: &str) -> Option<&'a Entry> {
        debug_assert!(self.level.keys().contains(&key), "`{key}` is listed at its level");
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

    /// The items of the key's list, each parsed; those that were refused are left out.
    pub(super) fn parse_list<T>(
        &mut self,
        key: &str,
        reporter: &mut Reporter,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Vec<(T, &'a Node)> {
        let Some(entry) = self.take(key) else { return Vec::new() };
        let Some(items) = list(entry, reporter) else { return Vec::new() };
        let mut read = Vec::with_capacity(items.len());
        for item in items {
            let Some(text) = item_text(entry, item, reporter) else { continue };
            if let Some(value) = accepted(parse(text), item, reporter) {
                read.push((value, &**item));
            }
        }
        read
    }
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
