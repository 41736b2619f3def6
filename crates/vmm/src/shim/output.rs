//! Bytes waiting to be written to a non-blocking descriptor. Owns the buffer; who fills it bounds it, by credit or by
//! not reading more requests while it is full.

use std::io;
use std::os::fd::BorrowedFd;

/// A drained buffer larger than this gives its memory back: a supervisor idles nearly all its life.
const KEEP_BYTES_MAX: usize = 16 << 10;

/// Pending output.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    written: usize,
}

impl Output {
    /// Bytes not written yet.
    pub(super) fn pending(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Where to append.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        &mut self.bytes
    }

    /// Writes what the descriptor takes now.
    ///
    /// # Errors
    /// The other end is gone.
    pub(super) fn flush(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        while self.pending() > 0 {
            match rustix::net::send(fd, &self.bytes[self.written..], rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => self.written += count,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.bytes.clear();
        self.written = 0;
        self.bytes.shrink_to(KEEP_BYTES_MAX);
        Ok(())
    }
}
