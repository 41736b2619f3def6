//! The process that serves the volumes of an alloc: their devices, their checkpoints, and a socket on which the node asks
//! for more. It outlives the node's daemon. Owns the threads and the time; it must not know who mounts what, or why.
//!
//! ```text
//!  VMM ═══ vhost-user ═══▶ a thread for each device ──▶ Volume
//!                                  cutter: all at one instant, each interval while something is dirty
//!                                  keeper: marks, folding, space
//!  node, supervisors ═══▶ a thread for each connection: status, snapshots, growth, the end
//! ```
//!
//! A connection that says nothing is a lifeline: it closes when this process ends, however that comes.

mod client;
mod control;
mod cutter;
mod keeper;
mod lock;
mod port;
mod protocol;
mod run;
mod sys;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use crate::blk::Access;
pub use client::{Client, ClientError};
pub use lock::VolumeLock;
pub use protocol::{Answer, CutPoint, Failure, Ready, Request, SnapshotMade, Status, VolumeStatus};
pub use run::main;

/// The first inherited descriptor: the control socket, then one for each volume, in their order. Standard input, output and
/// error come before.
pub const DESCRIPTOR_FIRST: i32 = 3;

/// What the process is told when it is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Whose volumes these are, for who finds one of them taken.
    pub holder: String,
    /// Whether they are held to be written, or checkpoints of them are read, which needs no more than to read their files.
    pub access: Access,
    /// Between two checkpoints while something changes, milliseconds.
    pub interval_ms: u64,
    /// The volumes.
    pub volumes: Vec<Served>,
}

/// A volume to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// What it is called.
    pub id: String,
    /// Its folder.
    pub folder: PathBuf,
    /// By this the guest finds it.
    pub serial: String,
    /// Bytes of its file system that are never used.
    pub reserve_bytes: u64,
    /// How long its history is kept, seconds.
    pub window_s: u64,
    /// How many bytes of history it may have.
    pub history_bytes_max: u64,
    /// Queues that the guest may use.
    pub queues: u16,
    /// The identity that it gets if it has none yet, hexadecimal.
    pub uuid: String,
}
