//! Sizes as people read and write them. Pure.

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
    lith_spec::size(text).ok_or_else(|| format!("`{text}` is not a size such as 64M, 1.5G or 512MiB"))
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
