//! How large an ext4 file system is, and how large it may become. Owns the few fields of the superblock that say so; must
//! not do anything to a file system.

/// Where the superblock is on its disk.
pub(crate) const SUPERBLOCK_OFFSET: u64 = 1024;
/// Its length.
pub(crate) const SUPERBLOCK_BYTES: usize = 1024;

/// `s_magic`.
const MAGIC: u16 = 0xEF53;
/// Largest `s_log_block_size` that the format knows: blocks of 64 KiB.
const LOG_BLOCK_SIZE_MAX: u32 = 6;
/// `INCOMPAT_64BIT` of `s_feature_incompat`: the number of blocks has 64 bits.
const FEATURE_64BIT: u32 = 0x80;

/// The size of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// How many blocks it has.
    pub(crate) blocks: u64,
    /// Bytes of each.
    pub(crate) block_bytes: u64,
    /// The most blocks that it can count.
    pub(crate) blocks_max: u64,
}

impl Size {
    /// What a superblock says; none when it is none.
    pub(crate) fn parse(superblock: &[u8; SUPERBLOCK_BYTES]) -> Option<Size> {
        if u16::from_le_bytes([superblock[0x38], superblock[0x39]]) != MAGIC {
            return None;
        }
        let log_block_size = number(superblock, 0x18);
        if log_block_size > LOG_BLOCK_SIZE_MAX {
            return None;
        }
        let low = u64::from(number(superblock, 0x4));
        let (blocks, blocks_max) = if number(superblock, 0x60) & FEATURE_64BIT == 0 {
            (low, u64::from(u32::MAX))
        } else {
            (low | u64::from(number(superblock, 0x150)) << 32, u64::MAX)
        };
        (blocks > 0).then_some(Size { blocks, block_bytes: 1024 << log_block_size, blocks_max })
    }

    /// Its bytes.
    pub(crate) fn bytes(self) -> u64 {
        self.blocks.saturating_mul(self.block_bytes)
    }

    /// The number of blocks with which it fills a disk of so many bytes; none when it is not smaller than that. Whether
    /// the last few blocks are worth a group of their own is for the kernel to say.
    pub(crate) fn growth(self, disk_bytes: u64) -> Option<u64> {
        let blocks = (disk_bytes / self.block_bytes).min(self.blocks_max);
        (blocks > self.blocks).then_some(blocks)
    }
}

fn number(superblock: &[u8; SUPERBLOCK_BYTES], offset: usize) -> u32 {
    let bytes = superblock[offset..].first_chunk().expect("offsets are constants within the superblock");
    u32::from_le_bytes(*bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    const GIB: u64 = 1 << 30;

    fn superblock(low: u32, high: u32, log_block_size: u32, features: u32) -> [u8; SUPERBLOCK_BYTES] {
        let mut superblock = [0xA5; SUPERBLOCK_BYTES];
        superblock[0x38..0x3A].copy_from_slice(&MAGIC.to_le_bytes());
        for (offset, value) in [(0x4, low), (0x150, high), (0x18, log_block_size), (0x60, features)] {
            superblock[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        }
        superblock
    }

    #[test]
    fn the_superblock_says_the_size() {
        let wide = Size { blocks: 1 << 32 | 7, block_bytes: 4096, blocks_max: u64::MAX };
        let narrow = Size { blocks: 7, block_bytes: 1024, blocks_max: u64::from(u32::MAX) };
        for (superblock, expected) in [
            (superblock(7, 1, 2, 0x2C2), Some(wide)),
            // Without the feature, the upper half is something else.
            (superblock(7, 1, 0, 0x242), Some(narrow)),
            (superblock(7, 0, LOG_BLOCK_SIZE_MAX, 0), Some(Size { block_bytes: 65_536, ..narrow })),
            (superblock(7, 0, LOG_BLOCK_SIZE_MAX + 1, 0), None),
            (superblock(7, 0, u32::MAX, 0), None),
            (superblock(0, 0, 2, 0), None),
            ([0; SUPERBLOCK_BYTES], None),
        ] {
            assert_eq!(Size::parse(&superblock), expected);
        }
    }

    #[test]
    fn it_grows_to_what_the_disk_holds() {
        let size = Size { blocks: GIB / 4096, block_bytes: 4096, blocks_max: u64::MAX };
        assert_eq!(size.bytes(), GIB);
        for (disk_bytes, expected) in [
            (0, None),
            (GIB - 4096, None),
            (GIB, None),
            (GIB + 4095, None),
            (GIB + 4096, Some(GIB / 4096 + 1)),
            (2 * GIB, Some(2 * GIB / 4096)),
            (1 << 60, Some(1 << 48)),
        ] {
            assert_eq!(size.growth(disk_bytes), expected, "{disk_bytes}");
        }
        let narrow = Size { blocks_max: u64::from(u32::MAX), ..size };
        assert_eq!(narrow.growth(1 << 60), Some(u64::from(u32::MAX)));
        assert_eq!(Size { blocks: u64::from(u32::MAX), ..narrow }.growth(1 << 60), None);
    }

    proptest! {
        #[test]
        fn no_superblock_is_too_strange(
            [low, high, log_block_size, features] in any::<[u32; 4]>(),
            is_block_size_known: bool,
            disk_bytes: u64,
        ) {
            let log_block_size = if is_block_size_known { log_block_size % 7 } else { log_block_size };
            if let Some(size) = Size::parse(&superblock(low, high, log_block_size, features)) {
                assert!(size.bytes() >= size.blocks);
                assert!(size.growth(disk_bytes).is_none_or(|blocks| blocks > size.blocks));
            }
        }
    }
}
