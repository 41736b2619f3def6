//! Decimal numbers.
//!
//! Arithmetic on integers alone: a `float` would read `0.1` as something else.

/// Most digits on either side of the point: more than any quantity here needs, and far from overflowing.
const DIGITS_MAX: usize = 18;

/// A decimal number, not negative: `digits` / 10^`places`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    digits: u128,
    places: u32,
}

impl Decimal {
    /// The number at the start of `text`, and what follows it.
    #[must_use]
    pub fn prefix(text: &str) -> Option<(Self, &str)> {
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
    #[must_use]
    pub fn scaled(self, scale: u64) -> Option<u64> {
        let product = self.digits.checked_mul(u128::from(scale))?;
        u64::try_from(product / 10u128.checked_pow(self.places)?).ok()
    }

    /// Whether nothing is cut off by `scaled`.
    #[must_use]
    pub fn is_whole_in(self, scale: u64) -> bool {
        let (product, divisor) =
            (self.digits.checked_mul(u128::from(scale)), 10u128.checked_pow(self.places));
        product.zip(divisor).is_some_and(|(product, divisor)| product % divisor == 0)
    }
}
