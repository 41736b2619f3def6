//! What is known of the machine: version, doctor.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET /v1/version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Version of the running server.
    pub version: String,
    /// Process id of the running server.
    pub pid: u32,
    /// Name of the node.
    pub node: String,
    /// Its data folder, by which one instance on a machine is told from another.
    pub data_dir: String,
}

/// Lines of the answer of `POST /v1/down`. The last one is its last word: the daemon ends after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Down {
    /// These tasks have not stopped yet.
    Stopping {
        /// Their identifiers.
        tasks: Vec<String>,
    },
    /// Everything is stopped and removed; the daemon ends.
    Stopped,
    /// The daemon gives up; what it could not stop or remove stays.
    Failed {
        /// Why.
        failure: crate::error::Failure,
    },
}

/// Verdict of one check of `lith doctor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// lith works, but not as well as it could.
    Warning,
    /// lith cannot run tasks until this is repaired.
    Failed,
}

/// One check of `lith doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// The verdict.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// How to repair it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
