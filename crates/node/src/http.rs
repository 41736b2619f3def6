//! The HTTP API under `/v1`, on a Unix socket.
//!
//! Handlers translate: request to call, result to JSON. They decide nothing.

mod events;
mod failure;
mod images;
mod input;
mod jobs;
mod node;
mod request;
mod tasks;
mod volumes;

use std::path::Path;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use lith_api::agent::Observed;
use lith_api::error::Failure;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use utoipa::OpenApi;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::{self, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::agent::AgentHandle;
use crate::images::Images;
use crate::server::Server;

/// Largest JSON request: a job file of a megabyte, in its wire form, with room.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Where the API describes itself.
const DESCRIPTION_PATH: &str = "/v1/openapi.json";

/// What handlers have at hand.
#[derive(Debug, Clone)]
pub struct Context {
    /// The server, or why there is none.
    pub server: Result<Arc<Server>, Failure>,
    /// The agent of this machine.
    pub agent: AgentHandle,
    /// The image store of this machine.
    pub images: Images,
    /// Name of the node.
    pub node: String,
    /// The data folder.
    pub data_dir: String,
    /// For stopping every task and the daemon.
    pub down: Down,
    /// Looks at the machine, for `doctor`.
    pub doctor: Arc<crate::doctor::Doctor>,
}

impl Context {
    /// The server.
    ///
    /// # Errors
    /// When it could not start. What needs only the agent goes on without it.
    pub fn server(&self) -> Result<&Arc<Server>, Failure> {
        self.server.as_ref().map_err(Clone::clone)
    }
}

/// The ends by which a handler stops the daemon.
#[derive(Debug, Clone)]
pub struct Down {
    /// Asks the daemon to stop every task and end.
    pub ask: mpsc::Sender<()>,
    /// What the agent sees.
    pub observed: watch::Receiver<Arc<Observed>>,
    /// The last word, once there is one.
    pub outcome: watch::Receiver<Option<lith_api::node::Down>>,
}

/// What the description of the API begins with; the router adds its routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "lith",
        description = "The API of a lith server. Every failure has a `Failure` as its body; its `code` decides the status."
    ),
    components(schemas(Failure, lith_api::error::Code))
)]
struct Head;

/// The router of version 1.
pub fn router(context: Context) -> Router {
    routes()
        .0
        // Made anew each time: hardly ever asked for, and too large to keep.
        .route(DESCRIPTION_PATH, get(|| std::future::ready(Json(routes().1))))
        .fallback(failure::no_such_path)
        .method_not_allowed_fallback(failure::no_such_path)
        .layer(axum::middleware::from_fn(request::named))
        .with_state(context)
}

/// Every route and the description of them all: one list makes both, so that neither can lack what the other has.
fn routes() -> (Router<Context>, openapi::OpenApi) {
    let bounded = OpenApiRouter::with_openapi(Head::openapi())
        .routes(routes!(node::version))
        .routes(routes!(node::doctor))
        .routes(routes!(node::down))
        .routes(routes!(events::events))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::show, jobs::deploy, jobs::remove))
        .routes(routes!(jobs::ask))
        .routes(routes!(jobs::blocked))
        .routes(routes!(tasks::list))
        .routes(routes!(tasks::logs))
        .routes(routes!(tasks::exec))
        .routes(routes!(tasks::stats))
        .routes(routes!(volumes::list))
        .routes(routes!(volumes::removed))
        .routes(routes!(volumes::snapshots, volumes::snapshot))
        .routes(routes!(volumes::restore))
        .routes(routes!(volumes::remove))
        .routes(routes!(volumes::bring_back))
        .routes(routes!(volumes::checkpoints))
        .routes(routes!(volumes::forget_snapshot))
        .routes(routes!(volumes::grow))
        .routes(routes!(volumes::clone))
        .routes(routes!(volumes::check))
        .routes(routes!(volumes::forget_history))
        .routes(routes!(volumes::files))
        .routes(routes!(volumes::file))
        .routes(routes!(volumes::archive))
        .routes(routes!(volumes::pools))
        .routes(routes!(images::list))
        .routes(routes!(images::collect))
        .routes(routes!(images::pull))
        .routes(routes!(images::show, images::remove))
        .routes(routes!(images::verify))
        .routes(routes!(images::registries))
        .routes(routes!(images::allow_plain_http, images::refuse_plain_http))
        .routes(routes!(images::login, images::logout))
        .layer(axum::extract::DefaultBodyLimit::max(REQUEST_BYTES_MAX));
    // Archives stream to where they belong and are bounded there.
    let streams = OpenApiRouter::new()
        .routes(routes!(tasks::copy_out, tasks::copy_in))
        .routes(routes!(images::load))
        .routes(routes!(volumes::fill))
        .layer(axum::extract::DefaultBodyLimit::disable());
    let (router, mut description) = bounded.merge(streams).split_for_parts();
    let own = Operation::builder()
        .summary(Some("The description of this API."))
        .operation_id(Some("description"))
        .response("200", Response::builder().description("OpenAPI 3.1"));
    description.paths.add_path_operation(DESCRIPTION_PATH, vec![HttpMethod::Get], own);
    for path in description.paths.paths.values_mut() {
        let operations =
            [&mut path.get, &mut path.put, &mut path.post, &mut path.delete].into_iter().flatten();
        for operation in operations {
            operation.responses.responses.insert("default".to_owned(), failed().into());
        }
    }
    (router, description)
}

/// How every request may fail.
fn failed() -> Response {
    let schema = openapi::Ref::from_schema_name("Failure");
    let content = openapi::Content::builder().schema(Some(schema));
    Response::builder()
        .description("what failed, why, and what to do next")
        .content("application/json", content.build())
        .build()
}

/// Listens on `socket`, for root alone, replacing what an earlier daemon left there.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(socket: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// The body of a streamed answer: values as lines of JSON.
fn json_lines<T: serde::Serialize + Send + 'static>(
    values: impl futures_util::Stream<Item = T> + Send + 'static,
) -> axum::response::Response {
    use futures_util::StreamExt;
    let lines = values.map(|value| {
        let mut line = serde_json::to_vec(&value).map_err(std::io::Error::other)?;
        line.push(b'\n');
        Ok::<_, std::io::Error>(bytes::Bytes::from(line))
    });
    let content_type = [(axum::http::header::CONTENT_TYPE, "application/x-ndjson")];
    axum::response::IntoResponse::into_response((content_type, axum::body::Body::from_stream(lines)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Where people read of the routes.
    const PAGE: &str = include_str!("../../../docs/reference/api.md");

    #[test]
    fn the_page_names_every_route_and_no_other() {
        let description = serde_json::to_value(routes().1).unwrap();
        let paths = description["paths"].as_object().unwrap();
        let methods = |(path, operations): (&String, &serde_json::Value)| {
            let methods = operations.as_object().unwrap().keys();
            methods.map(|method| format!("{} {path}", method.to_uppercase())).collect::<Vec<_>>()
        };
        let described: BTreeSet<String> = paths.iter().flat_map(methods).collect();
        let route = |line: &str| line.strip_prefix("| `")?.split('`').next().map(str::to_owned);
        let told: BTreeSet<String> = PAGE.lines().filter_map(route).collect();
        assert_eq!(told, described);
    }

    #[test]
    fn the_description_is_whole() {
        let description = serde_json::to_value(routes().1).unwrap();
        let mut described = Vec::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                described.push(format!("{method} {path}"));
                let failure =
                    &operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(failure, "#/components/schemas/Failure", "{method} {path}");
                for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                    let parameters = operation["parameters"].as_array().unwrap();
                    assert!(
                        parameters.iter().any(|parameter| parameter["name"] == name),
                        "{method} {path}: {name}"
                    );
                }
            }
        }
        assert!(described.contains(&format!("get {DESCRIPTION_PATH}")), "{described:?}");
        // Every reference leads somewhere.
        let text = description.to_string();
        for (_, rest) in
            text.match_indices("\"#/components/schemas/").map(|(at, found)| text.split_at(at + found.len()))
        {
            let name = rest.split('"').next().unwrap();
            assert!(description["components"]["schemas"].get(name).is_some(), "no schema {name}");
        }
    }
}
