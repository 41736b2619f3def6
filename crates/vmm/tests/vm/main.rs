//! Real machines: each test boots guests under a real supervisor process and looks at what a person or the kernel sees.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the exception for tests does not reach their helpers")]

mod exec;
mod guest;
mod host;
mod jail;
mod life;
mod world;
