//! The packet filter as text: from a [`NetworkState`] to one script for `nft -f -`.
//!
//! Pure and deterministic. The script replaces the tables `netdev lith` and `inet lith` whole in one transaction, so
//! at every instant either the old rules hold or the new ones do; connections live in the kernel's connection tracking
//! and survive. It is text and not JSON because it then reads like `nft list ruleset`, which is what a person compares
//! it with; everything that is put into it is a number, an address or a transport, so there is nothing to escape.
//!
//! The number of rules is constant: what belongs to single guests stands in sets and maps. What the rules say:
//!
//! 1. A frame from a TAP is dropped unless it is untagged IPv4 with the hardware and IP address of that guest. So no
//!    ARP, no IPv6, no spoofing.
//! 2. A guest may answer: its packets pass if they belong to a connection *to that guest* that somebody else opened.
//!    ICMP errors pass by the same rule, hence only about the guest's own connections.
//! 3. A guest may open connections to other guests, where it has a grant for just that pair and port, and nowhere else.
//!    The grant is looked for in every packet of its direction, not only in the first.
//! 4. Into a TAP goes what was redirected from a published port, what rule 3 grants, and answers to what that guest
//!    opened. Root alone reaches every port of its guests from the host, as the agent must; other users of the host are
//!    outside. What is sent to everybody (multicast, broadcast) does not go there.
//! 5. A target that a guest may reach and that does not exist refuses, so that nobody waits for a stopped database.
//! 6. A client's address is preserved, except for clients on 127.0.0.1: guests see the gateway's address instead, as
//!    they could not answer to their own loopback.
//! 7. Removing a publish or a grant cuts its flows too: packets of a connection are held to the same list as its first.
//! 8. What arrives at an interface that forwards for lith alone goes to a guest or nowhere: the host does not become a
//!    router between its own networks.
//! 9. Of connections that a guest opened so many may be open, so that it cannot fill the kernel's table for everybody.
//!    The count begins anew with each set of rules, so this is a brake more than a wall. Nobody counts what comes from
//!    outside: the kernel walks the whole list of a busy guest for each new connection.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use lith_core::slot::{SLOT_MAX, Slot};

use crate::address::{self, GATEWAY, TAP_PREFIX};
use crate::state::{NetworkState, StateError};

mod sets;

/// Most devices on one netdev chain. The kernel refuses more than 256 (`NFT_NETDEVICE_MAX`).
const DEVICES_PER_CHAIN_MAX: usize = 200;

/// Most connections that a guest may have open of those that it opened itself: more than a busy proxy has to its targets,
/// and few enough for the kernel to walk their list at each new one.
const OPENED_MAX: u32 = 4096;

/// The script that puts `state` in force, whatever was there before. `owner` says whose the tables are, in a comment;
/// `switched` are the interfaces that forward for lith alone.
///
/// Every TAP of `state` must exist when the script is run.
///
/// # Errors
/// A state that is impossible.
pub fn script(state: &NetworkState, owner: &str, switched: &BTreeSet<String>) -> Result<String, StateError> {
    state.validate()?;
    let mut script = removal_script();
    script.push_str(&source_table(state));
    _ = writeln!(script, "table inet lith {{\n  comment \"{OWNER}{}\"", comment(owner));
    script.push_str(&sets::script(state));
    let switched = switched.iter().map(|name| format!("\"{name}\""));
    script.push_str(&sets::exact("set switched", "ifname", switched));
    script.push_str(&chains());
    script.push_str("}\n");
    Ok(script)
}

/// The script that removes both tables, whether they exist or not.
#[must_use]
pub fn removal_script() -> String {
    // `add` first: `delete` of a table that does not exist would fail the whole transaction.
    ["netdev", "inet"].map(|family| format!("add table {family} lith\ndelete table {family} lith\n")).concat()
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

/// The owner that a listing of the table names.
pub(crate) fn owner(listing: &str) -> Option<&str> {
    let comment = listing.lines().find_map(|line| line.trim().strip_prefix("comment \""))?;
    comment.strip_prefix(OWNER)?.strip_suffix('"')
}

/// Rule 1, at the earliest hook: before connection tracking, and before anything else sees the frame.
fn source_table(state: &NetworkState) -> String {
    let slots: Vec<Slot> = state.slots().into_iter().collect();
    if slots.is_empty() {
        return String::new();
    }
    let sources = slots.iter().map(|slot| {
        format!(
            "\"{TAP_PREFIX}{slot}\" . {} . {}",
            address::guest_mac(*slot),
            state.network.guest_address(*slot)
        )
    });
    let mut table = String::from("table netdev lith {\n");
    table.push_str(&sets::exact("set sources", "ifname . ether_addr . ipv4_addr", sources));
    for (index, devices) in slots.chunks(DEVICES_PER_CHAIN_MAX).enumerate() {
        let devices: Vec<String> = devices.iter().map(|slot| address::tap_name(*slot)).collect();
        let devices = devices.join(", ");
        // Matching on the frame's own type field makes a VLAN tag, even one of zero, fail the match.
        _ = write!(
            table,
            "  chain ingress_{index} {{
    type filter hook ingress devices = {{ {devices} }} priority -500; policy drop;
    ether type ip iifname . ether saddr . ip saddr @sources accept
  }}
"
        );
    }
    table.push_str("}\n");
    table
}

/// Rules 2 to 9.
fn chains() -> String {
    let mut script = redirection();
    script.push_str(&judgement());
    script.push_str(&grants());
    script
}

/// Where packets to the host's own addresses go.
fn redirection() -> String {
    // In `redirect_arriving`: a packet to 127.0.0.1 that arrives on a wire would be redirected before the kernel sees
    // that it is absurd; the host's own were redirected on their way out.
    format!(
        r#"  chain impossible_sources {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{TAP_PREFIX}*" ip daddr 127.0.0.0/8 drop
    iifname != "{TAP_PREFIX}*" ip saddr @guest_addresses drop
  }}
  chain redirect_arriving {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname "{TAP_PREFIX}*" return
    ip daddr 127.0.0.0/8 return
    fib daddr type local jump to_published
  }}
  chain redirect_local {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump to_published
  }}
  chain to_published {{
    dnat ip to ip daddr . meta l4proto . th dport map @published_at
    dnat ip to meta l4proto . th dport map @published
    dnat ip to ip daddr . meta l4proto . th dport map @published_ranges_at
    dnat ip to meta l4proto . th dport map @published_ranges
  }}
  chain from_loopback {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{TAP_PREFIX}*" ip saddr 127.0.0.0/8 snat ip to {GATEWAY}
  }}
"#
    )
}

/// What may leave a TAP, and what may enter one. What a guest sends to another one passes `from_guest` undecided, and is
/// judged in `to_guest`, where everything ends that nothing accepts.
fn judgement() -> String {
    // In `from_host`: the refusals of rule 5 are the host's own.
    format!(
        r#"  chain input {{
    type filter hook input priority filter; policy accept;
    iifname "{TAP_PREFIX}*" jump from_guest
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    oifname "{TAP_PREFIX}*" jump from_host
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{TAP_PREFIX}*" jump from_guest
    oifname "{TAP_PREFIX}*" jump to_guest
    iifname @switched drop
  }}
  chain from_guest {{
    ct state established,related ct direction reply iifname . ct reply ip saddr @guests return
    ct direction original iifname . ct original ip saddr @guests oifname . ip daddr @guests return
    drop
  }}
  chain from_host {{
    oifname . ip daddr != @guests drop
    meta skuid 0 accept
    ct direction original ct status dnat jump to_reachable
    ct state established,related ct status & dnat != dnat accept
    icmp type destination-unreachable icmp code port-unreachable accept
    drop
  }}
  chain to_guest {{
    oifname . ip daddr != @guests drop
    ct direction original ct status dnat jump to_reachable
    iifname "{TAP_PREFIX}*" ct direction original jump to_granted
    iifname "{TAP_PREFIX}*" ct state established,related ct direction reply oifname . ct original ip saddr @guests accept
    ct state related oifname . ct reply ip saddr @guests accept
    drop
  }}
  chain to_reachable {{
    ip daddr . meta l4proto . th dport @reachable accept
    ip daddr . meta l4proto . th dport @reachable_ranges accept
  }}
"#
    )
}

/// What guests may open, and what of it is refused.
fn grants() -> String {
    // Before routing, in `absent`: the way to a guest that is gone is the host's default route.
    format!(
        r#"  set openers {{
    type ipv4_addr
    size {SLOT_MAX}
    flags dynamic
  }}
  chain to_granted {{
    meta l4proto {{ tcp, udp }} ip saddr . ip daddr @granted_whole goto opened
    ip saddr . ip daddr . meta l4proto . th dport @granted goto opened
    ip saddr . ip daddr . meta l4proto . th dport @granted_ranges goto opened
  }}
  chain opened {{
    ct state new add @openers {{ ip saddr ct count over {OPENED_MAX} }} drop
    accept
  }}
  chain absent {{
    type filter hook prerouting priority filter; policy accept;
    iifname "{TAP_PREFIX}*" ct direction original ip daddr != @guest_addresses jump refuse_granted
  }}
  chain refuse_granted {{
    meta l4proto {{ tcp, udp }} ip saddr . ip daddr @granted_whole goto refuse
    ip saddr . ip daddr . meta l4proto . th dport @granted goto refuse
    ip saddr . ip daddr . meta l4proto . th dport @granted_ranges goto refuse
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    reject with icmp port-unreachable
  }}
"#
    )
}

#[cfg(test)]
mod tests;
