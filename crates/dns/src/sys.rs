//! What safe code does not have: inherited descriptors, and signals that do nothing.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes over an inherited descriptor, once.
///
/// # Errors
/// It is not open, or is a standard one.
pub(crate) fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: borrowed only to ask whether it is open, which the kernel answers for any number.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open (above), the caller says that it was inherited for this, and nobody else in this process uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Lets SIGTERM end neither this thread nor what it starts, and gives a descriptor that is readable when it has come.
///
/// # Errors
/// What the system says.
pub(crate) fn terminations() -> io::Result<OwnedFd> {
    // SAFETY: a zeroed set is a valid place for `sigemptyset`, which makes it a set; the calls read it and keep no pointer
    // to it. rustix has no signal sets.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        let error = libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            descriptor if descriptor >= 0 => Ok(OwnedFd::from_raw_fd(descriptor)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
