//! The file system as a whole: from the number of an inode to its content, its names, its target.

use super::content::{self, Piece};
use super::disk::Disk;
use super::entry::Kind;
use super::error::{InspectError, damaged};
use super::extents::Runs;
use super::fields::{le_halves, le32};
use super::inode::{Inode, PLACE_BYTES};
use super::journal;
use super::layout::{Layout, SUPERBLOCK_AT, SUPERBLOCK_BYTES};
use super::limits::LINK_BYTES_MAX;
use super::source::Source;

/// An opened file system.
pub(super) struct FileSystem {
    pub(super) disk: Disk,
    pub(super) layout: Layout,
}

impl FileSystem {
    /// Reads the superblock, and takes from the journal what is not in its place yet.
    pub(super) fn open(source: Box<dyn Source>) -> Result<FileSystem, InspectError> {
        let bytes = source.bytes();
        if bytes < (SUPERBLOCK_AT + SUPERBLOCK_BYTES) as u64 {
            return Err(InspectError::NotExt4);
        }
        let mut superblock = vec![0; SUPERBLOCK_BYTES];
        source.read_at(SUPERBLOCK_AT as u64, &mut superblock).map_err(InspectError::Read)?;
        let layout = Layout::parse(&superblock, bytes)?;
        let disk = Disk::new(source, layout.block_bytes, layout.blocks);
        let mut filesystem = FileSystem { disk, layout };
        if filesystem.layout.needs_recovery && filesystem.layout.journal_inode != 0 {
            let overlay = journal::replay(&filesystem)?;
            filesystem.disk.set_overlay(overlay);
            filesystem.read_layout_again()?;
        }
        Ok(filesystem)
    }

    /// The journal may have a newer superblock: the file system may have grown.
    fn read_layout_again(&mut self) -> Result<(), InspectError> {
        let block_bytes = self.layout.block_bytes as usize;
        let block = self.disk.block((SUPERBLOCK_AT / block_bytes) as u64)?;
        let superblock = block.get(SUPERBLOCK_AT % block_bytes..).unwrap_or_default();
        let superblock = superblock.get(..SUPERBLOCK_BYTES).ok_or(InspectError::NotExt4)?;
        let layout = Layout::parse(superblock, self.disk.source_bytes())?;
        if layout.block_bytes != self.layout.block_bytes {
            return Err(damaged("its journal has a superblock of another file system"));
        }
        self.disk.set_blocks(layout.blocks);
        self.layout = layout;
        Ok(())
    }

    /// The inode with this number.
    pub(super) fn inode(&self, number: u32) -> Result<Inode, InspectError> {
        let missing = || damaged(format!("there is no inode {number}"));
        if number > self.layout.inodes {
            return Err(missing());
        }
        let index = number.checked_sub(1).ok_or_else(missing)?;
        let group = index / self.layout.inodes_per_group;
        let (block, offset) = self.layout.descriptor(group).ok_or_else(missing)?;
        let block = self.disk.block(block)?;
        let descriptor = block.get(offset..).unwrap_or_default();
        let high = if self.layout.is_wide { le32(descriptor, 0x28) } else { 0 };
        let table = le_halves(descriptor, 0x8, high);
        let within = u64::from(index % self.layout.inodes_per_group) * u64::from(self.layout.inode_bytes);
        let block_bytes = u64::from(self.layout.block_bytes);
        let block = table.checked_add(within / block_bytes).ok_or_else(missing)?;
        let block = self.disk.block(block)?;
        let start = (within % block_bytes) as usize;
        let bytes = block.get(start..start + usize::from(self.layout.inode_bytes)).ok_or_else(missing)?;
        Inode::parse(number, bytes, &self.layout)
    }

    /// Where the content of `inode` lies.
    pub(super) fn runs(&self, inode: &Inode) -> Result<Runs<'_>, InspectError> {
        Runs::new(&self.disk, inode, self.layout.has_checksums)
    }

    /// Where a symbolic link leads.
    pub(super) fn target(&self, inode: &Inode) -> Result<Vec<u8>, InspectError> {
        let wrong =
            || damaged(format!("the target of the symbolic link in inode {} is impossible", inode.number));
        if inode.kind != Kind::Symlink || inode.size == 0 || inode.size > LINK_BYTES_MAX {
            return Err(wrong());
        }
        let mut target = Vec::new();
        if !inode.has_extents()? && inode.size < PLACE_BYTES as u64 {
            target.extend_from_slice(&inode.place[..inode.size as usize]);
        } else {
            content::pieces(self, inode, &mut |piece| {
                match piece {
                    Piece::Bytes(bytes) => target.extend_from_slice(bytes),
                    Piece::Zeroes(_) => return Err(wrong()),
                }
                Ok(())
            })?;
        }
        if target.contains(&0) { Err(wrong()) } else { Ok(target) }
    }
}
