//! The kernel image as a guest boots it: what an x86 bzImage has packed, where that can be booted as it is. A guest that
//! unpacks its kernel itself needs half a second more for it under emulation (measured, of two to PID 1). The price is
//! that such a kernel is not moved to a random address in the guest's memory: the wall is the machine, not that.
//!
//! Format: the kernel's `Documentation/arch/x86/boot.rst`, fields of the setup header from 0x1f1 on.

use super::expand::Compression;

/// The largest kernel that is unpacked. Distributions have 50 to 100 MiB.
const KERNEL_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes behind a payload that is not gzip: its length unpacked, for the code that unpacks it.
const LENGTH_BYTES: usize = 4;
/// The first version of the setup header that tells where the payload is: 2.08.
const HEADER_VERSION_MIN: u16 = 0x208;
const SECTOR_BYTES: usize = 512;
/// How a note begins that says where to enter the kernel without real mode (PVH): lengths of name and content, type 18
/// (`XEN_ELFNOTE_PHYS32_ENTRY`), name. The content is four or eight bytes.
const ENTRY_NOTES: [&[u8]; 2] =
    [b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0", b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0"];

/// The kernel in `image` without its packing; `image` itself when it is no bzImage, is packed in a way that we do not know,
/// or cannot be entered directly.
pub(super) fn bootable(image: Vec<u8>) -> Vec<u8> {
    payload(&image).and_then(unpacked).filter(|kernel| is_directly_bootable(kernel)).unwrap_or(image)
}

/// What a bzImage has packed, as it is packed.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let is_known =
        image.get(0x202..0x206)? == b"HdrS" && number(image, 0x206, 2)? >= HEADER_VERSION_MIN.into();
    if !is_known {
        return None;
    }
    // 0 stands for 4, from the times of floppy disks.
    let sectors = match number(image, 0x1f1, 1)? {
        0 => 4,
        sectors => sectors,
    };
    let start = (sectors + 1).checked_mul(SECTOR_BYTES)?.checked_add(number(image, 0x248, 4)?)?;
    image.get(start..start.checked_add(number(image, 0x24c, 4)?)?)
}

fn unpacked(payload: &[u8]) -> Option<Vec<u8>> {
    let compression = Compression::of(payload)?;
    let stream = match compression {
        Compression::Gzip => payload,
        Compression::Zstd | Compression::Xz | Compression::Lz4 => {
            payload.get(..payload.len().checked_sub(LENGTH_BYTES)?)?
        }
    };
    compression.expand(stream, KERNEL_BYTES_MAX).ok()
}

/// Whether a virtual machine can enter it without real mode: a 64-bit ELF file with the note that says where.
fn is_directly_bootable(kernel: &[u8]) -> bool {
    let has_entry = |note: &[u8]| kernel.windows(note.len()).any(|bytes| bytes == note);
    kernel.starts_with(b"\x7fELF\x02\x01") && ENTRY_NOTES.into_iter().any(has_entry)
}

/// A little-endian number of `bytes` bytes.
fn number(image: &[u8], start: usize, bytes: usize) -> Option<usize> {
    let bytes = image.get(start..start + bytes)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    const KERNEL: &[u8] =
        b"\x7fELF\x02\x01 code \x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0entry here and data data data data data";

    /// A bzImage whose setup has `sectors` sectors behind the first.
    fn bz_image(sectors: u8, payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; (usize::from(sectors) + 1) * SECTOR_BYTES];
        image[0x1f1] = sectors;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend([0xaa; 16]);
        image.extend(payload);
        image.extend([0xbb; 100]);
        image
    }

    fn gzip(kernel: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(kernel).unwrap();
        encoder.finish().unwrap()
    }

    fn with_length(mut packed: Vec<u8>, kernel: &[u8]) -> Vec<u8> {
        packed.extend(u32::try_from(kernel.len()).unwrap().to_le_bytes());
        packed
    }

    fn lz4(kernel: &[u8]) -> Vec<u8> {
        let block = lz4_flex::block::compress(kernel);
        let mut packed = b"\x02\x21\x4c\x18".to_vec();
        packed.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        packed.extend(block);
        with_length(packed, kernel)
    }

    fn zstd(kernel: &[u8]) -> Vec<u8> {
        with_length(zstd::encode_all(kernel, 1).unwrap(), kernel)
    }

    #[test]
    fn what_can_be_booted_directly_is_unpacked() {
        for pack in [gzip, lz4, zstd] {
            assert_eq!(bootable(bz_image(27, &pack(KERNEL))), KERNEL);
        }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let without_entry = gzip(&KERNEL[..20]);
        let (packed, cut) = (gzip(KERNEL), &lz4(KERNEL)[..40]);
        let mut old = bz_image(27, &packed);
        old[0x206] = 0x07;
        let mut outside = bz_image(27, &packed);
        outside[0x24b] = 0x7f;
        for image in [
            KERNEL.to_vec(),
            vec![],
            b"image".to_vec(),
            bz_image(27, b"not packed"),
            bz_image(27, &without_entry),
            bz_image(27, cut),
            bz_image(27, b"\x02\x21\x4c\x18"),
            old,
            outside,
        ] {
            assert_eq!(bootable(image.clone()), image);
        }
    }

    proptest! {
        #[test]
        fn no_damaged_image_makes_the_parser_panic(at in 0usize..900, byte: u8, cut in 0usize..16_000) {
            let mut image = bz_image(27, &lz4(KERNEL));
            let at = if at < 600 { at } else { image.len() - 1 - (at - 600) };
            image[at] = byte;
            image.truncate(image.len().saturating_sub(cut));
            let _ = bootable(image);
        }
    }
}
