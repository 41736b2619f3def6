//! What a person gets when something fails: a code with a page, a sentence, and what to do next.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The kinds of failure. Each has a page `docs/errors/<code>.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Code {
    /// The job file or the request is not valid.
    #[serde(rename = "E0001")]
    Invalid,
    /// The thing named does not exist.
    #[serde(rename = "E0002")]
    NotFound,
    /// What is asked collides with what is there.
    #[serde(rename = "E0003")]
    Conflict,
    /// The image cannot be had or is not acceptable.
    #[serde(rename = "E0004")]
    Image,
    /// The task is not running, so it cannot be asked.
    #[serde(rename = "E0005")]
    NotRunning,
    /// The server cannot be reached.
    #[serde(rename = "E0006")]
    Unreachable,
    /// The machine lacks something that lith needs.
    #[serde(rename = "E0007")]
    Machine,
    /// The task did not get into the state that was waited for.
    #[serde(rename = "E0008")]
    NotReady,
    /// A fault of lith itself.
    #[serde(rename = "E0009")]
    Internal,
}

impl Code {
    /// Every code, for the test that each has a page.
    pub const ALL: [Self; 9] = [
        Self::Invalid,
        Self::NotFound,
        Self::Conflict,
        Self::Image,
        Self::NotRunning,
        Self::Unreachable,
        Self::Machine,
        Self::NotReady,
        Self::Internal,
    ];

    /// The code as printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "E0001",
            Self::NotFound => "E0002",
            Self::Conflict => "E0003",
            Self::Image => "E0004",
            Self::NotRunning => "E0005",
            Self::Unreachable => "E0006",
            Self::Machine => "E0007",
            Self::NotReady => "E0008",
            Self::Internal => "E0009",
        }
    }

    /// The HTTP status that carries it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::NotFound => 404,
            Self::Conflict | Self::NotRunning | Self::NotReady => 409,
            Self::Image => 422,
            Self::Unreachable | Self::Machine => 503,
            Self::Internal => 500,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The body of every failed request, and the last line of a failed stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Which kind.
    pub code: Code,
    /// What failed, on which object, why: one sentence.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Names the request in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, request: None }
    }

    /// The same failure with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_printed_as_sent() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
