//! `/v1/volumes`.

use axum::Json;
use axum::body::Body as Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use lith_api::error::{Code, Failure};
use lith_api::volume::Volume;
use lith_core::chain::chain;
use lith_core::name::VolumeId;

use super::failure::Refusal;
use super::{Context, input, json_lines};
use crate::server;

/// Every volume that has a disk, also of jobs that are removed.
#[utoipa::path(get, path = "/v1/volumes", responses((status = 200, body = [Volume])))]
pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Vec<Volume>>, Refusal> {
    Ok(Json(context.server()?.volumes(context.agent.clone()).await?))
}

/// Keeps a folder as what a volume starts with instead of what its image has: until its first task runs.
#[utoipa::path(put, path = "/v1/volumes/{volume}/content",
    params(("volume" = String, Path, description = "`job.volume.index`")),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 200, description = "an empty object"), (status = 409, body = Failure)))]
pub(crate) async fn fill(
    State(context): State<Context>,
    Path(volume): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let id: VolumeId = volume.parse().map_err(|error| Failure::new(Code::Invalid, chain(&error)))?;
    let (agent, mut reader) = (context.agent.clone(), input::reader(body));
    let work = move || {
        let filled = server::volumes::fill(agent.layout(), &id, &mut reader);
        (filled, reader.into_inner())
    };
    let (filled, rest) = tokio::task::spawn_blocking(work).await.map_err(|error| {
        Failure::new(Code::Internal, format!("taking the content of a volume in failed: {error}"))
    })?;
    // What is refused is answered at once, while the client still sends.
    tokio::spawn(input::take_rest(rest));
    filled?;
    Ok(json_lines(futures_util::stream::iter([serde_json::json!({})])))
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
