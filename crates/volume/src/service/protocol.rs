//! What is said on the control socket: one line of JSON each way.

use serde::{Deserialize, Serialize};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How all volumes are.
    Status,
    /// A name for the newest checkpoint of these volumes, after a cut.
    Snapshot {
        /// Which, by their identifiers.
        volumes: Vec<String>,
        /// What to call it.
        name: String,
    },
    /// Takes a name away.
    ForgetSnapshot {
        /// Of which volume.
        volume: String,
        /// The name.
        name: String,
    },
    /// Makes a volume larger.
    Grow {
        /// Which.
        volume: String,
        /// Its new size, bytes.
        bytes: u64,
    },
    /// A last checkpoint, then the end. It is refused while a guest has one of the volumes.
    End,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Snapshot`].
    Snapshots(Vec<SnapshotMade>),
    /// It is done.
    Done,
    /// It was not done.
    Failed(Failure),
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A sentence.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// The one line on standard output, when all volumes are open or why they are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// They are served.
    Serves,
    /// They are not.
    Failed(Failure),
    /// There is nothing to be read yet.
    Waits(Failure),
}

/// How all volumes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Each.
    pub volumes: Vec<VolumeStatus>,
}

/// How a volume is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Which.
    pub id: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// What was written since the last checkpoint, bytes.
    pub dirty_bytes: u64,
    /// The newest checkpoint.
    pub tip: CutPoint,
    /// The oldest one that can be read.
    pub base: CutPoint,
    /// Bytes of the history.
    pub history_bytes: u64,
    /// Whether a guest has it.
    pub is_attached: bool,
    /// What is wrong, a sentence.
    pub problem: Option<String>,
    /// Blocks kept for the base since the start.
    pub kept_blocks: u64,
    /// Blocks that a writer handed to a cut since the start.
    pub rescued_blocks: u64,
    /// Times that a writer had to wait since the start.
    pub waits: u64,
    /// Bytes of checkpoints since the start.
    pub segment_bytes: u64,
    /// The longest of the last cuts' holds on the guest's requests, microseconds.
    pub cut_pause_us_max: u64,
}

/// A checkpoint of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutPoint {
    /// The volume.
    pub volume: String,
    /// The epoch of its writer.
    pub epoch: u64,
    /// Its number.
    pub seq: u64,
    /// When it was cut, nanoseconds since 1970 UTC.
    pub time_ns: i64,
}

/// A checkpoint that has got a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMade {
    /// The volume.
    pub volume: String,
    /// The name.
    pub name: String,
    /// The checkpoint.
    pub seq: u64,
    /// When it was cut, nanoseconds since 1970 UTC.
    pub time_ns: i64,
}
