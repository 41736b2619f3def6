//! `lith shim`: the supervisor of one boot of one task, as a process of its own.
//!
//! Comes before everything else in `main`: it must stay small, without a runtime, and on the main thread, with which
//! its machine ends. All that it does is `lith-vmm`'s.

/// The name of the subcommand.
pub const SUBCOMMAND: &str = "shim";
