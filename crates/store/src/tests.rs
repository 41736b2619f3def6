//! Tests on a real database file.

use std::collections::{BTreeMap, BTreeSet};

use lith_core::deploy::plan;
use lith_core::job::{Bytes, CpuMillis, GroupSpec, JobSpec, Publish, RestartPolicy, TaskSpec, Transport};
use lith_core::task::Incarnation;

use super::*;

fn job(name: &str) -> Job {
    let publish =
        Publish { address: None, host_port: 8080, guest_port: 80, count: 1, transport: Transport::Udp };
    let task = TaskSpec {
        entrypoint: Some(vec!["/bin/sh".to_owned()]),
        env: BTreeMap::from([("A".to_owned(), "\"ü\"\n".to_owned())]),
        user: Some("1:1".to_owned()),
        memory: Bytes(256 << 20),
        cpus: CpuMillis(500),
        publish: vec![publish],
        restart: RestartPolicy::OnFailure { retries_max: Some(2) },
        ..TaskSpec::new("nginx:1")
    };
    let tasks = BTreeMap::from([("web".parse().unwrap(), task)]);
    let groups = BTreeMap::from([("main".parse().unwrap(), GroupSpec::new(tasks))]);
    plan(None, JobSpec::new(name.parse().unwrap(), groups), Incarnation(1), &BTreeSet::new()).job
}

fn event(message: &str) -> Event {
    Event {
        id: 0,
        time_ms: 0,
        job: Some("shop".to_owned()),
        task: None,
        kind: "deployed".to_owned(),
        message: message.to_owned(),
    }
}

#[test]
fn what_is_written_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lith.db");
    let alloc: AllocId = "shop.main.0".parse().unwrap();
    let node: NodeName = "odin".parse().unwrap();
    let cluster;
    {
        let mut store = Store::open(&path).unwrap();
        cluster = store.world().unwrap().cluster;
        assert_eq!(store.world().unwrap(), World { cluster: cluster.clone(), ..World::default() });
        let placements = vec![Placement::Place(alloc.clone(), node.clone())];
        let write =
            Write { put: vec![job("shop")], placements, events: vec![event("one")], ..Write::default() };
        let (version, events) = store.write(&write, Time(5)).unwrap();
        assert_eq!((version, events[0].id, events[0].time_ms), (1, 1, 5));
    }
    let mut store = Store::open(&path).unwrap();
    let world = store.world().unwrap();
    assert_eq!(world.jobs.values().map(|stored| &stored.job).collect::<Vec<_>>(), [&job("shop")]);
    assert_eq!(world.allocs, BTreeMap::from([(alloc.clone(), node)]));
    assert_eq!(world.births, BTreeMap::from([(alloc.clone(), 1)]));
    assert_eq!(world.cluster, cluster, "the name of the cluster stays");
    let changed = Job { version: 2, ..job("shop") };
    store.write(&Write { put: vec![changed], ..Write::default() }, Time(9)).unwrap();
    let stored = store.world().unwrap().jobs.into_values().next().unwrap();
    assert_eq!((stored.created, stored.updated, stored.job.version), (Time(5), Time(9), 2));
    let write = Write {
        delete: vec!["shop".parse().unwrap()],
        placements: vec![Placement::Remove(alloc)],
        ..Write::default()
    };
    assert_eq!(store.write(&write, Time(10)).unwrap().0, 3);
    assert_eq!(store.world().unwrap(), World { version: 3, cluster: cluster.clone(), ..World::default() });
    store.raise_version(20).unwrap();
    assert_eq!(store.world().unwrap().version, 21);
    let other = Store::open(&folder.path().join("other.db")).unwrap().world().unwrap().cluster;
    assert_ne!(other, cluster);
    assert_eq!(other.len(), 32);
}

#[test]
fn numbers_of_tasks_live_as_long_as_their_job() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lith.db");
    let key = |task: &str| -> ServiceKey { ("shop".parse().unwrap(), task.parse().unwrap()) };
    let number = |number| ServiceNumber::new(number).unwrap();
    {
        let mut store = Store::open(&path).unwrap();
        assert_eq!(store.world().unwrap().last_service, None);
        let services = vec![(key("web"), number(1)), (key("db"), number(2))];
        store.write(&Write { put: vec![job("shop")], services, ..Write::default() }, Time(1)).unwrap();
        let twice = vec![(key("other"), number(2))];
        store.write(&Write { services: twice, ..Write::default() }, Time(1)).unwrap_err();
    }
    let mut store = Store::open(&path).unwrap();
    let world = store.world().unwrap();
    assert_eq!(world.services, BTreeMap::from([(key("web"), number(1)), (key("db"), number(2))]));
    assert_eq!((world.last_service, world.version), (Some(number(2)), 1));
    store.write(&Write { delete: vec!["shop".parse().unwrap()], ..Write::default() }, Time(2)).unwrap();
    let world = store.world().unwrap();
    assert_eq!(world.services, BTreeMap::new());
    assert_eq!(world.last_service, Some(number(2)), "so that it is not given out again soon");
    store.connection.execute("insert into service values ('shop', 'web', 40000)", []).unwrap();
    let error = store.world().unwrap_err();
    assert_eq!(error.to_string(), "cannot read the number of task \"shop/web\" from the database");
}

#[test]
fn a_database_without_numbers_is_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lith.db");
    {
        let mut connection = Connection::open(&path).unwrap();
        schema::migrations().to_version(&mut connection, 1).unwrap();
        let (form, body) = form::encode(&job("shop"));
        connection.execute("insert into job values ('shop', 1, ?1, ?2, 1, 1)", params![form, body]).unwrap();
    }
    let world = Store::open(&path).unwrap().world().unwrap();
    assert_eq!(world.jobs.len(), 1);
    assert_eq!((world.services, world.last_service), (BTreeMap::new(), None));
}

#[test]
fn events_do_not_change_the_version_and_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("lith.db")).unwrap();
    let many = vec![event("x"); usize::try_from(EVENTS_MAX).unwrap() + 10];
    let (version, _) = store.write(&Write { events: many, ..Write::default() }, Time(1)).unwrap();
    assert_eq!(version, 0);
    let first = store.events_after(0).unwrap();
    assert_eq!((first[0].id, first.len()), (11, EVENTS_BATCH_MAX as usize));
    assert_eq!(store.events_after(EVENTS_MAX + 8).unwrap().len(), 2);
    assert_eq!(store.last_event().unwrap(), EVENTS_MAX + 10);
}

#[test]
fn events_are_found_by_their_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("lith.db")).unwrap();
    assert_eq!((store.last_event().unwrap(), store.last_event_before(Time(5)).unwrap()), (0, 0));
    for time in [10, 20, 20, 30] {
        store.write(&Write { events: vec![event("x")], ..Write::default() }, Time(time)).unwrap();
    }
    for (time, before) in [(0, 0), (10, 0), (11, 1), (20, 1), (21, 3), (30, 3), (31, 4)] {
        assert_eq!(store.last_event_before(Time(time)).unwrap(), before, "{time}");
    }
}

#[test]
fn a_newer_form_and_a_damaged_row_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("lith.db")).unwrap();
    store.write(&Write { put: vec![job("shop")], ..Write::default() }, Time(1)).unwrap();
    let causes = [
        ("form = 99", "form 99 is newer than this version of lith knows"),
        ("form = 1, body = '{'", "it is not valid JSON of its form"),
    ];
    for (assignment, cause) in causes {
        store.connection.execute(&format!("update job set {assignment}"), []).unwrap();
        let error = store.world().unwrap_err();
        assert_eq!(error.to_string(), "cannot read job \"shop\" from the database");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), cause);
    }
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lith.db");
    std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
    let error = Store::open(&path).unwrap_err().to_string();
    assert!(error.starts_with("cannot open the database"), "{error}");
}
