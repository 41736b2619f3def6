//! `deploy`, `plan`: the job file and what comes of it.

use std::time::Instant;

use lith_api::client::escape;
use lith_api::error::Code;
use lith_api::job::JobSpec;
use lith_api::task::{JobDetail, Plan};
use serde::Serialize;

use crate::args::{DeployArgs, FileArgs};
use crate::context::Context;
use crate::error::Error;
use crate::source::Accepted;
use crate::time::short;
use crate::wait::{Wait, wait};
use crate::watch::{Goal, ids, is_done};
use crate::{cp, exit, plan, publish, source};

/// How often a deployment is planned: who is outrun so often by others should look at what they do.
const PLANS_MAX: u32 = 3;

/// Result of `deploy --json`.
#[derive(Debug, Serialize)]
struct Deployed<'a> {
    plan: &'a Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a JobDetail>,
}

/// `lith deploy`.
pub(crate) async fn deploy(context: &Context, args: &DeployArgs) -> Result<u8, Error> {
    let begin = Instant::now();
    let job = source::read(&args.file)?.accepted(context)?;
    let spec = &job.spec;
    let path = job_path(spec);
    let plan = carry_out(context, &path, &job).await?;
    if args.wait.no_wait {
        if context.json {
            context.print_json(&Deployed { plan: &plan, job: None })?;
        }
        context.say(&format!("deployed; `lith ps {}` shows how it goes", spec.name));
        return Ok(exit::DONE);
    }
    let job: JobDetail = context.client.get(&path).await?;
    let request = Wait {
        job: &spec.name,
        ids: ids(&job, None),
        goal: Goal::Ready,
        timeout: args.wait.timeout,
        interrupted: format!("stopped waiting; the deployment goes on: `lith ps {}` shows it", spec.name),
    };
    let job = wait(context, &request).await?;
    if context.json {
        context.print_json(&Deployed { plan: &plan, job: Some(&job) })?;
        return Ok(exit::DONE);
    }
    let state = if job.tasks.iter().all(is_done) { "has done its work" } else { "is ready" };
    context.say(&format!("job {} {state} ({})", spec.name, short(begin.elapsed())));
    context.print(&links(&job))?;
    Ok(exit::DONE)
}

/// Shows the plan and carries out just that. When somebody else changes the job in between, it is planned and shown
/// again.
async fn carry_out(context: &Context, path: &str, job: &Accepted) -> Result<Plan, Error> {
    let spec = &job.spec;
    let mut attempts = 0;
    loop {
        let plan: Plan = context.client.put(&format!("{path}?dry_run=true"), spec).await?;
        if !context.json && !context.quiet {
            context.print(&plan::text(&plan, context.terminal.stdout))?;
        }
        attempts += 1;
        match carry_out_once(context, path, job, &plan).await {
            Err(Error::Failure(failure)) if failure.code == Code::Conflict && attempts < PLANS_MAX => {
                context.say("the job has changed meanwhile: planned again");
            }
            Ok(carried) => {
                // Whether a task restarts depends on how it is at that moment.
                if carried.changes != plan.changes && !context.json && !context.quiet {
                    context.say("the tasks have changed meanwhile, and so has what was done:");
                    context.print(&plan::text(&carried, context.terminal.stdout))?;
                }
                return Ok(carried);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends what new volumes start with, then the job. Which folders, the person's own file says, not the answer of a server.
async fn carry_out_once(context: &Context, path: &str, job: &Accepted, plan: &Plan) -> Result<Plan, Error> {
    for volume in plan.volumes.iter().filter(|volume| volume.import.is_some()) {
        let Some(declared) = job.spec.volumes.get(&volume.volume) else { continue };
        if let Some(folder) = &declared.import {
            let from = (folder.as_str(), &*job.outside.path(folder));
            cp::send_folder(context, from, &volume.id, declared.pool.as_deref()).await?;
        }
    }
    Ok(context.client.put(&format!("{path}?if_version={}", plan.from_version), &job.spec).await?)
}

/// `lith plan`.
pub(crate) async fn plan(context: &Context, args: &FileArgs) -> Result<u8, Error> {
    let spec = source::read(args)?.accepted(context)?.spec;
    let plan: Plan = context.client.put(&format!("{}?dry_run=true", job_path(&spec)), &spec).await?;
    if context.json {
        context.print_json(&plan)?;
    } else {
        context.print(&plan::text(&plan, context.terminal.stdout))?;
    }
    Ok(exit::DONE)
}

fn job_path(spec: &JobSpec) -> String {
    format!("/v1/jobs/{}", escape(&spec.name))
}

/// A line for each published port, once.
fn links(job: &JobDetail) -> String {
    let mut text = String::new();
    let tasks = job.spec.groups.values().flat_map(|group| &group.tasks);
    for (name, task) in tasks {
        for port in &task.publish {
            text.push_str(&format!("  {name}  {}\n", publish::link(port)));
        }
    }
    text
}
