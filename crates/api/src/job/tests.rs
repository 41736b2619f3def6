//! Tests of the job as it travels.

use std::collections::BTreeMap;

use lith_core::job as core;

use super::*;
use proptest::prelude::*;

fn task() -> TaskSpec {
    TaskSpec::from(&core::TaskSpec::new("nginx:1"))
}

fn job(task: TaskSpec) -> JobSpec {
    let tasks = BTreeMap::from([("web".to_owned(), task)]);
    let group = GroupSpec { count: 1, place: vec![], failover_after_ms: None, tasks };
    JobSpec {
        name: "shop".to_owned(),
        volumes: BTreeMap::new(),
        secrets: BTreeMap::new(),
        configs: BTreeMap::new(),
        groups: BTreeMap::from([("main".to_owned(), group)]),
    }
}

#[test]
fn refusals_name_the_field() {
    let text = |text: &str| vec![text.to_owned()];
    let cases = [
        (TaskSpec { memory_bytes: 1, ..task() }, "memory of task \"web\": 1B is not between 64M and 4T"),
        (TaskSpec { cpu_millis: 0, ..task() }, "cpus of task \"web\": 0 is not between 0.01 and 64"),
        (
            TaskSpec { ports: text("0"), ..task() },
            "ports of task \"web\": `0` is not a port: ports are 1 to 65535; a range is written `9000-9010`",
        ),
        (
            TaskSpec { ports: text("80/sctp"), ..task() },
            "ports of task \"web\": `80/sctp` is not a port: write `/tcp` or `/udp` after the port",
        ),
        (
            TaskSpec { ports: vec!["80".to_owned(); 101], ..task() },
            "ports of task \"web\": 101 entries are more than 100",
        ),
        (
            TaskSpec { publish: text("::1:80:80"), ..task() },
            "publish of task \"web\": `::1:80:80` does not publish a port: write \"NODE:TASK\", such as \"8080:80\", \
             \"127.0.0.1:8080:80\" or \"5353:53/udp\"",
        ),
        (
            TaskSpec { publish: text("224.0.0.1:80:80"), ..task() },
            "publish of task \"web\": `224.0.0.1` is no address of a node",
        ),
        (
            TaskSpec { publish: vec!["80:81".to_owned(), "127.0.0.1:80:80".to_owned()], ..task() },
            "publish of task \"web\": port 80/tcp of the node is already published by task \"web\"",
        ),
        (
            TaskSpec { restart: "maybe".to_owned(), ..task() },
            "restart of task \"web\": `maybe` is not a restart policy: write `always`, `on-failure`, `on-failure:3` or \
             `no`",
        ),
        (
            TaskSpec { restart: "on-failure:0".to_owned(), ..task() },
            "restart of task \"web\": `on-failure:0` is not a restart policy: write `no` for no restart, \
             `on-failure` for no limit",
        ),
        (
            TaskSpec { command: Some(text("a\0b")), ..task() },
            "command of task \"web\": a text cannot contain a zero byte",
        ),
        (
            TaskSpec { env: BTreeMap::from([("A=B".to_owned(), String::new())]), ..task() },
            "env of task \"web\": `A=B` is not the name of a variable: names hold no `=` and no spaces",
        ),
        (
            TaskSpec { image: "Web:1".to_owned(), ..task() },
            "image of task \"web\": `Web:1` is not an image reference: names are in lower case: did you mean `web:1`?",
        ),
        (
            TaskSpec { user: Some("a b".to_owned()), ..task() },
            "user of task \"web\": `a b` is not a user: write a name or number, and a group after a colon: \
             `www-data`, `1000:1000`",
        ),
        (
            TaskSpec { working_dir: Some("srv".to_owned()), ..task() },
            "working_dir of task \"web\": `srv` is not an absolute path: start it with `/`",
        ),
        (
            TaskSpec { stop_signal: Some("SIGNO".to_owned()), ..task() },
            "stop_signal of task \"web\": `SIGNO` is not a signal: write a name such as `SIGTERM` or `SIGRTMIN+3`, \
             or a number",
        ),
    ];
    for (task, expected) in cases {
        assert_eq!(core::JobSpec::try_from(&job(task)).unwrap_err().to_string(), expected);
    }
}

#[test]
fn refusals_name_what_holds_for_the_whole_job() {
    let text = |text: &str| vec![text.to_owned()];
    let empty = JobSpec { groups: BTreeMap::new(), ..job(task()) };
    let error = core::JobSpec::try_from(&empty).unwrap_err().to_string();
    assert_eq!(error, "groups of the job: 0 is not between 1 and 100");
    let mut wide = job(TaskSpec { publish: text("80"), ..task() });
    wide.groups.values_mut().for_each(|group| group.count = 3);
    let error = core::JobSpec::try_from(&wide).unwrap_err().to_string();
    assert_eq!(error, "publish of task \"web\": port 80 of the node is wanted by each of 3 instances");
}

#[test]
fn the_order_of_ports_makes_no_difference() {
    let parse = |ports: [&str; 3], publish: [&str; 3]| {
        let texts = |texts: [&str; 3]| texts.map(str::to_owned).to_vec();
        job_spec(TaskSpec { ports: texts(ports), publish: texts(publish), ..task() })
    };
    assert_eq!(
        parse(["53/udp", "80", "80/tcp"], ["81:80", "0.0.0.0:80:80", "80"]),
        parse(["80", "80", "53/udp"], ["80:80", "81:80", "81:80"])
    );
}

fn job_spec(task: TaskSpec) -> core::JobSpec {
    core::JobSpec::try_from(&job(task)).unwrap()
}

proptest! {
    #[test]
    fn round_trips(
        memory in core::MEMORY_MIN.0..core::MEMORY_MAX.0,
        cpus in core::CPUS_MIN.0..core::CPUS_MAX.0,
        port in 1u16..,
        udp in any::<bool>(),
        address in proptest::option::of((1u8..200, any::<[u8; 3]>())),
        restart in prop_oneof![Just("always"), Just("no"), Just("on-failure"), Just("on-failure:7")],
        command in proptest::option::of(proptest::collection::vec("[^\0]{0,9}", 0..3)),
    ) {
        let end = if udp { "/udp" } else { "" };
        let address = address.map_or(String::new(), |(a, [b, c, d])| format!("{a}.{b}.{c}.{d}:"));
        let spec = job(TaskSpec {
            memory_bytes: memory,
            cpu_millis: cpus,
            ports: vec![format!("{port}{end}")],
            publish: vec![format!("{address}{port}:80{end}")],
            restart: restart.to_owned(),
            command,
            ..task()
        });
        let parsed = core::JobSpec::try_from(&spec).unwrap();
        prop_assert_eq!(JobSpec::from(&parsed), spec);
    }
}
