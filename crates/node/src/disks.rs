//! `lith disks`: the process that serves the volumes of an alloc.
//!
//! Comes before everything else in `main`, as a supervisor does: it must stay small. All that it does is `lith-volume`'s.

/// The name of the subcommand.
pub const SUBCOMMAND: &str = "disks";
