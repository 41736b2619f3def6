//! One connection of the agent. Owns its buffers, all bounded: what goes out by the guest's credit, what comes in by
//! not reading on while the guest has no room. What requests mean is the supervisor's.

use super::output::Output;
use super::protocol::{Answer, CHANNEL};
use lith_guest::wire::{Body, Decoder, Frame, Role, Stream};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// A watcher that does not read its few words is gone or broken.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Its request has not come yet.
    Unknown,
    /// It is told of each change.
    Watch,
    /// It waits for the guest's figures.
    Stats,
    /// It is joined to a channel of the guest.
    Channel(u32),
    /// Its answer is on the way; it is closed once that is written.
    Answered,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    decoder: Decoder,
    output: Output,
    /// Bytes read but not decoded: the guest had no room for what came before them.
    backlog: Vec<u8>,
    /// Data for the guest that waits for credit.
    pub(super) waiting: Option<(Stream, Vec<u8>)>,
    /// Bytes of guest data in `output`, credit for which is still owed.
    held_bytes: usize,
    pub(super) purpose: Purpose,
    pub(super) is_gone: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection {
            stream,
            decoder: Decoder::new(Role::Guest),
            output: Output::default(),
            backlog: Vec::new(),
            waiting: None,
            held_bytes: 0,
            purpose: Purpose::Unknown,
            is_gone: false,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn has_output(&self) -> bool {
        self.output.pending() > 0
    }

    /// Whether more should be read now.
    pub(super) fn wants_input(&self) -> bool {
        self.backlog.is_empty() && self.waiting.is_none()
    }

    /// Reads once. The end of the stream means that the agent has given up.
    pub(super) fn read(&mut self, buffer: &mut [u8]) {
        match rustix::io::read(&self.stream, &mut *buffer) {
            Ok(0) => self.is_gone = true,
            Ok(count) => self.backlog.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.is_gone = true,
        }
    }

    /// The next frame of what was read, unless data still waits for the guest.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        if self.waiting.is_some() {
            return None;
        }
        let mut input = self.backlog.as_slice();
        let frame = self.decoder.next_frame(&mut input);
        let used = self.backlog.len() - input.len();
        self.backlog.drain(..used);
        if self.backlog.is_empty() {
            self.backlog = Vec::new();
        }
        frame.unwrap_or_else(|_| {
            self.is_gone = true;
            None
        })
    }

    pub(super) fn send(&mut self, body: Body) {
        if let Body::Data { bytes, .. } = &body {
            self.held_bytes += bytes.len();
        }
        Frame { channel: CHANNEL, body }.encode_into(self.output.buffer());
        self.is_gone |= self.output.pending() > OUTPUT_BYTES_MAX;
    }

    /// Sends the last word.
    pub(super) fn answer(&mut self, answer: &Answer) {
        match serde_json::to_vec(answer) {
            Ok(json) => self.send(Body::Close(json)),
            Err(_) => self.is_gone = true,
        }
        self.purpose = Purpose::Answered;
    }

    pub(super) fn refuse(&mut self, message: &str) {
        self.answer(&Answer::Refused { message: message.to_owned() });
    }

    /// Writes what the agent takes now; gives the bytes of guest data that have left.
    pub(super) fn flush(&mut self) -> usize {
        if self.output.flush(self.stream.as_fd()).is_err() {
            self.is_gone = true;
        }
        // Headers count as data here, so credit may come a few bytes late, never early.
        let held = self.held_bytes.min(self.output.pending());
        let left = self.held_bytes - held;
        self.held_bytes = held;
        if self.purpose == Purpose::Answered && !self.has_output() {
            self.is_gone = true;
        }
        left
    }
}
