//! Files of segments: one after the other, each naming the one before it by hash, so that nothing that merely looks like a
//! segment is taken for one. Owns walking through such a file, reading a table or an extent of it, and writing the next
//! segment at its end.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use zstd::bulk::Compressor;

use crate::block::BLOCK_BYTES;
use crate::error::VolumeError;
use crate::segment::{
    self, Companion, Damage, EXTENT_BLOCKS_MAX, Extent, HEADER_BYTES, Header, Marks, SegmentHash, Stored,
    TABLE_BYTES_MAX, Table, TableWriter, VolumeUuid,
};
use crate::storage::StoredFile;

/// Effort of zstd: one core keeps up with a disk of a gigabyte a second at this level, and not at the next ones.
const ZSTD_LEVEL: i32 = 1;
thread_local! {
    /// Made once for each thread that packs: its tables are larger than what is packed.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(ZSTD_LEVEL).ok());
}

/// What packing must save of a block to be worth unpacking it: a sixteenth.
const SAVED_MIN: usize = 16;

/// A file of segments with its name, for errors.
#[derive(Debug)]
pub struct ChainFile<F> {
    /// Its name within the volume's folder.
    pub name: String,
    /// The volume whose segments it may hold, and no other's.
    pub volume: VolumeUuid,
    /// The file.
    pub file: F,
}

/// A segment that was found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Where its header begins.
    pub offset: u64,
    /// Its header.
    pub header: Header,
    /// What the next one calls it.
    pub identity: SegmentHash,
}

/// How a walk through a file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// At the end of the file.
    Whole {
        /// The file's size.
        bytes: u64,
    },
    /// Before it: what follows is no segment, or not all of one.
    Broken {
        /// Where the last good segment ends.
        offset: u64,
        /// What is wrong with what follows.
        damage: Damage,
    },
}

impl<F: StoredFile> ChainFile<F> {
    /// Goes from segment to segment from `from` on; `previous` is the identity of the one before. Headers alone are
    /// verified. `each` is told of every one and may end the walk.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn walk(
        &self,
        from: u64,
        mut previous: Option<SegmentHash>,
        mut each: impl FnMut(Located) -> bool,
    ) -> Result<End, VolumeError> {
        let bytes = self.file.bytes().map_err(VolumeError::file("read", &self.name))?;
        let mut offset = from;
        while offset < bytes {
            let damage = match self.located(offset, bytes)? {
                Err(damage) => damage,
                Ok(found) if previous.is_some_and(|previous| previous != found.header.parent_hash) => {
                    Damage::Chain
                }
                Ok(found) => {
                    offset += found.header.bytes();
                    previous = Some(found.identity);
                    if !each(found) {
                        break;
                    }
                    continue;
                }
            };
            return Ok(End::Broken { offset, damage });
        }
        Ok(End::Whole { bytes: offset })
    }

    fn located(&self, offset: u64, bytes: u64) -> Result<Result<Located, Damage>, VolumeError> {
        let mut buffer = [0; HEADER_BYTES];
        self.file.read_into(offset, &mut buffer).map_err(VolumeError::file("read", &self.name))?;
        let found = Header::decode(&buffer).and_then(|(header, hash)| {
            if header.volume != self.volume {
                return Err(Damage::Foreign { volume: header.volume });
            }
            let end = offset.checked_add(header.bytes());
            if end.is_none_or(|end| end > bytes) {
                return Err(Damage::Bounds { what: "length" });
            }
            Ok(Located { offset, identity: header.identity(hash), header })
        });
        Ok(found)
    }

    /// The table of a segment.
    ///
    /// # Errors
    /// It cannot be read or is damaged.
    pub fn table(&self, located: &Located) -> Result<Table, VolumeError> {
        let header = &located.header;
        let mut bytes = vec![0; header.table_bytes as usize];
        let read = self.file.read_into(located.offset + header.table_offset, &mut bytes);
        read.map_err(VolumeError::file("read", &self.name))?;
        Table::decode(header, &bytes).map_err(|damage| self.damaged(located.offset, damage))
    }

    /// The content of an extent, verified.
    ///
    /// # Errors
    /// It cannot be read or is damaged.
    pub fn content(&self, segment_offset: u64, extent: &Extent) -> Result<Vec<u8>, VolumeError> {
        let mut bytes = vec![0; extent.bytes as usize];
        let read = self.file.read_into(segment_offset + extent.offset, &mut bytes);
        read.map_err(VolumeError::file("read", &self.name))?;
        segment::unpack(extent, &bytes).map_err(|damage| self.damaged(segment_offset, damage))
    }

    /// Verifies all of a segment.
    ///
    /// # Errors
    /// It cannot be read or is damaged.
    pub fn verify(&self, located: &Located) -> Result<(), VolumeError> {
        for extent in self.table(located)?.extents {
            if extent.stored != Stored::Zeroes {
                self.content(located.offset, &extent)?;
            }
        }
        Ok(())
    }

    /// A reader stops where a segment is being written at this moment. At one of another volume it must not: what follows
    /// would be a mixture of both.
    ///
    /// # Errors
    /// The walk ended at such a one.
    pub(crate) fn refuse_foreign(&self, end: &End) -> Result<(), VolumeError> {
        match end {
            End::Broken { offset, damage: damage @ Damage::Foreign { .. } } => {
                Err(self.damaged(*offset, damage.clone()))
            }
            End::Broken { .. } | End::Whole { .. } => Ok(()),
        }
    }

    /// The error that names this file.
    #[must_use]
    pub fn damaged(&self, offset: u64, source: Damage) -> VolumeError {
        VolumeError::Damaged { name: self.name.clone(), offset, source }
    }
}

/// An extent that is ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    extent: Extent,
    stored: Vec<u8>,
}

/// Whether content is worth the time to pack it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A guest waits for it.
    Never,
    /// It pays in space and in what is sent to replicas.
    WherePays,
}

/// Makes extents of the content of blocks from `start` on.
#[must_use]
pub fn pack(start: u64, content: &[u8], packing: Packing) -> Vec<Packed> {
    let blocks: Vec<&[u8]> = content.chunks(BLOCK_BYTES as usize).collect();
    let mut packed = Vec::new();
    let mut from = 0;
    while from < blocks.len() {
        let is_zeroes = segment::is_zeroes(blocks[from]);
        let same = |block: &&&[u8]| segment::is_zeroes(block) == is_zeroes;
        let mut count = blocks[from..].iter().take_while(same).count();
        let block = start + from as u64;
        if is_zeroes {
            packed.push(zeroes(&(block..block + count as u64)));
        } else {
            count = count.min(EXTENT_BLOCKS_MAX as usize);
            let end = (from + count) * BLOCK_BYTES as usize;
            packed.push(pack_content(block, &content[from * BLOCK_BYTES as usize..end], packing));
        }
        from += count;
    }
    packed
}

/// Parts of a run of blocks that are read and stored at once: bounds the memory for it.
pub fn split(run: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let (mut from, end) = (run.start, run.end);
    std::iter::from_fn(move || {
        let part = from..end.min(from + u64::from(EXTENT_BLOCKS_MAX));
        from = part.end;
        (!part.is_empty()).then_some(part)
    })
}

/// An extent of zeroes.
#[must_use]
pub fn zeroes(blocks: &Range<u64>) -> Packed {
    let count = u32::try_from(blocks.end - blocks.start).expect("who makes zeroes bounds them");
    let extent =
        Extent { start: blocks.start, count, stored: Stored::Zeroes, offset: 0, bytes: 0, checksums: vec![] };
    Packed { extent, stored: vec![] }
}

fn pack_content(start: u64, content: &[u8], packing: Packing) -> Packed {
    let checksums = content.chunks(BLOCK_BYTES as usize).map(crc32c::crc32c).collect::<Vec<_>>();
    let count = u32::try_from(checksums.len()).expect("an extent has few blocks");
    let worth = content.len() - content.len() / SAVED_MIN;
    let smaller = match packing {
        Packing::Never => None,
        // A buffer that is too small is how zstd is told not to try further.
        Packing::WherePays => {
            let mut stored = vec![0; worth];
            let length = COMPRESSOR.with_borrow_mut(|compressor| match compressor {
                Some(compressor) => compressor.compress_to_buffer(content, &mut stored).ok(),
                None => None,
            });
            length.map(|length| {
                stored.truncate(length);
                stored.shrink_to_fit();
                stored
            })
        }
    };
    let (stored, bytes) = match smaller {
        Some(bytes) => (Stored::Zstd, bytes),
        None => (Stored::Raw, content.to_vec()),
    };
    let length = u32::try_from(bytes.len()).expect("an extent has few bytes");
    Packed { extent: Extent { start, count, stored, offset: 0, bytes: length, checksums }, stored: bytes }
}

/// A segment that is being written at the end of a file, or several that are parts of one checkpoint. Nothing of it counts
/// before [`SegmentWriter::finish`].
#[derive(Debug)]
pub struct SegmentWriter<F> {
    file: Arc<ChainFile<F>>,
    /// Where the first part begins.
    first: u64,
    /// The part before.
    previous: Option<SegmentHash>,
    start: u64,
    end: u64,
    table: TableWriter,
}

impl<F: StoredFile> SegmentWriter<F> {
    /// Begins at `start`, where the last segment of the file ends.
    #[must_use]
    pub fn new(file: Arc<ChainFile<F>>, start: u64) -> Self {
        Self {
            file,
            first: start,
            previous: None,
            start,
            end: start + HEADER_BYTES as u64,
            table: TableWriter::default(),
        }
    }

    /// Stores extents, in any order.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn push(&mut self, list: Vec<Packed>) -> Result<(), VolumeError> {
        let failed = |source| VolumeError::File { operation: "write", name: self.file.name.clone(), source };
        for Packed { mut extent, stored } in list {
            if !stored.is_empty() {
                extent.offset = self.end - self.start;
                self.file.file.write_from(self.end, &stored).map_err(failed)?;
                self.end += stored.len() as u64;
            }
            self.table.push(&extent);
        }
        Ok(())
    }

    /// Whether nothing has been stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Bytes of its table so far, all of which are in memory.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.table.bytes()
    }

    /// The file that it is written to.
    #[must_use]
    pub fn file(&self) -> Arc<ChainFile<F>> {
        Arc::clone(&self.file)
    }

    /// Ends a part, durably, and begins the next one. The header is as for [`SegmentWriter::finish`].
    ///
    /// # Errors
    /// The file cannot be written: the whole is to be abandoned.
    pub fn finish_part(&mut self, header: Header) -> Result<(), VolumeError> {
        let marks = Marks { is_part: true, ..header.marks };
        let header = Header { marks, parent_hash: self.previous.unwrap_or(header.parent_hash), ..header };
        let table = std::mem::take(&mut self.table).finish(&[]);
        let located = close(&self.file, self.start, self.end, table, header)?;
        self.previous = Some(located.identity);
        self.start = located.offset + located.header.bytes();
        self.end = self.start + HEADER_BYTES as u64;
        Ok(())
    }

    /// Writes table and header, and makes all of it durable. The header's words about the table are filled in.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self, header: Header, companions: &[Companion]) -> Result<Located, VolumeError> {
        let Self { file, first, previous, start, end, table } = self;
        let header = Header { parent_hash: previous.unwrap_or(header.parent_hash), ..header };
        let result = close(&file, start, end, table.finish(companions), header);
        if result.is_err() {
            // It may look whole to the next reader, and is not durable.
            let _ = file.file.resize(first);
        }
        result
    }

    /// Forgets what was stored.
    pub fn abandon(self) {
        // What stays is overwritten by the next segment, and is none.
        let _ = self.file.file.resize(self.first);
    }
}

fn close<F: StoredFile>(
    file: &ChainFile<F>,
    start: u64,
    end: u64,
    (table, table_hash): (Vec<u8>, [u8; 32]),
    header: Header,
) -> Result<Located, VolumeError> {
    let failed = |operation| VolumeError::file(operation, &file.name);
    let table_bytes = u32::try_from(table.len()).ok().filter(|bytes| *bytes <= TABLE_BYTES_MAX);
    let table_bytes = table_bytes.ok_or_else(|| failed("write")(io::ErrorKind::FileTooLarge.into()))?;
    let header = Header { table_offset: end - start, table_bytes, table_hash, ..header };
    let (bytes, hash) = header.encode();
    file.file.write_from(end, &table).map_err(failed("write"))?;
    file.file.write_from(start, &bytes).map_err(failed("write"))?;
    file.file.resize(start + header.bytes()).map_err(failed("write"))?;
    file.file.sync().map_err(failed("sync"))?;
    Ok(Located { offset: start, identity: header.identity(hash), header })
}
