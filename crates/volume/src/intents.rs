//! The write-intent map on disk: a bit for each region that may hold what no checkpoint has, and how far the history was
//! known to be durable. A bit is set durably before anything in its region is written; it is cleared some time after. The
//! other word comes after the fact and may be old: what it names was durable, so that a break before it is damage, and one
//! behind it may be a write that a power cut tore.

use std::ops::Range;

use crate::block::BlockSet;
use crate::error::VolumeError;
use crate::names::INTENTS;
use crate::storage::{Storage, StoredFile};

const MAGIC: [u8; 8] = *b"lithint\n";
/// The bits begin behind the words, at a page of their own.
const BITS_OFFSET: u64 = 4096;
/// More bits are of no disk that lith makes (16 TiB), with room for larger ones.
const BITS_BYTES_MAX: u64 = 64 << 20;

/// How far the history is known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known {
    /// The newest checkpoint.
    pub seq: u64,
    /// The newest file of base blocks.
    pub base_file: u64,
    /// Segments in it.
    pub base_segments: u64,
}

/// The map.
#[derive(Debug)]
pub struct Intents<F> {
    file: F,
}

impl<F: StoredFile> Intents<F> {
    /// How far a history is known to be durable, for who only reads it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn known_of<S: Storage<File = F>>(storage: &S) -> Result<Known, VolumeError> {
        let file = storage.open(INTENTS).map_err(VolumeError::file("open", INTENTS))?;
        file.map_or(Ok(Known::default()), |file| Self { file }.known())
    }

    /// Opens the map, or makes an empty one.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn open<S: Storage<File = F>>(storage: &S) -> Result<Self, VolumeError> {
        let failed = |operation| VolumeError::file(operation, INTENTS);
        let file = match storage.open(INTENTS).map_err(failed("open"))? {
            Some(file) => file,
            None => {
                let file = storage.create(INTENTS).map_err(failed("make"))?;
                file.sync().map_err(failed("sync"))?;
                storage.sync_folder("").map_err(failed("sync"))?;
                file
            }
        };
        Ok(Self { file })
    }

    /// The regions that are marked.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn marked(&self) -> Result<BlockSet, VolumeError> {
        let failed = VolumeError::file("read", INTENTS);
        let bytes = self.file.bytes().map_err(VolumeError::file("read", INTENTS))?;
        let bytes = bytes.saturating_sub(BITS_OFFSET).min(BITS_BYTES_MAX);
        let mut bits = vec![0; usize::try_from(bytes).unwrap_or_default()];
        self.file.read_into(BITS_OFFSET, &mut bits).map_err(failed)?;
        let mut marked = BlockSet::new();
        for (at, byte) in bits.into_iter().enumerate() {
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                let region = at as u64 * 8 + bit;
                marked.insert(region..region + 1);
            }
        }
        Ok(marked)
    }

    /// Makes durable what is read. A mark whose sync failed is shown by the kernel all the same, and is not written again by
    /// another sync: who opens the map would believe it, and a power cut would take it away.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn persist(&self) -> Result<(), VolumeError> {
        let bytes = self.file.bytes().map_err(VolumeError::file("read", INTENTS))?;
        let bytes = bytes.min(BITS_OFFSET + BITS_BYTES_MAX);
        let mut content = vec![0; usize::try_from(bytes).unwrap_or_default()];
        self.file.read_into(0, &mut content).map_err(VolumeError::file("read", INTENTS))?;
        self.file.write_from(0, &content).map_err(VolumeError::file("write", INTENTS))?;
        self.file.sync().map_err(VolumeError::file("sync", INTENTS))
    }

    /// Marks regions, durably.
    ///
    /// # Errors
    /// The file cannot be written: nothing may be written in these regions.
    pub fn mark(&self, regions: &[Range<u64>]) -> Result<(), VolumeError> {
        for run in regions {
            self.change(run, |byte, mask| byte | mask)?;
        }
        self.file.sync().map_err(VolumeError::file("sync", INTENTS))
    }

    /// Clears marks, some time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn clear(&self, regions: &[Range<u64>]) -> Result<(), VolumeError> {
        regions.iter().try_for_each(|run| self.change(run, |byte, mask| byte & !mask))
    }

    fn change(&self, regions: &Range<u64>, change: impl Fn(u8, u8) -> u8) -> Result<(), VolumeError> {
        let (first, last) = (regions.start / 8, (regions.end - 1) / 8);
        let mut bits = vec![0; usize::try_from(last - first + 1).unwrap_or_default()];
        let offset = BITS_OFFSET + first;
        self.file.read_into(offset, &mut bits).map_err(VolumeError::file("read", INTENTS))?;
        for region in regions.clone() {
            let byte = &mut bits[usize::try_from(region / 8 - first).unwrap_or_default()];
            *byte = change(*byte, 1 << (region % 8));
        }
        self.file.write_from(offset, &bits).map_err(VolumeError::file("write", INTENTS))
    }

    /// How far the history was known to be durable; the beginning when that cannot be told.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn known(&self) -> Result<Known, VolumeError> {
        let mut bytes = [0; 36];
        self.file.read_into(0, &mut bytes).map_err(VolumeError::file("read", INTENTS))?;
        let (covered, checksum) = bytes.split_at(32);
        if !covered.starts_with(&MAGIC) || crc32c::crc32c(covered).to_le_bytes() != checksum {
            return Ok(Known::default());
        }
        let number = |at: usize| u64::from_le_bytes(covered[at..at + 8].try_into().expect("eight bytes"));
        Ok(Known { seq: number(8), base_file: number(16), base_segments: number(24) })
    }

    /// Notes how far the history is durable by now, some time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&self, known: Known) -> Result<(), VolumeError> {
        let mut bytes = MAGIC.to_vec();
        for number in [known.seq, known.base_file, known.base_segments] {
            bytes.extend(number.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend(checksum.to_le_bytes());
        self.file.write_from(0, &bytes).map_err(VolumeError::file("write", INTENTS))
    }
}
