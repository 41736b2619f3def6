//! The job file: parsed with positions, validated, explained.
//!
//! Text goes through three layers: `document` (YAML as a tree that knows its places, within bounds), `read` (the keys
//! of the job file, each value parsed by a pure function of `value`) and `diagnostic` (what is wrong, where, what to
//! write instead). The result is a [`lith_core::job::JobSpec`]. Must not know files on disk, the cluster, nor how
//! anything runs.

mod diagnostic;
mod document;
mod read;
mod value;
mod write;

pub use diagnostic::{Code, Colour, DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Severity};
pub use read::{Reading, check, check_bytes, read};
pub use write::to_yaml;
