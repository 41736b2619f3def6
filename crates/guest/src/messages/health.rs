//! How a task's health is asked for, and what is told of it.

use serde::{Deserialize, Deserializer, Serialize};

/// Most characters of what a failed check said: enough for the last lines of a tool, as Docker has it.
pub const OUTPUT_CHARS_MAX: usize = 4096;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// `GET` of this path answers with 200 to 399.
    Http {
        /// Port of the task.
        port: u16,
        /// Path with its query.
        path: String,
    },
    /// The port takes a connection.
    Tcp {
        /// Port of the task.
        port: u16,
    },
    /// The program ends with code 0.
    Command(Vec<String>),
    /// The same, read by the image's `/bin/sh -c`.
    Shell(String),
}

/// A check, repeated while the task runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked.
    pub probe: Probe,
    /// Between the end of one check and the next, milliseconds.
    pub every_ms: u64,
    /// After which an unanswered check has failed, milliseconds.
    pub timeout_ms: u64,
    /// Failures in a row that make the task unhealthy.
    pub retries: u32,
    /// After its start, the time in which failures do not count, milliseconds.
    pub start_ms: u64,
    /// Between checks in that time, milliseconds.
    pub start_every_ms: u64,
}

/// What is known of a task's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// No check has succeeded yet.
    Starting,
    /// The last check succeeded, or too few have failed since.
    Healthy,
    /// Too many have failed in a row.
    Unhealthy,
}

/// What a guest tells of its task's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What is known.
    pub state: HealthState,
    /// What the last failed check said, if one failed since the last success.
    #[serde(deserialize_with = "one_line")]
    pub output: Option<String>,
}

/// One line of bounded length, without control characters: a terminal would obey them.
#[must_use]
pub fn clean(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let shown = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    words.join(" ").chars().take(OUTPUT_CHARS_MAX).map(shown).collect()
}

fn one_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(|text| clean(&text)))
}

#[cfg(test)]
mod tests {
    use super::{HealthState, OUTPUT_CHARS_MAX, Report};
    use crate::messages::from_json;

    #[test]
    fn what_a_check_said_is_one_bounded_line() {
        let output = Some(format!("curl:\n  (7)\t\u{1b}[2Jrefused {}", "x".repeat(9000)));
        let json = serde_json::to_vec(&Report { state: HealthState::Unhealthy, output }).unwrap();
        let report: Report = from_json(&json).unwrap();
        let output = report.output.unwrap();
        assert!(output.starts_with("curl: (7) \u{fffd}[2Jrefused xxx"), "{output}");
        assert_eq!(output.chars().count(), OUTPUT_CHARS_MAX);
    }
}
