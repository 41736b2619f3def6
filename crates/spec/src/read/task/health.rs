//! How a task's health is asked for.
//!
//! Owns the forms of `health`: `none`, one of four probes with its times, or times alone for the image's own check.

use std::time::Duration;

use lith_core::job::health::{HEALTH_TIME_MAX, Health, HealthCheck, HealthTimes, Probe, RETRIES_MAX};
use lith_core::value::quoted;

use super::super::fields::{self, Fields, accepted};
use super::super::mapping;
use super::process::words;
use crate::diagnostic::{Code, Reporter};
use crate::document::{Entry, Kind};
use crate::keys::Level;
use crate::value::{self, Refusal, duration, number, probe};

/// Keys of the times of a check.
const TIMES: [&str; 4] = ["every", "timeout", "start", "start_every"];
/// Keys of what is asked.
const PROBES: [&str; 4] = ["http", "tcp", "command", "shell"];

/// What `health` says; `None` when it is not given.
pub(super) fn health(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Option<Health> {
    let entry = fields.take("health")?;
    if let Kind::Text(text) = &entry.value.kind {
        return accepted(off(text), &entry.value, reporter);
    }
    let want = "`health` is `none`, or a mapping such as `{ http: \":8080/\" }`";
    let entries = mapping(&entry.key, &entry.value, want, reporter)?;
    let fields = &mut Fields::new(Level::Health, entries, reporter);
    let times = times(fields, reporter);
    let mut probes = PROBES.into_iter().filter_map(|key| fields.take(key)).collect::<Vec<&Entry>>();
    probes.sort_by_key(|entry| entry.key.span);
    if let [first, second, ..] = probes.as_slice() {
        let message = format!("one check asks one thing; `{}` asks another", second.key.text);
        let hint = format!("keep `{}` or `{}`", first.key.text, second.key.text);
        reporter.error(Code::ConflictingKeys, second.key.span, message, hint);
        return None;
    }
    let Some(asked) = probes.first() else {
        // Keys without a value count as not given; one that was refused has been told.
        if entries.iter().all(|entry| matches!(entry.value.kind, Kind::Null)) {
            let message = "this check asks nothing and changes nothing";
            let hint = "add one of `http`, `tcp`, `command` and `shell`, or a time for the image's own check";
            reporter.error(Code::MissingKey, entry.key.span, message, hint);
        }
        return Some(Health::Image(times));
    };
    let check = HealthCheck::with_times(probe(asked, fields, reporter)?, &times);
    Some(Health::Check(check))
}

fn off(text: &str) -> Result<Health, Refusal> {
    if text == "none" {
        return Ok(Health::Off);
    }
    let refusal = Refusal::new(Code::BadHealth, format!("{} is no check", quoted(text)));
    Err(refusal.hint("write `none` for no check, or a mapping such as `{ http: \":8080/\" }`"))
}

fn times(fields: &mut Fields<'_>, reporter: &mut Reporter) -> HealthTimes {
    let [every, timeout, start, start_every] = TIMES;
    let some = |text: &str| duration::some_up_to(text, HEALTH_TIME_MAX);
    let any = |text: &str| duration::up_to(text, HEALTH_TIME_MAX);
    let mut time =
        |key, parse: &dyn Fn(&str) -> Result<Duration, Refusal>| fields.parse(key, reporter, parse);
    let (every, timeout) = (time(every, &some), time(timeout, &some));
    let (start, start_every) = (time(start, &any), time(start_every, &some));
    let retries = fields.parse("retries", reporter, |text| number::whole(text, 1, RETRIES_MAX));
    HealthTimes { every, timeout, retries, start, start_every }
}

fn probe(asked: &Entry, fields: &mut Fields<'_>, reporter: &mut Reporter) -> Option<Probe> {
    match &*asked.key.text {
        "http" => fields.parse("http", reporter, probe::http),
        "tcp" => fields.parse("tcp", reporter, probe::port).map(|port| Probe::Tcp { port }),
        "command" => {
            let words = words(fields, "command", reporter)?;
            if words.first().is_none_or(String::is_empty) {
                let message = "the command of the check is empty";
                reporter.error(Code::BadHealth, asked.key.span, message, "name the program to run");
                return None;
            }
            Some(Probe::Command(words))
        }
        _ => {
            let line = accepted(value::text(fields::text(asked, reporter)?), &asked.value, reporter)?;
            if line.trim().is_empty() {
                let message = "the command of the check is empty";
                reporter.error(Code::BadHealth, asked.key.span, message, "name the program to run");
                return None;
            }
            Some(Probe::Shell(line))
        }
    }
}
