//! The commands a person types: their arguments, what they print, their hints and exit codes.
//!
//! Arguments are taken in two steps: [`parse`] is pure grammar (`args`); touching the machine (terminal, socket,
//! files) comes after, in [`run()`] and below it. This crate knows the API and the job file, never how the daemon does
//! anything: invocations that need the daemon's own code are handed back to the caller as they are.

mod archive;
pub mod args;
mod ask;
mod blocked;
mod complete;
mod confirm;
mod context;
mod convert;
mod cp;
mod deploy;
mod doctor;
mod error;
mod events;
mod exec;
mod exit;
mod explain;
#[cfg(test)]
mod fixture;
mod format;
mod image;
mod learn;
mod list;
mod logs;
mod name;
mod pack;
mod plan;
mod pool;
mod publish;
mod raw;
mod registry;
mod run;
mod size;
mod source;
mod spinner;
mod stats;
mod table;
mod terminal;
mod time;
mod unpack;
mod volume;
mod wait;
mod watch;

pub use args::{
    ClientCommand, DATA_DIR_DEFAULT, DoctorArgs, DownArgs, Globals, Invocation, Manner, RUN_DIR_DEFAULT,
    SOCKET_NAME, UpArgs, command, parse, parse_from,
};
pub use doctor::{Format, print_checks};
pub use run::{end_on_panic, note, report, run};
pub use spinner::{Spinner, Talk};
