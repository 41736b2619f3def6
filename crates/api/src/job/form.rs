//! From core's job to the form that travels.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lith_core::job as core;
use lith_core::job::file::{Content, FileSource};
use lith_core::job::process::{OnFailure, TaskKind, UpdateOrder};
use lith_core::job::{health, process, volume};

use super::{
    FileMount, FileOrigin, FileSpec, GroupSpec, Health, JobSpec, Probe, TaskSpec, Tmpfs, Update, VolumeSpec,
};

impl From<&core::JobSpec> for JobSpec {
    fn from(spec: &core::JobSpec) -> Self {
        let files = |files: &std::collections::BTreeMap<_, FileSource>| {
            files
                .iter()
                .map(|(name, source): (&lith_core::name::FileName, _)| (name.to_string(), source.into()))
                .collect()
        };
        Self {
            name: spec.name.to_string(),
            volumes: spec.volumes.iter().map(|(name, volume)| (name.to_string(), volume.into())).collect(),
            secrets: files(&spec.secrets),
            configs: files(&spec.configs),
            groups: spec.groups.iter().map(|(name, group)| (name.to_string(), group.into())).collect(),
        }
    }
}

impl From<&volume::VolumeSpec> for VolumeSpec {
    fn from(volume: &volume::VolumeSpec) -> Self {
        Self {
            pool: volume.pool.as_ref().map(ToString::to_string),
            size_bytes: volume.size.0,
            max_lag_ms: volume.max_lag.map(millis),
            import: volume.import.clone(),
            is_shared: volume.is_shared,
        }
    }
}

impl From<&FileSource> for FileSpec {
    fn from(source: &FileSource) -> Self {
        let from = match source {
            FileSource::Store => FileOrigin::Store,
            FileSource::File { path, .. } => FileOrigin::File(path.clone()),
            FileSource::Variable { name, .. } => FileOrigin::Variable(name.clone()),
            FileSource::Inline(_) => FileOrigin::Inline,
        };
        let content = source.content().map(|Content(bytes)| STANDARD.encode(bytes));
        Self { from, content }
    }
}

impl From<&core::GroupSpec> for GroupSpec {
    fn from(group: &core::GroupSpec) -> Self {
        Self {
            count: group.count,
            place: texts(&group.place),
            failover_after_ms: group.failover_after.map(millis),
            tasks: group.tasks.iter().map(|(name, task)| (name.to_string(), task.into())).collect(),
        }
    }
}

impl From<&core::TaskSpec> for TaskSpec {
    fn from(task: &core::TaskSpec) -> Self {
        let schedule = match &task.kind {
            TaskKind::Service | TaskKind::Once => None,
            TaskKind::Periodic { schedule } => Some(schedule.clone()),
        };
        Self {
            image: task.image.clone(),
            kind: task.kind.as_str().to_owned(),
            schedule,
            entrypoint: task.entrypoint.clone(),
            command: task.command.clone(),
            env: task.env.clone(),
            user: task.user.clone(),
            groups: task.groups.clone(),
            working_dir: task.working_dir.clone(),
            hostname: task.hostname.clone(),
            timezone: task.timezone.clone(),
            memory_bytes: task.memory.0,
            cpu_millis: task.cpus.0,
            gpu: task.gpu.map(|gpu| gpu.to_string()),
            devices: texts(&task.devices),
            volumes: texts(&task.volumes),
            tmpfs: task.tmpfs.iter().map(tmpfs).collect(),
            shm_bytes: task.shm_size.map(|size| size.0),
            is_read_only: task.is_read_only,
            secrets: task.secrets.iter().map(file_mount).collect(),
            configs: task.configs.iter().map(file_mount).collect(),
            ports: texts(&task.ports),
            publish: texts(&task.publish),
            expose: texts(&task.expose),
            connects: texts(&task.connects),
            egress: texts(&task.egress),
            bandwidth_bits: task.bandwidth.map(|bandwidth| bandwidth.0),
            hosts: task.hosts.iter().map(|(name, address)| (name.clone(), address.to_string())).collect(),
            health: task.health.as_ref().map(health),
            depends_on: task
                .depends_on
                .iter()
                .map(|(task, condition)| (task.to_string(), condition.as_str().to_owned()))
                .collect(),
            restart: task.restart.to_string(),
            stop_signal: task.stop_signal.clone(),
            stop_grace_ms: millis(task.stop_grace),
            update: task.update.as_ref().map(update),
            log_bytes: task.logging.max_size.map(|size| size.0),
            log_files: task.logging.max_files,
            ulimits: task.ulimits.iter().map(|(name, limit)| (name.clone(), limit.to_string())).collect(),
            sysctls: task.sysctls.clone(),
        }
    }
}

fn texts<'a, T: ToString + 'a>(items: impl IntoIterator<Item = &'a T>) -> Vec<String> {
    items.into_iter().map(ToString::to_string).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn tmpfs(tmpfs: &volume::Tmpfs) -> Tmpfs {
    Tmpfs { target: tmpfs.target.clone(), size_bytes: tmpfs.size.map(|size| size.0), mode: tmpfs.mode }
}

fn file_mount(mount: &core::file::FileMount) -> FileMount {
    FileMount {
        source: mount.source.to_string(),
        target: mount.target.clone(),
        uid: mount.uid,
        gid: mount.gid,
        mode: mount.mode,
        is_writable: mount.is_writable,
    }
}

fn health(health: &health::Health) -> Health {
    match health {
        health::Health::Off => Health { is_off: true, ..Health::default() },
        health::Health::Image(times) => Health {
            is_off: false,
            probe: None,
            every_ms: times.every.map(millis),
            timeout_ms: times.timeout.map(millis),
            retries: times.retries,
            start_ms: times.start.map(millis),
            start_every_ms: times.start_every.map(millis),
        },
        health::Health::Check(check) => Health {
            is_off: false,
            probe: Some(probe(&check.probe)),
            every_ms: Some(millis(check.every)),
            timeout_ms: Some(millis(check.timeout)),
            retries: Some(check.retries),
            start_ms: Some(millis(check.start)),
            start_every_ms: Some(millis(check.start_every)),
        },
    }
}

fn probe(probe: &health::Probe) -> Probe {
    match probe {
        health::Probe::Http { port, path } => Probe::Http { port: *port, path: path.clone() },
        health::Probe::Tcp { port } => Probe::Tcp(*port),
        health::Probe::Command(words) => Probe::Command(words.clone()),
        health::Probe::Shell(line) => Probe::Shell(line.clone()),
    }
}

fn update(update: &process::Update) -> Update {
    Update {
        parallel: update.parallel,
        delay_ms: millis(update.delay),
        watch_ms: millis(update.watch),
        order: word(&ORDERS, update.order).to_owned(),
        on_failure: word(&FAILURES, update.on_failure).to_owned(),
    }
}

/// Orders of an update with their words.
pub(super) const ORDERS: [(&str, UpdateOrder); 2] =
    [("stop-first", UpdateOrder::StopFirst), ("start-first", UpdateOrder::StartFirst)];

/// What follows a failed update, with its words.
pub(super) const FAILURES: [(&str, OnFailure); 3] =
    [("pause", OnFailure::Pause), ("continue", OnFailure::Continue), ("rollback", OnFailure::Rollback)];

fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}
