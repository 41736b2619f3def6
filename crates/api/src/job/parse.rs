//! From the form that travels to core's job: every field is checked again, for anybody may send a request.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lith_core::job as core;
use lith_core::job::file::{CONTENT_BYTES_MAX, CONTENTS_BYTES_MAX, Content, FileSource};
use lith_core::job::health::{Condition, HEALTH_TIME_MAX, HealthCheck, HealthTimes, RETRIES_MAX};
use lith_core::job::process::TaskKind;
use lith_core::job::volume::{MAX_LAG_MAX, MountSource, VOLUME_SIZE_MAX, VOLUME_SIZE_MIN, VOLUMES_MAX};
use lith_core::job::{access, health, process, volume};
use lith_core::name::{FileName, NameError, TaskName};
use lith_core::value;

use super::form::{FAILURES, ORDERS};
use super::{
    FileMount, FileOrigin, FileSpec, GroupSpec, Health, JobError, JobSpec, Probe, TaskSpec, VolumeSpec,
};

/// Longest text of a single field of a request: an environment value may hold a certificate chain, not a disk.
const TEXT_BYTES_MAX: usize = 128 << 10;

impl TryFrom<&JobSpec> for core::JobSpec {
    type Error = JobError;

    fn try_from(spec: &JobSpec) -> Result<Self, JobError> {
        let name = parse_name("the job", &spec.name)?;
        check_most("volumes of the job", spec.volumes.len(), VOLUMES_MAX)?;
        check_members("groups of the job", spec.groups.len(), core::MEMBERS_MAX)?;
        let mut volumes = BTreeMap::new();
        for (name, volume) in &spec.volumes {
            volumes.insert(parse_name("a volume", name)?, volume.parse(name)?);
        }
        let job = Self {
            name,
            volumes,
            secrets: parse_files("secret", &spec.secrets)?,
            configs: parse_files("config", &spec.configs)?,
            groups: parse_groups(&spec.groups)?,
        };
        check_contents(&job)?;
        check_references(&job)?;
        check_published(&job)?;
        Ok(job)
    }
}

impl TaskSpec {
    /// The task as core knows it.
    ///
    /// # Errors
    /// Says which field of the task called `name` is not valid.
    pub fn parse(&self, name: &str) -> Result<core::TaskSpec, JobError> {
        parse_task(name, self)
    }
}

impl VolumeSpec {
    /// The volume as core knows it.
    ///
    /// # Errors
    /// Says what of the volume called `name` is not valid.
    pub fn parse(&self, name: &str) -> Result<volume::VolumeSpec, JobError> {
        parse_volume(self).map_err(|why| JobError::Resource { what: format!("volume \"{name}\""), why })
    }
}

impl FileSpec {
    /// The file as core knows it. `noun` is `secret` or `config`.
    ///
    /// # Errors
    /// Says what of the file called `name` is not valid.
    pub fn parse(&self, noun: &str, name: &str) -> Result<FileSource, JobError> {
        parse_file(self).map_err(|why| JobError::Resource { what: format!("{noun} \"{name}\""), why })
    }
}

fn parse_name<T: std::str::FromStr<Err = NameError>>(what: &str, name: &str) -> Result<T, JobError> {
    name.parse().map_err(|source| JobError::Name { what: what.to_owned(), source })
}

fn check_members(what: &str, count: usize, most: usize) -> Result<(), JobError> {
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(JobError::Members { what: what.to_owned(), why: format!("{count} is not between 1 and {most}") })
}

fn check_most(what: &str, count: usize, most: usize) -> Result<(), JobError> {
    if count <= most {
        return Ok(());
    }
    Err(JobError::Members { what: what.to_owned(), why: format!("{count} are more than {most}") })
}

fn parse_volume(volume: &VolumeSpec) -> Result<volume::VolumeSpec, String> {
    let pool =
        volume.pool.as_deref().map(str::parse).transpose().map_err(|error: NameError| error.to_string())?;
    if let Some(import) = &volume.import {
        check_text(import)?;
    }
    Ok(volume::VolumeSpec {
        pool,
        size: in_range(core::Bytes(volume.size_bytes), VOLUME_SIZE_MIN, VOLUME_SIZE_MAX)?,
        max_lag: volume.max_lag_ms.map(|millis| duration(millis, MAX_LAG_MAX)).transpose()?,
        import: volume.import.clone(),
        is_shared: volume.is_shared,
    })
}

fn parse_files(
    noun: &str,
    files: &BTreeMap<String, FileSpec>,
) -> Result<BTreeMap<FileName, FileSource>, JobError> {
    check_most(&format!("{noun}s of the job"), files.len(), core::MEMBERS_MAX)?;
    let mut parsed = BTreeMap::new();
    for (name, file) in files {
        parsed.insert(parse_name(&format!("a {noun}"), name)?, file.parse(noun, name)?);
    }
    Ok(parsed)
}

fn parse_file(file: &FileSpec) -> Result<FileSource, String> {
    let content = || {
        let encoded = file.content.as_ref().ok_or("its content is missing")?;
        if encoded.len() > CONTENT_BYTES_MAX.div_ceil(3) * 4 {
            return Err(format!("it is larger than {CONTENT_BYTES_MAX} bytes"));
        }
        let bytes = STANDARD.decode(encoded).map_err(|error| format!("its content is no base64: {error}"))?;
        Ok(Content(bytes.into()))
    };
    Ok(match &file.from {
        FileOrigin::Store => FileSource::Store,
        FileOrigin::File(path) => {
            check_text(path)?;
            FileSource::File { path: path.clone(), content: content()? }
        }
        FileOrigin::Variable(name) => {
            value::env::name(name).map_err(sentence)?;
            FileSource::Variable { name: name.clone(), content: content()? }
        }
        FileOrigin::Inline => FileSource::Inline(content()?),
    })
}

fn parse_groups(
    groups: &BTreeMap<String, GroupSpec>,
) -> Result<BTreeMap<lith_core::name::GroupName, core::GroupSpec>, JobError> {
    let mut parsed = BTreeMap::new();
    for (name, group) in groups {
        check_members(&format!("tasks of group \"{name}\""), group.tasks.len(), core::MEMBERS_MAX)?;
        check_most(&format!("count of group \"{name}\""), group.count as usize, core::COUNT_MAX as usize)?;
        check_most(&format!("nodes of group \"{name}\""), group.place.len(), core::MEMBERS_MAX)?;
        let failover_after = group.failover_after_ms.map(|millis| duration(millis, core::FAILOVER_AFTER_MAX));
        let failover_after = failover_after
            .transpose()
            .map_err(|why| JobError::Resource { what: format!("failover_after of group \"{name}\""), why })?;
        let mut place = BTreeSet::new();
        for node in &group.place {
            place.insert(parse_name("a node", node)?);
        }
        let mut tasks = BTreeMap::new();
        for (name, task) in &group.tasks {
            tasks.insert(parse_name("a task", name)?, parse_task(name, task)?);
        }
        let group = core::GroupSpec { count: group.count, place, failover_after, tasks };
        parsed.insert(parse_name("a group", name)?, group);
    }
    Ok(parsed)
}

fn parse_task(name: &str, task: &TaskSpec) -> Result<core::TaskSpec, JobError> {
    let field =
        |field: &'static str| move |why: String| JobError::Field { task: name.to_owned(), field, why };
    check_texts(task).map_err(|(name, why)| field(name)(why))?;
    check_counts(task).map_err(|(name, why)| field(name)(why))?;
    for (name, text) in &task.env {
        value::env::name(name).and_then(|()| value::env::value(name, text)).map_err(refused(field("env")))?;
    }
    let user = task.user.as_deref().map(value::user::parse).transpose();
    let working_dir = task.working_dir.as_deref().map(value::path::absolute).transpose();
    let stop_signal = task.stop_signal.as_deref().map(value::signal::parse).transpose();
    let hostname = task.hostname.as_deref().map(value::access::host_name).transpose();
    let timezone = task.timezone.as_deref().map(value::process::timezone).transpose();
    let gpu = task.gpu.as_deref().map(value::process::gpu).transpose();
    Ok(core::TaskSpec {
        image: value::image::parse(&task.image).map_err(refused(field("image")))?,
        kind: parse_kind(task).map_err(field("kind"))?,
        entrypoint: task.entrypoint.clone(),
        command: task.command.clone(),
        env: task.env.clone(),
        user: user.map_err(refused(field("user")))?,
        groups: parse_list(&task.groups, value::process::group).map_err(field("groups"))?,
        working_dir: working_dir.map_err(refused(field("working_dir")))?,
        hostname: hostname.map_err(refused(field("hostname")))?,
        timezone: timezone.map_err(refused(field("timezone")))?,
        memory: in_range(core::Bytes(task.memory_bytes), core::MEMORY_MIN, core::MEMORY_MAX)
            .map_err(field("memory"))?,
        cpus: in_range(core::CpuMillis(task.cpu_millis), core::CPUS_MIN, core::CPUS_MAX)
            .map_err(field("cpus"))?,
        gpu: gpu.map_err(refused(field("gpu")))?,
        devices: parse_list(&task.devices, value::mount::device).map_err(field("devices"))?,
        volumes: parse_mounts(&task.volumes).map_err(field("volumes"))?,
        tmpfs: parse_tmpfs(task).map_err(field("tmpfs"))?,
        shm_size: task
            .shm_bytes
            .map(|size| in_range(core::Bytes(size), core::Bytes(1), core::SHM_SIZE_MAX))
            .transpose()
            .map_err(field("shm_size"))?,
        is_read_only: task.is_read_only,
        secrets: parse_file_mounts(&task.secrets).map_err(field("secrets"))?,
        configs: parse_file_mounts(&task.configs).map_err(field("configs"))?,
        ports: parse_list(&task.ports, value::port::port).map_err(field("ports"))?,
        publish: parse_list(&task.publish, value::port::publish).map_err(field("publish"))?,
        expose: parse_list(&task.expose, value::access::expose).map_err(field("expose"))?,
        connects: parse_list(&task.connects, value::access::connect).map_err(field("connects"))?,
        egress: parse_list(&task.egress, value::access::egress).map_err(field("egress"))?,
        bandwidth: task
            .bandwidth_bits
            .map(|bits| in_range(access::Bandwidth(bits), access::BANDWIDTH_MIN, access::BANDWIDTH_MAX))
            .transpose()
            .map_err(field("bandwidth"))?,
        hosts: parse_hosts(task).map_err(field("hosts"))?,
        health: task.health.as_ref().map(parse_health).transpose().map_err(field("health"))?,
        depends_on: parse_dependencies(task).map_err(field("depends_on"))?,
        restart: value::restart::parse(&task.restart).map_err(refused(field("restart")))?,
        stop_signal: stop_signal.map_err(refused(field("stop_signal")))?,
        stop_grace: duration(task.stop_grace_ms, core::STOP_GRACE_MAX).map_err(field("stop_grace"))?,
        update: task.update.as_ref().map(parse_update).transpose().map_err(field("update"))?,
        logging: parse_logging(task).map_err(field("logging"))?,
        ulimits: parse_ulimits(task).map_err(field("ulimits"))?,
        sysctls: parse_sysctls(task).map_err(field("sysctls"))?,
    })
}

fn parse_kind(task: &TaskSpec) -> Result<TaskKind, String> {
    match (task.kind.as_str(), &task.schedule) {
        ("service", None) => Ok(TaskKind::Service),
        ("once", None) => Ok(TaskKind::Once),
        ("periodic", Some(schedule)) => {
            Ok(TaskKind::Periodic { schedule: value::process::schedule(schedule).map_err(sentence)? })
        }
        ("periodic", None) => Err("a periodic task needs a schedule".to_owned()),
        ("service" | "once", Some(_)) => Err("only a periodic task has a schedule".to_owned()),
        (other, _) => Err(format!("{} is none of service, once, periodic", value::quoted(other))),
    }
}

fn parse_mounts(texts: &[String]) -> Result<Vec<volume::Mount>, String> {
    if texts.len() > VOLUMES_MAX {
        return Err(format!("{} volumes are more than {VOLUMES_MAX}", texts.len()));
    }
    let mut mounts = texts
        .iter()
        .map(|text| value::mount::mount(text))
        .collect::<Result<Vec<_>, _>>()
        .map_err(sentence)?;
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    check_targets(mounts.iter().map(|mount| mount.target.as_str()))?;
    Ok(mounts)
}

fn parse_tmpfs(task: &TaskSpec) -> Result<Vec<volume::Tmpfs>, String> {
    let mut parsed = Vec::new();
    for tmpfs in &task.tmpfs {
        let size = tmpfs.size_bytes.map(|size| in_range(core::Bytes(size), core::Bytes(1), core::MEMORY_MAX));
        parsed.push(volume::Tmpfs {
            target: value::mount::place(&tmpfs.target).map_err(sentence)?,
            size: size.transpose()?,
            mode: tmpfs.mode.map(parse_mode).transpose()?,
        });
    }
    parsed.sort_by(|a, b| a.target.cmp(&b.target));
    check_targets(parsed.iter().map(|tmpfs| tmpfs.target.as_str()))?;
    Ok(parsed)
}

fn parse_file_mounts(mounts: &[FileMount]) -> Result<Vec<core::file::FileMount>, String> {
    let mut parsed = Vec::new();
    for mount in mounts {
        parsed.push(core::file::FileMount {
            source: mount.source.parse().map_err(|error: NameError| error.to_string())?,
            target: value::mount::place(&mount.target).map_err(sentence)?,
            uid: mount.uid,
            gid: mount.gid,
            mode: mount.mode.map(parse_mode).transpose()?,
            is_writable: mount.is_writable,
        });
    }
    parsed.sort_by(|a, b| a.target.cmp(&b.target));
    check_targets(parsed.iter().map(|mount| mount.target.as_str()))?;
    Ok(parsed)
}

/// Whether each place is taken once; they are in order.
fn check_targets<'a>(targets: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut last = None;
    for target in targets {
        if last == Some(target) {
            return Err(format!("{} is mounted over twice", value::quoted(target)));
        }
        last = Some(target);
    }
    Ok(())
}

fn parse_mode(mode: u32) -> Result<u32, String> {
    if mode <= 0o7777 { Ok(mode) } else { Err(format!("{mode:o} are no permissions")) }
}

fn parse_hosts(task: &TaskSpec) -> Result<BTreeMap<String, IpAddr>, String> {
    let mut hosts = BTreeMap::new();
    for (name, address) in &task.hosts {
        let parsed = address.parse().map_err(|_| format!("{} is not an address", value::quoted(address)))?;
        hosts.insert(value::access::host_name(name).map_err(sentence)?, parsed);
    }
    Ok(hosts)
}

fn parse_health(health: &Health) -> Result<health::Health, String> {
    let time = |millis: Option<u64>| millis.map(|millis| duration(millis, HEALTH_TIME_MAX)).transpose();
    let times = HealthTimes {
        every: time(health.every_ms)?,
        timeout: time(health.timeout_ms)?,
        retries: health.retries,
        start: time(health.start_ms)?,
        start_every: time(health.start_every_ms)?,
    };
    if times.retries.is_some_and(|retries| !(1..=RETRIES_MAX).contains(&retries)) {
        return Err(format!("retries are not between 1 and {RETRIES_MAX}"));
    }
    if [times.every, times.timeout, times.start_every].contains(&Some(Duration::ZERO)) {
        return Err("the times of a check are longer than nothing".to_owned());
    }
    let Some(probe) = &health.probe else {
        return Ok(if health.is_off { health::Health::Off } else { health::Health::Image(times) });
    };
    if health.is_off {
        return Err("it is off, and asks something".to_owned());
    }
    let check = HealthCheck::with_times(parse_probe(probe)?, &times);
    Ok(health::Health::Check(check))
}

fn parse_probe(probe: &Probe) -> Result<health::Probe, String> {
    let port = |port: u16| if port == 0 { Err("ports are 1 to 65535".to_owned()) } else { Ok(port) };
    Ok(match probe {
        Probe::Http { port: number, path } => {
            check_text(path)?;
            if !path.starts_with('/') || path.contains(char::is_whitespace) {
                return Err(format!("{} is not the path of a page", value::quoted(path)));
            }
            health::Probe::Http { port: port(*number)?, path: path.clone() }
        }
        Probe::Tcp(number) => health::Probe::Tcp { port: port(*number)? },
        Probe::Command(words) => {
            if words.first().is_none_or(String::is_empty) {
                return Err("its command is empty".to_owned());
            }
            words.iter().try_for_each(|word| check_text(word))?;
            health::Probe::Command(words.clone())
        }
        Probe::Shell(line) => {
            check_text(line)?;
            health::Probe::Shell(line.clone())
        }
    })
}

fn parse_dependencies(task: &TaskSpec) -> Result<BTreeMap<TaskName, Condition>, String> {
    let mut parsed = BTreeMap::new();
    for (name, condition) in &task.depends_on {
        let known = Condition::ALL.into_iter().find(|known| known.as_str() == condition);
        let condition = known
            .ok_or_else(|| format!("{} is none of started, healthy, completed", value::quoted(condition)))?;
        parsed.insert(name.parse().map_err(|error: NameError| error.to_string())?, condition);
    }
    Ok(parsed)
}

fn parse_update(update: &super::Update) -> Result<process::Update, String> {
    Ok(process::Update {
        parallel: in_range(update.parallel, 1, core::COUNT_MAX)?,
        delay: duration(update.delay_ms, HEALTH_TIME_MAX)?,
        watch: duration(update.watch_ms, HEALTH_TIME_MAX)?,
        order: meaning(&ORDERS, &update.order)?,
        on_failure: meaning(&FAILURES, &update.on_failure)?,
    })
}

fn meaning<T: Copy>(words: &[(&str, T)], word: &str) -> Result<T, String> {
    let known = words.iter().find(|(known, _)| *known == word);
    known.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("{} is none of {}", value::quoted(word), words.join(", "))
    })
}

fn parse_logging(task: &TaskSpec) -> Result<process::Logging, String> {
    let size = task.log_bytes.map(|size| in_range(core::Bytes(size), core::LOG_SIZE_MIN, core::LOG_SIZE_MAX));
    let files = task.log_files.map(|files| in_range(files, 1, core::LOG_FILES_MAX));
    Ok(process::Logging { max_size: size.transpose()?, max_files: files.transpose()? })
}

fn parse_ulimits(task: &TaskSpec) -> Result<BTreeMap<String, process::Ulimit>, String> {
    let mut parsed = BTreeMap::new();
    for (name, limit) in &task.ulimits {
        if !value::process::ULIMITS.contains(&name.as_str()) {
            return Err(format!("{} is no limit of a process", value::quoted(name)));
        }
        parsed.insert(name.clone(), value::process::ulimit(limit).map_err(sentence)?);
    }
    Ok(parsed)
}

fn parse_sysctls(task: &TaskSpec) -> Result<BTreeMap<String, String>, String> {
    for (name, setting) in &task.sysctls {
        value::process::sysctl(name).map_err(sentence)?;
        check_text(setting)?;
    }
    Ok(task.sysctls.clone())
}

/// A refused value as the refusal of its field.
fn refused(field: impl Fn(String) -> JobError) -> impl Fn(value::Refusal) -> JobError {
    move |refusal| field(sentence(refusal))
}

fn sentence(value::Refusal { message, hint }: value::Refusal) -> String {
    match hint {
        Some(hint) => format!("{message}: {hint}"),
        None => message,
    }
}

/// A list in order and each item once: as it is written must not make for a difference.
fn parse_list<T: Ord>(
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, value::Refusal>,
) -> Result<Vec<T>, String> {
    let mut items = texts.iter().map(|text| parse(text)).collect::<Result<Vec<T>, _>>().map_err(sentence)?;
    items.sort();
    items.dedup();
    Ok(items)
}

/// What a job brings along is bounded as a whole, too.
fn check_contents(job: &core::JobSpec) -> Result<(), JobError> {
    let files = job.secrets.values().chain(job.configs.values());
    let bytes: usize = files.filter_map(FileSource::content).map(|Content(bytes)| bytes.len()).sum();
    check_most("bytes of the job's secrets and configs", bytes, CONTENTS_BYTES_MAX)
}

/// Whether everything exists that the tasks name.
fn check_references(job: &core::JobSpec) -> Result<(), JobError> {
    let mut names: BTreeSet<&TaskName> = BTreeSet::new();
    for (_, name, _) in job.tasks() {
        if !names.insert(name) {
            let why = "two groups have a task of this name".to_owned();
            return Err(JobError::Resource { what: format!("task \"{name}\""), why });
        }
    }
    for (_, name, task) in job.tasks() {
        if let Some((field, what)) = missing(job, &names, task) {
            let why = format!("the job has no {what}");
            return Err(JobError::Field { task: name.to_string(), field, why });
        }
    }
    if let Some(circle) = core::circle(job) {
        let names: Vec<&str> = circle.iter().map(|name| name.as_str()).collect();
        let what = "depends_on".to_owned();
        return Err(JobError::Resource { what, why: format!("{} wait for each other", names.join(", ")) });
    }
    Ok(())
}

/// Something that the task names and the job does not have, with the field that names it.
fn missing(
    job: &core::JobSpec,
    names: &BTreeSet<&TaskName>,
    task: &core::TaskSpec,
) -> Option<(&'static str, String)> {
    let volumes = task.volumes.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(volume) => Some(volume),
        MountSource::Host(_) => None,
    });
    let volume = volumes.into_iter().find(|volume| !job.volumes.contains_key(volume));
    let secret = task.secrets.iter().find(|mount| !job.secrets.contains_key(&mount.source));
    let config = task.configs.iter().find(|mount| !job.configs.contains_key(&mount.source));
    let dependency = task.depends_on.keys().find(|target| !names.contains(target));
    let own = task.connects.iter().filter(|connect| connect.job.is_none()).map(|connect| &connect.task);
    let target = own.into_iter().find(|target| !names.contains(target));
    None.or_else(|| volume.map(|name| ("volumes", format!("volume \"{name}\""))))
        .or_else(|| secret.map(|mount| ("secrets", format!("secret \"{}\"", mount.source))))
        .or_else(|| config.map(|mount| ("configs", format!("config \"{}\"", mount.source))))
        .or_else(|| dependency.map(|name| ("depends_on", format!("task \"{name}\""))))
        .or_else(|| target.map(|name| ("connects", format!("task \"{name}\""))))
}

/// What holds across tasks: a port of the node leads to one place.
fn check_published(job: &core::JobSpec) -> Result<(), JobError> {
    let mut held: Vec<(&core::Publish, &TaskName)> = Vec::new();
    for (group, task, spec) in job.tasks() {
        let refused = |why: String| JobError::Field { task: task.to_string(), field: "publish", why };
        let count = job.groups[group].count;
        if let (Some(publish), 2..) = (spec.publish.first(), count) {
            let port = publish.host_port;
            return Err(refused(format!("port {port} of the node is wanted by each of {count} instances")));
        }
        for publish in &spec.publish {
            if let Some((_, holder)) = held.iter().find(|(other, _)| other.collides_with(publish)) {
                let (port, transport) = (publish.host_port, publish.transport);
                let why =
                    format!("port {port}/{transport} of the node is already published by task \"{holder}\"");
                return Err(refused(why));
            }
            held.push((publish, task));
        }
    }
    Ok(())
}

/// Bounded, and free of the byte that ends a C string.
fn check_text(text: &str) -> Result<(), String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("{} bytes are more than {TEXT_BYTES_MAX}", text.len()));
    }
    if text.contains('\0') {
        return Err("a text cannot contain a zero byte".to_owned());
    }
    Ok(())
}

/// Lists are bounded before they are read.
fn check_counts(task: &TaskSpec) -> Result<(), (&'static str, String)> {
    let counts = [
        ("groups", task.groups.len(), core::MEMBERS_MAX),
        ("devices", task.devices.len(), core::MEMBERS_MAX),
        ("tmpfs", task.tmpfs.len(), core::MEMBERS_MAX),
        ("secrets", task.secrets.len(), core::MEMBERS_MAX),
        ("configs", task.configs.len(), core::MEMBERS_MAX),
        ("ports", task.ports.len(), core::PORTS_MAX),
        ("publish", task.publish.len(), core::PORTS_MAX),
        ("expose", task.expose.len(), access::ENTRIES_MAX),
        ("connects", task.connects.len(), access::ENTRIES_MAX),
        ("egress", task.egress.len(), access::ENTRIES_MAX),
        ("hosts", task.hosts.len(), access::ENTRIES_MAX),
        ("depends_on", task.depends_on.len(), core::MEMBERS_MAX),
        ("sysctls", task.sysctls.len(), core::MEMBERS_MAX),
    ];
    match counts.into_iter().find(|(_, count, most)| count > most) {
        Some((name, count, most)) => Err((name, format!("{count} entries are more than {most}"))),
        None => Ok(()),
    }
}

/// A time in milliseconds that is not longer than `most`.
fn duration(millis: u64, most: Duration) -> Result<Duration, String> {
    let duration = Duration::from_millis(millis);
    if duration > most { Err(format!("{duration:?} is longer than {most:?}")) } else { Ok(duration) }
}

/// Everything that a guest or a program will be handed as text.
fn check_texts(task: &TaskSpec) -> Result<(), (&'static str, String)> {
    let lists = [("entrypoint", &task.entrypoint), ("command", &task.command)];
    let options =
        [("user", &task.user), ("working_dir", &task.working_dir), ("stop_signal", &task.stop_signal)];
    let texts = std::iter::once(("image", &task.image))
        .chain(lists.into_iter().flat_map(|(name, list)| list.iter().flatten().map(move |text| (name, text))))
        .chain(options.into_iter().filter_map(|(name, text)| text.as_ref().map(|text| (name, text))))
        .chain(task.env.iter().flat_map(|(key, value)| [("env", key), ("env", value)]));
    for (name, text) in texts {
        check_text(text).map_err(|why| (name, why))?;
    }
    Ok(())
}

fn in_range<T: PartialOrd + std::fmt::Display>(value: T, least: T, most: T) -> Result<T, String> {
    if value < least || value > most {
        return Err(format!("{value} is not between {least} and {most}"));
    }
    Ok(value)
}
