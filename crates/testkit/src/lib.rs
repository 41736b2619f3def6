//! Fixtures and helpers of the tests: a world of its own for each test, in which lith really runs.
//!
//! Owns the making and the removal of namespaces, folders and processes that tests use. Only tests may depend on it. Its
//! functions panic when something is not as it must be: that is how a test fails. They never sleep for a fixed time, but
//! wait for conditions with a deadline.
#![allow(clippy::panic, reason = "a helper of tests fails by panicking")]

pub mod assets;
mod command;
mod folder;
mod leftovers;
mod namespace;
mod processes;
mod wait;
mod world;

pub use command::{Output, Running};
pub use folder::Folder;
pub use namespace::Namespace;
pub use processes::Pid;
pub use wait::{DEADLINE, eventually, eventually_within};
pub use world::{FAR, FAR_6, HOST, HOST_6, METADATA, NEIGHBOUR, NEIGHBOUR_6, World};
