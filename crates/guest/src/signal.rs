//! Signals by name and number, as image configurations, job files and people write them.
//!
//! Owns the names. Must not send a signal: that is the program's business.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A signal of Linux, by its number on the architectures that lith runs on (x86-64 and AArch64 agree).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(pub i32);

/// Highest number of a signal on Linux.
const NUMBER_MAX: i32 = 64;

/// First real-time signal as the C library counts, which keeps 32 and 33 for itself.
const REALTIME_FIRST: i32 = 34;

const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

impl Signal {
    /// SIGHUP: a terminal is gone.
    pub const HUP: Signal = Signal(1);
    /// SIGKILL: ends a process, and cannot be caught.
    pub const KILL: Signal = Signal(9);
    /// SIGTERM: the usual request to stop.
    pub const TERM: Signal = Signal(15);

    /// Reads `SIGTERM`, `term`, `15`, `SIGRTMIN+3` or `RTMAX-1`.
    ///
    /// # Errors
    /// [`UnknownSignal`] for any other text.
    pub fn parse(text: &str) -> Result<Signal, UnknownSignal> {
        let unknown = || UnknownSignal { text: text.to_owned() };
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, number)) => *number,
            None => match name {
                "IOT" => 6,
                "CLD" => 17,
                "POLL" => 29,
                _ => parse_realtime(name).or_else(|| upper.parse().ok()).ok_or_else(unknown)?,
            },
        };
        Signal(number).checked().ok_or_else(unknown)
    }

    /// The signal, if its number is one that Linux has. What came over the wire needs this.
    pub fn checked(self) -> Option<Signal> {
        (1..=NUMBER_MAX).contains(&self.0).then_some(self)
    }
}

fn parse_realtime(name: &str) -> Option<i32> {
    let (first, offset) = if let Some(rest) = name.strip_prefix("RTMIN") {
        (REALTIME_FIRST, rest)
    } else {
        (NUMBER_MAX, name.strip_prefix("RTMAX")?)
    };
    let offset: i32 = if offset.is_empty() { 0 } else { offset.parse().ok()? };
    first.checked_add(offset).filter(|number| (REALTIME_FIRST..=NUMBER_MAX).contains(number))
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(formatter, "SIG{name}"),
            None => write!(formatter, "signal {}", self.0),
        }
    }
}

/// A text that names no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no signal is called {text:?}")]
pub struct UnknownSignal {
    /// What was given.
    pub text: String,
}

impl UnknownSignal {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some("write a name such as SIGTERM, or a number from 1 to 64".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::Signal;

    #[test]
    fn names_and_numbers() {
        let check = |text: &str, expect: Option<i32>| {
            assert_eq!(Signal::parse(text).ok().map(|signal| signal.0), expect, "{text:?}");
        };
        check("SIGTERM", Some(15));
        check("quit", Some(3));
        check("sigwinch", Some(28));
        check(" 9 ", Some(9));
        check("SIGRTMIN+3", Some(37));
        check("RTMAX-1", Some(63));
        check("RTMIN-1", None);
        check("RTMAX-9999999999", None);
        check("0", None);
        check("65", None);
        check("-15", None);
        check("", None);
        check("SIG", None);
        check("TERMINATE", None);
    }

    #[test]
    fn shown_by_name() {
        assert_eq!(Signal(15).to_string(), "SIGTERM");
        assert_eq!(Signal(40).to_string(), "signal 40");
    }
}
