//! The history of a volume as it lies on disk, for those who read it: which checkpoints there are, and what the disk held
//! at one of them. Reads only; it works beside whoever writes the volume, who must not move the base meanwhile.

mod files;
mod map;
mod pinned;
mod verify;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use crate::block::{BLOCK_BYTES, BlockSet};
use crate::chain::{ChainFile, End, Located};
use crate::error::VolumeError;
use crate::intents::{Intents, Known};
use crate::lock;
use crate::manifest::{Manifest, Point};
use crate::names;
use crate::segment::{CheckpointId, Companion, Damage, Extent, Marks, Stored};
use crate::storage::{Storage, StoredFile};
use files::{Files, NamedFile};
use map::RangeMap;

pub use pinned::Pinned;
pub use verify::verify_restore;
pub(crate) use verify::{each_changed, verify_restore_up_to};

/// Extents whose content is kept for the next read: a reader of a file system comes back to the same ones.
const CONTENTS_MAX: usize = 16;

/// A checkpoint that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which.
    pub id: CheckpointId,
    /// When it was cut, nanoseconds since 1970 UTC.
    pub time_ns: i64,
    /// What is known of it.
    pub marks: Marks,
    /// Size of the disk, bytes.
    pub disk_bytes: u64,
    /// Bytes of its segment; none for the base.
    pub segment_bytes: u64,
}

/// The files of a history, opened for reading.
#[derive(Debug)]
pub struct History<S: Storage> {
    files: Arc<Files<S>>,
    /// Nobody moves the base meanwhile; whoever does it has no such hold.
    _hold: Option<S::Hold>,
    manifest: Manifest,
    /// How far it goes for certain: what ends before is damaged, and not being written.
    known: Known,
    disk: S::File,
    logs: Vec<Arc<ChainFile<NamedFile<S>>>>,
    bases: Vec<BaseSeen<NamedFile<S>>>,
}

#[derive(Debug)]
struct BaseSeen<F> {
    file: Arc<ChainFile<F>>,
    /// Up to where it has been read, and how many segments that were.
    seen: u64,
    segments: u64,
}

impl<S: Storage> History<S> {
    /// Opens the files of a history.
    ///
    /// # Errors
    /// It has no description or no disk, or a file cannot be opened.
    pub fn open(storage: S) -> Result<Self, VolumeError> {
        let hold = storage.share().map_err(VolumeError::file("hold", names::LOG))?;
        Ok(Self { _hold: Some(hold), ..Self::open_alone(storage)? })
    }

    /// The same for who changes the history.
    pub(crate) fn open_alone(storage: S) -> Result<Self, VolumeError> {
        let missing = || VolumeError::Manifest { name: names::MANIFEST, problem: "it is missing".to_owned() };
        let manifest = Manifest::load(&storage)?.ok_or_else(missing)?;
        let known = Intents::known_of(&storage)?;
        let disk = storage.open(names::DISK).map_err(VolumeError::file("open", names::DISK))?;
        let disk = disk.ok_or(VolumeError::NoDisk { name: names::DISK })?;
        let listed = storage.list(names::LOG).map_err(VolumeError::file("list", names::LOG))?;
        let numbers = names::log_numbers(&listed).into_iter().filter(|number| *number >= manifest.log_file);
        let log_names =
            manifest.merged.map(names::merged_file).into_iter().chain(numbers.map(names::log_file));
        let (files, volume) = (Files::new(storage), manifest.uuid);
        let logs = log_names.map(|name| {
            let file = files.named(&name);
            Arc::new(ChainFile { name, volume, file })
        });
        let logs = logs.collect();
        Ok(Self { files, _hold: None, manifest, known, disk, logs, bases: Vec::new() })
    }

    /// The same history for who knows that it goes up to a checkpoint at least.
    pub(crate) fn up_to(mut self, seq: u64) -> Self {
        self.known.seq = self.known.seq.max(seq);
        self
    }

    /// What the volume is.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Every checkpoint that can be read, in order, the base first. A segment that is being written, or was torn, ends the
    /// list of its file.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<Checkpoint>, VolumeError> {
        let Point { id, time_ns, .. } = self.manifest.base;
        let disk_bytes = self.disk.bytes().map_err(VolumeError::file("read", names::DISK))?;
        let base = Checkpoint { id, time_ns, marks: Marks::default(), disk_bytes, segment_bytes: 0 };
        let mut list = vec![base];
        let mut segment_bytes = 0;
        self.walk(|_, located| {
            segment_bytes += located.header.bytes();
            if !located.header.marks.is_part {
                list.push(Checkpoint {
                    id: located.header.id,
                    time_ns: located.header.time_ns,
                    marks: located.header.marks,
                    disk_bytes: located.header.disk_blocks * BLOCK_BYTES,
                    segment_bytes: std::mem::take(&mut segment_bytes),
                });
            }
            Ok(true)
        })?;
        Ok(list)
    }

    /// The newest checkpoint that can be read.
    pub(crate) fn newest(&self) -> Result<u64, VolumeError> {
        let mut newest = self.manifest.base.id.seq;
        self.walk(|_, located| {
            if !located.header.marks.is_part {
                newest = located.header.id.seq;
            }
            Ok(true)
        })?;
        Ok(newest)
    }

    /// The volumes that were cut with a checkpoint and changed, with their checkpoints.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn companions(&self, seq: u64) -> Result<Vec<Companion>, VolumeError> {
        let mut companions = Vec::new();
        self.walk(|file, located| {
            if leads_to(located, seq) {
                companions = file.table(located)?.companions;
            }
            Ok(is_before(located, seq))
        })?;
        Ok(companions)
    }

    /// Tells of each segment in order, until `each` has enough. What ends before the end that is known, or before another
    /// file that does not follow, is damage: else what comes behind would be missed in silence.
    fn walk(
        &self,
        mut each: impl FnMut(&Arc<ChainFile<NamedFile<S>>>, &Located) -> Result<bool, VolumeError>,
    ) -> Result<(), VolumeError> {
        let Point { hash: mut previous, id: mut last, .. } = self.manifest.base;
        let mut broken = None;
        for file in &self.logs {
            let (mut result, mut is_empty) = (Ok(true), true);
            // Parts count with the last one of their checkpoint. Those of a cut that failed have none behind them.
            let mut parts = Vec::new();
            let end = file.walk(0, Some(previous), |located| {
                is_empty = false;
                parts.push(located);
                let Some(Located { header, identity, .. }) =
                    parts.last().filter(|last| !last.header.marks.is_part)
                else {
                    return true;
                };
                (previous, last) = (*identity, header.id);
                for located in parts.drain(..) {
                    result = each(file, &located);
                    if !matches!(result, Ok(true)) {
                        return false;
                    }
                }
                true
            })?;
            file.refuse_foreign(&end)?;
            if !result? {
                return Ok(());
            }
            // What is broken in front of a segment that follows was never finished.
            broken = broken.filter(|_| is_empty);
            if let End::Broken { offset, damage } = end {
                let is_gap = is_empty && damage == Damage::Chain;
                broken = broken.or_else(|| Some(file.damaged(offset, damage)));
                if let Some(damaged) = broken.take_if(|_| is_gap) {
                    return Err(damaged);
                }
            }
        }
        if last.seq < self.known.seq {
            let name = self.logs.last().map_or_else(|| names::LOG.to_owned(), |file| file.name.clone());
            let missing = VolumeError::Damaged { name, offset: 0, source: Damage::Missing };
            return Err(broken.unwrap_or(missing));
        }
        Ok(())
    }

    /// The disk as it was at a checkpoint.
    ///
    /// # Errors
    /// There is no such checkpoint, or a file cannot be read or is damaged.
    pub fn view(self, seq: u64) -> Result<View<S>, VolumeError> {
        self.view_within(seq, 0..u64::MAX)
    }

    /// The same, of which only some blocks will be read: it takes memory for no others.
    pub(crate) fn view_within(mut self, seq: u64, window: Range<u64>) -> Result<View<S>, VolumeError> {
        let mut map = RangeMap::new(window);
        let mut last = self.manifest.base.id.seq;
        let mut disk_blocks = None;
        if seq != last {
            self.walk(|file, located| {
                last = located.header.id.seq;
                if last > seq {
                    return Ok(false);
                }
                insert(&mut map, file, located, Precedence::Newest)?;
                disk_blocks = leads_to(located, seq).then_some(located.header.disk_blocks);
                Ok(is_before(located, seq))
            })?;
            if disk_blocks.is_none() {
                let first = self.manifest.base.id.seq;
                return Err(VolumeError::NoCheckpoint { seq, first, last });
            }
        }
        self.read_base(&mut map)?;
        let bytes = self.disk.bytes().map_err(VolumeError::file("read", names::DISK))?;
        let disk_blocks = disk_blocks.unwrap_or(bytes / BLOCK_BYTES);
        let inner = Inner { map, history: self, contents: Contents::default() };
        Ok(View { disk_blocks, inner: Mutex::new(inner) })
    }

    /// The blocks of segments behind a checkpoint.
    ///
    /// # Errors
    /// A file cannot be read or is damaged.
    pub fn changed_since(&self, seq: u64) -> Result<BlockSet, VolumeError> {
        self.changed_between(seq, u64::MAX)
    }

    /// The blocks of segments behind one checkpoint and up to another.
    pub(crate) fn changed_between(&self, behind: u64, until: u64) -> Result<BlockSet, VolumeError> {
        let mut changed = BlockSet::new();
        self.walk(|file, located| {
            let seq = located.header.id.seq;
            if seq > behind && seq <= until {
                file.table(located)?.extents.iter().for_each(|extent| changed.insert(extent.blocks()));
            }
            Ok(is_before(located, until))
        })?;
        Ok(changed)
    }

    /// The segment that leads to a checkpoint.
    pub(crate) fn locate(&self, seq: u64) -> Result<Option<Located>, VolumeError> {
        let mut found = None;
        self.walk(|_, located| {
            if leads_to(located, seq) {
                found = Some(located.clone());
            }
            Ok(is_before(located, seq))
        })?;
        Ok(found)
    }

    /// Where the newest content is of what changed behind one checkpoint and up to another, within a window.
    pub(crate) fn changes(
        &self,
        behind: u64,
        until: u64,
        window: Range<u64>,
    ) -> Result<Changes<NamedFile<S>>, VolumeError> {
        let mut map = RangeMap::new(window);
        self.walk(|file, located| {
            let seq = located.header.id.seq;
            if seq > behind && seq <= until {
                insert(&mut map, file, located, Precedence::Newest)?;
            }
            Ok(is_before(located, until))
        })?;
        Ok(Changes { map, contents: Contents::default() })
    }

    /// Adds what the base's files have got since they were last read.
    fn read_base(&mut self, map: &mut RangeMap<Place<NamedFile<S>>>) -> Result<(), VolumeError> {
        let listed = self.files.storage.list(names::BASE).map_err(VolumeError::file("list", names::BASE))?;
        let volume = self.manifest.uuid;
        let first = self.manifest.base_file;
        let folded = self.manifest.folded.map(names::folded_file);
        let numbers = names::base_numbers(&listed).into_iter().filter(|number| *number >= first);
        let numbers: Vec<u64> = numbers.collect();
        let is_new = folded.is_none() && self.known == Known::default() && self.logs.is_empty();
        if !(numbers.is_empty() && is_new) {
            refuse_gaps(&self.manifest, self.known, &numbers)?;
        }
        for name in folded.into_iter().chain(numbers.iter().copied().map(names::base_file)) {
            if self.bases.iter().any(|base| base.file.name == name) {
                continue;
            }
            let file = self.files.named(&name);
            let file = Arc::new(ChainFile { name, volume, file });
            self.bases.push(BaseSeen { file, seen: 0, segments: 0 });
        }
        let live = numbers.last().copied().unwrap_or_default();
        let (live_name, known) = (names::base_file(live), self.known);
        let known_name = names::base_file(known.base_file);
        for base in &mut self.bases {
            let mut result = Ok(());
            // The hash of the one before is looked at by whoever opens the volume: a reader takes up in the middle.
            let end = base.file.walk(base.seen, None, |located| {
                result = insert(map, &base.file, &located, Precedence::Oldest);
                if result.is_ok() {
                    base.seen = located.offset + located.header.bytes();
                    base.segments += 1;
                }
                result.is_ok()
            })?;
            result?;
            base.file.refuse_foreign(&end)?;
            // Only the last file is being written to, behind what is known. The disk's own blocks must not be taken for those
            // that are missed.
            let is_short = base.file.name == known_name && base.segments < known.base_segments;
            match end {
                End::Broken { offset, damage } if is_short || base.file.name != live_name => {
                    return Err(base.file.damaged(offset, damage));
                }
                End::Whole { bytes } if is_short => {
                    return Err(base.file.damaged(bytes, Damage::Missing));
                }
                End::Broken { .. } | End::Whole { .. } => {}
            }
        }
        Ok(())
    }
}

/// The first file of base blocks is there before anything is marked or cut, and their numbers have no gaps. Without
/// one of them the disk's own blocks would be taken for those of the base.
pub(crate) fn refuse_gaps(manifest: &Manifest, known: Known, numbers: &[u64]) -> Result<(), VolumeError> {
    let end = numbers.last().map_or(0, |last| last + 1).max(known.base_file + 1).max(manifest.base_file + 1);
    match (manifest.base_file..end).find(|number| numbers.binary_search(number).is_err()) {
        Some(number) => {
            Err(VolumeError::Damaged { name: names::base_file(number), offset: 0, source: Damage::Missing })
        }
        None => Ok(()),
    }
}

/// Whether a segment is a checkpoint's last, or only one.
fn leads_to(located: &Located, seq: u64) -> bool {
    located.header.id.seq == seq && !located.header.marks.is_part
}

/// Whether a checkpoint's last segment comes behind this one.
fn is_before(located: &Located, seq: u64) -> bool {
    located.header.id.seq < seq || located.header.marks.is_part
}

/// Which of several contents of a block counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precedence {
    Newest,
    Oldest,
}

/// Where the content of a block is.
#[derive(Debug)]
struct Place<F> {
    file: Arc<ChainFile<F>>,
    segment: u64,
    extent: Arc<Extent>,
}

impl<F> Clone for Place<F> {
    fn clone(&self) -> Self {
        Self { file: Arc::clone(&self.file), segment: self.segment, extent: Arc::clone(&self.extent) }
    }
}

fn insert<F: StoredFile>(
    map: &mut RangeMap<Place<F>>,
    file: &Arc<ChainFile<F>>,
    located: &Located,
    precedence: Precedence,
) -> Result<(), VolumeError> {
    for extent in file.table(located)?.extents {
        let blocks = extent.blocks();
        let place = Place { file: Arc::clone(file), segment: located.offset, extent: Arc::new(extent) };
        match precedence {
            Precedence::Newest => map.replace(blocks, place),
            Precedence::Oldest => map.fill(blocks, &place),
        }
    }
    Ok(())
}

/// What changed between two checkpoints.
#[derive(Debug)]
pub(crate) struct Changes<F> {
    map: RangeMap<Place<F>>,
    contents: Contents,
}

impl<F: StoredFile> Changes<F> {
    /// Tells of each run of blocks in order: its content, or none for zeroes.
    pub(crate) fn each(
        &mut self,
        mut each: impl FnMut(Range<u64>, Option<&[u8]>) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        for (blocks, place) in self.map.iter() {
            if place.extent.stored == Stored::Zeroes {
                each(blocks, None)?;
                continue;
            }
            let content = self.contents.of(place)?;
            let skip = bytes(blocks.start - place.extent.start);
            let count = bytes(blocks.end - blocks.start);
            each(blocks, Some(&content[skip..skip + count]))?;
        }
        Ok(())
    }
}

/// The disk as it was at a checkpoint.
#[derive(Debug)]
pub struct View<S: Storage> {
    disk_blocks: u64,
    inner: Mutex<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S: Storage> {
    map: RangeMap<Place<NamedFile<S>>>,
    history: History<S>,
    contents: Contents,
}

/// The content of extents that were read last.
#[derive(Debug, Default)]
struct Contents {
    kept: BTreeMap<ContentKey, Content>,
    clock: u64,
}

/// The file's name, the segment, and the extent's place in it.
type ContentKey = (String, u64, u64);

#[derive(Debug)]
struct Content {
    /// When it was used last, by the clock.
    used: u64,
    bytes: Arc<Vec<u8>>,
}

impl<S: Storage> View<S> {
    /// Size of the disk then, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.disk_blocks * BLOCK_BYTES
    }

    /// Holds the history no longer. Who goes on reading finds out by itself whether it has changed.
    fn let_go(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.history._hold = None;
    }

    /// Fills a buffer with what the disk held from a block on.
    ///
    /// # Errors
    /// A file cannot be read or is damaged: which, and where, is said.
    pub fn read_blocks(&self, start: u64, into: &mut [u8]) -> Result<(), VolumeError> {
        let blocks = start..start + into.len() as u64 / BLOCK_BYTES;
        let inner = &mut *lock(&self.inner);
        let mut from = blocks.start;
        while from < blocks.end {
            let rest = &mut into[bytes(from - blocks.start)..];
            from += inner.read_some(from, blocks.end, rest)?;
        }
        Ok(())
    }

    /// Fills a buffer from any place; what lies behind the end is zeroes.
    ///
    /// # Errors
    /// As [`View::read_blocks`].
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), VolumeError> {
        let end = offset.saturating_add(into.len() as u64).min(self.bytes());
        into.fill(0);
        if offset >= end {
            return Ok(());
        }
        let (first, last) = (offset / BLOCK_BYTES, end.div_ceil(BLOCK_BYTES));
        let mut whole = vec![0; bytes(last - first)];
        self.read_blocks(first, &mut whole)?;
        let skip = usize::try_from(offset - first * BLOCK_BYTES).unwrap_or_default();
        let count = usize::try_from(end - offset).unwrap_or_default();
        into[..count].copy_from_slice(&whole[skip..skip + count]);
        Ok(())
    }
}

fn bytes(blocks: u64) -> usize {
    usize::try_from(blocks * BLOCK_BYTES).unwrap_or(usize::MAX)
}

impl<S: Storage> Inner<S> {
    /// Reads from one place; how many blocks that was.
    fn read_some(&mut self, from: u64, end: u64, into: &mut [u8]) -> Result<u64, VolumeError> {
        match self.map.at(from) {
            Some((part, place)) => {
                let place = place.clone();
                let count = part.end.min(end) - from;
                let into = &mut into[..bytes(count)];
                if place.extent.stored == Stored::Zeroes {
                    into.fill(0);
                } else {
                    let content = self.contents.of(&place)?;
                    let skip = bytes(from - place.extent.start);
                    into.copy_from_slice(&content[skip..skip + into.len()]);
                }
                Ok(count)
            }
            None => {
                let gap = self.map.gap(from, end);
                self.read_disk(gap.clone(), &mut into[..bytes(gap.end - gap.start)])?;
                Ok(gap.end - gap.start)
            }
        }
    }

    /// Reads cold blocks from the disk itself. Whoever overwrites one has kept what it held before: so if nothing of it is
    /// kept after the read, it was read before it was overwritten.
    fn read_disk(&mut self, blocks: Range<u64>, into: &mut [u8]) -> Result<(), VolumeError> {
        let read = self.history.disk.read_into(blocks.start * BLOCK_BYTES, into);
        read.map_err(VolumeError::file("read", names::DISK))?;
        self.history.read_base(&mut self.map)?;
        for part in self.map.parts_in(&blocks) {
            let at = bytes(part.start - blocks.start);
            let until = bytes(part.end - blocks.start);
            let mut from = part.start;
            let into = &mut into[at..until];
            while from < part.end {
                let rest = &mut into[bytes(from - part.start)..];
                from += self.read_some(from, part.end, rest)?;
            }
        }
        Ok(())
    }
}

impl Contents {
    fn of<F: StoredFile>(&mut self, place: &Place<F>) -> Result<Arc<Vec<u8>>, VolumeError> {
        self.clock += 1;
        let key = (place.file.name.clone(), place.segment, place.extent.offset);
        if let Some(content) = self.kept.get_mut(&key) {
            content.used = self.clock;
            return Ok(Arc::clone(&content.bytes));
        }
        let content = Arc::new(place.file.content(place.segment, &place.extent)?);
        if self.kept.len() >= CONTENTS_MAX {
            let oldest = self.kept.iter().min_by_key(|(_, content)| content.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.kept.remove(&key));
        }
        self.kept.insert(key, Content { used: self.clock, bytes: Arc::clone(&content) });
        Ok(content)
    }
}

impl<S: Storage> crate::inspect::source::Source for View<S> {
    fn bytes(&self) -> u64 {
        View::bytes(self)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        View::read_at(self, offset, into).map_err(io::Error::from)
    }
}

impl From<VolumeError> for io::Error {
    fn from(error: VolumeError) -> Self {
        match error {
            VolumeError::File { source, .. } => source,
            error => io::Error::other(error),
        }
    }
}
