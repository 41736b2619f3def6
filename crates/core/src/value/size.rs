//! Sizes: `64M`, `1.5G`, `512MiB`, `1gb`, bytes.
//!
//! Every unit is a power of 1024, also `MB`, as `docker run --memory` reads them.

use super::decimal::Decimal;
use super::{Refusal, quoted};
use crate::job::Bytes;

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
///
/// # Errors
/// It is none.
pub fn parse(text: &str) -> Result<Bytes, Refusal> {
    let refusal = || {
        Refusal::new(format!("{} is not a size", quoted(text)))
            .hint("write a number and a unit, such as `64M`, `1.5G` or `512MiB`")
    };
    let (number, rest) = Decimal::prefix(text).ok_or_else(refusal)?;
    let unit = rest.trim_start().to_ascii_lowercase();
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(refusal)?;
    number.scaled(*scale).map(Bytes).ok_or_else(refusal)
}
