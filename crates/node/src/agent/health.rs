//! Which check a task has: what its job says, over what its image says, by Docker's rules. Pure.

use std::time::Duration;

use lith_core::job::health::{HEALTH_TIME_MAX, Health, HealthCheck, HealthTimes, Probe, RETRIES_MAX};
use lith_guest::messages::health::{Check, Probe as GuestProbe};
use lith_image::Healthcheck;

/// The check of a task; none when neither asks for one.
pub(super) fn check(image: Option<&Healthcheck>, job: Option<&Health>) -> Option<Check> {
    let check = match job {
        Some(Health::Off) => return None,
        Some(Health::Check(check)) => check.clone(),
        Some(Health::Image(times)) => with_times(of_image(image?)?, times),
        None => of_image(image?)?,
    };
    let HealthCheck { probe, every, timeout, retries, start, start_every } = check;
    Some(Check {
        probe: guest_probe(probe),
        every_ms: millis(every),
        timeout_ms: millis(timeout),
        retries: retries.clamp(1, RETRIES_MAX),
        start_ms: millis(start),
        start_every_ms: millis(start_every),
    })
}

/// The image's own check. One that asks nothing, or in a way that nobody knows, is none.
fn of_image(image: &Healthcheck) -> Option<HealthCheck> {
    let probe = match image.test.split_first()? {
        (kind, argv) if kind == "CMD" && !argv.is_empty() => Probe::Command(argv.to_vec()),
        (kind, [line]) if kind == "CMD-SHELL" => Probe::Shell(line.clone()),
        _ => return None,
    };
    let times = HealthTimes {
        every: image.interval,
        timeout: image.timeout,
        retries: image.retries,
        start: image.start_period,
        start_every: image.start_interval,
    };
    Some(with_times(HealthCheck::new(probe), &times))
}

fn with_times(check: HealthCheck, times: &HealthTimes) -> HealthCheck {
    HealthCheck {
        probe: check.probe,
        every: times.every.unwrap_or(check.every),
        timeout: times.timeout.unwrap_or(check.timeout),
        retries: times.retries.unwrap_or(check.retries),
        start: times.start.unwrap_or(check.start),
        start_every: times.start_every.unwrap_or(check.start_every),
    }
}

/// An image may say whatever it likes; what a job may not say is cut.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.min(HEALTH_TIME_MAX).as_millis()).unwrap_or(u64::MAX)
}

fn guest_probe(probe: Probe) -> GuestProbe {
    match probe {
        Probe::Http { port, path } => GuestProbe::Http { port, path },
        Probe::Tcp { port } => GuestProbe::Tcp { port },
        Probe::Command(argv) => GuestProbe::Command(argv),
        Probe::Shell(line) => GuestProbe::Shell(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(test: &[&str]) -> Healthcheck {
        let test = test.iter().map(|word| (*word).to_owned()).collect();
        Healthcheck { test, interval: Some(Duration::from_secs(7)), ..Healthcheck::default() }
    }

    #[test]
    fn the_job_wins_over_the_image() {
        let shell = image(&["CMD-SHELL", "true"]);
        let found = check(Some(&shell), None).unwrap();
        assert_eq!(found.probe, GuestProbe::Shell("true".to_owned()));
        assert_eq!((found.every_ms, found.timeout_ms, found.retries), (7000, 30_000, 3));
        assert_eq!(check(Some(&shell), Some(&Health::Off)), None);
        let times = HealthTimes { retries: Some(9), ..HealthTimes::default() };
        let found = check(Some(&shell), Some(&Health::Image(times))).unwrap();
        assert_eq!((found.every_ms, found.retries), (7000, 9));
        assert_eq!(check(None, Some(&Health::Image(times))), None);
        let own = Health::Check(HealthCheck::new(Probe::Tcp { port: 80 }));
        assert_eq!(check(Some(&shell), Some(&own)).unwrap().probe, GuestProbe::Tcp { port: 80 });
    }

    #[test]
    fn what_an_image_says_may_be_nothing() {
        for test in [&[][..], &["NONE"], &["CMD"], &["CMD-SHELL"], &["CMD-SHELL", "a", "b"], &["curl"]] {
            assert_eq!(check(Some(&image(test)), None), None, "{test:?}");
        }
        let argv = check(Some(&image(&["CMD", "curl", "-f"])), None).unwrap().probe;
        assert_eq!(argv, GuestProbe::Command(vec!["curl".to_owned(), "-f".to_owned()]));
        let long =
            Healthcheck { timeout: Some(Duration::MAX), retries: Some(u32::MAX), ..image(&["CMD", "a"]) };
        let found = check(Some(&long), None).unwrap();
        assert_eq!((found.timeout_ms, found.retries), (24 * 3600 * 1000, RETRIES_MAX));
    }
}
