//! The node's resolver: answers each guest by who it is, and opens the addresses that names have led to.
//!
//! Two processes. The *parent* is root's: it holds the policy, answers the agent on a Unix socket, checks each opening and
//! has it carried out. The *child* has no rights: it reads what guests and other resolvers send. What either decides is
//! `lith_core::resolve`'s; how a process is jailed and how the packet filter is told is handed in.
//!
//! ```text
//!   agent ── policy ──▶ parent ── policy, whom to ask ──▶ child ◀── questions ── guests
//!         ◀─ refused ──        ◀── open these, refused ──       ── questions ──▶ the node's own resolvers
//! ```

mod answer;
mod cache;
pub mod child;
pub mod control;
pub mod form;
mod frame;
mod limit;
mod link;
mod message;
mod openings;
pub mod parent;
pub mod probe;
mod refused;
pub mod resolv_conf;
mod serve;
pub mod sockets;
mod sys;
mod upstream;
