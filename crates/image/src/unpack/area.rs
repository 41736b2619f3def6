//! The growing output file: whole blocks appended in order, and the spool of short file tails.
//!
//! Must not know EROFS structures. Blocks of zeros become holes of the host's file, so a sparse file stays sparse.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a block, of the file system and of everything here.
pub(crate) const BLOCK: usize = 4096;
/// Bytes gathered before a write: large enough that system calls do not matter, small enough not to matter itself.
const BUFFER_BYTES: usize = 1024 * 1024;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// An append-only file with a write buffer.
pub(crate) struct Area {
    file: File,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first byte; a multiple of the block size in the image.
    start: u64,
}

impl Area {
    /// Starts appending to `file` at `start`.
    pub(crate) fn new(file: File, start: u64) -> Area {
        Area { file, buffer: Vec::with_capacity(BUFFER_BYTES), start }
    }

    /// The offset of the next byte.
    pub(crate) fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let n = bytes.len().min(BUFFER_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.buffer.len() == BUFFER_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Appends `count` zero bytes without writing whole blocks of them.
    pub(crate) fn append_zeros(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            if self.buffer.is_empty() && count >= BUFFER_BYTES as u64 {
                let whole = count - count % BUFFER_BYTES as u64;
                self.start += whole;
                count -= whole;
                continue;
            }
            let room = (BUFFER_BYTES - self.buffer.len()).min(BLOCK);
            let n = count.min(room as u64);
            self.append(&ZEROS[..n as usize])?;
            count -= n;
        }
        Ok(())
    }

    /// Pads with zeros to the next block.
    pub(crate) fn pad(&mut self) -> io::Result<()> {
        let over = self.position() % BLOCK as u64;
        if over == 0 { Ok(()) } else { self.append_zeros(BLOCK as u64 - over) }
    }

    /// Writes the buffer out, skipping blocks of zeros: the file is new, so what is not written reads as zeros.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut run_start = 0;
        let mut offset = 0;
        while offset < self.buffer.len() {
            let end = (offset + BLOCK).min(self.buffer.len());
            if self.buffer[offset..end] == ZEROS[..end - offset] {
                self.write_run(run_start, offset)?;
                run_start = end;
            }
            offset = end;
        }
        self.write_run(run_start, self.buffer.len())?;
        self.start += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn write_run(&self, from: usize, to: usize) -> io::Result<()> {
        if from == to {
            return Ok(());
        }
        self.file.write_all_at(&self.buffer[from..to], self.start + from as u64)
    }

    /// Flushes, sets the file's length to the position, and gives the file back.
    pub(crate) fn finish(mut self) -> io::Result<File> {
        self.flush()?;
        self.file.set_len(self.start)?;
        Ok(self.file)
    }

    /// The file, for reads of what was flushed and for punching holes.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// Makes a range of a file read as zeros and gives its blocks back to the host where the host's file system can.
pub(crate) fn punch(file: &File, offset: u64, length: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            let mut done = 0;
            while done < length {
                let n = (length - done).min(BLOCK as u64);
                file.write_all_at(&ZEROS[..n as usize], offset + done)?;
                done += n;
            }
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}
