//! What a task waits for before it starts: other tasks of its job, in a state that it names. Pure.
//!
//! It is asked again at each start, so that a task that fails while its database is down waits for the database, and its
//! failures do not count up. Waiting itself is no failure and no restart.

use std::collections::BTreeMap;

use crate::job::health::Condition;
use crate::name::TaskName;
use crate::task::{Exit, HealthState, History, Incarnation, Process};

/// A task that another one waits for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The version that is wanted of it: what another one did does not count.
    pub incarnation: Incarnation,
    /// `false` when a person has stopped it.
    pub run: bool,
    /// Whether its health is asked for, as far as that is known.
    pub has_check: bool,
    /// What is remembered of it.
    pub history: &'a History,
    /// What is seen of it.
    pub process: &'a Process,
}

/// Whether a condition holds.
enum Answer {
    Holds,
    NotYet,
    /// It cannot come to hold by itself; the end of a sentence that begins with the task says why.
    Never(String),
}

/// Why a task that waits for these is not to start: a sentence without its subject; `None` when nothing is in its way.
/// `targets` gives the instances of a task that matter.
#[must_use]
pub fn obstacle<'a>(
    depends_on: &BTreeMap<TaskName, Condition>,
    targets: impl Fn(&TaskName) -> Vec<Target<'a>>,
) -> Option<String> {
    let mut not_yet = None;
    for (name, condition) in depends_on {
        let found = targets(name);
        if found.is_empty() {
            return Some(format!("waits for {name}, of which no instance is wanted"));
        }
        for target in found {
            match holds(*condition, target) {
                Answer::Holds => {}
                // Told before all others: somebody has to do something.
                Answer::Never(why) => return Some(format!("waits for {name}{why}")),
                Answer::NotYet => {
                    not_yet.get_or_insert_with(|| format!("waits for {name} {}", wish(*condition)));
                }
            }
        }
    }
    not_yet
}

fn wish(condition: Condition) -> &'static str {
    match condition {
        Condition::Started => "to start",
        Condition::Healthy => "to be healthy",
        Condition::Completed => "to complete",
    }
}

fn holds(condition: Condition, target: Target<'_>) -> Answer {
    let last_exit = last_exit(target);
    let health = match target.process {
        Process::Running { incarnation, health, .. } if *incarnation == target.incarnation => Some(*health),
        Process::Absent
        | Process::Booting { .. }
        | Process::Running { .. }
        | Process::Stopping
        | Process::Exited(_) => None,
    };
    let is_so = match condition {
        Condition::Started => health.is_some() || last_exit.is_some_and(has_run),
        Condition::Healthy => health == Some(Some(HealthState::Healthy)),
        Condition::Completed => last_exit.is_some_and(Exit::is_success),
    };
    let is_over = target.history.is_finished && target.history.incarnation == Some(target.incarnation);
    match last_exit {
        _ if is_so => Answer::Holds,
        _ if !target.run => Answer::Never(", which is stopped".to_owned()),
        Some(exit) if is_over => Answer::Never(format!(", which {}", ended(exit))),
        _ if condition == Condition::Healthy && !target.has_check => {
            Answer::Never(" to be healthy, but it has no health check".to_owned())
        }
        _ => Answer::NotYet,
    }
}

/// How the wanted version ended last, if it ever did.
fn last_exit(target: Target<'_>) -> Option<&Exit> {
    match target.process {
        Process::Exited(report) if report.incarnation == target.incarnation => return Some(&report.exit),
        Process::Exited(_)
        | Process::Absent
        | Process::Booting { .. }
        | Process::Running { .. }
        | Process::Stopping => {}
    }
    let is_its = target.history.incarnation == Some(target.incarnation);
    target.history.last_exit.as_ref().filter(|_| is_its)
}

/// Whether its process ran before it ended so.
fn has_run(exit: &Exit) -> bool {
    match exit {
        Exit::Code(_) | Exit::Signal(_) | Exit::OutOfMemory => true,
        // After a reboot of the node it starts like all others.
        Exit::NodeRestarted
        | Exit::Failed(_)
        | Exit::MachineDied(_)
        | Exit::SupervisorDied(_)
        | Exit::NotStarted(_) => false,
    }
}

fn ended(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("ended with code {code}"),
        Exit::Signal(_)
        | Exit::OutOfMemory
        | Exit::Failed(_)
        | Exit::MachineDied(_)
        | Exit::SupervisorDied(_)
        | Exit::NodeRestarted
        | Exit::NotStarted(_) => exit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    const WANTED: Incarnation = Incarnation(2);

    fn running(incarnation: u64, health: Option<HealthState>) -> Process {
        Process::Running { incarnation: Incarnation(incarnation), since: Time(1), health }
    }

    fn history(incarnation: u64, last_exit: Option<Exit>, is_finished: bool) -> History {
        let incarnation = Some(Incarnation(incarnation));
        History { incarnation, last_exit, is_finished, ..History::default() }
    }

    fn asked(condition: Condition, target: Target<'_>) -> String {
        let depends_on = [("db".parse().unwrap(), condition)].into();
        obstacle(&depends_on, |_| vec![target]).unwrap_or_default()
    }

    #[test]
    fn conditions() {
        use Condition::{Completed, Healthy, Started};
        let (fresh, healthy) = (History::default(), Some(HealthState::Healthy));
        let ended = |code, is_finished| history(2, Some(Exit::Code(code)), is_finished);
        let cases = [
            (Started, fresh.clone(), Process::Absent, "waits for db to start"),
            (Started, fresh.clone(), running(1, None), "waits for db to start"),
            (Started, fresh.clone(), running(2, None), ""),
            (Started, ended(1, false), Process::Absent, ""),
            (Started, ended(1, true), Process::Absent, ""),
            (Started, history(2, Some(Exit::NodeRestarted), false), Process::Absent, "waits for db to start"),
            (Started, history(1, Some(Exit::Code(0)), true), Process::Absent, "waits for db to start"),
            (Healthy, fresh.clone(), running(2, None), "waits for db to be healthy"),
            (Healthy, fresh.clone(), running(2, Some(HealthState::Unhealthy)), "waits for db to be healthy"),
            (Healthy, fresh.clone(), running(1, healthy), "waits for db to be healthy"),
            (Healthy, fresh.clone(), running(2, healthy), ""),
            (Healthy, ended(0, true), Process::Absent, "waits for db, which ended with code 0"),
            (Completed, fresh.clone(), running(2, healthy), "waits for db to complete"),
            (Completed, ended(0, true), Process::Absent, ""),
            (Completed, ended(1, false), Process::Absent, "waits for db to complete"),
            (Completed, ended(1, true), Process::Absent, "waits for db, which ended with code 1"),
            (Completed, history(1, Some(Exit::Code(0)), true), Process::Absent, "waits for db to complete"),
            (
                Completed,
                history(2, Some(Exit::OutOfMemory), true),
                Process::Absent,
                "waits for db, which ran out of memory",
            ),
        ];
        for (condition, history, process, expected) in cases {
            let target = Target {
                incarnation: WANTED,
                run: true,
                has_check: true,
                history: &history,
                process: &process,
            };
            assert_eq!(asked(condition, target), expected, "{condition:?} {history:?} {process:?}");
        }
    }

    #[test]
    fn what_cannot_come_true_is_said() {
        let (history, process) = (History::default(), running(2, None));
        let target =
            Target { incarnation: WANTED, run: true, has_check: false, history: &history, process: &process };
        assert_eq!(
            asked(Condition::Healthy, target),
            "waits for db to be healthy, but it has no health check"
        );
        let stopped = Target { run: false, process: &Process::Absent, ..target };
        assert_eq!(asked(Condition::Started, stopped), "waits for db, which is stopped");
        let depends_on: BTreeMap<TaskName, Condition> =
            ["a", "b"].map(|name| (name.parse().unwrap(), Condition::Started)).into();
        assert_eq!(obstacle(&depends_on, |_| vec![]).unwrap(), "waits for a, of which no instance is wanted");
        // The hopeless one is told though another one comes first.
        let waiting = Target { process: &Process::Absent, ..target };
        let told = obstacle(&depends_on, |name| vec![if name.as_str() == "a" { waiting } else { stopped }]);
        assert_eq!(told.unwrap(), "waits for b, which is stopped");
        assert_eq!(obstacle(&depends_on, |_| vec![target, target]), None);
        assert_eq!(obstacle(&BTreeMap::new(), |_| vec![]), None);
    }
}
