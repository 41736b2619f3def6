//! `/v1/tasks`: what runs, its log, and what is done inside it.

use std::time::Duration;

use axum::Json;
use axum::body::Body as Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures_util::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use lith_api::error::{Code, Failure};
use lith_api::log::{LogLine, LogQuery, LogStream};
use lith_api::stream::{ExecExit, ExecRequest, Frame, Size, UPGRADE};
use lith_api::task::TaskStatus;
use lith_core::name::TaskId;
use lith_guest::messages::{Exec, Outcome, Tty, TtySize};
use lith_guest::process::Environment;
use lith_vmm::log as task_log;
use lith_vmm::shim::{Client, ClientError, Piece, Session, SessionReader, SessionWriter};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use utoipa::IntoParams;

use super::failure::{Body, Query, Refusal};
use super::{Context, json_lines};
use crate::chain::chain;

/// How often a log that is followed is looked at: what a person reading takes for at once.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);
/// Lines handed from the reading thread to the connection at once.
const LINES_BUFFERED: usize = 256;
/// What `TERM` is for a terminal that does not say.
const TERM_DEFAULT: &str = "xterm";

/// Which tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only those of this job.
    job: Option<String>,
}

/// Every task that is wanted or still there.
#[utoipa::path(get, path = "/v1/tasks", params(ListQuery), responses((status = 200, body = [TaskStatus])))]
pub(crate) async fn list(
    State(context): State<Context>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<TaskStatus>>, Refusal> {
    Ok(Json(context.server()?.tasks(query.job).await?))
}

/// A task's log as lines of JSON.
#[utoipa::path(get, path = "/v1/tasks/{task}/logs", params(("task" = String, Path, description = "job.group.index.task"), LogQuery),
    responses((status = 200, body = LogLine, content_type = "application/x-ndjson"), (status = 404, body = Failure)))]
pub(crate) async fn logs(
    State(context): State<Context>,
    Path(task): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Refusal> {
    let id = parse(&task)?;
    let folder = context.agent.log(&id).ok_or_else(|| unknown(&task))?;
    let (sender, receiver) = tokio::sync::mpsc::channel(LINES_BUFFERED);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read_log(&folder, &query, &sender) {
            tracing::warn!(task = %id, error = %chain(&error), "a log cannot be read");
        }
    });
    Ok(json_lines(tokio_stream::wrappers::ReceiverStream::new(receiver)))
}

/// Sends a log's lines until its end, or until nobody listens.
fn read_log(
    folder: &std::path::Path,
    query: &LogQuery,
    sender: &tokio::sync::mpsc::Sender<LogLine>,
) -> Result<(), task_log::LogError> {
    let since = query.since_ms.and_then(|ms| jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok());
    let tail = query.tail.map(|tail| usize::try_from(tail).unwrap_or(usize::MAX));
    let mut reader = task_log::Reader::open(folder, task_log::Query { since, tail })?;
    loop {
        while let Some(entry) = reader.next_entry()? {
            let line = LogLine {
                time: entry.time.to_string(),
                stream: match entry.stream {
                    task_log::LogStream::Stdout => LogStream::Stdout,
                    task_log::LogStream::Stderr => LogStream::Stderr,
                },
                text: String::from_utf8_lossy(&entry.text).into_owned(),
                is_partial: entry.is_partial,
            };
            if sender.blocking_send(line).is_err() {
                return Ok(());
            }
        }
        if !query.follow || sender.is_closed() {
            return Ok(());
        }
        std::thread::park_timeout(FOLLOW_INTERVAL);
    }
}

/// Runs a command beside the task's process. The connection is upgraded to frames.
#[utoipa::path(post, path = "/v1/tasks/{task}/exec", params(("task" = String, Path, description = "job.group.index.task")),
    request_body = ExecRequest,
    responses((status = 101, description = "the connection speaks lith-stream/1"), (status = 409, body = Failure)))]
pub(crate) async fn exec(
    State(context): State<Context>,
    Path(task): Path<String>,
    request: Request<Bytes>,
) -> Result<Response, Refusal> {
    let client = supervisor(&context, &task)?;
    let (mut parts, body) = request.into_parts();
    let wants_upgrade = parts.headers.get(header::UPGRADE).is_some_and(|value| value == UPGRADE);
    let Some(upgrade) = parts.extensions.remove::<hyper::upgrade::OnUpgrade>().filter(|_| wants_upgrade)
    else {
        let message = format!("exec needs a connection that is upgraded to {UPGRADE}");
        return Err(Failure::new(Code::Invalid, message).into());
    };
    let request = Request::from_parts(parts, body);
    let Body(request) =
        <Body<ExecRequest> as axum::extract::FromRequest<()>>::from_request(request, &()).await?;
    let session = client.exec(exec_of(request)).await.map_err(|error| refused(&task, &error))?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => carry(session, TokioIo::new(connection)).await,
            Err(error) => tracing::debug!(%error, "an exec connection was not upgraded"),
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static(UPGRADE)),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn exec_of(request: ExecRequest) -> Exec {
    let term = request.term;
    Exec {
        argv: request.command,
        env: Environment(request.env),
        user: request.user,
        working_dir: request.working_dir,
        tty: request
            .terminal
            .map(|size| Tty { size: tty_size(size), term: term.unwrap_or_else(|| TERM_DEFAULT.to_owned()) }),
    }
}

fn tty_size(size: Size) -> TtySize {
    TtySize { rows: size.rows, cols: size.columns }
}

/// Carries a session over a connection until either ends.
async fn carry(session: Session, connection: impl AsyncRead + AsyncWrite) {
    let (read, mut write) = tokio::io::split(connection);
    let Session { mut reader, writer } = session;
    let output = async {
        let mut buffer = BytesMut::new();
        loop {
            let (frames, is_last) = next_frames(&mut reader).await;
            for frame in frames {
                frame.encode(&mut buffer);
            }
            if write.write_all(&buffer).await.is_err() || is_last {
                break;
            }
            buffer.clear();
        }
        // The other side may be gone; there is nothing more to say.
        let _ = write.shutdown().await;
    };
    let input = async {
        forward_input(read, writer).await;
        // The client has left, or misbehaved: the session is dropped, which ends the command.
    };
    tokio::select! { () = output => {}, () = input => {} }
}

/// The frames of the session's next piece, and whether they are the last.
async fn next_frames(reader: &mut SessionReader) -> (Vec<Frame>, bool) {
    match reader.next().await {
        Ok(Piece::Out(bytes)) => (vec![Frame::Output(bytes.into())], false),
        Ok(Piece::Err(bytes)) => (vec![Frame::Error(bytes.into())], false),
        Ok(Piece::End(Outcome::Exited(exit))) => {
            (vec![Frame::Exit(ExecExit { code: exit.shell_code() })], true)
        }
        Ok(Piece::End(Outcome::Done)) => (vec![Frame::Exit(ExecExit { code: 0 })], true),
        Ok(Piece::End(Outcome::Cancelled)) => {
            (vec![Frame::Failure(Failure::new(Code::NotRunning, "the command was cancelled"))], true)
        }
        // As a shell does: the sentence on standard error, then the code.
        Ok(Piece::End(Outcome::Failed { code, message })) => {
            let sentence = Frame::Error(format!("{message}\n").into());
            (vec![sentence, Frame::Exit(ExecExit { code: i32::from(code) })], true)
        }
        Err(error) => (vec![Frame::Failure(failure(&error))], true),
    }
}

/// Forwards input until the client leaves.
async fn forward_input(mut read: impl AsyncRead + Unpin, mut writer: SessionWriter) {
    let mut buffer = BytesMut::with_capacity(16 << 10);
    loop {
        loop {
            let result = match Frame::decode(&mut buffer) {
                Ok(None) => break,
                Ok(Some(Frame::Input(bytes))) => writer.send(&bytes).await,
                Ok(Some(Frame::InputEnd)) => writer.end_input().await,
                Ok(Some(Frame::Resize(size))) => writer.resize(tty_size(size)).await,
                Ok(Some(Frame::Output(_) | Frame::Error(_) | Frame::Exit(_) | Frame::Failure(_)))
                | Err(_) => return,
            };
            if result.is_err() {
                // The command has ended; its last output and its exit are still on their way.
                std::future::pending::<()>().await;
            }
        }
        match read.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Where in the task.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ArchiveQuery {
    /// A path in the task's root.
    path: String,
}

/// A file or folder of the task as a tar archive.
#[utoipa::path(get, path = "/v1/tasks/{task}/archive", params(("task" = String, Path, description = "job.group.index.task"), ArchiveQuery),
    responses((status = 200, content_type = "application/x-tar", body = Vec<u8>), (status = 409, body = Failure)))]
pub(crate) async fn copy_out(
    State(context): State<Context>,
    Path(task): Path<String>,
    Query(query): Query<ArchiveQuery>,
) -> Result<Response, Refusal> {
    let client = supervisor(&context, &task)?;
    let mut session = client.copy_out(query.path).await.map_err(|error| refused(&task, &error))?;
    // The first piece decides whether there is an archive at all.
    let first = session.reader.next().await.map_err(|error| refused(&task, &error))?;
    if let Piece::End(Outcome::Failed { message, .. }) = first {
        return Err(Failure::new(Code::NotFound, message).into());
    }
    let body = Bytes::from_stream(archive(first, session));
    Ok(([(header::CONTENT_TYPE, "application/x-tar")], body).into_response())
}

fn archive(first: Piece, session: Session) -> impl Stream<Item = std::io::Result<bytes::Bytes>> {
    futures_util::stream::unfold((Some(first), session), |(first, mut session)| async move {
        let piece = match first {
            Some(piece) => Ok(piece),
            None => session.reader.next().await,
        };
        let item = match piece {
            Ok(Piece::Out(bytes) | Piece::Err(bytes)) => Ok(bytes.into()),
            Ok(Piece::End(Outcome::Failed { message, .. })) => Err(std::io::Error::other(message)),
            Ok(Piece::End(Outcome::Done | Outcome::Exited(_) | Outcome::Cancelled)) => return None,
            Err(error) => Err(std::io::Error::other(chain(&error))),
        };
        Some((item, (None, session)))
    })
}

/// Unpacks a tar archive in the task.
#[utoipa::path(put, path = "/v1/tasks/{task}/archive", params(("task" = String, Path, description = "job.group.index.task"), ArchiveQuery),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 200, description = "an empty object"), (status = 409, body = Failure)))]
pub(crate) async fn copy_in(
    State(context): State<Context>,
    Path(task): Path<String>,
    Query(query): Query<ArchiveQuery>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let client = supervisor(&context, &task)?;
    let session = client.copy_in(query.path).await.map_err(|error| refused(&task, &error))?;
    let Session { mut reader, mut writer } = session;
    let send = async {
        let mut parts = body.into_data_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|error| {
                Failure::new(Code::Invalid, format!("the archive ended early: {}", chain(&error)))
            })?;
            if writer.send(&part).await.is_err() {
                // The guest has ended the copy; its outcome says why.
                break;
            }
        }
        if let Err(error) = writer.end_input().await {
            tracing::debug!(error = %chain(&error), "the end of an archive was not taken");
        }
        Ok::<(), Failure>(())
    };
    let receive = async {
        loop {
            match reader.next().await.map_err(|error| failure(&error))? {
                Piece::Out(_) | Piece::Err(_) => {}
                Piece::End(Outcome::Failed { message, .. }) => {
                    return Err(Failure::new(Code::Invalid, message));
                }
                Piece::End(Outcome::Done | Outcome::Exited(_)) => return Ok(()),
                Piece::End(Outcome::Cancelled) => {
                    return Err(Failure::new(Code::NotRunning, "the copy was cancelled"));
                }
            }
        }
    };
    tokio::try_join!(send, receive)?;
    Ok(json_lines(futures_util::stream::iter([serde_json::json!({})])))
}

/// Figures of the task's guest. What a guest says may be a lie.
#[utoipa::path(get, path = "/v1/tasks/{task}/stats", params(("task" = String, Path, description = "job.group.index.task")),
    responses((status = 200, description = "figures in the units of their names"), (status = 409, body = Failure)))]
pub(crate) async fn stats(
    State(context): State<Context>,
    Path(task): Path<String>,
) -> Result<Json<lith_guest::messages::Stats>, Refusal> {
    let client = supervisor(&context, &task)?;
    Ok(Json(client.stats().await.map_err(|error| refused(&task, &error))?))
}

fn parse(task: &str) -> Result<TaskId, Failure> {
    task.parse().map_err(|_| unknown(task))
}

fn supervisor(context: &Context, task: &str) -> Result<Client, Failure> {
    context.agent.supervisor(&parse(task)?).ok_or_else(|| unknown(task))
}

fn unknown(task: &str) -> Failure {
    Failure::new(Code::NotFound, format!("there is no task \"{task}\"")).hint("see `lith ps`")
}

fn refused(task: &str, error: &ClientError) -> Refusal {
    match error {
        ClientError::Connect { .. } => {
            let failure = Failure::new(Code::NotRunning, format!("task \"{task}\" is not running"));
            Refusal(failure.hint("see `lith ps`, and `lith logs` for why"))
        }
        ClientError::Lost { .. }
        | ClientError::Silent { .. }
        | ClientError::Refused { .. }
        | ClientError::Wire { .. }
        | ClientError::Message { .. }
        | ClientError::Unexpected { .. } => Refusal(failure(error)),
    }
}

fn failure(error: &ClientError) -> Failure {
    let failure = Failure::new(Code::NotRunning, chain(error));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
