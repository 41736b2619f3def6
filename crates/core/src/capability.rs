//! What this version carries out of what a job may declare: what it refuses, and what it keeps without acting on it. Pure.
//!
//! A job that is refused would not do what it says; one whose notes are told does, but for comforts that come later.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::egress::{self, Range};
use crate::job::access::Egress;
use crate::job::file::FileSource;
use crate::job::process::TaskKind;
use crate::job::volume::{Mount, MountSource};
use crate::job::{JobSpec, Publish, TaskSpec};
use crate::name::{GroupName, TaskName, VolumeName};
use crate::value::Refusal;

/// Most volumes of one task: a virtual machine of QEMU's `microvm` type has room for 24 devices, of which lith takes six.
pub const DISKS_MAX: usize = 16;
/// Most consecutive ports of a name in `egress`: each address that the name has takes an element of the packet filter for
/// each of them.
pub const NAME_PORTS_MAX: u16 = 16;

/// Why this version cannot run the job, in the order of the file's names; empty when it can.
#[must_use]
pub fn refusals(job: &JobSpec) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for (name, source) in &job.secrets {
        if matches!(source, FileSource::Store) {
            let message = format!(
                "secret \"{name}\" is to come from the cluster's store, which comes in a later version"
            );
            refusals
                .push(Refusal::new(message).hint(format!("give it a file: `{name}: {{ file: ./{name} }}`")));
        }
    }
    for (_, name, task) in job.tasks() {
        refusals.extend(of_task(job, name, task));
    }
    refusals.extend(shared(job));
    refusals
}

fn of_task(job: &JobSpec, name: &TaskName, task: &TaskSpec) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let hosts = task.volumes.iter().filter_map(|mount| match &mount.source {
        MountSource::Host(path) => Some(path),
        MountSource::Volume(_) => None,
    });
    for path in hosts {
        let message =
            format!("task \"{name}\" mounts {path} of the node: host folders come in a later version");
        let hint = "declare a volume under `volumes:` and mount that; `lith cp` brings files into it";
        refusals.push(Refusal::new(message).hint(hint));
    }
    for device in task.devices.iter().filter(|device| !device.is_of_the_guest()) {
        let message = format!(
            "task \"{name}\" wants {} of the node: host devices come in a later version",
            device.host
        );
        refusals
            .push(Refusal::new(message).hint("`/dev/fuse` and `/dev/net/tun` are the guest's own, and work"));
    }
    if task.gpu.is_some() {
        let message = format!("task \"{name}\" wants a graphics processor: `gpu` comes in a later version");
        refusals.push(Refusal::new(message).hint("remove `gpu` to run it without one"));
    }
    let of_task =
        |refusal: Refusal| Refusal { message: format!("task \"{name}\": {}", refusal.message), ..refusal };
    refusals.extend(task.publish.iter().filter_map(impossible_publish).map(of_task));
    refusals.extend(task.egress.iter().filter_map(impossible_egress).map(of_task));
    let disks = disks(job, task);
    if disks > DISKS_MAX {
        let message = format!(
            "task \"{name}\" needs {disks} disks, one for each volume and each import: a machine holds {DISKS_MAX}"
        );
        refusals.push(Refusal::new(message).hint("put what belongs together into one volume"));
    }
    refusals
}

/// Why a port cannot be published so, whatever the node; `None` when it can.
#[must_use]
pub fn impossible_publish(publish: &Publish) -> Option<Refusal> {
    (publish.address == Some(IpAddr::V6(Ipv6Addr::LOCALHOST))).then(|| {
        let message =
            format!("`{publish}`: what is sent to ::1 stays on the node, whose kernel passes it to no task");
        let there = Publish { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..*publish };
        Refusal::new(message).hint(format!("publish it on the node's own address of IPv4: `{there}`"))
    })
}

/// Why no task can reach what an entry of `egress` names, whatever the node; `None` when one may.
#[must_use]
pub fn impossible_egress(entry: &Egress) -> Option<Refusal> {
    let refusal = |why: &str| Refusal::new(format!("`{entry}` is of no use: {why}"));
    match entry {
        Egress::Internet => None,
        Egress::Name { port, .. } => {
            let ports = port.map_or(1, |port| port.last.saturating_sub(port.number).saturating_add(1));
            (ports > NAME_PORTS_MAX).then(|| {
                Refusal::new(format!("`{entry}` names {ports} ports; a name has up to {NAME_PORTS_MAX}"))
                    .hint("name the ports that it is reached at, or none for every port")
            })
        }
        Egress::Network { address, prefix, .. } => UNREACHABLE
            .into_iter()
            .find(|(range, ..)| range.1 <= *prefix && egress::holds(*range, *address))
            .map(|(_, why, hint)| refusal(why).hint(hint)),
    }
}

/// Ranges of addresses that no task reaches, with why, and what to do instead. The first one that holds an address counts.
const UNREACHABLE: [(Range<IpAddr>, &str, &str); 9] = {
    const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Range<IpAddr> {
        (IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix)
    }
    const fn v6(first: u16, rest: [u16; 2], prefix: u8) -> Range<IpAddr> {
        let [second, last] = rest;
        (IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, last)), prefix)
    }
    const LOOPBACK: (&str, &str) = (
        "loopback is the task itself",
        "name a task in `connects`, or an address that the node has on its network",
    );
    const UNSPECIFIED: (&str, &str) = (
        "it is the address of nobody",
        "write the address that is meant, or `internet` for every public one",
    );
    const MULTICAST: (&str, &str) =
        ("multicast does not leave a task", "name the addresses that are to be reached one by one");
    const METADATA: (&str, &str) = (
        "metadata of a cloud's machine is closed to every task, for it holds the machine's own secrets",
        "give the task what it needs as a secret",
    );
    [
        (v4(127, 0, 0, 0, 8), LOOPBACK.0, LOOPBACK.1),
        (v6(0, [0, 1], 128), LOOPBACK.0, LOOPBACK.1),
        (v4(0, 0, 0, 0, 8), UNSPECIFIED.0, UNSPECIFIED.1),
        (v6(0, [0, 0], 128), UNSPECIFIED.0, UNSPECIFIED.1),
        (v4(224, 0, 0, 0, 4), MULTICAST.0, MULTICAST.1),
        (v6(0xff00, [0, 0], 8), MULTICAST.0, MULTICAST.1),
        (v4(169, 254, 169, 254, 32), METADATA.0, METADATA.1),
        // Where Amazon's machines find it over IPv6.
        (v6(0xfd00, [0xec2, 0x254], 128), METADATA.0, METADATA.1),
        (
            v6(0xfe80, [0, 0], 10),
            "addresses of fe80:: mean something on one link alone, and a task's ends at the node",
            "write another address of the same machine",
        ),
    ]
};

/// Disks of a task's first boot: its volumes, and what some of them start with.
fn disks(job: &JobSpec, task: &TaskSpec) -> usize {
    let volumes: BTreeSet<&VolumeName> = task
        .volumes
        .iter()
        .filter_map(|mount| match &mount.source {
            MountSource::Volume(volume) => Some(volume),
            MountSource::Host(_) => None,
        })
        .collect();
    let imports = |name: &&&VolumeName| job.volumes.get(**name).is_some_and(|volume| volume.import.is_some());
    volumes.len() + volumes.iter().filter(imports).count()
}

/// Volumes that several tasks write to, for one disk in two machines would be destroyed; and readers of which an instance
/// would have nothing to read.
fn shared(job: &JobSpec) -> Vec<Refusal> {
    let mut writers: BTreeMap<&VolumeName, BTreeSet<&TaskName>> = BTreeMap::new();
    let mut refusals = Vec::new();
    for (group, task, spec) in job.tasks() {
        let writes = spec.volumes.iter().filter(|mount| !mount.is_read_only).filter_map(Mount::volume);
        for volume in writes {
            writers.entry(volume).or_default().insert(task);
        }
        refusals
            .extend(job.reads(task).into_iter().filter_map(|volume| too_many(job, (group, task), volume)));
    }
    let shared = writers.into_iter().filter(|(_, tasks)| tasks.len() > 1).map(|(volume, tasks)| {
        let tasks: Vec<String> = tasks.into_iter().map(|task| format!("\"{task}\"")).collect();
        let message = format!(
            "volume \"{volume}\" is written by tasks {}: shared volumes come in a later version",
            tasks.join(", ")
        );
        Refusal::new(message).hint(
            "let one of them write, and mount it with `:ro` in the others, or give each a volume of its own",
        )
    });
    shared.chain(refusals).collect()
}

/// Each instance of a group has volumes of its own, and reads those of the same number.
fn too_many(job: &JobSpec, (group, task): (&GroupName, &TaskName), volume: &VolumeName) -> Option<Refusal> {
    let (held_in, holder) = job.holder(volume)?;
    let [wanted, there] = [group, held_in].map(|name| job.groups.get(name).map_or(0, |group| group.count));
    (wanted > there).then(|| {
        let message = format!(
            "{wanted} instances of task \"{task}\" read volume \"{volume}\", each its own, and \"{holder}\", which writes it, has {there}"
        );
        Refusal::new(message).hint(format!("give group \"{held_in}\" as many instances as group \"{group}\""))
    })
}

/// What of the job is kept but not acted upon yet, in one line; `None` when all of it is in force.
#[must_use]
pub fn not_in_force(job: &JobSpec) -> Option<String> {
    let groups = |is_said: fn(&crate::job::GroupSpec) -> bool| -> Vec<String> {
        job.groups.iter().filter(|(_, group)| is_said(group)).map(|(name, _)| name.to_string()).collect()
    };
    let tasks = |is_said: fn(&TaskSpec) -> bool| -> Vec<String> {
        job.tasks().filter(|(_, _, task)| is_said(task)).map(|(_, name, _)| name.to_string()).collect()
    };
    let volumes = |is_said: fn(&crate::job::volume::VolumeSpec) -> bool| -> Vec<String> {
        job.volumes.iter().filter(|(_, volume)| is_said(volume)).map(|(name, _)| name.to_string()).collect()
    };
    let said = [
        ("place", groups(|group| !group.place.is_empty())),
        ("failover_after", groups(|group| group.failover_after.is_some())),
        ("expose", tasks(|task| !task.expose.is_empty())),
        ("update", tasks(|task| task.update.is_some())),
        ("schedule", tasks(|task| matches!(task.kind, TaskKind::Periodic { .. }))),
        ("max_lag", volumes(|volume| volume.max_lag.is_some())),
    ];
    let keys: Vec<String> = said
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(key, names)| format!("{key} ({})", names.join(", ")))
        .collect();
    (!keys.is_empty()).then(|| format!("not in force yet in this version: {}", keys.join(", ")))
}

/// Volumes whose size differs from the one that they were made with: they keep it. `has_disk` says which are made.
#[must_use]
pub fn resized(before: &JobSpec, after: &JobSpec, has_disk: impl Fn(&VolumeName) -> bool) -> Vec<String> {
    let differs =
        |name: &VolumeName, size| before.volumes.get(name).is_some_and(|volume| volume.size != size);
    let resized = after.volumes.iter().filter(|(name, volume)| differs(name, volume.size) && has_disk(name));
    resized
        .map(|(name, _)| {
            let before = before.volumes.get(name).map_or_else(String::new, |volume| volume.size.to_string());
            format!("volume \"{name}\" keeps its size of {before}: volumes do not change their size yet")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::access::Expose;
    use crate::job::process::{Device, Gpu, Update};
    use crate::job::volume::VolumeSpec;
    use crate::job::{Bytes, GroupSpec};
    use crate::value;

    fn job(tasks: Vec<(&str, TaskSpec)>) -> JobSpec {
        let tasks = tasks.into_iter().map(|(name, task)| (name.parse().unwrap(), task)).collect();
        JobSpec::new("shop".parse().unwrap(), [("main".parse().unwrap(), GroupSpec::new(tasks))].into())
    }

    fn mount(source: MountSource) -> Mount {
        Mount { source, target: "/data".to_owned(), is_read_only: false }
    }

    fn volume() -> Mount {
        mount(MountSource::Volume("data".parse().unwrap()))
    }

    fn task() -> TaskSpec {
        TaskSpec::new("app:1")
    }

    /// Each refusal with its hint.
    fn told(job: &JobSpec) -> Vec<String> {
        let line = |Refusal { message, hint }: Refusal| match hint {
            Some(hint) => format!("{message}: {hint}"),
            None => message,
        };
        refusals(job).into_iter().map(line).collect()
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_name() {
        let device = |host: &str, guest: &str| Device { host: host.to_owned(), guest: guest.to_owned() };
        let host = TaskSpec {
            volumes: vec![mount(MountSource::Host("/srv/media".to_owned()))],
            devices: vec![device("/dev/fuse", "/dev/fuse"), device("/dev/ttyUSB0", "/dev/ttyUSB0")],
            gpu: Some(Gpu::All),
            ..task()
        };
        let mut all = job(vec![("web", host)]);
        all.secrets.insert("key".parse().unwrap(), FileSource::Store);
        assert_eq!(
            told(&all),
            [
                "secret \"key\" is to come from the cluster's store, which comes in a later version: give it a file: `key: { file: ./key }`",
                "task \"web\" mounts /srv/media of the node: host folders come in a later version: declare a volume under `volumes:` and mount that; `lith cp` brings files into it",
                "task \"web\" wants /dev/ttyUSB0 of the node: host devices come in a later version: `/dev/fuse` and `/dev/net/tun` are the guest's own, and work",
                "task \"web\" wants a graphics processor: `gpu` comes in a later version: remove `gpu` to run it without one",
            ]
        );
        let named = |index: usize| mount(MountSource::Volume(format!("v{index}").parse().unwrap()));
        let most = || TaskSpec { volumes: (0..DISKS_MAX).map(named).collect(), ..task() };
        let mut many = job(vec![("web", most())]);
        assert_eq!(told(&many), Vec::<String>::new());
        let import = VolumeSpec { import: Some("./site".to_owned()), ..VolumeSpec::default() };
        many.volumes.insert("v3".parse().unwrap(), import);
        assert_eq!(
            told(&many),
            [
                "task \"web\" needs 17 disks, one for each volume and each import: a machine holds 16: put what belongs together into one volume"
            ]
        );
    }

    #[test]
    fn one_task_writes_and_others_read() {
        let with = || TaskSpec { volumes: vec![volume()], ..task() };
        let reader = || TaskSpec { volumes: vec![Mount { is_read_only: true, ..volume() }], ..task() };
        assert_eq!(
            told(&job(vec![("a", with()), ("b", with()), ("c", reader())])),
            [
                "volume \"data\" is written by tasks \"a\", \"b\": shared volumes come in a later version: let one of them write, and mount it with `:ro` in the others, or give each a volume of its own",
            ]
        );
        let none = Vec::<String>::new();
        assert_eq!(told(&job(vec![("a", reader()), ("b", with()), ("c", reader())])), none);
        assert_eq!(told(&job(vec![("a", reader()), ("b", reader())])), none);
        let twice = Mount { target: "/other".to_owned(), ..volume() };
        let twice = TaskSpec { volumes: vec![volume(), twice], ..task() };
        assert_eq!(told(&job(vec![("a", twice), ("b", task())])), none);
    }

    #[test]
    fn the_first_that_writes_has_the_disk() {
        let with = || TaskSpec { volumes: vec![volume()], ..task() };
        let reader = || TaskSpec { volumes: vec![Mount { is_read_only: true, ..volume() }], ..task() };
        let check = |tasks, holder: Option<&str>, readers: &[&str]| {
            let job = job(tasks);
            let data = "data".parse().unwrap();
            assert_eq!(job.holder(&data).map(|(_, task)| task.as_str()), holder);
            let reads = |(_, name, _): &(_, &TaskName, _)| !job.reads(name).is_empty();
            let found: Vec<&str> = job.tasks().filter(reads).map(|(_, name, _)| name.as_str()).collect();
            assert_eq!(found, readers);
        };
        check(vec![("a", reader()), ("b", with()), ("c", reader())], Some("b"), &["a", "c"]);
        check(vec![("a", reader()), ("b", reader())], Some("a"), &["b"]);
        check(vec![("a", task())], None, &[]);
    }

    #[test]
    fn each_instance_reads_the_volume_of_its_number() {
        let with = |is_read_only| TaskSpec { volumes: vec![Mount { is_read_only, ..volume() }], ..task() };
        let group = |count, name: &str, spec| GroupSpec {
            count,
            ..GroupSpec::new([(name.parse().unwrap(), spec)].into())
        };
        let check = |writers, readers| {
            let groups = [
                ("back".parse().unwrap(), group(writers, "db", with(false))),
                ("front".parse().unwrap(), group(readers, "web", with(true))),
            ];
            told(&JobSpec::new("shop".parse().unwrap(), groups.into()))
        };
        assert_eq!(check(2, 1), Vec::<String>::new());
        assert_eq!(
            check(1, 3),
            [
                "3 instances of task \"web\" read volume \"data\", each its own, and \"db\", which writes it, has 1: give group \"back\" as many instances as group \"front\""
            ]
        );
    }

    #[test]
    fn what_is_kept_for_later_is_told_in_one_line() {
        assert_eq!(not_in_force(&job(vec![("web", task())])), None);
        let net = || TaskSpec { egress: vec![Egress::Internet], ..task() };
        let expose = vec![Expose { host: "shop.example.org".to_owned(), port: 80 }];
        let web = TaskSpec { expose, update: Some(Update::default()), ..net() };
        let kind = TaskKind::Periodic { schedule: "0 3 * * *".to_owned() };
        let mut all = job(vec![("backup", TaskSpec { kind, ..task() }), ("web", web), ("worker", net())]);
        let volume =
            VolumeSpec { max_lag: Some(std::time::Duration::from_secs(30)), ..VolumeSpec::default() };
        let volume = VolumeSpec { pool: Some("fast".parse().unwrap()), ..volume };
        for group in all.groups.values_mut() {
            group.place.insert("node-1".parse().unwrap());
            group.failover_after = Some(std::time::Duration::from_secs(60));
        }
        all.volumes.insert("site".parse().unwrap(), volume);
        assert_eq!(
            not_in_force(&all).unwrap(),
            "not in force yet in this version: place (main), failover_after (main), expose (web), \
             update (web), schedule (backup), max_lag (site)"
        );
    }

    #[test]
    fn what_no_task_can_reach_is_refused() {
        let check = |entry: &str, expected: Option<&str>| {
            let entry = value::access::egress(entry).unwrap();
            let refusal = impossible_egress(&entry);
            assert_eq!(refusal.map(|refusal| refusal.message).as_deref(), expected);
        };
        for entry in [
            "internet",
            "api.example.org",
            "api.example.org:8000-8015",
            "10.0.0.0/8",
            "0.0.0.0/0",
            "::/0",
            "169.254.0.0/16",
            "192.168.1.20:631",
            "[fd00::1]:443",
            "1.1.1.1:1-65535",
        ] {
            check(entry, None);
        }
        let loopback = |entry| format!("`{entry}` is of no use: loopback is the task itself");
        for entry in ["127.0.0.1:80", "127.0.0.0/8", "[::1]:80"] {
            check(entry, Some(&loopback(entry)));
        }
        check("0.0.0.0:80", Some("`0.0.0.0:80` is of no use: it is the address of nobody"));
        check("::", Some("`::` is of no use: it is the address of nobody"));
        check("239.1.0.0/16", Some("`239.1.0.0/16` is of no use: multicast does not leave a task"));
        check("ff02::fb", Some("`ff02::fb` is of no use: multicast does not leave a task"));
        check(
            "169.254.169.254:80",
            Some(
                "`169.254.169.254:80` is of no use: metadata of a cloud's machine is closed to every task, for it holds the machine's own secrets",
            ),
        );
        check(
            "fe80::1",
            Some(
                "`fe80::1` is of no use: addresses of fe80:: mean something on one link alone, and a task's ends at the node",
            ),
        );
        check("*.ntfy.sh:80-96", Some("`*.ntfy.sh:80-96` names 17 ports; a name has up to 16"));
        check("a.b:1-65535", Some("`a.b:1-65535` names 65535 ports; a name has up to 16"));
    }

    #[test]
    fn loopback_of_ipv6_publishes_nothing() {
        let with =
            |publish: &str| TaskSpec { publish: vec![value::port::publish(publish).unwrap()], ..task() };
        assert_eq!(
            told(&job(vec![("web", with("[::]:80:80")), ("api", with("[fd00::1]:80:80"))])),
            Vec::<String>::new()
        );
        assert_eq!(
            told(&job(vec![("web", with("[::1]:8080:80/udp"))])),
            [
                "task \"web\": `[::1]:8080:80/udp`: what is sent to ::1 stays on the node, whose kernel passes it to no task: publish it on the node's own address of IPv4: `127.0.0.1:8080:80/udp`"
            ]
        );
    }

    #[test]
    fn a_volume_keeps_its_size() {
        let with = |size| {
            let mut job = job(vec![("web", task())]);
            job.volumes
                .insert("data".parse().unwrap(), VolumeSpec { size: Bytes(size), ..VolumeSpec::default() });
            job
        };
        let resized = |before: &JobSpec, after: &JobSpec| super::resized(before, after, |_| true);
        assert_eq!(super::resized(&with(1 << 30), &with(2 << 30), |_| false), Vec::<String>::new());
        assert_eq!(resized(&with(1 << 30), &with(1 << 30)), Vec::<String>::new());
        assert_eq!(
            resized(&with(1 << 30), &with(2 << 30)),
            ["volume \"data\" keeps its size of 1G: volumes do not change their size yet"]
        );
        assert_eq!(resized(&job(vec![("web", task())]), &with(1)), Vec::<String>::new());
    }
}
