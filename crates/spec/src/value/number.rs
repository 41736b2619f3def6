//! Counts and fractions.
//!
//! Decimal arithmetic on integers alone: a `float` would read `0.1` as something else.

use lith_core::job::{CPUS_MAX, CPUS_MIN, CpuMillis};
use lith_core::value::quoted;

use super::Refusal;
use crate::diagnostic::Code;

/// Most digits on either side of the point: more than any quantity here needs, and far from overflowing.
const DIGITS_MAX: usize = 18;

/// A decimal number, not negative: `digits` / 10^`places`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    digits: u128,
    places: u32,
}

impl Decimal {
    /// The number at the start of `text`, and what follows it.
    pub(super) fn prefix(text: &str) -> Option<(Self, &str)> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, rest) = text.split_at(end);
        let (whole, part) = match number.split_once('.') {
            Some((whole, part)) if !part.is_empty() => (whole, part),
            Some(_) => return None,
            None => (number, ""),
        };
        let sizes_fit = !whole.is_empty() && whole.len() <= DIGITS_MAX && part.len() <= DIGITS_MAX;
        if !sizes_fit || part.contains('.') {
            return None;
        }
        let digits = format!("{whole}{part}").parse().ok()?;
        let places = u32::try_from(part.len()).ok()?;
        Some((Self { digits, places }, rest))
    }

    /// The number in units of which `scale` make one; what is smaller than a unit is cut off. `None` above `u64`.
    pub(super) fn scaled(self, scale: u64) -> Option<u64> {
        let product = self.digits.checked_mul(u128::from(scale))?;
        u64::try_from(product / 10u128.checked_pow(self.places)?).ok()
    }

    /// Whether nothing is cut off by `scaled`.
    pub(super) fn is_whole_in(self, scale: u64) -> bool {
        let (product, divisor) =
            (self.digits.checked_mul(u128::from(scale)), 10u128.checked_pow(self.places));
        product.zip(divisor).is_some_and(|(product, divisor)| product % divisor == 0)
    }
}

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
