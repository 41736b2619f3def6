//! The history of a volume as it lies on disk, for those who read it: which checkpoints there are, and what the disk held
//! at one of them. Reads only; it works beside whoever writes the volume, who must not move the base meanwhile.

mod map;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::block::{BLOCK_BYTES, BlockSet};
use crate::chain::{ChainFile, End, Located};
use crate::error::VolumeError;
use crate::manifest::{Manifest, Point};
use crate::names;
use crate::segment::{CheckpointId, Companion, Damage, Extent, Marks, Stored};
use crate::storage::{Storage, StoredFile};
use map::RangeMap;

/// Extents whose content is kept for the next read: a reader of a file system comes back to the same ones.
const CONTENTS_MAX: usize = 16;

/// Blocks that are read at once where nothing but their checksums is of interest: a mebibyte.
const VERIFY_BLOCKS: u64 = 256;

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
    storage: S,
    /// Nobody moves the base meanwhile; whoever does it has no such hold.
    _hold: Option<S::Hold>,
    manifest: Manifest,
    disk: S::File,
    logs: Vec<Arc<ChainFile<S::File>>>,
    bases: Vec<BaseSeen<S::File>>,
}

#[derive(Debug)]
struct BaseSeen<F> {
    file: Arc<ChainFile<F>>,
    /// Up to where it has been read.
    seen: u64,
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
        let disk = storage.open(names::DISK).map_err(VolumeError::file("open", names::DISK))?;
        let disk = disk.ok_or(VolumeError::NoDisk { name: names::DISK })?;
        let mut logs = Vec::new();
        let listed = storage.list(names::LOG).map_err(VolumeError::file("list", names::LOG))?;
        let numbers = names::log_numbers(&listed).into_iter().filter(|number| *number >= manifest.log_file);
        let log_names =
            manifest.merged.map(names::merged_file).into_iter().chain(numbers.map(names::log_file));
        for name in log_names {
            if let Some(file) = storage.open(&name).map_err(VolumeError::file("open", &name))? {
                logs.push(Arc::new(ChainFile { name, file }));
            }
        }
        Ok(Self { storage, _hold: None, manifest, disk, logs, bases: Vec::new() })
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
        self.walk(|_, located| {
            list.push(Checkpoint {
                id: located.header.id,
                time_ns: located.header.time_ns,
                marks: located.header.marks,
                disk_bytes: located.header.disk_blocks * BLOCK_BYTES,
                segment_bytes: located.header.bytes(),
            });
            Ok(true)
        })?;
        Ok(list)
    }

    /// The volumes that were cut with a checkpoint and changed, with their checkpoints.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn companions(&self, seq: u64) -> Result<Vec<Companion>, VolumeError> {
        let mut companions = Vec::new();
        self.walk(|file, located| {
            if located.header.id.seq == seq {
                companions = file.table(located)?.companions;
            }
            Ok(located.header.id.seq < seq)
        })?;
        Ok(companions)
    }

    /// Tells of each segment in order, until `each` has enough.
    fn walk(
        &self,
        mut each: impl FnMut(&Arc<ChainFile<S::File>>, &Located) -> Result<bool, VolumeError>,
    ) -> Result<(), VolumeError> {
        let mut previous = self.manifest.base.hash;
        for file in &self.logs {
            let mut result = Ok(true);
            file.walk(0, Some(previous), |located| {
                previous = located.identity;
                result = each(file, &located);
                matches!(result, Ok(true))
            })?;
            if !result? {
                return Ok(());
            }
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
                disk_blocks = (last == seq).then_some(located.header.disk_blocks);
                Ok(last < seq)
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

    /// Verifies all that is stored. `pace` is told of bytes.
    ///
    /// # Errors
    /// A file cannot be read, or is damaged: which, and where.
    pub fn verify(mut self, pace: &dyn Fn(u64)) -> Result<(), VolumeError> {
        // Opens the base's files, and looks at their tables.
        self.read_base(&mut RangeMap::new(0..0))?;
        let bases = self.bases.iter().map(|base| &base.file);
        for file in bases.chain(&self.logs) {
            let mut result = Ok(());
            let end = file.walk(0, None, |located| {
                pace(located.header.bytes());
                result = file.verify(&located);
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

    /// Reads all that a restore to a checkpoint is made of, so that none is begun that cannot be carried to its end.
    ///
    /// # Errors
    /// There is no such checkpoint, or a file cannot be read or is damaged.
    pub fn verify_restore(self, seq: u64) -> Result<(), VolumeError> {
        let changed = self.changed_since(seq)?;
        let view = self.view(seq)?;
        let mut content = vec![0; bytes(VERIFY_BLOCKS)];
        for run in changed.runs() {
            let mut from = run.start;
            while from < run.end {
                let end = run.end.min(from + VERIFY_BLOCKS);
                view.read_at(from * BLOCK_BYTES, &mut content[..bytes(end - from)])?;
                from = end;
            }
        }
        Ok(())
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
            Ok(seq < until)
        })?;
        Ok(changed)
    }

    /// The segment that leads to a checkpoint.
    pub(crate) fn locate(&self, seq: u64) -> Result<Option<Located>, VolumeError> {
        let mut found = None;
        self.walk(|_, located| {
            if located.header.id.seq == seq {
                found = Some(located.clone());
            }
            Ok(located.header.id.seq < seq)
        })?;
        Ok(found)
    }

    /// Where the newest content is of what changed behind one checkpoint and up to another, within a window.
    pub(crate) fn changes(
        &self,
        behind: u64,
        until: u64,
        window: Range<u64>,
    ) -> Result<Changes<S::File>, VolumeError> {
        let mut map = RangeMap::new(window);
        self.walk(|file, located| {
            let seq = located.header.id.seq;
            if seq > behind && seq <= until {
                insert(&mut map, file, located, Precedence::Newest)?;
            }
            Ok(seq < until)
        })?;
        Ok(Changes { map, contents: Contents::default() })
    }

    /// Adds what the base's files have got since they were last read.
    fn read_base(&mut self, map: &mut RangeMap<Place<S::File>>) -> Result<(), VolumeError> {
        let listed = self.storage.list(names::BASE).map_err(VolumeError::file("list", names::BASE))?;
        let first = self.manifest.base_file;
        let folded = self.manifest.folded.map(names::folded_file);
        let numbers = names::base_numbers(&listed).into_iter().filter(|number| *number >= first);
        for name in folded.into_iter().chain(numbers.map(names::base_file)) {
            if self.bases.iter().any(|base| base.file.name == name) {
                continue;
            }
            if let Some(file) = self.storage.open(&name).map_err(VolumeError::file("open", &name))? {
                let file = Arc::new(ChainFile { name, file });
                self.bases.push(BaseSeen { file, seen: 0 });
            }
        }
        for base in &mut self.bases {
            let mut result = Ok(());
            // The hash of the one before is looked at by whoever opens the volume: a reader takes up in the middle.
            base.file.walk(base.seen, None, |located| {
                result = insert(map, &base.file, &located, Precedence::Oldest);
                if result.is_ok() {
                    base.seen = located.offset + located.header.bytes();
                }
                result.is_ok()
            })?;
            result?;
        }
        Ok(())
    }
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
    map: RangeMap<Place<S::File>>,
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

    /// Fills a buffer with what the disk held from a block on.
    ///
    /// # Errors
    /// A file cannot be read or is damaged: which, and where, is said.
    pub fn read_blocks(&self, start: u64, into: &mut [u8]) -> Result<(), VolumeError> {
        let blocks = start..start + into.len() as u64 / BLOCK_BYTES;
        let inner = &mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner);
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
