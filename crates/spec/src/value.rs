//! Values: what one scalar of the job file means.
//!
//! Owns the grammar of sizes, durations, ports and the like, as pure functions from text. Must not know where the text
//! stands, nor under which key.

use crate::diagnostic::Code;

pub(crate) mod duration;
pub(crate) mod env;
pub(crate) mod image;
pub(crate) mod number;
pub(crate) mod path;
pub(crate) mod port;
pub(crate) mod restart;
pub(crate) mod signal;
pub(crate) mod size;
pub(crate) mod user;
pub(crate) mod words;

/// Why a text is not the value it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
