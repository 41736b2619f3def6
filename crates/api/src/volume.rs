//! What a person sees of volumes.

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
    /// Ceiling of what it holds, bytes; 0 before it has a disk.
    pub size_bytes: u64,
    /// What it takes of the node's disk, bytes.
    pub used_bytes: u64,
    /// Whether it has a disk; else there is only what it is to start with, because its task has not started yet.
    pub has_disk: bool,
    /// Whether a deployed job declares it.
    pub is_declared: bool,
}
