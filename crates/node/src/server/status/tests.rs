//! The wanted world joined with what is seen.

use lith_core::deploy::{Plan, plan};
use lith_core::job::JobSpec;

use super::*;
use crate::server::desired;

/// A ready task of a job, instance 0, as its node reports it.
pub(crate) fn status(job: &str, task: &str) -> TaskStatus {
    TaskStatus {
        id: format!("{job}.main.0.{task}"),
        job: job.to_owned(),
        group: "main".to_owned(),
        index: 0,
        task: task.to_owned(),
        node: "odin".to_owned(),
        phase: Phase::Running,
        is_ready: true,
        why: None,
        hint: None,
        incarnation: 1,
        image: "nginx:1".to_owned(),
        image_digest: None,
        running_since_ms: Some(1000),
        health: None,
        health_output: None,
        restarts: 0,
        last_exit: None,
        is_held_up: false,
        address: None,
        publish: vec![],
    }
}

fn instance(index: u32, phase: Phase) -> TaskStatus {
    TaskStatus {
        id: format!("shop.main.{index}.web"),
        index,
        phase,
        is_ready: phase == Phase::Running,
        ..status("shop", "web")
    }
}

/// The job `shop` with a task `web` in so many instances, deployed as incarnation 1.
fn shop(count: u32) -> Job {
    let spec = serde_json::json!({
        "name": "shop",
        "groups": { "main": { "count": count, "tasks": { "web": {
            "image": "nginx:1", "memory_bytes": 268_435_456, "cpu_millis": 1000, "restart": "no", "stop_grace_ms": 1000
        } } } }
    });
    let spec: lith_api::job::JobSpec = serde_json::from_value(spec).unwrap();
    let Plan { job, .. } = plan(None, JobSpec::try_from(&spec).unwrap(), Incarnation(1), &BTreeSet::new());
    job
}

#[test]
fn a_task_is_well_when_every_instance_is_ready() {
    let job = shop(2);
    let check = |seen: Vec<TaskStatus>, is_well: bool| {
        let observed = Observed { version: 1, tasks: seen.clone() };
        assert_eq!(!well(&job, &observed, Time(100_000)).is_empty(), is_well, "{seen:?}");
    };
    let [first, second] = [instance(0, Phase::Running), instance(1, Phase::Running)];
    check(vec![first.clone(), second.clone()], true);
    check(vec![first.clone(), instance(1, Phase::Waiting)], false);
    check(vec![first.clone(), TaskStatus { is_ready: false, ..second.clone() }], false);
    check(vec![first.clone(), TaskStatus { incarnation: 0, ..second.clone() }], false);
    for (health, is_well) in [(Health::Healthy, true), (Health::Unhealthy, false), (Health::Starting, false)]
    {
        check(vec![first.clone(), TaskStatus { health: Some(health), ..second.clone() }], is_well);
    }
    let restarted = |running_since_ms| TaskStatus { restarts: 3, running_since_ms, ..second.clone() };
    check(vec![first.clone(), restarted(Some(40_000))], true);
    check(vec![first.clone(), restarted(Some(40_001))], false);
    check(vec![first.clone(), restarted(None)], false);
    check(vec![first, instance(2, Phase::Running)], false);
    check(vec![], false);
}

fn world(job: &Job) -> World {
    let node: NodeName = "odin".parse().unwrap();
    let allocs: BTreeMap<AllocId, NodeName> =
        lith_core::place::allocs_of(job).map(|alloc| (alloc, node.clone())).collect();
    let stored = StoredJob { job: job.clone(), created: Time(1), updated: Time(2) };
    World {
        jobs: BTreeMap::from([(job.spec.name.clone(), stored)]),
        births: allocs.keys().map(|alloc| (alloc.clone(), 7)).collect(),
        allocs,
        version: 9,
        cluster: "one".to_owned(),
        ..World::default()
    }
}

fn observed(tasks: Vec<TaskStatus>) -> Observed {
    Observed { version: 1, tasks }
}

fn start(job: &Job, tasks: Vec<TaskStatus>) -> Result<u64, String> {
    let request = AskRequest { ask: Ask::Start, task: None };
    let asked = ask(job, &request, &observed(tasks), Incarnation(5)).map_err(|failure| failure.message)?;
    Ok(asked.desires.values().next().unwrap().incarnation.0)
}

#[test]
fn start_runs_again_what_has_finished_and_nothing_else() {
    let job = shop(2);
    assert_eq!(start(&job, vec![instance(0, Phase::Running), instance(1, Phase::Running)]), Ok(1));
    assert_eq!(start(&job, vec![instance(0, Phase::Finished), instance(1, Phase::Finished)]), Ok(5));
    assert_eq!(start(&job, vec![instance(0, Phase::Finished), instance(1, Phase::Waiting)]), Ok(5));
    assert_eq!(start(&job, vec![instance(0, Phase::Finished)]), Ok(5));
    assert_eq!(start(&job, vec![]), Ok(1), "nothing was seen to finish");
    assert_eq!(
        start(&job, vec![instance(0, Phase::Finished), instance(1, Phase::Running)]),
        Err("task \"web\" of job \"shop\" has finished in instance 0 and runs in instance 1; instances start \
             together"
            .to_owned()),
    );
    // An instance that is on its way out does not count, and neither does the end of a former version.
    assert_eq!(start(&shop(1), vec![instance(0, Phase::Running), instance(1, Phase::Finished)]), Ok(1));
    let former = TaskStatus { incarnation: 0, ..instance(0, Phase::Finished) };
    assert_eq!(start(&job, vec![former, instance(1, Phase::Running)]), Ok(1));
}

#[test]
fn start_begins_what_was_stopped_whatever_is_still_seen_of_it() {
    let job = shop(2);
    let stop = AskRequest { ask: Ask::Stop, task: None };
    let stopped = ask(&job, &stop, &observed(vec![]), Incarnation(3)).unwrap();
    assert_eq!(start(&stopped, vec![instance(0, Phase::Finished), instance(1, Phase::Running)]), Ok(5));
}

#[test]
fn an_unknown_task_is_named_with_those_there_are() {
    let request = AskRequest { ask: Ask::Stop, task: Some("wep".to_owned()) };
    let failure = ask(&shop(1), &request, &observed(vec![]), Incarnation(3)).unwrap_err();
    assert_eq!(failure.message, "job \"shop\" has no task \"wep\"");
    assert_eq!(failure.hint.as_deref(), Some("it has: web"));
}

#[test]
fn what_is_seen_is_joined_with_what_is_wanted() {
    let job = shop(2);
    let phases = |seen: Vec<TaskStatus>| -> Vec<(String, Phase, bool)> {
        let tasks = tasks(&world(&job), &observed(seen));
        tasks.into_iter().map(|task| (task.id, task.phase, task.is_ready)).collect()
    };
    let line = |index: u32, phase, is_ready| (format!("shop.main.{index}.web"), phase, is_ready);
    assert_eq!(
        phases(vec![instance(0, Phase::Running)]),
        [line(0, Phase::Running, true), line(1, Phase::Waiting, false)],
        "what no node has seen waits"
    );
    assert_eq!(
        phases(vec![instance(0, Phase::Running), instance(1, Phase::Running), instance(2, Phase::Running)]),
        [line(0, Phase::Running, true), line(1, Phase::Running, true), line(2, Phase::Stopping, false)],
        "what is not wanted any more is on its way out"
    );
    let former = TaskStatus { incarnation: 0, ..instance(0, Phase::Finished) };
    assert_eq!(phases(vec![former])[0], line(0, Phase::Waiting, false));
}

#[test]
fn changes_of_phase_and_readiness_are_told() {
    let message = |before: Vec<TaskStatus>, now: Vec<TaskStatus>| -> Vec<String> {
        phase_events(&observed(before), &observed(now)).into_iter().map(|event| event.message).collect()
    };
    let running = instance(0, Phase::Running);
    let failed = TaskStatus { why: Some("exited with code 1".to_owned()), ..instance(0, Phase::Waiting) };
    assert_eq!(message(vec![], vec![running.clone()]), ["ready"]);
    assert_eq!(message(vec![running.clone()], vec![running.clone()]), Vec::<String>::new());
    assert_eq!(message(vec![running.clone()], vec![failed]), ["waiting: it exited with code 1"]);
    assert_eq!(message(vec![running], vec![]), ["removed"]);
}

#[test]
fn a_node_is_told_its_own_allocs_and_nothing_else() {
    let job = shop(2);
    let mut world = world(&job);
    let second: AllocId = "shop.main.1".parse().unwrap();
    world.allocs.insert(second.clone(), "thor".parse().unwrap());
    world.births.insert(second, 8);
    // Of a job that is gone: its alloc is not wanted either.
    world.allocs.insert("old.main.0".parse().unwrap(), "odin".parse().unwrap());
    let desired = desired::of(&world, &"odin".parse().unwrap());
    assert_eq!((desired.cluster.as_str(), desired.version), ("one", 9));
    let allocs: Vec<(&str, u64)> =
        desired.allocs.iter().map(|alloc| (alloc.id.as_str(), alloc.born)).collect();
    assert_eq!(allocs, [("shop.main.0", 7)]);
    let task = &desired.allocs[0].tasks[0];
    assert_eq!((task.name.as_str(), task.incarnation, task.run), ("web", 1, true));
    let other = desired::of(&world, &"thor".parse().unwrap());
    assert_eq!((other.allocs[0].id.as_str(), other.allocs[0].born), ("shop.main.1", 8));
}
