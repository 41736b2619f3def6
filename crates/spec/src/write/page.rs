//! Lines of YAML with their indentation.
//!
//! Owns when a list or mapping stands on one line. Must not know what any key means.

use std::fmt::Write;

use super::scalar::{literal, scalar, value};
use crate::variables::escaped;

/// Longest line that a list or mapping may make.
const WIDTH: usize = 100;

/// What is written so far.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
}

impl Page {
    fn line(&mut self, depth: usize, text: &str) {
        writeln!(self.text, "{:indent$}{text}", "", indent = 2 * depth)
            .expect("a String takes what is written");
    }

    /// A key whose value follows below, or that has none.
    pub(super) fn key(&mut self, depth: usize, key: &str) {
        self.line(depth, &format!("{key}:"));
    }

    /// A key and its value, which is YAML already.
    pub(super) fn pair(&mut self, depth: usize, key: &str, value: &str) {
        self.line(depth, &format!("{key}: {value}"));
    }

    /// A key and a text, whose lines stand as they are where they can.
    pub(super) fn text_pair(&mut self, depth: usize, key: &str, text: &str) {
        let escaped = escaped(text);
        match literal(&escaped) {
            Some((header, lines)) => {
                self.pair(depth, key, header);
                self.lines(depth + 1, &lines);
            }
            None => self.pair(depth, key, &value(text)),
        }
    }

    /// The lines below a `|`.
    fn lines(&mut self, depth: usize, lines: &[&str]) {
        for line in lines {
            // An empty line has no indentation that an editor would take away.
            self.line(if line.is_empty() { 0 } else { depth }, line);
        }
    }

    /// A list of YAML values: on one line where it fits.
    pub(super) fn list(&mut self, depth: usize, key: &str, items: Vec<String>) {
        let flow = flow_list(&items);
        if items.len() < 2 || fits(depth, key, &flow) {
            return self.pair(depth, key, &flow);
        }
        self.key(depth, key);
        for item in items {
            self.line(depth + 1, &format!("- {item}"));
        }
    }

    /// A list of words, such as a command: a script of several lines among them stands as it is.
    pub(super) fn words(&mut self, depth: usize, key: &str, words: &[String]) {
        let escaped: Vec<String> = words.iter().map(|word| escaped(word)).collect();
        if escaped.iter().all(|word| literal(word).is_none()) {
            return self.list(depth, key, escaped.iter().map(|word| scalar(word)).collect());
        }
        self.key(depth, key);
        for word in &escaped {
            match literal(word) {
                Some((header, lines)) => {
                    self.line(depth + 1, &format!("- {header}"));
                    self.lines(depth + 2, &lines);
                }
                None => self.line(depth + 1, &format!("- {}", scalar(word))),
            }
        }
    }

    /// A mapping of keys to YAML values: on one line where it fits.
    pub(super) fn map(&mut self, depth: usize, key: &str, pairs: &[(&str, String)]) {
        let flow = flow_map(pairs);
        if pairs.len() < 2 || fits(depth, key, &flow) {
            return self.pair(depth, key, &flow);
        }
        self.key(depth, key);
        for (key, value) in pairs {
            self.pair(depth + 1, key, value);
        }
    }

    /// Comments, each a line of its own.
    pub(super) fn comments(&mut self, depth: usize, comments: &[String]) {
        for line in comments.iter().flat_map(|comment| comment.split('\n')) {
            // What is invisible could end the comment for some reader.
            let shown: String = line.chars().map(|c| if is_shown(c) { c } else { ' ' }).collect();
            self.line(depth, format!("# {}", shown.trim_end()).trim_end());
        }
    }
}

fn is_shown(character: char) -> bool {
    matches!(character, ' '..='~')
        || (!character.is_control() && !matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}'))
}

fn fits(depth: usize, key: &str, value: &str) -> bool {
    2 * depth + key.chars().count() + 2 + value.chars().count() <= WIDTH
}

/// A list on one line.
pub(super) fn flow_list(items: &[String]) -> String {
    if items.is_empty() { String::from("[]") } else { format!("[ {} ]", items.join(", ")) }
}

/// A mapping on one line.
pub(super) fn flow_map(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    if pairs.is_empty() { String::from("{}") } else { format!("{{ {} }}", pairs.join(", ")) }
}
