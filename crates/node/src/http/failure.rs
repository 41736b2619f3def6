//! Failures as answers.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use lith_api::error::{Code, Failure};

/// A failure on its way out. In an answer's extensions it is what [`super::request`] gives a name.
#[derive(Debug, Clone)]
pub(crate) struct Refusal(pub(crate) Failure);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = answer(self.0.clone());
        response.extensions_mut().insert(self);
        response
    }
}

/// The answer that says why a request failed.
pub(super) fn answer(failure: Failure) -> Response {
    let status = StatusCode::from_u16(failure.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(failure)).into_response()
}

/// A JSON body whose refusal is a [`Failure`].
#[derive(FromRequest)]
#[from_request(via(Json), rejection(Refusal))]
pub(crate) struct Body<T>(pub(crate) T);

/// A query whose refusal is a [`Failure`].
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Refusal))]
pub(crate) struct Query<T>(pub(crate) T);

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self(Failure::new(Code::Invalid, format!("cannot read the request: {}", rejection.body_text())))
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self(Failure::new(Code::Invalid, format!("cannot read the request: {}", rejection.body_text())))
    }
}

/// The answer to a path or method that this version does not have.
pub(crate) async fn no_such_path(uri: Uri) -> Refusal {
    let failure = Failure::new(Code::NotFound, format!("this server has no {}", uri.path()));
    Refusal(failure.hint("compare `lith version` of the command and the server"))
}
