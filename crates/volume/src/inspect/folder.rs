//! The names in a folder. An index over them is not used: its blocks look like empty ones, by design.

use std::ops::ControlFlow;

use super::entry::Kind;
use super::error::{InspectError, damaged};
use super::fields::{checksum, le16, le32};
use super::filesystem::FileSystem;
use super::inode::Inode;

/// What precedes each name, bytes.
const HEADER_BYTES: usize = 8;
/// Longest name, bytes.
const NAME_BYTES_MAX: usize = 255;
/// The last entry of a block, which holds its checksum, bytes.
const TAIL_BYTES: usize = 12;
const TAIL_KIND: u8 = 0xde;

/// A name, and the inode behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) inode: u32,
}

/// Hands out the names, `.` and `..` left out, until it is told to stop.
pub(super) fn names(
    filesystem: &FileSystem,
    folder: &Inode,
    each: &mut dyn FnMut(Name<'_>) -> Result<ControlFlow<()>, InspectError>,
) -> Result<(), InspectError> {
    let blocks = folder.size / u64::from(filesystem.layout.block_bytes);
    if folder.kind != Kind::Folder {
        return Err(damaged(format!("inode {} is no folder", folder.number)));
    }
    let mut runs = filesystem.runs(folder)?;
    while let Some(run) = runs.next()?.filter(|run| run.logical < blocks) {
        for index in 0..run.blocks.min(blocks - run.logical) {
            let block = filesystem.disk.block(run.physical + index)?;
            if filesystem.layout.has_checksums {
                check(&block, folder)?;
            }
            if names_of_block(&block, folder.number, each)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The inode behind one name.
pub(super) fn find(
    filesystem: &FileSystem,
    folder: &Inode,
    wanted: &[u8],
) -> Result<Option<u32>, InspectError> {
    let mut found = None;
    names(filesystem, folder, &mut |name| {
        if name.bytes != wanted {
            return Ok(ControlFlow::Continue(()));
        }
        found = Some(name.inode);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

fn names_of_block(
    block: &[u8],
    folder: u32,
    each: &mut dyn FnMut(Name<'_>) -> Result<ControlFlow<()>, InspectError>,
) -> Result<ControlFlow<()>, InspectError> {
    let broken = || damaged(format!("an entry of the folder in inode {folder} contradicts itself"));
    let mut rest = block;
    while !rest.is_empty() {
        let inode = le32(rest, 0);
        let length = record_bytes(le16(rest, 4), block.len());
        let name_bytes = usize::from(rest.get(6).copied().unwrap_or(0));
        if length < HEADER_BYTES || length > rest.len() || !length.is_multiple_of(4) {
            return Err(broken());
        }
        let (record, after) = rest.split_at(length);
        rest = after;
        if inode == 0 {
            continue;
        }
        let bytes = record.get(HEADER_BYTES..HEADER_BYTES + name_bytes).ok_or_else(broken)?;
        if bytes.is_empty()
            || bytes.len() > NAME_BYTES_MAX
            || bytes.iter().any(|byte| matches!(byte, 0 | b'/'))
        {
            return Err(broken());
        }
        if bytes != b"." && bytes != b".." && each(Name { bytes, inode })?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// A block of 64 KiB does not fit the field.
fn record_bytes(field: u16, block_bytes: usize) -> usize {
    const WHOLE: usize = 1 << 16;
    if block_bytes == WHOLE && matches!(field, 0 | u16::MAX) { WHOLE } else { usize::from(field) }
}

/// Blocks of the index have their sum elsewhere, and no name.
fn check(block: &[u8], folder: &Inode) -> Result<(), InspectError> {
    let Some(start) = block.len().checked_sub(TAIL_BYTES) else { return Ok(()) };
    let (body, tail) = block.split_at(start);
    let is_tail = le32(tail, 0) == 0 && le16(tail, 4) == TAIL_BYTES as u16 && tail[7] == TAIL_KIND;
    if is_tail && checksum(folder.seed, body) != le32(tail, 8) {
        return Err(damaged(format!("the checksum of the folder in inode {} is wrong", folder.number)));
    }
    Ok(())
}
