//! What safe code does not have: inherited descriptors, and SIGTERM as something to wait for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

/// Takes over a listening socket that this process has inherited, once.
///
/// # Errors
/// It is not open.
pub(super) fn listener(descriptor: i32) -> io::Result<UnixListener> {
    // SAFETY: fcntl with integers; it fails on a descriptor that is not open.
    if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open (above), was inherited for this, and nobody else in this process uses it.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(owned.into())
}

/// A descriptor that is readable when somebody asks this process to end. From now on the signal does nothing else, in this
/// thread and in those that it starts.
///
/// # Errors
/// What the system says.
pub(super) fn terminations() -> io::Result<OwnedFd> {
    // SAFETY: a zeroed set is one, and both calls get pointers to it that live as long as they do.
    let descriptor = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        if libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it has just been made, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
