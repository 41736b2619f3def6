//! Opening a volume: what a crash left half-written is told from what is damaged, and what is in doubt becomes dirty.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex};

use super::{BaseFile, Figures, Log, LogFile, Tracked, Volume};
use crate::block::{BLOCK_BYTES, BlockSet};
use crate::chain::{ChainFile, End, Located};
use crate::error::VolumeError;
use crate::history::refuse_gaps;
use crate::intents::{Intents, Known};
use crate::manifest::{Keeper, Manifest, Point};
use crate::names;
use crate::segment::{Damage, Kind, SegmentHash, VolumeUuid};
use crate::storage::{Storage, StoredFile};
use crate::tracker::Tracker;

impl<S: Storage> Volume<S> {
    /// Opens the volume in a folder. Who calls sees to it that nobody else has it open.
    ///
    /// # Errors
    /// It has no disk or no description, or one of its files is damaged or cannot be used.
    pub fn open(storage: S) -> Result<Self, VolumeError> {
        let manifest = Manifest::load(&storage)?.ok_or_else(|| VolumeError::Manifest {
            name: names::MANIFEST,
            problem: "it is missing".to_owned(),
        })?;
        let failed = |operation| VolumeError::file(operation, names::DISK);
        let disk = storage.open(names::DISK).map_err(failed("open"))?;
        let disk = disk.ok_or(VolumeError::NoDisk { name: names::DISK })?;
        let has = disk.bytes().map_err(failed("read"))?;
        let bytes = has.next_multiple_of(BLOCK_BYTES);
        if bytes != has {
            disk.resize(bytes).map_err(failed("enlarge"))?;
        }
        let history = history_files(&storage)?;
        if history.iter().any(|name| name != names::INTENTS)
            && !history.iter().any(|name| name == names::INTENTS)
        {
            // What it marked would be taken for what checkpoints have.
            return Err(VolumeError::Manifest { name: names::INTENTS, problem: "it is missing".to_owned() });
        }
        let intents = Intents::open(&storage)?;
        intents.persist()?;
        let (known, marked) = (intents.known()?, intents.marked()?);
        remove_leftovers(&storage, &manifest)?;
        let log = open_log(&storage, &manifest, known)?;
        let (base, touched) = open_base(&storage, &manifest, known, &marked)?;
        // The name of a file that is gone on with may not be durable yet.
        for folder in [names::BASE, names::LOG] {
            storage.sync_folder(folder).map_err(VolumeError::file("sync", folder))?;
        }
        // Who may only read could not make the file that holds need.
        storage.share().map_err(VolumeError::file("hold", names::READERS))?;
        let machine = Tracker::new(touched, marked);
        let is_recovering = machine.is_dirty();
        Ok(Self {
            storage,
            uuid: manifest.uuid,
            disk,
            bytes: AtomicU64::new(bytes),
            folding: Mutex::new(()),
            changing: Mutex::new(()),
            manifest: Mutex::new(Keeper::new(manifest)),
            log: Mutex::new(log),
            base: Mutex::new(base),
            intents: Mutex::new(intents),
            segment: Mutex::new(None),
            tracker: Mutex::new(Tracked { machine, waiting: 0 }),
            changed: Condvar::new(),
            has_failed: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            cut_has_failed: AtomicBool::new(false),
            is_recovering: AtomicBool::new(is_recovering),
            figures: Figures::default(),
        })
    }

    /// Makes a volume of a disk that has no history yet, or has it already. Files of a history without the description that
    /// says whose they are may be half of one that somebody puts aside: nothing is made of them, nor are they touched.
    ///
    /// # Errors
    /// As [`Volume::open`].
    pub fn open_or_begin(storage: S, uuid: VolumeUuid, now_ns: i64) -> Result<Self, VolumeError> {
        if Manifest::load(&storage)?.is_none() {
            if let Some(file) = history_files(&storage)?.into_iter().next() {
                let problem = format!("it is missing, and {file} belongs to it");
                return Err(VolumeError::Manifest { name: names::MANIFEST, problem });
            }
            Manifest::new(uuid, now_ns).save(&storage)?;
        }
        Self::open(storage)
    }
}

/// The files of a history beside its description.
fn history_files<S: Storage>(storage: &S) -> Result<Vec<String>, VolumeError> {
    let mut files = Vec::new();
    let intents = storage.open(names::INTENTS).map_err(VolumeError::file("open", names::INTENTS))?;
    files.extend(intents.map(|_| names::INTENTS.to_owned()));
    for folder in [names::LOG, names::BASE] {
        let listed = storage.list(folder).map_err(VolumeError::file("list", folder))?;
        files.extend(listed.into_iter().map(|name| format!("{folder}/{name}")));
    }
    Ok(files)
}

fn open_file<S: Storage>(
    storage: &S,
    volume: VolumeUuid,
    name: String,
) -> Result<ChainFile<S::File>, VolumeError> {
    let file = storage.open(&name).map_err(VolumeError::file("open", &name))?;
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let file = file.ok_or_else(|| VolumeError::file("open", &name)(missing()))?;
    Ok(ChainFile { name, volume, file })
}

/// What is left of a fold that a crash came upon, or that failed, or that deleted nothing any more.
pub(super) fn remove_leftovers<S: Storage>(storage: &S, manifest: &Manifest) -> Result<(), VolumeError> {
    let listed = |folder| storage.list(folder).map_err(VolumeError::file("list", folder));
    let (base, log) = (listed(names::BASE)?, listed(names::LOG)?);
    let bases = names::base_numbers(&base).into_iter().filter(|number| *number < manifest.base_file);
    let folded = names::folded_numbers(&base).into_iter().filter(|number| Some(*number) != manifest.folded);
    let logs = names::log_numbers(&log).into_iter().filter(|number| *number < manifest.log_file);
    let merged = names::merged_numbers(&log).into_iter().filter(|number| Some(*number) != manifest.merged);
    let bases = bases.map(names::base_file).chain(folded.map(names::folded_file));
    let logs = logs.map(names::log_file).chain(merged.map(names::merged_file));
    for name in bases.chain(logs) {
        storage.remove(&name).map_err(VolumeError::file("remove", &name))?;
    }
    Ok(())
}

fn open_base<S: Storage>(
    storage: &S,
    manifest: &Manifest,
    known: Known,
    marked: &BlockSet,
) -> Result<(BaseFile<S::File>, BlockSet), VolumeError> {
    let listed = storage.list(names::BASE).map_err(VolumeError::file("list", names::BASE))?;
    let numbers = names::base_numbers(&listed);
    let is_new = manifest.folded.is_none() && known == Known::default() && marked.is_empty();
    if !(is_new && is_empty_log(storage)?) {
        refuse_gaps(manifest, known, &numbers)?;
    }
    let mut touched = BlockSet::new();
    let mut last = None;
    let mut bytes_before = 0;
    if let Some(number) = manifest.folded {
        let file = open_file(storage, manifest.uuid, names::folded_file(number))?;
        // It was whole before the manifest spoke of it.
        let certain = Known { base_file: u64::MAX, ..known };
        bytes_before = scan_base(file, number, certain, &mut touched)?.end;
    }
    for number in numbers {
        if let Some(BaseFile { end, .. }) = last.take() {
            bytes_before += end;
        }
        let file = open_file(storage, manifest.uuid, names::base_file(number))?;
        let base = scan_base(file, number, known, &mut touched)?;
        last = Some(BaseFile { bytes_before, ..base });
    }
    let base = match last {
        Some(base) => base,
        None => new_base_file(storage, manifest.uuid, manifest.base_file)?,
    };
    Ok((base, touched))
}

fn is_empty_log<S: Storage>(storage: &S) -> Result<bool, VolumeError> {
    Ok(storage.list(names::LOG).map_err(VolumeError::file("list", names::LOG))?.is_empty())
}

/// A new file of base blocks.
pub(super) fn new_base_file<S: Storage>(
    storage: &S,
    volume: VolumeUuid,
    number: u64,
) -> Result<BaseFile<S::File>, VolumeError> {
    begin_base(storage, volume, number, names::base_file(number))
}

/// A new file for a fold.
pub(super) fn new_folded_file<S: Storage>(
    storage: &S,
    volume: VolumeUuid,
    number: u64,
) -> Result<BaseFile<S::File>, VolumeError> {
    begin_base(storage, volume, number, names::folded_file(number))
}

fn begin_base<S: Storage>(
    storage: &S,
    volume: VolumeUuid,
    number: u64,
    name: String,
) -> Result<BaseFile<S::File>, VolumeError> {
    let file = storage.create(&name).map_err(VolumeError::file("make", &name))?;
    storage.sync_folder(names::BASE).map_err(VolumeError::file("sync", names::BASE))?;
    let file = Arc::new(ChainFile { name, volume, file });
    Ok(BaseFile { number, file, end: 0, segments: 0, previous: SegmentHash::default(), bytes_before: 0 })
}

fn scan_base<F: StoredFile>(
    file: ChainFile<F>,
    number: u64,
    known: Known,
    touched: &mut BlockSet,
) -> Result<BaseFile<F>, VolumeError> {
    let mut found = Vec::new();
    let end = file.walk(0, Some(SegmentHash::default()), |located| {
        found.push(located);
        true
    })?;
    let known_segments = match number.cmp(&known.base_file) {
        std::cmp::Ordering::Less => u64::MAX,
        std::cmp::Ordering::Equal => known.base_segments,
        std::cmp::Ordering::Greater => 0,
    };
    let (mut offset, mut previous, mut segments) = (0, SegmentHash::default(), 0);
    let mut broken = match end {
        End::Whole { .. } => None,
        End::Broken { damage, .. } => Some(damage),
    };
    let count = found.len() as u64;
    for located in found {
        // The next one was begun when this one was durable: a power cut tears the last one alone.
        let is_certain = segments < known_segments || segments + 1 < count;
        let table = match file.table(&located) {
            Ok(table) if located.header.kind == Kind::Base => table,
            Ok(_) => return Err(file.damaged(located.offset, Damage::Chain)),
            Err(VolumeError::Damaged { source, .. }) if !is_certain => {
                broken = Some(source);
                break;
            }
            Err(error) => return Err(error),
        };
        if !is_certain && let Err(VolumeError::Damaged { source, .. }) = file.verify(&located) {
            broken = Some(source);
            break;
        }
        table.extents.iter().for_each(|extent| touched.insert(extent.blocks()));
        offset = located.offset + located.header.bytes();
        (previous, segments) = (located.identity, segments + 1);
    }
    if let Some(damage) = broken {
        if segments < known_segments || matches!(damage, Damage::Foreign { .. }) {
            return Err(file.damaged(offset, damage));
        }
        truncate(&file, offset)?;
    }
    // What is believed now may have been written by somebody who was told that it is not durable.
    file.file.sync().map_err(VolumeError::file("sync", &file.name))?;
    Ok(BaseFile { number, file: Arc::new(file), end: offset, segments, previous, bytes_before: 0 })
}

/// Takes away what a power cut left of a segment that was being written.
fn truncate<F: StoredFile>(file: &ChainFile<F>, end: u64) -> Result<(), VolumeError> {
    file.file.resize(end).map_err(VolumeError::file("cut", &file.name))?;
    file.file.sync().map_err(VolumeError::file("sync", &file.name))
}

fn open_log<S: Storage>(storage: &S, manifest: &Manifest, known: Known) -> Result<Log<S::File>, VolumeError> {
    let listed = storage.list(names::LOG).map_err(VolumeError::file("list", names::LOG))?;
    let numbers = names::log_numbers(&listed);
    let mut log = Log { files: Vec::new(), open: None, tip: manifest.base };
    let files = manifest.merged.map(|number| (names::merged_file(number), true));
    let files: Vec<_> =
        files.into_iter().chain(numbers.into_iter().map(|number| (names::log_file(number), false))).collect();
    let count = files.len();
    // The last file that counts, and where what was never finished begins in it.
    let mut newest: Option<Newest<S::File>> = None;
    for (position, (name, is_merged)) in files.into_iter().enumerate() {
        let file = open_file(storage, manifest.uuid, name)?;
        let scanned = scan_log(&file, is_merged, &mut log.tip, known, position + 1 == count)?;
        if scanned.is_empty {
            // Made for a segment that was never finished.
            storage.remove(&file.name).map_err(VolumeError::file("remove", &file.name))?;
            continue;
        }
        let file = Arc::new(file);
        // This one follows on what counts in the one before, so the rest of that is nothing.
        if let Some((former, Some(end))) = newest.replace((Arc::clone(&file), scanned.broken_from)) {
            truncate(&former, end)?;
        }
        log.files.push(scanned.file);
        log.open = Some(file).filter(|_| !is_merged);
    }
    if let Some((file, broken_from)) = newest {
        if let Some(end) = broken_from {
            truncate(&file, end)?;
        }
        // As in the base: it is believed from now on.
        file.file.sync().map_err(VolumeError::file("sync", &file.name))?;
    }
    let named = manifest.snapshots.iter().map(|snapshot| snapshot.seq).max().unwrap_or_default();
    if log.tip.id.seq < known.seq.max(named) {
        let name = log.files.last().map_or(names::LOG.to_owned(), |file| file.name.clone());
        let offset = log.files.last().map_or(0, |file| file.bytes);
        return Err(VolumeError::Damaged { name, offset, source: Damage::Chain });
    }
    Ok(log)
}

/// A file, and where what was never finished begins in it.
type Newest<F> = (Arc<ChainFile<F>>, Option<u64>);

/// What a file of segments holds.
struct Scanned {
    file: LogFile,
    /// No checkpoint.
    is_empty: bool,
    /// Where something begins that is no checkpoint, or not all of one.
    broken_from: Option<u64>,
}

fn scan_log<F: StoredFile>(
    file: &ChainFile<F>,
    is_merged: bool,
    tip: &mut Point,
    known: Known,
    is_last: bool,
) -> Result<Scanned, VolumeError> {
    let mut found: Vec<Located> = Vec::new();
    let mut first = None;
    let mut segments = 0;
    let end = file.walk(0, Some(tip.hash), |located| {
        segments += u64::from(!located.header.marks.is_part);
        first.get_or_insert(point(&located));
        // Only those that a power cut may have torn are looked at again, and the last one before them.
        if located.header.id.seq <= known.seq && !located.header.marks.is_part {
            found.clear();
        }
        found.push(located);
        true
    })?;
    let (mut bytes, mut broken) = match end {
        End::Whole { bytes } => (bytes, None),
        End::Broken { offset, damage } => (offset, Some((offset, damage))),
    };
    let (mut last, mut parts_from) = (None, None);
    let newest = found.last().map(|located| located.header.id.seq);
    for (position, located) in found.iter().enumerate() {
        if located.header.id.seq > known.seq {
            match file.verify(located) {
                Ok(()) => {}
                // The next checkpoint was begun when this one was durable: a power cut tears the last one alone. Its parts may be
                // of a try that failed, and half overwritten.
                Err(VolumeError::Damaged { source, .. }) if Some(located.header.id.seq) == newest => {
                    broken = Some((located.offset, source));
                    bytes = located.offset;
                    segments -=
                        found[position..].iter().filter(|torn| !torn.header.marks.is_part).count() as u64;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if located.header.marks.is_part {
            parts_from.get_or_insert(located.offset);
        } else {
            (last, parts_from) = (Some(point(located)), None);
        }
    }
    if let Some(offset) = parts_from {
        (bytes, broken) = (offset, Some((offset, unfinished(broken))));
    }
    let reached = last.map_or(tip.id.seq, |last| last.id.seq);
    // Whether it is damage shows when the next file does not follow.
    let broken_from = broken.as_ref().map(|_| bytes);
    if let Some((offset, damage)) = broken {
        // A file that begins with a segment of another history, or one before the end that is known to be durable.
        let is_foreign = (offset == 0 && damage == Damage::Chain) || matches!(damage, Damage::Foreign { .. });
        if is_foreign || (reached < known.seq && is_last) {
            return Err(file.damaged(offset, damage));
        }
    }
    let is_empty = last.is_none();
    *tip = last.unwrap_or(*tip);
    let first = first.unwrap_or(*tip);
    let file = LogFile {
        name: file.name.clone(),
        bytes,
        first,
        last: *tip,
        is_merged,
        segments,
        is_closed: is_merged,
        is_spoiled: false,
    };
    Ok(Scanned { file, is_empty, broken_from })
}

/// What is wrong with parts whose last one is missing: the checkpoint never was.
fn unfinished(broken: Option<(u64, Damage)>) -> Damage {
    let damage = broken.map(|(_, damage)| damage);
    damage.filter(|damage| matches!(damage, Damage::Foreign { .. })).unwrap_or(Damage::Missing)
}

/// The place of a segment in the history.
pub(super) fn point(located: &Located) -> Point {
    Point { id: located.header.id, hash: located.identity, time_ns: located.header.time_ns }
}
