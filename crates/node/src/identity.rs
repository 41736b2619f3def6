//! Identities of volumes and pools: drawn at random, so that no two are ever the same, on whatever machine.

use std::io;

use lith_volume::segment::VolumeUuid;
use rustix::rand::{GetRandomFlags, getrandom};

/// A new one.
///
/// # Errors
/// The system has no randomness.
pub(crate) fn new() -> io::Result<VolumeUuid> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(VolumeUuid(bytes))
}
