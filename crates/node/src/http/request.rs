//! The name of a request: in the answer when it fails, and in the log, so that one leads to the other.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use lith_api::error::{Code, Failure};

use super::failure::{Refusal, answer};

/// Digits of a name: enough that two of one log do not meet, and short enough to read aloud.
const NAME_BYTES: usize = 4;

/// Carries out a request. Its failure gets its name, and is logged here and nowhere else.
pub(super) async fn named(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let Some(Refusal(failure)) = response.extensions_mut().remove::<Refusal>() else { return response };
    let name = name();
    let Failure { code, message, .. } = &failure;
    if *code == Code::Internal {
        tracing::error!(request = %name, %method, %path, error = %message, "a request failed");
    } else {
        tracing::debug!(request = %name, %method, %path, %code, error = %message, "a request was refused");
    }
    answer(Failure { request: Some(name), ..failure }).into_response()
}

/// A random name.
fn name() -> String {
    let mut bytes = [0; NAME_BYTES];
    // Without randomness, as a kernel has it only while it boots, all are called the same: a name is no secret.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
