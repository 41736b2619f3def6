//! The daemon: observe, plan, act.
//!
//! The only crate that knows two siblings: it joins the server's database, the agent's images, machines and network,
//! and the HTTP API into `lith up`. It must not hold policy, which is core's, nor SQL, nor a VMM's flags.

pub mod agent;
pub mod alone;
pub mod clock;
pub mod detach;
pub mod disks;
pub mod doctor;
pub mod down;
mod host_ports;
pub mod http;
mod identity;
pub mod images;
pub mod layout;
pub mod lock;
pub mod look;
pub mod pools;
pub mod purge;
pub mod resolver;
pub mod server;
pub mod shim;
pub mod up;
mod volumes;
