//! The tree that loading works on: a document after decoding and interpolation, which can be merged and taken apart.
//!
//! Owns its shape and how to look into it. Every value keeps the place where it was written, whatever file it comes from.
//! Must not know any key of Compose.

use std::rc::Rc;

use crate::document::{Key, MergeTag, Span};

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) span: Span,
    pub(super) data: Data,
    /// How it meets the value of an earlier file.
    pub(super) tag: Option<MergeTag>,
}

/// What a value holds.
#[derive(Debug, Clone)]
pub(super) enum Data {
    Null,
    Scalar(Scalar),
    List(Vec<Value>),
    /// In order; no key stands twice.
    Map(Vec<Member>),
}

/// A single value: its text as Compose prints it, and the type that YAML gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: Rc<str>,
    pub(super) class: Class,
}

/// The type of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Text,
    Truth,
    Whole,
    Fraction,
    Date,
}

/// A key of a map, and its value.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) key: Key,
    pub(super) value: Value,
}

impl Value {
    pub(super) fn new(span: Span, data: Data) -> Self {
        Self { span, data, tag: None }
    }

    /// Text at a place.
    pub(super) fn of_text(span: Span, text: &str) -> Self {
        Self::new(span, Data::Scalar(Scalar { text: Rc::from(text), class: Class::Text }))
    }

    /// Whether a later file says that there is nothing.
    pub(super) fn is_reset(&self) -> bool {
        self.tag == Some(MergeTag::Reset)
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.data, Data::Null)
    }

    /// Text of a scalar of whatever type.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(scalar) => Some(&scalar.text),
            Data::Null | Data::List(_) | Data::Map(_) => None,
        }
    }

    /// Items of a list; none of anything else.
    pub(super) fn items(&self) -> &[Value] {
        match &self.data {
            Data::List(items) => items,
            Data::Null | Data::Scalar(_) | Data::Map(_) => &[],
        }
    }

    /// Items of a list, or the value itself where it is a scalar.
    pub(super) fn items_or_self(&self) -> &[Value] {
        match &self.data {
            Data::List(items) => items,
            Data::Scalar(_) => std::slice::from_ref(self),
            Data::Null | Data::Map(_) => &[],
        }
    }

    /// Members of a map; none of anything else.
    pub(super) fn members(&self) -> &[Member] {
        match &self.data {
            Data::Map(members) => members,
            Data::Null | Data::Scalar(_) | Data::List(_) => &[],
        }
    }

    /// The member of this key that is there.
    pub(super) fn member(&self, key: &str) -> Option<&Member> {
        self.members().iter().find(|member| &*member.key.text == key && !member.value.is_reset())
    }

    /// The value of this key, if the value is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.member(key).map(|member| &member.value)
    }

    /// The value of this key, unless it is nothing.
    pub(super) fn given(&self, key: &str) -> Option<&Value> {
        self.get(key).filter(|value| !value.is_null())
    }

    /// Takes the member of this key out.
    pub(super) fn take(&mut self, key: &str) -> Option<Member> {
        let Data::Map(members) = &mut self.data else { return None };
        let at = members.iter().position(|member| &*member.key.text == key)?;
        Some(members.remove(at))
    }

    /// How many values it holds, itself included.
    pub(super) fn count(&self) -> usize {
        let within: usize = match &self.data {
            Data::Null | Data::Scalar(_) => 0,
            Data::List(items) => items.iter().map(Value::count).sum(),
            Data::Map(members) => members.iter().map(|member| member.value.count()).sum(),
        };
        within + 1
    }

    /// How a message calls it.
    pub(super) fn noun(&self) -> &'static str {
        match &self.data {
            Data::Null => "nothing",
            Data::Scalar(scalar) => match scalar.class {
                Class::Text => "text",
                Class::Truth => "`true` or `false`",
                Class::Whole | Class::Fraction => "a number",
                Class::Date => "a date",
            },
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }
}
