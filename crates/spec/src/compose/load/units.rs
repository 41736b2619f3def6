//! Quantities as Compose writes them: durations, sizes, processors, counts, switches, permissions.
//!
//! Owns their grammar where it differs from the job file's. Must not know under which key one stands.

use std::time::Duration;

use lith_core::job::{Bytes, CpuMillis};
use lith_core::value::quoted;

use super::tree::Class;
use crate::diagnostic::Code;
use crate::value::{Refusal, size};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Units of time with their length in nanoseconds; longer words first where one starts another.
const UNITS: [(&str, u64); 10] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("h", 3600 * NANOS_PER_SECOND),
    ("d", 24 * 3600 * NANOS_PER_SECOND),
    ("w", 7 * 24 * 3600 * NANOS_PER_SECOND),
];

/// Most digits on either side of the point of a number.
const DIGITS_MAX: usize = 18;

/// One or more numbers, each with its unit: `1m30s`, `1.5h`, `2d`.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    let refusal = || Refusal::new(Code::BadDuration, format!("{} is not a duration", quoted(text)));
    let example = "write numbers with units, such as `10s`, `1m30s` or `500ms`";
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.starts_with('-') {
        return Err(refusal().hint("a time to wait cannot be less than nothing"));
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut nanos: u64 = 0;
    while !rest.is_empty() || nanos == 0 {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let unit = UNITS.iter().find(|(unit, _)| {
            after.strip_prefix(unit).is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
        });
        let Some((unit, scale)) = unit else {
            let is_bare = after.is_empty() && number == text && !number.is_empty();
            let hint =
                if is_bare { format!("give the unit: did you mean `{text}s`?") } else { example.to_owned() };
            return Err(refusal().hint(hint));
        };
        let part = scaled(number, *scale).ok_or_else(|| refusal().hint(example))?;
        nanos = nanos.checked_add(part).ok_or_else(|| refusal().hint(example))?;
        rest = &after[unit.len()..];
        if rest.is_empty() {
            break;
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// A decimal number times a scale; what is smaller than one is cut off.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number =
        |digits: &str| digits.len() <= DIGITS_MAX && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let digits: u128 = format!("{whole}{part}").parse().ok()?;
    let divisor = 10u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    u64::try_from(digits.checked_mul(u128::from(scale))? / divisor).ok()
}

/// A size; `None` for one that means no limit: `0`, and what is less.
pub(super) fn limit(text: &str) -> Result<Option<Bytes>, Refusal> {
    if text
        .strip_prefix('-')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Ok(None);
    }
    size::parse(text).map(|size| (size.0 > 0).then_some(size))
}

/// Processors; `None` for `0`, which means no limit. Thousandths are rounded up: less than one would be nothing.
pub(super) fn cpus(text: &str) -> Result<Option<CpuMillis>, Refusal> {
    let refusal = || {
        Refusal::new(Code::BadNumber, format!("{} is not a number of processors", quoted(text)))
            .hint("write a number such as `2` or `0.5`")
    };
    let exact = scaled(text, 1_000_000_000).ok_or_else(refusal)?;
    let millis = u32::try_from(exact.div_ceil(1_000_000)).map_err(|_| refusal())?;
    Ok((millis > 0).then_some(CpuMillis(millis)))
}

/// A whole number that is not negative.
pub(super) fn count(text: &str) -> Result<u32, Refusal> {
    let refusal = || Refusal::new(Code::BadNumber, format!("{} is not a whole number", quoted(text)));
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refusal().hint("write a number such as `3`"));
    }
    digits.parse().map_err(|_| Refusal::new(Code::OutOfRange, format!("{} is too large", quoted(text))))
}

/// A number of a limit of a process: `-1` is none.
pub(super) fn ulimit(text: &str) -> Result<i64, Refusal> {
    text.parse().map_err(|_| {
        Refusal::new(Code::BadNumber, format!("{} is not a whole number", quoted(text)))
            .hint("write a number such as `65536`, or `-1` for no limit")
    })
}

/// `true`, `false`, and the words that YAML once had for them.
pub(super) fn switch(text: &str) -> Result<bool, Refusal> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "y" | "yes" | "on" => Ok(true),
        "false" | "n" | "no" | "off" => Ok(false),
        _ => Err(Refusal::new(Code::WrongType, format!("{} is neither `true` nor `false`", quoted(text)))
            .hint("write `true` or `false`")),
    }
}

/// Permissions: a number is itself, which YAML reads as octal after a leading `0`; text is octal.
pub(super) fn mode(text: &str, class: Class) -> Result<u32, Refusal> {
    let base = if class == Class::Text { 8 } else { 10 };
    u32::from_str_radix(text, base).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| {
        Refusal::new(Code::BadNumber, format!("{} are not permissions", quoted(text)))
            .hint("write them in octal with a leading zero, such as `0440`")
    })
}
