//! The sets and maps of the table `inet lith`: all that belongs to single guests.
//!
//! Single ports stand in hashed sets, ranges in sets of intervals, which the kernel looks through more slowly. Elements of
//! intervals must not overlap, so they are merged first. Must not hold rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use lith_core::connect::{Reach, merged};
use lith_core::job::{Port, Transport};
use lith_core::slot::Slot;

use crate::address::TAP_PREFIX;
use crate::state::{NetworkState, Redirect};

/// All of them but for those that `ruleset` fills itself.
pub(super) fn script(state: &NetworkState) -> String {
    let address = |slot: &Slot| state.network.guest_address(*slot);
    let slots = state.slots();
    let guests = slots.iter().map(|slot| format!("\"{TAP_PREFIX}{slot}\" . {}", address(slot)));
    let mut script = exact("set guests", "ifname . ipv4_addr", guests);
    script.push_str(&exact(
        "set guest_addresses",
        "ipv4_addr",
        slots.iter().map(|slot| address(slot).to_string()),
    ));
    script.push_str(&published(state));
    script.push_str(&reachable(state));
    script.push_str(&granted(state));
    script
}

/// Where published ports lead. To a range belongs an address alone: the kernel keeps the port then.
fn published(state: &NetworkState) -> String {
    let publishes = state.publishes();
    let elements = |is_range: bool, is_bound: bool| {
        let chosen = publishes.iter().filter(move |(publish, _)| {
            (publish.count > 1) == is_range && publish.address.is_some() == is_bound
        });
        chosen.map(|(publish, slot)| redirection(publish, state.network.guest_address(*slot)))
    };
    [
        exact(
            "map published",
            "inet_proto . inet_service : ipv4_addr . inet_service",
            elements(false, false),
        ),
        exact(
            "map published_at",
            "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service",
            elements(false, true),
        ),
        intervals("map published_ranges", "inet_proto . inet_service : ipv4_addr", elements(true, false)),
        intervals(
            "map published_ranges_at",
            "ipv4_addr . inet_proto . inet_service : ipv4_addr",
            elements(true, true),
        ),
    ]
    .concat()
}

fn redirection(publish: &Redirect, guest: Ipv4Addr) -> String {
    let at = publish.address.map(|address| format!("{address} . ")).unwrap_or_default();
    let transport = keyword(publish.transport);
    if publish.count > 1 {
        return format!("{at}{transport} . {}-{} : {guest}", publish.host_port, publish.host_last());
    }
    format!("{at}{transport} . {} : {guest} . {}", publish.host_port, publish.guest_port)
}

/// The ports of guests to which published ones lead. Several may lead to one.
fn reachable(state: &NetworkState) -> String {
    let mut ports: BTreeMap<Slot, Vec<Port>> = BTreeMap::new();
    for (publish, slot) in state.publishes() {
        let last = publish.guest_port.saturating_add(publish.count.saturating_sub(1));
        let port = Port { number: publish.guest_port, last, transport: publish.transport };
        ports.entry(slot).or_default().push(port);
    }
    let kind = "ipv4_addr . inet_proto . inet_service";
    let elements = ports.into_iter().flat_map(|(slot, ports)| {
        let guest = state.network.guest_address(slot);
        merged(ports).into_iter().map(move |port| (port, format!("{guest} . {}", element(port))))
    });
    single_and_ranges("reachable", kind, elements)
}

/// What guests may open.
fn granted(state: &NetworkState) -> String {
    let mut whole: BTreeSet<(Ipv4Addr, Ipv4Addr)> = BTreeSet::new();
    let mut parts: BTreeMap<(Ipv4Addr, Ipv4Addr), Vec<Port>> = BTreeMap::new();
    for guest in &state.guests {
        for grant in &guest.connects {
            let pair = (state.network.guest_address(guest.slot), state.network.guest_address(grant.target));
            match grant.reach {
                Reach::Any => {
                    whole.insert(pair);
                }
                Reach::Ports(port) => parts.entry(pair).or_default().push(port),
            }
        }
    }
    parts.retain(|pair, _| !whole.contains(pair));
    let kind = "ipv4_addr . ipv4_addr . inet_proto . inet_service";
    let elements = parts.into_iter().flat_map(|((client, target), ports)| {
        merged(ports).into_iter().map(move |port| (port, format!("{client} . {target} . {}", element(port))))
    });
    let whole = whole.iter().map(|(client, target)| format!("{client} . {target}"));
    [exact("set granted_whole", "ipv4_addr . ipv4_addr", whole), single_and_ranges("granted", kind, elements)]
        .concat()
}

/// Transport and port, or range of ports.
fn element(port: Port) -> String {
    let transport = keyword(port.transport);
    if port.number == port.last {
        return format!("{transport} . {}", port.number);
    }
    format!("{transport} . {}-{}", port.number, port.last)
}

/// Two sets: of the single ports, and of the ranges.
fn single_and_ranges(name: &str, kind: &str, elements: impl Iterator<Item = (Port, String)>) -> String {
    let (single, ranges): (Vec<_>, Vec<_>) = elements.partition(|(port, _)| port.number == port.last);
    let text = |elements: Vec<(Port, String)>| elements.into_iter().map(|(_, element)| element);
    [
        exact(&format!("set {name}"), kind, text(single)),
        intervals(&format!("set {name}_ranges"), kind, text(ranges)),
    ]
    .concat()
}

/// A named set or map of single values.
pub(super) fn exact(name: &str, kind: &str, elements: impl Iterator<Item = String>) -> String {
    set(name, &format!("    type {kind}\n"), elements)
}

/// A named set or map of ranges.
fn intervals(name: &str, kind: &str, elements: impl Iterator<Item = String>) -> String {
    set(name, &format!("    type {kind}\n    flags interval\n"), elements)
}

/// `nft` refuses an empty list of elements, so there is none then.
fn set(name: &str, heading: &str, elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.map(|element| format!("      {element}")).collect();
    if elements.is_empty() {
        return format!("  {name} {{\n{heading}  }}\n");
    }
    format!("  {name} {{\n{heading}    elements = {{\n{}\n    }}\n  }}\n", elements.join(",\n"))
}

fn keyword(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}
