//! Variables of job files: `${NAME}`, `${NAME:-default}`, `${NAME:?why}`, and `$$` for a `$`.
//!
//! Owns their grammar and what they are worth. Any other `$` is itself, so that shell text needs no escapes but for `${`
//! and `$$`. A default may hold variables again. Must not know where a text stands.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use lith_core::value::quoted;

use crate::diagnostic::{Code, Reporter};
use crate::document::load::TEXT_BYTES_MAX;
use crate::document::{Entry, Kind, Node, Span};
use crate::value::Refusal;

/// Deepest nesting of variables in defaults: more than anybody reads.
const NESTING_MAX: usize = 8;
/// Longest value with its variables put in: the longest text that Linux gives a process as one argument or variable.
const VALUE_BYTES_MAX: usize = 128 << 10;

/// What variables are worth.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    values: BTreeMap<String, String>,
    outer: Rc<BTreeMap<String, String>>,
}

impl Scope {
    /// These variables alone.
    pub(crate) fn new(values: BTreeMap<String, String>) -> Self {
        Self { values: BTreeMap::new(), outer: Rc::new(values) }
    }

    /// Gives each of these variables its value, unless it has one.
    pub(crate) fn add_defaults(&mut self, values: BTreeMap<String, String>) {
        let outer = Rc::make_mut(&mut self.outer);
        for (name, value) in values {
            outer.entry(name).or_insert(value);
        }
    }

    /// A scope within this one: what is set there is not seen here.
    pub(crate) fn within(&self) -> Self {
        Self { values: BTreeMap::new(), outer: Rc::clone(&self.outer) }
    }

    /// Gives a variable a value, unless the outer scope has one.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.outer.get(name).or_else(|| self.values.get(name)).map(String::as_str)
    }
}

/// The refusal of a variable that nothing gives a value.
pub(crate) fn missing(name: &str) -> Refusal {
    let message = format!("the variable {} has no value", quoted(name));
    Refusal::new(Code::BadVariable, message)
        .hint(format!("give one: `--set {name}=…`, or a line `{name}=…` in `.env` beside the job file"))
}

/// What is wrong with a text, and the part of it that is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The `${…}` as it is written, as far as it can be told.
    pub(crate) part: String,
    pub(crate) refusal: Refusal,
}

/// The text with its variables put in.
pub(crate) fn fill(text: &str, scope: &Scope) -> Result<String, Fault> {
    let mut filled = String::with_capacity(text.len());
    fill_into(&mut filled, text, scope, 0)?;
    Ok(filled)
}

/// The text as it is written so that `fill` gives it back.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        escaped.push(character);
        if character == '$' && matches!(rest.peek(), Some('$' | '{')) {
            escaped.push('$');
        }
    }
    escaped
}

fn fill_into(filled: &mut String, text: &str, scope: &Scope, depth: usize) -> Result<(), Fault> {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            filled.push('$');
            rest = after;
        } else if let Some(inside) = after.strip_prefix('{') {
            let Some(end) = end_of(inside) else {
                let message = format!("the `${{` in {} is never closed", quoted(text));
                return Err(fault(&rest[at..], message, "write `$${` for a `${` that starts no variable"));
            };
            variable(filled, &inside[..end], scope, depth)?;
            rest = &inside[end + 1..];
        } else {
            filled.push('$');
            rest = after;
        }
        if filled.len() > VALUE_BYTES_MAX {
            let message = format!("the value, with its variables, is longer than {VALUE_BYTES_MAX} bytes");
            return Err(Fault { part: text.to_owned(), refusal: Refusal::new(Code::TooLarge, message) });
        }
    }
    filled.push_str(rest);
    Ok(())
}

/// Where the `}` stands that closes a `${` before this text.
fn end_of(inside: &str) -> Option<usize> {
    let mut open = 1usize;
    let bytes = inside.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

fn fault(part: &str, message: String, hint: &str) -> Fault {
    Fault { part: part.to_owned(), refusal: Refusal::new(Code::BadVariable, message).hint(hint) }
}

/// Puts in what stands between `${` and `}`.
fn variable(filled: &mut String, inside: &str, scope: &Scope, depth: usize) -> Result<(), Fault> {
    let part = format!("${{{inside}}}");
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
    let (name, form) = inside.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        let message = format!("{} names no variable", quoted(&part));
        return Err(fault(&part, message, "write `$${` for a `${` that starts no variable"));
    }
    if depth == NESTING_MAX {
        let message = format!("variables are nested more than {NESTING_MAX} deep here");
        return Err(fault(&part, message, "give the inner ones values of their own"));
    }
    let value = scope.get(name);
    if form.is_empty() {
        let value = value.ok_or_else(|| Fault { part, refusal: missing(name) })?;
        filled.push_str(value);
    } else if let Some(default) = form.strip_prefix(":-") {
        match value.filter(|value| !value.is_empty()) {
            Some(value) => filled.push_str(value),
            None => fill_into(filled, default, scope, depth + 1)?,
        }
    } else if let Some(why) = form.strip_prefix(":?") {
        let value = value.filter(|value| !value.is_empty()).ok_or_else(|| {
            let message = if why.is_empty() {
                format!("the variable {} must have a value", quoted(name))
            } else {
                format!("the variable {} must have a value: {}", quoted(name), quoted(why))
            };
            let Refusal { hint, .. } = missing(name);
            Fault { part, refusal: Refusal { code: Code::BadVariable, message, hint } }
        })?;
        filled.push_str(value);
    } else {
        let message = format!("{} has no form that a job file knows", quoted(&part));
        let hint =
            format!("write `${{{name}}}`, `${{{name}:-default}}` or `${{{name}:?why it must be given}}`");
        return Err(fault(&part, message, &hint));
    }
    Ok(())
}

/// A tree with its variables put in: every single value, no key. Faults go to the reporter.
pub(crate) fn fill_tree(root: &Rc<Node>, scope: &Scope, reporter: &mut Reporter) -> Rc<Node> {
    Filler { scope, reporter, done: HashMap::new(), added: 0, is_stopped: false }.node(root)
}

struct Filler<'a> {
    scope: &'a Scope,
    reporter: &'a mut Reporter,
    /// What became of each node, for an alias stands for its anchor's node.
    done: HashMap<*const Node, Rc<Node>>,
    /// Bytes of all values with variables in them.
    added: usize,
    is_stopped: bool,
}

impl Filler<'_> {
    fn node(&mut self, node: &Rc<Node>) -> Rc<Node> {
        if self.is_stopped {
            return Rc::clone(node);
        }
        if let Some(done) = self.done.get(&Rc::as_ptr(node)) {
            return Rc::clone(done);
        }
        let kind = match &node.kind {
            Kind::Null => None,
            Kind::Text(text) => self.text(text, node.span).map(|text| Kind::Text(Rc::from(text))),
            Kind::List(items) => {
                let filled: Vec<Rc<Node>> = items.iter().map(|item| self.node(item)).collect();
                let is_same = filled.iter().zip(items).all(|(new, old)| Rc::ptr_eq(new, old));
                (!is_same).then_some(Kind::List(filled))
            }
            Kind::Map(entries) => {
                let filled: Vec<Entry> = entries
                    .iter()
                    .map(|entry| Entry { key: entry.key.clone(), value: self.node(&entry.value) })
                    .collect();
                let is_same = filled.iter().zip(entries).all(|(new, old)| Rc::ptr_eq(&new.value, &old.value));
                (!is_same).then_some(Kind::Map(filled))
            }
        };
        let filled = kind.map_or_else(|| Rc::clone(node), |kind| Rc::new(Node::new(node.span, kind)));
        self.done.insert(Rc::as_ptr(node), Rc::clone(&filled));
        filled
    }

    /// The text with its variables put in; `None` when there are none, or something is wrong with them.
    fn text(&mut self, text: &str, span: Span) -> Option<String> {
        if !text.contains('$') {
            return None;
        }
        match fill(text, self.scope) {
            Ok(filled) => {
                self.added = self.added.saturating_add(filled.len());
                if self.added > TEXT_BYTES_MAX {
                    self.is_stopped = true;
                    let message = format!("the values with variables take more than {TEXT_BYTES_MAX} bytes");
                    self.reporter.error(Code::TooLarge, span, message, None);
                }
                Some(filled)
            }
            Err(fault) => {
                let part = self.within(span, &fault.part);
                self.reporter.error(fault.refusal.code, part, fault.refusal.message, fault.refusal.hint);
                self.reporter.mute(span);
                None
            }
        }
    }

    /// The place of a part of a value, where it stands in the file as it does in the value.
    fn within(&self, span: Span, part: &str) -> Span {
        let text = self.reporter.text(span.file);
        let found = text.get(span.start..span.end).and_then(|written| written.find(part));
        match found {
            Some(at) => Span { start: span.start + at, end: span.start + at + part.len(), ..span },
            None => span,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Scope, escaped, fill};

    fn scope() -> Scope {
        Scope::new(BTreeMap::from(
            [("A", "1"), ("EMPTY", ""), ("NEST", "${A}")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        ))
    }

    #[test]
    fn forms() {
        for (text, expected) in [
            ("${A}", "1"),
            ("x${A}y${A}", "x1y1"),
            ("${EMPTY}", ""),
            ("${NEST}", "${A}"),
            ("${B:-x}", "x"),
            ("${B:-}", ""),
            ("${EMPTY:-x}", "x"),
            ("${A:-x}", "1"),
            ("${B:-${C:-y}z}", "yz"),
            ("${B:-{a}", "{a"),
            ("${A:?why}", "1"),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("$A $ 5$", "$A $ 5$"),
            ("$$$$", "$$"),
        ] {
            assert_eq!(fill(text, &scope()).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "${B}",
            "${B:?}",
            "${EMPTY:?why}",
            "${",
            "${}",
            "${1}",
            "${A-x}",
            "${A:+x}",
            "${a b}",
            "${B:-${C}}",
        ] {
            assert!(fill(text, &scope()).is_err(), "{text}");
        }
        let deep = "${B:-".repeat(100_000) + &"}".repeat(100_000);
        assert!(fill(&deep, &scope()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(text in "[$${}A:a -]{0,20}|\\PC{0,20}") {
            prop_assert_eq!(fill(&escaped(&text), &scope()), Ok(text));
        }
    }
}
