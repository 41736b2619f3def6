//! Folding: the oldest checkpoints go, what is still needed of them becomes the new base. Each step leaves a history that
//! can be read; the manifest is where the new one becomes true.
//!
//! ```text
//!  base files, segments up to W ──▶ folded file (values at the new base B)      ┐
//!                               └─▶ merged file (one segment for each snapshot) ├─▶ manifest ─▶ old files removed
//!  what is touched from now on ───▶ live base file, which comes behind it       ┘
//! ```
//!
//! B is the oldest snapshot or pinned checkpoint that is not newer than W, or W. A block that has not changed since B is cold again: the disk
//! itself holds what B held.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::open::{new_base_file, new_folded_file, remove_leftovers};
use super::retention::{Candidate, Choice, Retention, Stock, choose};
use super::{BaseFile, LogFile, Volume};
use crate::block::BlockSet;
use crate::chain::{ChainFile, Located, Packing, SegmentWriter, pack, split, zeroes};
use crate::disk::Disk;
use crate::error::VolumeError;
use crate::history::History;
use crate::lock;
use crate::manifest::{Manifest, Point};
use crate::names;
use crate::segment::{Header, Marks};
use crate::storage::{Storage, StoredFile};

/// Blocks that are looked at together: bounds the memory of a fold, at the price of reading the tables again for each.
const WINDOW_BLOCKS: u64 = 64 << 10;
/// Segments of a base file are ended at this size of their table, which is in memory.
const TABLE_BYTES: usize = 256 << 10;

/// How often somebody who reads is waited for, and as long as it takes to fold so many bytes: some minutes.
const HOLD_TRIES: u32 = 600;
const HOLD_PACE_BYTES: u64 = 8 << 20;

/// What came of a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded {
    /// There was nothing to fold, or it cannot be now and will be soon.
    Nothing,
    /// It is done.
    Done,
    /// Somebody reads the history, for longer than is waited: it is as it was.
    IsRead,
    /// It has more bytes than it may, and snapshots need so many of them that folding would not help.
    IsPinned {
        /// What snapshots need.
        bytes: u64,
    },
}

/// What a fold is to do, and what it works on.
#[derive(Debug)]
struct Plan {
    /// How many of the first files of segments go.
    files: usize,
    /// The last checkpoint in them.
    end: Point,
    /// Checkpoints that stay readable up to there, the new base first.
    points: Vec<u64>,
    base: Point,
    has_new_base: bool,
}

impl Plan {
    /// Whether a checkpoint cannot be read any more afterwards.
    fn takes(&self, seq: u64) -> bool {
        (self.base.id.seq..self.end.id.seq).contains(&seq) && !self.points.contains(&seq)
    }
}

/// A merged file, and its number.
type Merged = (u64, LogFile);

/// Waits between the steps of a fold, so that it takes little of the machine.
pub type Pace<'pace> = &'pace dyn Fn(u64);

impl<S: Storage + Clone> Volume<S> {
    /// Folds what is not to be kept any more. `pace` is called now and then with the bytes that were read and written since
    /// the last call.
    ///
    /// # Errors
    /// A file cannot be read, is damaged, or cannot be written: the history is as it was.
    pub fn fold(&self, retention: Retention, now_ns: i64, pace: Pace<'_>) -> Result<Folded, VolumeError> {
        // Snapshots may be made meanwhile: they are of checkpoints behind all that is folded, or of the last one of these.
        let _folding = lock(&self.folding);
        if lock(&self.manifest).settle(&self.storage)? {
            self.clear()?;
        }
        let plan = match self.plan(&self.pinned()?, retention, now_ns) {
            Ok(plan) => plan,
            Err(reason) => return Ok(reason),
        };
        let result = self.carry_out(&plan, pace);
        if !matches!(result, Ok(Folded::Done)) {
            // It is tried again, maybe for days. What cannot be removed now is when the volume is opened.
            let _ = self.clear();
        }
        result
    }

    /// Removes what a fold has left that came to nothing. Only folding changes which files count, so that nothing of them
    /// changes meanwhile.
    fn clear(&self) -> Result<(), VolumeError> {
        let manifest = {
            let keeper = lock(&self.manifest);
            if keeper.is_in_doubt() {
                // The one on disk may refer to it.
                return Ok(());
            }
            keeper.get().clone()
        };
        remove_leftovers(&self.storage, &manifest)
    }

    fn pinned(&self) -> Result<BTreeSet<u64>, VolumeError> {
        self.storage.pinned().map_err(VolumeError::file("look for pins in", names::READERS))
    }

    /// What is to be done, or why nothing is.
    fn plan(&self, pinned: &BTreeSet<u64>, retention: Retention, now_ns: i64) -> Result<Plan, Folded> {
        // Held together: a snapshot that is made meanwhile is of a checkpoint behind those that are folded.
        let manifest = lock(&self.manifest);
        let mut log = lock(&self.log);
        let manifest = manifest.get();
        if manifest.restore.is_some() {
            // Its target may be any checkpoint.
            return Err(Folded::Nothing);
        }
        let named = manifest.snapshots.iter().map(|snapshot| snapshot.seq);
        let needed: BTreeSet<u64> = named.chain(pinned.iter().copied()).collect();
        let files = log.files.iter().filter(|file| file.bytes > 0);
        let candidates: Vec<Candidate> =
            files.map(|file| candidate(file, manifest.base.id.seq, &needed)).collect();
        let base_bytes = {
            let base = lock(&self.base);
            base.bytes_before + base.end
        };
        let settled_bytes: u64 =
            candidates.iter().filter(|file| file.is_settled).map(|file| file.bytes).sum();
        let pinned_bytes =
            if needed.contains(&manifest.base.id.seq) { base_bytes + settled_bytes } else { 0 };
        let stock = Stock { files: &candidates, base_bytes, pinned_bytes };
        let files = match choose(stock, retention, now_ns) {
            Choice::Nothing => return Err(Folded::Nothing),
            Choice::IsPinned => return Err(Folded::IsPinned { bytes: pinned_bytes }),
            Choice::Fold(files) => files,
        };
        let is_last = files == candidates.len();
        let Some(last) = files.checked_sub(1).and_then(|last| log.files.get_mut(last)) else {
            return Err(Folded::Nothing);
        };
        if last.is_spoiled || (is_last && !last.is_closed && self.is_cutting()) {
            // It is being written. Another time.
            return Err(Folded::Nothing);
        }
        last.is_closed = true;
        let end = last.last;
        let base = manifest.base;
        let is_between = |seq: &u64| (base.id.seq..end.id.seq).contains(seq);
        let mut points: Vec<u64> = needed.into_iter().filter(is_between).collect();
        points.push(end.id.seq);
        let has_new_base = points[0] != base.id.seq;
        Ok(Plan { files, end, points, base, has_new_base })
    }

    /// Whether a segment is being written, or will be when the log is let go: until the cut has ended, and not only until its
    /// segment is taken to be finished.
    fn is_cutting(&self) -> bool {
        lock(&self.segment).is_some() || lock(&self.tracker).machine.is_cutting()
    }

    /// From now on only what has changed since the new base counts as touched. Returns these blocks.
    fn move_base(&self, new_base: u64) -> Result<BlockSet, VolumeError> {
        let mut changed = BlockSet::new();
        let mut known = new_base;
        let first = lock(&self.manifest).get().base_file;
        loop {
            let tip = lock(&self.log).tip.id.seq;
            let history = History::open_alone(self.storage.clone())?.up_to(tip);
            changed.extend(&history.changed_since(known)?);
            known = tip;
            let log = lock(&self.log);
            if log.tip.id.seq != tip {
                continue;
            }
            let mut base = lock(&self.base);
            if base.end == 0 && base.number > first {
                // The last fold came to nothing, and nothing has been kept since: its new file will do.
                return Ok(lock(&self.tracker).machine.move_base(&changed));
            }
            // It is not written to any more: what a failed write has left behind its end is not to be taken for damage.
            let name = &base.file.name;
            base.file.file.resize(base.end).map_err(VolumeError::file("cut", name))?;
            base.file.file.sync().map_err(VolumeError::file("sync", name))?;
            let live = new_base_file(&self.storage, self.uuid, base.number + 1)?;
            let bytes_before = base.bytes_before + base.end;
            *base = BaseFile { bytes_before, ..live };
            return Ok(lock(&self.tracker).machine.move_base(&changed));
        }
    }

    fn hold_alone(&self, pace: Pace<'_>) -> Result<Option<S::Hold>, VolumeError> {
        for _ in 0..HOLD_TRIES {
            if let Some(hold) = self.storage.try_own().map_err(VolumeError::file("hold", names::LOG))? {
                return Ok(Some(hold));
            }
            pace(HOLD_PACE_BYTES);
        }
        Ok(None)
    }

    fn carry_out(&self, plan: &Plan, pace: Pace<'_>) -> Result<Folded, VolumeError> {
        let stays = if plan.has_new_base { self.move_base(plan.points[0])? } else { BlockSet::new() };
        let live = lock(&self.base).number;
        let mut base_bytes = 0;
        let base = if plan.has_new_base {
            base_bytes = self.write_base(plan.points[0], live, &stays, pace)?;
            self.point_at(plan.points[0])?
        } else {
            plan.base
        };
        let merged = self.write_merged(plan, base, pace)?;
        // What is cold from now on is on the disk alone.
        self.flush().map_err(VolumeError::file("sync", names::DISK))?;
        // Who reads holds the files that go: it is waited for, and who comes meanwhile waits for a moment only.
        let Some(_hold) = self.hold_alone(pace)? else { return Ok(Folded::IsRead) };
        // Who has pinned a checkpoint since looks for it after this, and finds it gone.
        if self.pinned()?.iter().any(|seq| plan.takes(*seq)) {
            return Ok(Folded::IsRead);
        }
        let mut manifest = lock(&self.manifest);
        let mut log = lock(&self.log);
        let remaining = log.files.get(plan.files).filter(|file| !file.is_merged);
        let changed = Manifest {
            base,
            folded: if plan.has_new_base { Some(live) } else { manifest.get().folded },
            base_file: if plan.has_new_base { live } else { manifest.get().base_file },
            merged: merged.as_ref().map(|(number, _)| *number),
            log_file: remaining.map_or(log.tip.id.seq + 1, first_number),
            ..manifest.get().clone()
        };
        let former = manifest.change(&self.storage, changed)?;
        let gone: Vec<String> = log.files.drain(..plan.files).map(|file| file.name).collect();
        if log.files.is_empty() {
            log.open = None;
        }
        if let Some((_, file)) = merged {
            log.files.insert(0, file);
        }
        drop(log);
        if plan.has_new_base {
            lock(&self.base).bytes_before = base_bytes;
        }
        drop(manifest);
        let bases = if plan.has_new_base { former.base_file..live } else { 0..0 };
        let folded = former.folded.filter(|_| plan.has_new_base).map(names::folded_file);
        // What is not removed now is when the volume is opened.
        for name in gone.into_iter().chain(folded).chain(bases.map(names::base_file)) {
            let _ = self.storage.remove(&name);
        }
        Ok(Folded::Done)
    }

    /// Writes what the touched blocks held at the new base; how many bytes that took.
    fn write_base(
        &self,
        seq: u64,
        number: u64,
        stays: &BlockSet,
        pace: Pace<'_>,
    ) -> Result<u64, VolumeError> {
        let id = self.point_at(seq)?.id;
        let mut file = new_folded_file(&self.storage, self.uuid, number)?;
        let mut from = 0;
        while let Some(window) = window_from(stays, from) {
            from = window.end;
            let view = History::open_alone(self.storage.clone())?.view_within(seq, window.clone())?;
            let mut writer = SegmentWriter::new(Arc::clone(&file.file), file.end);
            for run in stays.runs_in(&window).iter().flat_map(split) {
                // What the disk had not yet is zeroes.
                let mut content = vec![0; bytes(&run)];
                view.read_at(run.start * crate::block::BLOCK_BYTES, &mut content)?;
                pace(content.len() as u64);
                writer.push(pack(run.start, &content, Packing::WherePays))?;
                if writer.table_bytes() > TABLE_BYTES {
                    self.finish_base(&mut file, id, writer)?;
                    writer = SegmentWriter::new(Arc::clone(&file.file), file.end);
                }
            }
            if !writer.is_empty() {
                self.finish_base(&mut file, id, writer)?;
            }
        }
        self.storage.sync_folder(names::BASE).map_err(VolumeError::file("sync", names::BASE))?;
        Ok(file.end)
    }

    fn point_at(&self, seq: u64) -> Result<Point, VolumeError> {
        let history = History::open_alone(self.storage.clone())?;
        let located = history.locate(seq)?;
        Ok(located.map_or(history.manifest().base, |located| super::open::point(&located)))
    }

    fn next_merged(&self) -> u64 {
        lock(&self.manifest).get().merged.map_or(0, |number| number + 1)
    }

    /// Puts the segments between two points into one each.
    fn write_merged(&self, plan: &Plan, base: Point, pace: Pace<'_>) -> Result<Option<Merged>, VolumeError> {
        let points: Vec<u64> = plan.points.iter().copied().filter(|seq| *seq > base.id.seq).collect();
        if points.is_empty() {
            return Ok(None);
        }
        let number = self.next_merged();
        let name = names::merged_file(number);
        let file = self.storage.create(&name).map_err(VolumeError::file("make", &name))?;
        let file = Arc::new(ChainFile { name: name.clone(), volume: self.uuid, file });
        let (mut end, mut parent, mut first) = (0, base, None);
        let segments = points.len() as u64;
        for point in points {
            let located = self.merge(&file, end, parent, point, pace)?;
            end = located.offset + located.header.bytes();
            parent = super::open::point(&located);
            first.get_or_insert(parent);
        }
        self.storage.sync_folder(names::LOG).map_err(VolumeError::file("sync", names::LOG))?;
        let first = first.unwrap_or(parent);
        let merged = LogFile {
            name,
            bytes: end,
            first,
            last: plan.end,
            is_merged: true,
            segments,
            is_closed: true,
            is_spoiled: false,
        };
        Ok(Some((number, merged)))
    }

    fn merge(
        &self,
        file: &Arc<ChainFile<S::File>>,
        start: u64,
        parent: Point,
        seq: u64,
        pace: Pace<'_>,
    ) -> Result<Located, VolumeError> {
        let history = History::open_alone(self.storage.clone())?;
        let blocks = history.changed_between(parent.id.seq, seq)?;
        let missing = VolumeError::NoCheckpoint { seq, first: parent.id.seq, last: seq };
        let located = history.locate(seq)?.ok_or(missing)?;
        let companions = history.companions(seq)?;
        let header = Header {
            parent: parent.id,
            parent_hash: parent.hash,
            marks: Marks { is_merged: true, ..located.header.marks },
            stands_for: located.identity,
            ..located.header
        };
        let mut writer = SegmentWriter::new(Arc::clone(file), start);
        let mut from = 0;
        while let Some(window) = window_from(&blocks, from) {
            from = window.end;
            history.changes(parent.id.seq, seq, window)?.each(|blocks, content| {
                match content {
                    None => writer.push(vec![zeroes(&blocks)])?,
                    Some(content) => {
                        pace(content.len() as u64);
                        writer.push(pack(blocks.start, content, Packing::WherePays))?;
                    }
                }
                if writer.table_bytes() > S::TABLE_BYTES {
                    writer.finish_part(header.clone())
                } else {
                    Ok(())
                }
            })?;
        }
        writer.finish(header, &companions)
    }
}

/// A file as the choice sees it; `needed` are the checkpoints that stay.
fn candidate(file: &LogFile, base: u64, needed: &BTreeSet<u64>) -> Candidate {
    let last = file.last.id.seq;
    let within = needed.iter().filter(|seq| **seq > base && **seq < last).count() as u64;
    let is_settled = file.is_merged && needed.contains(&base) && file.segments == within + 1;
    Candidate { last: file.last, bytes: file.bytes, is_settled }
}

fn first_number(file: &LogFile) -> u64 {
    let name = file.name.rsplit('/').next().unwrap_or_default().to_owned();
    names::log_numbers(&[name]).first().copied().unwrap_or(file.first.id.seq)
}

/// The next window of a set's blocks, from a block on.
fn window_from(set: &BlockSet, from: u64) -> Option<Range<u64>> {
    let start = set.run_from(from, 1)?.start;
    Some(start..start.saturating_add(WINDOW_BLOCKS))
}

fn bytes(blocks: &Range<u64>) -> usize {
    usize::try_from((blocks.end - blocks.start) * crate::block::BLOCK_BYTES).unwrap_or(usize::MAX)
}
