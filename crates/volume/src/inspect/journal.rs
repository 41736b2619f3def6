//! The journal: what the guest's kernel has written there and not yet to its place. Nothing is written here: the result
//! is a map from blocks to their newer copies.
//!
//! The disk of a virtual machine that runs, or did not end well, is always in this state. As the kernel does, transactions
//! count from the recorded start up to the last one with a commit block; the log is a ring; a block that a transaction
//! revokes is not taken from it nor from any before, for it may hold something else by now.

use std::collections::HashMap;

use super::disk::{JOURNAL_MAGIC, Logged, Overlay};
use super::error::{InspectError, damaged};
use super::extents::Run;
use super::fields::{CHECKSUM_START, be16, be32, checksum};
use super::filesystem::FileSystem;
use super::limits::{JOURNAL_BLOCKS_MAX, REVOKED_MAX};

/// What the journal's superblock takes, bytes.
const SUPERBLOCK_BYTES: usize = 1024;
const SUPERBLOCK_CHECKSUM_AT: usize = 0xfc;
/// What every block of the journal's own begins with: magic, kind, number of the transaction.
const HEADER_BYTES: usize = 12;
const COMMIT_CHECKSUM_AT: usize = 16;
const UUID_BYTES: usize = 16;
const TAIL_BYTES: usize = 4;

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK: u32 = 3;
const SUPERBLOCK_TWO: u32 = 4;
const REVOKE: u32 = 5;

const FEATURE_WIDE: u32 = 0x2;
const FEATURE_CHECKSUMS_TWO: u32 = 0x8;
const FEATURE_CHECKSUMS_THREE: u32 = 0x10;
/// Also: revoking, and commits that do not wait.
const FEATURES_KNOWN: u32 = 0x1 | FEATURE_WIDE | 0x4 | FEATURE_CHECKSUMS_TWO | FEATURE_CHECKSUMS_THREE;

const TAG_ESCAPED: u32 = 0x1;
const TAG_SAME_UUID: u32 = 0x2;
const TAG_LAST: u32 = 0x8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checksums {
    None,
    Two,
    Three,
}

/// The ring, as its superblock describes it.
struct Ring<'f> {
    filesystem: &'f FileSystem,
    runs: Vec<Run>,
    first: u32,
    end: u32,
    /// Where the next block is read, and how many there are before the start is met again.
    next: u32,
    left: u32,
    sequence: u32,
    is_wide: bool,
    checksums: Checksums,
    seed: u32,
}

struct Tag {
    target: u64,
    flags: u32,
    checksum: u32,
}

struct Write {
    logged: Logged,
    sequence: u32,
    is_torn: bool,
}

/// What the transactions so far come to.
#[derive(Default)]
struct State {
    writes: HashMap<u64, Write>,
    revoked: HashMap<u64, u32>,
}

/// Reads the journal; gives what is newer in it.
pub(super) fn replay(filesystem: &FileSystem) -> Result<Overlay, InspectError> {
    let Some(mut ring) = Ring::open(filesystem)? else { return Ok(Overlay::new()) };
    let first = ring.sequence;
    let mut state = State::default();
    let (mut writes, mut revoked) = (Vec::new(), Vec::new());
    while let Some((_, block)) = ring.next()? {
        if block[..4] != JOURNAL_MAGIC || be32(&block, 8) != ring.sequence {
            break;
        }
        // What has a wrong checksum was not written to its end: the log ends before.
        match be32(&block, 4) {
            DESCRIPTOR if ring.is_sound(&block, block.len() - TAIL_BYTES) => {
                if !ring.read_writes(&block, &mut writes)? {
                    break;
                }
            }
            REVOKE if ring.is_sound(&block, block.len() - TAIL_BYTES) => {
                ring.read_revoked(&block, &mut revoked)?;
                if revoked.len() + state.revoked.len() > REVOKED_MAX {
                    let what = "the journal frees more blocks than it can";
                    return Err(InspectError::TooMuch { what, limit: REVOKED_MAX as u64 });
                }
            }
            COMMIT if ring.is_sound(&block, COMMIT_CHECKSUM_AT) => {
                let sequence = ring.sequence;
                state.revoked.extend(revoked.drain(..).map(|block| (block, sequence)));
                state.writes.extend(writes.drain(..));
                ring.sequence = sequence.wrapping_add(1);
            }
            _ => break,
        }
    }
    state.overlay(first)
}

impl State {
    fn overlay(self, first: u32) -> Result<Overlay, InspectError> {
        // Numbers of transactions wrap around, their distance from the first does not.
        let age = |sequence: u32| sequence.wrapping_sub(first);
        let mut overlay = Overlay::with_capacity(self.writes.len());
        for (block, write) in self.writes {
            if self.revoked.get(&block).is_some_and(|revoked| age(*revoked) >= age(write.sequence)) {
                continue;
            }
            if write.is_torn {
                return Err(damaged(format!("the journal's copy of block {block} has a wrong checksum")));
            }
            overlay.insert(block, write.logged);
        }
        Ok(overlay)
    }
}

impl<'f> Ring<'f> {
    /// None when the journal is empty.
    fn open(filesystem: &'f FileSystem) -> Result<Option<Ring<'f>>, InspectError> {
        let inode = filesystem.inode(filesystem.layout.journal_inode)?;
        let mut tree = filesystem.runs(&inode)?;
        let (mut runs, mut mapped) = (Vec::new(), 0);
        while mapped < u64::from(JOURNAL_BLOCKS_MAX) {
            let Some(run) = tree.next()? else { break };
            mapped = run.logical + run.blocks;
            runs.push(run);
        }
        let mut ring = Ring {
            filesystem,
            runs,
            first: 0,
            end: 1,
            next: 0,
            left: 1,
            sequence: 0,
            is_wide: false,
            checksums: Checksums::None,
            seed: 0,
        };
        let (_, block) = ring.next()?.ok_or_else(|| damaged("the journal is empty"))?;
        let is_superblock = matches!(be32(&block, 4), SUPERBLOCK | SUPERBLOCK_TWO);
        if block[..4] != JOURNAL_MAGIC || !is_superblock || be32(&block, 12) != filesystem.layout.block_bytes
        {
            return Err(damaged("the journal does not begin as one"));
        }
        ring.read_superblock(&block[..SUPERBLOCK_BYTES])
    }

    fn read_superblock(mut self, block: &[u8]) -> Result<Option<Ring<'f>>, InspectError> {
        let features = if be32(block, 4) == SUPERBLOCK_TWO { be32(block, 40) } else { 0 };
        if features & !FEATURES_KNOWN != 0 {
            return Err(InspectError::Unsupported { what: "a journal of another kernel" });
        }
        self.is_wide = features & FEATURE_WIDE != 0;
        self.checksums = if features & FEATURE_CHECKSUMS_THREE != 0 {
            Checksums::Three
        } else if features & FEATURE_CHECKSUMS_TWO != 0 {
            Checksums::Two
        } else {
            Checksums::None
        };
        self.seed = CHECKSUM_START;
        if !self.is_sound(block, SUPERBLOCK_CHECKSUM_AT) {
            return Err(damaged("the checksum of the journal is wrong"));
        }
        self.seed = checksum(CHECKSUM_START, &block[48..48 + UUID_BYTES]);
        (self.end, self.first) = (be32(block, 16), be32(block, 20));
        (self.sequence, self.next) = (be32(block, 24), be32(block, 28));
        if self.next == 0 {
            return Ok(None);
        }
        let is_ring = 0 < self.first && (self.first..self.end).contains(&self.next);
        if !is_ring || self.end > JOURNAL_BLOCKS_MAX {
            return Err(damaged("the size of the journal is impossible"));
        }
        self.left = self.end - self.first;
        Ok(Some(self))
    }

    /// The next block of the ring, and its place on the disk; none after a whole turn.
    fn next(&mut self) -> Result<Option<(u64, Vec<u8>)>, InspectError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        let logical = u64::from(self.next);
        self.left = left;
        self.next = if self.next + 1 == self.end { self.first } else { self.next + 1 };
        let index = self.runs.partition_point(|run| run.logical + run.blocks <= logical);
        let run = self.runs.get(index).filter(|run| run.logical <= logical);
        let run = run.ok_or_else(|| damaged("the journal has a hole"))?;
        let block = run.physical + (logical - run.logical);
        Ok(Some((block, self.filesystem.disk.stored_block(block)?)))
    }

    /// Whether the checksum at `at` is right; its own place counts as zeroes.
    fn is_sound(&self, block: &[u8], at: usize) -> bool {
        if self.checksums == Checksums::None {
            return true;
        }
        let sum = checksum(self.seed, &block[..at]);
        let sum = checksum(sum, &[0; 4]);
        checksum(sum, &block[at + 4..]) == be32(block, at)
    }

    /// Reads the blocks that follow a descriptor; says whether all of them are there.
    fn read_writes(&mut self, block: &[u8], writes: &mut Vec<(u64, Write)>) -> Result<bool, InspectError> {
        let end = if self.checksums == Checksums::None { block.len() } else { block.len() - TAIL_BYTES };
        let mut rest = &block[HEADER_BYTES..end];
        loop {
            let Some((tag, bytes)) = self.tag(rest) else { return Ok(true) };
            rest = rest.get(bytes..).unwrap_or_default();
            let Some((place, copy)) = self.next()? else { return Ok(false) };
            let sum = checksum(checksum(self.seed, &self.sequence.to_be_bytes()), &copy);
            let is_torn = match self.checksums {
                Checksums::None => false,
                Checksums::Two => sum & 0xffff != tag.checksum,
                Checksums::Three => sum != tag.checksum,
            };
            let logged = Logged { block: place, is_escaped: tag.flags & TAG_ESCAPED != 0 };
            writes.push((tag.target, Write { logged, sequence: self.sequence, is_torn }));
            if tag.flags & TAG_LAST != 0 {
                return Ok(true);
            }
        }
    }

    /// The first tag of `bytes`, and how long it is.
    fn tag(&self, bytes: &[u8]) -> Option<(Tag, usize)> {
        let (short, flags, sum) = match self.checksums {
            Checksums::Three => (16, be32(bytes, 4), be32(bytes, 12)),
            Checksums::Two if self.is_wide => (14, u32::from(be16(bytes, 6)), u32::from(be16(bytes, 4))),
            Checksums::None if self.is_wide => (12, u32::from(be16(bytes, 6)), 0),
            Checksums::Two => (10, u32::from(be16(bytes, 6)), u32::from(be16(bytes, 4))),
            Checksums::None => (8, u32::from(be16(bytes, 6)), 0),
        };
        if bytes.len() < short {
            return None;
        }
        let high = if self.is_wide { be32(bytes, 8) } else { 0 };
        let target = u64::from(high) << 32 | u64::from(be32(bytes, 0));
        let long = if flags & TAG_SAME_UUID != 0 { short } else { short + UUID_BYTES };
        Some((Tag { target, flags, checksum: sum }, long))
    }

    fn read_revoked(&self, block: &[u8], revoked: &mut Vec<u64>) -> Result<(), InspectError> {
        let used = be32(block, HEADER_BYTES) as usize;
        let bytes = block.get(HEADER_BYTES + 4..used);
        let bytes = bytes.ok_or_else(|| damaged("a list of freed blocks in the journal is too long"))?;
        for number in bytes.chunks_exact(if self.is_wide { 8 } else { 4 }) {
            let low = u64::from(be32(number, number.len() - 4));
            let high = if self.is_wide { u64::from(be32(number, 0)) } else { 0 };
            revoked.push(high << 32 | low);
        }
        Ok(())
    }
}
