//! What surrounds a task's process: when it runs, its limits, its devices, its log, how a new version follows an old one.

use std::fmt;
use std::time::Duration;

use super::Bytes;

/// Longest of each of the times of an update: a new version that needs more than a day is watched by a person.
pub const UPDATE_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest schedule: five fields that list every number they may hold, with room to spare.
pub const SCHEDULE_BYTES_MAX: usize = 1024;

/// When a task runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TaskKind {
    /// All the time. The default.
    #[default]
    Service,
    /// Until it has ended with code 0: once for each version of the task.
    Once,
    /// At the times of a schedule.
    Periodic {
        /// Five fields, as in crontab(5): minute, hour, day of the month, month, day of the week.
        schedule: String,
    },
}

impl TaskKind {
    /// Its word in the job file.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Once => "once",
            Self::Periodic { .. } => "periodic",
        }
    }
}

/// A limit of the process (setrlimit(2)); `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// What the process starts with.
    pub soft: Option<u64>,
    /// How far it may raise that.
    pub hard: Option<u64>,
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word =
            |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        if self.soft == self.hard {
            return f.write_str(&word(self.soft));
        }
        write!(f, "{}:{}", word(self.soft), word(self.hard))
    }
}

/// A device of the node in the task's machine: `/dev/ttyUSB0`, `/dev/dri:/dev/dri`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Its path on the node.
    pub host: String,
    /// Its path in the task.
    pub guest: String,
}

impl Device {
    /// Devices that the guest's own kernel makes: they take nothing of the node.
    pub const OF_THE_GUEST: [&str; 2] = ["/dev/fuse", "/dev/net/tun"];

    /// Whether the guest's own kernel makes it.
    #[must_use]
    pub fn is_of_the_guest(&self) -> bool {
        Self::OF_THE_GUEST.contains(&self.host.as_str()) && self.host == self.guest
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if self.guest == self.host { Ok(()) } else { write!(f, ":{}", self.guest) }
    }
}

/// Graphics processors of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gpu {
    /// All of them.
    All,
    /// So many.
    Count(u32),
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// How much of a task's output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Logging {
    /// Size at which a new file is begun; lith's own when `None`.
    pub max_size: Option<Bytes>,
    /// Files kept; lith's own when `None`.
    pub max_files: Option<u32>,
}

/// How the instances of a group go over to a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Instances that change at once.
    pub parallel: u32,
    /// Between one batch and the next.
    pub delay: Duration,
    /// How long a new instance is watched before it counts as good.
    pub watch: Duration,
    /// Whether the old instance stops before the new one starts, or after.
    pub order: UpdateOrder,
    /// What happens when a new instance fails.
    pub on_failure: OnFailure,
}

impl Default for Update {
    fn default() -> Self {
        Self {
            parallel: 1,
            delay: Duration::ZERO,
            watch: Duration::from_secs(5),
            order: UpdateOrder::StopFirst,
            on_failure: OnFailure::Pause,
        }
    }
}

/// Which of two versions is there first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateOrder {
    /// The old one stops, then the new one starts: two never write to one disk.
    StopFirst,
    /// The new one starts, then the old one stops.
    StartFirst,
}

/// What happens when a new version fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The rest keeps the old version.
    Pause,
    /// The rest goes over all the same.
    Continue,
    /// Those that went over go back.
    Rollback,
}
