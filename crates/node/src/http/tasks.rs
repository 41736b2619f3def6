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
use hyper_util::server::conn::auto::upgrade::downcast;
use lith_api::error::{Code, Failure};
use lith_api::log::{LogLine, LogQuery, LogRecord, LogStream};
use lith_api::stream::{ExecExit, ExecRequest, Frame, Size, UPGRADE};
use lith_api::task::{TaskStats, TaskStatus};
use lith_core::name::TaskId;
use lith_guest::messages::{Exec, Outcome, Tty, TtySize};
use lith_guest::process::Environment;
use lith_vmm::log as task_log;
use lith_vmm::shim::{Client, ClientError, Piece, Session, SessionReader, SessionWriter};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::Semaphore;
use utoipa::IntoParams;

use super::failure::{Body, Query, Refusal};
use super::{Context, json_lines};
use lith_core::chain::chain;

/// How often a log that is followed is looked at: what a person reading takes for at once.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);
/// Lines read at once: with the longest of them it bounds what a slow client makes us hold.
const LINES_PER_BATCH: usize = 256;
/// Logs followed at a time: each is looked at many times a second.
const FOLLOWERS_MAX: usize = 256;
/// Places for those who follow.
static FOLLOWERS: Semaphore = Semaphore::const_new(FOLLOWERS_MAX);
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

/// A task's log as lines of JSON. One that is followed goes on until the task is removed.
#[utoipa::path(get, path = "/v1/tasks/{task}/logs", params(("task" = String, Path, description = "job.group.index.task"), LogQuery),
    responses((status = 200, body = LogRecord, content_type = "application/x-ndjson"), (status = 404, body = Failure)))]
pub(crate) async fn logs(
    State(context): State<Context>,
    Path(task): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Refusal> {
    let id = parse(&task)?;
    let folder = context.agent.log(&id).ok_or_else(|| unknown(&task))?;
    let place =
        if query.follow { Some(FOLLOWERS.try_acquire().map_err(|_| too_many_followers())?) } else { None };
    let since = query.since_ms.and_then(|ms| jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok());
    let tail = query.tail.map(|tail| usize::try_from(tail).unwrap_or(usize::MAX));
    let open = move || task_log::Reader::open(&folder, task_log::Query { since, tail });
    let reader = tokio::task::spawn_blocking(open).await.map_err(|error| thread_ended(&error))?;
    let reader = reader.map_err(|error| unreadable(&id, &error))?;
    // A client that leaves drops the stream, and with it its place.
    let is_over = move |id: &TaskId| place.is_none() || context.agent.log(id).is_none();
    Ok(json_lines(records(id, reader, is_over)))
}

/// A log's lines until it is over and read to its end. Between looks it holds no thread.
fn records(
    id: TaskId,
    reader: task_log::Reader,
    is_over: impl Fn(&TaskId) -> bool,
) -> impl Stream<Item = LogRecord> {
    futures_util::stream::unfold(Some((id, reader, is_over)), |log| async move {
        let (id, mut reader, is_over) = log?;
        loop {
            // Asked before reading: what was written until then is still given.
            let was_over = is_over(&id);
            let read = tokio::task::spawn_blocking(move || {
                let batch = next_batch(&mut reader);
                (reader, batch)
            });
            let batch = match read.await {
                Ok((same, batch)) => {
                    reader = same;
                    batch.map_err(|error| unreadable(&id, &error))
                }
                Err(error) => return Some((vec![LogRecord::Failed(thread_ended(&error))], None)),
            };
            match batch {
                Ok(lines) if lines.is_empty() && was_over => return None,
                Ok(lines) if lines.is_empty() => tokio::time::sleep(FOLLOW_INTERVAL).await,
                Ok(lines) => {
                    let records = lines.into_iter().map(LogRecord::Line).collect();
                    return Some((records, Some((id, reader, is_over))));
                }
                Err(failure) => return Some((vec![LogRecord::Failed(failure)], None)),
            }
        }
    })
    .flat_map(futures_util::stream::iter)
}

fn next_batch(reader: &mut task_log::Reader) -> Result<Vec<LogLine>, task_log::LogError> {
    let mut lines = Vec::new();
    while lines.len() < LINES_PER_BATCH
        && let Some(entry) = reader.next_entry()?
    {
        lines.push(LogLine {
            time: entry.time.to_string(),
            stream: match entry.stream {
                task_log::LogStream::Stdout => LogStream::Stdout,
                task_log::LogStream::Stderr => LogStream::Stderr,
            },
            text: String::from_utf8_lossy(&entry.text).into_owned(),
            is_partial: entry.is_partial,
        });
    }
    Ok(lines)
}

fn too_many_followers() -> Failure {
    let message = format!("{FOLLOWERS_MAX} logs are being followed already");
    Failure::new(Code::Conflict, message).hint("end one of the other `lith logs -f`")
}

fn unreadable(id: &TaskId, error: &task_log::LogError) -> Failure {
    tracing::warn!(task = %id, error = %chain(error), "a log cannot be read");
    Failure::new(Code::Machine, chain(error)).hint("see whether the disk of lith's data is healthy")
}

fn thread_ended(error: &tokio::task::JoinError) -> Failure {
    Failure::new(Code::Internal, format!("the thread that reads the log ended: {error}"))
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
            Ok(connection) => match downcast::<TokioIo<UnixStream>>(connection) {
                Ok(parts) => carry(session, parts.io.into_inner(), parts.read_buf).await,
                Err(_) => tracing::error!("an exec connection is no Unix socket, the only kind there is"),
            },
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

/// Carries a session over a connection until either ends. `early` is what the client sent with its request.
async fn carry(session: Session, connection: UnixStream, early: bytes::Bytes) {
    let (read, mut write) = connection.into_split();
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
        forward_input(read, early, writer).await;
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

/// Forwards input until the client leaves, which is noticed also while the command takes no input.
async fn forward_input(mut read: OwnedReadHalf, early: bytes::Bytes, mut writer: SessionWriter) {
    let mut buffer = BytesMut::from(early);
    loop {
        loop {
            let Ok(frame) = Frame::decode(&mut buffer) else { return };
            let Some(frame) = frame else { break };
            let forward = async {
                match frame {
                    Frame::Input(bytes) => Some(writer.send(&bytes).await),
                    Frame::InputEnd => Some(writer.end_input().await),
                    Frame::Resize(size) => Some(writer.resize(tty_size(size)).await),
                    Frame::Output(_) | Frame::Error(_) | Frame::Exit(_) | Frame::Failure(_) => None,
                }
            };
            // The connection is not read meanwhile; that its other end is closed, the system says all the same.
            let result = tokio::select! {
                result = forward => result,
                _ = read.ready(Interest::PRIORITY) => return,
            };
            match result {
                Some(Ok(())) => {}
                // The command has ended; its last output and its exit are still on their way.
                Some(Err(_)) => drop(read.ready(Interest::PRIORITY).await),
                None => return,
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

/// A file or folder of the task as a tar archive, in frames: it is whole only when the last one says so.
#[utoipa::path(get, path = "/v1/tasks/{task}/archive", params(("task" = String, Path, description = "job.group.index.task"), ArchiveQuery),
    responses((status = 200, content_type = "application/x-lith-stream", body = Vec<u8>,
        description = "frames of lith-stream/1: Output, then Exit with code 0, or Failure"), (status = 409, body = Failure)))]
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
    Ok(([(header::CONTENT_TYPE, lith_api::stream::CONTENT_TYPE)], body).into_response())
}

fn archive(first: Piece, session: Session) -> impl Stream<Item = std::io::Result<bytes::Bytes>> {
    let state = Some((Some(Ok(first)), session));
    futures_util::stream::unfold(state, |state| async move {
        let (first, mut session) = state?;
        let piece = match first {
            Some(piece) => piece,
            None => session.reader.next().await,
        };
        let (frame, is_last) = archive_frame(piece);
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        Some((Ok(bytes.freeze()), (!is_last).then_some((None, session))))
    })
}

/// The frame for a piece of an archive, and whether it is the last.
fn archive_frame(piece: Result<Piece, ClientError>) -> (Frame, bool) {
    match piece {
        Ok(Piece::Out(bytes) | Piece::Err(bytes)) => (Frame::Output(bytes.into()), false),
        Ok(Piece::End(Outcome::Done)) => (Frame::Exit(ExecExit { code: 0 }), true),
        Ok(Piece::End(Outcome::Failed { message, .. })) => {
            (Frame::Failure(Failure::new(Code::NotRunning, message)), true)
        }
        Ok(Piece::End(Outcome::Exited(_) | Outcome::Cancelled)) => {
            (Frame::Failure(Failure::new(Code::NotRunning, "the copy was cancelled")), true)
        }
        Err(error) => (Frame::Failure(failure(&error)), true),
    }
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
    responses((status = 200, body = TaskStats), (status = 409, body = Failure)))]
pub(crate) async fn stats(
    State(context): State<Context>,
    Path(task): Path<String>,
) -> Result<Json<TaskStats>, Refusal> {
    let client = supervisor(&context, &task)?;
    let stats = client.stats().await.map_err(|error| refused(&task, &error))?;
    Ok(Json(TaskStats {
        memory_total_bytes: stats.memory_total_bytes,
        memory_available_bytes: stats.memory_available_bytes,
        memory_cache_bytes: stats.memory_cache_bytes,
        memory_task_bytes: stats.memory_task_bytes,
        cpu_us: stats.cpu_us,
        cpu_task_us: stats.cpu_task_us,
        disk_total_bytes: stats.disk_total_bytes,
        disk_used_bytes: stats.disk_used_bytes,
        load_hundredths: stats.load_hundredths,
        processes: stats.processes,
        uptime_ms: stats.uptime_ms,
    }))
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

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn log() -> (tempfile::TempDir, task_log::Writer) {
        let folder = tempfile::tempdir().unwrap();
        let writer = task_log::Writer::open(folder.path(), task_log::Rotation::default()).unwrap();
        (folder, writer)
    }

    fn text(record: Option<LogRecord>) -> String {
        match record {
            Some(LogRecord::Line(line)) => line.text,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_followed_log_ends_with_its_task_and_loses_no_line() {
        let (folder, mut writer) = log();
        let now = jiff::Timestamp::UNIX_EPOCH;
        writer.write(task_log::LogStream::Stdout, b"one\n", now);
        let (sender, receiver) = tokio::sync::watch::channel(false);
        let reader = task_log::Reader::open(folder.path(), task_log::Query::default()).unwrap();
        let is_over = move |_: &TaskId| *receiver.borrow();
        let mut records = Box::pin(records("hello.main.0.web".parse().unwrap(), reader, is_over));
        assert_eq!(text(records.next().await), "one");
        writer.write(task_log::LogStream::Stdout, b"two\n", now);
        assert_eq!(text(records.next().await), "two");
        writer.write(task_log::LogStream::Stdout, b"three\n", now);
        sender.send(true).unwrap();
        assert_eq!(text(records.next().await), "three");
        assert!(tokio::time::timeout(PATIENCE, records.next()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_noticed_while_the_command_takes_no_input() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("shim.sock");
        // A supervisor whose guest has no room: it reads nothing.
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let exec =
            Exec { argv: vec![], env: Environment::default(), user: None, working_dir: None, tty: None };
        let session = Client::new(socket).exec(exec).await.unwrap();
        let (_supervisor, _) = listener.accept().await.unwrap();
        let (mut client, server) = UnixStream::pair().unwrap();
        let carried = tokio::spawn(carry(session, server, bytes::Bytes::new()));
        let mut input = BytesMut::new();
        Frame::Input(vec![7; 8 << 20].into()).encode(&mut input);
        // Until nothing more is taken anywhere on the way.
        let fill = async { while client.write_buf(&mut input).await.unwrap() > 0 {} };
        assert!(tokio::time::timeout(Duration::from_millis(300), fill).await.is_err(), "all was taken");
        assert!(!carried.is_finished());
        drop(client);
        tokio::time::timeout(PATIENCE, carried).await.expect("the session ends").unwrap();
    }

    #[test]
    fn an_archive_ends_with_a_word() {
        let check = |piece, expect: Frame| assert_eq!(archive_frame(piece), (expect, true));
        check(Ok(Piece::End(Outcome::Done)), Frame::Exit(ExecExit { code: 0 }));
        let failed = Outcome::Failed { code: 1, message: "cannot copy \"/x\": it became shorter".to_owned() };
        let failure = Failure::new(Code::NotRunning, "cannot copy \"/x\": it became shorter");
        check(Ok(Piece::End(failed)), Frame::Failure(failure));
        let (frame, is_last) = archive_frame(Ok(Piece::Out(vec![1])));
        assert_eq!((frame, is_last), (Frame::Output(vec![1].into()), false));
    }
}
