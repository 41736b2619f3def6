//! Which tasks matter to one that depends on others: those of its own instance of the group, and all instances of other
//! groups. Pure; what follows from their state is decided in `lith_core::order`.

use std::collections::BTreeMap;

use lith_core::job::TaskSpec;
use lith_core::name::{TaskId, TaskName};
use lith_core::order::{self, Target};
use lith_core::task::{History, Incarnation, Process, Wanted};

/// What is known of a task that others may depend on.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// What is wanted of it.
    pub(super) wanted: &'a Wanted,
    /// Whether its health is asked for.
    pub(super) has_check: bool,
    /// What is remembered of it.
    pub(super) history: &'a History,
    /// What is seen of it.
    pub(super) process: &'a Process,
}

/// What is in the way of the start of a task.
pub(super) fn obstacle(id: &TaskId, spec: &TaskSpec, known: &BTreeMap<&TaskId, Known<'_>>) -> Option<String> {
    if let lith_core::job::process::TaskKind::Periodic { schedule } = &spec.kind {
        return Some(format!("is to run at `{schedule}`: schedules are not in force yet in this version"));
    }
    order::obstacle(&spec.depends_on, |name| targets(id, name, known))
}

fn targets<'a>(id: &TaskId, name: &TaskName, known: &BTreeMap<&TaskId, Known<'a>>) -> Vec<Target<'a>> {
    let is_meant = |other: &TaskId| {
        other.task == *name
            && other.alloc.job == id.alloc.job
            && (other.alloc.group != id.alloc.group || other.alloc.index == id.alloc.index)
    };
    known
        .iter()
        .filter(|(other, _)| is_meant(other))
        .map(|(_, Known { wanted, has_check, history, process })| Target {
            incarnation: Incarnation(wanted.incarnation.0),
            run: wanted.run,
            has_check: *has_check,
            history,
            process,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lith_core::job::RestartPolicy;
    use lith_core::job::health::Condition;
    use lith_core::job::process::TaskKind;
    use lith_core::task::HealthState;
    use lith_core::time::Time;

    use super::*;

    #[test]
    fn a_task_waits_for_its_own_instance_and_for_all_of_another_group() {
        let wanted = Wanted {
            incarnation: Incarnation(1),
            run: true,
            restart: RestartPolicy::Always,
            stop_grace: Duration::ZERO,
            obstacle: None,
        };
        let history = History::default();
        let healthy = Process::Running {
            incarnation: Incarnation(1),
            since: Time(1),
            health: Some(HealthState::Healthy),
        };
        let known = |process: &'static Process| Known {
            wanted: &wanted,
            has_check: true,
            history: &history,
            process,
        };
        let healthy: &'static Process = Box::leak(Box::new(healthy));
        static ABSENT: Process = Process::Absent;
        let id = |text: &str| -> TaskId { text.parse().unwrap() };
        let spec = TaskSpec {
            depends_on: [("db".parse().unwrap(), Condition::Healthy)].into(),
            ..TaskSpec::new("app:1")
        };
        let check = |me: &str, others: &[(&str, &'static Process)], expected: Option<&str>| {
            let ids: Vec<(TaskId, &'static Process)> =
                others.iter().map(|(other, process)| (id(other), *process)).collect();
            let all = ids.iter().map(|(id, process)| (id, known(process))).collect();
            assert_eq!(obstacle(&id(me), &spec, &all).as_deref(), expected, "{me} {others:?}");
        };
        let waits = Some("waits for db to be healthy");
        check("shop.a.0.web", &[("shop.a.0.db", healthy), ("shop.a.1.db", &ABSENT)], None);
        check("shop.a.1.web", &[("shop.a.0.db", healthy), ("shop.a.1.db", &ABSENT)], waits);
        check("shop.b.0.web", &[("shop.a.0.db", healthy), ("shop.a.1.db", &ABSENT)], waits);
        check(
            "shop.b.0.web",
            &[("other.a.0.db", healthy)],
            Some("waits for db, of which no instance is wanted"),
        );
        let kind = TaskKind::Periodic { schedule: "0 3 * * *".to_owned() };
        let periodic = obstacle(&id("shop.a.0.web"), &TaskSpec { kind, ..spec.clone() }, &BTreeMap::new());
        assert!(periodic.unwrap().starts_with("is to run at `0 3 * * *`"));
    }
}
