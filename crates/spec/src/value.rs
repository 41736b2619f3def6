//! Values: what one scalar of the job file means.
//!
//! Owns the grammar of what only files write: sizes, durations, numbers, command lines. What requests write too is
//! core's grammar, and gets its code here. Must not know where the text stands, nor under which key.

use lith_core::value as shared;

use crate::diagnostic::Code;

pub(crate) mod duration;
pub(crate) mod number;
pub(crate) mod size;
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

    /// A refusal of the shared grammar.
    pub(crate) fn of(code: Code, refusal: shared::Refusal) -> Self {
        let shared::Refusal { message, hint } = refusal;
        Self { code, message, hint }
    }
}

/// A parser of the shared grammar whose refusals have this code.
pub(crate) fn coded<T>(
    code: Code,
    parse: impl Fn(&str) -> Result<T, shared::Refusal>,
) -> impl Fn(&str) -> Result<T, Refusal> {
    move |text| parse(text).map_err(|refusal| Refusal::of(code, refusal))
}

/// A signal; a slip of the finger is recognised.
pub(crate) fn signal(text: &str) -> Result<String, Refusal> {
    let refusal = match coded(Code::BadSignal, shared::signal::parse)(text) {
        Ok(signal) => return Ok(signal),
        Err(refusal) => refusal,
    };
    let capitals = text.to_ascii_uppercase();
    let name = capitals.strip_prefix("SIG").unwrap_or(&capitals);
    let is_close =
        |known: &&&str| name.len() <= known.len() + 1 && strsim::damerau_levenshtein(name, known) == 1;
    Err(match shared::signal::NAMES.iter().find(is_close) {
        Some(known) => refusal.hint(format!("did you mean `SIG{known}`?")),
        None => refusal,
    })
}
