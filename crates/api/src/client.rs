//! The client of the API, over the server's Unix socket.
//!
//! A request is one connection: simple, and a stream that is dropped ends what it was for.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use lith_core::chain::chain;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::error::{Code, Failure};
use crate::stream::UPGRADE;

/// Longest line of a streamed answer: a log line at its own limit, escaped, with room.
const LINE_BYTES_MAX: usize = 4 << 20;
/// Largest answer that is held as a whole.
const ANSWER_BYTES_MAX: usize = 64 << 20;

type Body = BoxBody<Bytes, std::io::Error>;
/// Parts of an answer as they come.
pub type Answers<T> = BoxStream<'static, Result<T, Failure>>;
/// An upgraded connection.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the server that listens on `socket`. Nothing is connected yet.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// `GET` that answers JSON.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, empty()).await
    }

    /// `DELETE` that answers JSON.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::DELETE, path, empty()).await
    }

    /// `POST` of JSON that answers JSON.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.ask(Method::POST, path, json(body)?).await
    }

    /// `PUT` of JSON that answers JSON.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.ask(Method::PUT, path, json(body)?).await
    }

    /// A request whose answer is lines of JSON, as they come.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub async fn lines<T: DeserializeOwned + 'static>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Answers<T>, Failure> {
        let body = body.map_or(Ok(empty()), |body| json(body))?;
        Ok(parse_lines(self.send(request(method, path, body)).await?.into_body()))
    }

    /// Sends a stream of bytes; the answer is lines of JSON.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub async fn upload<T: DeserializeOwned + 'static>(
        &self,
        method: Method,
        path: &str,
        bytes: impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static,
    ) -> Result<Answers<T>, Failure> {
        let body = BoxBody::new(StreamBody::new(bytes.map(|bytes| bytes.map(Frame::data))));
        Ok(parse_lines(self.send(request(method, path, body)).await?.into_body()))
    }

    /// A request whose answer is a stream of bytes.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub async fn download(&self, path: &str) -> Result<Answers<Bytes>, Failure> {
        let body = self.send(request(Method::GET, path, empty())).await?.into_body();
        Ok(body.into_data_stream().map(|part| part.map_err(|error| broken(&error))).boxed())
    }

    /// The same, for bytes that say nothing of their own end: the answer must, so that one that broke off is an error and
    /// never a shorter one.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub async fn download_whole(&self, path: &str) -> Result<Answers<Bytes>, Failure> {
        let response = self.send(request(Method::GET, path, empty())).await?;
        let has_end = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
            .iter()
            .any(|name| response.headers().contains_key(name));
        if !has_end {
            let failure = Failure::new(Code::Internal, "the server's answer does not say where it ends");
            return Err(failure.hint("compare `lith version` of the command and the server"));
        }
        Ok(response.into_body().into_data_stream().map(|part| part.map_err(|error| broken(&error))).boxed())
    }

    /// A request whose answer is a stream of [`crate::stream::Frame`]s.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub async fn frames(&self, path: &str) -> Result<Answers<crate::stream::Frame>, Failure> {
        Ok(parse_frames(self.download(path).await?))
    }

    /// A request that turns the connection into a stream of [`crate::stream::Frame`]s.
    ///
    /// # Errors
    /// What the server answers, or that it cannot be reached.
    pub async fn upgrade(&self, path: &str, body: &impl Serialize) -> Result<Upgraded, Failure> {
        let mut request = request(Method::POST, path, json(body)?);
        request.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static(UPGRADE));
        let response = self.send(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::new(Code::Internal, "the server did not switch to a stream"));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| broken(&error))?;
        Ok(TokioIo::new(upgraded))
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Body) -> Result<T, Failure> {
        let response = self.send(request(method, path, body)).await?;
        let bytes = whole(response.into_body()).await?;
        serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))
    }

    /// Sends a request; an answer that is not a success becomes its failure.
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        // Ends by itself when the answer was read or dropped; its error reaches the reader of the body.
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let status = response.status();
        let bytes = whole(response.into_body()).await?;
        Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| {
            let text = String::from_utf8_lossy(&bytes);
            Failure::new(Code::Internal, format!("the server answered {status}: {}", text.trim()))
        }))
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let socket = self.socket.display();
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                Failure::new(Code::Unreachable, format!("no server listens on {socket}"))
                    .hint("start one with `lith up`")
            }
            std::io::ErrorKind::PermissionDenied => {
                Failure::new(Code::Unreachable, format!("not allowed to talk to the server on {socket}"))
                    .hint("run this command as root")
            }
            _ => {
                Failure::new(Code::Unreachable, format!("cannot connect to the server on {socket}: {error}"))
            }
        }
    }
}

fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "lith")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .expect("paths are made of escaped parts")
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed()
}

fn json(body: &impl Serialize) -> Result<Body, Failure> {
    let bytes = serde_json::to_vec(body).map_err(|error| unreadable(&error))?;
    Ok(Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed())
}

fn broken(error: &dyn std::error::Error) -> Failure {
    Failure::new(Code::Unreachable, format!("the connection to the server broke: {}", chain(error)))
        .hint("see whether `lith up` is still running")
}

fn unreadable(error: &serde_json::Error) -> Failure {
    Failure::new(Code::Internal, format!("cannot read the server's answer: {error}"))
        .hint("compare `lith version` of the command and the server")
}

async fn whole(mut body: Incoming) -> Result<BytesMut, Failure> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        if let Some(part) = frame.data_ref() {
            if bytes.len() + part.len() > ANSWER_BYTES_MAX {
                return Err(Failure::new(Code::Internal, "the server's answer is too large"));
            }
            bytes.extend_from_slice(part);
        }
    }
    Ok(bytes)
}

fn parse_lines<T: DeserializeOwned + 'static>(body: Incoming) -> Answers<T> {
    let state = (body.into_data_stream(), BytesMut::new());
    futures_util::stream::unfold(state, |(mut body, mut buffer)| async move {
        loop {
            if let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
                let line = buffer.split_to(end + 1);
                let value = serde_json::from_slice(&line).map_err(|error| unreadable(&error));
                return Some((value, (body, buffer)));
            }
            if buffer.len() > LINE_BYTES_MAX {
                buffer.clear();
                let failure = Failure::new(Code::Internal, "a line of the server's answer is too long");
                return Some((Err(failure), (body, buffer)));
            }
            match body.next().await? {
                Ok(part) => buffer.extend_from_slice(&part),
                Err(error) => {
                    buffer.clear();
                    return Some((Err(broken(&error)), (body, buffer)));
                }
            }
        }
    })
    .boxed()
}

fn parse_frames(parts: Answers<Bytes>) -> Answers<crate::stream::Frame> {
    let state = (parts, BytesMut::new());
    futures_util::stream::unfold(state, |(mut parts, mut buffer)| async move {
        loop {
            match crate::stream::Frame::decode(&mut buffer) {
                Ok(Some(frame)) => return Some((Ok(frame), (parts, buffer))),
                Ok(None) => {}
                Err(error) => {
                    let failure =
                        Failure::new(Code::Internal, format!("cannot read the server's answer: {error}"));
                    let failure = failure.hint("compare `lith version` of the command and the server");
                    return Some((Err(failure), (futures_util::stream::empty().boxed(), BytesMut::new())));
                }
            }
            match parts.next().await? {
                Ok(part) => buffer.extend_from_slice(&part),
                Err(failure) => return Some((Err(failure), (parts, BytesMut::new()))),
            }
        }
    })
    .boxed()
}

/// Escapes a text for use as one part of a path.
#[must_use]
pub fn escape(part: &str) -> String {
    let mut escaped = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_escaped() {
        assert_eq!(escape("docker.io/library/nginx:1?x=é"), "docker.io%2Flibrary%2Fnginx%3A1%3Fx%3D%C3%A9");
    }
}
