//! Does one request: turns it into calls of the disk. Owns the words in which a guest is answered; who calls owns when.

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::request::{GuestBytes, Parsed, Refusal, Request};
use super::sys;
use crate::disk::{Disk, Patience};

impl GuestBytes for GuestMemoryMmap {
    fn read(&self, address: u64, into: &mut [u8]) -> Option<()> {
        self.read_slice(into, GuestAddress(address)).ok()
    }
}

/// When a write is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caching {
    /// With the next flush.
    UntilFlush,
    /// When it is answered: a driver that did not agree to flush never will (section 5.2.6.2).
    Nothing,
}

/// What requests are about.
#[derive(Clone)]
pub(super) struct Backing {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) serial: String,
    pub(super) caching: Caching,
}

/// Why a request was not done.
pub(super) enum Failure {
    /// The guest's fault: its answer says so, nobody else cares.
    Refused(Refusal),
    /// The disk's fault: someone must act.
    Disk(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Does a request.
///
/// # Errors
/// What the disk says; [`io::ErrorKind::WouldBlock`] only for a read that does not wait.
pub(super) fn execute(
    backing: &Backing,
    memory: &GuestMemoryMmap,
    request: &Request,
    patience: Patience,
) -> Result<(), Failure> {
    let disk = &*backing.disk;
    let pieces = |segments| sys::pieces(memory, segments).ok_or(Failure::Refused(Refusal::Invalid));
    match request {
        Request::Read { offset, into } => return Ok(disk.read(*offset, &pieces(into)?, patience)?),
        Request::Flush => return Ok(disk.flush()?),
        Request::Identify { into } => {
            let mut serial = [0; VIRTIO_BLK_ID_BYTES as usize];
            serial[..backing.serial.len()].copy_from_slice(backing.serial.as_bytes());
            pieces(into)?.part(0, serial.len()).copy_in(&serial);
            return Ok(());
        }
        Request::Write { range, from } => disk.write(range.start, &pieces(from)?)?,
        Request::Discard { ranges } => {
            for range in ranges {
                disk.discard(range.clone())?;
            }
        }
        Request::WriteZeroes { ranges } => {
            for zero in ranges {
                disk.write_zeroes(zero.range.clone(), zero.may_unmap)?;
            }
        }
    }
    match backing.caching {
        Caching::UntilFlush => Ok(()),
        Caching::Nothing => Ok(disk.flush()?),
    }
}

/// Writes the status byte, and returns how many bytes the guest may be told were written to it.
pub(super) fn answer(memory: &GuestMemoryMmap, parsed: &Parsed, result: Result<(), Failure>) -> u32 {
    let (status, answer_bytes) = match result {
        Ok(()) => (VIRTIO_BLK_S_OK, parsed.answer_bytes),
        Err(Failure::Refused(Refusal::Unsupported)) => (VIRTIO_BLK_S_UNSUPP, 0),
        Err(Failure::Refused(Refusal::Invalid)) => (VIRTIO_BLK_S_IOERR, 0),
        Err(Failure::Disk(error)) => {
            let request = parsed.request.as_ref().map_or("none", Request::name);
            tracing::error!(error = &error as &dyn std::error::Error, request, "disk failed");
            (VIRTIO_BLK_S_IOERR, 0)
        }
    };
    let status = u8::try_from(status).expect("a status is one byte");
    // A status byte outside of the guest's memory: nobody waits for it.
    match memory.write_slice(&[status], GuestAddress(parsed.status)) {
        Ok(()) if answer_bytes == parsed.answer_bytes => answer_bytes.saturating_add(1),
        Ok(()) | Err(_) => 0,
    }
}
