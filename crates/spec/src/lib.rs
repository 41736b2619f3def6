//! The job file and Compose files: parsed with positions, validated, explained.
//!
//! Text goes through three layers: `document` (YAML as a tree that knows its places, within bounds), `read` (the keys
//! of the job file, each value parsed by a pure function of `value`) and `diagnostic` (what is wrong, where, what to
//! write instead). A Compose file takes another way through the middle: `compose`, which loads a project as its
//! specification says and makes a job of it. The result is a [`lith_core::job::JobSpec`]. Must not know files on disk, the
//! cluster, nor how anything runs.

mod compose;
mod diagnostic;
mod document;
mod dotenv;
mod format;
mod keys;
mod read;
mod schema;
mod source;
mod value;
mod variables;
mod write;

/// What this version refuses to deploy, and what it keeps without acting on it.
pub use lith_core::capability::{impossible_egress, not_in_force, refusals};
pub use lith_core::job::JobSpec;

pub use compose::convert::refusal::{REFUSAL_KINDS, RefusalKind};
pub use compose::{Binds, ComposeOptions, ComposeReading, Connection, Variable, check_compose, is_compose};
pub use diagnostic::{Code, Colour, DIAGNOSTICS_MAX, Diagnostic, Diagnostics, Severity};
pub use format::format;
pub use read::{Reading, check, check_bytes, check_job, read};
pub use schema::json_schema;
/// The bytes that a size of a job file means, such as `64M` or `1.5G`; `None` when the text is none.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    lith_core::value::size::parse(text).ok().map(|size| size.0)
}

pub use source::{FILES_MAX, Files, Named, NoFiles, PathKind, Variables};
pub use write::{Access, Comments, access_to_yaml, to_yaml, to_yaml_with};
