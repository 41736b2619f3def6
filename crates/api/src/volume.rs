//! What a person sees of volumes and pools, and what they ask of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The disk of a volume, one for each instance of the group that mounts it. It outlives its tasks and its job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// `job.volume.index`.
    pub id: String,
    /// The job that declared it; it may be removed by now.
    pub job: String,
    /// Its name in the job.
    pub volume: String,
    /// The index of the instance that it belongs to.
    pub index: u32,
    /// The node that holds it.
    pub node: String,
    /// The pool in which it lies.
    pub pool: String,
    /// Ceiling of what it holds, bytes; 0 before it has a disk.
    pub size_bytes: u64,
    /// What its disk takes of the pool, bytes.
    pub used_bytes: u64,
    /// What its history takes besides, bytes.
    pub history_bytes: u64,
    /// What was written since the last checkpoint, bytes.
    pub dirty_bytes: u64,
    /// The newest checkpoint.
    pub last_checkpoint: Option<Checkpoint>,
    /// The oldest one that can be read.
    pub oldest_checkpoint: Option<Checkpoint>,
    /// The tasks that have it open for writing.
    pub holders: Vec<String>,
    /// The tasks that see a checkpoint of it.
    #[serde(default)]
    pub readers: Vec<String>,
    /// Whether it has a disk; else there is only what it is to start with, because its task has not started yet.
    pub has_disk: bool,
    /// Whether a deployed job declares it.
    pub is_declared: bool,
    /// What is wrong with it, a sentence.
    pub problem: Option<String>,
}

/// A crash-consistent point in the history of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checkpoint {
    /// Its number, which grows by one with each.
    pub seq: u64,
    /// The epoch of its writer.
    pub epoch: u64,
    /// When it was cut, milliseconds since 1970 UTC.
    pub time_ms: u64,
    /// What it takes, bytes.
    pub bytes: u64,
    /// The task had ended: nothing was being written.
    pub is_at_rest: bool,
    /// The first one after a crash.
    pub is_recovered: bool,
    /// It stands for several, which are gone.
    pub is_merged: bool,
    /// The names that it has.
    pub snapshots: Vec<String>,
}

/// A checkpoint with a name, which is kept until the name is taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// The volume, `job.volume.index`.
    pub volume: String,
    /// Its name, unique in the volume.
    pub name: String,
    /// The checkpoint.
    pub seq: u64,
    /// When it was cut, milliseconds since 1970 UTC.
    pub time_ms: u64,
}

/// Asks for a snapshot of volumes, all at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotRequest {
    /// Which, `job.volume.index`: all of one instance of a job.
    pub volumes: Vec<String>,
    /// What to call it.
    pub name: String,
}

/// A point in a history, as it is asked for: `checkpoint:12`, `snapshot:before-upgrade`, `time:1764230400000`
/// (milliseconds since 1970 UTC: the newest checkpoint that is not younger), or `newest`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Point {
    /// The newest checkpoint.
    #[default]
    Newest,
    /// By its number.
    Checkpoint(u64),
    /// By its name.
    Snapshot(String),
    /// The newest one of that time or before, milliseconds since 1970 UTC.
    Time(u64),
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::Newest => formatter.write_str("newest"),
            Point::Checkpoint(seq) => write!(formatter, "checkpoint:{seq}"),
            Point::Snapshot(name) => write!(formatter, "snapshot:{name}"),
            Point::Time(time_ms) => write!(formatter, "time:{time_ms}"),
        }
    }
}

/// A text that names no point in a history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no point in a history: checkpoint:NUMBER, snapshot:NAME, time:MILLISECONDS or newest")]
pub struct PointError {
    text: String,
}

impl FromStr for Point {
    type Err = PointError;

    fn from_str(text: &str) -> Result<Self, PointError> {
        let bad = || PointError { text: text.to_owned() };
        match text.split_once(':') {
            None if text == "newest" => Ok(Point::Newest),
            Some(("checkpoint", seq)) => seq.parse().map(Point::Checkpoint).map_err(|_| bad()),
            Some(("snapshot", name)) if !name.is_empty() => Ok(Point::Snapshot(name.to_owned())),
            Some(("time", time_ms)) => time_ms.parse().map(Point::Time).map_err(|_| bad()),
            None | Some(_) => Err(bad()),
        }
    }
}

impl Serialize for Point {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Asks for volumes to become what they were. Their tasks are stopped meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestoreRequest {
    /// Which, `job.volume.index`: all of one instance of a job. They are restored to one instant.
    pub volumes: Vec<String>,
    /// To what.
    #[schema(value_type = String)]
    pub to: Point,
}

/// A line of the answer to a restore or a clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestoreEvent {
    /// What is being done, a sentence.
    Step(String),
    /// A volume is what it was.
    Restored(Restored),
    /// A volume was made.
    Cloned(Box<Volume>),
    /// It was not done.
    Failed(crate::error::Failure),
}

/// A volume that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restored {
    /// The volume, `job.volume.index`.
    pub volume: String,
    /// What it is like now.
    pub to: Checkpoint,
    /// What it was like before, under the name by which it can be restored again.
    pub replaced: Snapshot,
}

/// Asks for a new volume with what another one held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CloneRequest {
    /// What the new one is called, `job.volume.index`: a volume that a job will declare.
    pub to: String,
    /// As of when.
    #[schema(value_type = String)]
    pub at: Point,
}

/// Asks for a larger volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrowRequest {
    /// Its new size, bytes.
    pub size_bytes: u64,
}

/// A volume that was removed and is kept for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedVolume {
    /// `job.volume.index`.
    pub id: String,
    /// The pool in which it lies.
    pub pool: String,
    /// What it takes, bytes.
    pub used_bytes: u64,
    /// When it was removed, milliseconds since 1970 UTC.
    pub removed_ms: u64,
    /// When it will be gone, milliseconds since 1970 UTC.
    pub gone_ms: u64,
}

/// A file or folder in a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeFile {
    /// Its path within the volume. What is no UTF-8 is shown as U+FFFD.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Its rights, as in chmod(2).
    pub mode: u32,
    /// Its owner's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// Its size, bytes.
    pub size_bytes: u64,
    /// When its content was last changed, milliseconds since 1970 UTC.
    pub modified_ms: i64,
    /// Where a symbolic link leads.
    pub target: Option<String>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

/// A line of a list of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileEvent {
    /// One.
    File(VolumeFile),
    /// What was left out and why, a sentence.
    Skipped(String),
    /// The list ends here because something failed.
    Failed(crate::error::Failure),
}

/// Directories that a node offers for volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// The node that offers it.
    pub node: String,
    /// Where it is.
    pub path: String,
    /// Size of its file system, bytes.
    pub bytes: u64,
    /// Bytes that lith may still use: what is free, less the reserve.
    pub free_bytes: u64,
    /// Bytes that are never used.
    pub reserve_bytes: u64,
    /// Volumes in it.
    pub volumes: u32,
    /// What their history takes, bytes.
    pub history_bytes: u64,
    /// The most that it may take, bytes.
    #[serde(default)]
    pub history_bytes_max: u64,
    /// How long it is kept, seconds.
    #[serde(default)]
    pub history_s: u64,
    /// Why it cannot be used, a sentence.
    pub problem: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_read_as_they_are_written() {
        for text in ["newest", "checkpoint:12", "snapshot:before: it", "time:1764230400000"] {
            assert_eq!(text.parse::<Point>().unwrap().to_string(), text);
        }
        for text in ["", "latest", "checkpoint:", "checkpoint:x", "snapshot:", "time:-1", "at:3"] {
            assert!(text.parse::<Point>().is_err(), "{text}");
        }
    }
}
