//! Health checks.
//!
//! Owns `healthcheck` in all its forms. Times that the file does not give are Docker's, which are lith's too.

use std::time::Duration;

use lith_core::job::TaskSpec;
use lith_core::job::health::{HEALTH_TIME_MAX, Health, HealthCheck, HealthTimes, Probe, RETRIES_MAX};

use super::Work;
use crate::compose::project::{self, HealthTest, Service};
use crate::diagnostic::Code;
use crate::document::Span;
use crate::value::duration::display;

/// Shortest of the times, as Docker has it.
const TIME_MIN: Duration = Duration::from_millis(1);

/// Reads the health check of a service.
pub(super) fn health(service: &Service, task: &mut TaskSpec, work: &mut Work<'_>) {
    let Some(check) = &service.healthcheck else { return };
    let times = times(&check.value, check.span, work);
    let probe = match &check.value.test {
        HealthTest::Off => {
            task.health = Some(Health::Off);
            return;
        }
        HealthTest::OfTheImage => {
            // `disable: false` says what holds anyway.
            task.health = (times != HealthTimes::default()).then_some(Health::Image(times));
            return;
        }
        HealthTest::Command(words) => Probe::Command(words.clone()),
        HealthTest::Shell(line) => Probe::Shell(line.clone()),
    };
    let (is_empty, has_zero) = match &probe {
        Probe::Command(words) => (words.is_empty(), words.iter().any(|word| word.contains('\0'))),
        Probe::Shell(line) => (line.trim().is_empty(), line.contains('\0')),
        Probe::Http { .. } | Probe::Tcp { .. } => (false, false),
    };
    if is_empty || has_zero {
        let message = "the check runs nothing that a process can be given";
        let hint = "write what it runs, such as `test: curl -f http://localhost`, or `disable: true`";
        work.reporter.error(Code::BadHealth, check.span, message, hint);
        return;
    }
    let check = HealthCheck::with_times(probe, &times);
    task.health = Some(Health::Check(check));
}

/// The times; what is zero is the default, as Docker has it.
fn times(check: &project::HealthCheck, span: Span, work: &mut Work<'_>) -> HealthTimes {
    let mut time = |key: &str, time: Option<Duration>| {
        // Docker's shortest time, too.
        let time = time.filter(|time| !time.is_zero())?.max(TIME_MIN);
        if time <= HEALTH_TIME_MAX {
            return Some(time);
        }
        let most = display(HEALTH_TIME_MAX);
        let message = format!("`{key}` is longer than {most}");
        work.reporter.error(Code::OutOfRange, span, message, None);
        None
    };
    let times = HealthTimes {
        every: time("interval", check.interval),
        timeout: time("timeout", check.timeout),
        retries: check.retries.filter(|retries| *retries > 0),
        start: time("start_period", check.start_period),
        start_every: time("start_interval", check.start_interval),
    };
    if let Some(retries) = times.retries.filter(|retries| *retries > RETRIES_MAX) {
        let message = format!("{retries} retries are more than {RETRIES_MAX}");
        work.reporter.error(Code::OutOfRange, span, message, None);
    }
    times
}
