//! `/v1/volumes` and `/v1/pools`.

use std::io;

use axum::Json;
use axum::body::Body as Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use lith_api::error::{Code, Failure};
use lith_api::volume::{
    Checkpoint, CloneRequest, FileEvent, GrowRequest, Point, Pool, RemovedVolume, RestoreEvent,
    RestoreRequest, Snapshot, SnapshotRequest, Volume,
};
use lith_core::chain::chain;
use lith_core::name::VolumeId;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

use super::failure::{Body, Query, Refusal};
use super::{Context, input, json_lines};
use crate::layout::Layout;
use crate::look::{Reading, Request, What};
use crate::server;
use crate::server::history::Unfinished;

/// Parts of an answer that wait for a slow client.
const PARTS_MAX: usize = 16;
/// Bytes of such a part.
const PART_BYTES: usize = 64 << 10;

/// Every volume that has a disk, also of jobs that are removed.
#[utoipa::path(get, path = "/v1/volumes", responses((status = 200, body = [Volume])))]
pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Vec<Volume>>, Refusal> {
    Ok(Json(context.server()?.volumes(context.agent.clone()).await?))
}

/// Where what a volume starts with is kept.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FillQuery {
    /// The pool that the job file names for the volume.
    pool: Option<String>,
}

/// Keeps a folder as what a volume starts with instead of what its image has: until its first task runs.
#[utoipa::path(put, path = "/v1/volumes/{volume}/content",
    params(("volume" = String, Path, description = "`job.volume.index`"), FillQuery),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 200, description = "an empty object"), (status = 409, body = Failure)))]
pub(crate) async fn fill(
    State(context): State<Context>,
    Path(volume): Path<String>,
    Query(query): Query<FillQuery>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let id = parse(&volume)?;
    let (agent, mut reader) = (context.agent.clone(), input::reader(body));
    let work = move || {
        let filled = server::volumes::fill(agent.layout(), &id, query.pool.as_deref(), &mut reader);
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

/// How a volume is removed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RemoveQuery {
    /// At once, instead of in a week.
    #[serde(default)]
    now: bool,
}

/// Removes a volume that no deployed job declares. It can be brought back for a week.
#[utoipa::path(delete, path = "/v1/volumes/{volume}",
    params(("volume" = String, Path, description = "`job.volume.index`"), RemoveQuery),
    responses((status = 200, body = RemovedVolume), (status = 404, body = Failure), (status = 409, body = Failure)))]
pub(crate) async fn remove(
    State(context): State<Context>,
    Path(volume): Path<String>,
    Query(query): Query<RemoveQuery>,
) -> Result<Json<RemovedVolume>, Refusal> {
    let id = parse(&volume)?;
    Ok(Json(context.server()?.remove_volume(id, query.now, context.agent.clone()).await?))
}

/// Volumes that were removed and can be brought back.
#[utoipa::path(get, path = "/v1/volumes/removed", responses((status = 200, body = [RemovedVolume])))]
pub(crate) async fn removed(State(context): State<Context>) -> Result<Json<Vec<RemovedVolume>>, Refusal> {
    Ok(Json(context.server()?.removed_volumes(context.agent.clone()).await?))
}

/// Brings a removed volume back.
#[utoipa::path(post, path = "/v1/volumes/{volume}/unremove",
    params(("volume" = String, Path, description = "`job.volume.index`")),
    responses((status = 200, body = Volume), (status = 404, body = Failure), (status = 409, body = Failure)))]
pub(crate) async fn bring_back(
    State(context): State<Context>,
    Path(volume): Path<String>,
) -> Result<Json<Volume>, Refusal> {
    Ok(Json(context.server()?.bring_back_volume(parse(&volume)?, context.agent.clone()).await?))
}

/// The checkpoints of a volume, in order.
#[utoipa::path(get, path = "/v1/volumes/{volume}/checkpoints",
    params(("volume" = String, Path, description = "`job.volume.index`")),
    responses((status = 200, body = [Checkpoint]), (status = 404, body = Failure)))]
pub(crate) async fn checkpoints(
    State(context): State<Context>,
    Path(volume): Path<String>,
) -> Result<Json<Vec<Checkpoint>>, Refusal> {
    Ok(Json(context.server()?.checkpoints(parse(&volume)?, context.agent.clone()).await?))
}

/// The snapshots of all volumes.
#[utoipa::path(get, path = "/v1/volumes/snapshots", responses((status = 200, body = [Snapshot])))]
pub(crate) async fn snapshots(State(context): State<Context>) -> Result<Json<Vec<Snapshot>>, Refusal> {
    Ok(Json(context.server()?.snapshots(context.agent.clone()).await?))
}

/// Gives a name to what volumes hold now, all at one instant.
#[utoipa::path(post, path = "/v1/volumes/snapshots", request_body = SnapshotRequest,
    responses((status = 200, body = [Snapshot]), (status = 404, body = Failure), (status = 409, body = Failure)))]
pub(crate) async fn snapshot(
    State(context): State<Context>,
    Body(request): Body<SnapshotRequest>,
) -> Result<Json<Vec<Snapshot>>, Refusal> {
    Ok(Json(context.server()?.snapshot(request, context.agent.clone()).await?))
}

/// Takes the name of a snapshot away.
#[utoipa::path(delete, path = "/v1/volumes/{volume}/snapshots/{name}",
    params(("volume" = String, Path, description = "`job.volume.index`"), ("name" = String, Path, description = "its name")),
    responses((status = 200, description = "an empty object"), (status = 404, body = Failure)))]
pub(crate) async fn forget_snapshot(
    State(context): State<Context>,
    Path((volume, name)): Path<(String, String)>,
) -> Result<Json<serde_json::Value>, Refusal> {
    context.server()?.forget_snapshot(parse(&volume)?, name, context.agent.clone()).await?;
    Ok(Json(serde_json::json!({})))
}

/// Makes a volume larger.
#[utoipa::path(put, path = "/v1/volumes/{volume}/size", request_body = GrowRequest,
    params(("volume" = String, Path, description = "`job.volume.index`")),
    responses((status = 200, body = Volume), (status = 400, body = Failure), (status = 404, body = Failure)))]
pub(crate) async fn grow(
    State(context): State<Context>,
    Path(volume): Path<String>,
    Body(request): Body<GrowRequest>,
) -> Result<Json<Volume>, Refusal> {
    Ok(Json(context.server()?.grow(parse(&volume)?, request.size_bytes, context.agent.clone()).await?))
}

/// Makes volumes what they were. The answer is lines of JSON.
#[utoipa::path(post, path = "/v1/volumes/restore", request_body = RestoreRequest,
    responses((status = 200, body = RestoreEvent, content_type = "application/x-ndjson")))]
pub(crate) async fn restore(
    State(context): State<Context>,
    Body(request): Body<RestoreRequest>,
) -> Result<Response, Refusal> {
    let (server, agent) = (context.server()?.clone(), context.agent.clone());
    Ok(told(move |tell| server.restore(&request, &agent, tell)))
}

/// Makes a new volume of what one held. The answer is lines of JSON.
#[utoipa::path(post, path = "/v1/volumes/{volume}/clone", request_body = CloneRequest,
    params(("volume" = String, Path, description = "`job.volume.index`")),
    responses((status = 200, body = RestoreEvent, content_type = "application/x-ndjson")))]
pub(crate) async fn clone(
    State(context): State<Context>,
    Path(volume): Path<String>,
    Body(request): Body<CloneRequest>,
) -> Result<Response, Refusal> {
    let (server, agent, id) = (context.server()?.clone(), context.agent.clone(), parse(&volume)?);
    Ok(told(move |tell| server.clone_volume(&id, &request, &agent, tell)))
}

/// Verifies the history of a volume. The answer is lines of JSON.
#[utoipa::path(post, path = "/v1/volumes/{volume}/check",
    params(("volume" = String, Path, description = "`job.volume.index`")),
    responses((status = 200, body = RestoreEvent, content_type = "application/x-ndjson")))]
pub(crate) async fn check(
    State(context): State<Context>,
    Path(volume): Path<String>,
) -> Result<Response, Refusal> {
    let (server, agent, id) = (context.server()?.clone(), context.agent.clone(), parse(&volume)?);
    Ok(told(move |tell| server.check_volume(&id, &agent, tell)))
}

/// How a history is put aside.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ForgetQuery {
    /// Also when a restore has not ended: the disk stays as far as that came.
    #[serde(default)]
    half_restored: bool,
}

/// Puts the history of a volume aside and begins another. What was put aside is deleted after a week.
#[utoipa::path(post, path = "/v1/volumes/{volume}/forget-history",
    params(("volume" = String, Path, description = "`job.volume.index`"), ForgetQuery),
    responses((status = 200, body = Volume), (status = 404, body = Failure), (status = 409, body = Failure)))]
pub(crate) async fn forget_history(
    State(context): State<Context>,
    Path(volume): Path<String>,
    Query(query): Query<ForgetQuery>,
) -> Result<Json<Volume>, Refusal> {
    let unfinished = if query.half_restored { Unfinished::GiveUp } else { Unfinished::Refuse };
    let server = context.server()?;
    Ok(Json(server.forget_history(parse(&volume)?, unfinished, context.agent.clone()).await?))
}

/// What to read in a volume, and as of when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadQuery {
    /// The path within the volume.
    #[serde(default)]
    path: String,
    /// `newest`, `checkpoint:NUMBER`, `snapshot:NAME` or `time:MILLISECONDS`.
    #[param(value_type = Option<String>)]
    #[serde(default)]
    at: Point,
    /// With what is below.
    #[serde(default)]
    recursive: bool,
}

/// The files in a volume, as lines of JSON.
#[utoipa::path(get, path = "/v1/volumes/{volume}/files",
    params(("volume" = String, Path, description = "`job.volume.index`"), ReadQuery),
    responses((status = 200, body = FileEvent, content_type = "application/x-ndjson"), (status = 404, body = Failure)))]
pub(crate) async fn files(
    State(context): State<Context>,
    Path(volume): Path<String>,
    Query(query): Query<ReadQuery>,
) -> Result<Response, Refusal> {
    let what = if query.recursive { What::ListAll } else { What::List };
    read(&context, &volume, query, what, "application/x-ndjson").await
}

/// The content of a file in a volume.
#[utoipa::path(get, path = "/v1/volumes/{volume}/file",
    params(("volume" = String, Path, description = "`job.volume.index`"), ReadQuery),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 404, body = Failure)))]
pub(crate) async fn file(
    State(context): State<Context>,
    Path(volume): Path<String>,
    Query(query): Query<ReadQuery>,
) -> Result<Response, Refusal> {
    read(&context, &volume, query, What::Content, "application/octet-stream").await
}

/// A part of a volume as an archive.
#[utoipa::path(get, path = "/v1/volumes/{volume}/archive",
    params(("volume" = String, Path, description = "`job.volume.index`"), ReadQuery),
    responses((status = 200, body = Vec<u8>, content_type = "application/x-tar"), (status = 404, body = Failure)))]
pub(crate) async fn archive(
    State(context): State<Context>,
    Path(volume): Path<String>,
    Query(query): Query<ReadQuery>,
) -> Result<Response, Refusal> {
    read(&context, &volume, query, What::Archive, "application/x-tar").await
}

/// The pools of this node.
#[utoipa::path(get, path = "/v1/pools", responses((status = 200, body = [Pool])))]
pub(crate) async fn pools(State(context): State<Context>) -> Result<Json<Vec<Pool>>, Refusal> {
    Ok(Json(context.server()?.pools(context.agent.clone()).await?))
}

fn parse(text: &str) -> Result<VolumeId, Failure> {
    text.parse().map_err(|error| Failure::new(Code::Invalid, chain(&error)))
}

/// Work on a thread of its own, whose words are lines of the answer. A client that leaves does not end it.
fn told(work: impl FnOnce(&mut dyn FnMut(RestoreEvent)) + Send + 'static) -> Response {
    let (sender, receiver) = mpsc::channel(PARTS_MAX);
    tokio::task::spawn_blocking(move || {
        work(&mut |event| {
            // Nobody listens any more: it goes on all the same.
            let _ = sender.blocking_send(event);
        });
    });
    json_lines(ReceiverStream::new(receiver))
}

async fn read(
    context: &Context,
    volume: &str,
    query: ReadQuery,
    what: What,
    content_type: &'static str,
) -> Result<Response, Refusal> {
    let (id, agent) = (parse(volume)?, context.agent.clone());
    let (folder, seq) = context.server()?.resolve(id, query.at, agent).await?;
    let request = Request { seq, path: query.path, what };
    let layout = context.agent.layout().clone();
    let (sender, mut receiver) = mpsc::channel::<Result<Vec<u8>, Failure>>(PARTS_MAX);
    // The process ends with the thread that has started it.
    std::thread::spawn(move || pump(&folder, &layout, &request, &sender));
    // What fails before the first byte is an answer like any other.
    let first = match receiver.recv().await {
        Some(Ok(first)) => first,
        Some(Err(failure)) => return Err(failure.into()),
        None => vec![],
    };
    let first = futures_util::stream::iter([Ok(first)]);
    let rest = futures_util::StreamExt::map(ReceiverStream::new(receiver), |part| {
        // The connection breaks off: what came is not taken for all.
        part.map_err(|failure| io::Error::other(failure.message))
    });
    let body = Bytes::from_stream(futures_util::StreamExt::chain(first, rest));
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], body).into_response())
}

fn pump(
    folder: &std::path::Path,
    layout: &Layout,
    request: &Request,
    sender: &mpsc::Sender<Result<Vec<u8>, Failure>>,
) {
    let mut reading = match Reading::start(folder, layout, request) {
        Ok(reading) => reading,
        Err(failure) => return drop(sender.blocking_send(Err(failure))),
    };
    loop {
        let mut part = vec![0; PART_BYTES];
        match reading.read(&mut part) {
            Ok(0) => break,
            Ok(count) => {
                part.truncate(count);
                if sender.blocking_send(Ok(part)).is_err() {
                    return;
                }
            }
            Err(_) => break,
        }
    }
    if let Err(failure) = reading.finish() {
        let _ = sender.blocking_send(Err(failure));
    }
}
