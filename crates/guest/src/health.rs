//! When a task's health is asked for, and what follows from the answers: Docker's rules, as a pure machine of times and
//! answers. Owns the state and the count of failures; it asks nobody and reads no clock.
//!
//! ```text
//!              success                 `retries` failures in a row
//! starting ───────────────▶ healthy ───────────────────────────────▶ unhealthy
//!     │                        ▲                                         │
//!     │                        └──────────────── success ────────────────┘
//!     └── `retries` failures in a row, none of them begun in the time to start ──▶ unhealthy
//! ```

use std::time::Duration;

use crate::messages::health::{Check, HealthState};

/// Least time between two checks: a check that costs more than it tells starves the task.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The health of one task. Times are since its process started.
#[derive(Debug, Clone)]
pub struct Health {
    every: Duration,
    retries: u32,
    start: Duration,
    start_every: Duration,
    state: HealthState,
    failures: u32,
}

/// A check that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// When it was begun.
    pub began: Duration,
    /// Whether it succeeded.
    pub is_success: bool,
}

impl Health {
    /// The health of a task whose process has just started.
    #[must_use]
    pub fn new(check: &Check) -> Health {
        let interval = |millis: u64| Duration::from_millis(millis).max(INTERVAL_MIN);
        Health {
            every: interval(check.every_ms),
            retries: check.retries.max(1),
            start: Duration::from_millis(check.start_ms),
            start_every: interval(check.start_every_ms),
            state: HealthState::Starting,
            failures: 0,
        }
    }

    /// What is known now.
    #[must_use]
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// When to ask next, if nothing is being asked now.
    #[must_use]
    pub fn due(&self, now: Duration) -> Duration {
        let is_starting = now < self.start && self.state == HealthState::Starting;
        now.saturating_add(if is_starting { self.start_every } else { self.every })
    }

    /// Takes note of an answer.
    pub fn answered(&mut self, answer: Answer) {
        if answer.is_success {
            self.failures = 0;
            self.state = HealthState::Healthy;
            return;
        }
        if self.state == HealthState::Starting && answer.began < self.start {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.retries {
            self.state = HealthState::Unhealthy;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::messages::health::Probe;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn check(start: u64, retries: u32) -> Check {
        Check {
            probe: Probe::Tcp { port: 80 },
            every_ms: 30_000,
            timeout_ms: 30_000,
            retries,
            start_ms: start * 1000,
            start_every_ms: 5000,
        }
    }

    /// Answers, each with the second in which its check was begun, and the state after each.
    fn states(health: &mut Health, answers: &[(u64, bool)]) -> Vec<HealthState> {
        let each = |(second, is_success): &(u64, bool)| {
            let began = seconds(*second);
            health.answered(Answer { began, is_success: *is_success });
            health.state()
        };
        answers.iter().map(each).collect()
    }

    #[test]
    fn failures_count_when_the_time_to_start_is_over() {
        use HealthState::{Healthy, Starting, Unhealthy};
        let mut health = Health::new(&check(20, 2));
        let answers =
            [(5, false), (10, false), (15, false), (20, false), (50, false), (80, true), (81, false)];
        let expected = [Starting, Starting, Starting, Starting, Unhealthy, Healthy, Healthy];
        assert_eq!(states(&mut health, &answers), expected);
        // One success ends the time to start.
        let mut health = Health::new(&check(100, 1));
        assert_eq!(
            states(&mut health, &[(5, false), (10, true), (15, false)]),
            [Starting, Healthy, Unhealthy]
        );
    }

    #[test]
    fn it_is_asked_more_often_until_it_has_started() {
        let mut health = Health::new(&check(20, 3));
        assert_eq!(health.due(seconds(0)), seconds(5));
        assert_eq!(health.due(seconds(19)), seconds(24));
        assert_eq!(health.due(seconds(20)), seconds(50));
        health.answered(Answer { began: seconds(5), is_success: true });
        assert_eq!(health.due(seconds(6)), seconds(36));
        let busy = Health::new(&Check { every_ms: 0, ..check(0, 3) });
        assert_eq!(busy.due(Duration::ZERO), INTERVAL_MIN);
    }

    proptest! {
        /// Whatever is answered: the last word is a success exactly when the task is healthy or has failed too seldom, and
        /// it never starts twice.
        #[test]
        fn the_state_follows_from_the_answers(
            retries in 0u32..5,
            start in 0u64..50,
            answers in vec((0u64..20, any::<bool>()), 0..40),
        ) {
            let mut health = Health::new(&check(start, retries));
            let (mut now, mut in_a_row, mut has_succeeded) = (0, 0u32, false);
            for (after, is_success) in answers {
                now += after;
                let before = health.state();
                health.answered(Answer { began: seconds(now), is_success });
                has_succeeded |= is_success;
                let counts = has_succeeded || now >= start || before != HealthState::Starting;
                in_a_row = if is_success { 0 } else { in_a_row + u32::from(counts) };
                match health.state() {
                    HealthState::Starting => prop_assert!(!has_succeeded && in_a_row < retries.max(1)),
                    HealthState::Healthy => prop_assert!(has_succeeded && in_a_row < retries.max(1)),
                    HealthState::Unhealthy => prop_assert!(in_a_row >= 1),
                }
                if is_success {
                    prop_assert_eq!(health.state(), HealthState::Healthy);
                }
                prop_assert!(health.due(seconds(now)) >= seconds(now) + INTERVAL_MIN);
            }
        }
    }
}
