//! Asks the node's own resolvers. Owns whom, how long, and how many at once. What comes back is hostile: only what answers
//! the very question, from the very address, is looked at.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::RData;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cache::Found;
use crate::message::{self, Code, UDP_BYTES_MAX, Want};

/// How long one resolver is waited for before the next one is asked: a resolver that has to ask others itself takes some
/// hundred milliseconds.
const ATTEMPT: Duration = Duration::from_millis(1_300);
/// All attempts together: a guest's C library gives up after five seconds and asks again.
const DEADLINE: Duration = Duration::from_millis(4_500);
/// Each resolver is asked so often.
const ROUNDS: usize = 2;
/// Long answers at a time: each may take sixty-four kilobytes, and several times that when it is unpacked.
const LONG_ANSWERS_MAX: usize = 16;

/// Nobody has answered in a way that helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no resolver of the node answers")]
pub(crate) struct Unanswered;

/// The node's own resolvers.
#[derive(Debug)]
pub(crate) struct Upstream {
    servers: Mutex<Arc<[SocketAddr]>>,
    /// Position of the one that answered last.
    preferred: AtomicUsize,
    long_answers: Semaphore,
}

impl Upstream {
    /// None, until they are told.
    pub(crate) fn new() -> Self {
        Self {
            servers: Mutex::new(Arc::new([])),
            preferred: AtomicUsize::new(0),
            long_answers: Semaphore::new(LONG_ANSWERS_MAX),
        }
    }

    /// Asks these from now on.
    pub(crate) fn set(&self, servers: Vec<SocketAddr>) {
        *self.servers.lock().unwrap_or_else(PoisonError::into_inner) = servers.into();
        self.preferred.store(0, Ordering::Relaxed);
    }

    /// What they say.
    ///
    /// # Errors
    /// None of them answers, or there is none.
    pub(crate) async fn ask(&self, query: &Query, want: Want) -> Result<Found, Unanswered> {
        let asked = timeout(DEADLINE, self.ask_in_turn(query, want)).await;
        asked.unwrap_or(Err(Unanswered))
    }

    async fn ask_in_turn(&self, query: &Query, want: Want) -> Result<Found, Unanswered> {
        let servers = Arc::clone(&self.servers.lock().unwrap_or_else(PoisonError::into_inner));
        let first = self.preferred.load(Ordering::Relaxed);
        for turn in 0..servers.len().saturating_mul(ROUNDS) {
            let position = (first + turn) % servers.len();
            let answer = timeout(ATTEMPT, self.ask_one(servers[position], query, want)).await;
            if let Ok(Ok(Some(found))) = answer {
                self.preferred.store(position, Ordering::Relaxed);
                return Ok(found);
            }
        }
        Err(Unanswered)
    }

    /// What one says; `None` when another may know better.
    async fn ask_one(&self, server: SocketAddr, query: &Query, want: Want) -> io::Result<Option<Found>> {
        let mut question = message::ask(query, want);
        let mut answer = over_udp(server, &question).await?;
        if question_is_too_new(&answer.0) {
            // Some old ones know nothing of extensions.
            question.edns = None;
            answer = over_udp(server, &question).await?;
        }
        if answer.0.metadata.truncation {
            let permit = self.long_answers.acquire().await.map_err(io::Error::other)?;
            answer = over_tcp(server, &question).await?;
            drop(permit);
        }
        Ok(found(answer))
    }
}

fn question_is_too_new(answer: &Message) -> bool {
    matches!(answer.metadata.response_code, ResponseCode::FormErr | ResponseCode::NotImp)
}

/// An answer that comes from nobody else, since the socket is connected, and at a port and with a number that the kernel's
/// and the library's randomness chose.
async fn over_udp(server: SocketAddr, question: &Message) -> io::Result<(Message, usize)> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&question.to_vec().map_err(io::Error::other)?).await?;
    let mut bytes = vec![0; usize::from(UDP_BYTES_MAX) * 2];
    loop {
        let length = socket.recv(&mut bytes).await?;
        let answer = bytes.get(..length).and_then(message::parse_answer);
        // Others are somebody's guesses, or late.
        if let Some(answer) = answer.filter(|answer| message::answers(question, answer)) {
            return Ok((answer, length));
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Message) -> io::Result<(Message, usize)> {
    let mut stream = TcpStream::connect(server).await?;
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes).await?;
    let answer = message::parse_answer(&bytes).filter(|answer| message::answers(question, answer));
    answer.map(|answer| (answer, bytes.len())).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// What is kept of an answer: its code and the answer section, and of the rest only how long a "no" is good.
fn found((answer, bytes): (Message, usize)) -> Option<Found> {
    let code = match answer.metadata.response_code {
        ResponseCode::NoError => Code::Found,
        ResponseCode::NXDomain => Code::NoSuchName,
        _ => return None,
    };
    let negative = answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(start) => Some(record.ttl.min(start.minimum)),
        _ => None,
    });
    let (records, is_changed) = message::without_hints(answer.answers);
    let is_authentic = answer.metadata.authentic_data && !is_changed;
    Some(Found { code, is_authentic, records, negative_s: negative.unwrap_or(0), bytes, at: Instant::now() })
}
