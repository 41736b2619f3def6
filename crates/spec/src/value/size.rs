//! Sizes within bounds.

use lith_core::job::Bytes;
use lith_core::value::{self as shared, quoted};

use super::{Refusal, coded};
use crate::diagnostic::Code;

/// A size; a fraction of a byte is cut off.
pub(crate) fn parse(text: &str) -> Result<Bytes, Refusal> {
    coded(Code::BadSize, shared::size::parse)(text)
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
