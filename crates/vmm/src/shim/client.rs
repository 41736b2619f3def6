//! The agent's side of a supervisor's socket, for tokio. Owns the framing of requests and answers. It must not decide
//! anything about the task; a connection per request, so nothing here is shared or locked.

use super::life::TaskState;
use super::protocol::{Answer, CHANNEL, ShimRequest};
use lith_guest::messages::{BadMessage, Exec, ExecControl, Outcome, Request, Stats, TtySize, from_json};
use lith_guest::signal::Signal;
use lith_guest::wire::{Body, DATA_BYTES_MAX, Decoder, Frame, Role, Stream, WireError, to_json};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// One read from the socket.
const READ_BYTES: usize = 64 << 10;
/// A supervisor answers within milliseconds; a guest asked for figures may be starved on a busy machine.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// Speaks with the supervisor of one task.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why a supervisor did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached: it has ended, or was killed.
    #[error("cannot reach the supervisor at {}", socket.display())]
    Connect {
        /// Its socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("lost the supervisor at {}", socket.display())]
    Lost {
        /// Its socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("the supervisor at {} does not answer", socket.display())]
    Silent {
        /// Its socket.
        socket: PathBuf,
    },
    /// It cannot do that now; the sentence is for people.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
    },
    /// A frame breaks the protocol.
    #[error("cannot speak with the supervisor at {}", socket.display())]
    Wire {
        /// Its socket.
        socket: PathBuf,
        /// Which rule.
        #[source]
        source: WireError,
    },
    /// A message is none that this version knows.
    #[error("cannot understand the supervisor at {}", socket.display())]
    Message {
        /// Its socket.
        socket: PathBuf,
        /// Why not.
        #[source]
        source: BadMessage,
    },
    /// An answer to another question.
    #[error("the supervisor at {} gave an unexpected answer", socket.display())]
    Unexpected {
        /// Its socket.
        socket: PathBuf,
    },
}

impl ClientError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            ClientError::Connect { .. } | ClientError::Lost { .. } => {
                Some("see whether the task still runs: lith ps".to_owned())
            }
            ClientError::Silent { .. } => Some("the machine may be overloaded; try again".to_owned()),
            ClientError::Refused { .. }
            | ClientError::Wire { .. }
            | ClientError::Message { .. }
            | ClientError::Unexpected { .. } => None,
        }
    }
}

impl Client {
    /// A client for the supervisor that listens on `socket`. Nothing is connected yet.
    pub fn new(socket: PathBuf) -> Client {
        Client { socket }
    }

    /// The state now and each change, until the machine is gone.
    ///
    /// # Errors
    /// The supervisor cannot be reached.
    pub async fn watch(&self) -> Result<Watch, ClientError> {
        let (reader, writer) = self.open(&ShimRequest::Watch).await?;
        Ok(Watch { reader, _writer: writer })
    }

    /// Asks the process to stop: the signal (none: the one declared), the grace, then SIGKILL and power off. Returns
    /// when the supervisor has accepted; [`Client::watch`] tells of the end.
    ///
    /// # Errors
    /// The supervisor cannot be reached.
    pub async fn stop(&self, signal: Option<Signal>, grace: Duration) -> Result<(), ClientError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.ask(&ShimRequest::Stop { signal, grace_ms }).await.and_then(|answer| self.done(answer))
    }

    /// Ends the machine at once; its disks are as after a power cut.
    ///
    /// # Errors
    /// The supervisor cannot be reached.
    pub async fn kill(&self) -> Result<(), ClientError> {
        self.ask(&ShimRequest::Kill).await.and_then(|answer| self.done(answer))
    }

    /// Sends the main process a signal.
    ///
    /// # Errors
    /// The supervisor cannot be reached, or the process does not run.
    pub async fn signal(&self, signal: Signal) -> Result<(), ClientError> {
        self.ask(&ShimRequest::Signal { signal }).await.and_then(|answer| self.done(answer))
    }

    /// The guest's figures.
    ///
    /// # Errors
    /// The supervisor cannot be reached, the process does not run, or the guest does not answer.
    pub async fn stats(&self) -> Result<Stats, ClientError> {
        match self.ask(&ShimRequest::Stats).await? {
            Answer::Stats(stats) => Ok(stats),
            answer @ (Answer::Done | Answer::Outcome(_) | Answer::Refused { .. }) => Err(self.wrong(answer)),
        }
    }

    /// Runs a command beside the main process.
    ///
    /// # Errors
    /// The supervisor cannot be reached. A command that cannot run is an outcome.
    pub async fn exec(&self, exec: Exec) -> Result<Session, ClientError> {
        self.session(Request::Exec(exec)).await
    }

    /// Reads `path` as a tar archive, which comes as [`Piece::Out`].
    ///
    /// # Errors
    /// As [`Client::exec`].
    pub async fn copy_out(&self, path: String) -> Result<Session, ClientError> {
        self.session(Request::CopyOut { path }).await
    }

    /// Unpacks a tar archive, sent by [`SessionWriter::send`], at `path`.
    ///
    /// # Errors
    /// As [`Client::exec`].
    pub async fn copy_in(&self, path: String) -> Result<Session, ClientError> {
        self.session(Request::CopyIn { path }).await
    }

    async fn session(&self, request: Request) -> Result<Session, ClientError> {
        let (reader, stream) = self.open(&ShimRequest::Guest(request)).await?;
        Ok(Session {
            reader: SessionReader { reader },
            writer: SessionWriter { stream, socket: self.socket.clone() },
        })
    }

    async fn open(&self, request: &ShimRequest) -> Result<(FrameReader, OwnedWriteHalf), ClientError> {
        let socket = self.socket.clone();
        let stream = UnixStream::connect(&socket)
            .await
            .map_err(|source| ClientError::Connect { socket: socket.clone(), source })?;
        let (read, mut write) = stream.into_split();
        let json = to_json(Role::Host, request)
            .map_err(|source| ClientError::Wire { socket: socket.clone(), source })?;
        send(&mut write, &self.socket, Body::Open(json)).await?;
        Ok((
            FrameReader {
                socket,
                stream: read,
                decoder: Decoder::new(Role::Host),
                buffer: Vec::new(),
                used: 0,
            },
            write,
        ))
    }

    async fn ask(&self, request: &ShimRequest) -> Result<Answer, ClientError> {
        let exchange = async {
            let (mut reader, _writer) = self.open(request).await?;
            match reader.next().await? {
                Some(Body::Close(json)) => reader.parse(&json),
                Some(_) | None => Err(ClientError::Unexpected { socket: self.socket.clone() }),
            }
        };
        let late = |_| ClientError::Silent { socket: self.socket.clone() };
        tokio::time::timeout(ANSWER_DEADLINE, exchange).await.map_err(late)?
    }

    fn done(&self, answer: Answer) -> Result<(), ClientError> {
        match answer {
            Answer::Done => Ok(()),
            answer @ (Answer::Stats(_) | Answer::Outcome(_) | Answer::Refused { .. }) => {
                Err(self.wrong(answer))
            }
        }
    }

    fn wrong(&self, answer: Answer) -> ClientError {
        match answer {
            Answer::Refused { message } => ClientError::Refused { message },
            Answer::Done | Answer::Stats(_) | Answer::Outcome(_) => {
                ClientError::Unexpected { socket: self.socket.clone() }
            }
        }
    }
}

/// The states of a task, as they come.
#[derive(Debug)]
pub struct Watch {
    reader: FrameReader,
    /// Kept open: the supervisor takes the end of this direction for our leaving.
    _writer: OwnedWriteHalf,
}

impl Watch {
    /// The next state; none after [`TaskState::Exited`]. Safe to cancel.
    ///
    /// # Errors
    /// [`ClientError::Lost`] when the supervisor is gone without a word: it was killed, and the machine with it.
    pub async fn next(&mut self) -> Result<Option<TaskState>, ClientError> {
        match self.reader.next().await? {
            Some(Body::Control(json)) => self.reader.parse(&json).map(Some),
            Some(Body::Close(_)) => Ok(None),
            Some(_) => Err(ClientError::Unexpected { socket: self.reader.socket.clone() }),
            None => Err(self.reader.lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// A command or a copy under way. Dropping both halves cancels it.
#[derive(Debug)]
pub struct Session {
    /// What comes from the guest.
    pub reader: SessionReader,
    /// What goes to it.
    pub writer: SessionWriter,
}

/// What comes out of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Standard output, the terminal, or an archive.
    Out(Vec<u8>),
    /// Standard error.
    Err(Vec<u8>),
    /// The end, the last piece.
    End(Outcome),
}

/// The receiving half of a session.
#[derive(Debug)]
pub struct SessionReader {
    reader: FrameReader,
}

impl SessionReader {
    /// The next piece. Not reading holds the command up, not memory. Safe to cancel.
    ///
    /// # Errors
    /// The request was refused, or the supervisor is lost.
    pub async fn next(&mut self) -> Result<Piece, ClientError> {
        loop {
            match self.reader.next().await? {
                Some(Body::Data { stream: Stream::Err, bytes }) => return Ok(Piece::Err(bytes)),
                Some(Body::Data { bytes, .. }) => return Ok(Piece::Out(bytes)),
                Some(Body::Eof(_)) => {}
                Some(Body::Close(json)) => {
                    return match self.reader.parse(&json)? {
                        Answer::Outcome(outcome) => Ok(Piece::End(outcome)),
                        Answer::Refused { message } => Err(ClientError::Refused { message }),
                        Answer::Done | Answer::Stats(_) => {
                            Err(ClientError::Unexpected { socket: self.reader.socket.clone() })
                        }
                    };
                }
                Some(Body::Open(_) | Body::Control(_) | Body::Credit(_)) => {
                    return Err(ClientError::Unexpected { socket: self.reader.socket.clone() });
                }
                None => return Err(self.reader.lost(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }
}

/// The sending half of a session.
#[derive(Debug)]
pub struct SessionWriter {
    stream: OwnedWriteHalf,
    socket: PathBuf,
}

impl SessionWriter {
    /// Sends standard input or a piece of an archive, of any length. Waits while the guest has no room.
    ///
    /// # Errors
    /// The supervisor is lost, or the session has ended.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        for part in bytes.chunks(DATA_BYTES_MAX) {
            send(&mut self.stream, &self.socket, Body::Data { stream: Stream::In, bytes: part.to_vec() })
                .await?;
        }
        Ok(())
    }

    /// Ends standard input or the archive.
    ///
    /// # Errors
    /// As [`SessionWriter::send`].
    pub async fn end_input(&mut self) -> Result<(), ClientError> {
        send(&mut self.stream, &self.socket, Body::Eof(Stream::In)).await
    }

    /// Tells the command's terminal its new size.
    ///
    /// # Errors
    /// As [`SessionWriter::send`].
    pub async fn resize(&mut self, size: TtySize) -> Result<(), ClientError> {
        self.control(&ExecControl::Resize(size)).await
    }

    async fn control(&mut self, control: &ExecControl) -> Result<(), ClientError> {
        let wire = |source| ClientError::Wire { socket: self.socket.clone(), source };
        let json = to_json(Role::Host, control).map_err(wire)?;
        send(&mut self.stream, &self.socket, Body::Control(json)).await
    }
}

async fn send(stream: &mut OwnedWriteHalf, socket: &Path, body: Body) -> Result<(), ClientError> {
    let frame = Frame { channel: CHANNEL, body }.encode();
    stream.write_all(&frame).await.map_err(|source| ClientError::Lost { socket: socket.to_owned(), source })
}

#[derive(Debug)]
struct FrameReader {
    socket: PathBuf,
    stream: OwnedReadHalf,
    decoder: Decoder,
    buffer: Vec<u8>,
    used: usize,
}

impl FrameReader {
    /// The next frame; none at the end of the stream. Safe to cancel: what was read stays here.
    async fn next(&mut self) -> Result<Option<Body>, ClientError> {
        loop {
            let mut input = &self.buffer[self.used..];
            let frame = self.decoder.next_frame(&mut input);
            self.used = self.buffer.len() - input.len();
            let wire = |source| ClientError::Wire { socket: self.socket.clone(), source };
            if let Some(frame) = frame.map_err(wire)? {
                return Ok(Some(frame.body));
            }
            self.buffer.clear();
            self.used = 0;
            self.buffer.reserve(READ_BYTES);
            let count = self.stream.read_buf(&mut self.buffer).await.map_err(|error| self.lost(error))?;
            if count == 0 {
                return Ok(None);
            }
        }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, json: &[u8]) -> Result<T, ClientError> {
        from_json(json).map_err(|source| ClientError::Message { socket: self.socket.clone(), source })
    }

    fn lost(&self, source: io::Error) -> ClientError {
        ClientError::Lost { socket: self.socket.clone(), source }
    }
}
