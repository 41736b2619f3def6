//! What surrounds a process: limits, kernel settings, time zone, groups, schedule, graphics processors.

use super::{Refusal, quoted};
use crate::job::process::{Gpu, Ulimit};

/// Names of limits (setrlimit(2)), without `RLIMIT_` and in lower case.
pub const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Longest name of a time zone or a kernel setting: far above any there is.
const NAME_BYTES_MAX: usize = 128;
/// Fields of a schedule with their least and greatest value, as in crontab(5); both 0 and 7 are Sunday.
const SCHEDULE_FIELDS: [(&str, u32, u32); 5] =
    [("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("day of the week", 0, 7)];

/// `65536`, `1024:65536` (soft, hard), `unlimited`.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn ulimit(text: &str) -> Result<Ulimit, Refusal> {
    let refusal = || {
        Refusal::new(format!("{} is not a limit", quoted(text)))
            .hint("write a number, `unlimited`, or both limits as SOFT:HARD such as `1024:65536`")
    };
    let limit = |part: &str| match part {
        "unlimited" | "-1" => Ok(None),
        _ if part.starts_with('+') => Err(refusal()),
        _ => part.parse().map(Some).map_err(|_| refusal()),
    };
    let (soft, hard) = text.split_once(':').unwrap_or((text, text));
    let ulimit = Ulimit { soft: limit(soft)?, hard: limit(hard)? };
    let is_above = match (ulimit.soft, ulimit.hard) {
        (Some(soft), Some(hard)) => soft > hard,
        (None, Some(_)) => true,
        (_, None) => false,
    };
    if is_above {
        return Err(Refusal::new(format!("{}: the soft limit is above the hard one", quoted(text))));
    }
    Ok(ulimit)
}

/// The name of a kernel setting: words joined by dots.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn sysctl(text: &str) -> Result<(), Refusal> {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    if text.len() <= NAME_BYTES_MAX && text.contains('.') && text.split('.').all(is_word) {
        return Ok(());
    }
    Err(Refusal::new(format!("{} is not a kernel setting", quoted(text)))
        .hint("write its name with dots, such as `net.core.somaxconn`"))
}

/// The name of a time zone; whether the image knows it is seen in the guest.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn timezone(text: &str) -> Result<String, Refusal> {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    if text.len() <= NAME_BYTES_MAX && text.split('/').all(is_part) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(format!("{} is not a time zone", quoted(text)))
        .hint("write a name such as `Europe/Berlin` or `UTC`"))
}

/// A group of the process, by name or number.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn group(text: &str) -> Result<String, Refusal> {
    if text.contains(':') {
        return Err(Refusal::new(format!("{} is not a group", quoted(text))).hint("write one name or number"));
    }
    super::user::parse(text).map_err(|_| {
        Refusal::new(format!("{} is not a group", quoted(text)))
            .hint("write a name or number, such as `video` or `44`")
    })
}

/// `all`, or a number from 1 to 16.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn gpu(text: &str) -> Result<Gpu, Refusal> {
    match (text, text.parse()) {
        ("all", _) => Ok(Gpu::All),
        (_, Ok(count @ 1..=16)) if !text.starts_with('+') => Ok(Gpu::Count(count)),
        _ => Err(Refusal::new(format!("{} is not a number of graphics processors", quoted(text)))
            .hint("write `all`, or a number from 1 to 16")),
    }
}

/// Five fields as in crontab(5): numbers, `*`, ranges, lists and steps.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn schedule(text: &str) -> Result<String, Refusal> {
    let refusal = |why: String| {
        Refusal::new(format!("{} is not a schedule: {why}", quoted(text))).hint(
            "write minute, hour, day, month and day of the week, such as `30 3 * * *` for each night at 3:30",
        )
    };
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    if fields.len() != SCHEDULE_FIELDS.len() {
        let noun = if fields.len() == 1 { "field" } else { "fields" };
        return Err(refusal(format!("it has {} {noun}, not {}", fields.len(), SCHEDULE_FIELDS.len())));
    }
    for (field, (name, least, most)) in fields.iter().zip(SCHEDULE_FIELDS) {
        if !field.split(',').all(|part| is_schedule_part(part, least, most)) {
            return Err(refusal(format!("{} is no {name}", quoted(field))));
        }
    }
    Ok(fields.join(" "))
}

fn is_schedule_part(part: &str, least: u32, most: u32) -> bool {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| is_number && (least..=most).contains(number))
    };
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let step_is_good =
        step.is_none_or(|step| step.parse::<u32>().is_ok_and(|step| (1..=most).contains(&step)));
    let range_is_good = range == "*"
        || match range.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
            None => number(range).is_some() && step.is_none(),
        };
    step_is_good && range_is_good
}
