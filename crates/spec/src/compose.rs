//! Compose files: loaded as the Compose specification says, then converted to a job.
//!
//! Two layers: `load` makes a [`project::Project`] of all files, `convert` makes a job of it and tells each decision. Must
//! not open a file itself: what it needs comes through [`crate::source::Files`].

mod check;
pub(crate) mod convert;
pub(crate) mod load;
pub(crate) mod project;

pub use check::{Binds, ComposeOptions, ComposeReading, Connection, Variable, check_compose, is_compose};
