//! `/v1/version`, `/v1/doctor`, `/v1/down`.

use axum::Json;
use axum::extract::State;
use lith_api::node::{Check, Version};

use super::Context;

/// Which server this is.
#[utoipa::path(get, path = "/v1/version", responses((status = 200, body = Version)))]
pub(crate) async fn version(State(context): State<Context>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        node: context.node,
    })
}

/// What the machine offers and what it lacks.
#[utoipa::path(get, path = "/v1/doctor", responses((status = 200, body = [Check])))]
pub(crate) async fn doctor(State(context): State<Context>) -> Json<Vec<Check>> {
    Json(context.doctor.examine().await)
}

/// Stops every task and then the daemon. What is deployed stays deployed: the next `lith up` runs it again.
#[utoipa::path(post, path = "/v1/down", responses((status = 200, body = Version)))]
pub(crate) async fn down(State(context): State<Context>) -> Json<Version> {
    // Full or closed means that it was asked already.
    let _ = context.down.try_send(());
    version(State(context)).await
}
