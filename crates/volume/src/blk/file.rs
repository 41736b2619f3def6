//! A disk that is a plain file: for images that are only read, for tests, and as the measure of what the device costs.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::disk::{Disk, Patience, SECTOR_BYTES};
use crate::pieces::Pieces;
use crate::pieces::sys::{read_at, write_at};
use crate::storage::write_zeroes;

/// A file as a disk.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    bytes: AtomicU64,
}

impl FileDisk {
    /// The whole sectors of a file.
    ///
    /// # Errors
    /// Its length is not known.
    pub fn new(file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes: AtomicU64::new(bytes - bytes % SECTOR_BYTES) })
    }

    /// Makes it larger; a smaller size changes nothing.
    ///
    /// # Errors
    /// What the system says.
    pub fn grow(&self, bytes: u64) -> io::Result<()> {
        let bytes = bytes - bytes % SECTOR_BYTES;
        if bytes > self.bytes() {
            self.file.set_len(bytes)?;
            self.bytes.fetch_max(bytes, Ordering::Release);
        }
        Ok(())
    }

    /// Fills a range with zeroes in the cheapest of the given ways that the file system has, or by writing.
    fn zero(&self, range: Range<u64>, ways: &[FallocateFlags]) -> io::Result<()> {
        let bytes = range.end - range.start;
        for way in ways {
            match fallocate(&self.file, *way | FallocateFlags::KEEP_SIZE, range.start, bytes) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        write_zeroes(&self.file, range)
    }
}

impl Disk for FileDisk {
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    fn read(&self, offset: u64, into: &Pieces<'_>, patience: Patience) -> io::Result<()> {
        read_at(&self.file, offset, into, patience)
    }

    fn write(&self, offset: u64, from: &Pieces<'_>) -> io::Result<()> {
        write_at(&self.file, offset, from)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.zero(range, &[FallocateFlags::PUNCH_HOLE])
    }

    fn write_zeroes(&self, range: Range<u64>, may_unmap: bool) -> io::Result<()> {
        let ways = [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE];
        self.zero(range, if may_unmap { &ways } else { &ways[1..] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Way = fn(&FileDisk, Range<u64>) -> io::Result<()>;

    #[test]
    fn zeroes_are_what_is_read_whichever_way_they_were_written() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let disk = FileDisk::new(file).unwrap();
        let ones = vec![1; 4096 * 4];
        let ways: [Way; 4] = [
            |disk, range| disk.discard(range),
            |disk, range| disk.write_zeroes(range, true),
            |disk, range| disk.write_zeroes(range, false),
            |disk, range| disk.zero(range, &[]),
        ];
        for way in ways {
            disk.write(8192, &Pieces::of(&ones)).unwrap();
            way(&disk, 8704..8704 + 4096).unwrap();
            let mut read = vec![9; ones.len()];
            disk.read(8192, &Pieces::of_mut(&mut read), Patience::Waits).unwrap();
            let zeroes = |index: usize| (512..512 + 4096).contains(&index);
            assert!(read.iter().enumerate().all(|(index, byte)| *byte == u8::from(!zeroes(index))));
        }
        disk.flush().unwrap();
    }

    #[test]
    fn a_disk_grows_and_reads_zeroes_there() {
        let disk = FileDisk::new(tempfile::tempfile().unwrap()).unwrap();
        disk.grow(8192 + 100).unwrap();
        disk.grow(100).unwrap();
        assert_eq!(disk.bytes(), 8192);
        let mut read = vec![9; 8192];
        disk.read(0, &Pieces::of_mut(&mut read), Patience::Waits).unwrap();
        assert_eq!(read, vec![0; 8192]);
    }
}
