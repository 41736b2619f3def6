//! A job as it travels and as it is stored, and its conversions.
//!
//! The wire form is canonical: quantities are numbers with their unit in the name, ports are the short text of the job
//! file. Adding an optional field keeps version 1 readable; anything else needs a new version.

use std::collections::BTreeMap;

use lith_core::name::NameError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod form;
mod parse;
#[cfg(test)]
mod tests;

/// What one file declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobSpec {
    /// Its name: a DNS label.
    pub name: String,
    /// Its volumes by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, VolumeSpec>,
    /// Its secrets by name. An answer of the server leaves their contents out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, FileSpec>,
    /// Its configs by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, FileSpec>,
    /// Its groups by name.
    pub groups: BTreeMap<String, GroupSpec>,
}

impl JobSpec {
    /// The job without what its secrets hold: what is shown to people.
    #[must_use]
    pub fn without_secrets(mut self) -> Self {
        for secret in self.secrets.values_mut() {
            secret.content = None;
        }
        self
    }
}

/// A volume that a job declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeSpec {
    /// The pool that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Ceiling of what it holds, in bytes.
    pub size_bytes: u64,
    /// How much of the last changes a crash of the node may cost, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag_ms: Option<u64>,
    /// The folder of whoever deploys that a new volume starts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<String>,
    /// Whether several tasks write to it at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_shared: bool,
}

/// A secret or config of a job.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileSpec {
    /// Where its content comes from.
    pub from: FileOrigin,
    /// What it holds, in base64; absent when the cluster's store knows, and in answers where it is secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl std::fmt::Debug for FileSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSpec").field("from", &self.from).finish_non_exhaustive()
    }
}

/// Where the content of a secret or config comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileOrigin {
    /// The cluster's store.
    Store,
    /// A file of whoever deploys: its path.
    File(String),
    /// A variable of whoever deploys: its name.
    Variable(String),
    /// It stands in the job file.
    Inline,
}

/// What is placed on one node as a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupSpec {
    /// Instances.
    pub count: u32,
    /// The only nodes it may run on; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub place: Vec<String>,
    /// How long its node may be silent before it moves, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover_after_ms: Option<u64>,
    /// Its tasks by name.
    pub tasks: BTreeMap<String, TaskSpec>,
}

/// One image in one microVM. What is not given is as in the job file's reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskSpec {
    /// Reference of the image.
    pub image: String,
    /// `service`, `once`, `periodic`.
    #[serde(default = "service", skip_serializing_if = "is_service")]
    pub kind: String,
    /// When a periodic task runs: five fields as in crontab(5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Replaces the image's entrypoint and discards its command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Added to the image's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Replaces the image's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Further groups of the process, by name or number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Replaces the image's working directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Host name that the process sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Time zone that the process sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Ceiling of memory in bytes.
    pub memory_bytes: u64,
    /// Ceiling of processor time, in thousandths of a processor.
    pub cpu_millis: u32,
    /// Graphics processors: `all`, or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Devices: `/dev/fuse`, `/dev/ttyUSB0:/dev/ttyACM0`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Where volumes are mounted: `data:/var/lib/app`, `/srv/media:/media:ro`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// File systems in memory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<Tmpfs>,
    /// Size of `/dev/shm` in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_bytes: Option<u64>,
    /// Whether the image's own files cannot be changed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_read_only: bool,
    /// Secrets that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<FileMount>,
    /// Configs that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<FileMount>,
    /// Ports that it listens on: `80`, `53/udp`, `9000-9010`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
    /// Ports offered on the node: `8080:80`, `127.0.0.1:53:53/udp`, `9000-9010:9000-9010`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<String>,
    /// Names under which people's browsers find it: `photos.example.org:8080`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// What it may reach in the cluster: `redis`, `db:5432`, `postgres/db:5432 as db`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connects: Vec<String>,
    /// What it may reach outside: `internet`, `api.example.org:443`, `192.168.1.0/24`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<String>,
    /// Most that it sends, and that it receives, in bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_bits: Option<u64>,
    /// Further lines of its `/etc/hosts`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, String>,
    /// How its health is asked for; as the image says when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What other tasks must have reached before it starts: `started`, `healthy`, `completed`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<String, String>,
    /// `always`, `on-failure`, `on-failure:3`, `no`.
    pub restart: String,
    /// Replaces the image's stop signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Time to stop by itself, in milliseconds.
    pub stop_grace_ms: u64,
    /// How instances go over to a new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    /// Size at which a new file of its log is begun, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// Files of its log that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_files: Option<u32>,
    /// Limits of its process: `nofile` to `65536` or `1024:65536`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, String>,
    /// Settings of the guest's kernel.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
}

/// A file system in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tmpfs {
    /// Where.
    pub target: String,
    /// Ceiling in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Permissions of its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

/// A secret or config in a task's file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileMount {
    /// Its name in the job.
    pub source: String,
    /// Where it is found.
    pub target: String,
    /// Number of its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Number of its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Its permissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Whether the task may change it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_writable: bool,
}

/// How a task's health is asked for. Without a probe, it is the image's with other times.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// No check at all.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_off: bool,
    /// What is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// Between checks, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// After which a check has failed, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Failures in a row that make the task unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Time in which failures do not count, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ms: Option<u64>,
    /// Between checks in that time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_every_ms: Option<u64>,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// `GET` of a path.
    Http {
        /// Port of the task.
        port: u16,
        /// The path.
        path: String,
    },
    /// A port takes a connection.
    Tcp(u16),
    /// A program ends with code 0.
    Command(Vec<String>),
    /// The same, read by the image's shell.
    Shell(String),
}

/// How instances go over to a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Update {
    /// Instances that change at once.
    pub parallel: u32,
    /// Between batches, in milliseconds.
    pub delay_ms: u64,
    /// How long a new instance is watched, in milliseconds.
    pub watch_ms: u64,
    /// `stop-first`, `start-first`.
    pub order: String,
    /// `pause`, `continue`, `rollback`.
    pub on_failure: String,
}

fn service() -> String {
    String::from("service")
}

fn is_service(kind: &String) -> bool {
    kind == "service"
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Why a job that travelled is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// A name is not a DNS label.
    #[error("{what} has a name that is not allowed")]
    Name {
        /// Job, group or task, with the name.
        what: String,
        /// Why.
        #[source]
        source: NameError,
    },
    /// A field has a value that is not allowed.
    #[error("{field} of task \"{task}\": {why}")]
    Field {
        /// The task.
        task: String,
        /// The field.
        field: &'static str,
        /// The value and the rule.
        why: String,
    },
    /// Something that the job declares is not allowed.
    #[error("{what}: {why}")]
    Resource {
        /// What, with its name.
        what: String,
        /// The rule.
        why: String,
    },
    /// A number of members is out of range.
    #[error("{what}: {why}")]
    Members {
        /// Of what.
        what: String,
        /// The rule.
        why: String,
    },
}
