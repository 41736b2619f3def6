//! Whether what was asked for has come true: pure, fed with what the server says and the time.
//!
//! ```text
//!            every task settled
//!  pending ─────────────────────▶ done
//!     │ a task has failed for longer than our patience, or ended for good
//!     ▼
//!  failed
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use lith_api::task::{JobDetail, Phase, TaskStatus};

/// Time that a task may spend waiting after failures before we stop waiting for it: the delays of five failures. Apps
/// that end because their database is not up yet get there within it.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same while the node cannot even begin: three attempts. Most often the name of the image is wrong.
const PATIENCE_HELD_UP: Duration = Duration::from_secs(6);
/// How an end with success reads on the wire.
const SUCCESS: &str = "exited with code 0";

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Each task runs and answers, or has done its work.
    Ready,
    /// Each task is stopped, or has ended.
    Stopped,
}

/// What is known after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not yet.
    Pending,
    /// It has come true.
    Done,
    /// It will not come true soon.
    Failed {
        /// The task that failed.
        id: String,
    },
}

/// What has been seen so far.
#[derive(Debug)]
pub(crate) struct Watch {
    goal: Goal,
    last_look: Duration,
    waited: BTreeMap<String, Duration>,
}

impl Watch {
    /// Nothing seen yet.
    pub(crate) fn new(goal: Goal) -> Self {
        Self { goal, last_look: Duration::ZERO, waited: BTreeMap::new() }
    }

    /// Takes in what is there `elapsed` after the beginning. `ids` are the tasks waited for.
    pub(crate) fn look(&mut self, elapsed: Duration, ids: &[String], tasks: &[TaskStatus]) -> Verdict {
        let since_last = elapsed.saturating_sub(self.last_look);
        self.last_look = elapsed;
        let mut is_pending = false;
        for id in ids {
            let Some(status) = tasks.iter().find(|status| status.id == *id) else {
                is_pending |= self.goal == Goal::Ready;
                continue;
            };
            if is_settled(self.goal, status) {
                continue;
            }
            is_pending = true;
            if self.goal == Goal::Ready && self.has_failed(status, since_last) {
                return Verdict::Failed { id: id.clone() };
            }
        }
        if is_pending { Verdict::Pending } else { Verdict::Done }
    }

    fn has_failed(&mut self, status: &TaskStatus, since_last: Duration) -> bool {
        if status.phase == Phase::Finished {
            return true;
        }
        if status.phase != Phase::Waiting || status.last_exit.is_none() {
            return false;
        }
        let waited = self.waited.entry(status.id.clone()).or_default();
        *waited += since_last;
        *waited >= if status.is_held_up { PATIENCE_HELD_UP } else { PATIENCE }
    }
}

/// Whether this task is where it should be.
pub(crate) fn is_settled(goal: Goal, status: &TaskStatus) -> bool {
    match goal {
        Goal::Ready => status.is_ready || is_done(status),
        Goal::Stopped => match status.phase {
            Phase::Stopped | Phase::Finished | Phase::Gone => true,
            Phase::Waiting | Phase::Fetching | Phase::Starting | Phase::Running | Phase::Stopping => false,
        },
    }
}

/// Whether the task has done its work and stays ended. One that publishes a port is there to answer: it is never done.
pub(crate) fn is_done(status: &TaskStatus) -> bool {
    let is_success = status.last_exit.as_deref() == Some(SUCCESS);
    status.phase == Phase::Finished && is_success && status.publish.is_empty()
}

/// The identifiers of a job's tasks; only of task `only` when given.
pub(crate) fn ids(job: &JobDetail, only: Option<&str>) -> Vec<String> {
    let mut ids = Vec::new();
    for (group, spec) in &job.spec.groups {
        // A task with a schedule waits for its time, and nobody waits for that.
        let tasks = spec.tasks.iter().filter(|(_, task)| task.schedule.is_none()).map(|(name, _)| name);
        for task in tasks.filter(|task| only.is_none_or(|only| only == task.as_str())) {
            ids.extend((0..spec.count).map(|index| format!("{}.{group}.{index}.{task}", job.summary.name)));
        }
    }
    ids
}

/// Where a task is, in a few words: `ready`, `starting`, `waiting: exited with code 1`.
pub(crate) fn state(status: &TaskStatus) -> String {
    let phase = if status.is_ready { "ready".to_owned() } else { status.phase.to_string() };
    match status.why.as_ref().filter(|_| !status.is_ready) {
        Some(why) => format!("{phase}: {why}"),
        None => phase,
    }
}

/// Why a task is not where it should be, as a sentence without its subject.
pub(crate) fn reason(status: &TaskStatus) -> String {
    let why = status.why.as_ref().or(status.last_exit.as_ref().filter(|_| status.phase == Phase::Waiting));
    match why {
        Some(why) => why.clone(),
        None => format!("is still {}", status.phase),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::task;

    fn status(phase: Phase, last_exit: Option<&str>, image: Option<&str>) -> TaskStatus {
        TaskStatus {
            phase,
            is_ready: false,
            last_exit: last_exit.map(str::to_owned),
            image_digest: image.map(str::to_owned),
            ..task("a.main.0.web")
        }
    }

    /// Looks at each status at its second; the last verdict counts, and all before must be pending.
    fn check(goal: Goal, looks: &[(u64, TaskStatus)], expected: &Verdict) {
        let mut watch = Watch::new(goal);
        let ids = ["a.main.0.web".to_owned()];
        for (index, (second, status)) in looks.iter().enumerate() {
            let verdict = watch.look(Duration::from_secs(*second), &ids, std::slice::from_ref(status));
            if index + 1 == looks.len() {
                assert_eq!(verdict, *expected);
            } else {
                assert_eq!(verdict, Verdict::Pending, "at {second} s");
            }
        }
    }

    fn failed() -> Verdict {
        Verdict::Failed { id: "a.main.0.web".to_owned() }
    }

    #[test]
    fn readiness_is_waited_for() {
        let starting = status(Phase::Starting, None, Some("x"));
        let ready = task("a.main.0.web");
        check(Goal::Ready, &[(0, starting.clone()), (1, ready)], &Verdict::Done);
        check(Goal::Ready, &[(0, starting.clone()), (299, starting)], &Verdict::Pending);
        let stopped = status(Phase::Stopped, None, Some("x"));
        check(Goal::Ready, &[(0, stopped.clone()), (1, stopped)], &Verdict::Pending);
    }

    #[test]
    fn a_task_that_has_done_its_work_is_ready() {
        check(Goal::Ready, &[(0, status(Phase::Finished, Some("exited with code 0"), None))], &Verdict::Done);
        check(Goal::Ready, &[(0, status(Phase::Finished, Some("exited with code 1"), None))], &failed());
        let server = TaskStatus {
            publish: vec!["8080:80".to_owned()],
            ..status(Phase::Finished, Some("exited with code 0"), None)
        };
        check(Goal::Ready, &[(0, server)], &failed());
    }

    #[test]
    fn patience_ends() {
        let crashed = status(Phase::Waiting, Some("exited with code 1"), Some("x"));
        let starting = status(Phase::Starting, Some("exited with code 1"), Some("x"));
        check(Goal::Ready, &[(0, crashed.clone()), (31, crashed.clone())], &failed());
        let looks = [(0, crashed.clone()), (20, crashed.clone()), (90, starting), (95, crashed)];
        check(Goal::Ready, &looks, &Verdict::Pending);
        for digest in [None, Some("of the former version")] {
            let no_image = status(Phase::Waiting, Some("could not start: no such image"), digest);
            let no_image = TaskStatus { is_held_up: true, ..no_image };
            check(Goal::Ready, &[(0, no_image.clone()), (7, no_image)], &failed());
        }
        let ill = status(Phase::Waiting, Some("could not start: no such user"), None);
        check(Goal::Ready, &[(0, ill.clone()), (7, ill)], &Verdict::Pending);
    }

    #[test]
    fn stopping_is_waited_for() {
        let stopping = status(Phase::Stopping, None, None);
        check(Goal::Stopped, &[(0, stopping), (1, status(Phase::Stopped, None, None))], &Verdict::Done);
        let mut watch = Watch::new(Goal::Stopped);
        assert_eq!(watch.look(Duration::ZERO, &["a.main.0.web".to_owned()], &[]), Verdict::Done);
    }

    #[test]
    fn words() {
        let mut waiting = status(Phase::Waiting, Some("exited with code 1"), None);
        assert_eq!(reason(&waiting), "exited with code 1");
        waiting.why = Some("could not start: no such image".to_owned());
        assert_eq!(state(&waiting), "waiting: could not start: no such image");
        assert_eq!(reason(&status(Phase::Starting, None, None)), "is still starting");
        assert_eq!(state(&task("a.main.0.web")), "ready");
    }
}
