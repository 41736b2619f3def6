//! The host side of guest networking: TAPs, addresses, firewall.
//!
//! This crate owns every `lith{slot}` TAP, the nftables tables `inet lith` and `netdev lith`, the addresses, routes and
//! neighbour entries on the TAPs, and (while guests run) the forwarding of interfaces that clients come through. It converges
//! all of them to a [`NetworkState`] that it is handed; only what names open ([`opened`]) is put there by others. It must not
//! know why a task may be reached, nor touch any table, interface or setting of others. All calls block.

pub mod address;
pub mod blocked;
mod command;
mod conntrack;
pub mod doctor;
mod error;
mod firewalls;
mod forwarding;
mod interface;
mod message;
mod network;
pub mod opened;
mod own;
pub mod ruleset;
mod stamp;
mod state;
mod sys;
pub mod tap;
pub mod watch;

pub use address::{Family, GuestNetwork};
pub use command::CommandError;
pub use error::NetworkError;
pub use network::Network;
pub use opened::{OpenError, Opened};
pub use own::own_addresses;
pub use state::{Guest, NetworkState, Redirect, Resolver, Service, StateError};
pub use tap::TapError;
