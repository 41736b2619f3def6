//! `/v1/version`, `/v1/doctor`, `/v1/events`, `/v1/down`.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::Stream;
use lith_api::event::Event;
use lith_api::node::{Check, Down, Version};
use tokio::sync::broadcast;
use utoipa::OpenApi;

use super::failure::Refusal;
use super::{Context, json_lines};
use crate::down::stopping;

/// Which server this is.
#[utoipa::path(get, path = "/v1/version", responses((status = 200, body = Version)))]
pub(crate) async fn version(State(context): State<Context>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        node: context.node,
        data_dir: context.data_dir,
    })
}

/// What the machine offers and what it lacks.
#[utoipa::path(get, path = "/v1/doctor", responses((status = 200, body = [Check])))]
pub(crate) async fn doctor(State(context): State<Context>) -> Json<Vec<Check>> {
    Json(context.doctor.examine().await)
}

/// The description of this API.
pub(crate) async fn description() -> Json<utoipa::openapi::OpenApi> {
    Json(super::Description::openapi())
}

/// Stops every task and then the daemon, and tells how far it is as lines of JSON. What is deployed stays deployed: the
/// next `lith up` runs it again.
#[utoipa::path(post, path = "/v1/down", responses((status = 200, body = Down, content_type = "application/x-ndjson")))]
pub(crate) async fn down(State(context): State<Context>) -> Response {
    let super::Down { ask, observed, outcome } = context.down;
    // Full or closed means that it was asked already.
    let _ = ask.try_send(());
    let state = Some((observed, outcome, true));
    json_lines(futures_util::stream::unfold(state, |state| async move {
        let (mut observed, mut outcome, is_first) = state?;
        if !is_first {
            let is_over = tokio::select! {
                _ = outcome.wait_for(Option::is_some) => true,
                // Its sender goes with the agent's end, of which the outcome tells.
                Ok(()) = observed.changed() => false,
            };
            if is_over {
                let last = outcome.borrow().clone()?;
                return Some((last, None));
            }
        }
        let tasks = stopping(&observed);
        observed.mark_unchanged();
        Some((Down::Stopping { tasks }, Some((observed, outcome, false))))
    }))
}

/// Events as they happen, as server-sent events. With `Last-Event-ID`, first those missed since.
#[utoipa::path(get, path = "/v1/events", responses((status = 200, body = Event, content_type = "text/event-stream")))]
pub(crate) async fn events(
    State(context): State<Context>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Refusal> {
    let server = context.server()?;
    let receiver = server.watch_events();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let missed = match last {
        Some(last) => server.events_after(last).await?,
        None => vec![],
    };
    let state = (VecDeque::from(missed), receiver, last.unwrap_or(0));
    let stream = futures_util::stream::unfold(state, |(mut missed, mut receiver, mut last)| async move {
        loop {
            let event = match missed.pop_front() {
                Some(event) => event,
                None => match receiver.recv().await {
                    // The same event may be in what was missed and in what is heard.
                    Ok(event) if event.id <= last => continue,
                    Ok(event) => event,
                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
            };
            last = event.id;
            let sent = Sent::default().id(event.id.to_string()).event(event.kind.clone());
            let sent = sent.json_data(&event).unwrap_or_else(|_| Sent::default());
            return Some((Ok(sent), (missed, receiver, last)));
        }
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}
