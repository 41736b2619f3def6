//! The HTTP API under `/v1`, on a Unix socket.
//!
//! Handlers translate: request to call, result to JSON. They decide nothing.

mod failure;
mod images;
mod jobs;
mod node;
mod tasks;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post, put};
use lith_api::agent::Observed;
use lith_api::error::Failure;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use utoipa::OpenApi;

use crate::agent::AgentHandle;
use crate::images::Images;
use crate::server::Server;

/// Largest JSON request: a job file of a megabyte, in its wire form, with room.
const REQUEST_BYTES_MAX: usize = 8 << 20;

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

/// The description of the API, made from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(title = "lith", description = "The API of a lith server."),
    paths(
        node::version,
        node::doctor,
        node::events,
        node::down,
        jobs::list,
        jobs::show,
        jobs::deploy,
        jobs::remove,
        jobs::ask,
        tasks::list,
        tasks::logs,
        tasks::exec,
        tasks::copy_out,
        tasks::copy_in,
        tasks::stats,
        images::list,
        images::show,
        images::remove,
        images::collect,
        images::verify,
        images::pull,
        images::load,
        images::registries,
        images::allow_plain_http,
        images::refuse_plain_http,
        images::login,
        images::logout,
    ),
    components(schemas(lith_api::error::Failure, lith_api::image::Progress, lith_api::event::Event))
)]
pub struct Description;

/// The router of version 1.
pub fn router(context: Context) -> Router {
    let routes = Router::new()
        .route("/version", get(node::version))
        .route("/doctor", get(node::doctor))
        .route("/openapi.json", get(node::description))
        .route("/events", get(node::events))
        .route("/down", post(node::down))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{job}", get(jobs::show).put(jobs::deploy).delete(jobs::remove))
        .route("/jobs/{job}/ask", post(jobs::ask))
        .route("/tasks", get(tasks::list))
        .route("/tasks/{task}/logs", get(tasks::logs))
        .route("/tasks/{task}/exec", post(tasks::exec))
        .route("/tasks/{task}/stats", get(tasks::stats))
        .route("/images", get(images::list))
        .route("/images/gc", post(images::collect))
        .route("/images/pull", post(images::pull))
        .route("/images/{image}", get(images::show).delete(images::remove))
        .route("/images/{image}/verify", post(images::verify))
        .route("/registries", get(images::registries))
        .route(
            "/registries/{host}/plain-http",
            put(images::allow_plain_http).delete(images::refuse_plain_http),
        )
        .route("/registries/{host}", put(images::login))
        .route("/registries/{host}", delete(images::logout))
        .layer(axum::extract::DefaultBodyLimit::max(REQUEST_BYTES_MAX));
    // Archives stream to where they belong and are bounded there.
    let streams = Router::new()
        .route("/tasks/{task}/archive", get(tasks::copy_out).put(tasks::copy_in))
        .route("/images/load", post(images::load))
        .layer(axum::extract::DefaultBodyLimit::disable());
    Router::new()
        .nest(lith_api::PREFIX, routes.merge(streams))
        .fallback(failure::no_such_path)
        .method_not_allowed_fallback(failure::no_such_path)
        .with_state(context)
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
    use super::*;

    #[test]
    fn every_path_of_the_router_is_described() {
        let described = Description::openapi().to_json().unwrap();
        for path in ["/v1/jobs/{job}", "/v1/tasks/{task}/exec", "/v1/images/load", "/v1/events"] {
            assert!(described.contains(&format!("\"{path}\"")), "{path}");
        }
    }
}
