//! Why something could not be done, as a sentence for the person who wrote the job.
//!
//! Owns the wording. Must not decide what follows from a failure.

use std::fmt;
use std::io;

use lith_guest::messages::BootStep;

/// Code of a shell for a command that was found but cannot run.
pub(crate) const CODE_CANNOT_RUN: u8 = 126;
/// Code of a shell for a command that was not found.
pub(crate) const CODE_NOT_FOUND: u8 = 127;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub(crate) struct Failure {
    /// What was going on.
    pub(crate) step: BootStep,
    /// What a shell would give for it, for a command beside the main process.
    pub(crate) code: u8,
    sentence: String,
}

impl Failure {
    /// A failure that a sentence tells.
    pub(crate) fn new(step: BootStep, sentence: impl fmt::Display) -> Failure {
        Failure { step, code: CODE_CANNOT_RUN, sentence: sentence.to_string() }
    }

    /// The same, with another code.
    pub(crate) fn with_code(self, code: u8) -> Failure {
        Failure { code, ..self }
    }

    /// What happened, causes included: it ends up in one message.
    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }
}

/// Says what was being done when an operation failed.
pub(crate) trait During<T> {
    /// Turns the error into "cannot {doing}: {reason}".
    fn during(self, step: BootStep, doing: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, step: BootStep, doing: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(step, format!("cannot {doing}: {}", reason(&error.into()))))
    }
}

/// An error of the system without the number that the standard library adds.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}
