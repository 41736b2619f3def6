//! Blocks of a volume: where the journal has a newer one, that one. Owns the bound on how many are looked at.
//!
//! Must not know what is in a block.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use super::error::{InspectError, damaged};
use super::limits::{VISITS_MIN, VISITS_PER_BLOCK};
use super::source::Source;

/// Blocks of metadata kept: inodes of a folder's files lie in a handful of blocks, beside the folder's own.
const CACHED: usize = 64;

/// Begins every block of the journal's own. A logged block that begins with it is stored without.
pub(super) const JOURNAL_MAGIC: [u8; 4] = [0xc0, 0x3b, 0x39, 0x98];

/// Where the journal has a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) block: u64,
    /// Its first bytes are [`JOURNAL_MAGIC`], and zeroes in the journal.
    pub(super) is_escaped: bool,
}

/// Blocks of the file system that stand in the journal, newest state.
pub(super) type Overlay = HashMap<u64, Logged>;

type Cached = Option<(u64, Arc<[u8]>)>;

/// The blocks.
pub(super) struct Disk {
    source: Box<dyn Source>,
    pub(super) block_bytes: u32,
    pub(super) blocks: u64,
    overlay: Overlay,
    cache: RefCell<Vec<Cached>>,
    visits_left: Cell<u64>,
}

impl Disk {
    /// `blocks` of them lie within the source: who calls has checked it.
    pub(super) fn new(source: Box<dyn Source>, block_bytes: u32, blocks: u64) -> Disk {
        let (overlay, cache) = (Overlay::new(), RefCell::new(vec![None; CACHED]));
        let disk = Disk { source, block_bytes, blocks, overlay, cache, visits_left: Cell::new(0) };
        disk.begin();
        disk
    }

    /// From now on, what the journal has is taken from there.
    pub(super) fn set_overlay(&mut self, overlay: Overlay) {
        self.overlay = overlay;
        self.cache.borrow_mut().fill(None);
    }

    pub(super) fn set_blocks(&mut self, blocks: u64) {
        self.blocks = blocks;
    }

    pub(super) fn source_bytes(&self) -> u64 {
        self.source.bytes()
    }

    fn visits_max(&self) -> u64 {
        self.blocks.saturating_mul(VISITS_PER_BLOCK).saturating_add(VISITS_MIN)
    }

    /// A new call begins: it may look at as many blocks as any.
    pub(super) fn begin(&self) {
        self.visits_left.set(self.visits_max());
    }

    fn visit(&self) -> Result<(), InspectError> {
        let left = self.visits_left.get().checked_sub(1).ok_or(InspectError::TooMuch {
            what: "more blocks to look at than a sound file system has",
            limit: self.visits_max(),
        })?;
        self.visits_left.set(left);
        Ok(())
    }

    /// A block of metadata.
    pub(super) fn block(&self, number: u64) -> Result<Arc<[u8]>, InspectError> {
        self.visit()?;
        let slot = (number % CACHED as u64) as usize;
        if let Some((cached, bytes)) = &self.cache.borrow()[slot]
            && *cached == number
        {
            return Ok(Arc::clone(bytes));
        }
        let mut bytes = vec![0; self.block_bytes as usize];
        self.current(number, &mut bytes)?;
        let bytes: Arc<[u8]> = bytes.into();
        self.cache.borrow_mut()[slot] = Some((number, Arc::clone(&bytes)));
        Ok(bytes)
    }

    /// A block as it lies on the disk, whatever the journal has.
    pub(super) fn stored_block(&self, number: u64) -> Result<Vec<u8>, InspectError> {
        self.visit()?;
        let mut bytes = vec![0; self.block_bytes as usize];
        self.stored(number, &mut bytes)?;
        Ok(bytes)
    }

    /// Consecutive blocks of a file, as many as `into` is long.
    pub(super) fn content(&self, first: u64, into: &mut [u8]) -> Result<(), InspectError> {
        let count = into.len() as u64 / u64::from(self.block_bytes);
        if self.overlay.is_empty() || (0..count).all(|index| !self.overlay.contains_key(&(first + index))) {
            return self.stored(first, into);
        }
        for (index, piece) in into.chunks_mut(self.block_bytes as usize).enumerate() {
            self.current(first + index as u64, piece)?;
        }
        Ok(())
    }

    fn current(&self, number: u64, into: &mut [u8]) -> Result<(), InspectError> {
        let Some(logged) = self.overlay.get(&number) else { return self.stored(number, into) };
        self.stored(logged.block, into)?;
        if logged.is_escaped
            && let Some(start) = into.first_chunk_mut()
        {
            *start = JOURNAL_MAGIC;
        }
        Ok(())
    }

    fn stored(&self, first: u64, into: &mut [u8]) -> Result<(), InspectError> {
        let count = (into.len() as u64).div_ceil(u64::from(self.block_bytes));
        // Block 0 holds the superblock at most, and in every structure stands for none.
        if first.checked_add(count).is_none_or(|end| end > self.blocks) {
            return Err(damaged(format!("block {first} lies outside of it")));
        }
        let offset = first * u64::from(self.block_bytes);
        self.source.read_at(offset, into).map_err(InspectError::Read)
    }
}
