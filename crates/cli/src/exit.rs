//! Exit codes.

/// Done.
pub(crate) const DONE: u8 = 0;
/// Refused or failed.
pub(crate) const FAILED: u8 = 1;
/// The command line makes no sense.
pub(crate) const USAGE: u8 = 2;
/// A fault of lith itself.
pub(crate) const FAULT: u8 = 3;
/// The person pressed Ctrl-C: 128 + SIGINT, as shells expect it.
pub(crate) const INTERRUPTED: u8 = 130;
