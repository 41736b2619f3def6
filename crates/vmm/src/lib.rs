//! One microVM: kernel, jail, VMM process, console, guest channel, and its supervisor.
//!
//! Owns everything between "run this image file with this configuration" and the guest's word that it ran. Must not
//! know services, where images come from, or the cluster: it is handed paths, numbers and an open TAP device.

mod console;
pub mod doctor;
pub mod durable;
pub mod jail;
pub mod kernel;
pub mod log;
pub mod machine;
pub mod scratch;
pub mod shim;
