//! Durations within bounds.

use std::time::Duration;

use lith_core::value::{self as shared, quoted};

use super::{Refusal, coded};
use crate::diagnostic::Code;

pub(crate) use shared::duration::display;

/// One or more numbers, each with its unit; `0` needs none.
pub(crate) fn parse(text: &str) -> Result<Duration, Refusal> {
    coded(Code::BadDuration, shared::duration::parse)(text)
}

/// A duration, from none at all to `most`.
pub(crate) fn up_to(text: &str, most: Duration) -> Result<Duration, Refusal> {
    let duration = parse(text)?;
    if duration > most {
        let message = format!("{} is longer than {}", quoted(text), display(most));
        return Err(Refusal::new(Code::OutOfRange, message));
    }
    Ok(duration)
}

/// A duration that something is repeated after, or waited for: longer than nothing.
pub(crate) fn some_up_to(text: &str, most: Duration) -> Result<Duration, Refusal> {
    let duration = up_to(text, most)?;
    if duration.is_zero() {
        let message = format!("{} is no time at all", quoted(text));
        return Err(Refusal::new(Code::OutOfRange, message).hint("write a longer one, such as `10s`"));
    }
    Ok(duration)
}
