//! The system calls on memory in pieces. Safe code will not do: a reference to memory that a guest changes at the same
//! moment must not exist.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;

use super::Pieces;
use crate::disk::Patience;

/// Pieces in one call, the kernel's limit (UIO_MAXIOV, `include/uapi/linux/uio.h`).
const PIECES_MAX: usize = 1024;

impl Pieces<'_> {
    /// Pieces of somebody's memory.
    ///
    /// # Safety
    /// All of it stays mapped for `'memory`, and may be written to if anybody fills the pieces.
    #[must_use]
    pub unsafe fn from_raw<'memory>(mut list: Vec<libc::iovec>) -> Pieces<'memory> {
        list.retain(|piece| piece.iov_len > 0);
        let bytes = list.iter().map(|piece| piece.iov_len).sum();
        Pieces { list, bytes, memory: PhantomData }
    }

    /// Copies the first bytes to `target`, as many as there are or fit.
    pub fn copy_out(&self, target: &mut [u8]) {
        let mut done = 0;
        for piece in &self.list {
            let count = piece.iov_len.min(target.len() - done);
            // SAFETY: the piece is mapped (see `from_raw`), `target` holds `count` more bytes, and both are apart: pieces
            // were made before `target` was borrowed alone.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    piece.iov_base.cast::<u8>(),
                    target[done..].as_mut_ptr(),
                    count,
                );
            }
            done += count;
        }
    }

    /// Fills the first bytes from `source`, as many as there are or fit. The pieces must have been made to be written to.
    pub fn copy_in(&self, source: &[u8]) {
        let mut done = 0;
        for piece in &self.list {
            let count = piece.iov_len.min(source.len() - done);
            // SAFETY: as in `copy_out`, with the roles changed.
            unsafe {
                std::ptr::copy_nonoverlapping(source[done..].as_ptr(), piece.iov_base.cast::<u8>(), count);
            }
            done += count;
        }
    }
}

/// Fills all of `pieces` from `offset` of the file on; what lies beyond its end is zeroes.
///
/// # Errors
/// What the system says; [`io::ErrorKind::WouldBlock`] when the caller does not wait.
pub fn read_at(file: &File, offset: u64, pieces: &Pieces<'_>, patience: Patience) -> io::Result<()> {
    let flags = match patience {
        Patience::Now => libc::RWF_NOWAIT,
        Patience::Waits => 0,
    };
    transfer(offset, pieces, |list, count, at| {
        // SAFETY: every piece is mapped and may be written to (see `from_raw`), and the kernel checks it again.
        let read = unsafe { libc::preadv2(file.as_raw_fd(), list, count, at, flags) };
        match result(read) {
            Ok(0) => Ok(None),
            // A file system that cannot say what is in memory, such as an overlay, ZFS or memory itself.
            Err(error) if patience == Patience::Now && error.kind() == io::ErrorKind::Unsupported => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            result => result.map(Some),
        }
    })
    .map(|rest| {
        let zeroes = [0; 4096];
        let mut from = pieces.bytes() - rest;
        while from < pieces.bytes() {
            let part = pieces.part(from, zeroes.len());
            part.copy_in(&zeroes[..part.bytes()]);
            from += part.bytes();
        }
    })
}

/// Writes all of `pieces` at `offset` of the file.
///
/// # Errors
/// What the system says.
pub fn write_at(file: &File, offset: u64, pieces: &Pieces<'_>) -> io::Result<()> {
    let rest = transfer(offset, pieces, |list, count, at| {
        // SAFETY: every piece is mapped (see `from_raw`), and the kernel checks it again.
        let written = unsafe { libc::pwritev(file.as_raw_fd(), list, count, at) };
        if written == 0 { Ok(None) } else { result(written).map(Some) }
    })?;
    if rest > 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
}

/// Repeats a call until all is done or it says that there is no more; returns what is left.
fn transfer(
    offset: u64,
    pieces: &Pieces<'_>,
    mut call: impl FnMut(*const libc::iovec, libc::c_int, libc::off_t) -> io::Result<Option<usize>>,
) -> io::Result<usize> {
    let mut done = 0;
    while done < pieces.bytes() {
        let rest;
        let list = if done == 0 {
            &pieces.list
        } else {
            rest = pieces.part(done, pieces.bytes() - done);
            &rest.list
        };
        let at = offset.checked_add(done as u64).and_then(|at| libc::off_t::try_from(at).ok());
        let at = at.ok_or(io::ErrorKind::InvalidInput)?;
        let count = libc::c_int::try_from(list.len().min(PIECES_MAX)).unwrap_or(libc::c_int::MAX);
        match call(list.as_ptr(), count, at) {
            Ok(Some(count)) => done += count,
            Ok(None) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pieces.bytes() - done)
}

fn result(returned: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

// SAFETY: pieces are addresses; what is behind them is only touched by system calls and copies, which any thread may do.
unsafe impl Send for Pieces<'_> {}
// SAFETY: as above; a shared list is only read.
unsafe impl Sync for Pieces<'_> {}
