//! What the device says of itself: the features it offers, and its configuration space (Virtual I/O Device specification
//! 1.2, sections 5.2.3 and 5.2.4). Pure.

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::request::{RANGE_SECTORS_MAX, RANGES_MAX, SEGMENTS_MAX};
use super::{Access, Settings};
use crate::disk::SECTOR_BYTES;

/// Bytes of the configuration space up to what `WRITE_ZEROES` needs; what is asked for beyond is zeroes.
const CONFIG_BYTES: usize = 60;

/// Bytes that a front end may ask for, the protocol's limit (`VHOST_USER_CONFIG_SIZE`).
const CONFIG_BYTES_MAX: usize = 256;

/// A guest's file systems and page cache work in pages of 4 KiB: 512 bytes times two to this.
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;

/// The least that is written without reading around it, in sectors: one page.
const IO_SECTORS_MIN: u16 = 1 << PHYSICAL_BLOCK_EXPONENT;

/// What is good to be read or written at once, in sectors: 64 KiB, from where on a copy costs more than the request.
const IO_SECTORS_BEST: u32 = 128;

/// The bits to be offered to the front end.
pub(super) fn offered(settings: &Settings) -> u64 {
    let always = [
        VIRTIO_F_VERSION_1,
        VIRTIO_RING_F_INDIRECT_DESC,
        VIRTIO_RING_F_EVENT_IDX,
        VIRTIO_BLK_F_SEG_MAX,
        VIRTIO_BLK_F_BLK_SIZE,
        VIRTIO_BLK_F_TOPOLOGY,
        VIRTIO_BLK_F_FLUSH,
        VIRTIO_BLK_F_MQ,
    ];
    let by_access: &[u32] = match settings.access {
        Access::ReadWrite => &[VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES],
        Access::ReadOnly => &[VIRTIO_BLK_F_RO],
    };
    let bits = always.iter().chain(by_access).fold(0, |bits, bit| bits | 1 << bit);
    bits | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
}

/// What the connection can do beyond the basic protocol. Acknowledgements are added by the crate that speaks it.
pub(super) fn protocol() -> VhostUserProtocolFeatures {
    VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::BACKEND_REQ
        | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
}

/// Whether a feature has been agreed upon.
pub(super) fn has(features: u64, bit: u32) -> bool {
    features >> bit & 1 == 1
}

/// A part of the configuration space; `None` if there is no such part.
pub(super) fn config(settings: &Settings, disk_bytes: u64, offset: u32, size: u32) -> Option<Vec<u8>> {
    let mut all = config_space(settings, disk_bytes);
    all.resize(CONFIG_BYTES_MAX, 0);
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    all.get(start..end).map(<[u8]>::to_vec)
}

fn config_space(settings: &Settings, disk_bytes: u64) -> Vec<u8> {
    let block_bytes = u32::try_from(SECTOR_BYTES).expect("a sector is small");
    let sectors_per_block = 1_u32 << PHYSICAL_BLOCK_EXPONENT;
    let mut space = Vec::with_capacity(CONFIG_BYTES_MAX);
    space.extend((disk_bytes / SECTOR_BYTES).to_le_bytes());
    space.extend(0_u32.to_le_bytes()); // Size of a segment: not offered.
    space.extend(SEGMENTS_MAX.to_le_bytes());
    space.extend([0; 4]); // Geometry: not offered.
    space.extend(block_bytes.to_le_bytes());
    space.extend([PHYSICAL_BLOCK_EXPONENT, 0]);
    space.extend(IO_SECTORS_MIN.to_le_bytes());
    space.extend(IO_SECTORS_BEST.to_le_bytes());
    space.extend([1, 0]); // Writes are cached until a flush; it cannot be changed.
    space.extend(settings.queues.to_le_bytes());
    if settings.access == Access::ReadWrite {
        space.extend(RANGE_SECTORS_MAX.to_le_bytes());
        space.extend(RANGES_MAX.to_le_bytes());
        space.extend(sectors_per_block.to_le_bytes());
        space.extend(RANGE_SECTORS_MAX.to_le_bytes());
        space.extend(RANGES_MAX.to_le_bytes());
        space.extend([1, 0, 0, 0]); // Writing zeroes may give space back.
        assert_eq!(space.len(), CONFIG_BYTES, "the layout is fixed");
    }
    space
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_space_is_laid_out_as_specified() {
        let settings = Settings { queues: 3, ..Settings::default() };
        let all = config(&settings, 1 << 30, 0, 60).unwrap();
        assert_eq!(all[0..8], (2_u64 << 20).to_le_bytes());
        assert_eq!(all[12..16], 126_u32.to_le_bytes());
        assert_eq!(all[20..26], [0, 2, 0, 0, 3, 0]);
        assert_eq!(all[32..36], [1, 0, 3, 0]);
        assert_eq!(all[36..40], (2_u32 << 20).to_le_bytes());
        assert_eq!(all[56], 1);
        assert_eq!(config(&settings, 1 << 30, 34, 2).unwrap(), [3, 0]);
        assert_eq!(config(&settings, 1 << 30, 0, 256).unwrap().len(), 256);
        assert_eq!(config(&settings, 1 << 30, 1, 256), None);
        assert_eq!(config(&settings, 1 << 30, u32::MAX, u32::MAX), None);
    }

    #[test]
    fn a_disk_that_may_only_be_read_offers_no_way_to_change_it() {
        let read_only = offered(&Settings { access: Access::ReadOnly, ..Settings::default() });
        let read_write = offered(&Settings::default());
        for (bit, when_read_only) in
            [(VIRTIO_BLK_F_RO, true), (VIRTIO_BLK_F_DISCARD, false), (VIRTIO_BLK_F_WRITE_ZEROES, false)]
        {
            assert_eq!(has(read_only, bit), when_read_only);
            assert_eq!(has(read_write, bit), !when_read_only);
        }
    }
}
