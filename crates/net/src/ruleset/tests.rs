//! The script, from properties: nothing is lost, nothing is added, and order does not matter.

use lith_core::connect::{Grant, Reach};
use lith_core::job::{Port, Transport};
use proptest::prelude::*;

use super::*;
use crate::state::{Guest, Redirect};

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)]
}

fn publish() -> impl Strategy<Value = Redirect> {
    let single = (1u16.., 1u16..).prop_map(|(host_port, guest_port)| (host_port, guest_port, 1));
    let range = (1u16..65_000, 2u16..500).prop_map(|(port, count)| (port, port, count));
    let ports = prop_oneof![3 => single, 1 => range];
    (proptest::option::of(any::<[u8; 4]>()), ports, transport()).prop_map(
        |(address, (host_port, guest_port, count), transport)| Redirect {
            address: address.map(Into::into),
            host_port,
            guest_port,
            count,
            transport,
        },
    )
}

/// Few targets and few ports, so that they meet.
fn grant() -> impl Strategy<Value = Grant> {
    let ports = (1u16..30, 1u16..30, transport()).prop_map(|(one, other, transport)| {
        Reach::Ports(Port { number: one.min(other), last: one.max(other), transport })
    });
    let reach = prop_oneof![1 => Just(Reach::Any), 6 => ports];
    (1u16..5, reach).prop_map(|(target, reach)| Grant { target: Slot::new(target).unwrap(), reach })
}

fn state() -> impl Strategy<Value = NetworkState> {
    let guest = (proptest::collection::vec(publish(), 0..6), proptest::collection::vec(grant(), 0..4));
    let slots = prop_oneof![1u16..5, 1u16..=4000];
    proptest::collection::btree_map(slots, guest, 0..100)
        .prop_map(|guests| NetworkState {
            guests: guests
                .into_iter()
                .map(|(slot, (publishes, connects))| Guest {
                    publishes,
                    connects,
                    ..Guest::closed(Slot::new(slot).unwrap())
                })
                .collect(),
            ..NetworkState::default()
        })
        .prop_filter("possible", |state| state.validate().is_ok())
}

/// The elements of a set or map.
fn elements<'a>(script: &'a str, name: &str) -> Vec<&'a str> {
    let start = script.find(&format!("  {name} {{\n")).unwrap();
    let body = script[start..].split("\n  }\n").next().unwrap();
    let lines = body.split_once("elements = {\n").map_or("", |(_, elements)| elements).lines();
    lines.map(|line| line.trim().trim_end_matches(',')).filter(|line| *line != "}").collect()
}

/// Whether a set of single ports or of ranges has this one, after `prefix`. How often, for elements must not overlap.
fn holds(elements: &[&str], prefix: &str, port: u16) -> usize {
    let ports = elements.iter().filter_map(|element| element.strip_prefix(prefix));
    let ends = ports.map(|ports| ports.split_once('-').unwrap_or((ports, ports)));
    ends.filter(|(first, last)| (first.parse().unwrap()..=last.parse().unwrap()).contains(&port)).count()
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
        for guest in &mut reversed.guests {
            guest.publishes.reverse();
            guest.connects.reverse();
        }
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
                let (transport, first) = (publish.transport, publish.host_port);
                let element = if publish.count == 1 {
                    format!("{at}{transport} . {first} : {address} . {}", publish.guest_port)
                } else {
                    format!("{at}{transport} . {first}-{} : {address}", first + publish.count - 1)
                };
                let count = script.lines().filter(|line| line.trim().trim_end_matches(',') == element).count();
                prop_assert_eq!(count, 1, "{}", element);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each pair and port is in the sets once if it is granted, and not at all if it is not.
    #[test]
    fn what_is_granted_is_in_the_sets(state in state()) {
        let script = script(&state, "me", &BTreeSet::new()).unwrap();
        let [whole, single, ranges] =
            ["set granted_whole", "set granted", "set granted_ranges"].map(|name| elements(&script, name));
        let slots = (1..5).map(|number| Slot::new(number).unwrap());
        let pairs = slots.clone().flat_map(|client| slots.clone().map(move |target| (client, target)));
        for (client, target) in pairs {
            let own: Vec<Reach> = state
                .guests
                .iter()
                .filter(|guest| guest.slot == client)
                .flat_map(|guest| guest.connects.iter().filter(|grant| grant.target == target))
                .map(|grant| grant.reach)
                .collect();
            let [from, to] = [client, target].map(|slot| state.network.guest_address(slot));
            let pair = format!("{from} . {to}");
            let is_whole = own.contains(&Reach::Any);
            prop_assert_eq!(whole.iter().filter(|element| **element == pair).count(), usize::from(is_whole));
            for transport in [Transport::Tcp, Transport::Udp] {
                for port in 1..31 {
                    let is_granted = !is_whole && own.iter().any(|reach| match reach {
                        Reach::Any => true,
                        Reach::Ports(ports) => ports.holds(port, transport),
                    });
                    let prefix = format!("{pair} . {transport} . ");
                    let found = holds(&single, &prefix, port) + holds(&ranges, &prefix, port);
                    prop_assert_eq!(found, usize::from(is_granted), "{} {}", prefix, port);
                }
            }
        }
    }

    /// Behind each published port its guest's is open, and each open one once, for overlapping intervals are refused.
    #[test]
    fn what_is_published_is_reachable(state in state()) {
        let script = script(&state, "me", &BTreeSet::new()).unwrap();
        let [single, ranges] = ["set reachable", "set reachable_ranges"].map(|name| elements(&script, name));
        for guest in &state.guests {
            for publish in &guest.publishes {
                let prefix = format!("{} . {} . ", state.network.guest_address(guest.slot), publish.transport);
                for port in [publish.guest_port, publish.guest_port + (publish.count - 1)] {
                    prop_assert_eq!(holds(&single, &prefix, port) + holds(&ranges, &prefix, port), 1);
                }
            }
        }
    }
}

#[test]
fn the_number_of_rules_is_constant() {
    let rules = |guests: u16| {
        let guest = |number| Guest::closed(Slot::new(number).unwrap());
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
