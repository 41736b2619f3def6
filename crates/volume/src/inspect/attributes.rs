//! Extended attributes, as an archive can hold them. Lists of access rights are stored in a form of ext4's own and left
//! out, as are values that have an inode of their own.

use super::error::{InspectError, damaged};
use super::fields::{le16, le32};
use super::filesystem::FileSystem;
use super::inode::Inode;

const MAGIC: u32 = 0xea02_0000;
/// What precedes the entries in a block, bytes; in an inode it is the magic number alone.
const BLOCK_HEADER_BYTES: usize = 32;
/// What precedes an entry's name, bytes.
const ENTRY_BYTES: usize = 16;

/// One attribute.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) name: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// The attributes of one inode.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) found: Vec<Attribute>,
    /// How many were left out.
    pub(super) skipped: u64,
}

/// Reads the attributes in the inode, and in its block.
pub(super) fn read(filesystem: &FileSystem, inode: &Inode) -> Result<Attributes, InspectError> {
    let mut attributes = Attributes::default();
    let broken = || damaged(format!("the attributes of inode {} contradict themselves", inode.number));
    if le32(&inode.attributes, 0) == MAGIC {
        let values = &inode.attributes[4..];
        attributes.parse(values, values).ok_or_else(broken)?;
    }
    if inode.attribute_block != 0 {
        let block = filesystem.disk.block(inode.attribute_block)?;
        if le32(&block, 0) != MAGIC {
            return Err(broken());
        }
        attributes.parse(&block[BLOCK_HEADER_BYTES..], &block).ok_or_else(broken)?;
    }
    Ok(attributes)
}

impl Attributes {
    /// Adds the entries; the places of values count from the start of `values`. None when something lies outside.
    fn parse(&mut self, mut entries: &[u8], values: &[u8]) -> Option<()> {
        // Values do not overlap: all of them together are no longer than what they lie in.
        let mut left = values.len();
        // Four zeroes end the list.
        while entries.len() >= 4 && le32(entries, 0) != 0 {
            let name_bytes = usize::from(entries[0]);
            let name = entries.get(ENTRY_BYTES..ENTRY_BYTES + name_bytes)?;
            let (offset, bytes) = (usize::from(le16(entries, 2)), le32(entries, 8) as usize);
            let has_own_inode = le32(entries, 4) != 0;
            // In an archive the name ends at the first equals sign.
            let is_plain = !has_own_inode && !name.iter().any(|byte| matches!(byte, 0 | b'='));
            if let Some(prefix) = prefix(entries[1]).filter(|_| is_plain) {
                let value = values.get(offset..offset.checked_add(bytes)?)?;
                left = left.checked_sub(bytes)?;
                self.found.push(Attribute { name: [prefix, name].concat(), value: value.to_vec() });
            } else {
                self.skipped += 1;
            }
            entries = entries.get((ENTRY_BYTES + name_bytes).next_multiple_of(4)..)?;
        }
        Some(())
    }
}

fn prefix(index: u8) -> Option<&'static [u8]> {
    match index {
        1 => Some(b"user."),
        4 => Some(b"trusted."),
        6 => Some(b"security."),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u8, name: &[u8], offset: u16, bytes: u32) -> Vec<u8> {
        let mut entry = vec![name.len() as u8, index];
        entry.extend_from_slice(&offset.to_le_bytes());
        entry.extend_from_slice(&[0; 4]);
        entry.extend_from_slice(&bytes.to_le_bytes());
        entry.extend_from_slice(&[0; 4]);
        entry.extend_from_slice(name);
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry
    }

    fn parse(entries: &[Vec<u8>]) -> Option<(usize, u64)> {
        let mut bytes = entries.concat();
        bytes.resize(128, 0);
        let mut attributes = Attributes::default();
        attributes.parse(&bytes, &bytes)?;
        Some((attributes.found.len(), attributes.skipped))
    }

    #[test]
    fn what_an_archive_cannot_hold_is_counted() {
        assert_eq!(parse(&[entry(1, b"a", 100, 4), entry(6, b"b", 104, 4)]), Some((2, 0)));
        assert_eq!(parse(&[entry(2, b"", 100, 4), entry(1, b"a=b", 100, 4)]), Some((0, 2)));
    }

    #[test]
    fn values_lie_within_and_apart() {
        assert_eq!(parse(&[entry(1, b"a", 120, 9)]), None);
        assert_eq!(parse(&[entry(1, b"a", u16::MAX, u32::MAX)]), None);
        assert_eq!(parse(&[entry(1, b"a", 0, 100), entry(1, b"b", 0, 100)]), None);
    }
}
