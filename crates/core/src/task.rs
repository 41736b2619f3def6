//! The life of one task on its node: a pure step from what was remembered and what is seen to what to do next.
//!
//! The agent calls [`step`] whenever anything may have changed, and at `wake_at`. A step depends on nothing else, so
//! that a restart of the agent, a crash in the middle of an action and a lost notification are all the same: the next
//! step sees what is there and goes on.
//!
//! ```text
//!            fetch            start             up
//!  waiting ────────▶ fetching ─────▶ starting ─────▶ running ──┐
//!     ▲                                 │               │      │ stop asked, or changed
//!     │ policy says again, after a delay│ ends          │ ends ▼
//!     └─────────────────────────────────┴───────────────┴── stopping
//!     │ policy says no                                         │
//!     ▼                                                        ▼
//!  finished                                       stopped, or waiting, or gone
//! ```
//!
//! Transitions:
//! - *waiting → fetching*: the task should run, its delay is over, its image is not here.
//! - *waiting → starting*: the same with the image here, and every task it depends on as it should be. One shim is one
//!   boot of one task.
//! - *starting, running → waiting | finished*: an exit report is seen; it is taken note of exactly once.
//! - *starting, running → stopping*: the task is no longer wanted, or wanted in another incarnation whose image is here.
//! - *stopping → gone*: not wanted at all; everything it had on the node is removed.

use std::fmt;
use std::time::Duration;

use crate::job::{RestartPolicy, STOP_GRACE_DEFAULT};
use crate::time::Time;

/// Delay before the first restart: long enough not to spin, short enough that a person does not notice.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest delay between restarts: a service that was broken for hours is back within this time of its repair.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A task that ran this long was healthy: the next failure starts again at the first delay.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Time beyond the task's own grace that a shim has for flushing disks and powering off before it is ended by force.
pub const STOP_MARGIN: Duration = Duration::from_secs(30);

/// Which version of a task is wanted: grows when a restart is asked for, and when its declaration changes in what a running
/// task cannot take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// How a boot of a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The process ended with this code.
    Code(i32),
    /// The process was ended by this signal.
    Signal(i32),
    /// The guest's kernel ended the process because memory ran out.
    OutOfMemory,
    /// The guest could not start the process: the sentence says why.
    Failed(String),
    /// The virtual machine ended or could not boot: the sentence says why.
    MachineDied(String),
    /// The supervisor vanished without a report; what it had to say last, if anything.
    SupervisorDied(Option<String>),
    /// The node itself was restarted.
    NodeRestarted,
    /// The node could not even begin: the sentence says why.
    NotStarted(String),
}

impl Exit {
    /// Whether the task did what it was meant to.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Code(0))
    }

    /// Whether the app itself ended, so that its restart policy has a word: what the node could not do (a taken port,
    /// a full disk, an image out of reach) it tries again for ever.
    fn is_of_the_app(&self) -> bool {
        match self {
            Self::NotStarted(_) | Self::NodeRestarted => false,
            Self::Code(_)
            | Self::Signal(_)
            | Self::OutOfMemory
            | Self::Failed(_)
            | Self::MachineDied(_)
            | Self::SupervisorDied(_) => true,
        }
    }

    /// Whether the next attempt comes after a longer delay: a reboot of the node is nobody's failure.
    fn counts(&self) -> bool {
        !matches!(self, Self::NodeRestarted)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::OutOfMemory => f.write_str("ran out of memory"),
            Self::Failed(why) | Self::NotStarted(why) => write!(f, "could not start: {why}"),
            Self::MachineDied(why) => write!(f, "lost its virtual machine: {why}"),
            Self::SupervisorDied(None) => f.write_str("lost its supervisor"),
            Self::SupervisorDied(Some(why)) => write!(f, "lost its supervisor: {why}"),
            Self::NodeRestarted => f.write_str("went down with the node"),
        }
    }
}

/// What is wanted of a task on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The version to run.
    pub incarnation: Incarnation,
    /// `false` after `lith stop`: the task keeps its disks but does not run.
    pub run: bool,
    /// What to do when it ends.
    pub restart: RestartPolicy,
    /// Its time to stop by itself.
    pub stop_grace: Duration,
    /// What is in the way of its start, as a sentence without its subject: see [`crate::order`].
    pub obstacle: Option<String>,
}

/// The health of a running task, by the check that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// No check has succeeded yet.
    Starting,
    /// The last check succeeded, or too few have failed since.
    Healthy,
    /// Too many have failed in a row.
    Unhealthy,
}

/// The task's image on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// Not here, and nobody is fetching it.
    Missing,
    /// Being fetched.
    Fetching,
    /// The last attempt failed: the sentence says why.
    Failed(String),
    /// Here.
    Present,
}

/// The task's supervisor and machine, as seen now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Process {
    /// No supervisor, and no report left by one.
    Absent,
    /// A supervisor lives; the machine boots.
    Booting {
        /// The version it runs.
        incarnation: Incarnation,
    },
    /// The task's process runs.
    Running {
        /// The version it runs.
        incarnation: Incarnation,
        /// When it was started.
        since: Time,
        /// Its health, as far as it is asked for and known.
        health: Option<HealthState>,
    },
    /// A supervisor lives and stops the machine.
    Stopping,
    /// No supervisor, but the report of how it ended.
    Exited(ExitReport),
}

/// How one boot of a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitReport {
    /// The number of the boot, as given by [`Action::Start`].
    pub boot: u64,
    /// The version that ran.
    pub incarnation: Incarnation,
    /// How long the task's process ran.
    pub ran: Duration,
    /// How it ended.
    pub exit: Exit,
}

/// What the agent remembers of a task between steps, on its own disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The version that the rest speaks of.
    pub incarnation: Option<Incarnation>,
    /// Number of the last boot that was begun. Never goes back, whatever the version.
    pub boot: u64,
    /// Number of the last boot whose end is part of this history.
    pub noted_boot: u64,
    /// Failed starts and ends in a row.
    pub failures: u32,
    /// Restarts since the version was deployed.
    pub restarts: u32,
    /// How the last boot ended.
    pub last_exit: Option<Exit>,
    /// Not to be started before.
    pub not_before: Option<Time>,
    /// The policy said that it stays ended.
    pub is_finished: bool,
    /// Since when it is being stopped.
    pub stopping_since: Option<Time>,
    /// Its time to stop by itself: its declaration may be gone when it is to stop.
    pub stop_grace: Option<Duration>,
}

/// What the agent should do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Fetch the image in the background.
    Fetch,
    /// Forget that the last attempt to fetch failed: it is in the history now.
    ForgetFetch,
    /// Start a supervisor for this version.
    Start {
        /// The version to run.
        incarnation: Incarnation,
        /// The number that its exit report must carry.
        boot: u64,
    },
    /// Ask the supervisor to stop the task, with its grace. Asking twice equals asking once.
    Stop,
    /// End the supervisor and the machine by force.
    Kill,
    /// Delete the exit report: it is in the history now.
    ForgetExit,
    /// Remove all that the task had on the node, and forget it.
    Remove,
}

/// What a person is told about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Waits for its next attempt.
    Waiting,
    /// Its image is being fetched.
    Fetching,
    /// Its machine boots.
    Starting,
    /// Its process runs.
    Running,
    /// It is being stopped.
    Stopping,
    /// Stopped by a person.
    Stopped,
    /// Ended, and its policy says that it stays so.
    Finished,
    /// Not wanted any more, and everything of it is gone.
    Gone,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting",
            Self::Fetching => "fetching",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
            Self::Gone => "gone",
        })
    }
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// To be remembered, durably, before the actions are done.
    pub history: History,
    /// To be done, in order.
    pub actions: Vec<Action>,
    /// Where the task is.
    pub phase: Phase,
    /// One sentence why it is not running, for a person.
    pub why: Option<String>,
    /// When to step again though nothing else happened.
    pub wake_at: Option<Time>,
}

/// The next step of a task. Actions that repeat are safe to repeat.
#[must_use]
pub fn step(history: &History, wanted: Option<&Wanted>, image: &Image, process: &Process, now: Time) -> Step {
    match process {
        Process::Exited(report) => {
            // The report is deleted only after the history that contains it is on disk. A crash in between shows it
            // again: its boot number says that it was noted, and only the deletion is left to do.
            let history = if report.boot > history.noted_boot {
                note_exit(history, wanted, report, now)
            } else {
                history.clone()
            };
            let rest = at_rest(&history, wanted, image, now);
            // What follows is decided when the report is gone, so that one step does one thing.
            Step { history, actions: vec![Action::ForgetExit], wake_at: Some(now), ..rest }
        }
        Process::Absent => at_rest(history, wanted, image, now),
        Process::Booting { incarnation } => alive(history, wanted, image, *incarnation, Phase::Starting, now),
        Process::Running { incarnation, .. } => {
            alive(history, wanted, image, *incarnation, Phase::Running, now)
        }
        Process::Stopping => stopping(history, wanted, now, vec![]),
    }
}

/// A supervisor lives: leave it alone if it runs what is wanted.
fn alive(
    history: &History,
    wanted: Option<&Wanted>,
    image: &Image,
    running: Incarnation,
    phase: Phase,
    now: Time,
) -> Step {
    match wanted {
        Some(wanted) if wanted.run && wanted.incarnation == running => Step {
            history: History {
                stopping_since: None,
                stop_grace: Some(wanted.stop_grace),
                ..for_incarnation(history, running)
            },
            actions: vec![],
            phase,
            why: None,
            wake_at: None,
        },
        Some(wanted) if wanted.run && *image != Image::Present => awaiting_image(history, image, now),
        _ => stopping(history, wanted, now, vec![Action::Stop]),
    }
}

/// A former version runs, and goes on running until the image of the wanted one is here.
fn awaiting_image(history: &History, image: &Image, now: Time) -> Step {
    let still = |phase, why: &str| Step {
        history: history.clone(),
        actions: vec![],
        phase,
        why: Some(why.to_owned()),
        wake_at: None,
    };
    let why = "still runs its former version, until the new image is here";
    match (image, due_time(history, now)) {
        (Image::Failed(reason), _) => {
            let failures = history.failures.saturating_add(1);
            let due = now.after(backoff(failures));
            let exit = Exit::NotStarted(reason.clone());
            let history =
                History { failures, not_before: Some(due), last_exit: Some(exit), ..history.clone() };
            let why = format!("still runs its former version: {reason}");
            Step {
                history,
                actions: vec![Action::ForgetFetch],
                wake_at: Some(due),
                ..still(Phase::Waiting, &why)
            }
        }
        (Image::Missing, Some(due)) => {
            let reason = history.last_exit.as_ref().map(ToString::to_string).unwrap_or_default();
            let why = format!("still runs its former version: it {reason}");
            Step { wake_at: Some(due), ..still(Phase::Waiting, &why) }
        }
        (Image::Missing, None) => Step { actions: vec![Action::Fetch], ..still(Phase::Fetching, why) },
        (Image::Fetching | Image::Present, _) => still(Phase::Fetching, why),
    }
}

/// The supervisor is to end, or ends already: wait for its grace, then use force.
fn stopping(history: &History, wanted: Option<&Wanted>, now: Time, mut actions: Vec<Action>) -> Step {
    let since = history.stopping_since.filter(|since| *since <= now).unwrap_or(now);
    let grace = wanted.map(|wanted| wanted.stop_grace).or(history.stop_grace).unwrap_or(STOP_GRACE_DEFAULT);
    let deadline = since.after(grace + STOP_MARGIN);
    let mut wake_at = deadline;
    if now >= deadline {
        actions = vec![Action::Kill];
        wake_at = now.after(BACKOFF_FIRST);
    }
    Step {
        history: History { stopping_since: Some(since), stop_grace: Some(grace), ..history.clone() },
        actions,
        phase: Phase::Stopping,
        why: None,
        wake_at: Some(wake_at),
    }
}

/// No supervisor lives: what next?
fn at_rest(history: &History, wanted: Option<&Wanted>, image: &Image, now: Time) -> Step {
    let history = History { stopping_since: None, ..history.clone() };
    let still = |history: History, phase, why| Step { history, actions: vec![], phase, why, wake_at: None };
    let Some(wanted) = wanted else {
        return Step { actions: vec![Action::Remove], ..still(history, Phase::Gone, None) };
    };
    let history = for_incarnation(&history, wanted.incarnation);
    if !wanted.run {
        return still(History { not_before: None, failures: 0, ..history }, Phase::Stopped, None);
    }
    let last = history.last_exit.as_ref().map(ToString::to_string);
    if history.is_finished {
        return still(history, Phase::Finished, last);
    }
    if let Some(due) = due_time(&history, now) {
        return Step { wake_at: Some(due), ..still(history, Phase::Waiting, last) };
    }
    match image {
        // Its image is fetched all the same, so that the wait for the other task is the only one.
        Image::Present if wanted.obstacle.is_some() => {
            still(history, Phase::Waiting, wanted.obstacle.clone())
        }
        Image::Present => {
            let boot = history.boot + 1;
            let actions = vec![Action::Start { incarnation: wanted.incarnation, boot }];
            Step { actions, ..still(History { boot, ..history }, Phase::Starting, None) }
        }
        Image::Fetching => still(history, Phase::Fetching, None),
        Image::Missing => Step { actions: vec![Action::Fetch], ..still(history, Phase::Fetching, None) },
        Image::Failed(why) => {
            let failures = history.failures.saturating_add(1);
            let due = now.after(backoff(failures));
            let exit = Exit::NotStarted(why.clone());
            let why = Some(exit.to_string());
            let history = History { failures, not_before: Some(due), last_exit: Some(exit), ..history };
            let actions = vec![Action::ForgetFetch];
            Step { wake_at: Some(due), actions, ..still(history, Phase::Waiting, why) }
        }
    }
}

/// The moment to wait for, if it is still to come. A moment further away than any delay comes from a clock that was
/// set back in between: it does not count.
fn due_time(history: &History, now: Time) -> Option<Time> {
    history.not_before.filter(|due| *due > now && *due <= now.after(BACKOFF_MAX))
}

/// The history as it is for this version: a new version starts with a clean one.
fn for_incarnation(history: &History, incarnation: Incarnation) -> History {
    if history.incarnation == Some(incarnation) {
        return history.clone();
    }
    History {
        incarnation: Some(incarnation),
        boot: history.boot,
        noted_boot: history.noted_boot,
        stopping_since: history.stopping_since,
        ..History::default()
    }
}

/// Takes note of an exit.
fn note_exit(history: &History, wanted: Option<&Wanted>, report: &ExitReport, now: Time) -> History {
    let ExitReport { boot, incarnation, ran, exit } = report;
    let noted = History { noted_boot: *boot, boot: history.boot.max(*boot), ..history.clone() };
    let Some(wanted) = wanted.filter(|wanted| wanted.run && wanted.incarnation == *incarnation) else {
        // It was asked to end; how it did so has no consequence.
        return History { last_exit: Some(exit.clone()), ..noted };
    };
    let history = for_incarnation(&noted, *incarnation);
    let was_healthy = *ran >= HEALTHY_AFTER || !exit.counts();
    let has_begun = !matches!(exit, Exit::NotStarted(_));
    // Attempts that the node made in vain are not the app's failures.
    let earlier = match history.last_exit {
        Some(Exit::NotStarted(_)) if has_begun => 0,
        _ => history.failures,
    };
    let failures = if was_healthy { 0 } else { earlier.saturating_add(1) };
    let is_finished = exit.is_of_the_app()
        && match wanted.restart {
            RestartPolicy::Always => false,
            RestartPolicy::Never => true,
            RestartPolicy::OnFailure { retries_max } => {
                exit.is_success() || retries_max.is_some_and(|most| failures > most)
            }
        };
    let delay = if exit.counts() { backoff(failures) } else { Duration::ZERO };
    History {
        failures,
        restarts: history.restarts.saturating_add(u32::from(!is_finished && has_begun)),
        last_exit: Some(exit.clone()),
        not_before: Some(now.after(delay)),
        is_finished,
        stopping_since: None,
        ..history
    }
}

/// The delay after so many failures in a row: doubles from [`BACKOFF_FIRST`] to [`BACKOFF_MAX`].
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (BACKOFF_FIRST * (1 << doublings)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests;
