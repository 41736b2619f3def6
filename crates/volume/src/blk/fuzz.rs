//! The door for fuzzers: bytes are taken as guest memory with descriptors in it, and whatever they say, what comes out keeps
//! the promises of [`super::request`].

use std::ops::Range;

use super::request::{GuestBytes, Limits, RANGES_MAX, Request, SEGMENTS_MAX, Segment, Table, parse, walk};
use crate::disk::SECTOR_BYTES;

/// Bytes in front of the guest's memory: access, entries of the ring, head, sectors of the disk.
const PARAMETERS_BYTES: usize = 8;

struct Memory<'bytes>(&'bytes [u8]);

impl GuestBytes for Memory<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address).ok()?;
        into.copy_from_slice(self.0.get(start..start.checked_add(into.len())?)?);
        Some(())
    }
}

/// Reads a chain out of any bytes; returns whether a request came out.
///
/// # Panics
/// A request came out that must not.
pub(super) fn descriptors(input: &[u8]) -> bool {
    let Some((parameters, memory)) = input.split_at_checked(PARAMETERS_BYTES) else { return false };
    let number = |range: Range<usize>| {
        parameters[range].iter().rev().fold(0_u32, |number, byte| number << 8 | u32::from(*byte))
    };
    let is_read_only = number(0..1) & 1 == 1;
    let limits = Limits { disk_bytes: u64::from(number(4..8)) * SECTOR_BYTES, is_read_only };
    let table = Table { address: 0, entries: 1 << (number(1..2) % 11) };
    let head = u16::try_from(number(2..4)).unwrap_or(u16::MAX);
    let memory = Memory(memory);
    let mut chain = Vec::new();
    if walk(&memory, table, head, &mut chain).is_none() {
        return false;
    }
    let Some(parsed) = parse(&chain, &memory, limits) else { return false };
    match parsed.request {
        Err(_) => return false,
        Ok(Request::Flush) => {}
        Ok(Request::Read { offset, into }) => {
            let bytes = data(&into);
            assert_eq!(bytes, u64::from(parsed.answer_bytes), "a read answers what it reads");
            whole(&(offset..offset + bytes), limits);
        }
        Ok(Request::Identify { into }) => {
            data(&into);
        }
        Ok(Request::Write { range, from }) => {
            assert!(!is_read_only, "a write to what may only be read");
            assert_eq!(data(&from), range.end - range.start, "a write of another length");
            whole(&range, limits);
        }
        Ok(Request::Discard { ranges }) => {
            assert!(!is_read_only && ranges.len() <= RANGES_MAX as usize, "a discard that is not allowed");
            ranges.iter().for_each(|range| whole(range, limits));
        }
        Ok(Request::WriteZeroes { ranges }) => {
            assert!(!is_read_only && ranges.len() <= RANGES_MAX as usize, "zeroes that are not allowed");
            ranges.iter().for_each(|zero| whole(&zero.range, limits));
        }
    }
    true
}

fn data(segments: &[Segment]) -> u64 {
    assert!(segments.len() <= SEGMENTS_MAX as usize + 2, "too many segments");
    assert!(segments.iter().all(|segment| segment.bytes > 0), "an empty segment");
    segments.iter().map(|segment| u64::from(segment.bytes)).sum()
}

fn whole(range: &Range<u64>, limits: Limits) {
    assert!(range.start < range.end && range.end <= limits.disk_bytes, "a range outside of the disk");
    let is_whole = [range.start, range.end].iter().all(|offset| offset.is_multiple_of(SECTOR_BYTES));
    assert!(is_whole, "a range of parts of sectors");
}
