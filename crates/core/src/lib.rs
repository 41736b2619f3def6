//! The nouns of lith and every decision it takes, without any input or output.
//!
//! This crate owns names and identifiers, the validated job, the life of a task on a node, the planning of what should
//! exist, and how an error reads with its causes. It must not know files, sockets, clocks, SQL, HTTP or any encoding: time
//! arrives as an argument, decisions leave as values.

pub mod blocked;
pub mod capability;
pub mod chain;
pub mod connect;
pub mod deploy;
pub mod egress;
pub mod job;
pub mod name;
pub mod order;
pub mod place;
pub mod resolve;
pub mod service;
pub mod slot;
pub mod task;
pub mod time;
pub mod value;
