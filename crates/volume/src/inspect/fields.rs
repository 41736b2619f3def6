//! Numbers at fixed places of a structure on disk, and the checksum over it. Knows no structure.
//!
//! Who reads has checked that the structure is there as a whole. A place beyond its end reads as zero all the same: a
//! mistake here must not become a way to end the program.

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// Little endian, as all of ext4 but its journal.
pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

/// A number whose halves lie apart.
pub(super) fn le_halves(bytes: &[u8], low: usize, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(le32(bytes, low))
}

/// Big endian, as the journal.
pub(super) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes_at(bytes, at))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes_at(bytes, at))
}

/// CRC-32C, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

/// Continues a checksum as ext4 does: begun with [`CHECKSUM_START`], not inverted at the end.
pub(super) fn checksum(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(sum, |sum, byte| sum >> 8 ^ TABLE[usize::from(sum as u8 ^ byte)])
}

pub(super) const CHECKSUM_START: u32 = !0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(!checksum(CHECKSUM_START, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn beyond_the_end_is_zero() {
        assert_eq!((le16(&[1], 0), le32(&[1, 2, 3, 4], 1), be32(&[], usize::MAX)), (0, 0, 0));
        assert_eq!((le16(&[1, 2], 0), be16(&[1, 2], 0)), (0x201, 0x102));
    }
}
