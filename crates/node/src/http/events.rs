//! `/v1/events`.

use std::convert::Infallible;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use futures_util::{Stream, StreamExt};
use lith_api::error::{Code, Failure};
use lith_api::event::{Event, EventQuery};
use lith_core::time::Time;

use super::Context;
use super::failure::{Query, Refusal};
use crate::server::events::Begin;

/// Where a reader of server-sent events says what it had last.
const LAST_EVENT_ID: &str = "last-event-id";

/// Events as they happen, as server-sent events. With `Last-Event-ID`, first those missed since; an event of kind
/// `missed` says that some of them are not kept any more.
#[utoipa::path(get, path = "/v1/events",
    params(EventQuery, ("Last-Event-ID" = Option<u64>, Header, description = "id of the last event that was received")),
    responses((status = 200, body = Event, content_type = "text/event-stream")))]
pub(crate) async fn events(
    State(context): State<Context>,
    Query(query): Query<EventQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Refusal> {
    let last = headers.get(LAST_EVENT_ID).map(|value| {
        let id = value.to_str().ok().and_then(|id| id.parse().ok());
        id.ok_or_else(|| Failure::new(Code::Invalid, "Last-Event-ID is not the id of an event"))
    });
    let begin = match (last.transpose()?, query.since_ms) {
        (Some(id), _) => Begin::After(id),
        (None, Some(since_ms)) => Begin::Since(Time(since_ms)),
        (None, None) => Begin::Now,
    };
    let sent = context.server()?.events(begin).await?.map(|event| {
        let sent = Sent::default().id(event.id.to_string()).event(event.kind.clone());
        Ok(sent.json_data(&event).unwrap_or_else(|_| Sent::default()))
    });
    Ok(Sse::new(sent).keep_alive(KeepAlive::default()))
}
