//! Bandwidths: `50M`, `1.5G`, `512k`, `50Mbit`, `50Mbps`, bits per second.
//!
//! Units are powers of 1000, as line speeds are sold; sizes have powers of 1024.

use super::decimal::Decimal;
use super::{Refusal, quoted};
use crate::job::access::{BANDWIDTH_MAX, BANDWIDTH_MIN, Bandwidth};

const UNITS: [(&str, u64); 4] = [("", 1), ("k", 1_000), ("m", 1_000_000), ("g", 1_000_000_000)];

/// What may follow the unit.
const ENDS: [&str; 5] = ["", "bit", "bit/s", "bits", "bps"];

/// A bandwidth within its bounds; a fraction of a bit is cut off.
///
/// # Errors
/// It is none, or is out of bounds.
pub fn parse(text: &str) -> Result<Bandwidth, Refusal> {
    let refusal = || Refusal::new(format!("{} is not a bandwidth", quoted(text)));
    let example = "write bits per second with a unit, such as `50M`, `1.5G` or `512k`";
    let (number, rest) = Decimal::prefix(text).ok_or_else(|| refusal().hint(example))?;
    let rest = rest.trim_start();
    if let Some(hint) = counts_bytes(rest) {
        return Err(refusal().hint(hint));
    }
    let unit = rest.to_ascii_lowercase();
    let scale = scale(&unit).ok_or_else(|| refusal().hint(example))?;
    let bandwidth = number.scaled(scale).map(Bandwidth).ok_or_else(|| refusal().hint(example))?;
    if (BANDWIDTH_MIN..=BANDWIDTH_MAX).contains(&bandwidth) {
        return Ok(bandwidth);
    }
    let message = format!("{} is not between {BANDWIDTH_MIN} and {BANDWIDTH_MAX}", quoted(text));
    let in_megabits = Bandwidth(bandwidth.0.saturating_mul(1_000_000));
    let is_number = scale == 1 && (BANDWIDTH_MIN..=BANDWIDTH_MAX).contains(&in_megabits);
    let refusal = Refusal::new(message);
    Err(if is_number {
        refusal.hint(format!("a number alone counts bits per second; did you mean `{in_megabits}`?"))
    } else {
        refusal
    })
}

fn scale(unit: &str) -> Option<u64> {
    let of = |(name, scale): &(&str, u64)| {
        let end = unit.strip_prefix(name)?;
        ENDS.contains(&end).then_some(*scale)
    };
    UNITS.iter().rev().find_map(of)
}

/// What to say of a unit of bytes, which would be read for eight times less.
fn counts_bytes(unit: &str) -> Option<&'static str> {
    let is_bytes = ["B", "B/s", "Bps"].iter().any(|end| unit.ends_with(end));
    is_bytes.then_some("bandwidth counts bits, eight to the byte: `80M` is ten megabytes per second")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse(text).ok().map(|bandwidth| bandwidth.0), expected, "{text}");
        };
        check("50M", Some(50_000_000));
        check("50m", Some(50_000_000));
        check("50Mbit", Some(50_000_000));
        check("50 Mbit/s", Some(50_000_000));
        check("50Mbps", Some(50_000_000));
        check("1.5G", Some(1_500_000_000));
        check("512k", Some(512_000));
        check("512kbit", Some(512_000));
        check("64000", Some(64_000));
        check("100G", Some(100_000_000_000));
        for text in
            ["", "M", "fast", "50MB", "50MB/s", "50MiB", "50x", "1T", "-1M", "63k", "101G", "0", "bit"]
        {
            check(text, None);
        }
        for text in ["50M", "512k", "1500M", "64k", "100G", "64001"] {
            assert_eq!(parse(&parse(text).unwrap().to_string()), parse(text), "{text}");
        }
    }

    #[test]
    fn what_is_said_of_those_that_are_none() {
        let check = |text: &str, message: &str, hint: Option<&str>| {
            let refusal = parse(text).unwrap_err();
            assert_eq!((refusal.message.as_str(), refusal.hint.as_deref()), (message, hint));
        };
        let example = Some("write bits per second with a unit, such as `50M`, `1.5G` or `512k`");
        check("fast", "`fast` is not a bandwidth", example);
        let bytes = Some("bandwidth counts bits, eight to the byte: `80M` is ten megabytes per second");
        check("10MB/s", "`10MB/s` is not a bandwidth", bytes);
        let number = Some("a number alone counts bits per second; did you mean `50M`?");
        check("50", "`50` is not between 64k and 100G", number);
        check("1k", "`1k` is not between 64k and 100G", None);
    }
}
