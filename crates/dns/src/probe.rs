//! Measures how long answers take: questions at a steady pace from one socket, as a busy guest asks them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

/// An answer that has not come by then is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// How long answers took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies {
    /// Each, in order of length.
    pub answers: Vec<Duration>,
    /// Questions without an answer.
    pub lost: usize,
}

impl Latencies {
    /// The time within which this part of the answers came, thousandths; nothing without an answer.
    #[must_use]
    pub fn within(&self, thousandths: usize) -> Option<Duration> {
        let last = self.answers.len().checked_sub(1)?;
        self.answers.get(last.saturating_mul(thousandths.min(1_000)) / 1_000).copied()
    }
}

/// Asks for the addresses of a name, `per_second` times a second, `count` times, from one address of this machine.
///
/// # Errors
/// The name is none, or what the system says.
pub fn measure(
    from: SocketAddr,
    server: SocketAddr,
    name: &str,
    (per_second, count): (u32, u16),
) -> io::Result<Latencies> {
    let name = Name::from_ascii(name).map_err(io::Error::other)?;
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, RecordType::A));
    let mut bytes = question.to_vec().map_err(io::Error::other)?;
    let socket = UdpSocket::bind(from)?;
    socket.connect(server)?;
    let receiver = socket.try_clone()?;
    receiver.set_read_timeout(Some(LOST_AFTER))?;
    let receive = std::thread::spawn(move || receive(&receiver, count));
    let interval = Duration::from_secs(1) / per_second.max(1);
    let (start, mut sent) = (Instant::now(), Vec::with_capacity(count.into()));
    for number in 0..count {
        std::thread::sleep((start + interval * u32::from(number)).saturating_duration_since(Instant::now()));
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        sent.push(Instant::now());
        socket.send(&bytes)?;
    }
    let received = receive.join().map_err(|_| io::Error::other("the receiving thread has failed"))?;
    let times = received.iter().zip(&sent);
    let mut answers: Vec<Duration> =
        times.filter_map(|(at, sent)| Some(at.as_ref()?.saturating_duration_since(*sent))).collect();
    answers.sort();
    let lost = usize::from(count) - answers.len();
    Ok(Latencies { answers, lost })
}

/// When the answer to each number came.
fn receive(socket: &UdpSocket, count: u16) -> Vec<Option<Instant>> {
    let mut received = vec![None; count.into()];
    let (mut bytes, mut missing) = ([0; 512], count);
    while missing > 0 {
        // Until nothing comes any more.
        let Ok(length) = socket.recv(&mut bytes) else { break };
        let now = Instant::now();
        let number = bytes.get(..length.min(2)).and_then(|start| <[u8; 2]>::try_from(start).ok());
        let place = number.and_then(|number| received.get_mut(usize::from(u16::from_be_bytes(number))));
        if let Some(place @ None) = place {
            *place = Some(now);
            missing -= 1;
        }
    }
    received
}
