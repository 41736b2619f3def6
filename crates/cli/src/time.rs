//! Durations, moments and ages as people write and read them. Pure: now is an argument.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

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

/// A moment in the past as a person names it, before it is known what time it is, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// So long before now.
    Ago(Duration),
    /// A moment, wherever one is.
    At(Timestamp),
    /// A day and a time of it, here.
    Local(civil::DateTime),
    /// The last time that clocks here showed this.
    Clock(civil::Time),
}

impl When {
    /// The moment in milliseconds since the Unix epoch. Of a time that came twice when clocks were set back it is the
    /// first one.
    pub(crate) fn to_ms(self, now_ms: u64, zone: &TimeZone) -> Result<u64, String> {
        let here = |local: civil::DateTime| -> Result<Timestamp, String> {
            local.to_zoned(zone.clone()).map(|zoned| zoned.timestamp()).map_err(|error| error.to_string())
        };
        let now = i64::try_from(now_ms).ok().and_then(|now_ms| Timestamp::from_millisecond(now_ms).ok());
        let now = now.ok_or("the clock of this machine is far off")?;
        let moment = match self {
            Self::Ago(duration) => return Ok(now_ms.saturating_sub(millis(duration))),
            Self::At(moment) => moment,
            Self::Local(local) => here(local)?,
            Self::Clock(clock) => {
                let today = now.to_zoned(zone.clone()).date();
                let moment = here(today.to_datetime(clock))?;
                if moment <= now {
                    moment
                } else {
                    let yesterday = today.yesterday().map_err(|error| error.to_string())?;
                    here(yesterday.to_datetime(clock))?
                }
            }
        };
        if moment > now {
            return Err(format!("{} has not come yet", local_text(moment, zone)));
        }
        u64::try_from(moment.as_millisecond()).map_err(|_| "there was no lith before 1970".to_owned())
    }
}

/// A time of day, a day with or without one, both as clocks show them here, RFC 3339, or a time ago, also with the word.
pub(crate) fn parse_when(text: &str) -> Result<When, String> {
    let bad = || format!("`{text}` is no time such as 03:00, 2026-01-31T12:00, 2026-01-31T12:00:00Z or 10m");
    if let Ok(duration) = parse_duration(text.strip_suffix(" ago").unwrap_or(text)) {
        return Ok(When::Ago(duration));
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(When::At(moment));
    }
    if text.starts_with(|first: char| first.is_ascii_digit()) && text.contains(':') && text.len() <= 8 {
        let padded = if text.find(':') == Some(1) { format!("0{text}") } else { text.to_owned() };
        return padded.parse().map(When::Clock).map_err(|_| bad());
    }
    text.parse().map(When::Local).map_err(|_| bad())
}

/// A moment as clocks and calendars here show it: `2026-01-31 12:00:00`.
pub(crate) fn local(time_ms: u64, zone: &TimeZone) -> String {
    let moment = i64::try_from(time_ms).ok().and_then(|time_ms| Timestamp::from_millisecond(time_ms).ok());
    moment.map_or_else(|| "-".to_owned(), |moment| local_text(moment, zone))
}

fn local_text(moment: Timestamp, zone: &TimeZone) -> String {
    moment.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
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
    format!("{} ago", age(now_ms, then_ms))
}

/// The time since then, in one unit: `5m`.
pub(crate) fn age(now_ms: u64, then_ms: u64) -> String {
    short(Duration::from_millis(now_ms.saturating_sub(then_ms)))
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
    fn moments_in_the_past() {
        // Saturday, 21 November 2026, 12:30 in Berlin, which is an hour ahead of UTC.
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now_ms = 1_795_260_600_000;
        let moment = |text: &str| parse_when(text).and_then(|when| when.to_ms(now_ms, &zone));
        let check = |text: &str, expect: &str| {
            assert_eq!(moment(text).map(|moment| local(moment, &zone)).as_deref(), Ok(expect), "{text}");
        };
        assert_eq!(local(now_ms, &zone), "2026-11-21 12:30:00");
        check("10m", "2026-11-21 12:20:00");
        check("2h ago", "2026-11-21 10:30:00");
        check("1h30m", "2026-11-21 11:00:00");
        check("03:00", "2026-11-21 03:00:00");
        check("3:00:00", "2026-11-21 03:00:00");
        check("12:30", "2026-11-21 12:30:00");
        check("12:31", "2026-11-20 12:31:00");
        check("23:59:30", "2026-11-20 23:59:30");
        check("2026-11-21T03:00", "2026-11-21 03:00:00");
        check("2026-11-21T03:00:07", "2026-11-21 03:00:07");
        check("2026-11-21 03:00", "2026-11-21 03:00:00");
        check("2026-11-20", "2026-11-20 00:00:00");
        check("2026-11-21T03:00:00Z", "2026-11-21 04:00:00");
        check("2026-11-21T03:00:00-05:00", "2026-11-21 09:00:00");
        // Clocks went from 3 to 2 in that night, and from 2 to 3 in this one.
        check("2026-10-25T02:30", "2026-10-25 02:30:00");
        assert_eq!(moment("2026-10-25T02:30"), Ok(1_792_888_200_000), "the first of the two");
        check("2026-03-29T02:30", "2026-03-29 03:30:00");
        for bad in
            ["", "noon", "25:00", "03:00pm", "2026-13-01", "ago", "2026-11-21T", "12", "-1h", "12:3:4:5"]
        {
            assert!(parse_when(bad).is_err(), "{bad}");
        }
        for early in ["2026-11-21T12:31", "2026-11-21T11:31:00Z", "2027-01-01"] {
            assert!(moment(early).unwrap_err().ends_with(" has not come yet"), "{early}");
        }
        assert!(moment("1960-01-01").is_err());
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
