//! Descriptors across exec: lets a new supervisor inherit one, and takes it over there. Owns the unsafe code of that.
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
