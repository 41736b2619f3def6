//! TAPs: the device at the host's end of a guest's network card.
//!
//! Creates, opens and lists them. Must not configure addresses or rules: a TAP is created down and stays so until
//! [`Network::apply`](crate::Network::apply) has put rules in force.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;

use lith_core::slot::Slot;

use crate::{address, sys};

/// Where TAPs come from.
const TUN_DEVICE: &str = "/dev/net/tun";

/// A TAP that could not be created or opened.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// `/dev/net/tun` does not open.
    #[error("open {TUN_DEVICE}")]
    Device(#[source] io::Error),
    /// The kernel refused to create it.
    #[error("create the tap {tap}")]
    Create {
        /// Its name.
        tap: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to hand it out.
    #[error("open the tap {tap}")]
    Open {
        /// Its name.
        tap: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not exist.
    #[error("the tap {tap} does not exist")]
    Missing {
        /// Its name.
        tap: String,
    },
}

impl TapError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Device(source) if source.kind() == io::ErrorKind::NotFound => {
                Some("load the kernel module: modprobe tun".into())
            }
            Self::Device(_) => Some("run as root".into()),
            Self::Create { tap, source } | Self::Open { tap, source } => match source.raw_os_error() {
                Some(libc::EBUSY) => Some(format!("another process holds {tap}; stop it first")),
                Some(libc::EINVAL) => Some(format!("an interface {tap} that is no tap exists; remove it")),
                Some(libc::EPERM) => Some("run as root".into()),
                _ => None,
            },
            Self::Missing { .. } => Some("apply a state that contains its guest first".into()),
        }
    }
}

/// Creates the TAP of a slot, persistent, down, attachable by root alone. One that exists and is free is kept.
///
/// # Errors
/// The device does not open, or the kernel refuses, as it does when another process holds the TAP.
pub(crate) fn create(slot: Slot) -> Result<(), TapError> {
    let tap = address::tap_name(slot);
    let tun = device()?;
    let created = sys::attach(&tun, &tap).and_then(|()| sys::persist_for_root(&tun));
    created.map_err(|source| TapError::Create { tap, source })
}

/// Opens an existing TAP for a VMM. Whoever holds the descriptor is the guest; reads and writes carry one frame each
/// behind a `virtio_net_hdr`. Closed on exec unless the caller changes that.
///
/// # Errors
/// The TAP does not exist, or another process holds it.
pub fn open(slot: Slot) -> Result<OwnedFd, TapError> {
    open_named(&address::tap_name(slot))
}

/// Opens an existing persistent TAP by its name, as [`open`] does.
///
/// # Errors
/// As [`open`].
pub fn open_named(tap: &str) -> Result<OwnedFd, TapError> {
    let tun = device()?;
    let failed = |source| TapError::Open { tap: tap.to_owned(), source };
    sys::attach(&tun, tap).map_err(failed)?;
    // Attaching creates what does not exist; such a TAP is not persistent, and vanishes when `tun` is closed here.
    if !sys::is_persistent(&tun).map_err(failed)? {
        return Err(TapError::Missing { tap: tap.to_owned() });
    }
    Ok(tun.into())
}

fn device() -> Result<File, TapError> {
    OpenOptions::new().read(true).write(true).open(TUN_DEVICE).map_err(TapError::Device)
}
