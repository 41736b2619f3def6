//! Volumes of a job, and where its tasks mount them.

use std::fmt;
use std::time::Duration;

use super::Bytes;
use crate::name::{PoolName, VolumeName};

/// Least size of a volume: below it a file system has no room for its own records.
pub const VOLUME_SIZE_MIN: Bytes = Bytes(16 << 20);
/// Most: what ext4 holds with blocks of 4 KiB (16 TiB, `mkfs.ext4` without its 64-bit feature).
pub const VOLUME_SIZE_MAX: Bytes = Bytes(16 << 40);
/// Size of a volume that does not say. Sparse: it takes what is written.
pub const VOLUME_SIZE_DEFAULT: Bytes = Bytes(64 << 30);
/// Longest bound on the loss after a crash of a node that says anything.
pub const MAX_LAG_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most volumes of a job, and most mounts of a task: each is a disk of the machine.
pub const VOLUMES_MAX: usize = 100;

/// A volume that a job declares: what is written there outlives every task that mounts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// The pool that holds it; the node's first one when `None`.
    pub pool: Option<PoolName>,
    /// Ceiling of what it holds.
    pub size: Bytes,
    /// How much of the last changes a crash of the node may cost, once copies exist.
    pub max_lag: Option<Duration>,
    /// A folder of whoever deploys, whose content a new volume starts with, instead of the image's.
    pub import: Option<String>,
    /// Whether several tasks write to it at once.
    pub is_shared: bool,
}

impl Default for VolumeSpec {
    fn default() -> Self {
        Self { pool: None, size: VOLUME_SIZE_DEFAULT, max_lag: None, import: None, is_shared: false }
    }
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MountSource {
    /// A volume of the job.
    Volume(VolumeName),
    /// A folder of the node, which its owner must have allowed; an absolute path.
    Host(String),
}

/// A place in a task's file system where a volume is mounted: `data:/var/lib/app`, `/srv/media:/media:ro`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where; absolute.
    pub target: String,
    /// Whether the task may only read.
    pub is_read_only: bool,
}

impl Mount {
    /// The volume that is mounted, if it is one.
    #[must_use]
    pub fn volume(&self) -> Option<&VolumeName> {
        match &self.source {
            MountSource::Volume(name) => Some(name),
            MountSource::Host(_) => None,
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            MountSource::Volume(name) => write!(f, "{name}:{}", self.target)?,
            MountSource::Host(path) => write!(f, "{path}:{}", self.target)?,
        }
        f.write_str(if self.is_read_only { ":ro" } else { "" })
    }
}

/// A file system in memory: `/tmp`, `/run:size=64M,mode=1777`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tmpfs {
    /// Where; absolute.
    pub target: String,
    /// Ceiling; half the guest's memory when `None`, as Linux has it.
    pub size: Option<Bytes>,
    /// Permissions of its root, as in `chmod`; 1777 when `None`, as Docker has it.
    pub mode: Option<u32>,
}

impl fmt::Display for Tmpfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target)?;
        let size = self.size.map(|size| format!("size={size}"));
        let mode = self.mode.map(|mode| format!("mode={mode:o}"));
        let options: Vec<String> = size.into_iter().chain(mode).collect();
        if options.is_empty() { Ok(()) } else { write!(f, ":{}", options.join(",")) }
    }
}
