//! Sizes as people read and write them. Pure.

const UNITS: [(&str, u64); 15] = [
    ("", 1),
    ("b", 1),
    ("bytes", 1),
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
];
/// Digits of a fraction that count; what comes after is below a byte of any unit.
const FRACTION_DIGITS_MAX: usize = 12;

/// A larger size, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    /// So many bytes in the end.
    To(u64),
    /// So many bytes more.
    By(u64),
}

impl Growth {
    /// The size in the end, of what has this size now.
    pub(crate) fn apply(self, bytes: u64) -> u64 {
        match self {
            Self::To(bytes) => bytes,
            Self::By(more) => bytes.saturating_add(more),
        }
    }
}

/// `20G`, or `+5G` for so much more.
pub(crate) fn parse_growth(text: &str) -> Result<Growth, String> {
    match text.strip_prefix('+') {
        Some(more) => parse_size(more).map(Growth::By),
        None => parse_size(text).map(Growth::To),
    }
}

/// A size as in a job file: `64M`, `1.5G`, `512MiB`; a fraction of a byte is cut off.
fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a size such as 64M, 1.5G or 512MiB");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_ascii_lowercase();
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() {
        return Err(bad());
    }
    let whole = whole.parse::<u64>().map_err(|_| bad())?.checked_mul(*scale).ok_or_else(bad)?;
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let digits = u32::try_from(fraction.len()).map_err(|_| bad())?;
    let parts: u128 = fraction.parse().map_err(|_| bad())?;
    let rest = parts * u128::from(*scale) / 10_u128.pow(digits);
    whole.checked_add(u64::try_from(rest).map_err(|_| bad())?).ok_or_else(bad)
}

/// A number of bytes with three digits and a unit of 1024: `45.2 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if tenths >= 1000 {
        return format!("{} {}", tenths / 10, UNITS[unit]);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_sizes() {
        let check = |text: &str, growth: Growth| assert_eq!(parse_growth(text), Ok(growth), "{text}");
        check("20G", Growth::To(20 << 30));
        check("1.5g", Growth::To(3 << 29));
        check("512 MiB", Growth::To(512 << 20));
        check("64mb", Growth::To(64 << 20));
        check("100", Growth::To(100));
        check("+5G", Growth::By(5 << 30));
        check("0.1K", Growth::To(102));
        for bad in
            ["", "G", "+", "-5G", "++5G", "1.G", ".5G", "1.2.3G", "5X", "99999999T", "18446744073709551616"]
        {
            assert!(parse_growth(bad).is_err(), "{bad}");
        }
        assert_eq!(Growth::By(5).apply(7), 12);
        assert_eq!(Growth::To(5).apply(7), 5);
    }

    #[test]
    fn sizes() {
        let check = |bytes: u64, text: &str| assert_eq!(size(bytes), text);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(45 << 20, "45.0 MiB");
        check(158 << 20, "158 MiB");
        check(3 << 29, "1.5 GiB");
        check(u64::MAX, "16383 PiB");
    }
}
