//! Events: what happened, for people and programs that watch. Nothing depends on an event not being lost.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Something that happened. `GET /v1/events` streams them as server-sent events whose data is this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Grows by one with each event of this server.
    pub id: u64,
    /// Milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The job concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The task concerned, as `job.group.index.task`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What: `deployed`, `removed`, `asked`, `phase`, `blocked`; `missed` when earlier events are not kept any more.
    pub kind: String,
    /// One sentence.
    pub message: String,
}

/// Which events are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// First those that happened at or after this many milliseconds since the Unix epoch; 0 for all that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
}
