//! The packet filter: from a [`NetworkState`] to a [`Model`] of it, and from models to text for `nft -f -`.
//!
//! Pure and deterministic. The tables `netdev lith` and `inet lith` are replaced whole when nobody knows what is in force,
//! and changed by the difference of two models otherwise; either is one transaction, so at every instant the old rules
//! hold or the new ones do. Connections live in the kernel's connection tracking and survive. The text is that of `nft` and
//! not JSON because it then reads like `nft list ruleset`, which is what a person compares it with; everything that is put
//! into it is a number, an address or a name that we gave, so there is nothing to escape.
//!
//! What belongs to single guests stands in sets and maps, but for a chain on each TAP, and chains for services with several
//! instances and for guests that have names in their egress. What the rules say:
//!
//! 1. A frame from a TAP is dropped unless it is untagged IPv4 or IPv6 with the hardware and IP address of that guest. So
//!    no ARP, no neighbour or router discovery, no link-local address, no spoofing.
//! 2. A guest may answer: its packets pass if they belong to a connection *to that guest* that somebody else opened.
//!    ICMP errors pass by the same rule, hence only about the guest's own connections.
//! 3. A guest may open connections to other guests, where it has a grant for just that pair and port, and nowhere else.
//!    The grant is looked for until the other end has answered; what stands then passes between TAPs by one rule.
//! 4. Into a TAP goes what was redirected from a published port, what rule 3 grants, and answers to what that guest
//!    opened. Root alone reaches every port of its guests from the host, as the agent must; other users of the host are
//!    outside. What is sent to everybody (multicast, broadcast) does not go there.
//! 5. A target that a guest may reach and that does not exist refuses, so that nobody waits for a stopped database.
//!    Whatever else a guest may not reach is refused too, in other words, and told to those who log
//!    ([`LOG_GROUP`]). Only what an honest guest never sends is dropped in silence.
//! 6. A client's address is preserved, except for clients on 127.0.0.1 and for a guest that reaches itself through the
//!    node: guests see the gateway's address instead, as they could not answer otherwise.
//! 7. Removing a publish or a grant cuts its flows too: they are taken out of connection tracking, so that their next packet
//!    is held to the list as a first one.
//! 8. What arrives at an interface that forwards for lith alone goes to a guest or nowhere: the host does not become a
//!    router between its own networks.
//! 9. Of connections that a guest opened so many may be open, and it begins so many a second, so that it cannot fill the
//!    kernel's table for everybody. The count begins anew with each whole replacement, so this is a brake more than a wall.
//!    Nobody counts what comes from outside: the kernel walks the whole list of a busy guest for each new connection.
//! 10. A virtual address leads to an instance that the guest has a grant for; what arrives there is judged by rule 3.
//! 11. Outside the cluster a guest reaches what its egress names: networks that are written out, public addresses, and those
//!     that its own questions for names opened. A connection that was allowed goes on when the name's time is over. What
//!     leaves has the node's address.
//! 12. A guest's questions for names go to the node's resolver, whomever it asked; but not those to an address of the
//!     cluster, which only rule 3 is about, nor to one that its egress writes out with the port of name servers: a task that is
//!     a name server itself has others to ask. Nothing else of the node is reached, but for a published port by an address that is
//!     written out.
//! 13. A guest sends and receives no faster than its bandwidth; what is more is dropped.
//! 14. The process that reads guests' questions answers them, and asks others at the port of name servers. Nothing else that
//!     it sends leaves, neither to guests, nor to servers of the node, nor anywhere: a guest may have got hold of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::address::Family;
use crate::state::{NetworkState, StateError};

mod chains;
mod change;
mod egress;
mod elements;
#[cfg(test)]
mod evaluate;
mod model;

pub(crate) use elements::element;
pub use model::Model;

/// The group of NFLOG that refused flows are told to.
pub use crate::blocked::LOG_GROUP;
/// What is told of a flow to somewhere outside the cluster.
pub const LOG_OUT: &str = "lith out";
/// What is told of a flow to an address of the cluster.
pub const LOG_TASK: &str = "lith task";
/// What is told of a flow to the node itself.
pub const LOG_NODE: &str = "lith node";

/// A set that no rule looks at: whoever changes the rules says there that it was them.
pub(crate) const STAMP_SET: &str = "stamp";

/// What the rules must know of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Interfaces that forward IPv4 for lith alone.
    pub switched: BTreeSet<String>,
    /// Interfaces that forward IPv6 for lith alone.
    pub switched_6: BTreeSet<String>,
    /// Networks that the machine is attached to: an address and the length of the prefix.
    pub attached: BTreeSet<(IpAddr, u8)>,
}

/// The script that puts `state` in force, whatever was there before. `owner` says whose the tables are, in a comment.
///
/// Every TAP of `state` must exist when the script is run.
///
/// # Errors
/// A state that is impossible.
pub fn script(state: &NetworkState, owner: &str, surroundings: &Surroundings) -> Result<String, StateError> {
    Ok(Model::new(state, owner, surroundings)?.whole())
}

/// Of the two tables.
const FAMILIES: [&str; 2] = ["netdev", "inet"];

/// The script that removes both tables, whether they exist or not.
#[must_use]
pub fn removal_script() -> String {
    // `add` first: `delete` of a table that does not exist would fail the whole transaction.
    FAMILIES.map(|family| format!("add table {family} lith\ndelete table {family} lith\n")).concat()
}

/// What begins the comment of the table.
const OWNER: &str = "of ";
/// Longest comment that the kernel keeps, with room for [`OWNER`] (`NFTNL_UDATA_COMMENT_MAXLEN` is 128).
const COMMENT_BYTES_MAX: usize = 100;

/// What of a name can stand in a comment: quotes cannot be escaped there. The end of a path tells more than its start.
pub(crate) fn comment(owner: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-".contains(character);
    let plain: String = owner.chars().map(|one| if is_plain(one) { one } else { '_' }).collect();
    plain[plain.len().saturating_sub(COMMENT_BYTES_MAX)..].to_owned()
}

/// Whether one of the tables is among those of a listing.
pub(crate) fn is_listed(listing: &str) -> bool {
    let ours = FAMILIES.map(|family| format!("table {family} lith"));
    listing.lines().any(|line| ours.iter().any(|table| line == table))
}

/// The owner that a listing of the table names.
pub(crate) fn owner(listing: &str) -> Option<&str> {
    let comment = listing.lines().find_map(|line| line.trim().strip_prefix("comment \""))?;
    comment.strip_prefix(OWNER)?.strip_suffix('"')
}

/// The words of `nft` for a family, and the end of the names of its sets.
fn words(family: Family) -> (&'static str, &'static str, &'static str) {
    match family {
        Family::V4 => ("ip", "ipv4_addr", "4"),
        Family::V6 => ("ip6", "ipv6_addr", "6"),
    }
}

/// The type of a set's key that is an address.
pub(crate) fn kind_of_address(family: Family) -> &'static str {
    words(family).1
}

#[cfg(test)]
mod tests;
