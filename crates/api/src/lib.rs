//! The wire types of the HTTP API (version 1), their conversions to and from core, and the client.
//!
//! This crate owns what crosses the socket between a person's command and the server, and between the server and an
//! agent. It must not know axum, SQL, or how anything is done.

pub mod agent;
pub mod blocked;
pub mod client;
pub mod error;
pub mod event;
pub mod image;
pub mod job;
pub mod log;
pub mod node;
pub mod stream;
pub mod task;
pub mod volume;

/// Prefix of every path of this version.
pub const PREFIX: &str = "/v1";
