//! `ps`, `job ls`, `job show`.

use std::collections::BTreeSet;

use lith_api::client::escape;
use lith_api::error::{Code, Failure};
use lith_api::job::{FileOrigin, JobSpec};
use lith_api::task::{JobDetail, JobSummary, Phase, TaskStatus};
use lith_spec::Comments;

use crate::args::PsArgs;
use crate::context::Context;
use crate::error::Error;
use crate::name::{closest, label};
use crate::table::Table;
use crate::{exit, time};

/// `lith ps`.
pub(crate) async fn ps(context: &Context, args: &PsArgs) -> Result<u8, Error> {
    let tasks = match &args.job {
        Some(job) => of_job(context, job).await?,
        None => context.client.get("/v1/tasks").await?,
    };
    let is_shown = |status: &&TaskStatus| args.all || args.job.is_some() || !is_over(status.phase);
    let shown: Vec<&TaskStatus> = tasks.iter().filter(is_shown).collect();
    if context.json {
        context.print_json(&shown)?;
        return Ok(exit::DONE);
    }
    let hidden = tasks.len() - shown.len();
    if shown.is_empty() && hidden == 0 {
        context.say("no tasks; `lith deploy FILE` makes some");
        return Ok(exit::DONE);
    }
    context.print_table(&task_table(&shown, &tasks, time::now_ms()))?;
    if hidden > 0 {
        context.say(&format!("{hidden} more stopped or finished; `lith ps --all` shows them"));
    }
    Ok(exit::DONE)
}

/// `lith job ls`.
pub(crate) async fn jobs(context: &Context) -> Result<u8, Error> {
    let jobs: Vec<JobSummary> = context.client.get("/v1/jobs").await?;
    if context.json {
        context.print_json(&jobs)?;
    } else if jobs.is_empty() {
        context.say("no jobs; `lith deploy FILE` makes one");
    } else {
        context.print_table(&job_table(&jobs, time::now_ms()))?;
    }
    Ok(exit::DONE)
}

/// `lith job show`.
pub(crate) async fn show(context: &Context, job: &str) -> Result<u8, Error> {
    let mut detail: JobDetail = match context.client.get(&format!("/v1/jobs/{}", escape(job))).await {
        Ok(detail) => detail,
        Err(failure) => return Err(with_suggestion(context, failure, job).await.into()),
    };
    if context.json {
        context.print_json(&detail)?;
        return Ok(exit::DONE);
    }
    let comments = reveal_origins(&mut detail.spec);
    let spec = (&detail.spec).try_into().map_err(|error| {
        Failure::new(Code::Internal, format!("the server sent a job that is none: {error}"))
            .hint("compare `lith version` of the command and the server")
    })?;
    context.print(&lith_spec::to_yaml_with(&spec, &comments))?;
    Ok(exit::DONE)
}

/// What secrets hold, the server keeps to itself; the file says where it comes from. What stood in the file becomes a
/// variable, so that to deploy what is shown asks for it instead of emptying it.
fn reveal_origins(job: &mut JobSpec) -> Comments {
    let mut asked = Vec::new();
    let files = job.secrets.values().chain(job.configs.values());
    let mut taken: BTreeSet<String> = files
        .filter_map(|file| match &file.from {
            FileOrigin::Variable(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    for (name, secret) in &mut job.secrets {
        if secret.content.is_none() && secret.from == FileOrigin::Inline {
            let mut variable = variable_name(name);
            // Names of secrets may differ in what names of variables cannot.
            while !taken.insert(variable.clone()) {
                variable.push('_');
            }
            asked.push(variable.clone());
            secret.from = FileOrigin::Variable(variable);
        }
        secret.content.get_or_insert_default();
    }
    if asked.is_empty() {
        return Comments::default();
    }
    let names = asked.join(", ");
    let line = format!(
        "What secrets hold is not shown: to deploy this, give {names} in a file, with `--env-file FILE`"
    );
    Comments { job: vec![line], ..Comments::default() }
}

/// A variable that is named like a secret.
fn variable_name(secret: &str) -> String {
    let is_of_name = |character: char| character.is_ascii_alphanumeric();
    let name = secret.to_ascii_uppercase().replace(|character| !is_of_name(character), "_");
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The tasks of a job, at least one.
pub(crate) async fn of_job(context: &Context, job: &str) -> Result<Vec<TaskStatus>, Error> {
    let tasks: Vec<TaskStatus> = context.client.get(&format!("/v1/tasks?job={}", escape(job))).await?;
    if !tasks.is_empty() {
        return Ok(tasks);
    }
    let failure = Failure::new(Code::NotFound, format!("there is no job \"{job}\""));
    Err(with_suggestion(context, failure, job).await.into())
}

/// Adds what was probably meant to a failure that says that a job does not exist.
pub(crate) async fn with_suggestion(context: &Context, failure: Failure, job: &str) -> Failure {
    if failure.code != Code::NotFound {
        return failure;
    }
    // The failure matters more than its hint: one that cannot be made is left out.
    let jobs: Vec<JobSummary> = context.client.get("/v1/jobs").await.unwrap_or_default();
    match closest(job, jobs.iter().map(|job| job.name.as_str())) {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure.hint("`lith job ls` lists what is there"),
    }
}

fn is_over(phase: Phase) -> bool {
    match phase {
        Phase::Stopped | Phase::Finished => true,
        Phase::Waiting
        | Phase::Fetching
        | Phase::Starting
        | Phase::Running
        | Phase::Stopping
        | Phase::Gone => false,
    }
}

fn task_table(shown: &[&TaskStatus], tasks: &[TaskStatus], now_ms: u64) -> Table {
    let mut table = Table::new(&["TASK", "STATE", "STARTED", "RESTARTS", "IMAGE", "PUBLISHED", "WHY"]);
    for status in shown {
        let state = match (status.phase, status.is_ready) {
            (Phase::Running, true) => "ready".to_owned(),
            (phase, _) => phase.to_string(),
        };
        let state = match status.health {
            Some(health) => format!("{state} ({health})"),
            None => state,
        };
        let restarts = if status.restarts == 0 { String::new() } else { status.restarts.to_string() };
        table.row(vec![
            label(status, tasks),
            state,
            status.running_since_ms.map_or(String::new(), |since_ms| time::ago(now_ms, since_ms)),
            restarts,
            status.image.clone(),
            status.publish.join(" "),
            status.why.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn job_table(jobs: &[JobSummary], now_ms: u64) -> Table {
    let mut table = Table::new(&["JOB", "READY", "VERSION", "CHANGED", "CREATED"]);
    for job in jobs {
        table.row(vec![
            job.name.clone(),
            format!("{} of {}", job.ready, job.wanted),
            job.version.to_string(),
            time::ago(now_ms, job.updated_ms),
            time::ago(now_ms, job.created_ms),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use lith_api::task::Health;

    use super::*;
    use crate::fixture::task;
    use crate::terminal::Paint;

    #[test]
    fn a_job_that_is_shown_asks_for_its_secrets() {
        let text = "job: j\nsecrets:\n  db-password: { content: hush }\n  4th: { content: hush }\n  db_password: { content: quiet }\n\
                    tasks: { t: { image: x, secrets: [ db-password, db_password, 4th ] } }\n";
        let job = lith_spec::check("job.yaml", text).job.unwrap();
        let mut sent = JobSpec::from(&job).without_secrets();
        let comments = reveal_origins(&mut sent);
        let job = (&sent).try_into().unwrap();
        insta::assert_snapshot!(lith_spec::to_yaml_with(&job, &comments), @r#"
        # What secrets hold is not shown: to deploy this, give _4TH, DB_PASSWORD, DB_PASSWORD_ in a file, with `--env-file FILE`
        job: j
        secrets:
          "4th": { variable: "_4TH" }
          db-password: { variable: DB_PASSWORD }
          db_password: { variable: DB_PASSWORD_ }
        tasks:
          t:
            image: x
            secrets: [ "4th", db-password, db_password ]
        "#);
    }

    #[test]
    fn tasks_read_without_colour() {
        let tasks = [
            TaskStatus {
                publish: vec!["8080:80".to_owned()],
                health: Some(Health::Healthy),
                ..task("hello.main.0.web")
            },
            TaskStatus {
                phase: Phase::Waiting,
                is_ready: false,
                restarts: 3,
                running_since_ms: None,
                why: Some("exited with code 1".to_owned()),
                ..task("shop.main.0.db")
            },
        ];
        let shown: Vec<&TaskStatus> = tasks.iter().collect();
        insta::assert_snapshot!(task_table(&shown, &tasks, 301_000).render(None, Paint::PLAIN), @r"
        TASK       STATE            STARTED  RESTARTS  IMAGE    PUBLISHED  WHY
        hello/web  ready (healthy)  5m ago             hello:1  8080:80
        shop/db    waiting                   3         hello:1             exited with code 1
        ");
    }

    #[test]
    fn jobs_read_without_colour() {
        let job = JobSummary {
            name: "hello".to_owned(),
            version: 2,
            wanted: 3,
            ready: 1,
            created_ms: 0,
            updated_ms: 60_000,
        };
        insta::assert_snapshot!(job_table(&[job], 86_400_000).render(None, Paint::PLAIN), @r"
        JOB    READY   VERSION  CHANGED  CREATED
        hello  1 of 3  2        23h ago  24h ago
        ");
    }
}
