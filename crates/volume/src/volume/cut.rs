//! Cutting: all volumes of an alloc at one instant, then each one's changed blocks into its log, while the guest goes on.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::retention::time_after;
use super::{Log, LogFile, Volume, next_id};
use crate::block::BLOCK_BYTES;
use crate::chain::{ChainFile, Located, Packing, SegmentWriter, pack};
use crate::error::VolumeError;
use crate::lock;
use crate::manifest::Point;
use crate::names;
use crate::segment::{CheckpointId, Companion, EXTENT_BLOCKS_MAX, Header, Kind, Marks, SegmentHash};
use crate::storage::{Storage, StoredFile};
use crate::tracker::{Copy, Reading};

/// A file of segments is not continued from this size on: files are what folding gives back.
const LOG_BYTES: u64 = 64 << 20;
/// Nor from this age on, nanoseconds: a quarter of an hour.
const LOG_AGE_NS: i64 = 15 * 60 * 1_000_000_000;

fn is_young(file: &LogFile, time_ns: i64) -> bool {
    // The other way round the clock was ahead: what was cut with it is kept apart from what is cut now.
    (0..LOG_AGE_NS).contains(&time_ns.saturating_sub(file.first.time_ns))
}

/// When and how a cut is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutTime {
    /// Nanoseconds since 1970 UTC.
    pub now_ns: i64,
    /// Whether the task has ended.
    pub is_at_rest: bool,
}

/// A cut of one volume that is to be copied.
#[derive(Debug)]
#[must_use]
pub struct Cut<'volume, S: Storage> {
    volume: &'volume Volume<S>,
    id: CheckpointId,
    time_ns: i64,
    disk_blocks: u64,
    marks: Marks,
    companions: Vec<Companion>,
}

/// Cuts all of `volumes` that have changed, at one instant: a write that the guest made after another one was answered is
/// in none of the cuts in which that one is not. Returns one result for each volume, none for those that have not changed
/// or are being cut.
pub fn begin_cuts<'volume, S: Storage>(
    volumes: &[&'volume Volume<S>],
    time: CutTime,
) -> Vec<Result<Option<Cut<'volume, S>>, VolumeError>> {
    // What takes time comes before the instant.
    let mut points: Vec<_> = volumes.iter().map(|volume| volume.begin_segment(time.now_ns)).collect();
    if points.iter().any(Result::is_err) {
        // All or none: a cut that one of them is missing from could not be told from a whole one.
        for (volume, point) in volumes.iter().zip(&mut points) {
            if let Ok(Some(_)) = point {
                lock(&volume.segment).take().into_iter().for_each(SegmentWriter::abandon);
                *point = Ok(None);
            }
        }
    }
    // One time for all: the latest that any of them allows.
    let times = points.iter().flatten().flatten().map(|(_, time_ns)| *time_ns);
    let time_ns = times.max().unwrap_or(time.now_ns);
    let started = Instant::now();
    let mut guards: Vec<_> = volumes.iter().map(|volume| lock(&volume.tracker)).collect();
    for (tracked, point) in guards.iter_mut().zip(&mut points) {
        if let Ok(Some(_)) = point {
            tracked.machine.begin_cut();
        }
    }
    drop(guards);
    let pause_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
    for volume in volumes {
        volume.figures.cut_pause_ns_max.fetch_max(pause_ns, Ordering::Relaxed);
    }
    let cut_at_once: Vec<Companion> = volumes
        .iter()
        .zip(&points)
        .filter_map(|(volume, point)| {
            let (id, _) = point.as_ref().ok()?.as_ref()?;
            Some(Companion { volume: volume.uuid, seq: id.seq })
        })
        .collect();
    let cuts = volumes.iter().zip(points).map(|(volume, point)| {
        let Some((id, _)) = point? else { return Ok(None) };
        let companions = cut_at_once.iter().filter(|companion| companion.volume != volume.uuid).copied();
        let is_recovered = volume.is_recovering.load(Ordering::Acquire);
        Ok(Some(Cut {
            volume,
            id,
            time_ns,
            disk_blocks: volume.bytes.load(Ordering::Acquire) / BLOCK_BYTES,
            marks: Marks { is_at_rest: time.is_at_rest, is_recovered, ..Marks::default() },
            companions: companions.collect(),
        }))
    });
    cuts.collect()
}

impl<S: Storage> Cut<'_, S> {
    /// The checkpoint that it becomes.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.id
    }

    /// Copies the next blocks; whether there are more.
    ///
    /// # Errors
    /// They cannot be read or stored: the cut has failed, and [`Cut::finish`] will say so.
    pub fn copy(&self) -> Result<bool, VolumeError> {
        let volume = self.volume;
        let mut tracked = lock(&volume.tracker);
        let reading = loop {
            match tracked.machine.next_copy(u64::from(EXTENT_BLOCKS_MAX)) {
                Copy::Read(reading) => break reading,
                Copy::Wait => tracked = volume.wait(tracked),
                Copy::Complete => return Ok(false),
            }
        };
        drop(tracked);
        let result = volume.copy_blocks(reading).and_then(|()| self.end_part());
        if result.is_err() {
            volume.cut_has_failed.store(true, Ordering::Release);
        }
        result.map(|()| true)
    }

    /// Makes the checkpoint durable.
    ///
    /// # Errors
    /// Something of it could not be read or stored: there is no such checkpoint, and its blocks will be in the next one.
    pub fn finish(self) -> Result<Point, VolumeError> {
        let volume = self.volume;
        let has_failed = volume.cut_has_failed.swap(false, Ordering::AcqRel);
        let segment = lock(&volume.segment).take().expect("a cut has a segment until it is finished");
        let result = if has_failed {
            segment.abandon();
            let source = std::io::Error::other("a block of it could not be read or stored");
            Err(VolumeError::File { operation: "write", name: names::LOG.to_owned(), source })
        } else {
            self.store(segment)
        };
        let mut tracked = lock(&volume.tracker);
        match &result {
            Ok(_) => {
                tracked.machine.end_cut();
                volume.is_recovering.store(false, Ordering::Release);
            }
            Err(_) => tracked.machine.fail_cut(),
        }
        volume.tell(&tracked);
        result
    }

    /// Goes on with another segment when the table of this one has become large.
    fn end_part(&self) -> Result<(), VolumeError> {
        let is_large = |segment: &SegmentWriter<S::File>| segment.table_bytes() > S::TABLE_BYTES;
        let large =
            lock(&self.volume.segment).as_ref().filter(|segment| is_large(segment)).map(SegmentWriter::file);
        let Some(file) = large else { return Ok(()) };
        // Who hands blocks over waits for the segment: most of its content is made durable before.
        file.file.sync().map_err(VolumeError::file("sync", &file.name))?;
        let tip = lock(&self.volume.log).tip;
        let mut segment = lock(&self.volume.segment);
        segment.as_mut().expect("a cut has a segment until it is finished").finish_part(self.header(tip))
    }

    fn header(&self, tip: Point) -> Header {
        Header {
            kind: Kind::Checkpoint,
            volume: self.volume.uuid,
            id: self.id,
            parent: tip.id,
            parent_hash: tip.hash,
            time_ns: self.time_ns,
            disk_blocks: self.disk_blocks,
            marks: self.marks,
            stands_for: SegmentHash::default(),
            table_offset: 0,
            table_bytes: 0,
            table_hash: [0; 32],
        }
    }

    fn store(&self, segment: SegmentWriter<S::File>) -> Result<Point, VolumeError> {
        let mut log = lock(&self.volume.log);
        let header = self.header(log.tip);
        let file = log.files.last_mut().expect("a segment is written to the last file");
        file.is_spoiled = true;
        let located = segment.finish(header, &self.companions)?;
        file.is_spoiled = false;
        self.volume.figures.segment_bytes.fetch_add(located.header.bytes(), Ordering::Relaxed);
        Ok(log.append(&located))
    }
}

/// Where a segment goes: the file, and its end.
type Place<F> = (Arc<ChainFile<F>>, u64);

impl<F> Log<F> {
    fn append(&mut self, located: &Located) -> Point {
        let point = Point { id: located.header.id, hash: located.identity, time_ns: located.header.time_ns };
        let file = self.files.last_mut().expect("a segment is written to the last file");
        file.bytes = located.offset + located.header.bytes();
        file.last = point;
        file.segments += 1;
        self.tip = point;
        point
    }
}

impl<S: Storage> Volume<S> {
    /// Opens the segment of a cut, if there is something to cut.
    fn begin_segment(&self, now_ns: i64) -> Result<Option<(CheckpointId, i64)>, VolumeError> {
        let epoch = lock(&self.manifest).get().epoch;
        let mut log = lock(&self.log);
        let mut segment = lock(&self.segment);
        {
            let tracked = lock(&self.tracker);
            if segment.is_some() || !tracked.machine.is_dirty() || tracked.machine.is_cutting() {
                return Ok(None);
            }
        }
        let id = next_id(epoch, &log.tip);
        let time_ns = time_after(log.tip.time_ns, now_ns);
        let (file, end) = self.file_for(&mut log, id, time_ns)?;
        *segment = Some(SegmentWriter::new(file, end));
        Ok(Some((id, time_ns)))
    }

    /// The file that the next segment is written to, and where.
    fn file_for(
        &self,
        log: &mut Log<S::File>,
        id: CheckpointId,
        time_ns: i64,
    ) -> Result<Place<S::File>, VolumeError> {
        if let (Some(last), Some(open)) = (log.files.last(), &log.open)
            && (last.is_spoiled
                || (!last.is_closed
                    && last.bytes < LOG_BYTES
                    && (last.bytes == 0 || is_young(last, time_ns))))
        {
            return Ok((Arc::clone(open), last.bytes));
        }
        let name = names::log_file(id.seq);
        let file = self.storage.create(&name).map_err(VolumeError::file("make", &name))?;
        self.storage.sync_folder(names::LOG).map_err(VolumeError::file("sync", names::LOG))?;
        let file = Arc::new(ChainFile { name: name.clone(), volume: self.uuid, file });
        log.open = Some(Arc::clone(&file));
        let first = Point { id, hash: SegmentHash::default(), time_ns };
        log.files.push(LogFile {
            name,
            bytes: 0,
            first,
            last: log.tip,
            is_merged: false,
            segments: 0,
            is_closed: false,
            is_spoiled: false,
        });
        Ok((file, 0))
    }

    fn copy_blocks(&self, reading: Reading) -> Result<(), VolumeError> {
        let blocks: Range<u64> = reading.blocks.clone();
        let content = self.read_blocks(&blocks);
        {
            // Who waits to overwrite them need not wait for their packing.
            let mut tracked = lock(&self.tracker);
            tracked.machine.copied(reading);
            self.tell(&tracked);
        }
        let packed = pack(blocks.start, &content?, Packing::WherePays);
        let mut segment = lock(&self.segment);
        segment.as_mut().expect("a cut has a segment until it is finished").push(packed)
    }
}
