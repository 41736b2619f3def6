//! Counts and fractions.

use lith_core::job::{CPUS_MAX, CPUS_MIN, CpuMillis};
use lith_core::value::decimal::Decimal;
use lith_core::value::quoted;

use super::Refusal;
use crate::diagnostic::Code;

/// A whole number within bounds.
pub(crate) fn whole(text: &str, least: u32, most: u32) -> Result<u32, Refusal> {
    let refusal = || Refusal::new(Code::BadNumber, format!("{} is not a whole number", quoted(text)));
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refusal().hint(format!("write a number from {least} to {most}")));
    }
    match text.parse::<u32>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => {
            let message = format!("{} is not between {least} and {most}", quoted(text));
            Err(Refusal::new(Code::OutOfRange, message))
        }
    }
}

/// Processors: `2`, `0.5`.
pub(crate) fn cpus(text: &str) -> Result<CpuMillis, Refusal> {
    let refusal = || Refusal::new(Code::BadNumber, format!("{} is not a number of processors", quoted(text)));
    let example = "write a number such as `2` or `0.5`";
    let Some((number, rest)) = Decimal::prefix(text) else { return Err(refusal().hint(example)) };
    if rest == "m" && number.is_whole_in(1) {
        let millis = number.scaled(1).and_then(|millis| u32::try_from(millis).ok()).map(CpuMillis);
        let hint = millis.map_or_else(|| example.to_owned(), |millis| format!("write `{millis}`"));
        return Err(refusal().hint(hint));
    }
    if !rest.is_empty() {
        return Err(refusal().hint(example));
    }
    if !number.is_whole_in(1000) {
        let message = format!("{} has more than three digits after the point", quoted(text));
        return Err(Refusal::new(Code::BadNumber, message));
    }
    let millis = number.scaled(1000).and_then(|millis| u32::try_from(millis).ok()).map(CpuMillis);
    match millis.filter(|millis| (CPUS_MIN..=CPUS_MAX).contains(millis)) {
        Some(millis) => Ok(millis),
        None => {
            let message = format!("{} processors are not between {CPUS_MIN} and {CPUS_MAX}", quoted(text));
            Err(Refusal::new(Code::OutOfRange, message))
        }
    }
}
