//! `/v1/version`, `/v1/doctor`, `/v1/down`.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use lith_api::node::{Check, Down, Version};

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
