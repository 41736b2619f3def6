//! What a deployment changes: pure, so that `plan` shows exactly what `deploy` does, as long as the tasks are as they were.
//!
//! A job's stored form carries, per task, the *incarnation* in which the task last changed. A task whose declaration
//! stays the same keeps its incarnation, and so keeps running; so does one that is well and of which only changed what the
//! node does for it. Incarnations are numbered over the whole cluster: a job that is removed and deployed again, under the
//! name of the old one, must not look like it.

pub mod ports;

use std::collections::{BTreeMap, BTreeSet};

use crate::job::file::{FileMount, FileSource};
use crate::job::{GroupSpec, JobSpec, TaskSpec};
use crate::name::{FileName, GroupName, TaskName};
use crate::task::Incarnation;

/// A task of a job, without the instance: `group` and `task`.
pub type TaskKey = (GroupName, TaskName);

/// What is wanted of a task of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desire {
    /// Grows when a restart is asked for, and when the declaration changes in what a running task cannot take over.
    pub incarnation: Incarnation,
    /// `false` after `lith stop`.
    pub run: bool,
}

/// A deployed job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What was declared.
    pub spec: JobSpec,
    /// Grows with every change to the job.
    pub version: u64,
    /// What is wanted of each of its tasks.
    pub desires: BTreeMap<TaskKey, Desire>,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The task's group.
    pub group: GroupName,
    /// The task.
    pub task: TaskName,
    /// What happens to it.
    pub kind: ChangeKind,
}

/// What happens to a task in a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new, with this many instances.
    Create {
        /// Instances.
        count: u32,
    },
    /// Its declaration changed: it is stopped and started.
    Restart {
        /// The keys of the file that differ.
        keys: Vec<&'static str>,
        /// How the number of its instances changes with it.
        instances: Instances,
    },
    /// Its declaration changed, and what runs takes that over.
    Adjust {
        /// The keys of the file that differ.
        keys: Vec<&'static str>,
        /// How the number of its instances changes with it.
        instances: Instances,
    },
    /// Nothing of it changed, but the number of instances.
    Scale(Instances),
    /// It was stopped by a person; deploying starts it.
    Start(Instances),
    /// It goes on as it is.
    Keep,
    /// It is not declared any more: stopped, and what it had is removed.
    Remove,
}

/// The number of instances of a task, before and after. What is above the new number is removed with its disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instances {
    /// So far.
    pub from: u32,
    /// From now on.
    pub to: u32,
}

/// What a deployment does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The job as it will be stored.
    pub job: Job,
    /// A line per task, in order of name.
    pub changes: Vec<Change>,
}

impl Plan {
    /// Whether carrying it out changes anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|change| change.kind == ChangeKind::Keep)
    }
}

/// The keys of a task that the node carries out around it, so that a running one need not notice a change.
const TAKEN_OVER: [&str; 4] = ["ports", "connects", "egress", "bandwidth"];

/// Whether what runs can take over these changes. Egress is only added to: what names have opened to a running task is not
/// told apart by the entries that allowed it.
fn is_taken_over(keys: &[&str], before: &TaskSpec, after: &TaskSpec) -> bool {
    keys.iter().all(|key| TAKEN_OVER.contains(key))
        && before.egress.iter().all(|entry| after.egress.contains(entry))
}

/// Plans the deployment of `spec` over what is deployed now under its name. `next` is greater than every incarnation
/// that was ever given in this cluster. In `well` are the tasks of which every instance is: what is not, may be so for want
/// of what is declared now, and is started anew.
#[must_use]
pub fn plan(current: Option<&Job>, spec: JobSpec, next: Incarnation, well: &BTreeSet<TaskKey>) -> Plan {
    let version = current.map_or(0, |job| job.version) + 1;
    let mut desires = BTreeMap::new();
    let mut changes = Vec::new();
    for (group, task, declared) in spec.tasks() {
        let key = (group.clone(), task.clone());
        let count = spec.groups[group].count;
        let before = current.and_then(|job| before(job, &key));
        let brought = current.map_or_else(Vec::new, |job| brought_keys(&job.spec, &spec, (task, declared)));
        let kind = change_kind(before, (declared, count), brought, well.contains(&key));
        let incarnation = match (&kind, before) {
            // What was stopped may have finished before: only a new incarnation runs again.
            (ChangeKind::Create { .. } | ChangeKind::Restart { .. } | ChangeKind::Start(_), _)
            | (_, None) => next,
            (_, Some((.., desire))) => desire.incarnation,
        };
        desires.insert(key, Desire { incarnation, run: true });
        changes.push(Change { group: group.clone(), task: task.clone(), kind });
    }
    for (group, task) in current.iter().flat_map(|job| job.desires.keys()) {
        if !desires.contains_key(&(group.clone(), task.clone())) {
            changes.push(Change { group: group.clone(), task: task.clone(), kind: ChangeKind::Remove });
        }
    }
    changes.sort_by(|a, b| (&a.group, &a.task).cmp(&(&b.group, &b.task)));
    let is_same = changes.iter().all(|change| change.kind == ChangeKind::Keep)
        && current.is_some_and(|job| job.spec == spec);
    let version = if is_same { version.saturating_sub(1).max(1) } else { version };
    Plan { job: Job { spec, version, desires }, changes }
}

fn before<'a>(job: &'a Job, key: &TaskKey) -> Option<(&'a GroupSpec, &'a TaskSpec, &'a Desire)> {
    let group = job.spec.groups.get(&key.0)?;
    Some((group, group.tasks.get(&key.1)?, job.desires.get(key)?))
}

fn change_kind(
    before: Option<(&GroupSpec, &TaskSpec, &Desire)>,
    (declared, count): (&TaskSpec, u32),
    brought: Vec<&'static str>,
    is_well: bool,
) -> ChangeKind {
    let Some((group, task, desire)) = before else {
        return ChangeKind::Create { count };
    };
    let mut keys = changed_keys(task, declared);
    keys.extend(brought);
    let mut told = BTreeSet::new();
    keys.retain(|key| told.insert(*key));
    let instances = Instances { from: group.count, to: count };
    if !keys.is_empty() && is_well && desire.run && is_taken_over(&keys, task, declared) {
        ChangeKind::Adjust { keys, instances }
    } else if !keys.is_empty() {
        ChangeKind::Restart { keys, instances }
    } else if !desire.run {
        ChangeKind::Start(instances)
    } else if instances.from != instances.to {
        ChangeKind::Scale(instances)
    } else {
        ChangeKind::Keep
    }
}

/// The keys of a task that mean something else than before, though they read the same: by what the rest of the job says.
fn brought_keys(
    before: &JobSpec,
    after: &JobSpec,
    (name, task): (&TaskName, &TaskSpec),
) -> Vec<&'static str> {
    let files = files_differ(before, after, task).then_some(match task.secrets.is_empty() {
        true => "configs",
        false => "secrets",
    });
    // A disk that it had, and of which it sees checkpoints now, or the other way round.
    let disks = (before.reads(name) != after.reads(name)).then_some("volumes");
    disks.into_iter().chain(files).collect()
}

/// Whether a secret or config that the task sees holds something else than before.
fn files_differ(before: &JobSpec, after: &JobSpec, task: &TaskSpec) -> bool {
    let content = |files: &BTreeMap<FileName, FileSource>, name: &FileName| {
        files.get(name).and_then(FileSource::content).cloned()
    };
    let differs = |before, after, mounts: &[FileMount]| {
        mounts.iter().any(|mount| content(before, &mount.source) != content(after, &mount.source))
    };
    differs(&before.secrets, &after.secrets, &task.secrets)
        || differs(&before.configs, &after.configs, &task.configs)
}

/// Compares two values field by field. The first is taken apart whole, so that a new field does not compile until it is
/// named here.
macro_rules! differing {
    ($before:expr, $after:expr, $type:ident: $($field:ident = $key:literal,)*) => {{
        let $type { $($field),* } = $before;
        [$(($key, *$field != $after.$field)),*].into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key)
    }};
}

/// The keys of the job file in which two declarations of a task differ.
fn changed_keys(before: &TaskSpec, after: &TaskSpec) -> Vec<&'static str> {
    let keys = differing! { before, after, TaskSpec:
        image = "image",
        kind = "kind",
        entrypoint = "entrypoint",
        command = "command",
        env = "env",
        user = "user",
        groups = "groups",
        working_dir = "working_dir",
        hostname = "hostname",
        timezone = "timezone",
        memory = "memory",
        cpus = "cpus",
        gpu = "gpu",
        devices = "devices",
        volumes = "volumes",
        tmpfs = "tmpfs",
        shm_size = "shm_size",
        is_read_only = "read_only",
        secrets = "secrets",
        configs = "configs",
        ports = "ports",
        publish = "publish",
        expose = "expose",
        connects = "connects",
        egress = "egress",
        bandwidth = "bandwidth",
        hosts = "hosts",
        health = "health",
        depends_on = "depends_on",
        restart = "restart",
        stop_signal = "stop_signal",
        stop_grace = "stop_grace",
        update = "update",
        logging = "logging",
        ulimits = "ulimits",
        sysctls = "sysctls",
    };
    keys.collect()
}

/// What a person asks of a deployed job, or of one of its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Stop, and keep everything.
    Stop,
    /// Start what was stopped, or has finished.
    Start,
    /// Stop and start.
    Restart,
}

/// Carries out what a person asks, on the tasks in `keys`. Returns the job as it will be stored. `next` is as in
/// [`plan`].
#[must_use]
pub fn ask(job: &Job, ask: Ask, keys: &BTreeSet<TaskKey>, next: Incarnation) -> Job {
    let incarnation = next;
    let mut next = job.clone();
    let mut has_changed = false;
    for (key, desire) in next.desires.iter_mut().filter(|(key, _)| keys.contains(key)) {
        let before = *desire;
        match ask {
            Ask::Stop => desire.run = false,
            // A finished task starts again only as a new incarnation; a running one must not notice.
            Ask::Start if desire.run => {}
            Ask::Start | Ask::Restart => {
                *desire = Desire { incarnation, run: true };
            }
        }
        has_changed |= before != *desire;
        debug_assert!(job.desires.contains_key(key), "only known tasks are changed");
    }
    if has_changed {
        next.version = job.version + 1;
    }
    next
}

#[cfg(test)]
pub(crate) mod tests;
