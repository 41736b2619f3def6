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
//! 2. A guest may only answer: its packets pass if they belong to a connection *to that guest* that somebody else
//!    opened. ICMP errors pass by the same rule, hence only about the guest's own connections.
//! 3. Into a TAP goes what was redirected from a published port, and nothing else. Root alone reaches every port of its
//!    guests from the host, as the agent must; other users of the host are outside. What is sent to everybody
//!    (multicast, broadcast) does not go there.
//! 4. A client's address is preserved, except for clients on 127.0.0.1: guests see the gateway's address instead, as
//!    they could not answer to their own loopback.
//! 5. Removing a publish cuts its flows too: packets of a connection are held to the same list as its first.
//! 6. What arrives at an interface that forwards for lith alone goes to a guest or nowhere: the host does not become a
//!    router between its own networks.
//!
//! A count of connections per guest (`ct count`) is left out on purpose: a guest cannot open any, and the kernel walks
//! the whole list of a busy guest for each new connection.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use lith_core::job::{Publish, Transport};
use lith_core::slot::Slot;

use crate::address::{self, GATEWAY, TAP_PREFIX};
use crate::state::{NetworkState, StateError};

/// Most devices on one netdev chain. The kernel refuses more than 256 (`NFT_NETDEVICE_MAX`).
const DEVICES_PER_CHAIN_MAX: usize = 200;

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
    script.push_str(&sets(state));
    let switched = switched.iter().map(|name| format!("\"{name}\""));
    script.push_str(&set("set switched", "ifname", switched));
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
    table.push_str(&set("set sources", "ifname . ether_addr . ipv4_addr", sources));
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

/// What belongs to single guests.
fn sets(state: &NetworkState) -> String {
    let publishes = state.publishes();
    let target = |publish: &Publish, slot: Slot| {
        format!("{} . {}", state.network.guest_address(slot), publish.guest_port)
    };
    let guests = state
        .slots()
        .into_iter()
        .map(|slot| format!("\"{TAP_PREFIX}{slot}\" . {}", state.network.guest_address(slot)));
    let addresses = state.slots().into_iter().map(|slot| state.network.guest_address(slot).to_string());
    // Two publishes may lead to one port of a guest, and sets take each element once.
    let reachable: BTreeSet<String> = publishes
        .iter()
        .map(|(publish, slot)| {
            let (transport, port) = (keyword(publish.transport), publish.guest_port);
            format!("\"{TAP_PREFIX}{slot}\" . {} . {transport} . {port}", state.network.guest_address(*slot))
        })
        .collect();
    let everywhere =
        publishes.iter().filter(|(publish, _)| publish.address.is_none()).map(|(publish, slot)| {
            format!("{} . {} : {}", keyword(publish.transport), publish.host_port, target(publish, *slot))
        });
    let bound = publishes.iter().filter_map(|(publish, slot)| {
        let (address, transport) = (publish.address?, keyword(publish.transport));
        Some(format!("{address} . {transport} . {} : {}", publish.host_port, target(publish, *slot)))
    });
    [
        set("set guests", "ifname . ipv4_addr", guests),
        set("set guest_addresses", "ipv4_addr", addresses),
        set("set reachable", "ifname . ipv4_addr . inet_proto . inet_service", reachable.into_iter()),
        set("map published", "inet_proto . inet_service : ipv4_addr . inet_service", everywhere),
        set("map published_at", "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service", bound),
    ]
    .concat()
}

/// Rules 2 to 5.
fn chains() -> String {
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
  }}
  chain from_loopback {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{TAP_PREFIX}*" ip saddr 127.0.0.0/8 snat ip to {GATEWAY}
  }}
  chain input {{
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
    ct state established,related ct direction reply iifname . ct reply ip saddr @guests accept
    drop
  }}
  chain from_host {{
    oifname . ip daddr != @guests drop
    meta skuid 0 accept
    ct direction original ct status dnat oifname . ip daddr . meta l4proto . th dport @reachable accept
    ct state established,related ct status & dnat != dnat accept
    drop
  }}
  chain to_guest {{
    ct direction original ct status dnat oifname . ip daddr . meta l4proto . th dport @reachable accept
    ct state related oifname . ct reply ip saddr @guests accept
    drop
  }}
"#
    )
}

/// A named set or map; `nft` refuses an empty list of elements, so there is none then.
fn set(name: &str, kind: &str, elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.map(|element| format!("      {element}")).collect();
    if elements.is_empty() {
        return format!("  {name} {{\n    type {kind}\n  }}\n");
    }
    format!("  {name} {{\n    type {kind}\n    elements = {{\n{}\n    }}\n  }}\n", elements.join(",\n"))
}

fn keyword(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

#[cfg(test)]
mod tests {
    use lith_core::job::{Publish, Transport};
    use proptest::prelude::*;

    use super::*;
    use crate::address::GuestNetwork;
    use crate::state::Guest;

    fn publish() -> impl Strategy<Value = Publish> {
        (proptest::option::of(any::<[u8; 4]>()), 1u16.., 1u16.., any::<bool>()).prop_map(
            |(address, host_port, guest_port, is_tcp)| Publish {
                address: address.map(Into::into),
                host_port,
                guest_port,
                transport: if is_tcp { Transport::Tcp } else { Transport::Udp },
            },
        )
    }

    fn state() -> impl Strategy<Value = NetworkState> {
        proptest::collection::btree_map(1u16..=4000, proptest::collection::vec(publish(), 0..6), 0..300)
            .prop_map(|guests| NetworkState {
                network: GuestNetwork::default(),
                guests: guests
                    .into_iter()
                    .map(|(slot, publishes)| Guest { slot: Slot::new(slot).unwrap(), publishes })
                    .collect(),
            })
            .prop_filter("possible", |state| state.validate().is_ok())
    }

    /// How often a line of the script begins with `text`.
    fn lines_beginning(script: &str, text: &str) -> usize {
        script.lines().filter(|line| line.trim_start().starts_with(text)).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn order_does_not_matter(state in state()) {
            let mut reversed = state.clone();
            reversed.guests.reverse();
            reversed.guests.iter_mut().for_each(|guest| guest.publishes.reverse());
            prop_assert_eq!(
                script(&state, "me", &BTreeSet::new()).unwrap(),
                script(&reversed, "me", &BTreeSet::new()).unwrap()
            );
        }

        #[test]
        fn every_publish_once_and_every_guest_bound(state in state()) {
            let script = script(&state, "me", &BTreeSet::new()).unwrap();
            for guest in &state.guests {
                let address = state.network.guest_address(guest.slot);
                let source = format!("\"lith{}\" . {} . {address}", guest.slot, address::guest_mac(guest.slot));
                prop_assert_eq!(lines_beginning(&script, &source), 1);
                for publish in &guest.publishes {
                    let at = publish.address.filter(|a| !a.is_unspecified()).map(|a| format!("{a} . ")).unwrap_or_default();
                    let element =
                        format!("{at}{} . {} : {address} . {}", publish.transport, publish.host_port, publish.guest_port);
                    let count = script.lines().filter(|line| line.trim().trim_end_matches(',') == element).count();
                    prop_assert_eq!(count, 1, "{}", element);
                }
            }
        }
    }

    #[test]
    fn the_number_of_rules_is_constant() {
        let rules = |guests: u16| {
            let guest = |number| Guest { slot: Slot::new(number).unwrap(), publishes: Vec::new() };
            let state = NetworkState { guests: (1..=guests).map(guest).collect(), ..NetworkState::default() };
            let script = script(&state, "me", &BTreeSet::new()).unwrap();
            script
                .lines()
                .filter(|line| ["accept", "drop", "return"].iter().any(|verdict| line.ends_with(verdict)))
                .count()
        };
        assert_eq!(rules(1), rules(200));
    }

    #[test]
    fn without_guests_nothing_hangs_on_a_device() {
        let script = script(&NetworkState::default(), "me", &BTreeSet::new()).unwrap();
        assert!(!script.contains("table netdev lith {"), "{script}");
        assert!(!script.contains("elements"), "{script}");
    }

    #[test]
    fn an_owner_is_read_back() {
        let long = format!("/{}", "x".repeat(200));
        for (name, expected) in
            [("/var/lib/lith", "/var/lib/lith"), ("/a \"b\"\n", "/a__b__"), (long.as_str(), &long[101..])]
        {
            let listing = format!("table inet lith {{\n\tcomment \"{OWNER}{}\"\n}}\n", comment(name));
            assert_eq!(owner(&listing), Some(expected));
        }
        assert_eq!(owner("table inet lith {\n}\n"), None);
    }
}
