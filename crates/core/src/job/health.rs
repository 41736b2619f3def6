//! How a task's health is asked for, and what a task waits for before it starts.

use std::time::Duration;

/// Longest of each of the times of a check.
pub const HEALTH_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Most failures in a row that are put up with.
pub const RETRIES_MAX: u32 = 1000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `GET` of this path answers with 200 to 399.
    Http {
        /// Port of the task.
        port: u16,
        /// Path with its query, beginning with `/`.
        path: String,
    },
    /// The port takes a connection.
    Tcp {
        /// Port of the task.
        port: u16,
    },
    /// The program, run in the task with its environment, ends with code 0.
    Command(Vec<String>),
    /// The same, read by the image's `/bin/sh -c`.
    Shell(String),
}

/// A check, repeated while the task runs. Times are those of Docker's `HEALTHCHECK`, and so are their defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Between the end of one check and the next.
    pub every: Duration,
    /// After which an unanswered check has failed.
    pub timeout: Duration,
    /// Failures in a row that make the task unhealthy.
    pub retries: u32,
    /// After its start, the time in which failures do not count.
    pub start: Duration,
    /// Between checks in that time.
    pub start_every: Duration,
}

impl HealthCheck {
    /// A check with Docker's times: every 30 s, 30 s for an answer, three failures, no time to start.
    #[must_use]
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            every: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries: 3,
            start: Duration::ZERO,
            start_every: Duration::from_secs(5),
        }
    }

    /// A check with these times; its own where they say nothing.
    #[must_use]
    pub fn with_times(probe: Probe, times: &HealthTimes) -> Self {
        let default = Self::new(probe);
        Self {
            every: times.every.unwrap_or(default.every),
            timeout: times.timeout.unwrap_or(default.timeout),
            retries: times.retries.unwrap_or(default.retries),
            start: times.start.unwrap_or(default.start),
            start_every: times.start_every.unwrap_or(default.start_every),
            probe: default.probe,
        }
    }
}

/// What a job says about a task's health. One that says nothing has the image's own check, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// No check, not even the image's.
    Off,
    /// The image's own probe, with other times; `None` leaves the image's.
    Image(HealthTimes),
    /// This one.
    Check(HealthCheck),
}

/// Times that replace those of an image's own check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HealthTimes {
    /// See [`HealthCheck::every`].
    pub every: Option<Duration>,
    /// See [`HealthCheck::timeout`].
    pub timeout: Option<Duration>,
    /// See [`HealthCheck::retries`].
    pub retries: Option<u32>,
    /// See [`HealthCheck::start`].
    pub start: Option<Duration>,
    /// See [`HealthCheck::start_every`].
    pub start_every: Option<Duration>,
}

/// What another task of the job must have reached before a task is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Its process runs, or has run.
    Started,
    /// Its check has succeeded.
    Healthy,
    /// Its process has ended with code 0.
    Completed,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 3] = [Self::Started, Self::Healthy, Self::Completed];

    /// Its word in the job file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Healthy => "healthy",
            Self::Completed => "completed",
        }
    }
}
