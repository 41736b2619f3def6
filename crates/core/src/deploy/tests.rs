//! Tests of the deployment plan.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::job::{Publish, Transport};

pub(crate) fn task(image: &str) -> TaskSpec {
    TaskSpec::new(image)
}

fn publish(host_port: u16) -> Publish {
    Publish { address: None, host_port, guest_port: 80, count: 1, transport: Transport::Tcp }
}

pub(crate) fn job(name: &str, tasks: &[(&str, TaskSpec)]) -> JobSpec {
    let tasks = tasks.iter().map(|(name, task)| (name.parse().unwrap(), task.clone())).collect();
    let groups = BTreeMap::from([("main".parse().unwrap(), GroupSpec::new(tasks))]);
    JobSpec::new(name.parse().unwrap(), groups)
}

prop_compose! {
    /// A job with up to three groups of up to three tasks.
    pub(crate) fn arbitrary_job()(
        groups in proptest::collection::btree_map(
            "[a-c]",
            (1u32..4, proptest::collection::btree_map("[a-c]", ("[a-c]", 0u16..3), 1..4)),
            1..4,
        ),
    ) -> JobSpec {
        let groups = groups.into_iter().map(|(name, (count, tasks))| {
            let tasks = tasks.into_iter().map(|(name, (image, port))| {
                let mut spec = task(&image);
                if port > 0 {
                    spec.publish = vec![publish(8000 + port)];
                }
                (name.parse().unwrap(), spec)
            });
            (name.parse().unwrap(), GroupSpec { count, ..GroupSpec::new(tasks.collect()) })
        });
        JobSpec::new("shop".parse().unwrap(), groups.collect())
    }
}

/// A deployment while nothing is known to be well.
pub(crate) fn plan(current: Option<&Job>, spec: JobSpec, next: Incarnation) -> Plan {
    super::plan(current, spec, next, &BTreeSet::new())
}

const ONE: Instances = Instances { from: 1, to: 1 };

fn kinds(plan: &Plan) -> Vec<(&str, &ChangeKind)> {
    plan.changes.iter().map(|change| (change.task.as_str(), &change.kind)).collect()
}

#[test]
fn only_what_changed_restarts() {
    let first =
        plan(None, job("shop", &[("db", task("postgres")), ("web", task("nginx:1"))]), Incarnation(1));
    assert!(first.changes.iter().all(|change| change.kind == ChangeKind::Create { count: 1 }));
    let mut web = task("nginx:2");
    web.env.insert("A".to_owned(), "1".to_owned());
    let second =
        plan(Some(&first.job), job("shop", &[("db", task("postgres")), ("web", web)]), Incarnation(5));
    assert_eq!(
        kinds(&second),
        [
            ("db", &ChangeKind::Keep),
            ("web", &ChangeKind::Restart { keys: vec!["image", "env"], instances: ONE })
        ]
    );
    let incarnation = |plan: &Plan, task: &str| {
        plan.job.desires[&("main".parse().unwrap(), task.parse().unwrap())].incarnation
    };
    assert_eq!(incarnation(&first, "db"), incarnation(&second, "db"));
    assert!(incarnation(&first, "web") < incarnation(&second, "web"));
    let third = plan(Some(&second.job), job("shop", &[("db", task("postgres"))]), Incarnation(6));
    assert_eq!(kinds(&third), [("db", &ChangeKind::Keep), ("web", &ChangeKind::Remove)]);
}

#[test]
fn what_is_well_takes_over_what_the_node_does_for_it() {
    let first = plan(None, job("shop", &[("web", task("nginx"))]), Incarnation(1)).job;
    let key = || first.desires.keys().next().unwrap().clone();
    let after = |change: &dyn Fn(&mut TaskSpec), well: &[TaskKey]| {
        let mut web = task("nginx");
        change(&mut web);
        let well = well.iter().cloned().collect();
        let plan = super::plan(Some(&first), job("shop", &[("web", web)]), Incarnation(2), &well);
        assert!(!plan.is_empty() && plan.job.version == 2);
        (plan.changes[0].kind.clone(), plan.job.desires[&key()].incarnation)
    };
    let opens = |web: &mut TaskSpec| {
        web.egress.push(crate::job::access::Egress::Internet);
        web.ports.push(crate::job::Port::one(80, Transport::Tcp));
    };
    let keys = vec!["ports", "egress"];
    let adjusted = ChangeKind::Adjust { keys: keys.clone(), instances: ONE };
    assert_eq!(after(&opens, &[key()]), (adjusted, Incarnation(1)));
    // What waits for its next attempt, or has given up, tries at once.
    let restarted = ChangeKind::Restart { keys, instances: ONE };
    assert_eq!(after(&opens, &[]), (restarted, Incarnation(2)));
    let well = BTreeSet::from([key()]);
    let mut open = task("nginx");
    opens(&mut open);
    let open = job("shop", &[("web", open)]);
    let opened = plan(Some(&first), open.clone(), Incarnation(2));
    let closed = super::plan(Some(&opened.job), first.spec.clone(), Incarnation(3), &well);
    let keys = vec!["ports", "egress"];
    let restarted = ChangeKind::Restart { keys: keys.clone(), instances: ONE };
    assert_eq!(closed.changes[0].kind, restarted, "egress is taken away");
    let more = |web: &mut TaskSpec| {
        opens(web);
        web.publish.push(publish(80));
    };
    let restarted = ChangeKind::Restart { keys: vec!["ports", "publish", "egress"], instances: ONE };
    assert_eq!(after(&more, &[key()]), (restarted, Incarnation(2)));
    let stopped = ask(&first, Ask::Stop, &first.desires.keys().cloned().collect(), Incarnation(2));
    let started = super::plan(Some(&stopped), open, Incarnation(3), &well);
    assert!(matches!(started.changes[0].kind, ChangeKind::Restart { .. }), "what was stopped is started");
}

#[test]
fn fewer_instances_are_never_hidden_behind_another_change() {
    let counted = |count, image: &str| {
        let mut job = job("shop", &[("web", task(image))]);
        job.groups.values_mut().for_each(|group| group.count = count);
        job
    };
    let first = plan(None, counted(3, "nginx:1"), Incarnation(1)).job;
    let instances = Instances { from: 3, to: 1 };
    let scaled = plan(Some(&first), counted(1, "nginx:1"), Incarnation(2));
    assert_eq!(kinds(&scaled), [("web", &ChangeKind::Scale(instances))]);
    let restarted = plan(Some(&first), counted(1, "nginx:2"), Incarnation(2));
    assert_eq!(kinds(&restarted), [("web", &ChangeKind::Restart { keys: vec!["image"], instances })]);
    let stopped = ask(&first, Ask::Stop, &first.desires.keys().cloned().collect(), Incarnation(2));
    let started = plan(Some(&stopped), counted(1, "nginx:1"), Incarnation(3));
    assert_eq!(kinds(&started), [("web", &ChangeKind::Start(instances))]);
}

#[test]
fn deploying_starts_what_was_stopped() {
    let first = plan(None, job("shop", &[("web", task("nginx"))]), Incarnation(1)).job;
    let stopped = ask(&first, Ask::Stop, &first.desires.keys().cloned().collect(), Incarnation(2));
    assert!(stopped.desires.values().all(|desire| !desire.run));
    assert_eq!(ask(&stopped, Ask::Stop, &first.desires.keys().cloned().collect(), Incarnation(3)), stopped);
    let again = plan(Some(&stopped), first.spec.clone(), Incarnation(3));
    assert_eq!(kinds(&again), [("web", &ChangeKind::Start(ONE))]);
    // A new one, for a task that had finished before it was stopped would stay so.
    let started = Desire { incarnation: Incarnation(3), run: true };
    assert!(again.job.desires.values().all(|desire| *desire == started));
}

#[test]
fn restart_makes_a_new_incarnation_and_start_does_not() {
    let job = plan(None, job("shop", &[("web", task("nginx"))]), Incarnation(1)).job;
    let keys = job.desires.keys().cloned().collect();
    assert_eq!(ask(&job, Ask::Start, &keys, Incarnation(7)), job);
    let restarted = ask(&job, Ask::Restart, &keys, Incarnation(7));
    assert!(restarted.version > job.version);
    assert!(restarted.desires.values().all(|desire| desire.incarnation == Incarnation(7)));
    assert_eq!(ask(&job, Ask::Restart, &BTreeSet::new(), Incarnation(7)), job);
}

proptest! {
    #[test]
    fn deploying_twice_equals_once(first in arbitrary_job(), second in arbitrary_job()) {
        let first = plan(None, first, Incarnation(1)).job;
        let deployed = plan(Some(&first), second.clone(), Incarnation(2)).job;
        let again = plan(Some(&deployed), second, Incarnation(3));
        prop_assert!(again.is_empty(), "{:?}", again.changes);
        prop_assert_eq!(again.job, deployed);
    }

    #[test]
    fn incarnations_never_go_back(first in arbitrary_job(), second in arbitrary_job()) {
        let before = plan(None, first, Incarnation(1)).job;
        let after = plan(Some(&before), second, Incarnation(2)).job;
        for (key, desire) in &after.desires {
            if let Some(earlier) = before.desires.get(key) {
                prop_assert!(desire.incarnation >= earlier.incarnation);
                let same = before.spec.groups[&key.0].tasks[&key.1] == after.spec.groups[&key.0].tasks[&key.1]
                    && before.spec.reads(&key.1) == after.spec.reads(&key.1);
                prop_assert_eq!(same, desire.incarnation == earlier.incarnation);
            }
        }
    }
}
