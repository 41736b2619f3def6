//! Every job, written as a file, reads as the same job.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use lith_core::job::{
    Bytes, CpuMillis, GroupSpec, JobSpec, Port, Publish, RestartPolicy, TaskSpec, Transport,
};
use lith_spec::{Colour, check, to_yaml};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

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
    ]
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)]
}

fn port() -> impl Strategy<Value = Port> {
    (1..=u16::MAX, transport()).prop_map(|(number, transport)| Port { number, transport })
}

fn restart() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::Never),
        option::of(1..=u32::MAX).prop_map(|retries_max| RestartPolicy::OnFailure { retries_max }),
    ]
}

fn publish() -> impl Strategy<Value = Publish> {
    let address =
        prop_oneof![Just(None), Just(Some(Ipv4Addr::LOCALHOST)), Just(Some(Ipv4Addr::new(192, 0, 2, 7)))];
    (address, 1..=u16::MAX, 1..=u16::MAX, transport()).prop_map(
        |(address, host_port, guest_port, transport)| Publish { address, host_port, guest_port, transport },
    )
}

fn task() -> impl Strategy<Value = TaskSpec> {
    let image = "([a-z]{1,5}\\.example(:[1-9][0-9]{0,3})?/)?[a-z0-9]{1,6}(:[a-zA-Z0-9_.-]{0,3}[a-z])?"
        .prop_filter("a tag starts with a word", |image| !image.contains(":.") && !image.contains(":-"));
    let process = (
        image,
        option::of(vec(text(), 0..4)),
        option::of(vec(text(), 0..4)),
        btree_map("[A-Za-z_~<#.-][A-Za-z0-9_.~:#-]{0,9}", text(), 0..5),
        option::of("[a-z0-9_][a-z0-9_-]{0,6}(:[a-z_][a-z0-9]{0,6})?|[0-9]{1,9}:[0-9]{1,9}"),
        option::of(text().prop_map(|text| format!("/{text}"))),
    );
    let machine = (
        (64u64 << 20..=4 << 40).prop_map(Bytes),
        (10u32..=64_000).prop_map(CpuMillis),
        btree_map((1..=u16::MAX, transport()), Just(()), 0..4),
        restart(),
        option::of(prop_oneof![
            Just(String::from("SIGTERM")),
            Just(String::from("9")),
            Just(String::from("SIGRTMIN+3"))
        ]),
        (0..=3_600_000_000_000u64).prop_map(Duration::from_nanos),
    );
    (process, machine).prop_map(|(process, machine)| TaskSpec {
        image: process.0,
        entrypoint: process.1,
        command: process.2,
        env: process.3,
        user: process.4,
        working_dir: process.5,
        memory: machine.0,
        cpus: machine.1,
        // In the order of the keys, which is that of the valid form.
        ports: machine.2.into_keys().map(|(number, transport)| Port { number, transport }).collect(),
        publish: Vec::new(),
        restart: machine.3,
        stop_signal: machine.4,
        stop_grace: machine.5,
    })
}

fn job() -> impl Strategy<Value = JobSpec> {
    let tasks = btree_map(name(), task(), 1..3);
    let group = (1..=100u32, tasks).prop_map(|(count, tasks)| GroupSpec { count, tasks });
    (name(), btree_map(name(), group, 1..3), vec(publish(), 0..4)).prop_map(|(name, groups, publish)| {
        let mut job = JobSpec { name, groups };
        publish_in_first_group(&mut job.groups, publish);
        job
    })
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_job_round_trips(job in job()) {
        let text = to_yaml(&job);
        let reading = check("job.yaml", &text);
        prop_assert!(reading.diagnostics.list.is_empty(), "{}\n{text}", reading.diagnostics.render(Colour::None));
        prop_assert_eq!(reading.job.as_ref(), Some(&job), "{}", text);
        prop_assert_eq!(to_yaml(&job), text, "written the same each time");
    }

    #[test]
    fn every_port_reads_as_shown(port in port(), publish in publish()) {
        let text = format!("job: j\ntasks: {{ t: {{ image: x, ports: [ {port} ], publish: [ \"{publish}\" ] }} }}\n");
        let job = check("job.yaml", &text).job.expect("the file is accepted");
        let (_, _, task) = job.tasks().next().expect("one task");
        prop_assert_eq!((&task.ports, &task.publish), (&vec![port], &vec![publish]));
    }
}
