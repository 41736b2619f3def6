//! The content of a file, in order. Must not decide what becomes of it.

use std::io::Write;

use super::error::{InspectError, damaged};
use super::filesystem::FileSystem;
use super::inode::Inode;
use super::limits::CHUNK_BYTES;

/// A piece of content.
pub(super) enum Piece<'a> {
    Bytes(&'a [u8]),
    Zeroes(u64),
}

/// Hands out exactly as many bytes as the inode claims.
pub(super) fn pieces(
    filesystem: &FileSystem,
    inode: &Inode,
    each: &mut dyn FnMut(Piece<'_>) -> Result<(), InspectError>,
) -> Result<(), InspectError> {
    let block_bytes = u64::from(filesystem.layout.block_bytes);
    let blocks = inode.size.div_ceil(block_bytes);
    if blocks > u64::from(u32::MAX) + 1 {
        return Err(damaged(format!("the size of inode {} is impossible", inode.number)));
    }
    let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(blocks * block_bytes).unwrap_or(CHUNK_BYTES))];
    let mut runs = filesystem.runs(inode)?;
    let mut position = 0;
    // What is allocated beyond the end is no content.
    while let Some(run) = runs.next()?.filter(|run| run.logical < blocks) {
        let start = run.logical * block_bytes;
        if start > position {
            each(Piece::Zeroes(start - position))?;
        }
        let count = run.blocks.min(blocks - run.logical);
        let mut done = 0;
        while done < count {
            let chunk = (count - done).min(buffer.len() as u64 / block_bytes);
            let into = &mut buffer[..(chunk * block_bytes) as usize];
            filesystem.disk.content(run.physical + done, into)?;
            let left = inode.size - (start + done * block_bytes);
            each(Piece::Bytes(&into[..into.len().min(usize::try_from(left).unwrap_or(usize::MAX))]))?;
            done += chunk;
        }
        position = (start + count * block_bytes).min(inode.size);
    }
    if inode.size > position { each(Piece::Zeroes(inode.size - position)) } else { Ok(()) }
}

/// Writes the content, holes as zeroes.
pub(super) fn write(
    filesystem: &FileSystem,
    inode: &Inode,
    writer: &mut dyn Write,
) -> Result<(), InspectError> {
    static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
    pieces(filesystem, inode, &mut |piece| match piece {
        Piece::Bytes(bytes) => writer.write_all(bytes).map_err(InspectError::Write),
        Piece::Zeroes(mut count) => {
            while count > 0 {
                let chunk = count.min(ZEROES.len() as u64);
                writer.write_all(&ZEROES[..chunk as usize]).map_err(InspectError::Write)?;
                count -= chunk;
            }
            Ok(())
        }
    })
}
