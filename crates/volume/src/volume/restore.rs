//! Restoring: the disk becomes what it was at a checkpoint, by writes like any other, so that the history goes on and what
//! is replaced stays in it. A crash in the middle is no matter: the manifest says that it is to be ended first.

use super::Volume;
use super::cut::{CutTime, begin_cuts};
use crate::block::{BLOCK_BYTES, bytes_of};
use crate::disk::Disk;
use crate::error::VolumeError;
use crate::history::{View, each_changed, verify_restore_up_to};
use crate::lock;
use crate::manifest::{Manifest, Point, Restore, Snapshot};
use crate::names;
use crate::pieces::Pieces;
use crate::segment::{VolumeUuid, is_zeroes};
use crate::storage::{Storage, StoredFile};

/// Blocks that are read and written at once: a mebibyte.
const STEP_BLOCKS: u64 = 256;

impl<S: Storage + Clone> Volume<S> {
    /// Makes the disk what it was at a checkpoint. What it held until now becomes a snapshot of the given name. Nobody has
    /// the disk meanwhile. While a restore is unfinished this one takes its place, and the name is given to what was there
    /// before that one: so it is the way back when what the other one needs is found to be damaged.
    ///
    /// # Errors
    /// There is no such checkpoint, it is damaged, the name is taken, or a file cannot be read or written. What was begun is
    /// ended when the volume is opened next.
    pub fn restore(&self, seq: u64, keep_as: &str, now_ns: i64) -> Result<Point, VolumeError> {
        let folding = lock(&self.folding);
        let tip = self.cut_at_rest(now_ns)?;
        // Before anything is changed: that all of it can be read.
        verify_restore_up_to(&self.storage, seq, tip.id.seq)?;
        self.begin_restore(seq, keep_as, tip)?;
        drop(folding);
        self.end_restore(now_ns)
    }

    fn begin_restore(&self, seq: u64, keep_as: &str, tip: Point) -> Result<(), VolumeError> {
        let _changing = lock(&self.changing);
        let mut manifest = lock(&self.manifest);
        let mut changed = manifest.get().clone();
        let replaced = changed.restore.as_ref().map_or(tip.id.seq, |unfinished| unfinished.replaced);
        let snapshots = &mut changed.snapshots;
        let known = snapshots.iter().find(|snapshot| snapshot.seq == replaced).map(|known| known.time_ns);
        let time_ns = known.unwrap_or(tip.time_ns);
        match snapshots.iter().find(|snapshot| snapshot.name == keep_as) {
            // It is the unfinished one that is begun again.
            Some(taken) if changed.restore.is_some() && taken.seq == replaced => {}
            Some(_) => return Err(VolumeError::SnapshotExists { name: keep_as.to_owned() }),
            None => snapshots.push(Snapshot { name: keep_as.to_owned(), seq: replaced, time_ns }),
        }
        changed.restore = Some(Restore { target: seq, replaced });
        manifest.change(&self.storage, changed).map(drop)
    }

    /// Carries a restore to its end that was begun; the newest checkpoint, also when there was none.
    ///
    /// # Errors
    /// A file cannot be read or written: it is to be tried again before anybody writes. What it needs has become damaged
    /// ([`VolumeError::RestoreUnfinished`]): [`Volume::restore`] to another checkpoint takes its place.
    pub fn end_restore(&self, now_ns: i64) -> Result<Point, VolumeError> {
        let _folding = lock(&self.folding);
        let restore = lock(&self.manifest).get().restore.clone();
        let Some(Restore { target, .. }) = restore else { return Ok(lock(&self.log).tip) };
        let tip = lock(&self.log).tip.id.seq;
        let made = each_changed(&self.storage, target, tip, |start, wanted| self.make_as(start, wanted));
        made.map_err(|error| match error {
            damage @ VolumeError::Damaged { .. } => {
                VolumeError::RestoreUnfinished { seq: target, source: Box::new(damage) }
            }
            error => error,
        })?;
        self.flush().map_err(VolumeError::file("sync", names::DISK))?;
        self.cut_at_rest(now_ns)?;
        let mut manifest = lock(&self.manifest);
        let ended = Manifest { restore: None, ..manifest.get().clone() };
        manifest.change(&self.storage, ended)?;
        Ok(lock(&self.log).tip)
    }

    fn make_as(&self, start: u64, wanted: &[u8]) -> Result<(), VolumeError> {
        let block = BLOCK_BYTES as usize;
        let has = self.read_blocks(&(start..start + (wanted.len() / block) as u64))?;
        for (index, (wanted, has)) in wanted.chunks(block).zip(has.chunks(block)).enumerate() {
            if wanted == has {
                continue;
            }
            let at = start + index as u64;
            let range = bytes_of(&(at..at + 1));
            let result = if is_zeroes(wanted) {
                self.discard(range)
            } else {
                self.write(range.start, &Pieces::of(wanted))
            };
            result.map_err(VolumeError::file("write", names::DISK))?;
        }
        Ok(())
    }

    /// Cuts while nobody writes; nothing is done when nothing has changed.
    ///
    /// # Errors
    /// The checkpoint cannot be stored.
    pub fn cut_at_rest(&self, now_ns: i64) -> Result<Point, VolumeError> {
        let time = CutTime { now_ns, is_at_rest: true };
        for cut in begin_cuts(&[self], time) {
            if let Some(cut) = cut? {
                // A failure is remembered, and told at the end.
                while cut.copy().unwrap_or(false) {}
                cut.finish()?;
            }
        }
        Ok(lock(&self.log).tip)
    }
}

/// Makes a new volume of what another one held at a checkpoint. Its folder is empty; whoever made it removes it when this
/// fails. `pace` is told of bytes, as in folding.
///
/// # Errors
/// A file cannot be read, is damaged, or cannot be written.
pub fn clone_into<S: Storage, T: Storage>(
    view: &View<S>,
    target: &T,
    uuid: VolumeUuid,
    now_ns: i64,
    pace: &dyn Fn(u64),
) -> Result<(), VolumeError> {
    let failed = |operation| VolumeError::file(operation, names::DISK);
    let disk = target.create(names::DISK).map_err(failed("make"))?;
    disk.resize(view.bytes()).map_err(failed("enlarge"))?;
    let blocks = view.bytes() / BLOCK_BYTES;
    let mut from = 0;
    while from < blocks {
        let end = blocks.min(from + STEP_BLOCKS);
        let mut content = vec![0; usize::try_from((end - from) * BLOCK_BYTES).unwrap_or_default()];
        view.read_blocks(from, &mut content)?;
        pace(content.len() as u64);
        for (index, block) in content.chunks(BLOCK_BYTES as usize).enumerate() {
            if !is_zeroes(block) {
                let offset = (from + index as u64) * BLOCK_BYTES;
                disk.write_from(offset, block).map_err(failed("write"))?;
            }
        }
        from = end;
    }
    disk.sync().map_err(failed("sync"))?;
    // The description makes it a volume.
    Manifest::new(uuid, now_ns).save(target)
}
