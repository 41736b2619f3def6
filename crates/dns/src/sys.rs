//! What safe code does not have: inherited descriptors, files of another user, and signals that do nothing.
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

/// Opens files and sockets as another user, whose the kernel takes them to be for ever. All else is done as before.
///
/// # Errors
/// This process must not, or what the action says.
pub(crate) fn as_user<T>(user: u32, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let former = become_for_files(user)?;
    let result = action();
    become_for_files(former)?;
    result
}

/// Of this thread alone, and gives the former user.
fn become_for_files(user: u32) -> io::Result<u32> {
    // SAFETY: takes and gives numbers. It says nothing of whether it worked, but the next call says who it is; no user is -1.
    let (former, now) = unsafe { (libc::setfsuid(user), libc::setfsuid(u32::MAX)) };
    if now.cast_unsigned() != user {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(former.cast_unsigned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_as_another_user_is_theirs() {
        let owner = || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            Ok(rustix::fs::fstat(&socket)?.st_uid)
        };
        let own = rustix::process::geteuid().as_raw();
        let theirs = as_user(2_000_065_000, owner);
        if own == 0 {
            assert_eq!(theirs.unwrap(), 2_000_065_000);
        } else {
            assert_eq!(theirs.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
        assert_eq!(as_user(own, owner).unwrap(), own);
        assert_eq!(owner().unwrap(), own);
    }
}
