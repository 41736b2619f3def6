//! A ring while it is served: taking requests out of it, putting answers into it, telling the guest. Owns the lock that lets
//! the queue's thread and the pool answer side by side, and the count of requests that the pool still has. Nothing slow
//! happens under the lock.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::request::{DESCRIPTORS_MAX, Table};
use crate::lock;

/// The longest ring that is served. It bounds the requests in flight, and so the memory they take.
pub(super) const ENTRIES_MAX: u16 = DESCRIPTORS_MAX;

/// Requests taken out of the ring at once. Few enough that answers are not held back, enough that locks and the preparation
/// of writes are paid once for many.
pub(super) const BATCH_MAX: usize = 32;

/// Where a ring is in guest memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

/// All that is needed to serve a ring.
pub(super) struct Parameters {
    pub(super) entries: u16,
    pub(super) addresses: Addresses,
    pub(super) next_available: u16,
    pub(super) has_event_index: bool,
    pub(super) memory: Arc<GuestMemoryMmap>,
    pub(super) call: Option<Arc<File>>,
}

/// What is left in a ring after some has been taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing at that moment, and the pool has nothing either.
    Nothing,
    /// Something is in the ring or in the pool.
    Something,
}

/// A ring that is served.
pub(super) struct Ring {
    memory: Arc<GuestMemoryMmap>,
    call: Option<Arc<File>>,
    table: Table,
    available: GuestAddress,
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    queue: Queue,
    /// Answers since the guest was last told, or not told as it did not want to be.
    unannounced: bool,
    /// Requests that the pool has.
    lent: u16,
}

impl Ring {
    /// A ring as the front end described it.
    ///
    /// # Errors
    /// It is not one, or not in the guest's memory.
    pub(super) fn new(parameters: Parameters) -> Result<Self, virtio_queue::Error> {
        let Parameters { entries, addresses, next_available, has_event_index, memory, call } = parameters;
        let available = GuestAddress(addresses.available);
        let mut queue = Queue::new(ENTRIES_MAX)?;
        queue.try_set_size(entries)?;
        queue.try_set_desc_table_address(GuestAddress(addresses.descriptors))?;
        queue.try_set_avail_ring_address(available)?;
        queue.try_set_used_ring_address(GuestAddress(addresses.used))?;
        queue.set_event_idx(has_event_index);
        queue.set_next_avail(next_available);
        queue.set_ready(true);
        if !queue.is_valid(&*memory) {
            return Err(virtio_queue::Error::QueueNotReady);
        }
        queue.set_next_used(queue.used_idx(&*memory, Ordering::Acquire)?.0);
        let table = Table { address: addresses.descriptors, entries };
        let state = Mutex::new(State { queue, unannounced: false, lent: 0 });
        Ok(Self { memory, call, table, available, state, returned: Condvar::new() })
    }

    /// The guest's memory.
    pub(super) fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// Where its descriptors are.
    pub(super) fn table(&self) -> Table {
        self.table
    }

    /// Which entry is taken next.
    pub(super) fn next_available(&self) -> u16 {
        self.lock().queue.next_avail()
    }

    /// Takes the heads of the next chains, at most [`BATCH_MAX`].
    ///
    /// # Errors
    /// The ring is broken.
    pub(super) fn take(&self, heads: &mut Vec<u16>) -> Result<Rest, virtio_queue::Error> {
        heads.clear();
        let mut state = self.lock();
        let chains = state.queue.iter(&*self.memory)?;
        heads.extend(chains.take(BATCH_MAX).map(|chain| chain.head_index()));
        let available = state.queue.avail_idx(&*self.memory, Ordering::Relaxed)?.0;
        let is_empty = state.lent == 0 && available == state.queue.next_avail();
        Ok(if is_empty { Rest::Nothing } else { Rest::Something })
    }

    /// Asks the guest not to tell of new requests: they are looked for anyway.
    ///
    /// # Errors
    /// The ring is broken.
    pub(super) fn mute(&self) -> Result<(), virtio_queue::Error> {
        self.lock().queue.disable_notification(&*self.memory)
    }

    /// Asks the guest to tell of new requests; returns whether there are some already.
    ///
    /// # Errors
    /// The ring is broken.
    pub(super) fn listen(&self) -> Result<bool, virtio_queue::Error> {
        self.lock().queue.enable_notification(&*self.memory)
    }

    /// Puts an answer into the ring.
    ///
    /// # Errors
    /// The ring is broken.
    pub(super) fn answer(&self, head: u16, bytes: u32) -> Result<(), virtio_queue::Error> {
        let mut state = self.lock();
        state.unannounced = true;
        state.queue.add_used(&*self.memory, head, bytes)
    }

    /// Tells the guest of answers, if it wants to know.
    ///
    /// # Errors
    /// The ring is broken.
    pub(super) fn announce(&self) -> Result<(), virtio_queue::Error> {
        let mut state = self.lock();
        let is_wanted = std::mem::take(&mut state.unannounced) && self.wants_call(&mut state.queue)?;
        drop(state);
        if let Some(call) = self.call.as_ref().filter(|_| is_wanted) {
            // The front end made it: if it does not work, nobody else can be told.
            let _ = (&**call).write(&1_u64.to_ne_bytes());
        }
        Ok(())
    }

    /// Counts one request that the pool gets, when it may have one more.
    pub(super) fn lend(&self) {
        let mut state = self.lock();
        while state.lent >= self.table.entries {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.lent += 1;
    }

    /// The pool has answered one.
    pub(super) fn give_back(&self) {
        self.lock().lent -= 1;
        self.returned.notify_all();
    }

    /// Returns when the pool has answered all.
    pub(super) fn wait_until_returned(&self) {
        let mut state = self.lock();
        while state.lent > 0 {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The crate knows the index only, not the flag that drivers without it use.
    fn wants_call(&self, queue: &mut Queue) -> Result<bool, virtio_queue::Error> {
        if queue.event_idx_enabled() {
            return queue.needs_notification(&*self.memory);
        }
        fence(Ordering::SeqCst);
        let flags: u16 =
            self.memory.load(self.available, Ordering::Relaxed).map_err(virtio_queue::Error::GuestMemory)?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
