//! Values: what one scalar of the job file means.
//!
//! Owns the grammar of what only files write: numbers within bounds, command lines. What is written elsewhere too is core's
//! grammar, and gets its code here. Must not know where the text stands, nor under which key.

use lith_core::value::{self as shared, quoted};

use crate::diagnostic::Code;

pub(crate) mod duration;
pub(crate) mod number;
pub(crate) mod probe;
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

/// A switch.
pub(crate) fn switch(text: &str) -> Result<bool, Refusal> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => {
            let refusal =
                Refusal::new(Code::BadWord, format!("{} is neither `true` nor `false`", quoted(text)));
            Err(match text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "1" | "y" | "true" => refusal.hint("write `true`"),
                "no" | "off" | "0" | "n" | "false" => refusal.hint("write `false`"),
                _ => refusal,
            })
        }
    }
}

/// One of a few words.
pub(crate) fn word<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, Refusal> {
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*meaning);
    }
    let known: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    let refusal = Refusal::new(Code::BadWord, format!("{} is none of {}", quoted(text), known.join(", ")));
    let folded = text.to_ascii_lowercase().replace('_', "-");
    let names = words.iter().map(|(word, _)| *word);
    Err(match crate::keys::nearest(&folded, names) {
        Some(word) => refusal.hint(format!("did you mean `{word}`?")),
        None => refusal,
    })
}

/// A text that a program is handed as a C string.
pub(crate) fn text(text: &str) -> Result<String, Refusal> {
    if text.contains('\0') {
        let message = format!("{} holds a NUL character, which no process can be given", quoted(text));
        return Err(Refusal::new(Code::BadText, message));
    }
    Ok(text.to_owned())
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
