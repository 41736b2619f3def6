//! The other end of the control socket.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{Answer, Failure, Request, SnapshotMade, Status};

/// How long an answer may take: a checkpoint of many gigabytes on a slow disk.
const ANSWER_DEADLINE: Duration = Duration::from_secs(600);
/// Longest answer: some hundred volumes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// Asks the process that serves volumes. Each question is a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the process that serves the volumes does not run")]
    Gone(#[source] io::Error),
    /// It does not answer, or not in our words.
    #[error("the process that serves the volumes does not answer")]
    Lost(#[source] io::Error),
    /// It did not do what was asked.
    #[error("{}", .0.message)]
    Refused(Failure),
}

impl ClientError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            ClientError::Refused(failure) => failure.hint.clone(),
            ClientError::Gone(_) | ClientError::Lost(_) => None,
        }
    }
}

impl Client {
    /// Asks whoever listens on `socket`. Nothing is connected yet.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// How all volumes are.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn status(&self) -> Result<Status, ClientError> {
        match self.ask(&Request::Status)? {
            Answer::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// A snapshot of some.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn snapshot(&self, volumes: &[String], name: &str) -> Result<Vec<SnapshotMade>, ClientError> {
        match self.ask(&Request::Snapshot { volumes: volumes.to_vec(), name: name.to_owned() })? {
            Answer::Snapshots(made) => Ok(made),
            other => Err(unexpected(&other)),
        }
    }

    /// What is answered by no more than that it is done.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn command(&self, request: &Request) -> Result<(), ClientError> {
        match self.ask(request)? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn ask(&self, request: &Request) -> Result<Answer, ClientError> {
        let mut stream = UnixStream::connect(&self.socket).map_err(ClientError::Gone)?;
        let mut line = serde_json::to_vec(request).expect("requests always encode");
        line.push(b'\n');
        let asked = stream.set_read_timeout(Some(ANSWER_DEADLINE)).and_then(|()| stream.write_all(&line));
        asked.map_err(ClientError::Lost)?;
        let mut answer = String::new();
        let mut reader = BufReader::new(io::Read::take(stream, ANSWER_BYTES_MAX));
        reader.read_line(&mut answer).map_err(ClientError::Lost)?;
        match serde_json::from_str(&answer) {
            Ok(Answer::Failed(failure)) => Err(ClientError::Refused(failure)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(ClientError::Lost(error.into())),
        }
    }
}

fn unexpected(answer: &Answer) -> ClientError {
    ClientError::Lost(io::Error::other(format!("unexpected answer: {answer:?}")))
}
