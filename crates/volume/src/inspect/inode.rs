//! One inode: what a file is, apart from its names. Must not read what the inode points to.

use super::entry::{Device, Kind, Time};
use super::error::{InspectError, damaged};
use super::fields::{checksum, le_halves, le16, le32};
use super::layout::Layout;

/// The part of an inode that every version has, bytes.
const CLASSIC_BYTES: usize = 128;
/// Where the two halves of the checksum are.
const CHECKSUM_LOW_AT: usize = 0x7c;
const CHECKSUM_HIGH_AT: usize = 0x82;
/// Where the content's place is described, or a short target stands.
const PLACE_AT: usize = 0x28;
/// Length of that, bytes.
pub(super) const PLACE_BYTES: usize = 60;

const ENCRYPTED: u32 = 0x800;
const EXTENTS: u32 = 0x8_0000;
const VALUE_OF_ATTRIBUTE: u32 = 0x20_0000;
const INLINE: u32 = 0x1000_0000;

/// An inode that is in use.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) number: u32,
    pub(super) kind: Kind,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) modified: Time,
    pub(super) links: u16,
    pub(super) place: [u8; PLACE_BYTES],
    /// The block with further attributes, or zero.
    pub(super) attribute_block: u64,
    /// What follows the fixed fields: attributes.
    pub(super) attributes: Vec<u8>,
    /// With which the checksums of its blocks begin.
    pub(super) seed: u32,
    flags: u32,
}

impl Inode {
    /// Reads the inode from its bytes, which are as many as the layout says.
    pub(super) fn parse(number: u32, bytes: &[u8], layout: &Layout) -> Result<Inode, InspectError> {
        let generation = le32(bytes, 0x64);
        let seed = checksum(checksum(layout.seed, &number.to_le_bytes()), &generation.to_le_bytes());
        let extra = if bytes.len() > CLASSIC_BYTES { usize::from(le16(bytes, 0x80)) } else { 0 };
        if CLASSIC_BYTES + extra > bytes.len() || !extra.is_multiple_of(4) {
            return Err(damaged(format!("inode {number} has fields beyond its end")));
        }
        if layout.has_checksums {
            check(number, bytes, seed, extra)?;
        }
        let (raw_mode, links) = (le16(bytes, 0), le16(bytes, 0x1a));
        if links == 0 {
            return Err(damaged(format!("inode {number} is not in use")));
        }
        let mut place = [0; PLACE_BYTES];
        place.copy_from_slice(&bytes[PLACE_AT..PLACE_AT + PLACE_BYTES]);
        let kind =
            kind(raw_mode, &place).ok_or_else(|| damaged(format!("inode {number} is of no known kind")))?;
        let has_wide_size = kind == Kind::File || layout.has_large_folders && kind == Kind::Folder;
        let high_size = if has_wide_size { le32(bytes, 0x6c) } else { 0 };
        let time_extra = if extra >= 0x8c - CLASSIC_BYTES { le32(bytes, 0x88) } else { 0 };
        Ok(Inode {
            number,
            kind,
            mode: raw_mode & 0o7777,
            uid: u32::from(le16(bytes, 0x78)) << 16 | u32::from(le16(bytes, 0x2)),
            gid: u32::from(le16(bytes, 0x7a)) << 16 | u32::from(le16(bytes, 0x18)),
            size: le_halves(bytes, 0x4, high_size),
            modified: time(le32(bytes, 0x10), time_extra),
            links,
            place,
            attribute_block: le_halves(bytes, 0x68, u32::from(le16(bytes, 0x76))),
            attributes: bytes[CLASSIC_BYTES + extra..].to_vec(),
            seed,
            flags: le32(bytes, 0x20),
        })
    }

    /// Whether the content's place is a tree of extents. What else there is, this reader does not know.
    pub(super) fn has_extents(&self) -> Result<bool, InspectError> {
        let unsupported = |what| Err(InspectError::Unsupported { what });
        if self.flags & ENCRYPTED != 0 {
            return unsupported("content that the guest has encrypted");
        }
        if self.flags & INLINE != 0 {
            return unsupported("content within an inode");
        }
        if self.flags & VALUE_OF_ATTRIBUTE != 0 {
            return unsupported("the value of an attribute as a file");
        }
        Ok(self.flags & EXTENTS != 0)
    }
}

/// The stored sum covers the whole inode, its own places as zeroes.
fn check(number: u32, bytes: &[u8], seed: u32, extra: usize) -> Result<(), InspectError> {
    let has_high = extra >= CHECKSUM_HIGH_AT + 2 - CLASSIC_BYTES;
    let mut blanked = bytes.to_vec();
    blanked[CHECKSUM_LOW_AT..CHECKSUM_LOW_AT + 2].fill(0);
    if has_high {
        blanked[CHECKSUM_HIGH_AT..CHECKSUM_HIGH_AT + 2].fill(0);
    }
    let high = if has_high { u32::from(le16(bytes, CHECKSUM_HIGH_AT)) << 16 } else { 0 };
    let stored = high | u32::from(le16(bytes, CHECKSUM_LOW_AT));
    let mask = if has_high { u32::MAX } else { 0xffff };
    if checksum(seed, &blanked) & mask != stored {
        return Err(damaged(format!("the checksum of inode {number} is wrong")));
    }
    Ok(())
}

fn kind(mode: u16, place: &[u8; PLACE_BYTES]) -> Option<Kind> {
    match mode & 0xf000 {
        0x1000 => Some(Kind::Fifo),
        0x2000 => Some(Kind::CharDevice(device(place))),
        0x4000 => Some(Kind::Folder),
        0x6000 => Some(Kind::BlockDevice(device(place))),
        0x8000 => Some(Kind::File),
        0xa000 => Some(Kind::Symlink),
        0xc000 => Some(Kind::Socket),
        _ => None,
    }
}

/// The kernel's two forms: 8 bits each, or 12 and 20.
fn device(place: &[u8; PLACE_BYTES]) -> Device {
    let (old, new) = (le32(place, 0), le32(place, 4));
    if old != 0 {
        return Device { major: old >> 8 & 0xff, minor: old & 0xff };
    }
    Device { major: new >> 8 & 0xfff, minor: new & 0xff | new >> 12 & 0xf_ff00 }
}

/// 32 bits with a sign, two bits above, and nanoseconds.
fn time(seconds: u32, extra: u32) -> Time {
    let signed = i64::from(seconds.cast_signed());
    let nanoseconds = extra >> 2;
    // A number that is none can only be a guest's joke.
    let nanoseconds = if nanoseconds < 1_000_000_000 { nanoseconds } else { 0 };
    Time { seconds: signed + (i64::from(extra & 3) << 32), nanoseconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_reach_beyond_32_bits_both_ways() {
        let check = |seconds: u32, extra, expected| assert_eq!(time(seconds, extra).seconds, expected);
        check(0x8000_0000, 0, -0x8000_0000);
        check(u32::MAX, 0, -1);
        check(0x7fff_ffff, 0, 0x7fff_ffff);
        check(0x8000_0000, 1, 0x8000_0000);
        check(u32::MAX, 3, 0x2_ffff_ffff);
        assert_eq!(time(1, 999_999_999 << 2).nanoseconds, 999_999_999);
        assert_eq!(time(1, 1_000_000_000 << 2).nanoseconds, 0);
    }

    #[test]
    fn devices_have_two_forms() {
        let check = |old: u32, new: u32, major, minor| {
            let mut place = [0; PLACE_BYTES];
            place[..4].copy_from_slice(&old.to_le_bytes());
            place[4..8].copy_from_slice(&new.to_le_bytes());
            assert_eq!(device(&place), Device { major, minor });
        };
        check(0x0103, 0, 1, 3);
        check(0, 0x8001_03ff, 0x103, 0x8_00ff);
    }
}
