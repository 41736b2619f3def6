//! Durations, moments and ages as people write and read them. Pure: now is an argument.

use std::time::Duration;

use jiff::civil;
use jiff::tz::TimeZone;

/// Longest duration that a command takes: a year, so that arithmetic on it cannot overflow.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

const UNITS_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];

/// A moment to look back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// So long before now.
    Ago(Duration),
    /// Milliseconds since the Unix epoch.
    At(u64),
}

impl Since {
    /// The moment in milliseconds since the Unix epoch.
    pub(crate) fn to_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::Ago(duration) => now_ms.saturating_sub(millis(duration)),
            Self::At(moment_ms) => moment_ms,
        }
    }
}

/// `90s`, `10m`, `1h30m`, `2d`, `250ms`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a time such as 30s, 10m, 1h30m or 2d");
    let mut total_ms: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let length = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(length);
        let (_, unit_ms) = UNITS_MS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        let number: u64 = number.parse().map_err(|_| bad())?;
        let part_ms = number.checked_mul(*unit_ms).ok_or_else(bad)?;
        total_ms = total_ms.checked_add(part_ms).ok_or_else(bad)?;
        rest = tail;
    }
    let duration = Duration::from_millis(total_ms);
    if text.is_empty() || duration > DURATION_MAX {
        return Err(if text.is_empty() { bad() } else { format!("`{text}` is longer than a year") });
    }
    Ok(duration)
}

/// A time ago, or a moment: RFC 3339, or a date with or without a time of day in the local time zone.
pub(crate) fn parse_since(text: &str) -> Result<Since, String> {
    let bad =
        || format!("`{text}` is neither a time ago such as 10m nor a moment such as 2026-01-31T12:00:00Z");
    if let Ok(duration) = parse_duration(text) {
        return Ok(Since::Ago(duration));
    }
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let local = text.parse::<civil::DateTime>().ok()?;
        Some(local.to_zoned(TimeZone::system()).ok()?.timestamp())
    });
    let moment = moment.ok_or_else(bad)?;
    u64::try_from(moment.as_millisecond()).map(Since::At).map_err(|_| bad())
}

/// How long ago, in one unit: `5m ago`.
pub(crate) fn ago(now_ms: u64, then_ms: u64) -> String {
    format!("{} ago", short(Duration::from_millis(now_ms.saturating_sub(then_ms))))
}

/// A duration in its largest unit: `5m`.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Milliseconds since the Unix epoch, now.
pub(crate) fn now_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, seconds: f64| {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        };
        check("30s", 30.0);
        check("10m", 600.0);
        check("1h30m", 5400.0);
        check("2d", 172_800.0);
        check("250ms", 0.25);
        for bad in ["", "10", "m", "10x", "-5m", "1.5h", "99999999999999999999s", "400d", "10 m"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(parse_since("10m"), Ok(Since::Ago(Duration::from_secs(600))));
        assert_eq!(parse_since("1970-01-01T00:00:01Z"), Ok(Since::At(1000)));
        assert_eq!(parse_since("1970-01-01T01:00:01.5+01:00"), Ok(Since::At(1500)));
        assert!(matches!(parse_since("2026-01-31"), Ok(Since::At(_))));
        assert!(matches!(parse_since("2026-01-31T12:00"), Ok(Since::At(_))));
        for bad in ["yesterday", "1900-01-01T00:00:00Z", "2026-13-01", ""] {
            assert!(parse_since(bad).is_err(), "{bad}");
        }
        assert_eq!(Since::Ago(Duration::from_secs(1)).to_ms(5000), 4000);
        assert_eq!(Since::Ago(Duration::from_secs(9)).to_ms(5000), 0);
    }

    #[test]
    fn ages() {
        let check = |seconds: u64, text: &str| assert_eq!(ago(seconds * 1000, 0), text);
        check(0, "0s ago");
        check(119, "119s ago");
        check(300, "5m ago");
        check(7199, "119m ago");
        check(7200, "2h ago");
        check(3 * 86_400, "3d ago");
        assert_eq!(ago(0, 5000), "0s ago", "a clock that is behind is not an error");
    }
}
