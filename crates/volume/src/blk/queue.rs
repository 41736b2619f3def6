//! One queue as the front end sees it: what it has said of the ring so far, and the thread that serves it once all is said.
//! Owns when that thread runs: whoever changes anything pauses it first, so that no lock is needed for what it works with,
//! and a paused queue has no request in flight.
//!
//! ```text
//!   described ── all said, and enabled: resume ──▶ served
//!       ▲                                            │
//!       └── any change, or its base is asked: pause ─┘
//! ```

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use vm_memory::GuestMemoryMmap;

use super::STACK_BYTES;
use super::execute::Backing;
use super::pool::Pool;
use super::ring::{Addresses, Parameters, Ring};
use super::worker::{Stop, Worker};

/// What all queues of a connection have in common at one moment.
pub(super) struct Common {
    pub(super) memory: Arc<GuestMemoryMmap>,
    pub(super) backing: Arc<Backing>,
    pub(super) pool: Pool,
    pub(super) has_event_index: bool,
    pub(super) is_read_only: bool,
}

/// A queue.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) entries: u16,
    pub(super) addresses: Option<Addresses>,
    pub(super) next_available: u16,
    pub(super) is_enabled: bool,
    pub(super) kick: Option<Arc<File>>,
    pub(super) call: Option<Arc<File>>,
    served: Option<Served>,
}

struct Served {
    ring: Arc<Ring>,
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

/// Why a queue cannot be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("ring is not as it must be")]
    Ring(#[source] virtio_queue::Error),
    #[error("cannot start the thread of a queue")]
    Thread(#[source] io::Error),
}

impl Queue {
    /// Starts to serve it, if all is said.
    ///
    /// # Errors
    /// The ring is none, or there is no thread.
    pub(super) fn resume(&mut self, common: &Common) -> Result<(), Error> {
        let (Some(addresses), Some(kick), true, None) =
            (self.addresses, &self.kick, self.is_enabled, &self.served)
        else {
            return Ok(());
        };
        let parameters = Parameters {
            entries: self.entries,
            addresses,
            next_available: self.next_available,
            has_event_index: common.has_event_index,
            memory: Arc::clone(&common.memory),
            call: self.call.clone(),
        };
        let ring = Arc::new(Ring::new(parameters).map_err(Error::Ring)?);
        let stop = Arc::new(Stop::new().map_err(Error::Thread)?);
        let worker = Worker {
            ring: Arc::clone(&ring),
            kick: Arc::clone(kick),
            stop: Arc::clone(&stop),
            backing: Arc::clone(&common.backing),
            pool: common.pool.clone(),
            is_read_only: common.is_read_only,
        };
        let thread = thread::Builder::new().name("blk-queue".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn(move || worker.run()).map_err(Error::Thread)?;
        self.served = Some(Served { ring, stop, thread });
        Ok(())
    }

    /// Returns when it is not served, and all its requests are answered.
    pub(super) fn pause(&mut self) {
        let Some(Served { ring, stop, thread }) = self.served.take() else { return };
        stop.ask();
        // A panic has been reported where it was; the ring says how far it came.
        let _ = thread.join();
        self.next_available = ring.next_available();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.pause();
    }
}
