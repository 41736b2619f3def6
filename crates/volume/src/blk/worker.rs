//! The thread of one queue: waits for the guest, takes requests in batches, does what is quick itself and lends the rest to
//! the pool. It decides who does what; [`super::execute`] does it.
//!
//! A write is done here and at once, so every write that was answered before a flush came is with the disk when the flush
//! is done, wherever that is. Requests that the pool has are answered in any order, as the specification allows.
//!
//! Why it is so, measured with `examples/blk_bench.rs` on two processors of a virtual machine, page cache over ext4:
//! - Done inline, a read of 4 KiB costs this thread 2.5 to 4 us of a processor and a write 4 to 5; QEMU's storage daemon,
//!   which hands each to a thread, spends 20 to 26. So the pool gets only what would wait.
//! - A flush alone was answered sooner inline in most runs, by about 6 and 25 %, where the medium takes 200 us. The downside: what comes meanwhile
//!   into this queue waits for it. In company it goes to the pool.
//! - Looking at the ring for 30 to 50 us before sleeping gains no more than telling the guest early does, and takes a
//!   processor from a guest that could use it; so it sleeps at once.
//! - No `io_uring`: many hosts forbid it, and what it saves are the threads that are hardly used here.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;

use super::execute::{Backing, Failure, answer, execute};
use super::pool::Pool;
use super::request::{Descriptor, Limits, Parsed, Request, parse, walk};
use super::ring::{BATCH_MAX, Rest, Ring};
use crate::disk::Patience;

/// Bytes after which the guest is told of answers within a batch: it wakes up while the rest is done. On idle processors,
/// where waking up takes longest, random reads are twice as many as when it is told at the end; each alone is fewer again.
const ANNOUNCE_BYTES: u64 = 32 << 10;

/// A request for the pool.
pub(super) struct Job {
    ring: Arc<Ring>,
    backing: Arc<Backing>,
    head: u16,
    parsed: Parsed,
}

impl Job {
    /// Does it and answers.
    pub(super) fn run(self) {
        let Self { ring, backing, head, parsed } = self;
        let result = match &parsed.request {
            Ok(request) => execute(&backing, ring.memory(), request, Patience::Waits),
            Err(refusal) => Err(Failure::Refused(*refusal)),
        };
        let bytes = answer(ring.memory(), &parsed, result);
        // The queue's thread meets a broken ring too, and reports it.
        let _ = ring.answer(head, bytes).and_then(|()| ring.announce());
        ring.give_back();
    }
}

/// Asks a thread to end, from another.
pub(super) struct Stop {
    is_asked: AtomicBool,
    event: OwnedFd,
}

impl Stop {
    /// Nobody has asked yet.
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { is_asked: AtomicBool::new(false), event })
    }

    /// Asks.
    pub(super) fn ask(&self) {
        self.is_asked.store(true, Ordering::Release);
        // The counter cannot be full: it is written once.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Acquire)
    }
}

/// Why a ring cannot be served.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("ring breaks the rules")]
    Ring(#[from] virtio_queue::Error),
    #[error("cannot wait for the guest")]
    Kick(#[source] io::Error),
}

/// What the thread of a queue works with.
pub(super) struct Worker {
    pub(super) ring: Arc<Ring>,
    pub(super) kick: Arc<File>,
    pub(super) stop: Arc<Stop>,
    pub(super) backing: Arc<Backing>,
    pub(super) pool: Pool,
    pub(super) is_read_only: bool,
}

/// What is used again for each batch.
#[derive(Default)]
struct Scratch {
    heads: Vec<u16>,
    chain: Vec<Descriptor>,
    batch: Vec<(u16, Option<Parsed>)>,
    writes: Vec<Range<u64>>,
}

impl Worker {
    /// Serves the ring until it is asked to stop. All requests it took are answered then.
    pub(super) fn run(&self) {
        let mut scratch = Scratch::default();
        while !self.stop.is_asked() {
            match self.turn(&mut scratch) {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "ring is broken: not served any more"
                    );
                    // Without the guest nothing can go wrong.
                    let _ = self.wait(None);
                }
            }
        }
        self.ring.wait_until_returned();
    }

    /// One batch, or one wait for the guest.
    fn turn(&self, scratch: &mut Scratch) -> Result<(), Broken> {
        let rest = self.ring.take(&mut scratch.heads)?;
        if !scratch.heads.is_empty() {
            return Ok(self.batch(scratch, rest)?);
        }
        if !self.ring.listen()? {
            self.wait(Some(&self.kick)).map_err(Broken::Kick)?;
            self.ring.mute()?;
        }
        Ok(())
    }

    fn batch(&self, scratch: &mut Scratch, rest: Rest) -> Result<(), virtio_queue::Error> {
        let memory = self.ring.memory();
        let limits = Limits { disk_bytes: self.backing.disk.bytes(), is_read_only: self.is_read_only };
        scratch.writes.clear();
        for head in scratch.heads.drain(..) {
            let chain = &mut scratch.chain;
            let walked = walk(memory, self.ring.table(), head, chain);
            let parsed = walked.and_then(|()| parse(chain, memory, limits));
            if let Some(Parsed { request: Ok(Request::Write { range, .. }), .. }) = &parsed {
                scratch.writes.push(range.clone());
            }
            scratch.batch.push((head, parsed));
        }
        if !scratch.writes.is_empty() {
            self.backing.disk.prepare(&scratch.writes);
        }
        let is_alone = scratch.batch.len() == 1 && rest == Rest::Nothing;
        let mut unannounced_bytes = 0;
        debug_assert!(scratch.batch.len() <= BATCH_MAX, "a batch is bounded");
        for (head, parsed) in scratch.batch.drain(..) {
            unannounced_bytes += self.handle(head, parsed, is_alone)?;
            if unannounced_bytes >= ANNOUNCE_BYTES {
                unannounced_bytes = 0;
                self.ring.announce()?;
            }
        }
        self.ring.announce()
    }

    /// Does a request or lends it; returns how many bytes it moved.
    fn handle(&self, head: u16, parsed: Option<Parsed>, is_alone: bool) -> Result<u64, virtio_queue::Error> {
        let Some(parsed) = parsed else {
            self.ring.answer(head, 0)?;
            return Ok(0);
        };
        let (result, moved_bytes) = match &parsed.request {
            Err(refusal) => (Err(Failure::Refused(*refusal)), 0),
            Ok(request) => {
                let patience = match request {
                    Request::Read { .. } => Patience::Now,
                    Request::Write { .. } | Request::Identify { .. } => Patience::Waits,
                    Request::Flush if is_alone => Patience::Waits,
                    Request::Flush | Request::Discard { .. } | Request::WriteZeroes { .. } => {
                        self.lend(head, parsed);
                        return Ok(0);
                    }
                };
                match execute(&self.backing, self.ring.memory(), request, patience) {
                    Err(Failure::Disk(error))
                        if patience == Patience::Now && error.kind() == io::ErrorKind::WouldBlock =>
                    {
                        self.lend(head, parsed);
                        return Ok(0);
                    }
                    result => (result, moved_bytes(request, &parsed)),
                }
            }
        };
        let bytes = answer(self.ring.memory(), &parsed, result);
        self.ring.answer(head, bytes)?;
        Ok(moved_bytes)
    }

    fn lend(&self, head: u16, parsed: Parsed) {
        self.ring.lend();
        let (ring, backing) = (Arc::clone(&self.ring), Arc::clone(&self.backing));
        self.pool.submit(Job { ring, backing, head, parsed });
    }

    /// Waits for the guest, if it is to be waited for, or to be asked to stop.
    fn wait(&self, kick: Option<&File>) -> io::Result<()> {
        let mut events = vec![PollFd::from_borrowed_fd(self.stop.event.as_fd(), PollFlags::IN)];
        events.extend(kick.map(|kick| PollFd::new(kick, PollFlags::IN)));
        match poll(&mut events, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(mut kick) = kick else { return Ok(()) };
        // It does not wait; its count says nothing that the ring does not.
        match kick.read(&mut [0; 8]) {
            Ok(8) => Ok(()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            },
        }
    }
}

fn moved_bytes(request: &Request, parsed: &Parsed) -> u64 {
    match request {
        Request::Write { range, .. } => range.end - range.start,
        Request::Read { .. }
        | Request::Flush
        | Request::Identify { .. }
        | Request::Discard { .. }
        | Request::WriteZeroes { .. } => u64::from(parsed.answer_bytes),
    }
}
