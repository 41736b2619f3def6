//! Bytes from the host for one request, between the reader and the thread that uses them.
//!
//! Bounded by the channel's window, because credit is given when the bytes are taken.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::lock;
use crate::port::Port;

#[derive(Default)]
struct State {
    chunks: VecDeque<Vec<u8>>,
    has_ended: bool,
    is_cancelled: bool,
}

/// The queue of one request.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

impl Inbox {
    /// Adds bytes.
    pub(crate) fn push(&self, bytes: Vec<u8>) {
        lock(&self.state).chunks.push_back(bytes);
        self.changed.notify_all();
    }

    /// No more will come.
    pub(crate) fn end(&self) {
        lock(&self.state).has_ended = true;
        self.changed.notify_all();
    }

    /// The host gave up: what is queued is of no use.
    pub(crate) fn cancel(&self) {
        let mut state = lock(&self.state);
        (state.is_cancelled, state.has_ended) = (true, true);
        state.chunks.clear();
        self.changed.notify_all();
    }

    /// Waits for bytes; none at the end.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let mut state = lock(&self.state);
        loop {
            if let Some(bytes) = state.chunks.pop_front() {
                return Some(bytes);
            }
            if state.has_ended {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the host gave up.
    pub(crate) fn is_cancelled(&self) -> bool {
        lock(&self.state).is_cancelled
    }
}

/// An inbox as something to read from; gives credit as it is read.
pub(crate) struct InboxReader {
    /// Where credit is given.
    pub(crate) port: Arc<Port>,
    /// The channel.
    pub(crate) channel: u32,
    /// The queue.
    pub(crate) inbox: Arc<Inbox>,
    chunk: Vec<u8>,
    used: usize,
}

impl InboxReader {
    /// A reader at the start.
    pub(crate) fn new(port: Arc<Port>, channel: u32, inbox: Arc<Inbox>) -> InboxReader {
        InboxReader { port, channel, inbox, chunk: Vec::new(), used: 0 }
    }
}

impl Read for InboxReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.chunk.len() {
            self.port.consumed(self.channel, self.chunk.len());
            self.used = 0;
            self.chunk = self.inbox.take().unwrap_or_default();
            if self.chunk.is_empty() && self.inbox.is_cancelled() {
                return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
            }
        }
        let rest = &self.chunk[self.used..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.used += count;
        Ok(count)
    }
}
