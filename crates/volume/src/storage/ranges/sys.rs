//! The system call. Safe code will not do: no library has locks on ranges that belong to an open file.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Sets such a lock, or asks for one that is in its way.
pub(super) fn call(file: &File, command: libc::c_int, range: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the kernel reads and writes one `flock` at this address, as these commands do.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(range)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
