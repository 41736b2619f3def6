//! The validated job: what one file declares, job → group → task.
//!
//! Values here cannot be wrong: text was parsed and ranges were checked at the edge, in `lith-spec` for files and in
//! `lith-api` for requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::name::{FileName, GroupName, JobName, NodeName, TaskName, VolumeName};
use access::{Bandwidth, Connect, Egress, Expose};
use file::{FileMount, FileSource};
use health::{Condition, Health};
use process::{Device, Gpu, Logging, TaskKind, Ulimit, Update};
use volume::{Mount, Tmpfs, VolumeSpec};

pub mod access;
pub mod file;
pub mod health;
pub mod process;
pub mod volume;

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
/// Most entries of `ports` and of `publish` of a task; a range is one.
pub const PORTS_MAX: usize = 100;
/// Most consecutive ports of a published range whose numbers differ between node and guest: each takes a rule of its own,
/// while a range that keeps its numbers takes one.
pub const SHIFTED_PORTS_MAX: u16 = 1000;
/// Most size of `/dev/shm`.
pub const SHM_SIZE_MAX: Bytes = MEMORY_MAX;
/// Least size at which a task's log begins a new file: below it files change with every screen of output.
pub const LOG_SIZE_MIN: Bytes = Bytes(64 << 10);
/// Most: a file that an editor still opens.
pub const LOG_SIZE_MAX: Bytes = Bytes(1 << 30);
/// Most files of a task's log.
pub const LOG_FILES_MAX: u32 = 100;
/// Longest wait before a group moves away from a silent node.
pub const FAILOVER_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
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

/// Ports that a task listens on: one, or consecutive ones (`80`, `53/udp`, `9000-9010`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The first, 1 to 65535.
    pub number: u16,
    /// The last, not below the first.
    pub last: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

impl Port {
    /// One port.
    #[must_use]
    pub fn one(number: u16, transport: Transport) -> Self {
        Self { number, last: number, transport }
    }

    /// Whether this port is among them.
    #[must_use]
    pub fn holds(&self, number: u16, transport: Transport) -> bool {
        self.transport == transport && (self.number..=self.last).contains(&number)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_range(f, self.number, self.last)?;
        match self.transport {
            Transport::Tcp => Ok(()),
            Transport::Udp => f.write_str("/udp"),
        }
    }
}

fn write_range(f: &mut fmt::Formatter<'_>, first: u16, last: u16) -> fmt::Result {
    if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
}

/// A port of a task offered on the node's own addresses, or consecutive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publish {
    /// Only on this address of the node; on all of them when `None`.
    pub address: Option<IpAddr>,
    /// First port on the node, 1 to 65535.
    pub host_port: u16,
    /// First port in the guest, 1 to 65535.
    pub guest_port: u16,
    /// How many ports follow one another, at least 1; both ends are within 65535.
    pub count: u16,
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
        let overlap = self.host_port <= other.host_last() && other.host_port <= self.host_last();
        overlap && self.transport == other.transport && same_address
    }

    /// Last port on the node.
    #[must_use]
    pub fn host_last(&self) -> u16 {
        self.host_port.saturating_add(self.count.saturating_sub(1))
    }

    /// Last port in the guest.
    #[must_use]
    pub fn guest_last(&self) -> u16 {
        self.guest_port.saturating_add(self.count.saturating_sub(1))
    }

    /// Each of its ports by itself.
    pub fn singly(self) -> impl Iterator<Item = Self> {
        let at = move |offset: u16| Self {
            host_port: self.host_port.saturating_add(offset),
            guest_port: self.guest_port.saturating_add(offset),
            count: 1,
            ..self
        };
        (0..self.count).map(at)
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        write_range(f, self.host_port, self.host_last())?;
        f.write_str(":")?;
        write_range(f, self.guest_port, self.guest_last())?;
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
    /// When it runs.
    pub kind: TaskKind,
    /// Replaces the image's entrypoint, and discards its command, as `docker run --entrypoint` does.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Added to the image's environment, winning over it.
    pub env: BTreeMap<String, String>,
    /// Replaces the image's user: `name`, `uid`, `name:group`, `uid:gid`.
    pub user: Option<String>,
    /// Further groups of the process, by name or number, in order and each once.
    pub groups: Vec<String>,
    /// Replaces the image's working directory; absolute.
    pub working_dir: Option<String>,
    /// Host name that the process sees; the task's name when `None`.
    pub hostname: Option<String>,
    /// The time zone that the process sees, such as `Europe/Berlin`; the image's when `None`.
    pub timezone: Option<String>,
    /// Ceiling of the guest's memory.
    pub memory: Bytes,
    /// Ceiling of its processor time.
    pub cpus: CpuMillis,
    /// Graphics processors.
    pub gpu: Option<Gpu>,
    /// Devices, in order and each once.
    pub devices: Vec<Device>,
    /// Where volumes are mounted, in order of target.
    pub volumes: Vec<Mount>,
    /// File systems in memory, in order of target.
    pub tmpfs: Vec<Tmpfs>,
    /// Size of `/dev/shm`; half the guest's memory when `None`, as Linux has it.
    pub shm_size: Option<Bytes>,
    /// Whether the image's own files cannot be changed.
    pub is_read_only: bool,
    /// Secrets, in order of target.
    pub secrets: Vec<FileMount>,
    /// Configs, in order of target.
    pub configs: Vec<FileMount>,
    /// Ports that it listens on, for tasks that connect to it: in order and each once, for the order in which they
    /// were written must not make for a difference.
    pub ports: Vec<Port>,
    /// Ports offered on the node, in order and each once.
    pub publish: Vec<Publish>,
    /// Names under which people's browsers find it, in order and each once.
    pub expose: Vec<Expose>,
    /// What it may reach in the cluster, in order and each once.
    pub connects: Vec<Connect>,
    /// What it may reach outside, in order and each once.
    pub egress: Vec<Egress>,
    /// Most that it sends, and that it receives; what the node has when `None`.
    pub bandwidth: Option<Bandwidth>,
    /// Further lines of its `/etc/hosts`.
    pub hosts: BTreeMap<String, IpAddr>,
    /// How its health is asked for; as the image says when `None`.
    pub health: Option<Health>,
    /// What other tasks of the job must have reached before it starts.
    pub depends_on: BTreeMap<TaskName, Condition>,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Replaces the image's stop signal: `SIGTERM`, `TERM` or a number, checked at the edge.
    pub stop_signal: Option<String>,
    /// Time between the stop signal and the end by force.
    pub stop_grace: Duration,
    /// How instances go over to a new version.
    pub update: Option<Update>,
    /// How much of its output is kept.
    pub logging: Logging,
    /// Limits of its process by their names without `RLIMIT_`, in lower case.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Settings of the guest's kernel, such as `net.core.somaxconn`.
    pub sysctls: BTreeMap<String, String>,
}

impl TaskSpec {
    /// A task that says nothing but its image.
    #[must_use]
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            kind: TaskKind::Service,
            entrypoint: None,
            command: None,
            env: BTreeMap::new(),
            user: None,
            groups: Vec::new(),
            working_dir: None,
            hostname: None,
            timezone: None,
            memory: MEMORY_DEFAULT,
            cpus: CPUS_DEFAULT,
            gpu: None,
            devices: Vec::new(),
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            shm_size: None,
            is_read_only: false,
            secrets: Vec::new(),
            configs: Vec::new(),
            ports: Vec::new(),
            publish: Vec::new(),
            expose: Vec::new(),
            connects: Vec::new(),
            egress: Vec::new(),
            bandwidth: None,
            hosts: BTreeMap::new(),
            health: None,
            depends_on: BTreeMap::new(),
            restart: RestartPolicy::default(),
            stop_signal: None,
            stop_grace: STOP_GRACE_DEFAULT,
            update: None,
            logging: Logging::default(),
            ulimits: BTreeMap::new(),
            sysctls: BTreeMap::new(),
        }
    }
}

impl TaskSpec {
    /// What happens when it ends: a task that runs once is done when it has succeeded.
    #[must_use]
    pub fn restart_policy(&self) -> RestartPolicy {
        match (&self.kind, self.restart) {
            (TaskKind::Once, RestartPolicy::Always) => RestartPolicy::OnFailure { retries_max: None },
            (TaskKind::Service | TaskKind::Once | TaskKind::Periodic { .. }, restart) => restart,
        }
    }
}

/// What is placed on one node as a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// Instances wanted; with 0 it is kept, and nothing of it runs.
    pub count: u32,
    /// The only nodes it may run on; any when empty.
    pub place: BTreeSet<NodeName>,
    /// How long its node may be silent before it moves; lith's own time when `None`.
    pub failover_after: Option<Duration>,
    /// Its tasks, at least one.
    pub tasks: BTreeMap<TaskName, TaskSpec>,
}

impl GroupSpec {
    /// One instance of these tasks, anywhere.
    #[must_use]
    pub fn new(tasks: BTreeMap<TaskName, TaskSpec>) -> Self {
        Self { count: 1, place: BTreeSet::new(), failover_after: None, tasks }
    }
}

/// What one file declares. Names of tasks are unique in it: tasks find each other by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSpec {
    /// Its name.
    pub name: JobName,
    /// Its volumes.
    pub volumes: BTreeMap<VolumeName, VolumeSpec>,
    /// Its secrets.
    pub secrets: BTreeMap<FileName, FileSource>,
    /// Its configs.
    pub configs: BTreeMap<FileName, FileSource>,
    /// Its groups, at least one.
    pub groups: BTreeMap<GroupName, GroupSpec>,
}

impl JobSpec {
    /// A job of these groups alone.
    #[must_use]
    pub fn new(name: JobName, groups: BTreeMap<GroupName, GroupSpec>) -> Self {
        Self { name, volumes: BTreeMap::new(), secrets: BTreeMap::new(), configs: BTreeMap::new(), groups }
    }

    /// Every task with the group it belongs to, in order of name.
    pub fn tasks(&self) -> impl Iterator<Item = (&GroupName, &TaskName, &TaskSpec)> {
        self.groups
            .iter()
            .flat_map(|(group, spec)| spec.tasks.iter().map(move |(name, task)| (group, name, task)))
    }

    /// The task that has the disk of a volume: the first one that writes to it, or, when none does, the first one that
    /// mounts it. All others see checkpoints. `None` when no task mounts it.
    #[must_use]
    pub fn holder(&self, volume: &VolumeName) -> Option<(&GroupName, &TaskName)> {
        let mounts = |writes: bool| {
            move |mount: &Mount| mount.volume() == Some(volume) && (!writes || !mount.is_read_only)
        };
        let find = |writes| self.tasks().find(|(_, _, task)| task.volumes.iter().any(mounts(writes)));
        find(true).or_else(|| find(false)).map(|(group, name, _)| (group, name))
    }

    /// The volumes that a task mounts and another one holds: of these it sees checkpoints.
    #[must_use]
    pub fn reads(&self, task: &TaskName) -> BTreeSet<&VolumeName> {
        let mounted =
            self.tasks().filter(|(_, name, _)| *name == task).flat_map(|(_, _, spec)| &spec.volumes);
        let is_held = |volume: &&VolumeName| self.holder(volume).is_some_and(|(_, holder)| holder != task);
        mounted.filter_map(Mount::volume).filter(is_held).collect()
    }
}

/// Tasks that wait for each other in a circle, none of which could ever start; `None` when there are none.
#[must_use]
pub fn circle(job: &JobSpec) -> Option<Vec<TaskName>> {
    let tasks: BTreeMap<&TaskName, &TaskSpec> = job.tasks().map(|(_, name, task)| (name, task)).collect();
    // For each task how many others it still waits for, and who waits for it. What is not there is another mistake, and
    // told as that.
    let mut waits: BTreeMap<&TaskName, usize> = BTreeMap::new();
    let mut waiters: BTreeMap<&TaskName, Vec<&TaskName>> = BTreeMap::new();
    for (name, task) in &tasks {
        let targets = task.depends_on.keys().filter(|target| tasks.contains_key(target));
        let mut count = 0;
        for target in targets {
            waiters.entry(target).or_default().push(name);
            count += 1;
        }
        waits.insert(name, count);
    }
    let mut free: Vec<&TaskName> =
        waits.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    let mut can_start: BTreeSet<&TaskName> = BTreeSet::new();
    while let Some(name) = free.pop() {
        can_start.insert(name);
        for waiter in waiters.get(name).into_iter().flatten() {
            let count = waits.get_mut(*waiter).expect("every task is counted");
            *count -= 1;
            if *count == 0 {
                free.push(waiter);
            }
        }
    }
    // Of those that are left, each waits for another one that is left: following them leads into a circle.
    let mut path: Vec<&TaskName> = Vec::new();
    let mut seen: BTreeSet<&TaskName> = BTreeSet::new();
    let mut next = tasks.keys().find(|name| !can_start.contains(**name)).copied()?;
    while seen.insert(next) {
        path.push(next);
        next = tasks
            .get(next)?
            .depends_on
            .keys()
            .find(|target| tasks.contains_key(target) && !can_start.contains(target))?;
    }
    let start = path.iter().position(|name| *name == next)?;
    Some(path[start..].iter().map(|name| (*name).clone()).collect())
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
            address: address.map(IpAddr::from),
            host_port,
            guest_port: 80,
            count: 1,
            transport,
        };
        let all = publish(None, 8080, Transport::Tcp);
        assert!(all.collides_with(&publish(Some([127, 0, 0, 1]), 8080, Transport::Tcp)));
        assert!(!all.collides_with(&publish(None, 8080, Transport::Udp)));
        assert!(!all.collides_with(&publish(None, 8081, Transport::Tcp)));
        let one = publish(Some([127, 0, 0, 1]), 8080, Transport::Tcp);
        assert!(!one.collides_with(&publish(Some([192, 0, 2, 1]), 8080, Transport::Tcp)));
        let range = Publish { host_port: 8000, count: 81, ..all };
        assert!(range.collides_with(&all) && all.collides_with(&range));
        assert!(!Publish { count: 80, ..range }.collides_with(&all));
    }
}
