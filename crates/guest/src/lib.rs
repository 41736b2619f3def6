//! The messages between a microVM and its host: what both ends of the guest channel share.
//!
//! Everything here is pure: bytes in, values out, no file, no socket, no clock. The guest end is the program
//! `lith-init` of this crate; the host end is crate `vmm`. The host must treat every byte from the guest as hostile:
//! [`wire`] bounds frames, [`mux`] bounds what may be in flight, [`messages`] bounds and cleans what is shown.

pub mod accounts;
pub mod health;
pub mod messages;
pub mod mux;
pub mod process;
pub mod signal;
pub mod wire;
