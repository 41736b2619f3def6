//! Waiting for a job with a person watching: asks the server again and again, shows a line per task, gives up with
//! the reason. What is seen is judged in `watch`; nothing is decided here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hyper::Method;
use indicatif::{MultiProgress, ProgressBar};
use lith_api::client::escape;
use lith_api::error::{Code, Failure};
use lith_api::log::LogLine;
use lith_api::task::{JobDetail, Phase, TaskStatus};

use crate::context::Context;
use crate::error::Error;
use crate::table::cut;
use crate::terminal::printable;
use crate::time::short;
use crate::watch::{Goal, Verdict, Watch, is_settled, reason, state};
use crate::{name, spinner};

/// Time between two looks at first: below what a person notices.
const LOOK_FIRST: Duration = Duration::from_millis(100);
/// Time between two looks later, when nobody minds half a second.
const LOOK_LATER: Duration = Duration::from_millis(500);
/// When later begins.
const LATER_AFTER: Duration = Duration::from_secs(20);
/// Lines of progress at most: a screen holds no more.
const LINES_MAX: usize = 15;
/// Lines of a failed task's log that are shown.
const LOG_LINES: u64 = 10;

/// What is waited for, and how long.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    /// The job.
    pub(crate) job: &'a str,
    /// The tasks' identifiers.
    pub(crate) ids: Vec<String>,
    /// What is waited for.
    pub(crate) goal: Goal,
    /// How long at most.
    pub(crate) timeout: Duration,
    /// What is said when the person stops waiting: what goes on without us.
    pub(crate) interrupted: String,
}

/// Waits; returns the job as it is then.
pub(crate) async fn wait(context: &Context, wait: &Wait<'_>) -> Result<JobDetail, Error> {
    let lines = Lines::new(context);
    let outcome = tokio::select! {
        outcome = come_true(context, wait, &lines) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Error::Interrupted(wait.interrupted.clone())),
    };
    lines.clear();
    outcome
}

async fn come_true(context: &Context, wait: &Wait<'_>, lines: &Lines) -> Result<JobDetail, Error> {
    let begin = Instant::now();
    let mut watch = Watch::new(wait.goal);
    loop {
        let job: JobDetail = context.client.get(&format!("/v1/jobs/{}", escape(wait.job))).await?;
        let elapsed = begin.elapsed();
        lines.show(wait, &job.tasks, elapsed);
        match watch.look(elapsed, &wait.ids, &job.tasks) {
            Verdict::Done => return Ok(job),
            Verdict::Failed { id } => return Err(not_ready(context, wait, &job, &id, None).await),
            Verdict::Pending if elapsed >= wait.timeout => {
                let is_open = |id: &&String| {
                    let status = job.tasks.iter().find(|status| status.id == **id);
                    status.is_none_or(|status| !is_settled(wait.goal, status))
                };
                let id = wait.ids.iter().find(is_open).expect("pending means that one is open");
                return Err(not_ready(context, wait, &job, id, Some(wait.timeout)).await);
            }
            Verdict::Pending => {}
        }
        let pause = if elapsed < LATER_AFTER { LOOK_FIRST } else { LOOK_LATER };
        tokio::time::sleep(pause).await;
    }
}

async fn not_ready(
    context: &Context,
    wait: &Wait<'_>,
    job: &JobDetail,
    id: &str,
    after: Option<Duration>,
) -> Error {
    let tasks = &job.tasks;
    let status = tasks.iter().find(|status| status.id == id);
    let label = status.map_or_else(|| id.to_owned(), |status| name::label(status, tasks));
    let log = match wait.goal {
        Goal::Ready => last_lines(context, id, job.summary.updated_ms).await,
        Goal::Stopped => vec![],
    };
    Error::NotReady { failure: failure(wait, status, &label, after), log }
}

fn failure(wait: &Wait<'_>, status: Option<&TaskStatus>, label: &str, after: Option<Duration>) -> Failure {
    let state = match wait.goal {
        Goal::Ready => "not ready",
        Goal::Stopped => "not stopped",
    };
    let after = after.map_or(String::new(), |after| format!(" after {}", short(after)));
    let why = status.map_or_else(|| "is not on its node yet".to_owned(), reason);
    let message = printable(&format!("task \"{label}\" is {state}{after}: it {why}"));
    let is_finished = status.is_some_and(|status| status.phase == Phase::Finished);
    let hint = match wait.goal {
        Goal::Ready if is_finished => format!(
            "by its restart policy it stays ended: change the job file and deploy it again, or take it back with `lith rm {}`",
            wait.job
        ),
        Goal::Ready => match status.and_then(|status| status.hint.as_ref()) {
            Some(hint) => {
                let hint = printable(hint);
                format!("{hint}; lith goes on trying, `lith rm {}` takes the job back", wait.job)
            }
            None => format!(
                "lith goes on trying: watch it with `lith logs -f {label}`, or take it back with `lith rm {}`",
                wait.job
            ),
        },
        Goal::Stopped => format!("lith goes on stopping it: watch it with `lith ps {}`", wait.job),
    };
    Failure::new(Code::NotReady, message).hint(hint)
}

/// The end of a task's log since the job's last change: what a former version said explains nothing. Whatever goes wrong
/// here must not hide why the command failed.
async fn last_lines(context: &Context, id: &str, since_ms: u64) -> Vec<String> {
    let path = format!("/v1/tasks/{}/logs?tail={LOG_LINES}&since_ms={since_ms}", escape(id));
    let Ok(mut lines) = context.client.lines::<LogLine>(Method::GET, &path, None::<&()>).await else {
        return vec![];
    };
    let mut log = Vec::new();
    while let Some(Ok(line)) = lines.next().await {
        log.push(printable(&line.text));
    }
    log
}

/// A line per task, redrawn in place; nothing when nobody watches.
struct Lines {
    screen: Option<MultiProgress>,
    bars: std::cell::RefCell<BTreeMap<String, ProgressBar>>,
}

impl Lines {
    fn new(context: &Context) -> Self {
        Self { screen: context.is_watched().then(MultiProgress::new), bars: std::cell::RefCell::default() }
    }

    fn show(&self, wait: &Wait<'_>, tasks: &[TaskStatus], elapsed: Duration) {
        let Some(screen) = &self.screen else { return };
        let mut bars = self.bars.borrow_mut();
        for id in wait.ids.iter().take(LINES_MAX) {
            let bar = bars.entry(id.clone()).or_insert_with(|| {
                let bar = screen.add(ProgressBar::new_spinner());
                spinner::turn(&bar);
                bar
            });
            bar.set_message(line(wait, tasks, id, elapsed));
        }
    }

    fn clear(&self) {
        for bar in self.bars.borrow().values() {
            bar.finish_and_clear();
        }
    }
}

fn line(wait: &Wait<'_>, tasks: &[TaskStatus], id: &str, elapsed: Duration) -> String {
    /// Characters of a line of progress: narrow terminals wrap what is longer, and then redrawing fails.
    const CHARS_MAX: usize = 100;
    let Some(status) = tasks.iter().find(|status| status.id == id) else { return format!("{id}  waiting") };
    let mut text = format!("{}  {}", name::label(status, tasks), printable(&state(status)));
    if !is_settled(wait.goal, status) {
        text.push_str(&format!("  ({})", short(elapsed)));
    }
    cut(&text, Some(CHARS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::task;
    use crate::terminal::Paint;

    fn check(goal: Goal, status: Option<TaskStatus>, after: Option<u64>, expected: &str) {
        let wait = Wait {
            job: "shop",
            ids: vec!["shop.main.0.web".to_owned()],
            goal,
            timeout: Duration::from_secs(300),
            interrupted: String::new(),
        };
        let failure = failure(&wait, status.as_ref(), "shop/web", after.map(Duration::from_secs));
        let error = Error::NotReady { failure, log: vec!["no such table: users".to_owned()] };
        assert_eq!(error.text(Paint::PLAIN), expected);
    }

    #[test]
    fn a_failure_says_why_with_the_last_lines() {
        let waiting = TaskStatus {
            phase: Phase::Waiting,
            is_ready: false,
            why: Some("exited with code 1".to_owned()),
            ..task("shop.main.0.web")
        };
        check(
            Goal::Ready,
            Some(waiting),
            None,
            "error: task \"shop/web\" is not ready: it exited with code 1 [E0008]\n\
             its last lines:\n  no such table: users\n\
             hint: lith goes on trying: watch it with `lith logs -f shop/web`, or take it back with `lith rm shop`\n",
        );
        let fetching = TaskStatus {
            phase: Phase::Waiting,
            is_ready: false,
            why: Some("could not start: registry a.example wants a login".to_owned()),
            hint: Some("log in with `lith registry login a.example`".to_owned()),
            ..task("shop.main.0.web")
        };
        check(
            Goal::Ready,
            Some(fetching),
            None,
            "error: task \"shop/web\" is not ready: it could not start: registry a.example wants a login [E0008]\n\
             its last lines:\n  no such table: users\n\
             hint: log in with `lith registry login a.example`; lith goes on trying, `lith rm shop` takes the job back\n",
        );
        let finished = TaskStatus {
            phase: Phase::Finished,
            is_ready: false,
            why: Some("exited with code 1".to_owned()),
            ..task("shop.main.0.web")
        };
        check(
            Goal::Ready,
            Some(finished),
            None,
            "error: task \"shop/web\" is not ready: it exited with code 1 [E0008]\n\
             its last lines:\n  no such table: users\n\
             hint: by its restart policy it stays ended: change the job file and deploy it again, or take it back with \
             `lith rm shop`\n",
        );
        let stopping = TaskStatus { phase: Phase::Stopping, is_ready: false, ..task("shop.main.0.web") };
        check(
            Goal::Stopped,
            Some(stopping),
            Some(300),
            "error: task \"shop/web\" is not stopped after 5m: it is still stopping [E0008]\n\
             its last lines:\n  no such table: users\n\
             hint: lith goes on stopping it: watch it with `lith ps shop`\n",
        );
    }
}
