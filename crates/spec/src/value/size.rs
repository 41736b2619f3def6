//! Sizes: `64M`, `1.5G`, `512MiB`, `1gb`, bytes.
//!
//! Every unit is a power of 1024, also `MB`, as `docker run --memory` reads them.

use lith_core::job::Bytes;
use lith_core::value::quoted;

use super::Refusal;
use super::number::Decimal;
use crate::diagnostic::Code;

const UNITS: [(&str, u64); 15] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1 << 30),
    ("gib", 1 << 30),
    ("t", 1 << 40),
    ("tb", 1 << 40),
    ("tib", 1 << 40),
    ("bytes", 1),
];

/// A size; a fraction of a byte is cut off.
pub(crate) fn parse(text: &str) -> Result<Bytes, Refusal> {
    let refusal = || {
        Refusal::new(Code::BadSize, format!("{} is not a size", quoted(text)))
            .hint("write a number and a unit, such as `64M`, `1.5G` or `512MiB`")
    };
    let (number, rest) = Decimal::prefix(text).ok_or_else(refusal)?;
    let unit = rest.trim_start().to_ascii_lowercase();
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refusal)?;
    number.scaled(*scale).map(Bytes).ok_or_else(refusal)
}

/// A size within bounds; `what` names in a message what has this size.
pub(crate) fn within(what: &str, text: &str, least: Bytes, most: Bytes) -> Result<Bytes, Refusal> {
    let size = parse(text)?;
    if (least..=most).contains(&size) {
        return Ok(size);
    }
    let message = format!("{} of {what} is not between {least} and {most}", quoted(text));
    let refusal = Refusal::new(Code::OutOfRange, message);
    let has_no_unit = text.bytes().all(|byte| byte.is_ascii_digit());
    let in_megabytes = Bytes(size.0.saturating_mul(1 << 20));
    if has_no_unit && size < least && (least..=most).contains(&in_megabytes) {
        return Err(refusal.hint(format!("a number alone counts bytes; did you mean `{text}M`?")));
    }
    Err(refusal)
}
