//! What comes before a write: marks, blocks kept for the base, blocks rescued for a cut.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{BaseFile, Volume};
use crate::block::{BLOCK_BYTES, bytes_of};
use crate::chain::{Packing, SegmentWriter, pack, split, zeroes};
use crate::disk::Disk;
use crate::error::VolumeError;
use crate::intents::Known;
use crate::lock;
use crate::segment::{CheckpointId, Header, Kind, Marks, SegmentHash};
use crate::storage::{Storage, StoredFile};
use crate::tracker::Chores;

/// How far an unwritten stretch of the disk is kept at once, in blocks: 64 MiB, so that filling it costs one sync.
const HOLE_BLOCKS: u64 = 16 << 10;

impl<S: Storage> Volume<S> {
    /// Does chores.
    pub(super) fn prepare_blocks(&self, chores: &Chores) -> io::Result<()> {
        // Rescues come first and fail alone: that a checkpoint is lost is no reason not to write.
        if !chores.rescue.is_empty() && self.rescue(&chores.rescue).is_err() {
            self.cut_has_failed.store(true, Ordering::Release);
        }
        let result = self.mark(&chores.regions).and_then(|()| self.keep(&chores.keep));
        result.map_err(|error| match error {
            VolumeError::File { source, .. } => source,
            error => io::Error::other(error),
        })
    }

    fn mark(&self, regions: &[Range<u64>]) -> Result<(), VolumeError> {
        if regions.is_empty() {
            return Ok(());
        }
        let intents = lock(&self.intents);
        self.figures.syncs.fetch_add(1, Ordering::Relaxed);
        intents.mark(regions)?;
        let mut tracked = lock(&self.tracker);
        regions.iter().for_each(|run| tracked.machine.has_marked(run.clone()));
        Ok(())
    }

    fn rescue(&self, runs: &[Range<u64>]) -> Result<(), VolumeError> {
        for part in runs.iter().flat_map(split) {
            let content = self.read_blocks(&part)?;
            let packed = pack(part.start, &content, Packing::Never);
            if let Some(segment) = lock(&self.segment).as_mut() {
                segment.push(packed)?;
            }
            self.figures.rescued_blocks.fetch_add(part.end - part.start, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn read_blocks(&self, blocks: &Range<u64>) -> Result<Vec<u8>, VolumeError> {
        let bytes = bytes_of(blocks);
        let mut content = vec![0; usize::try_from(bytes.end - bytes.start).unwrap_or_default()];
        let read = self.disk.read_into(bytes.start, &mut content);
        read.map_err(VolumeError::file("read", crate::names::DISK))?;
        Ok(content)
    }

    /// Keeps what cold blocks hold.
    fn keep(&self, runs: &[Range<u64>]) -> Result<(), VolumeError> {
        if runs.is_empty() {
            return Ok(());
        }
        let base_id = lock(&self.manifest).get().base.id;
        let mut base = lock(&self.base);
        let mut writer = SegmentWriter::new(Arc::clone(&base.file), base.end);
        let mut kept = Vec::new();
        let stored = runs.iter().try_for_each(|run| self.keep_run(run, &mut writer, &mut kept));
        if let Err(error) = stored {
            writer.abandon();
            return Err(error);
        }
        self.figures.syncs.fetch_add(1, Ordering::Relaxed);
        let blocks = kept.iter().map(|run| run.end - run.start).sum();
        self.figures.kept_blocks.fetch_add(blocks, Ordering::Relaxed);
        self.finish_base(&mut base, base_id, writer)?;
        // The base is still held: whoever moves it on sees either none of this, or all.
        let mut tracked = lock(&self.tracker);
        kept.into_iter().for_each(|run| tracked.machine.kept(run));
        Ok(())
    }

    fn keep_run(
        &self,
        run: &Range<u64>,
        writer: &mut SegmentWriter<S::File>,
        kept: &mut Vec<Range<u64>>,
    ) -> Result<(), VolumeError> {
        let failed = VolumeError::file("read", crate::names::DISK);
        let content = self.disk.next_content(run.start * BLOCK_BYTES).map_err(failed)? / BLOCK_BYTES;
        if content >= run.end {
            // Nothing is there, nor for a stretch: it is kept with its neighbours, which will be written next.
            let disk_blocks = self.bytes.load(Ordering::Acquire) / BLOCK_BYTES;
            let reach = (run.start / HOLE_BLOCKS + 1) * HOLE_BLOCKS;
            let hole = run.start..content.min(reach).max(run.end).min(disk_blocks.max(run.end));
            let cold = lock(&self.tracker).machine.cold_in(&hole);
            for part in cold {
                writer.push(vec![zeroes(&part)])?;
                kept.push(part);
            }
            return Ok(());
        }
        for part in split(run) {
            writer.push(pack(part.start, &self.read_blocks(&part)?, Packing::Never))?;
        }
        kept.push(run.clone());
        Ok(())
    }

    pub(super) fn finish_base(
        &self,
        base: &mut BaseFile<S::File>,
        base_id: CheckpointId,
        writer: SegmentWriter<S::File>,
    ) -> Result<(), VolumeError> {
        let header = Header {
            kind: Kind::Base,
            volume: self.uuid,
            id: base_id,
            parent: CheckpointId { epoch: base.number, seq: base.segments },
            parent_hash: base.previous,
            time_ns: 0,
            disk_blocks: self.bytes.load(Ordering::Acquire) / BLOCK_BYTES,
            marks: Marks::default(),
            stands_for: SegmentHash::default(),
            table_offset: 0,
            table_bytes: 0,
            table_hash: [0; 32],
        };
        let located = writer.finish(header, &[])?;
        base.end = located.offset + located.header.bytes();
        base.segments += 1;
        base.previous = located.identity;
        Ok(())
    }

    /// Regions that have been left alone for a while need not be looked at after a crash.
    ///
    /// # Errors
    /// The map cannot be written; nothing is lost by that.
    pub fn unmark(&self) -> Result<(), VolumeError> {
        let idle = lock(&self.tracker).machine.idle();
        if !idle.is_empty() {
            // What a checkpoint has may not be on the disk yet: a crash now would make the disk older than it.
            self.flush().map_err(VolumeError::file("sync", crate::names::DISK))?;
        }
        let seq = lock(&self.log).tip.id.seq;
        let (base_file, base_segments) = {
            let base = lock(&self.base);
            (base.number, base.segments)
        };
        let intents = lock(&self.intents);
        intents.note(Known { seq, base_file, base_segments })?;
        let still = lock(&self.tracker).machine.unmark(&idle);
        intents.clear(&still)
    }
}
