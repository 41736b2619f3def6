//! What a virtual disk does, for those who serve one: the seam between the front end (virtio-blk over vhost-user) and what
//! is behind it (a volume with its history, a checkpoint, a plain file).

use std::io;
use std::ops::Range;

use crate::pieces::Pieces;

/// The unit in which virtio-blk counts, bytes (Virtual I/O Device specification 1.2, section 5.2.4).
pub const SECTOR_BYTES: u64 = 512;

/// Whether a caller may be made to wait for the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It may not: what is not in memory is [`io::ErrorKind::WouldBlock`].
    Now,
    /// It may.
    Waits,
}

/// A disk. Offsets and lengths are bytes and multiples of [`SECTOR_BYTES`]; who calls has checked that they lie within
/// [`Disk::bytes`]. Called from several threads at once.
pub trait Disk: Send + Sync {
    /// Its size at this moment, bytes. It may grow, never shrink.
    fn bytes(&self) -> u64;

    /// Fills `into` with what is stored from `offset` on.
    ///
    /// # Errors
    /// What the medium says; [`io::ErrorKind::WouldBlock`] with [`Patience::Now`]: some of `into` may be filled then.
    fn read(&self, offset: u64, into: &Pieces<'_>, patience: Patience) -> io::Result<()>;

    /// Tells which ranges are about to be written, in one batch, so that what must be on the medium before can be brought
    /// there at once. It may be left out; a failure shows again in [`Disk::write`].
    fn prepare(&self, ranges: &[Range<u64>]) {
        let _ = ranges;
    }

    /// Stores `from` at `offset`. It is durable only after the next [`Disk::flush`].
    ///
    /// # Errors
    /// What the medium says; what is stored there then is the old, the new, or a mixture by sectors.
    fn write(&self, offset: u64, from: &Pieces<'_>) -> io::Result<()>;

    /// Returns when all writes that were answered before the call are durable.
    ///
    /// # Errors
    /// What the medium says. Nothing is known to be durable then.
    fn flush(&self) -> io::Result<()>;

    /// The range is not needed any more; what is read there from now on is zeroes.
    ///
    /// # Errors
    /// As [`Disk::write`].
    fn discard(&self, range: Range<u64>) -> io::Result<()>;

    /// Stores zeroes. `may_unmap`: the space may be given back.
    ///
    /// # Errors
    /// As [`Disk::write`].
    fn write_zeroes(&self, range: Range<u64>, may_unmap: bool) -> io::Result<()>;
}
