//! Reading typed values out of the tree.
//!
//! Owns the step from a value to a type, with the refusal at its place. A value of the wrong shape is passed over: that was
//! reported when the shape was checked.

use std::time::Duration;

use lith_core::job::{Bytes, CpuMillis};

use super::loader::Loader;
use super::tree::{Data, Value};
use super::units;
use super::variables::Scope;
use crate::compose::project::At;
use crate::document::Span;
use crate::value::Refusal;

/// What reading goes by.
pub(super) struct Reader<'r, 'a> {
    pub(super) loader: &'r mut Loader<'a>,
    /// Variables of the project.
    pub(super) scope: &'r Scope,
}

impl Reader<'_, '_> {
    /// Reports a refusal.
    pub(super) fn refuse(&mut self, refusal: Refusal, span: Span) {
        self.loader.reporter.error(refusal.code, span, refusal.message, refusal.hint);
    }

    /// What a parser makes of a scalar, and where it stands.
    pub(super) fn parsed<T>(
        &mut self,
        value: Option<&Value>,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<At<T>> {
        let value = value?;
        match parse(value.text()?) {
            Ok(parsed) => Some(At::new(parsed, value.span)),
            Err(refusal) => {
                self.refuse(refusal, value.span);
                None
            }
        }
    }

    pub(super) fn count(&mut self, value: Option<&Value>) -> Option<At<u32>> {
        self.parsed(value, units::count)
    }

    pub(super) fn switch(&mut self, value: Option<&Value>) -> Option<At<bool>> {
        self.parsed(value, units::switch)
    }

    pub(super) fn duration(&mut self, value: Option<&Value>) -> Option<At<Duration>> {
        self.parsed(value, units::duration)
    }

    pub(super) fn limit(&mut self, value: Option<&Value>) -> Option<At<Bytes>> {
        let At { value, span } = self.parsed(value, units::limit)?;
        value.map(|size| At::new(size, span))
    }

    pub(super) fn cpus(&mut self, value: Option<&Value>) -> Option<At<CpuMillis>> {
        let At { value, span } = self.parsed(value, units::cpus)?;
        value.map(|cpus| At::new(cpus, span))
    }
}

/// The text of a scalar, unless it is empty, which says as much as none.
pub(super) fn text(value: Option<&Value>) -> Option<At<String>> {
    let value = value?;
    let text = value.text().filter(|text| !text.is_empty())?;
    Some(At::new(text.to_owned(), value.span))
}

/// The texts of a list, or of a single value.
pub(super) fn texts(value: Option<&Value>) -> Vec<At<String>> {
    let Some(value) = value else { return Vec::new() };
    let items = value.items_or_self().iter();
    items.filter_map(|item| Some(At::new(item.text()?.to_owned(), item.span))).collect()
}

/// The key and value of each member, whether the value is a mapping or a list of `NAME=value`.
pub(super) fn pairs(value: &Value) -> Vec<(String, Span, Option<At<String>>)> {
    let of = |key: &str, key_span: Span, value: &Value| {
        let value = value.text().map(|text| At::new(text.to_owned(), value.span));
        (key.to_owned(), key_span, value)
    };
    match &value.data {
        Data::Map(members) => {
            members.iter().map(|member| of(&member.key.text, member.key.span, &member.value)).collect()
        }
        Data::List(items) => {
            let members = items.iter().filter(|item| item.text().is_some()).map(super::merge::pair);
            members.map(|member| of(&member.key.text, member.key.span, &member.value)).collect()
        }
        Data::Null | Data::Scalar(_) => Vec::new(),
    }
}
