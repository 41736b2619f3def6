//! `/v1/images` and `/v1/registries`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::body::Body as Bytes;
use axum::extract::{Path, State};
use axum::response::Response;
use lith_api::error::{Code, Failure};
use lith_api::image::{
    CollectRequest, Collected, Image, ImageDetail, Login, Progress, PullRequest, Registry,
};
use lith_image::{Archive, GcScope};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;

use super::failure::{Body, Query, Refusal};
use super::{Context, input, json_lines};
use crate::images::Images;

/// Lines of progress on their way to the client.
const LINES_BUFFERED: usize = 64;

/// Every image.
#[utoipa::path(get, path = "/v1/images", responses((status = 200, body = [Image])))]
pub(crate) async fn list(State(context): State<Context>) -> Result<Json<Vec<Image>>, Refusal> {
    blocking(&context, |images, wanted| images.list(wanted)).await
}

/// One image with its configuration.
#[utoipa::path(get, path = "/v1/images/{image}", params(("image" = String, Path, description = "name or digest")),
    responses((status = 200, body = ImageDetail), (status = 404, body = Failure)))]
pub(crate) async fn show(
    State(context): State<Context>,
    Path(image): Path<String>,
) -> Result<Json<ImageDetail>, Refusal> {
    blocking(&context, move |images, wanted| images.inspect(&image, wanted)).await
}

/// Removes a name, and the image with its last name.
#[utoipa::path(delete, path = "/v1/images/{image}", params(("image" = String, Path, description = "name or digest")),
    responses((status = 200, body = Collected), (status = 409, body = Failure)))]
pub(crate) async fn remove(
    State(context): State<Context>,
    Path(image): Path<String>,
) -> Result<Json<Collected>, Refusal> {
    blocking(&context, move |images, wanted| images.remove(&image, wanted)).await
}

/// Removes images that no task uses and no deployed job names.
#[utoipa::path(post, path = "/v1/images/gc", request_body = CollectRequest,
    responses((status = 200, body = Collected)))]
pub(crate) async fn collect(
    State(context): State<Context>,
    Body(request): Body<CollectRequest>,
) -> Result<Json<Collected>, Refusal> {
    let scope = if request.all { GcScope::Unused } else { GcScope::Unnamed };
    blocking(&context, move |images, wanted| images.collect(scope, wanted)).await
}

/// Reads an image whole and compares it with what was recorded.
#[utoipa::path(post, path = "/v1/images/{image}/verify", params(("image" = String, Path, description = "name or digest")),
    responses((status = 200, body = Image), (status = 422, body = Failure)))]
pub(crate) async fn verify(
    State(context): State<Context>,
    Path(image): Path<String>,
) -> Result<Json<Image>, Refusal> {
    blocking(&context, move |images, wanted| images.verify(&image, wanted)).await
}

/// Fetches an image from its registry. The answer is progress as lines of JSON.
#[utoipa::path(post, path = "/v1/images/pull", request_body = PullRequest,
    responses((status = 200, body = Progress, content_type = "application/x-ndjson")))]
pub(crate) async fn pull(State(context): State<Context>, Body(request): Body<PullRequest>) -> Response {
    let (lines, receiver) = mpsc::channel(LINES_BUFFERED);
    let last = lines.clone();
    let work = async move {
        // A client that leaves stops the work: nobody would know of it.
        tokio::select! {
            result = context.images.pull(&request.reference, request.plain_http, lines) => {
                tell_end(&last, result).await;
            }
            () = last.closed() => {}
        }
    };
    tokio::spawn(work);
    json_lines(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

/// How to load.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LoadQuery {
    /// The name to give to the one image of the archive.
    name: Option<String>,
    /// What the archive is called where it comes from, for messages.
    archive: Option<String>,
    /// Its bytes: what has no room is refused before any of them is sent.
    bytes: Option<u64>,
}

/// Loads images from an archive: a tar of an OCI layout, or what `docker save` writes. The answer is progress as lines
/// of JSON.
#[utoipa::path(post, path = "/v1/images/load", params(LoadQuery),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 200, body = Progress, content_type = "application/x-ndjson")))]
pub(crate) async fn load(
    State(context): State<Context>,
    Query(query): Query<LoadQuery>,
    body: Bytes,
) -> Response {
    let (lines, receiver) = mpsc::channel(LINES_BUFFERED);
    let last = lines.clone();
    let mut reader = input::reader(body);
    tokio::spawn(async move {
        let images = context.images;
        let load = move || {
            let label =
                query.archive.map_or("the archive".to_owned(), |path| format!("the archive `{path}`"));
            let archive = Archive { label: &label, bytes: query.bytes };
            let result = images.load(&archive, &mut reader, query.name.as_deref(), lines);
            (result, Some(reader.into_inner()))
        };
        let (result, rest) = tokio::task::spawn_blocking(load).await.unwrap_or_else(|error| {
            (Err(Failure::new(Code::Internal, format!("loading the archive failed: {error}"))), None)
        });
        tell_end(&last, result).await;
        if let Some(rest) = rest {
            input::take_rest(rest).await;
        }
    });
    json_lines(tokio_stream::wrappers::ReceiverStream::new(receiver))
}

async fn tell_end(lines: &mpsc::Sender<Progress>, result: Result<Vec<Image>, Failure>) {
    let line = match result {
        Ok(images) => Progress::Done { images },
        Err(failure) => Progress::Failed { failure },
    };
    // The client may have left; the store has what was done.
    let _ = lines.send(line).await;
}

/// Every registry of which a login or a permission is kept.
#[utoipa::path(get, path = "/v1/registries", responses((status = 200, body = [Registry])))]
pub(crate) async fn registries(State(context): State<Context>) -> Result<Json<Vec<Registry>>, Refusal> {
    blocking(&context, |images, _| images.registries()).await
}

/// Allows plain HTTP with a registry, for every pull from it.
#[utoipa::path(put, path = "/v1/registries/{host}/plain-http",
    params(("host" = String, Path, description = "host of the registry")),
    responses((status = 200, description = "an empty object"), (status = 400, body = Failure)))]
pub(crate) async fn allow_plain_http(
    State(context): State<Context>,
    Path(host): Path<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
    blocking(&context, move |images, _| images.allow_plain_http(&host).map(|()| serde_json::json!({}))).await
}

/// Wants TLS with a registry again.
#[utoipa::path(delete, path = "/v1/registries/{host}/plain-http",
    params(("host" = String, Path, description = "host of the registry")),
    responses((status = 200, description = "an empty object"), (status = 404, body = Failure)))]
pub(crate) async fn refuse_plain_http(
    State(context): State<Context>,
    Path(host): Path<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
    blocking(&context, move |images, _| images.refuse_plain_http(&host).map(|()| serde_json::json!({}))).await
}

/// Checks a login against its registry and keeps it for pulls.
#[utoipa::path(put, path = "/v1/registries/{host}", params(("host" = String, Path, description = "host of the registry")),
    request_body = Login, responses((status = 200, description = "an empty object"), (status = 422, body = Failure)))]
pub(crate) async fn login(
    State(context): State<Context>,
    Path(host): Path<String>,
    Body(login): Body<Login>,
) -> Result<Json<serde_json::Value>, Refusal> {
    context.images.login(&host, login).await?;
    Ok(Json(serde_json::json!({})))
}

/// Forgets a login.
#[utoipa::path(delete, path = "/v1/registries/{host}", params(("host" = String, Path, description = "host of the registry")),
    responses((status = 200, description = "an empty object"), (status = 404, body = Failure)))]
pub(crate) async fn logout(
    State(context): State<Context>,
    Path(host): Path<String>,
) -> Result<Json<serde_json::Value>, Refusal> {
    blocking(&context, move |images, _| images.logout(&host).map(|()| serde_json::json!({}))).await
}

/// Runs work on the store on a blocking thread, with the images that deployed jobs name.
async fn blocking<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce(&Images, &BTreeSet<String>) -> Result<T, Failure> + Send + 'static,
) -> Result<Json<T>, Refusal> {
    let (images, server) = (context.images.clone(), Arc::clone(context.server()?));
    let result = tokio::task::spawn_blocking(move || work(&images, &server.wanted_images())).await;
    let result = result.unwrap_or_else(|error| {
        Err(Failure::new(Code::Internal, format!("the image store failed: {error}")))
    });
    Ok(Json(result?))
}
