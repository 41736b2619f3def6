//! `/v1/jobs`.

use axum::Json;
use axum::extract::{Path, State};
use lith_api::blocked::{Blocked, BlockedQuery};
use lith_api::error::{Code, Failure};
use lith_api::job::JobSpec;
use lith_api::task::{AskRequest, JobDetail, JobSummary, Plan};
use lith_core::time::Time;
use serde::Deserialize;
use utoipa::IntoParams;

use super::Context;
use super::failure::{Body, Query, Refusal};
use crate::server::{Carry, warnings};

/// Every job.
#[utoipa::path(get, path = "/v1/jobs", responses((status = 200, body = [JobSummary])))]
pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Vec<JobSummary>>, Refusal> {
    Ok(Json(context.server()?.jobs().await?))
}

/// A job with its tasks.
#[utoipa::path(get, path = "/v1/jobs/{job}", params(("job" = String, Path, description = "Name of the job")),
    responses((status = 200, body = JobDetail), (status = 404, body = Failure)))]
pub(crate) async fn show(
    State(context): State<Context>,
    Path(job): Path<String>,
) -> Result<Json<JobDetail>, Refusal> {
    Ok(Json(context.server()?.detail(job).await?))
}

/// How to deploy.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeployQuery {
    /// Only say what would change.
    #[serde(default)]
    dry_run: bool,
    /// Only if the job is at this version, the plan's `from_version`: what was shown is what is done.
    #[serde(default)]
    if_version: Option<u64>,
}

/// Deploys a job: creates it, or changes it into what is sent.
#[utoipa::path(put, path = "/v1/jobs/{job}", params(("job" = String, Path, description = "Name of the job"), DeployQuery),
    request_body = JobSpec,
    responses((status = 200, body = Plan), (status = 400, body = Failure), (status = 409, body = Failure)))]
pub(crate) async fn deploy(
    State(context): State<Context>,
    Path(job): Path<String>,
    Query(query): Query<DeployQuery>,
    Body(spec): Body<JobSpec>,
) -> Result<Json<Plan>, Refusal> {
    let carry = match (query.dry_run, query.if_version) {
        (true, _) => Carry::Nothing,
        (false, None) => Carry::Out,
        (false, Some(version)) => Carry::OutAt(version),
    };
    let is_published =
        spec.groups.values().flat_map(|group| group.tasks.values()).any(|task| !task.publish.is_empty());
    let mut plan = context.server()?.deploy(job, spec, carry, context.agent.clone()).await?;
    let tasks = context.server()?.tasks(Some(plan.job.clone())).await?;
    let (images, changes) = (context.images.clone(), plan.changes.clone());
    let moved = tokio::task::spawn_blocking(move || {
        warnings::moved_images(&changes, &tasks, |image| {
            images.stored(image).map(|stored| stored.digest.to_string())
        })
    });
    plan.warnings.extend(moved.await.unwrap_or_default());
    if is_published {
        plan.warnings.extend(context.doctor.firewalls().await);
    }
    Ok(Json(plan))
}

/// Removes a job. Its tasks are stopped and removed afterwards; `GET /v1/tasks` shows when they are gone.
#[utoipa::path(delete, path = "/v1/jobs/{job}", params(("job" = String, Path, description = "Name of the job")),
    responses((status = 200, body = JobSummary), (status = 404, body = Failure)))]
pub(crate) async fn remove(
    State(context): State<Context>,
    Path(job): Path<String>,
) -> Result<Json<JobSummary>, Refusal> {
    Ok(Json(context.server()?.remove(job).await?))
}

/// Stops, starts or restarts a job or one of its tasks.
#[utoipa::path(post, path = "/v1/jobs/{job}/ask", params(("job" = String, Path, description = "Name of the job")),
    request_body = AskRequest, responses((status = 200, body = JobDetail), (status = 404, body = Failure)))]
pub(crate) async fn ask(
    State(context): State<Context>,
    Path(job): Path<String>,
    Body(request): Body<AskRequest>,
) -> Result<Json<JobDetail>, Refusal> {
    Ok(Json(context.server()?.ask(job, request).await?))
}

/// What the tasks of a job tried to reach and were refused, with the line of the job file that would allow each. Kept in
/// the node's memory for a day.
#[utoipa::path(get, path = "/v1/jobs/{job}/blocked",
    params(("job" = String, Path, description = "Name of the job"), BlockedQuery),
    responses((status = 200, body = Blocked), (status = 404, body = Failure)))]
pub(crate) async fn blocked(
    State(context): State<Context>,
    Path(job): Path<String>,
    Query(query): Query<BlockedQuery>,
) -> Result<Json<Blocked>, Refusal> {
    let job = context.server()?.job_name(job).await?;
    let log = context.agent.blocked().clone();
    let found = tokio::task::spawn_blocking(move || log.of_job(&job, Time(query.since_ms))).await;
    let failed = |error| Failure::new(Code::Internal, format!("the request failed: {error}"));
    Ok(Json(found.map_err(failed)?))
}
