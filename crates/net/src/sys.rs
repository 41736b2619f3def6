//! The ioctls of `/dev/net/tun`.
//!
//! Owns the unsafe code of this crate. Must not decide anything.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// A TAP, no packet information header, a virtio-net header before each frame (so that checksums and segmentation are
/// left to whoever can do them best).
const TAP_FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Set in the flags of a TAP that stays when nobody holds it (`linux/if_tun.h`).
const IFF_PERSIST: libc::c_int = 0x0800;

/// Attaches `tun` (an open `/dev/net/tun`) to the TAP `name`, creating it if it does not exist.
pub(crate) fn attach(tun: &File, name: &str) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = low_bits(TAP_FLAGS);
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is, alive for the call; the descriptor is open
    // as we borrow the file. No safe wrapper for this ioctl exists in rustix.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    check(result)
}

/// Whether the TAP that `tun` is attached to stays when closed.
pub(crate) fn is_persistent(tun: &File) -> io::Result<bool> {
    let mut request = request("")?;
    // SAFETY: TUNGETIFF writes one `ifreq`, which `request` is, alive for the call; the descriptor is open.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) };
    check(result)?;
    // SAFETY: on success the kernel has filled in `ifru_flags`; every bit pattern is a valid integer anyway.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(flags & low_bits(IFF_PERSIST) != 0)
}

/// Makes root the only user that may attach to the TAP (a TAP without an owner is open to every user) and makes it
/// stay when closed.
pub(crate) fn persist_for_root(tun: &File) -> io::Result<()> {
    let (root, on): (libc::c_ulong, libc::c_ulong) = (0, 1);
    // SAFETY: TUNSETOWNER takes a plain number; the descriptor is open.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOWNER as _, root) })?;
    // SAFETY: TUNSETPERSIST takes a plain number; the descriptor is open.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST as _, on) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The flags as `ifreq` holds them: all that are used here fit its 16 bits.
fn low_bits(flags: libc::c_int) -> libc::c_short {
    let [low, high, ..] = flags.to_le_bytes();
    libc::c_short::from_le_bytes([low, high])
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain old data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte is left for the terminating zero.
    if name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_le_bytes([from]);
    }
    Ok(request)
}
