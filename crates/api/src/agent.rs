//! What the server and an agent tell each other. Today both live in one process; the messages are those that will
//! cross machines.
//!
//! Both are level-triggered: the server sends all that the node should have, the agent sends all that it sees. A lost
//! message costs time, never correctness. The agent keeps the last [`Desired`] on its own disk.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::job::{FileSpec, TaskSpec, VolumeSpec};
use crate::task::TaskStatus;

/// Everything that a node should have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Which cluster says it; an agent that has tasks of one does not follow another.
    #[serde(default)]
    pub cluster: String,
    /// Grows with every change; an agent never goes back to a lower one.
    pub version: u64,
    /// The allocs of this node.
    pub allocs: Vec<Alloc>,
    /// The services that its tasks may connect to, and those that they are themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceEntry>,
}

/// A task of the cluster, whichever of its instances, as those see it that connect to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEntry {
    /// Its job.
    pub job: String,
    /// Its name.
    pub task: String,
    /// The number that its virtual address follows from, 1 to 32766.
    pub number: u16,
    /// The ports that it declares, as the job file writes them. None as long as its job does not have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}

impl Desired {
    /// Whether the word of a database with this cluster and version may follow this one. The word of another cluster, or
    /// an older one, comes from a database that is new or was restored from a copy.
    #[must_use]
    pub fn is_followed_by(&self, cluster: &str, version: u64) -> bool {
        // Version 0 is what an agent has that was never told anything.
        self.version == 0 || (self.cluster == cluster && version >= self.version)
    }
}

/// One placed instance of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alloc {
    /// `job.group.index`.
    pub id: String,
    /// The version of [`Desired`] that it appeared in: what a former alloc of the same name left is not its own.
    #[serde(default)]
    pub born: u64,
    /// The job's volumes whose disks its tasks have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, VolumeSpec>,
    /// The job's secrets that its tasks see, with what they hold: whoever keeps them keeps them from others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, FileSpec>,
    /// The job's configs that its tasks see.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, FileSpec>,
    /// Its tasks.
    pub tasks: Vec<AllocTask>,
}

/// A task of an alloc.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocTask {
    /// Its name.
    pub name: String,
    /// What was declared.
    pub spec: TaskSpec,
    /// Which version is wanted.
    pub incarnation: u64,
    /// Whether it should run.
    pub run: bool,
    /// The volumes of which it sees checkpoints, for another task has their disks.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub reads: BTreeSet<String>,
}

/// Everything that an agent sees.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The version of [`Desired`] that the agent works towards.
    pub version: u64,
    /// Every task on the node, wanted or not.
    pub tasks: Vec<TaskStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_that_was_followed_is_followed() {
        let said =
            |cluster: &str, version| Desired { cluster: cluster.to_owned(), version, ..Desired::default() };
        for (kept, latest, expected) in [
            (said("", 0), said("a", 0), true),
            (said("a", 5), said("a", 5), true),
            (said("a", 5), said("a", 6), true),
            (said("a", 5), said("a", 4), false),
            (said("a", 5), said("b", 9), false),
        ] {
            assert_eq!(kept.is_followed_by(&latest.cluster, latest.version), expected, "{kept:?} {latest:?}");
        }
    }
}
