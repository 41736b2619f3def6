//! The agent's questions to the resolver: one connection to its Unix socket for each, one line of JSON both ways. Owns
//! their sizes and how long they may take.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::form::{Answer, Hello, Policy, Refused, Request, State, VERSION, WrittenOpening};
use crate::frame::POLICY_BYTES_MAX;

/// The other end answers at once, but for a change of the packet filter that is under way.
const DEADLINE: Duration = Duration::from_secs(10);
/// Who asks has its question ready.
const QUESTION_DEADLINE: Duration = Duration::from_secs(2);

/// Who answers there.
///
/// # Errors
/// Nobody, or one that cannot be understood.
pub fn hello(socket: &Path) -> io::Result<Hello> {
    match ask(socket, &Request::Hello)? {
        Answer::Hello(hello) if hello.version == VERSION => Ok(hello),
        other => Err(unexpected(&other)),
    }
}

/// Lets guests learn this from now on.
///
/// # Errors
/// It does not come to that; the sentence says why.
pub fn set_policy(socket: &Path, policy: &Policy) -> io::Result<()> {
    done(ask(socket, &Request::Policy(policy.clone()))?)
}

/// What is open because names have led there.
///
/// # Errors
/// Nobody answers.
pub fn openings(socket: &Path) -> io::Result<Vec<WrittenOpening>> {
    match ask(socket, &Request::Openings)? {
        Answer::Openings(openings) => Ok(openings),
        other => Err(unexpected(&other)),
    }
}

/// The names that were refused since this was asked last.
///
/// # Errors
/// Nobody answers.
pub fn refused(socket: &Path) -> io::Result<Vec<Refused>> {
    match ask(socket, &Request::Refused)? {
        Answer::Refused(refused) => Ok(refused),
        other => Err(unexpected(&other)),
    }
}

/// Ends it.
///
/// # Errors
/// Nobody answers.
pub fn end(socket: &Path) -> io::Result<()> {
    done(ask(socket, &Request::End)?)
}

/// All that a successor would have to know.
///
/// # Errors
/// Nobody answers.
pub fn state(socket: &Path) -> io::Result<State> {
    match ask(socket, &Request::State)? {
        Answer::State(state) => Ok(state),
        other => Err(unexpected(&other)),
    }
}

/// Has it end, and what its successor has to know.
pub(crate) fn take_over(socket: &Path) -> io::Result<State> {
    match ask(socket, &Request::Yield)? {
        Answer::State(state) => Ok(state),
        other => Err(unexpected(&other)),
    }
}

/// A connection on which a line comes when something was refused, and that ends with the resolver.
///
/// # Errors
/// Nobody answers.
pub fn watch(socket: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    write_line(&mut stream, &Request::Watch)?;
    Ok(stream)
}

fn done(answer: Answer) -> io::Result<()> {
    match answer {
        Answer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &Answer) -> io::Error {
    match answer {
        Answer::Failed(why) => io::Error::other(why.clone()),
        Answer::Hello(_) | Answer::Done | Answer::Openings(_) | Answer::Refused(_) | Answer::State(_) => {
            io::ErrorKind::InvalidData.into()
        }
    }
}

fn ask(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    write_line(&mut stream, request)?;
    read_line(&mut stream)
}

/// The question of one who has connected.
pub(crate) fn read_request(stream: &mut UnixStream) -> io::Result<Request> {
    stream.set_read_timeout(Some(QUESTION_DEADLINE))?;
    stream.set_write_timeout(Some(QUESTION_DEADLINE))?;
    read_line(stream)
}

/// The answer to it.
pub(crate) fn write_answer(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    write_line(stream, answer)
}

fn write_line(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn read_line<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut line = Vec::new();
    let bytes_max = u64::try_from(POLICY_BYTES_MAX).unwrap_or(u64::MAX);
    BufReader::new(stream.take(bytes_max)).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}
