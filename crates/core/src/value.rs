//! Values as people write them, in job files and in requests alike: ports, mounts, rights, images, users and so on.
//!
//! Owns their grammar, as pure functions from text, so that what a file may say and what a request may say cannot differ.
//! Must not know where a text stands, nor under which key.

pub mod access;
pub mod bandwidth;
pub mod decimal;
pub mod duration;
pub mod env;
pub mod image;
pub mod mount;
pub mod path;
pub mod port;
pub mod process;
pub mod restart;
pub mod signal;
pub mod size;
pub mod user;

/// Longest piece of a text repeated in a message, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// Why a text is not the value it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal without a hint.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same refusal with what to write instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A text as it is repeated in a message: on one line, in backquotes, cut where it is long.
#[must_use]
pub fn quoted(text: &str) -> String {
    if text.is_empty() {
        return String::from("`\"\"`");
    }
    let mut shown = String::from("`");
    for (index, character) in text.chars().enumerate() {
        if index == QUOTED_CHARS_MAX {
            shown.push('…');
            break;
        }
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            // What is invisible, or changes the direction of writing, would make the message lie.
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown.push('`');
    shown
}
