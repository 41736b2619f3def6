//! The lines of a laid-out file.
//!
//! Owns indentation, spaces, quotes and the order of keys. A collection that stands on one line stays there while it fits
//! and holds no comment.

use std::fmt::Write;

use super::outline::{Body, Outline, Shape, Slot, Style, Text, Value};
use crate::keys::{Level, Takes};
use crate::write::scalar;

/// Longest line that a collection on one line may make.
const WIDTH: usize = 110;

/// The whole file.
pub(super) fn write(outline: &Outline) -> String {
    let mut page = Page { text: String::new(), keeps_order: outline.has_anchors };
    page.comments(0, &outline.head, Start::First);
    match &outline.root.shape {
        Shape::Map(body) | Shape::List(body) if !is_flat(&outline.root, 0) => {
            let is_map = matches!(outline.root.shape, Shape::Map(_));
            page.body(0, body, is_map, Place::Keys(Level::Job));
        }
        Shape::Null | Shape::Alias(_) | Shape::Text(_) | Shape::List(_) | Shape::Map(_) => {
            let line = page.flat(&outline.root, Place::Keys(Level::Job));
            page.line(0, &line);
        }
    }
    page.comments(0, &outline.foot, Start::Later);
    page.text
}

/// What a collection is to the job file, for the order of its keys.
#[derive(Clone, Copy)]
enum Place {
    /// Its keys are those of the level.
    Keys(Level),
    /// Its keys are names, and below each are those of the level.
    Members(Level),
    /// Its items are mappings with the keys of the level.
    Items(Level),
    /// Its keys are the person's own.
    Free,
}

impl Place {
    fn below(self, key: Option<&Text>) -> Self {
        match (self, key) {
            (Self::Keys(level), Some(key)) => {
                let known = level.keys().iter().find(|known| known.name == key.text);
                known.map_or(Self::Free, |known| Self::of(known.takes))
            }
            (Self::Members(level), Some(_)) | (Self::Items(level), None) => Self::Keys(level),
            (Self::Keys(_) | Self::Free, _) | (Self::Members(_), None) | (Self::Items(_), Some(_)) => {
                Self::Free
            }
        }
    }

    fn of(takes: Takes) -> Self {
        match takes {
            Takes::Section(level) => Self::Keys(level),
            Takes::Members(level) => Self::Members(level),
            Takes::Mapping(value) => match Self::of(*value) {
                Self::Keys(level) => Self::Members(level),
                Self::Members(_) | Self::Items(_) | Self::Free => Self::Free,
            },
            Takes::List(item) | Takes::OneOrList(item) => match Self::of(*item) {
                Self::Keys(level) => Self::Items(level),
                Self::Members(_) | Self::Items(_) | Self::Free => Self::Free,
            },
            Takes::Any(all) => {
                let places = all.iter().map(|takes| Self::of(*takes));
                places.into_iter().find(|place| !matches!(place, Self::Free)).unwrap_or(Self::Free)
            }
            Takes::Name
            | Takes::Text
            | Takes::Form(_)
            | Takes::Word(_)
            | Takes::Number(..)
            | Takes::Switch
            | Takes::Words => Self::Free,
        }
    }

    /// The slots in the order in which they are written.
    fn ordered(self, slots: &[Slot], keeps_order: bool) -> Vec<&Slot> {
        let mut ordered: Vec<&Slot> = slots.iter().collect();
        // An alias must not come before its anchor.
        if let (Self::Keys(level), false) = (self, keeps_order) {
            let rank = |slot: &Slot| {
                let name = slot.key.as_ref().map_or("", |key| key.text.as_str());
                level.names().position(|known| known == name).unwrap_or(usize::MAX)
            };
            ordered.sort_by_key(|slot| rank(slot));
        }
        ordered
    }
}

/// Whether an empty line may come first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    First,
    Later,
}

struct Page {
    text: String,
    keeps_order: bool,
}

impl Page {
    fn line(&mut self, depth: usize, text: &str) {
        writeln!(self.text, "{:indent$}{text}", "", indent = 2 * depth)
            .expect("a String takes what is written");
    }

    fn comments(&mut self, depth: usize, comments: &[String], start: Start) {
        for (index, comment) in comments.iter().enumerate() {
            if !comment.is_empty() {
                self.line(depth, comment);
            } else if (index > 0 || start == Start::Later) && !self.text.is_empty() {
                self.text.push('\n');
            }
        }
    }

    fn body(&mut self, depth: usize, body: &Body, is_map: bool, place: Place) {
        let mut start = Start::First;
        for slot in place.ordered(&body.slots, self.keeps_order) {
            self.comments(depth, &slot.above, start);
            start = Start::Later;
            match (&slot.key, is_map) {
                (Some(key), _) => self.entry(depth, key, slot, place),
                (None, _) => self.item(depth, slot, place),
            }
        }
        self.comments(depth, &body.foot, start);
    }

    fn entry(&mut self, depth: usize, key: &Text, slot: &Slot, place: Place) {
        let below = place.below(Some(key));
        let key = single(key);
        self.value(depth, &format!("{key}:"), 2 * depth + key.chars().count() + 2, slot, below);
    }

    fn item(&mut self, depth: usize, slot: &Slot, place: Place) {
        let below = place.below(None);
        let is_block = !is_flat(&slot.value, 2 * depth + 2);
        if let (Shape::Map(body), true, None, None) =
            (&slot.value.shape, is_block, &slot.behind, &slot.value.anchor)
        {
            let first = below
                .ordered(&body.slots, self.keeps_order)
                .first()
                .map(|slot| slot.above.iter().all(String::is_empty));
            if first == Some(true) {
                // The first entry stands in the line of the dash.
                let mut inner = Self { text: String::new(), keeps_order: self.keeps_order };
                inner.body(depth + 1, body, true, below);
                let indent = 2 * (depth + 1);
                let rest = inner.text.get(indent..).unwrap_or_default();
                write!(self.text, "{:width$}- {rest}", "", width = 2 * depth)
                    .expect("a String takes what is written");
                return;
            }
        }
        self.value(depth, "-", 2 * depth + 2, slot, below);
    }

    /// A value behind its key or dash, or below it.
    fn value(&mut self, depth: usize, lead: &str, column: usize, slot: &Slot, below: Place) {
        let behind = slot.behind.as_ref().map(|comment| format!(" {comment}")).unwrap_or_default();
        let anchor = slot.value.anchor.as_ref().map(|name| format!(" &{name}")).unwrap_or_default();
        if let Shape::Text(text) = &slot.value.shape
            && let Some(sign) = block_sign(text)
        {
            return self.block(depth, lead, &anchor, &behind, text, sign);
        }
        match &slot.value.shape {
            Shape::Map(body) | Shape::List(body) if !is_flat(&slot.value, column) => {
                self.line(depth, &format!("{lead}{anchor}{behind}"));
                let is_map = matches!(slot.value.shape, Shape::Map(_));
                self.body(depth + 1, body, is_map, below);
            }
            Shape::Null if slot.value.anchor.is_none() => self.line(depth, &format!("{lead}{behind}")),
            Shape::Null | Shape::Alias(_) | Shape::Text(_) | Shape::List(_) | Shape::Map(_) => {
                let flat = self.flat(&slot.value, below);
                self.line(depth, &format!("{lead} {flat}{behind}"));
            }
        }
    }

    /// Lines below a `|` or `>`, moved to their new place.
    fn block(&mut self, depth: usize, lead: &str, anchor: &str, behind: &str, text: &Text, sign: char) {
        let chomp = if text.text.ends_with('\n') { "" } else { "-" };
        self.line(depth, &format!("{lead}{anchor} {sign}{chomp}{behind}"));
        for line in text.source.split('\n') {
            if line.is_empty() {
                self.text.push('\n');
            } else {
                self.line(depth + 1, line);
            }
        }
    }

    /// A value on one line.
    fn flat(&self, value: &Value, place: Place) -> String {
        let anchor = value.anchor.as_ref().map(|name| format!("&{name} ")).unwrap_or_default();
        let flat = match &value.shape {
            Shape::Null => String::from("~"),
            Shape::Alias(name) => name.clone(),
            Shape::Text(text) => single(text),
            Shape::List(body) | Shape::Map(body) => {
                let slots = place.ordered(&body.slots, self.keeps_order);
                let items = slots.into_iter().map(|slot| {
                    let item = self.flat(&slot.value, place.below(slot.key.as_ref()));
                    match (&slot.key, &slot.value.shape) {
                        (Some(key), Shape::Null) if slot.value.anchor.is_none() => {
                            format!("{}:", single(key))
                        }
                        (Some(key), _) => format!("{}: {item}", single(key)),
                        (None, _) => item,
                    }
                });
                let items: Vec<String> = items.collect();
                let (open, close) =
                    if matches!(value.shape, Shape::Map(_)) { ('{', '}') } else { ('[', ']') };
                if items.is_empty() {
                    format!("{open}{close}")
                } else {
                    format!("{open} {} {close}", items.join(", "))
                }
            }
        };
        format!("{anchor}{flat}")
    }
}

/// Whether a value stands on one line, that starts in this column.
fn is_flat(value: &Value, column: usize) -> bool {
    width(value).is_some_and(|width| column.saturating_add(width) <= WIDTH)
}

/// The width of a value on one line; `None` when it cannot stand on one, or should not.
fn width(value: &Value) -> Option<usize> {
    let anchor = value.anchor.as_ref().map_or(0, |name| name.len() + 2);
    let own = match &value.shape {
        Shape::Null => 1,
        Shape::Alias(name) => name.len(),
        // A single value that is too long cannot be made shorter.
        Shape::Text(text) if block_sign(text).is_some() => return None,
        Shape::Text(text) => single(text).chars().count(),
        Shape::List(body) | Shape::Map(body) => {
            if body.slots.is_empty() && body.foot.is_empty() {
                2
            } else if !body.is_flow || !body.foot.is_empty() {
                return None;
            } else {
                let mut sum = 4;
                for slot in &body.slots {
                    if slot.behind.is_some() || slot.above.iter().any(|line| !line.is_empty()) {
                        return None;
                    }
                    let key = slot.key.as_ref().map_or(0, |key| single(key).chars().count() + 2);
                    sum += key + width(&slot.value)? + 2;
                }
                sum - 2
            }
        }
    };
    Some(anchor + own)
}

/// The sign before lines that stay lines.
fn block_sign(text: &Text) -> Option<char> {
    let sign = match text.style {
        Style::Literal => '|',
        Style::Folded => '>',
        Style::Plain | Style::Quoted => return None,
    };
    text.keeps_lines().then_some(sign)
}

/// A single value or key, in one line.
fn single(text: &Text) -> String {
    // What is no plain ASCII would become escapes, which nobody reads.
    let is_readable = text.text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    match text.style {
        Style::Plain => text.source.clone(),
        Style::Quoted if !is_readable => text.source.clone(),
        Style::Quoted | Style::Literal | Style::Folded => scalar(&text.text),
    }
}
