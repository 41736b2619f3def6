//! Every job, written as a file, reads as the same job.

#![expect(clippy::too_many_lines, reason = "every field of a job is in one table")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use lith_core::job::access::{
    BANDWIDTH_MAX, BANDWIDTH_MIN, Bandwidth, Connect, ConnectPorts, Egress, Expose,
};
use lith_core::job::file::{Content, FileMount, FileSource};
use lith_core::job::health::{
    Condition, HEALTH_TIME_MAX, Health, HealthCheck, HealthTimes, Probe, RETRIES_MAX,
};
use lith_core::job::process::{
    Device, Gpu, Logging, OnFailure, TaskKind, UPDATE_TIME_MAX, Ulimit, Update, UpdateOrder,
};
use lith_core::job::volume::{MAX_LAG_MAX, Mount, MountSource, Tmpfs, VolumeSpec};
use lith_core::job::{
    Bytes, COUNT_MAX, CpuMillis, FAILOVER_AFTER_MAX, GroupSpec, JobSpec, LOG_FILES_MAX, Port, Publish,
    RestartPolicy, TaskSpec, Transport,
};
use lith_core::name::{FileName, TaskName, VolumeName};
use lith_core::value::process::ULIMITS;
use lith_spec::{Colour, Files, Named, PathKind, Reading, Variables, check, check_job, format, to_yaml};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn name<N: FromStr + std::fmt::Debug>() -> impl Strategy<Value = N>
where
    N::Err: std::fmt::Debug,
{
    // Among them words that mean something to YAML, and numbers.
    "[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?|yes|no|null|true|main|1e3|0x1f|2026-01-01"
        .prop_map(|text| text.parse().expect("the pattern makes labels"))
}

/// Any text a process can be given.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9 :#'\"\\\\{}\\[\\],&*!|>%@`~=$?-]{0,20}",
        "\\PC{0,12}",
        any::<String>().prop_map(|text| text.replace('\0', "")),
        Just(String::from("a\r\nb\u{85}\u{2028}\u{feff}\u{7f}\u{1b}")),
        Just(String::from("null")),
        Just(String::from("<<")),
        Just(String::from("${A} $$ $B ${C:-x}")),
        "([a-z #:${}-]{0,9}\n){1,4}",
    ]
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)]
}

fn port() -> impl Strategy<Value = Port> {
    (1..=u16::MAX, 0..=100u16, transport()).prop_map(|(number, more, transport)| Port {
        number,
        last: number.saturating_add(more),
        transport,
    })
}

fn restart() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::Never),
        option::of(1..=u32::MAX).prop_map(|retries_max| RestartPolicy::OnFailure { retries_max }),
    ]
}

fn publish() -> impl Strategy<Value = Publish> {
    let address = prop_oneof![
        Just(None),
        Just(Some(Ipv4Addr::LOCALHOST.into())),
        Just(Some(Ipv4Addr::new(192, 0, 2, 7).into()))
    ];
    (address, 1..=u16::MAX, 1..=u16::MAX, transport()).prop_map(
        |(address, host_port, guest_port, transport)| Publish {
            address,
            host_port,
            guest_port,
            count: 1,
            transport,
        },
    )
}

fn image() -> impl Strategy<Value = String> {
    "([a-z]{1,5}\\.example(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,6}(:[a-zA-Z0-9_.-]{0,3}[a-z])?"
        .prop_filter("a tag starts with a word", |image| !image.contains(":.") && !image.contains(":-"))
}

/// A place in a file system, of which each of a task's is another one.
fn place() -> impl Strategy<Value = String> {
    "(/[a-zA-Z0-9_ .~$#-]{0,5}[a-z]){1,3}"
        .prop_filter("no way up", |path| !path.split('/').any(|part| part == ".."))
}

fn host() -> impl Strategy<Value = String> {
    "[a-z0-9_]([a-z0-9-]{0,5}[a-z0-9])?(\\.[a-z]{1,5}){0,2}|null|[0-9]{1,3}"
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into())
    ]
}

fn millis(most: Duration) -> impl Strategy<Value = Duration> {
    (1..=u64::try_from(most.as_millis()).expect("bounds are small")).prop_map(Duration::from_millis)
}

fn kind() -> impl Strategy<Value = TaskKind> {
    prop_oneof![
        Just(TaskKind::Service),
        Just(TaskKind::Once),
        (0..60u8, 0..24u8)
            .prop_map(|(minute, hour)| TaskKind::Periodic { schedule: format!("{minute} {hour} * 1-5 */2") }),
    ]
}

fn probe() -> impl Strategy<Value = Probe> {
    prop_oneof![
        (1..=u16::MAX, "/[a-z0-9/?=&%:#,{}$-]{0,12}").prop_map(|(port, path)| Probe::Http { port, path }),
        (1..=u16::MAX).prop_map(|port| Probe::Tcp { port }),
        (text().prop_filter("a program", |word| !word.is_empty()), vec(text(), 0..3))
            .prop_map(|(first, rest)| { Probe::Command(std::iter::once(first).chain(rest).collect()) }),
        text().prop_filter("a line", |line| !line.trim().is_empty()).prop_map(Probe::Shell),
    ]
}

fn health() -> impl Strategy<Value = Health> {
    let time = || option::of(millis(HEALTH_TIME_MAX));
    let times = (time(), time(), option::of(1..=RETRIES_MAX), time(), time()).prop_map(
        |(every, timeout, retries, start, start_every)| HealthTimes {
            every,
            timeout,
            retries,
            start,
            start_every,
        },
    );
    (times, option::of(probe()), any::<bool>()).prop_filter_map("says something", |(times, probe, is_off)| {
        match (probe, is_off) {
            (None, true) => Some(Health::Off),
            (None, false) => (times != HealthTimes::default()).then_some(Health::Image(times)),
            (Some(probe), _) => {
                let default = HealthCheck::new(probe);
                Some(Health::Check(HealthCheck {
                    every: times.every.unwrap_or(default.every),
                    timeout: times.timeout.unwrap_or(default.timeout),
                    retries: times.retries.unwrap_or(default.retries),
                    start: times.start.unwrap_or(default.start),
                    start_every: times.start_every.unwrap_or(default.start_every),
                    probe: default.probe,
                }))
            }
        }
    })
}

fn egress() -> impl Strategy<Value = Egress> {
    let network =
        (address(), 0..=128u8, option::of(port())).prop_map(|(address, prefix, port)| match address {
            IpAddr::V4(address) => {
                let prefix = prefix.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Egress::Network { address: Ipv4Addr::from(u32::from(address) & mask).into(), prefix, port }
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                Egress::Network { address: Ipv6Addr::from(u128::from(address) & mask).into(), prefix, port }
            }
        });
    let name = ("(\\*\\.)?[a-z]{1,5}\\.[a-z]{2,5}", option::of(port()))
        .prop_map(|(name, port)| Egress::Name { name, port });
    prop_oneof![Just(Egress::Internet), name, network]
        .prop_filter("a task can reach it", |entry| lith_spec::impossible_egress(entry).is_none())
}

fn update() -> impl Strategy<Value = Update> {
    let order = prop_oneof![Just(UpdateOrder::StopFirst), Just(UpdateOrder::StartFirst)];
    let failure = prop_oneof![Just(OnFailure::Pause), Just(OnFailure::Continue), Just(OnFailure::Rollback)];
    (1..=COUNT_MAX, millis(UPDATE_TIME_MAX), millis(UPDATE_TIME_MAX), order, failure).prop_map(
        |(parallel, delay, watch, order, on_failure)| Update { parallel, delay, watch, order, on_failure },
    )
}

fn ulimit() -> impl Strategy<Value = Ulimit> {
    (option::of(any::<u64>()), option::of(any::<u64>())).prop_map(|(one, other)| match (one, other) {
        (Some(one), Some(other)) => Ulimit { soft: Some(one.min(other)), hard: Some(one.max(other)) },
        (None, Some(one)) => Ulimit { soft: Some(one), hard: None },
        (one, None) => Ulimit { soft: one, hard: one },
    })
}

fn process() -> impl Strategy<Value = TaskSpec> {
    let line = (
        image(),
        kind(),
        option::of(vec(text(), 0..4)),
        option::of(vec(text(), 0..4)),
        btree_map("[A-Za-z_~<#.$-][A-Za-z0-9_.~:#{}$-]{0,9}", text(), 0..5),
    );
    let person = (
        option::of("[a-z0-9_][a-z0-9_-]{0,6}(:[a-z_][a-z0-9]{0,6})?|[0-9]{1,9}:[0-9]{1,9}"),
        btree_set("[a-z_][a-z0-9_-]{0,6}|[0-9]{1,9}", 0..3),
        option::of(text().prop_map(|text| format!("/{text}"))),
        option::of(host()),
        option::of("[A-Z][a-z]{1,6}/[A-Z][a-z_+-]{1,6}|UTC"),
    );
    (line, person).prop_map(|(line, person)| TaskSpec {
        kind: line.1,
        entrypoint: line.2,
        command: line.3,
        env: line.4,
        user: person.0,
        groups: person.1.into_iter().collect(),
        working_dir: person.2,
        hostname: person.3,
        timezone: person.4,
        ..TaskSpec::new(line.0)
    })
}

fn machine(process: TaskSpec) -> impl Strategy<Value = TaskSpec> {
    let size = || (1..=4u64 << 40).prop_map(Bytes);
    let sizes = (
        (64u64 << 20..=4 << 40).prop_map(Bytes),
        (10u32..=64_000).prop_map(CpuMillis),
        option::of(prop_oneof![Just(Gpu::All), (1..=16u32).prop_map(Gpu::Count)]),
        btree_set(("/dev/[a-z]{1,6}", "/dev/[a-z]{1,6}"), 0..3),
        option::of(size()),
        any::<bool>(),
    );
    let memory = btree_map(place(), (option::of(size()), option::of(0..=0o7777u32)), 0..3);
    let end = (
        restart(),
        option::of(prop_oneof![
            Just(String::from("SIGTERM")),
            Just(String::from("9")),
            Just(String::from("SIGRTMIN+3"))
        ]),
        (0..=3_600_000_000_000u64).prop_map(Duration::from_nanos),
        option::of(update()),
    );
    let limits = (
        option::of((64u64 << 10..=1 << 30).prop_map(Bytes)),
        option::of(1..=LOG_FILES_MAX),
        btree_map(select(ULIMITS.as_slice()).prop_map(str::to_owned), ulimit(), 0..3),
        btree_map("[a-z]{1,5}(\\.[a-z_-]{1,5}){1,2}", text(), 0..3),
    );
    (sizes, memory, end, limits).prop_map(move |(sizes, memory, end, limits)| TaskSpec {
        memory: sizes.0,
        cpus: sizes.1,
        gpu: sizes.2,
        devices: sizes.3.into_iter().map(|(host, guest)| Device { host, guest }).collect(),
        shm_size: sizes.4,
        is_read_only: sizes.5,
        tmpfs: memory
            .into_iter()
            .map(|(place, (size, mode))| Tmpfs { target: format!("/tmp{place}"), size, mode })
            .collect(),
        restart: end.0,
        stop_signal: end.1,
        stop_grace: end.2,
        update: end.3,
        logging: Logging { max_size: limits.0, max_files: limits.1 },
        ulimits: limits.2,
        sysctls: limits.3,
        ..process.clone()
    })
}

/// A task that names nothing of the job.
fn task() -> impl Strategy<Value = TaskSpec> {
    let access = (
        btree_map((1..=u16::MAX, 0..=10u16, transport()), Just(()), 0..4),
        btree_set(egress(), 0..3),
        btree_map(host(), address(), 0..3),
        option::of(health()),
        option::of((BANDWIDTH_MIN.0..=BANDWIDTH_MAX.0).prop_map(Bandwidth)),
    );
    (process().prop_flat_map(machine), access).prop_map(|(task, access)| TaskSpec {
        // In the order of the keys, which is that of the valid form.
        ports: access
            .0
            .into_keys()
            .map(|(number, more, transport)| Port { number, last: number.saturating_add(more), transport })
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        egress: access.1.into_iter().collect(),
        hosts: access.2,
        health: access.3,
        bandwidth: access.4,
        ..task
    })
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![text(), "([a-z =:#$-]{0,9}\n){1,4}", "( ?[a-z#{}$]{1,5}\n?){1,4}"]
        .prop_map(|text| Content(text.into_bytes().into()))
}

fn volume() -> impl Strategy<Value = VolumeSpec> {
    (
        option::of(name()),
        (16u64 << 20..=16 << 40).prop_map(Bytes),
        option::of(millis(MAX_LAG_MAX)),
        option::of("[./a-z $]{1,6}[a-z]"),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(pool, size, max_lag, import, is_shared, is_default)| {
            if is_default {
                VolumeSpec::default()
            } else {
                VolumeSpec { pool, size, max_lag, import, is_shared }
            }
        })
}

fn secret() -> impl Strategy<Value = FileSource> {
    prop_oneof![Just(FileSource::Store), config(),]
}

fn config() -> impl Strategy<Value = FileSource> {
    prop_oneof![
        Just(FileSource::File {
            path: String::from("./a $$ file"),
            content: Content(CONTENT.as_bytes().into())
        }),
        Just(FileSource::Variable {
            name: String::from("PASSWORD"),
            content: Content(CONTENT.as_bytes().into())
        }),
        content().prop_map(FileSource::Inline),
    ]
}

/// What every file holds, and every variable.
const CONTENT: &str = "s3cret ${NOT_A_VARIABLE}";

/// A machine on which whatever is asked for is there.
struct Everything;

impl Files for Everything {
    fn kind(&self, path: &str) -> PathKind {
        match path {
            ".env" => PathKind::Absent,
            "a $$ file" => PathKind::File,
            _ => PathKind::Folder,
        }
    }

    fn read(&self, path: &str, _bytes_max: usize) -> Result<Vec<u8>, String> {
        if path == "a $$ file" {
            Ok(CONTENT.as_bytes().to_vec())
        } else {
            Err(String::from("there is no such file"))
        }
    }
}

/// What tasks name of the job: drawn as numbers, of which each stands for one that there is.
fn references() -> impl Strategy<Value = Vec<[u16; 6]>> {
    vec(any::<[u16; 6]>(), 0..8)
}

fn job() -> impl Strategy<Value = JobSpec> {
    let tasks = btree_map(name(), task(), 1..3);
    let group = (0..=100u32, btree_set(name(), 0..3), option::of(millis(FAILOVER_AFTER_MAX)), tasks)
        .prop_map(|(count, place, failover_after, tasks)| GroupSpec { count, place, failover_after, tasks });
    let file_name = || {
        "[A-Za-z0-9_][A-Za-z0-9_.-]{0,6}"
            .prop_map(|name| name.parse::<FileName>().expect("the pattern makes names"))
    };
    let resources = (
        btree_map(name(), volume(), 0..4),
        btree_map(file_name(), secret(), 0..4),
        btree_map(file_name(), config(), 0..4),
    );
    (name(), btree_map(name(), group, 1..3), resources, vec(publish(), 0..4), references()).prop_map(
        |(name, groups, resources, publish, references)| {
            let mut job = JobSpec::new(name, groups);
            (job.volumes, job.secrets, job.configs) = resources;
            unique_names(&mut job);
            publish_in_first_group(&mut job.groups, publish);
            for numbers in references {
                refer(&mut job, numbers);
            }
            job
        },
    )
}

/// Tasks are found by their names alone, so each name stands in one group.
fn unique_names(job: &mut JobSpec) {
    let mut seen = BTreeSet::new();
    for group in job.groups.values_mut() {
        group.tasks.retain(|name, _| seen.insert(name.clone()));
    }
    job.groups.retain(|_, group| !group.tasks.is_empty());
}

/// One of several, by a number.
fn one<T: Clone>(items: impl IntoIterator<Item = T>, number: u16) -> Option<T> {
    let items: Vec<T> = items.into_iter().collect();
    (!items.is_empty()).then(|| items[usize::from(number) % items.len()].clone())
}

/// Lets a task name something of the job, where that keeps the job a valid one.
fn refer(job: &mut JobSpec, [what, from, to, first, second, third]: [u16; 6]) {
    let ports: BTreeMap<TaskName, Vec<Port>> =
        job.tasks().map(|(_, name, task)| (name.clone(), task.ports.clone())).collect();
    let unchecked: BTreeSet<TaskName> = job
        .tasks()
        .filter(|(_, _, task)| task.health == Some(Health::Off))
        .map(|(_, name, _)| name.clone())
        .collect();
    let writers: BTreeSet<VolumeName> = job
        .tasks()
        .flat_map(|(_, _, task)| task.volumes.clone())
        .filter_map(|mount| match mount.source {
            MountSource::Volume(name) => Some(name),
            MountSource::Host(_) => None,
        })
        .collect();
    let volume = one(job.volumes.clone(), to);
    let secret = one(job.secrets.keys().cloned(), to);
    let config = one(job.configs.keys().cloned(), to);
    let Some((group, name)) = one(job.tasks().map(|(group, name, _)| (group.clone(), name.clone())), from)
    else {
        return;
    };
    let target = one(ports.clone(), to);
    let task =
        job.groups.get_mut(&group).and_then(|group| group.tasks.get_mut(&name)).expect("it was just found");
    let used = |source: FileName, folder: &str| FileMount {
        target: if first % 2 == 0 { format!("{folder}/{source}") } else { format!("{folder}/x{first}") },
        source,
        uid: (second % 3 == 0).then_some(u32::from(second)),
        gid: (second % 5 == 0).then_some(u32::from(second)),
        mode: (third % 3 == 0).then_some(u32::from(third) & 0o7777),
        is_writable: third % 2 == 0,
    };
    match what % 6 {
        0 => {
            if let Some((volume, spec)) = volume {
                let is_read_only = writers.contains(&volume) && !spec.is_shared;
                let source = if first % 7 == 0 {
                    MountSource::Host(format!("/srv/{first}"))
                } else {
                    MountSource::Volume(volume)
                };
                task.volumes.push(Mount { source, target: format!("/vol/{second}"), is_read_only });
                task.volumes.sort_by(|a, b| a.target.cmp(&b.target));
                task.volumes.dedup_by(|a, b| a.target == b.target);
            }
        }
        1 => {
            if let Some(secret) = secret {
                task.secrets.push(used(secret, "/run/secrets"));
                task.secrets.sort_by(|a, b| a.target.cmp(&b.target));
                task.secrets.dedup_by(|a, b| a.target == b.target);
            }
        }
        2 => {
            if let Some(config) = config {
                let used = used(config, "");
                let is_taken = task.tmpfs.iter().any(|tmpfs| tmpfs.target == used.target);
                if !is_taken {
                    task.configs.push(used);
                }
                task.configs.sort_by(|a, b| a.target.cmp(&b.target));
                task.configs.dedup_by(|a, b| a.target == b.target);
            }
        }
        3 => {
            if let Some((target, ports)) = target {
                let ports = match (ports.first(), first % 3) {
                    (None, _) | (_, 0) => ConnectPorts::Any,
                    (Some(_), 1) => ConnectPorts::Declared,
                    (Some(port), _) => ConnectPorts::One(*port),
                };
                let job = (second % 3 == 0).then(|| "other".parse().expect("a label"));
                task.connects.push(Connect {
                    job,
                    task: target,
                    ports,
                    alias: (third % 2 == 0).then(|| format!("alias-{third}")),
                });
                task.connects.sort();
                task.connects.dedup();
            }
        }
        // Only on tasks before it, so that there is no circle.
        4 => {
            if let Some((target, _)) = target.filter(|(target, _)| *target < name) {
                let condition = Condition::ALL[usize::from(first) % 3];
                if !(condition == Condition::Healthy && unchecked.contains(&target)) {
                    task.depends_on.insert(target, condition);
                }
            }
        }
        _ => {
            if let Some(port) = task.ports.iter().find(|port| port.transport == Transport::Tcp) {
                task.expose.push(Expose { host: format!("app{first}.example.org"), port: port.last });
                task.expose.sort();
                task.expose.dedup();
            }
        }
    }
}

/// Publishes what does not collide; the group that publishes has one instance.
fn publish_in_first_group(
    groups: &mut BTreeMap<lith_core::name::GroupName, GroupSpec>,
    wanted: Vec<Publish>,
) {
    let mut publish: Vec<Publish> = Vec::new();
    for one in wanted {
        if !publish.iter().any(|other| other.collides_with(&one)) {
            publish.push(one);
        }
    }
    publish.sort();
    if publish.is_empty() {
        return;
    }
    let group = groups.values_mut().next().expect("a job has a group");
    group.count = 1;
    group.tasks.values_mut().next().expect("a group has a task").publish = publish;
}

/// Reads a file on a machine where everything is there.
fn read(text: &str) -> Reading {
    let file = Named { path: String::from("job.yaml"), bytes: text.as_bytes().to_vec() };
    let set = BTreeMap::from([(String::from("PASSWORD"), String::from(CONTENT))]);
    check_job(&[file], &Variables { set, env_files: Vec::new() }, &Everything)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_job_round_trips(job in job()) {
        let text = to_yaml(&job);
        let reading = read(&text);
        prop_assert!(reading.diagnostics.list.is_empty(), "{}\n{text}", reading.diagnostics.render(Colour::None));
        prop_assert_eq!(reading.job.as_ref(), Some(&job), "{}", text);
        prop_assert_eq!(to_yaml(&job), text.as_str(), "written the same each time");
        let formatted = format("job.yaml", text.as_bytes()).expect("it is YAML").expect("nothing is lost");
        let again = read(&formatted);
        prop_assert_eq!(again.job.as_ref(), Some(&job), "{}", formatted);
        prop_assert_eq!(format("job.yaml", formatted.as_bytes()), Ok(Some(formatted.clone())));
    }

    #[test]
    fn every_port_reads_as_shown(port in port(), publish in publish()) {
        let text = format!("job: j\ntasks: {{ t: {{ image: x, ports: [ {port} ], publish: [ \"{publish}\" ] }} }}\n");
        let job = check("job.yaml", &text).job.expect("the file is accepted");
        let (_, _, task) = job.tasks().next().expect("one task");
        prop_assert_eq!((&task.ports, &task.publish), (&vec![port], &vec![publish]));
    }

    #[test]
    fn sizes_and_durations_read_as_shown(bytes in 64u64 << 20..=4 << 40, nanos in 0..=3_600_000_000_000u64) {
        let mut task = TaskSpec::new("x");
        (task.memory, task.stop_grace) = (Bytes(bytes), Duration::from_nanos(nanos));
        let tasks = BTreeMap::from([("t".parse().expect("a label"), task)]);
        let groups = BTreeMap::from([("main".parse().expect("a label"), GroupSpec::new(tasks))]);
        let job = JobSpec::new("j".parse().expect("a label"), groups);
        prop_assert_eq!(check("job.yaml", &to_yaml(&job)).job, Some(job));
    }

    /// A fraction of a unit is what it says, cut off below a byte.
    #[test]
    fn fractions_of_a_size(whole in 1u64..1000, tenths in 0u64..10) {
        let text = format!("job: j\ntasks: {{ t: {{ image: x, memory: {whole}.{tenths}G }} }}\n");
        let job = check("job.yaml", &text).job.expect("the file is accepted");
        let (_, _, task) = job.tasks().next().expect("one task");
        prop_assert_eq!(task.memory, Bytes((whole * 10 + tenths) * (1 << 30) / 10));
    }
}
