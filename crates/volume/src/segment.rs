//! The form of a segment: what changed between two checkpoints, or what the oldest checkpoint held where the disk has
//! changed since. Owns encoding and decoding of its header and table, pure functions over bytes; the content of its extents
//! is between them and is read one by one. What is read may be damaged or forged: it is bounded and checked before it is
//! believed. The format is told in docs/reference/volume-format.md.
//!
//! ```text
//! ┌────────┬──────────────────────────────┬───────────────────────────┬─────────┐
//! │ header │ content of extents, in order │ table: extents, checksums │ padding │
//! └────────┴──────────────────────────────┴───────────────────────────┴─────────┘
//! ```

use std::cell::RefCell;
use std::ops::Range;

use sha2::{Digest, Sha256};
use zstd::bulk::Decompressor;

use crate::block::BLOCK_BYTES;

/// Bytes of a header, and of the sectors that a segment ends at: what is durable already is not written again with what
/// follows it.
pub const HEADER_BYTES: usize = 512;
/// Most blocks of an extent with content: what is read and written at once.
pub const EXTENT_BLOCKS_MAX: u32 = 256;
/// Most bytes of a table. Writers end a segment long before, and go on with another one.
pub const TABLE_BYTES_MAX: u32 = 512 << 20;
/// Most companions of a checkpoint: the volumes of a group's tasks.
pub const COMPANIONS_MAX: usize = 64;

const MAGIC: [u8; 8] = *b"lithseg\n";
/// The newest version, and the one that is written where the older is enough: parts of checkpoints came with the second.
const VERSION: u32 = 2;
const VERSION_WITHOUT_PARTS: u32 = 1;
const ENTRY_BYTES: usize = 32;
const COMPANION_BYTES: usize = 24;

thread_local! {
    /// Made once for each thread that unpacks.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
}

/// Names one state of a volume: who wrote (the epoch grows when the right to write moves), and when (by counting).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CheckpointId {
    /// The writer epoch.
    pub epoch: u64,
    /// Grows by one with each checkpoint, over all epochs.
    pub seq: u64,
}

/// Tells one volume from another, whatever they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VolumeUuid(pub [u8; 16]);

/// What a segment is, by the hash of its header, which covers its table, which covers its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SegmentHash(pub [u8; 32]);

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The blocks that changed since the parent, as they were at the checkpoint.
    Checkpoint,
    /// Blocks as they were at the base, for they have changed since.
    Base,
}

/// What is known of a checkpoint beside its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// The task had ended: nothing was being written.
    pub is_at_rest: bool,
    /// The first one after a crash: blocks may be in it that have not changed.
    pub is_recovered: bool,
    /// Several checkpoints were put into one: those between its parent and itself are gone.
    pub is_merged: bool,
    /// It is not the last segment of its checkpoint, which is too large for one: without the others it is none.
    pub is_part: bool,
}

/// Another volume that was cut at the same instant, and changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Companion {
    /// Which.
    pub volume: VolumeUuid,
    /// Its checkpoint.
    pub seq: u64,
}

/// The header of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What it holds.
    pub kind: Kind,
    /// Of which volume.
    pub volume: VolumeUuid,
    /// The checkpoint that it leads to; of base blocks, that at which they were so.
    pub id: CheckpointId,
    /// The checkpoint that it starts from.
    pub parent: CheckpointId,
    /// The segment that leads there.
    pub parent_hash: SegmentHash,
    /// The instant of the cut, nanoseconds since 1970 UTC.
    pub time_ns: i64,
    /// Blocks of the disk at that instant.
    pub disk_blocks: u64,
    /// What else is known.
    pub marks: Marks,
    /// Of a merged one, the identity of the segment that led to this checkpoint before; else zeroes.
    pub stands_for: SegmentHash,
    /// Bytes from the header's start to the table.
    pub table_offset: u64,
    /// Bytes of the table.
    pub table_bytes: u32,
    /// The table's SHA-256.
    pub table_hash: [u8; 32],
}

/// How an extent's content is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// Not at all: it is zeroes.
    Zeroes,
    /// As it is.
    Raw,
    /// As a zstd frame.
    Zstd,
}

/// A run of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Its first block.
    pub start: u64,
    /// How many.
    pub count: u32,
    /// How their content is stored.
    pub stored: Stored,
    /// Where, from the header's start.
    pub offset: u64,
    /// In how many bytes.
    pub bytes: u32,
    /// CRC-32C of each block; none for zeroes.
    pub checksums: Vec<u32>,
}

impl Extent {
    /// Its blocks.
    #[must_use]
    pub fn blocks(&self) -> Range<u64> {
        self.start..self.start + u64::from(self.count)
    }
}

/// All that a segment says of its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// In no order: those that the guest was about to overwrite come first.
    pub extents: Vec<Extent>,
    /// Volumes cut at the same instant that changed, too.
    pub companions: Vec<Companion>,
}

/// What is wrong with bytes that should be a segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It does not begin like one.
    #[error("it is no segment")]
    NoSegment,
    /// A newer version of lith wrote it.
    #[error("it has version {version} of the format, which is newer than this version of lith knows")]
    TooNew {
        /// The version.
        version: u32,
    },
    /// The header's hash is another one.
    #[error("its header does not match its checksum")]
    Header,
    /// The table's hash is another one.
    #[error("its table does not match its checksum")]
    Table,
    /// A value that no writer writes.
    #[error("its {what} is out of bounds")]
    Bounds {
        /// Which.
        what: &'static str,
    },
    /// The content of a block is another one.
    #[error("the content of block {block} does not match its checksum")]
    Block {
        /// Which.
        block: u64,
    },
    /// A compressed extent cannot be unpacked.
    #[error("the content of the extent at block {block} cannot be unpacked")]
    Packed {
        /// Its first block.
        block: u64,
    },
    /// It does not follow what is before it.
    #[error("it does not follow the segment before it")]
    Chain,
    /// It is whole, and somebody else's.
    #[error("it belongs to another history, that of volume {volume}")]
    Foreign {
        /// Whose.
        volume: VolumeUuid,
    },
    /// Files that were known to be there are not.
    #[error("it is missing")]
    Missing,
}

impl Header {
    /// What the next segment calls this one, whose own hash is `hash`.
    #[must_use]
    pub fn identity(&self, hash: SegmentHash) -> SegmentHash {
        if self.marks.is_merged && !self.marks.is_part { self.stands_for } else { hash }
    }

    /// Bytes of the whole segment with its padding.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.table_offset + u64::from(self.table_bytes)).next_multiple_of(HEADER_BYTES as u64)
    }

    /// Its bytes, and the hash by which the next one refers to it.
    #[must_use]
    pub fn encode(&self) -> ([u8; HEADER_BYTES], SegmentHash) {
        let mut writer = Vec::with_capacity(HEADER_BYTES);
        writer.extend(MAGIC);
        let version = if self.marks.is_part { VERSION } else { VERSION_WITHOUT_PARTS };
        writer.extend(version.to_le_bytes());
        writer.extend(match self.kind {
            Kind::Checkpoint => [1_u8, 0, 0, 0],
            Kind::Base => [2, 0, 0, 0],
        });
        writer.extend(self.volume.0);
        for number in [self.id.epoch, self.id.seq, self.parent.epoch, self.parent.seq] {
            writer.extend(number.to_le_bytes());
        }
        writer.extend(self.parent_hash.0);
        writer.extend(self.time_ns.to_le_bytes());
        writer.extend(self.disk_blocks.to_le_bytes());
        let Marks { is_at_rest, is_recovered, is_merged, is_part } = self.marks;
        let marks = [is_at_rest, is_recovered, is_merged, is_part].into_iter().zip(0..);
        let marks = marks.fold(0, |marks, (mark, bit)| marks | u32::from(mark) << bit);
        writer.extend(marks.to_le_bytes());
        writer.extend(self.table_bytes.to_le_bytes());
        writer.extend(self.table_offset.to_le_bytes());
        writer.extend(self.table_hash);
        writer.extend(self.stands_for.0);
        writer.resize(HEADER_BYTES - 32, 0);
        let hash: [u8; 32] = Sha256::digest(&writer).into();
        writer.extend(hash);
        let bytes = writer.try_into().expect("it has just been made that long");
        (bytes, SegmentHash(hash))
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`Damage`].
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<(Self, SegmentHash), Damage> {
        let mut reader = Reader { bytes };
        if reader.array::<8>() != MAGIC {
            return Err(Damage::NoSegment);
        }
        let version = reader.u32();
        if version > VERSION {
            return Err(Damage::TooNew { version });
        }
        let (covered, hash) = bytes.split_at(HEADER_BYTES - 32);
        let wanted: [u8; 32] = Sha256::digest(covered).into();
        if wanted != hash {
            return Err(Damage::Header);
        }
        let kind = match reader.u32() {
            1 => Kind::Checkpoint,
            2 => Kind::Base,
            _ => return Err(Damage::Bounds { what: "kind" }),
        };
        let volume = VolumeUuid(reader.array());
        let [id, parent] = [(); 2].map(|()| CheckpointId { epoch: reader.u64(), seq: reader.u64() });
        let parent_hash = SegmentHash(reader.array());
        let time_ns = i64::from_le_bytes(reader.array());
        let disk_blocks = reader.u64();
        let marks = reader.u32();
        let marks = Marks {
            is_at_rest: marks & 1 != 0,
            is_recovered: marks & 2 != 0,
            is_merged: marks & 4 != 0,
            is_part: marks & 8 != 0,
        };
        let table_bytes = reader.u32();
        let table_offset = reader.u64();
        let table_hash = reader.array();
        let stands_for = SegmentHash(reader.array());
        if table_bytes > TABLE_BYTES_MAX {
            return Err(Damage::Bounds { what: "table" });
        }
        if table_offset < HEADER_BYTES as u64 || table_offset > u64::MAX / 4 {
            return Err(Damage::Bounds { what: "length" });
        }
        if disk_blocks > u64::MAX / BLOCK_BYTES / 4 {
            return Err(Damage::Bounds { what: "disk's size" });
        }
        let header = Header {
            kind,
            volume,
            id,
            parent,
            parent_hash,
            time_ns,
            disk_blocks,
            marks,
            stands_for,
            table_offset,
            table_bytes,
            table_hash,
        };
        Ok((header, SegmentHash(wanted)))
    }
}

/// A table while its segment is being written: as bytes, for a large change has many extents.
#[derive(Debug, Default)]
pub struct TableWriter {
    count: u32,
    entries: Vec<u8>,
    checksums: Vec<u8>,
}

impl TableWriter {
    /// Adds an extent.
    pub fn push(&mut self, extent: &Extent) {
        self.count += 1;
        self.entries.extend(extent.start.to_le_bytes());
        self.entries.extend(extent.offset.to_le_bytes());
        self.entries.extend(extent.count.to_le_bytes());
        self.entries.extend(extent.bytes.to_le_bytes());
        let stored: u64 = match extent.stored {
            Stored::Zeroes => 0,
            Stored::Raw => 1,
            Stored::Zstd => 2,
        };
        self.entries.extend(stored.to_le_bytes());
        extent.checksums.iter().for_each(|checksum| self.checksums.extend(checksum.to_le_bytes()));
    }

    /// Whether there is no extent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Its bytes so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        8 + self.entries.len() + self.checksums.len()
    }

    /// All of it, and its hash for the header.
    #[must_use]
    pub fn finish(self, companions: &[Companion]) -> (Vec<u8>, [u8; 32]) {
        let companions = &companions[..companions.len().min(COMPANIONS_MAX)];
        let count = u32::try_from(companions.len()).expect("it is small");
        let mut bytes = [self.count.to_le_bytes(), count.to_le_bytes()].concat();
        bytes.extend(self.entries);
        for companion in companions {
            bytes.extend(companion.volume.0);
            bytes.extend(companion.seq.to_le_bytes());
        }
        bytes.extend(self.checksums);
        let hash = Sha256::digest(&bytes).into();
        (bytes, hash)
    }
}

impl Table {
    /// Reads the table of a segment.
    ///
    /// # Errors
    /// [`Damage`].
    pub fn decode(header: &Header, bytes: &[u8]) -> Result<Self, Damage> {
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        if hash != header.table_hash {
            return Err(Damage::Table);
        }
        let bounds = |what| Damage::Bounds { what };
        let mut reader = Reader { bytes };
        if bytes.len() < 8 {
            return Err(bounds("table"));
        }
        let (extents, companions) = (reader.u32() as usize, reader.u32() as usize);
        let wanted = extents.checked_mul(ENTRY_BYTES).zip(companions.checked_mul(COMPANION_BYTES));
        let wanted = wanted.and_then(|(extents, companions)| extents.checked_add(companions));
        if companions > COMPANIONS_MAX || wanted.is_none_or(|wanted| wanted > reader.bytes.len()) {
            return Err(bounds("table"));
        }
        let mut table = Table { extents: Vec::with_capacity(extents), companions: Vec::new() };
        for _ in 0..extents {
            table.extents.push(extent(header, &mut reader)?);
        }
        for _ in 0..companions {
            let volume = VolumeUuid(reader.array());
            table.companions.push(Companion { volume, seq: reader.u64() });
        }
        for extent in &mut table.extents {
            if extent.stored == Stored::Zeroes {
                continue;
            }
            let count = extent.count as usize;
            if reader.bytes.len() < count * 4 {
                return Err(bounds("table"));
            }
            extent.checksums = (0..count).map(|_| reader.u32()).collect();
        }
        if reader.bytes.is_empty() { Ok(table) } else { Err(bounds("table")) }
    }
}

fn extent(header: &Header, reader: &mut Reader<'_>) -> Result<Extent, Damage> {
    let (start, offset, count, bytes) = (reader.u64(), reader.u64(), reader.u32(), reader.u32());
    let stored = match reader.u64() {
        0 => Stored::Zeroes,
        1 => Stored::Raw,
        2 => Stored::Zstd,
        _ => return Err(Damage::Bounds { what: "way to store an extent" }),
    };
    let end = start.checked_add(u64::from(count));
    if count == 0 || end.is_none_or(|end| end > header.disk_blocks) {
        return Err(Damage::Bounds { what: "extent" });
    }
    let content = offset.checked_add(u64::from(bytes));
    let lies_within = offset >= HEADER_BYTES as u64 && content.is_some_and(|end| end <= header.table_offset);
    let raw_bytes = u64::from(count) * BLOCK_BYTES;
    let fits = match stored {
        Stored::Zeroes => bytes == 0 && offset == 0,
        Stored::Raw => count <= EXTENT_BLOCKS_MAX && u64::from(bytes) == raw_bytes && lies_within,
        // What does not get smaller is not packed.
        Stored::Zstd => count <= EXTENT_BLOCKS_MAX && u64::from(bytes) < raw_bytes && lies_within,
    };
    if fits {
        Ok(Extent { start, count, stored, offset, bytes, checksums: vec![] })
    } else {
        Err(Damage::Bounds { what: "extent" })
    }
}

/// The content of an extent from its stored form, verified.
///
/// # Errors
/// [`Damage`].
pub fn unpack(extent: &Extent, stored: &[u8]) -> Result<Vec<u8>, Damage> {
    let raw_bytes = extent.count as usize * BLOCK_BYTES as usize;
    let content = match extent.stored {
        Stored::Zeroes => return Ok(vec![0; raw_bytes]),
        Stored::Raw => stored.to_vec(),
        Stored::Zstd => {
            let packed = |_| Damage::Packed { block: extent.start };
            DECOMPRESSOR.with_borrow_mut(|decompressor| match decompressor {
                Some(decompressor) => decompressor.decompress(stored, raw_bytes).map_err(packed),
                None => Err(Damage::Packed { block: extent.start }),
            })?
        }
    };
    if content.len() != raw_bytes {
        return Err(Damage::Packed { block: extent.start });
    }
    for ((block, content), checksum) in
        extent.blocks().zip(content.chunks(BLOCK_BYTES as usize)).zip(&extent.checksums)
    {
        if crc32c::crc32c(content) != *checksum {
            return Err(Damage::Block { block });
        }
    }
    Ok(content)
}

/// Whether a block is zeroes.
#[must_use]
pub fn is_zeroes(content: &[u8]) -> bool {
    // Compared with itself, shifted: a comparison of memory is as fast as the machine can.
    content.first().is_none_or(|first| *first == 0)
        && content[..content.len().saturating_sub(1)] == content[1.min(content.len())..]
}

/// Takes numbers from bytes; the caller has checked that they are there.
struct Reader<'bytes> {
    bytes: &'bytes [u8],
}

impl Reader<'_> {
    fn array<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        let (first, rest) = self.bytes.split_first_chunk().expect("its caller has checked the length");
        self.bytes = rest;
        *first
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

#[cfg(test)]
mod tests;
