//! A volume that is being written: the disk of a task, with everything that its history needs from the path of a write.
//! Owns the order in which files are written and synced; what is to be done is decided by [`Tracker`].
//!
//! ```text
//!  write ──▶ admit ──┬─ mark region ─▶ intents, synced ──┐
//!                    ├─ keep block ──▶ base, synced ─────┤
//!                    ├─ rescue block ▶ segment of the cut┤
//!                    └───────────────────────────────────┴─▶ disk.img
//!  flush ──▶ disk.img, synced                cut ──▶ copy ──▶ log, synced ──▶ checkpoint
//! ```
//!
//! Locks are taken in this order: folding, changing, manifest, log, base, intents, segment of the cut, tracker. Nobody holds the tracker's
//! while a file is read or written.

mod cut;
mod fold;
mod keep;
mod open;
mod restore;
mod retention;
mod snapshot;

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::block::{BLOCK_BYTES, bytes_of, touched_by, whole_within};
use crate::chain::{ChainFile, SegmentWriter};
use crate::disk::{Disk, Patience};
use crate::error::VolumeError;
use crate::intents::Intents;
use crate::lock;
use crate::manifest::{Keeper, Point};
use crate::pieces::Pieces;
use crate::segment::{CheckpointId, SegmentHash, VolumeUuid};
use crate::storage::{Storage, StoredFile};
use crate::tracker::{Admission, Ticket, Tracker};

pub use cut::{Cut, CutTime, begin_cuts};
pub use fold::{Folded, Pace};
pub use restore::clone_into;
pub use retention::Retention;

/// What was kept of a discarded range at once: bounds the memory that it takes.
const DISCARD_BLOCKS_MAX: u64 = 1024;

/// A volume that is open for writing.
#[derive(Debug)]
pub struct Volume<S: Storage> {
    storage: S,
    uuid: VolumeUuid,
    disk: S::File,
    bytes: AtomicU64,
    /// Held by who folds.
    folding: Mutex<()>,
    /// Held by who makes snapshots or restores, or the disk larger.
    changing: Mutex<()>,
    manifest: Mutex<Keeper>,
    log: Mutex<Log<S::File>>,
    base: Mutex<BaseFile<S::File>>,
    intents: Mutex<Intents<S::File>>,
    /// The segment of the cut under way.
    segment: Mutex<Option<SegmentWriter<S::File>>>,
    tracker: Mutex<Tracked>,
    changed: Condvar,
    /// The disk's file did not take a sync: what it holds is unknown, and no later sync can make it known.
    has_failed: AtomicBool,
    /// Blocks that take new space are refused.
    is_full: AtomicBool,
    /// Something that the cut under way needs could not be read or stored.
    cut_has_failed: AtomicBool,
    /// The next checkpoint is the first after a crash.
    is_recovering: AtomicBool,
    figures: Figures,
}

#[derive(Debug)]
struct Tracked {
    machine: Tracker,
    /// Threads that wait for a change.
    waiting: usize,
}

/// The files of segments.
#[derive(Debug)]
struct Log<F> {
    /// In order; the last one is written to.
    files: Vec<LogFile>,
    /// The last one, if it is. The others are many, and not open.
    open: Option<Arc<ChainFile<F>>>,
    /// The newest checkpoint.
    tip: Point,
}

#[derive(Debug)]
struct LogFile {
    name: String,
    bytes: u64,
    /// Its first checkpoint.
    first: Point,
    /// Its last one.
    last: Point,
    is_merged: bool,
    segments: u64,
    /// It is not written to any more.
    is_closed: bool,
    /// A segment that did not become durable may be at its end, and looks whole: the next one must take its place before
    /// any other file comes behind this one.
    is_spoiled: bool,
}

/// The file of base blocks that is written to.
#[derive(Debug)]
struct BaseFile<F> {
    number: u64,
    file: Arc<ChainFile<F>>,
    end: u64,
    segments: u64,
    previous: SegmentHash,
    /// Bytes of all files before it that count.
    bytes_before: u64,
}

/// What the data path had to do, since the volume was opened.
#[derive(Debug, Default)]
pub struct Figures {
    /// Blocks whose content was kept for the base.
    pub kept_blocks: AtomicU64,
    /// Blocks whose content was handed to a cut by who wanted to overwrite them.
    pub rescued_blocks: AtomicU64,
    /// Times that a writer had to wait for somebody else's work.
    pub waits: AtomicU64,
    /// Syncs in the path of writes.
    pub syncs: AtomicU64,
    /// Bytes of checkpoints.
    pub segment_bytes: AtomicU64,
    /// How long a cut has held requests back at most, nanoseconds.
    pub cut_pause_ns_max: AtomicU64,
}

/// What is known of a volume at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its size, bytes.
    pub bytes: u64,
    /// Blocks written since the last checkpoint.
    pub dirty_blocks: u64,
    /// The newest checkpoint.
    pub tip: Point,
    /// The oldest one that can be read.
    pub base: Point,
    /// Bytes of the history.
    pub history_bytes: u64,
    /// Whether its disk does not take writes any more.
    pub has_failed: bool,
}

impl<S: Storage> Volume<S> {
    /// Its identity.
    #[must_use]
    pub fn uuid(&self) -> VolumeUuid {
        self.uuid
    }

    /// What the data path had to do.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// What is known of it.
    #[must_use]
    pub fn status(&self) -> Status {
        let base = lock(&self.manifest).get().base;
        let (tip, log_bytes) = {
            let log = lock(&self.log);
            (log.tip, log.files.iter().map(|file| file.bytes).sum::<u64>())
        };
        let base_bytes = {
            let base = lock(&self.base);
            base.bytes_before + base.end
        };
        Status {
            bytes: self.bytes.load(Ordering::Acquire),
            dirty_blocks: lock(&self.tracker).machine.dirty_blocks(),
            tip,
            base,
            history_bytes: log_bytes + base_bytes,
            has_failed: self.has_failed.load(Ordering::Acquire),
        }
    }

    /// What was written since the last checkpoint, bytes.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        lock(&self.tracker).machine.dirty_blocks() * BLOCK_BYTES
    }

    /// Whether blocks that take new space are refused.
    pub fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Release);
    }

    /// Makes the disk larger.
    ///
    /// # Errors
    /// It would be smaller, or its file cannot be changed.
    pub fn grow(&self, bytes: u64) -> Result<(), VolumeError> {
        let wanted = bytes.next_multiple_of(BLOCK_BYTES);
        // One at a time. Neither a status nor a cut waits for this.
        let _changing = lock(&self.changing);
        let has = self.bytes.load(Ordering::Acquire);
        if wanted < has {
            return Err(VolumeError::Shrinks { has, wanted });
        }
        let failed = |operation| VolumeError::file(operation, crate::names::DISK);
        self.disk.resize(wanted).map_err(failed("enlarge"))?;
        self.disk.sync().map_err(failed("sync"))?;
        self.bytes.store(wanted, Ordering::Release);
        Ok(())
    }

    /// Lets a writer begin, once all that must come before has been done.
    fn admit(&self, blocks: &Range<u64>) -> io::Result<Ticket> {
        let mut tracked = lock(&self.tracker);
        loop {
            match tracked.machine.admit(blocks) {
                Admission::Go(ticket) => return Ok(ticket),
                Admission::Wait => {
                    self.figures.waits.fetch_add(1, Ordering::Relaxed);
                    tracked = self.wait(tracked);
                }
                Admission::First(chores) => {
                    drop(tracked);
                    let result = self.prepare_blocks(&chores);
                    tracked = lock(&self.tracker);
                    tracked.machine.done(chores);
                    self.tell(&tracked);
                    result?;
                }
            }
        }
    }

    fn end_write(&self, ticket: Ticket) {
        let mut tracked = lock(&self.tracker);
        tracked.machine.written(ticket);
        self.tell(&tracked);
    }

    fn wait<'tracker>(&self, mut tracked: MutexGuard<'tracker, Tracked>) -> MutexGuard<'tracker, Tracked> {
        tracked.waiting += 1;
        let mut tracked = self.changed.wait(tracked).unwrap_or_else(PoisonError::into_inner);
        tracked.waiting -= 1;
        tracked
    }

    fn tell(&self, tracked: &Tracked) {
        if tracked.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Does something to blocks that changes them.
    fn change(&self, blocks: Range<u64>, change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(io::Error::other("the disk did not take a sync before"));
        }
        let ticket = self.admit(&blocks)?;
        let result = change();
        self.end_write(ticket);
        result
    }

    /// Refuses what would take new space while there is none: any hole within the range would be filled.
    fn check_space(&self, range: &Range<u64>) -> io::Result<()> {
        if self.is_full.load(Ordering::Acquire) && self.disk.next_hole(range.start)? < range.end {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn zero_edge(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let zeroes =
            vec![0; usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::InvalidInput)?];
        self.write(range.start, &Pieces::of(&zeroes))
    }

    fn punch(&self, range: &Range<u64>) -> io::Result<()> {
        let mut blocks = whole_within(range);
        while !blocks.is_empty() {
            // What is a hole already needs no change, and no history.
            let content = self.disk.next_content(blocks.start * BLOCK_BYTES)? / BLOCK_BYTES;
            if content > blocks.start {
                let hole = blocks.start..content.min(blocks.end);
                blocks.start = hole.end;
                // The disk reads as zeroes there, as it should.
                continue;
            }
            let part = blocks.start..blocks.end.min(blocks.start + DISCARD_BLOCKS_MAX);
            self.change(part.clone(), || self.disk.punch(bytes_of(&part)))?;
            blocks.start = part.end;
        }
        Ok(())
    }
}

impl<S: Storage> Disk for Volume<S> {
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    fn read(&self, offset: u64, into: &Pieces<'_>, patience: Patience) -> io::Result<()> {
        self.disk.read(offset, into, patience)
    }

    fn prepare(&self, ranges: &[Range<u64>]) {
        let blocks: Vec<Range<u64>> = ranges.iter().map(touched_by).collect();
        let chores = lock(&self.tracker).machine.foresee(&blocks);
        if let Some(chores) = chores {
            // A failure shows again when the blocks are written.
            let _ = self.prepare_blocks(&chores);
            let mut tracked = lock(&self.tracker);
            tracked.machine.done(chores);
            self.tell(&tracked);
        }
    }

    fn write(&self, offset: u64, from: &Pieces<'_>) -> io::Result<()> {
        let range = offset..offset + from.bytes() as u64;
        if range.is_empty() {
            return Ok(());
        }
        self.check_space(&range)?;
        self.change(touched_by(&range), || self.disk.write(offset, from))
    }

    fn flush(&self) -> io::Result<()> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(io::Error::other("the disk did not take a sync before"));
        }
        self.disk.sync().inspect_err(|_| {
            // The kernel drops what it could not write and forgets that it could not: a later sync would lie.
            self.has_failed.store(true, Ordering::Release);
        })
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        // The edges stay: to discard is to say that nobody needs it, not that it must be gone.
        self.punch(&range)
    }

    fn write_zeroes(&self, range: Range<u64>, _may_unmap: bool) -> io::Result<()> {
        let whole = bytes_of(&whole_within(&range));
        if whole.is_empty() {
            return self.zero_edge(range);
        }
        self.zero_edge(range.start..whole.start)?;
        self.punch(&whole)?;
        self.zero_edge(whole.end..range.end)
    }
}

/// A checkpoint after another one.
fn next_id(epoch: u64, tip: &Point) -> CheckpointId {
    CheckpointId { epoch, seq: tip.id.seq + 1 }
}
