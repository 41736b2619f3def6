//! Durations: `10s`, `1m30s`, `500ms`.

use std::time::Duration;

use super::decimal::Decimal;
use super::{Refusal, quoted};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Units with their length in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("h", 3600 * NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("s", NANOS_PER_SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// One or more numbers, each with its unit; `0` needs none.
///
/// # Errors
/// It is none.
pub fn parse(text: &str) -> Result<Duration, Refusal> {
    let refusal = || Refusal::new(format!("{} is not a duration", quoted(text)));
    let example = "write numbers with units, such as `10s`, `1m30s` or `500ms`";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanos: u64 = 0;
    loop {
        let (number, after) = Decimal::prefix(rest).ok_or_else(|| refusal().hint(example))?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, following) = after.split_at(end);
        if unit.is_empty() && rest == text && following.is_empty() {
            return Err(refusal().hint(format!("give the unit: did you mean `{text}s`?")));
        }
        let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let part = scale.and_then(|scale| number.scaled(scale));
        let sum = part.and_then(|part| nanos.checked_add(part));
        nanos = sum.ok_or_else(|| refusal().hint(example))?;
        rest = following;
        if rest.is_empty() {
            return Ok(Duration::from_nanos(nanos));
        }
    }
}

/// The duration in the form that `parse` reads.
#[must_use]
pub fn display(duration: Duration) -> String {
    let mut text = String::new();
    let mut nanos = duration.as_nanos();
    for (unit, scale) in UNITS {
        let scale = u128::from(scale);
        if nanos >= scale {
            text.push_str(&format!("{}{unit}", nanos / scale));
            nanos %= scale;
        }
    }
    if text.is_empty() { String::from("0s") } else { text }
}
