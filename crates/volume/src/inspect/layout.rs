//! The superblock: how large everything is and where it lies. Everything else relies on what is checked here.

use super::error::{InspectError, damaged};
use super::fields::{CHECKSUM_START, checksum, le_halves, le16, le32};
use super::limits::BLOCK_BYTES_MAX;

/// Where the superblock lies, and how long it is, bytes.
pub(super) const SUPERBLOCK_AT: usize = 1024;
pub(super) const SUPERBLOCK_BYTES: usize = 1024;

const MAGIC: u16 = 0xef53;
const SPARSE_SUPERBLOCKS_TWO: u32 = 0x200;
const SPARSE_SUPERBLOCKS: u32 = 0x1;
const CHECKSUMS: u32 = 0x400;
const FILE_TYPES: u32 = 0x2;
const NEEDS_RECOVERY: u32 = 0x4;
const META_GROUPS: u32 = 0x10;
const WIDE: u32 = 0x80;
const OWN_SEED: u32 = 0x2000;
const LARGE_FOLDERS: u32 = 0x4000;
/// What changes nothing for a reader, or is looked at for each inode: extents, several mounts, flexible groups, values
/// of attributes in inodes, content in inodes, encryption, folders without case.
const HARMLESS: u32 = 0x40 | 0x100 | 0x200 | 0x400 | 0x8000 | 0x1_0000 | 0x2_0000;
const KNOWN: u32 = FILE_TYPES | NEEDS_RECOVERY | META_GROUPS | WIDE | OWN_SEED | LARGE_FOLDERS | HARMLESS;
/// An inode of the first version.
const INODE_BYTES_MIN: u16 = 128;
const DESCRIPTOR_BYTES: u16 = 32;
const DESCRIPTOR_BYTES_WIDE: u16 = 64;

/// What the superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) block_bytes: u32,
    pub(super) blocks: u64,
    pub(super) inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_bytes: u16,
    pub(super) is_wide: bool,
    pub(super) has_checksums: bool,
    /// With which every checksum begins.
    pub(super) seed: u32,
    pub(super) needs_recovery: bool,
    pub(super) has_large_folders: bool,
    pub(super) journal_inode: u32,
    descriptor_bytes: u16,
    first_data_block: u32,
    blocks_per_group: u32,
    groups: u64,
    /// From which block of descriptors on these lie within their groups.
    meta_from: Option<u32>,
    copies: Copies,
}

/// Which groups begin with a copy of the superblock.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Copies {
    All,
    Sparse,
    These([u32; 2]),
}

impl Layout {
    /// Reads the superblock; the source has `bytes`.
    pub(super) fn parse(block: &[u8], bytes: u64) -> Result<Layout, InspectError> {
        if le16(block, 0x38) != MAGIC || block.len() < SUPERBLOCK_BYTES {
            return Err(InspectError::NotExt4);
        }
        let (compatible, incompatible, read_only) = (le32(block, 0x5c), le32(block, 0x60), le32(block, 0x64));
        if incompatible & !KNOWN != 0 || incompatible & FILE_TYPES == 0 {
            return Err(InspectError::Unsupported { what: "a feature of another kernel" });
        }
        let has_checksums = read_only & CHECKSUMS != 0;
        if has_checksums && checksum(CHECKSUM_START, &block[..0x3fc]) != le32(block, 0x3fc) {
            return Err(damaged("the superblock's checksum is wrong"));
        }
        let own_seed = if incompatible & OWN_SEED != 0 { Some(le32(block, 0x270)) } else { None };
        let is_wide = incompatible & WIDE != 0;
        let copies = if compatible & SPARSE_SUPERBLOCKS_TWO != 0 {
            Copies::These([le32(block, 0x24c), le32(block, 0x250)])
        } else if read_only & SPARSE_SUPERBLOCKS != 0 {
            Copies::Sparse
        } else {
            Copies::All
        };
        let layout = Layout {
            block_bytes: block_bytes(le32(block, 0x18))?,
            blocks: le_halves(block, 0x4, if is_wide { le32(block, 0x150) } else { 0 }),
            inodes: le32(block, 0),
            inodes_per_group: le32(block, 0x28),
            inode_bytes: if le32(block, 0x4c) == 0 { INODE_BYTES_MIN } else { le16(block, 0x58) },
            is_wide,
            has_checksums,
            seed: own_seed.unwrap_or_else(|| checksum(CHECKSUM_START, &block[0x68..0x78])),
            needs_recovery: incompatible & NEEDS_RECOVERY != 0,
            has_large_folders: incompatible & LARGE_FOLDERS != 0,
            journal_inode: le32(block, 0xe0),
            descriptor_bytes: if is_wide { le16(block, 0xfe) } else { DESCRIPTOR_BYTES },
            first_data_block: le32(block, 0x14),
            blocks_per_group: le32(block, 0x20),
            groups: 0,
            meta_from: (incompatible & META_GROUPS != 0).then(|| le32(block, 0x104)),
            copies,
        };
        layout.checked(bytes)
    }

    fn checked(mut self, bytes: u64) -> Result<Layout, InspectError> {
        if self.blocks.checked_mul(u64::from(self.block_bytes)).is_none_or(|all| all > bytes) {
            return Err(damaged("it is larger than its disk"));
        }
        if !self.inode_bytes.is_power_of_two()
            || self.inode_bytes < INODE_BYTES_MIN
            || u32::from(self.inode_bytes) > self.block_bytes
        {
            return Err(damaged("the size of inodes is impossible"));
        }
        if self.is_wide && self.descriptor_bytes < DESCRIPTOR_BYTES_WIDE
            || u32::from(self.descriptor_bytes) > self.block_bytes
        {
            return Err(damaged("the size of group descriptors is impossible"));
        }
        if self.inodes_per_group == 0 || self.blocks_per_group == 0 {
            return Err(damaged("groups are empty"));
        }
        let counted = self.blocks.checked_sub(u64::from(self.first_data_block));
        let counted = counted.ok_or_else(|| damaged("it begins after its end"))?;
        self.groups = counted.div_ceil(u64::from(self.blocks_per_group));
        Ok(self)
    }

    /// The block with a group's descriptor, and where in it; none for a group that does not exist.
    pub(super) fn descriptor(&self, group: u32) -> Option<(u64, usize)> {
        if u64::from(group) >= self.groups {
            return None;
        }
        let per_block = self.block_bytes / u32::from(self.descriptor_bytes);
        let (index, within) = (group / per_block, group % per_block);
        let offset = within as usize * usize::from(self.descriptor_bytes);
        let superblock = u64::from(SUPERBLOCK_AT as u32 / self.block_bytes);
        if self.meta_from.is_none_or(|from| index < from) {
            return Some((superblock + 1 + u64::from(index), offset));
        }
        let first = index * per_block;
        let start = u64::from(first) * u64::from(self.blocks_per_group) + u64::from(self.first_data_block);
        let copy = u64::from(self.has_copy(first));
        // Clusters on blocks of 1 KiB: the first group begins with block 0, its superblock is block 1.
        let gap = u64::from(superblock == 1 && index == 0 && self.first_data_block == 0);
        Some((start + copy + gap, offset))
    }

    fn has_copy(&self, group: u32) -> bool {
        let is_power = |base: u32| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        group == 0
            || match &self.copies {
                Copies::All => true,
                Copies::Sparse => group == 1 || [3, 5, 7].into_iter().any(is_power),
                Copies::These(groups) => groups.contains(&group),
            }
    }
}

fn block_bytes(exponent: u32) -> Result<u32, InspectError> {
    let bytes = if exponent > 16 { u32::MAX } else { 1024 << exponent };
    if bytes > BLOCK_BYTES_MAX {
        return Err(damaged("the size of blocks is impossible"));
    }
    Ok(bytes)
}
