//! What a supervisor's process inherits and how it is told to end: descriptors across exec, and a signal that becomes one.
//! Owns the unsafe code of that.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the command's process a session of its own and lets it inherit `descriptors` under the same numbers.
pub(super) fn detach(command: &mut Command, descriptors: Vec<RawFd>) {
    let between = move || -> io::Result<()> {
        rustix::process::setsid()?;
        for descriptor in &descriptors {
            // SAFETY: the caller keeps the descriptor open until the process has started.
            let borrowed = unsafe { BorrowedFd::borrow_raw(*descriptor) };
            rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only and allocates nothing, as code between fork and exec must.
    unsafe { command.pre_exec(between) };
}

/// Takes over an inherited descriptor.
pub(super) fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: borrowed only to ask whether it is open, which the kernel answers for any number.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open, it is none of the standard ones, and the caller says that it was inherited for this purpose,
    // so nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Keeps SIGTERM from ending this process and all that it starts, and gives a descriptor that is readable when one came.
pub(super) fn terminations() -> io::Result<OwnedFd> {
    // SAFETY: a zeroed set is a valid place for `sigemptyset`, which makes it a set; the calls read it and keep no
    // pointer to it. rustix has no signal sets.
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
