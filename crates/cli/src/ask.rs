//! `stop`, `start`, `restart`, `rm`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lith_api::client::escape;
use lith_api::error::{Code, Failure};
use lith_api::task::{Ask, AskRequest, JobDetail, JobSummary, TaskStatus};

use crate::args::{AskArgs, RmArgs, WaitArgs};
use crate::context::Context;
use crate::error::Error;
use crate::exit;
use crate::list::with_suggestion;
use crate::name::Name;
use crate::spinner::Spinner;
use crate::time::short;
use crate::wait::{Wait, wait};
use crate::watch::{Goal, ids};

/// Time between two looks at a job that is being removed.
const LOOK: Duration = Duration::from_millis(100);

/// `lith stop`, `start`, `restart`: all are asked first, then all are waited for.
pub(crate) async fn ask(context: &Context, ask: Ask, args: &AskArgs) -> Result<u8, Error> {
    let names = args.names.iter().map(|name| Name::parse(name)).collect::<Result<Vec<_>, _>>()?;
    let mut asked = Vec::new();
    for name in &names {
        let before: JobDetail = match context.client.get(&job_path(&name.job)).await {
            Ok(job) => job,
            Err(failure) => return Err(with_suggestion(context, failure, &name.job).await.into()),
        };
        let task = whole_task(name, &before, ask)?;
        let request = AskRequest { ask, task: task.clone() };
        let job: JobDetail = context.client.post(&format!("{}/ask", job_path(&name.job)), &request).await?;
        asked.push((job, task));
    }
    let mut jobs = Vec::new();
    for (job, task) in asked {
        let job = if args.wait.no_wait {
            job
        } else {
            settle(context, ask, &args.wait, job, task.as_deref()).await?
        };
        let name = &job.summary.name;
        let what = task.map_or_else(|| format!("job {name}"), |task| format!("task {name}/{task}"));
        if !context.json {
            context.say(&format!("{what} {}", done(ask, args.wait.no_wait)));
        }
        jobs.push(job);
    }
    if context.json {
        context.print_json(&jobs)?;
    }
    Ok(exit::DONE)
}

/// The task that is meant, `None` for all of the job. The server knows tasks of a job by their name alone, and acts
/// on all instances.
fn whole_task(name: &Name, job: &JobDetail, ask: Ask) -> Result<Option<String>, Error> {
    if let Some(index) = name.index {
        let whole = match &name.task {
            Some(task) => format!("{}/{task}", name.job),
            None => name.job.clone(),
        };
        return Err(Error::usage(
            format!("instance {index} cannot be {} alone: instances of a task go together", participle(ask)),
            format!("`lith {} {whole}` takes them all", verb(ask)),
        ));
    }
    let Some(task) = &name.task else { return Ok(None) };
    let groups: BTreeSet<&str> = job
        .spec
        .groups
        .iter()
        .filter(|(_, group)| group.tasks.contains_key(task))
        .map(|(group, _)| group.as_str())
        .collect();
    match &name.group {
        Some(group) if !groups.contains(group.as_str()) => {
            let message = format!("job \"{}\" has no task \"{group}/{task}\"", name.job);
            Err(Failure::new(Code::NotFound, message)
                .hint(format!("`lith ps {}` lists its tasks", name.job))
                .into())
        }
        Some(_) if groups.len() > 1 => {
            let groups: Vec<&str> = groups.into_iter().collect();
            Err(Error::usage(
                format!(
                    "task \"{task}\" of one group cannot be {} alone: {} have it",
                    participle(ask),
                    groups.join(", ")
                ),
                format!("`lith {} {}/{task}` takes them all", verb(ask), name.job),
            ))
        }
        Some(_) | None => Ok(Some(task.clone())),
    }
}

async fn settle(
    context: &Context,
    ask: Ask,
    args: &WaitArgs,
    job: JobDetail,
    task: Option<&str>,
) -> Result<JobDetail, Error> {
    let goal = match ask {
        Ask::Stop => Goal::Stopped,
        Ask::Start | Ask::Restart => Goal::Ready,
    };
    let name = &job.summary.name;
    let request = Wait {
        job: name,
        ids: ids(&job, task),
        goal,
        timeout: args.timeout,
        interrupted: format!("stopped waiting; it goes on: `lith ps {name}` shows it"),
    };
    wait(context, &request).await
}

/// `lith rm`.
pub(crate) async fn remove(context: &Context, args: &RmArgs) -> Result<u8, Error> {
    let names = args.names.iter().map(|name| Name::parse(name)).collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = names.iter().find(|name| name.task.is_some() || name.index.is_some()) {
        return Err(Error::usage(
            "only whole jobs are removed",
            format!(
                "take the task out of the job file and deploy it again, or remove all with `lith rm {}`",
                name.job
            ),
        ));
    }
    let mut removed: Vec<JobSummary> = Vec::new();
    // One that cannot be removed is no reason to keep the others.
    let mut code = exit::DONE;
    for name in &names {
        match context.client.delete(&job_path(&name.job)).await {
            Ok(job) => removed.push(job),
            Err(failure) if failure.code == Code::Unreachable => return Err(failure.into()),
            Err(failure) => {
                let failure = with_suggestion(context, failure, &name.job).await;
                code = code.max(context.report(&failure.into()));
            }
        }
    }
    for job in removed.iter().filter(|_| !args.wait.no_wait) {
        let spinner = Spinner::new(context.talk(), &format!("removing job {}", job.name));
        tokio::select! {
            gone = gone(context, &job.name, args.wait.timeout, &spinner) => match gone {
                Ok(()) => {}
                Err(Error::Failure(failure)) if failure.code != Code::Unreachable => {
                    drop(spinner);
                    code = code.max(context.report(&failure.into()));
                    continue;
                }
                Err(error) => return Err(error),
            },
            _ = tokio::signal::ctrl_c() => {
                return Err(Error::Interrupted(format!(
                    "stopped waiting; the removal goes on: `lith ps {}` shows it", job.name
                )));
            }
        }
        drop(spinner);
        if !context.json {
            context.say(&format!("job {} is removed", job.name));
        }
        code = code.max(crate::volume::of_removed_job(context, &job.name, args.volumes).await?);
    }
    if context.json {
        context.print_json(&removed)?;
    }
    Ok(code)
}

async fn gone(context: &Context, job: &str, timeout: Duration, spinner: &Spinner) -> Result<(), Error> {
    let begin = Instant::now();
    loop {
        let tasks: Vec<TaskStatus> = context.client.get(&format!("/v1/tasks?job={}", escape(job))).await?;
        let Some(first) = tasks.first() else { return Ok(()) };
        let elapsed = short(begin.elapsed());
        spinner.say(&format!("removing job {job}: task {} is {}  ({elapsed})", first.task, first.phase));
        if begin.elapsed() >= timeout {
            let message = format!(
                "job \"{job}\" is not removed after {}: task \"{}\" is still {}",
                short(timeout),
                first.task,
                first.phase
            );
            let hint = format!("the removal goes on: `lith ps {job}` shows it");
            return Err(Error::new(Code::NotReady, message, hint));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn job_path(job: &str) -> String {
    format!("/v1/jobs/{}", escape(job))
}

fn verb(ask: Ask) -> &'static str {
    match ask {
        Ask::Stop => "stop",
        Ask::Start => "start",
        Ask::Restart => "restart",
    }
}

fn participle(ask: Ask) -> &'static str {
    match ask {
        Ask::Stop => "stopped",
        Ask::Start => "started",
        Ask::Restart => "restarted",
    }
}

fn done(ask: Ask, is_only_asked: bool) -> &'static str {
    match (ask, is_only_asked) {
        (Ask::Stop, true) => "is being stopped",
        (Ask::Start, true) => "is being started",
        (Ask::Restart, true) => "is being restarted",
        (Ask::Stop, false) => "is stopped",
        (Ask::Start | Ask::Restart, false) => "is ready",
    }
}
