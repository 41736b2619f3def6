//! `/v1/volumes`.

use axum::Json;
use axum::extract::{Path, State};
use lith_api::error::{Code, Failure};
use lith_api::volume::Volume;
use lith_core::chain::chain;
use lith_core::name::VolumeId;

use super::Context;
use super::failure::Refusal;

/// Every volume that has a disk, also of jobs that are removed.
#[utoipa::path(get, path = "/v1/volumes", responses((status = 200, body = [Volume])))]
pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Vec<Volume>>, Refusal> {
    Ok(Json(context.server()?.volumes(context.agent.clone()).await?))
}

/// Deletes the disk of a volume that no deployed job declares. What it held is gone.
#[utoipa::path(delete, path = "/v1/volumes/{volume}",
    params(("volume" = String, Path, description = "`job.volume.index`")),
    responses((status = 200, body = Volume), (status = 404, body = Failure), (status = 409, body = Failure)))]
pub(crate) async fn remove(
    State(context): State<Context>,
    Path(volume): Path<String>,
) -> Result<Json<Volume>, Refusal> {
    let id: VolumeId = volume.parse().map_err(|error| Failure::new(Code::Invalid, chain(&error)))?;
    Ok(Json(context.server()?.remove_volume(id, context.agent.clone()).await?))
}
