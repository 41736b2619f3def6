//! The child's end of the channel to its parent. Owns the numbers by which answers are matched to questions.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::form::{Outcome, Refused, ToParent};
use crate::frame;

/// Frames that wait to be written.
const FRAMES_MAX: usize = 256;
/// The packet filter takes some milliseconds, and on a machine with much to do some hundred.
const OPEN_DEADLINE: Duration = Duration::from_secs(3);

/// Speaks to the parent.
#[derive(Debug)]
pub(crate) struct Link {
    frames: mpsc::Sender<Vec<u8>>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    answers: HashMap<u64, oneshot::Sender<Outcome>>,
}

impl Link {
    /// One, and the frames to be written.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (frames, receiver) = mpsc::channel(FRAMES_MAX);
        (Self { frames, waiting: Mutex::default() }, receiver)
    }

    /// Has addresses opened to which a name has led, and returns when that is done or refused.
    pub(crate) async fn open(
        &self,
        (slot, task): (u16, &str),
        name: &str,
        addresses: &[(IpAddr, u32)],
    ) -> Outcome {
        let (sender, receiver) = oneshot::channel();
        let number = {
            let mut waiting = self.waiting();
            waiting.last += 1;
            let number = waiting.last;
            waiting.answers.insert(number, sender);
            number
        };
        let (task, name, addresses) = (task.to_owned(), name.to_owned(), addresses.to_vec());
        let message = ToParent::Open { number, slot, task, name, addresses };
        let outcome = match self.say(&message).await {
            Ok(()) => timeout(OPEN_DEADLINE, receiver).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        self.waiting().answers.remove(&number);
        outcome.unwrap_or(Outcome::Refused)
    }

    /// The parent has answered.
    pub(crate) fn opened(&self, number: u64, outcome: Outcome) {
        let waiting = self.waiting().answers.remove(&number);
        // Nobody waits any more for one that comes too late.
        let _ = waiting.map(|sender| sender.send(outcome));
    }

    /// Tells what was refused.
    pub(crate) async fn refused(&self, refused: Vec<Refused>) -> io::Result<()> {
        self.say(&ToParent::Refused(refused)).await
    }

    /// Tells that this policy is in force.
    pub(crate) async fn applied(&self, number: u64) -> io::Result<()> {
        self.say(&ToParent::Applied(number)).await
    }

    /// Tells that questions are answered from now on.
    pub(crate) async fn ready(&self) -> io::Result<()> {
        self.say(&ToParent::Ready).await
    }

    async fn say(&self, message: &ToParent) -> io::Result<()> {
        let bytes = frame::pack(message).map_err(io::Error::other)?;
        self.frames.send(bytes).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
