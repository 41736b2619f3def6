//! Variables: what they are worth, and which of them the files need.
//!
//! Owns the values that one reading goes by, and the list of variables that it used. Must not parse a template.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use crate::compose::project::Needed;
use crate::document::Span;

/// Values of variables by name, as seen from one file.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    values: BTreeMap<String, Rc<str>>,
}

impl Scope {
    pub(super) fn get(&self, name: &str) -> Option<&Rc<str>> {
        self.values.get(name)
    }

    /// Gives a variable a value, whatever it had.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), Rc::from(value));
    }

    /// These values over others.
    pub(super) fn over(&self, mut below: Self) -> Self {
        for (name, value) in &self.values {
            below.values.insert(name.clone(), Rc::clone(value));
        }
        below
    }

    /// Gives a variable a value unless it has one.
    pub(super) fn set_default(&mut self, name: &str, value: &str) {
        self.values.entry(name.to_owned()).or_insert_with(|| Rc::from(value));
    }
}

/// How a file uses a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use<'t> {
    /// Nothing takes its place.
    Required,
    /// This takes its place.
    Default(&'t str),
    /// It may be missing.
    Optional,
}

/// The variables that the files need, in the order of their first use.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) list: Vec<Needed>,
    by_name: HashMap<String, usize>,
}

impl Used {
    /// Notes one use.
    pub(super) fn note(&mut self, name: &str, span: Span, how: Use<'_>, is_given: bool) {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                self.by_name.insert(name.to_owned(), self.list.len());
                self.list.push(Needed {
                    name: name.to_owned(),
                    span,
                    is_required: false,
                    default: None,
                    is_given: false,
                });
                self.list.len() - 1
            }
        };
        let needed = &mut self.list[at];
        needed.is_given |= is_given;
        match how {
            Use::Required => needed.is_required = true,
            Use::Default(text) if needed.default.is_none() => needed.default = Some(text.to_owned()),
            Use::Default(_) | Use::Optional => {}
        }
    }
}
