//! The validated job: what one file declares, job → group → task.
//!
//! Values here cannot be wrong: text was parsed and ranges were checked at the edge, in `lith-spec` for files and in
//! `lith-api` for requests.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::name::{GroupName, JobName, TaskName};

/// Most groups of a job, and most tasks of a group. A job is one app; the bound keeps a hostile file from costing
/// memory and time that grow with its size squared.
pub const MEMBERS_MAX: usize = 100;
/// Most instances of a group.
pub const COUNT_MAX: u32 = 100;
/// Least memory of a task: below it a guest kernel does not boot.
pub const MEMORY_MIN: Bytes = Bytes(64 << 20);
/// Most memory of a task: 4 TiB, the order of the largest machines sold.
pub const MEMORY_MAX: Bytes = Bytes(4 << 40);
/// Memory of a task that does not say: enough for most small servers; the balloon returns what is not used.
pub const MEMORY_DEFAULT: Bytes = Bytes(256 << 20);
/// Most ports that a task declares, and most that it publishes: a range is one rule in a later version; a list this long
/// is a range.
pub const PORTS_MAX: usize = 100;
/// Least processor time: one millisecond in each tenth of a second, the smallest quota that Linux accepts
/// (`min_cfs_quota_period` in `kernel/sched/core.c`).
pub const CPUS_MIN: CpuMillis = CpuMillis(10);
/// Most virtual processors, in thousandths: what QEMU's `microvm` accepts.
pub const CPUS_MAX: CpuMillis = CpuMillis(64_000);
/// Processors of a task that does not say: as in a container, what the machine has, up to two.
pub const CPUS_DEFAULT: CpuMillis = CpuMillis(2_000);
/// Time a task has to stop by itself: the ten seconds of `docker stop`.
pub const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(10);
/// Longest grace that makes sense to wait for: a database writing its last checkpoint to slow disks.
pub const STOP_GRACE_MAX: Duration = Duration::from_secs(3600);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Whole mebibytes, rounded up.
    #[must_use]
    pub fn mebibytes(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in [("T", 1u64 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)] {
            if self.0 >= size && self.0.is_multiple_of(size) {
                return write!(f, "{}{unit}", self.0 / size);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Thousandths of a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuMillis(pub u32);

impl CpuMillis {
    /// Virtual processors that the guest needs to use this much.
    #[must_use]
    pub fn virtual_cpus(self) -> u32 {
        self.0.div_ceil(1000).max(1)
    }
}

impl fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1000, self.0 % 1000);
        if part == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{part:03}").trim_end_matches('0'))
    }
}

/// What carries a port's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port that a task listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// 1 to 65535.
    pub number: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Tcp => write!(f, "{}", self.number),
            Transport::Udp => write!(f, "{}/udp", self.number),
        }
    }
}

/// A port of a task offered on the node's own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publish {
    /// Only on this address of the node; on all of them when `None`.
    pub address: Option<Ipv4Addr>,
    /// Port on the node, 1 to 65535.
    pub host_port: u16,
    /// Port in the guest, 1 to 65535.
    pub guest_port: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

impl Publish {
    /// Whether both cannot be in force on one node.
    #[must_use]
    pub fn collides_with(&self, other: &Self) -> bool {
        let same_address = match (self.address, other.address) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => true,
        };
        self.host_port == other.host_port && self.transport == other.transport && same_address
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, "{address}:")?;
        }
        write!(f, "{}:{}", self.host_port, self.guest_port)?;
        if self.transport == Transport::Udp {
            write!(f, "/udp")?;
        }
        Ok(())
    }
}

/// What happens when a task's process ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum RestartPolicy {
    /// It is started again, whatever its exit code. The default: servers should run.
    #[default]
    Always,
    /// It is started again unless it ended with code 0.
    OnFailure {
        /// Give up after so many restarts in a row; never when `None`.
        retries_max: Option<u32>,
    },
    /// It stays ended.
    Never,
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::OnFailure { retries_max: None } => f.write_str("on-failure"),
            Self::OnFailure { retries_max: Some(retries) } => write!(f, "on-failure:{retries}"),
            Self::Never => f.write_str("no"),
        }
    }
}

/// One image in one microVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// Reference of the image, as the person wrote it.
    pub image: String,
    /// Replaces the image's entrypoint, and discards its command, as `docker run --entrypoint` does.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Added to the image's environment, winning over it.
    pub env: BTreeMap<String, String>,
    /// Replaces the image's user: `name`, `uid`, `name:group`, `uid:gid`.
    pub user: Option<String>,
    /// Replaces the image's working directory; absolute.
    pub working_dir: Option<String>,
    /// Ceiling of the guest's memory.
    pub memory: Bytes,
    /// Ceiling of its processor time.
    pub cpus: CpuMillis,
    /// Ports that it listens on, for tasks that will connect to it: in order and each once, for the order in which they
    /// were written must not make for a difference.
    pub ports: Vec<Port>,
    /// Ports offered on the node, in order and each once.
    pub publish: Vec<Publish>,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Replaces the image's stop signal: `SIGTERM`, `TERM` or a number, checked at the edge.
    pub stop_signal: Option<String>,
    /// Time between the stop signal and the end by force.
    pub stop_grace: Duration,
}

/// What is placed on one node as a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// Instances wanted, at least 1.
    pub count: u32,
    /// Its tasks, at least one.
    pub tasks: BTreeMap<TaskName, TaskSpec>,
}

/// What one file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// Its name.
    pub name: JobName,
    /// Its groups, at least one.
    pub groups: BTreeMap<GroupName, GroupSpec>,
}

impl JobSpec {
    /// Every task with the group it belongs to, in order of name.
    pub fn tasks(&self) -> impl Iterator<Item = (&GroupName, &TaskName, &TaskSpec)> {
        self.groups
            .iter()
            .flat_map(|(group, spec)| spec.tasks.iter().map(move |(name, task)| (group, name, task)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_written() {
        assert_eq!(Bytes(256 << 20).to_string(), "256M");
        assert_eq!(Bytes(1 << 30).to_string(), "1G");
        assert_eq!(Bytes(1000).to_string(), "1000B");
        assert_eq!(CpuMillis(1500).to_string(), "1.5");
        assert_eq!(CpuMillis(1500).virtual_cpus(), 2);
        assert_eq!(CpuMillis(250).virtual_cpus(), 1);
    }

    #[test]
    fn published_ports_collide_on_a_common_address() {
        let publish = |address: Option<[u8; 4]>, host_port, transport| Publish {
            address: address.map(Ipv4Addr::from),
            host_port,
            guest_port: 80,
            transport,
        };
        let all = publish(None, 8080, Transport::Tcp);
        assert!(all.collides_with(&publish(Some([127, 0, 0, 1]), 8080, Transport::Tcp)));
        assert!(!all.collides_with(&publish(None, 8080, Transport::Udp)));
        assert!(!all.collides_with(&publish(None, 8081, Transport::Tcp)));
        let one = publish(Some([127, 0, 0, 1]), 8080, Transport::Tcp);
        assert!(!one.collides_with(&publish(Some([192, 0, 2, 1]), 8080, Transport::Tcp)));
    }
}
