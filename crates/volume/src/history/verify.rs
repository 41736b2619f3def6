//! Reading to find damage before it is relied on: all that is stored, or what a restore would need.

use super::map::RangeMap;
use super::{History, bytes};
use crate::block::BLOCK_BYTES;
use crate::chain::End;
use crate::error::VolumeError;
use crate::names;
use crate::segment::Damage;
use crate::storage::{Storage, StoredFile};

/// Blocks whose places are in memory together, 4 GiB of the disk: tables are read again for each such stretch that changed.
const WINDOW_BLOCKS: u64 = 1 << 20;
/// Blocks that are read at once: a mebibyte.
const STEP_BLOCKS: u64 = 256;

impl<S: Storage> History<S> {
    /// Verifies all that is stored. `pace` is told of bytes.
    ///
    /// # Errors
    /// A file cannot be read, or is damaged: which, and where.
    pub fn verify(mut self, pace: &dyn Fn(u64)) -> Result<(), VolumeError> {
        // Opens the base's files, and looks at their tables.
        self.read_base(&mut RangeMap::new(0..0))?;
        // Nor is anything missing.
        self.walk(|file, located| {
            pace(located.header.bytes());
            file.verify(located).map(|()| true)
        })?;
        let (bases, newest) = (self.bases.iter().map(|base| (&base.file, true)), self.logs.last());
        for (file, is_base) in bases.chain(newest.map(|file| (file, false))) {
            let mut result = Ok(());
            let end = file.walk(0, None, |located| {
                if is_base {
                    pace(located.header.bytes());
                    result = file.verify(&located);
                }
                result.is_ok()
            })?;
            result?;
            if let End::Broken { offset, damage } = end
                && file.file.bytes().map_err(VolumeError::file("read", &file.name))? > offset
                && damage != Damage::NoSegment
            {
                return Err(file.damaged(offset, damage));
            }
        }
        Ok(())
    }
}

/// Verifies all that a restore to a checkpoint reads, and changes nothing.
///
/// # Errors
/// There is no such checkpoint, or a file cannot be read or is damaged: which, and where.
pub fn verify_restore<S: Storage + Clone>(storage: &S, seq: u64) -> Result<(), VolumeError> {
    verify_restore_up_to(storage, seq, 0)
}

/// The same for who knows that the history goes up to a checkpoint at least.
pub(crate) fn verify_restore_up_to<S: Storage + Clone>(
    storage: &S,
    seq: u64,
    tip: u64,
) -> Result<(), VolumeError> {
    let _hold = storage.share().map_err(VolumeError::file("hold", names::LOG))?;
    // Also when nothing has changed since.
    drop(History::open_alone(storage.clone())?.view_within(seq, 0..0)?);
    each_changed(storage, seq, tip, |_, _| Ok(()))
}

/// Tells in order, piece by piece, what the blocks that have changed since a checkpoint held at it: the first block and the
/// content. What it takes of memory does not grow with what has changed.
///
/// # Errors
/// As [`verify_restore`], and what `each` says.
pub(crate) fn each_changed<S: Storage + Clone>(
    storage: &S,
    seq: u64,
    tip: u64,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), VolumeError>,
) -> Result<(), VolumeError> {
    let changed = History::open_alone(storage.clone())?.up_to(tip).changed_since(seq)?;
    let mut from = 0;
    while let Some(first) = changed.run_from(from, 1) {
        let window = first.start..first.start.saturating_add(WINDOW_BLOCKS);
        from = window.end;
        let view = History::open_alone(storage.clone())?.view_within(seq, window.clone())?;
        for run in changed.runs_in(&window) {
            let mut start = run.start;
            while start < run.end {
                let end = run.end.min(start + STEP_BLOCKS);
                let mut content = vec![0; bytes(end - start)];
                view.read_at(start * BLOCK_BYTES, &mut content)?;
                each(start, &content)?;
                start = end;
            }
        }
    }
    Ok(())
}
