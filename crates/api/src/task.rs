//! What a person sees of tasks and jobs.

use lith_core::deploy::Instances;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::job::JobSpec;

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Waits for its next attempt.
    Waiting,
    /// Its image is being fetched.
    Fetching,
    /// Its machine boots.
    Starting,
    /// Its process runs.
    Running,
    /// It is being stopped.
    Stopping,
    /// Stopped by a person.
    Stopped,
    /// Ended, and its policy says that it stays so.
    Finished,
    /// Being removed from its node.
    Gone,
}

impl From<lith_core::task::Phase> for Phase {
    fn from(phase: lith_core::task::Phase) -> Self {
        use lith_core::task::Phase as Core;
        match phase {
            Core::Waiting => Self::Waiting,
            Core::Fetching => Self::Fetching,
            Core::Starting => Self::Starting,
            Core::Running => Self::Running,
            Core::Stopping => Self::Stopping,
            Core::Stopped => Self::Stopped,
            Core::Finished => Self::Finished,
            Core::Gone => Self::Gone,
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Fetching => "fetching",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
            Self::Gone => "removing",
        })
    }
}

/// The health of a running task, by the check that its job or its image declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No check has succeeded yet.
    Starting,
    /// The last check succeeded, or too few have failed since.
    Healthy,
    /// Too many have failed in a row. It runs on.
    Unhealthy,
}

impl From<lith_core::task::HealthState> for Health {
    fn from(state: lith_core::task::HealthState) -> Self {
        use lith_core::task::HealthState as Core;
        match state {
            Core::Starting => Self::Starting,
            Core::Healthy => Self::Healthy,
            Core::Unhealthy => Self::Unhealthy,
        }
    }
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            // The word alone would be taken for the phase.
            Self::Starting => "health starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// A task of an alloc, as its node reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskStatus {
    /// `job.group.index.task`.
    pub id: String,
    /// Its job.
    pub job: String,
    /// Its group.
    pub group: String,
    /// Which instance of the group.
    pub index: u32,
    /// Its name.
    pub task: String,
    /// The node it is on.
    pub node: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// It runs, and answers on every TCP port that it publishes.
    pub is_ready: bool,
    /// One sentence why it is not running or not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What a person may do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The version that the status speaks of; see the job's.
    pub incarnation: u64,
    /// Reference of its image.
    pub image: String,
    /// Digest of the image that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// Since when its process runs: milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_since_ms: Option<u64>,
    /// Its health, while it runs and has a check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What its last failed check said, if one failed since the last success. It comes from inside the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_output: Option<String>,
    /// Restarts since it was deployed.
    pub restarts: u32,
    /// How it last ended, as a sentence without its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// The node could not even begin its last attempt, and tries again: its image is out of reach, its port is taken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_held_up: bool,
    /// Address of its guest on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Published ports, as in the job file.
    pub publish: Vec<String>,
}

/// A line of `GET /v1/jobs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobSummary {
    /// Its name.
    pub name: String,
    /// Grows with every change.
    pub version: u64,
    /// Tasks that should run, over all instances.
    pub wanted: u32,
    /// Tasks that run and answer.
    pub ready: u32,
    /// When it was first deployed: milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it was last changed.
    pub updated_ms: u64,
}

/// Answer of `GET /v1/jobs/{job}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobDetail {
    /// The line of the list.
    pub summary: JobSummary,
    /// What was declared.
    pub spec: JobSpec,
    /// What is there.
    pub tasks: Vec<TaskStatus>,
}

/// Figures of a task's machine, as its guest tells them. What a guest says may be a lie: show it, never build on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TaskStats {
    /// Memory the guest's kernel manages, bytes.
    pub memory_total_bytes: u64,
    /// Memory that processes could still get, bytes.
    pub memory_available_bytes: u64,
    /// Page cache, bytes.
    pub memory_cache_bytes: u64,
    /// Memory of the task's own processes, page cache excluded, bytes.
    pub memory_task_bytes: u64,
    /// CPU time of all CPUs since boot, idle excluded, microseconds.
    pub cpu_us: u64,
    /// CPU time of the task's own processes, microseconds.
    pub cpu_task_us: u64,
    /// Size of the disk that holds what the task writes, bytes.
    pub disk_total_bytes: u64,
    /// Bytes of it in use.
    pub disk_used_bytes: u64,
    /// Load average of 1, 5 and 15 minutes, in hundredths.
    pub load_hundredths: [u32; 3],
    /// Processes of the task.
    pub processes: u32,
    /// Time since the machine started, milliseconds.
    pub uptime_ms: u64,
}

/// What is asked of a job or a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// Stop, and keep everything.
    Stop,
    /// Start what was stopped or has finished.
    Start,
    /// Stop and start.
    Restart,
}

/// Body of `POST /v1/jobs/{job}/ask`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AskRequest {
    /// What.
    pub ask: Ask,
    /// Only this task; every task of the job when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// A line of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The task's group.
    pub group: String,
    /// The task.
    pub task: String,
    /// What happens to it.
    pub kind: ChangeKind,
    /// The same as a sentence without its subject.
    pub text: String,
}

/// What happens to a task in a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It is new.
    Create,
    /// Its declaration changed: it is stopped and started.
    Restart,
    /// Its declaration changed, and what runs takes that over.
    Adjust,
    /// Only the number of its instances changes.
    Scale,
    /// It was stopped; deploying starts it.
    Start,
    /// It goes on as it is.
    Keep,
    /// It is stopped, and what it had is removed.
    Remove,
}

impl From<&lith_core::deploy::Change> for Change {
    fn from(change: &lith_core::deploy::Change) -> Self {
        use lith_core::deploy::ChangeKind as Core;
        let (kind, text) = match &change.kind {
            Core::Create { count: 1 } => (ChangeKind::Create, "is created".to_owned()),
            Core::Create { count } => (ChangeKind::Create, format!("is created, {count} instances")),
            Core::Restart { keys, instances } => {
                let text = format!("restarts: {} changed", keys.join(", "));
                (ChangeKind::Restart, with_instances(&text, *instances))
            }
            Core::Adjust { keys, instances } => {
                let text = format!("is updated in place: {} changed", keys.join(", "));
                (ChangeKind::Adjust, with_instances(&text, *instances))
            }
            Core::Scale(instances) => (ChangeKind::Scale, instances_text(*instances)),
            Core::Start(instances) => (ChangeKind::Start, with_instances("is started", *instances)),
            Core::Keep => (ChangeKind::Keep, "stays as it is".to_owned()),
            Core::Remove => (ChangeKind::Remove, "is removed".to_owned()),
        };
        Self { group: change.group.to_string(), task: change.task.to_string(), kind, text }
    }
}

fn with_instances(text: &str, instances: Instances) -> String {
    if instances.from == instances.to {
        return text.to_owned();
    }
    format!("{text}; {}", instances_text(instances))
}

/// What is lost with an instance is said: nothing brings it back.
fn instances_text(Instances { from, to }: Instances) -> String {
    let removed = if to < from { ", the others are removed with their disks" } else { "" };
    let noun = if to == 1 { "instance" } else { "instances" };
    format!("goes from {from} to {to} {noun}{removed}")
}

/// Answer of `PUT /v1/jobs/{job}`: what it changes, or would change with `?dry_run=true`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// The job.
    pub job: String,
    /// The version that it is planned from, to be sent back as `?if_version=`; 0 when there is no such job yet.
    #[serde(default)]
    pub from_version: u64,
    /// Its version afterwards.
    pub version: u64,
    /// A line per task.
    pub changes: Vec<Change>,
    /// What becomes of its volumes, but for those that stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeChange>,
    /// What a person should know before, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What becomes of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeChange {
    /// `job.volume.index`.
    pub id: String,
    /// Its name in the job.
    pub volume: String,
    /// `Create`, or `Keep` for one that the job does not declare any more.
    pub kind: ChangeKind,
    /// The same in words.
    pub text: String,
    /// The folder, as the job file names it, that a new one starts with: sent as a tar archive to
    /// `PUT /v1/volumes/{id}/content` before the job is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<String>,
}

#[cfg(test)]
mod tests {
    use lith_core::deploy;

    use super::*;

    #[test]
    fn what_is_removed_is_said() {
        let text = |kind: deploy::ChangeKind| {
            let (group, task) = ("main".parse().unwrap(), "web".parse().unwrap());
            Change::from(&deploy::Change { group, task, kind }).text
        };
        let fewer = Instances { from: 3, to: 1 };
        let more = Instances { from: 1, to: 3 };
        let keys = vec!["image", "env"];
        for (kind, expected) in [
            (
                deploy::ChangeKind::Scale(fewer),
                "goes from 3 to 1 instance, the others are removed with their disks",
            ),
            (deploy::ChangeKind::Scale(more), "goes from 1 to 3 instances"),
            (
                deploy::ChangeKind::Restart { keys: keys.clone(), instances: fewer },
                "restarts: image, env changed; goes from 3 to 1 instance, the others are removed with their disks",
            ),
            (
                deploy::ChangeKind::Adjust { keys: vec!["connects", "egress"], instances: more },
                "is updated in place: connects, egress changed; goes from 1 to 3 instances",
            ),
            (
                deploy::ChangeKind::Restart { keys, instances: Instances { from: 1, to: 1 } },
                "restarts: image, env changed",
            ),
            (deploy::ChangeKind::Start(more), "is started; goes from 1 to 3 instances"),
        ] {
            assert_eq!(text(kind), expected);
        }
    }
}
