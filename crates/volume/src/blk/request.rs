//! What a guest asks for: a chain of descriptors becomes a [`Request`] or a refusal. Owns every check of what a driver
//! says. Pure: it sees guest memory through [`GuestBytes`] only, and reads each byte once, so that a guest which changes it
//! meanwhile gains nothing. The layout is that of Virtual I/O Device specification 1.2, sections 2.7.5 (chains) and 5.2.6
//! (requests).

use std::ops::Range;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

use crate::disk::SECTOR_BYTES;

/// Pieces of memory that a driver is told it may use for one request: what fits into a ring of 128 entries, the usual size,
/// beside header and status.
pub(crate) const SEGMENTS_MAX: u32 = 126;

/// Descriptors in one chain: the longest ring there is here, as the specification bounds a chain by its ring. It ends loops.
pub(crate) const DESCRIPTORS_MAX: u16 = 1024;

/// Bytes of one read or write: far more than any driver sends, few enough that a queue is not busy for long.
const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// Ranges in one discard or write of zeroes: enough for a driver to gather, few enough to need little memory.
pub(crate) const RANGES_MAX: u32 = 16;

/// Sectors in one such range (1 GiB): where it cannot be done by reference, it is writing.
pub(crate) const RANGE_SECTORS_MAX: u32 = 2 << 20;

const DESCRIPTOR_BYTES: u32 = 16;
const HEADER_BYTES: u64 = 16;
const RANGE_BYTES: u64 = 16;
const STATUS_BYTES: u32 = 1;

/// The memory of a guest, to be read from.
pub(crate) trait GuestBytes {
    /// Fills all of `into`; `None` if any of it is not the guest's memory.
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()>;
}

/// Which way the bytes of a descriptor go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    FromGuest,
    ToGuest,
}

/// Guest memory that a request is about. Not checked yet to be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) address: u64,
    pub(crate) bytes: u32,
}

/// One element of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) segment: Segment,
    pub(crate) direction: Direction,
}

/// Where the descriptors of a ring are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) address: u64,
    pub(crate) entries: u16,
}

/// What the disk allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) disk_bytes: u64,
    pub(crate) is_read_only: bool,
}

/// What a guest asks for. Offsets and lengths are whole sectors within the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Read { offset: u64, into: Vec<Segment> },
    Write { range: Range<u64>, from: Vec<Segment> },
    Flush,
    Identify { into: Vec<Segment> },
    Discard { ranges: Vec<Range<u64>> },
    WriteZeroes { ranges: Vec<ZeroRange> },
}

impl Request {
    /// What it is called in a log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
            Self::Flush => "flush",
            Self::Identify { .. } => "identify",
            Self::Discard { .. } => "discard",
            Self::WriteZeroes { .. } => "write zeroes",
        }
    }
}

/// A range to be filled with zeroes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ZeroRange {
    pub(crate) range: Range<u64>,
    pub(crate) may_unmap: bool,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request is none of those that were offered.
    Unsupported,
    /// It breaks a rule, or lies outside the disk.
    Invalid,
}

/// A request and where its answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) request: Result<Request, Refusal>,
    /// The guest's address of the status byte.
    pub(crate) status: u64,
    /// Bytes that the guest may be told, without the status byte.
    pub(crate) answer_bytes: u32,
}

/// Follows a chain from `head` on and puts its descriptors into `chain`; `None` if it is broken: an entry outside its table
/// or memory, a table within a table, a loop. Nobody knows then where its status byte is.
pub(crate) fn walk(
    guest: &impl GuestBytes,
    table: Table,
    head: u16,
    chain: &mut Vec<Descriptor>,
) -> Option<()> {
    chain.clear();
    let (mut table, mut index, mut is_indirect) = (table, head, false);
    while chain.len() < usize::from(table.entries.min(DESCRIPTORS_MAX)) {
        if index >= table.entries {
            return None;
        }
        let mut raw = [0; DESCRIPTOR_BYTES as usize];
        let at = table.address.checked_add(u64::from(index) * u64::from(DESCRIPTOR_BYTES))?;
        guest.read(at, &mut raw)?;
        let segment = Segment { address: u64_at(&raw, 0), bytes: u32_at(&raw, 8) };
        let (flags, next) = (u32::from(u16_at(&raw, 12)), u16_at(&raw, 14));
        let has_next = flags & VRING_DESC_F_NEXT != 0;
        if flags & VRING_DESC_F_INDIRECT != 0 {
            let is_whole = segment.bytes.is_multiple_of(DESCRIPTOR_BYTES);
            if is_indirect || has_next || !is_whole {
                return None;
            }
            // Entries before this one count too; a driver has none.
            let entries = u16::try_from(segment.bytes / DESCRIPTOR_BYTES).ok()?;
            table = Table { address: segment.address, entries };
            (index, is_indirect) = (0, true);
            continue;
        }
        let is_write = flags & VRING_DESC_F_WRITE != 0;
        let direction = if is_write { Direction::ToGuest } else { Direction::FromGuest };
        chain.push(Descriptor { segment, direction });
        if !has_next {
            return Some(());
        }
        index = next;
    }
    None
}

/// Reads a chain; `None` if it has no status byte, so that no answer can be given.
pub(crate) fn parse(chain: &[Descriptor], guest: &impl GuestBytes, limits: Limits) -> Option<Parsed> {
    let is_answer = |descriptor: &&Descriptor| descriptor.direction == Direction::ToGuest;
    let last = chain.iter().rev().filter(is_answer).find(|descriptor| descriptor.segment.bytes > 0)?;
    let status = last.segment.address.checked_add(u64::from(last.segment.bytes - STATUS_BYTES))?;
    let first_answer = chain.iter().position(|descriptor| descriptor.direction == Direction::ToGuest)?;
    let (said, answer) = chain.split_at(first_answer);
    let said = segments(said);
    let mut answer_space = segments(answer);
    if let Some(last) = answer_space.last_mut() {
        last.bytes -= STATUS_BYTES;
    }
    answer_space.retain(|segment| segment.bytes > 0);
    let answer_bytes = u32::try_from(total(&answer_space)).unwrap_or(u32::MAX);
    let is_ordered = answer.iter().all(|descriptor| descriptor.direction == Direction::ToGuest);
    let request = if is_ordered { request(said, answer_space, guest, limits) } else { Err(Refusal::Invalid) };
    Some(Parsed { request, status, answer_bytes })
}

fn request(
    mut said: Vec<Segment>,
    answer: Vec<Segment>,
    guest: &impl GuestBytes,
    limits: Limits,
) -> Result<Request, Refusal> {
    let mut header = [0; HEADER_BYTES as usize];
    take(&mut said, &mut header, guest)?;
    let kind = u32_at(&header, 0);
    let offset = || u64_at(&header, 8).checked_mul(SECTOR_BYTES).ok_or(Refusal::Invalid);
    match kind {
        VIRTIO_BLK_T_IN => {
            nothing(&said)?;
            let offset = range(offset()?, count(&answer)?, limits)?.start;
            Ok(Request::Read { offset, into: answer })
        }
        VIRTIO_BLK_T_OUT => {
            nothing(&answer)?;
            may_change(limits)?;
            Ok(Request::Write { range: range(offset()?, count(&said)?, limits)?, from: said })
        }
        VIRTIO_BLK_T_FLUSH => nothing(&said).and(nothing(&answer)).map(|()| Request::Flush),
        VIRTIO_BLK_T_GET_ID => {
            nothing(&said)?;
            count(&answer)?;
            Ok(Request::Identify { into: answer })
        }
        VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => {
            nothing(&answer)?;
            may_change(limits)?;
            let mut ranges = ranges(said, guest, limits)?;
            if kind == VIRTIO_BLK_T_WRITE_ZEROES {
                return Ok(Request::WriteZeroes { ranges });
            }
            if ranges.iter().any(|range| range.may_unmap) {
                return Err(Refusal::Unsupported);
            }
            Ok(Request::Discard { ranges: ranges.drain(..).map(|range| range.range).collect() })
        }
        _ => Err(Refusal::Unsupported),
    }
}

fn may_change(limits: Limits) -> Result<(), Refusal> {
    if limits.is_read_only { Err(Refusal::Invalid) } else { Ok(()) }
}

fn nothing(segments: &[Segment]) -> Result<(), Refusal> {
    if segments.is_empty() { Ok(()) } else { Err(Refusal::Invalid) }
}

/// The bytes of segments that data goes to or comes from.
fn count(segments: &[Segment]) -> Result<u64, Refusal> {
    let bytes = total(segments);
    // A header or status in pieces leaves one more piece than was offered at either end.
    let is_short = segments.len() <= SEGMENTS_MAX as usize + 2;
    if is_short && (1..=REQUEST_BYTES_MAX).contains(&bytes) { Ok(bytes) } else { Err(Refusal::Invalid) }
}

fn range(offset: u64, bytes: u64, limits: Limits) -> Result<Range<u64>, Refusal> {
    let end = offset.checked_add(bytes).filter(|end| *end <= limits.disk_bytes);
    match end {
        Some(end) if bytes.is_multiple_of(SECTOR_BYTES) => Ok(offset..end),
        Some(_) | None => Err(Refusal::Invalid),
    }
}

fn ranges(
    mut said: Vec<Segment>,
    guest: &impl GuestBytes,
    limits: Limits,
) -> Result<Vec<ZeroRange>, Refusal> {
    let bytes = count(&said)?;
    if !bytes.is_multiple_of(RANGE_BYTES) || bytes / RANGE_BYTES > u64::from(RANGES_MAX) {
        return Err(Refusal::Invalid);
    }
    let mut ranges = Vec::new();
    while !said.is_empty() {
        let mut raw = [0; RANGE_BYTES as usize];
        take(&mut said, &mut raw, guest)?;
        let (sector, sectors, flags) = (u64_at(&raw, 0), u32_at(&raw, 8), u32_at(&raw, 12));
        if flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 {
            return Err(Refusal::Unsupported);
        }
        if sectors > RANGE_SECTORS_MAX {
            return Err(Refusal::Invalid);
        }
        let offset = sector.checked_mul(SECTOR_BYTES).ok_or(Refusal::Invalid)?;
        let range = range(offset, u64::from(sectors) * SECTOR_BYTES, limits)?;
        if !range.is_empty() {
            ranges.push(ZeroRange { range, may_unmap: flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 });
        }
    }
    Ok(ranges)
}

fn segments(chain: &[Descriptor]) -> Vec<Segment> {
    chain.iter().map(|descriptor| descriptor.segment).filter(|segment| segment.bytes > 0).collect()
}

/// Cannot overflow: a chain has at most [`DESCRIPTORS_MAX`] segments of 32 bits.
fn total(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.bytes)).sum()
}

/// Reads the first bytes of what a driver said, and leaves the rest.
fn take(said: &mut Vec<Segment>, into: &mut [u8], guest: &impl GuestBytes) -> Result<(), Refusal> {
    let (mut done, mut used) = (0, 0);
    while done < into.len() {
        let segment = said.get_mut(used).ok_or(Refusal::Invalid)?;
        let rest = into.len() - done;
        let bytes = segment.bytes.min(u32::try_from(rest).unwrap_or(u32::MAX));
        let end = done + bytes as usize;
        guest.read(segment.address, &mut into[done..end]).ok_or(Refusal::Invalid)?;
        done = end;
        segment.address = segment.address.checked_add(u64::from(bytes)).ok_or(Refusal::Invalid)?;
        segment.bytes -= bytes;
        if segment.bytes == 0 {
            used += 1;
        }
    }
    said.drain(..used);
    Ok(())
}

fn u16_at(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([raw[at], raw[at + 1]])
}

fn u32_at(raw: &[u8], at: usize) -> u32 {
    u32::from(u16_at(raw, at)) | u32::from(u16_at(raw, at + 2)) << 16
}

fn u64_at(raw: &[u8], at: usize) -> u64 {
    u64::from(u32_at(raw, at)) | u64::from(u32_at(raw, at + 4)) << 32
}

#[cfg(test)]
mod tests;
