//! The model, from properties: nothing is lost, nothing is added, order does not matter, and a difference is one.

use std::collections::BTreeMap;

use lith_core::connect::{Grant, Reach};
use lith_core::job::access::{Bandwidth, Egress};
use lith_core::job::{Port, Transport};
use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;
use proptest::prelude::*;

use super::*;
use crate::address;
use crate::state::{Guest, Redirect, Resolver, Service};

mod passing;

const RESOLVER: Resolver = Resolver { port: 5353, user: 65_000 };

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)]
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        Just(IpAddr::from([0, 0, 0, 0])),
        Just(IpAddr::from([0; 16])),
    ]
}

fn publish() -> impl Strategy<Value = Redirect> {
    let single = (1u16.., 1u16..).prop_map(|(host_port, guest_port)| (host_port, guest_port, 1));
    let range = (1u16..65_000, 2u16..500).prop_map(|(port, count)| (port, port, count));
    let ports = prop_oneof![3 => single, 1 => range];
    (proptest::option::of(ip()), ports, transport()).prop_map(
        |(address, (host_port, guest_port, count), transport)| Redirect {
            address,
            host_port,
            guest_port,
            count,
            transport,
        },
    )
}

fn ports() -> impl Strategy<Value = Port> {
    (1u16..30, 1u16..30, transport()).prop_map(|(one, other, transport)| Port {
        number: one.min(other),
        last: one.max(other),
        transport,
    })
}

/// Few targets and few ports, so that they meet.
fn grant() -> impl Strategy<Value = Grant> {
    let reach = prop_oneof![1 => Just(Reach::Any), 6 => ports().prop_map(Reach::Ports)];
    (1u16..5, reach).prop_map(|(target, reach)| Grant { target: slot(target), reach })
}

fn entry() -> impl Strategy<Value = Egress> {
    let network = (ip(), 0u8..=128, proptest::option::of(ports()))
        .prop_map(|(address, prefix, port)| Egress::Network { address, prefix, port });
    let name =
        proptest::option::of(ports()).prop_map(|port| Egress::Name { name: "example.org".to_owned(), port });
    prop_oneof![1 => Just(Egress::Internet), 1 => name, 3 => network]
}

fn slot(number: u16) -> Slot {
    Slot::new(number).unwrap()
}

fn service(number: u16) -> ServiceNumber {
    ServiceNumber::new(number).unwrap()
}

fn guest() -> impl Strategy<Value = Guest> {
    let services = proptest::collection::vec((1u16..4).prop_map(service), 0..3);
    let bandwidth = proptest::option::of((64_000u64..200_000_000_000).prop_map(Bandwidth));
    (
        proptest::collection::vec(publish(), 0..6),
        proptest::collection::vec(grant(), 0..4),
        services,
        proptest::collection::vec(entry(), 0..4),
        bandwidth,
    )
        .prop_map(|(publishes, connects, services, egress, bandwidth)| Guest {
            slot: slot(1),
            publishes,
            connects,
            services,
            egress,
            bandwidth,
        })
}

/// Any number of guests up to that many.
fn states(guests_max: usize) -> impl Strategy<Value = NetworkState> {
    let slots = prop_oneof![3 => 1u16..5, 1 => 1u16..=4000];
    let guests = proptest::collection::btree_map(slots, guest(), 0..guests_max);
    let services = proptest::collection::btree_map(
        1u16..4,
        proptest::collection::vec((1u16..5).prop_map(slot), 0..4),
        0..4,
    );
    (guests, services, proptest::option::of(Just(RESOLVER)))
        .prop_map(|(guests, services, resolver)| NetworkState {
            guests: guests.into_iter().map(|(number, guest)| Guest { slot: slot(number), ..guest }).collect(),
            services: services
                .into_iter()
                .map(|(number, instances)| Service { number: service(number), instances })
                .collect(),
            resolver,
            ..NetworkState::default()
        })
        .prop_filter("possible", |state| state.validate().is_ok())
}

fn model(state: &NetworkState) -> Model {
    Model::new(state, "me", &Surroundings::default()).unwrap()
}

/// The keys of a set or map.
fn keys<'a>(model: &'a Model, name: &str) -> Vec<&'a str> {
    model.elements.get(name).into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

/// Whether a set of single ports or of ranges has this one, after `prefix`. How often, for elements must not overlap.
fn holds(elements: &[&str], prefix: &str, port: u16) -> usize {
    let ports = elements.iter().filter_map(|element| element.strip_prefix(prefix));
    let ends = ports.map(|ports| ports.split_once('-').unwrap_or((ports, ports)));
    ends.filter(|(first, last)| (first.parse().unwrap()..=last.parse().unwrap()).contains(&port)).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn order_does_not_matter(state in states(60)) {
        let mut reversed = state.clone();
        reversed.guests.reverse();
        reversed.services.reverse();
        reversed.services.iter_mut().for_each(|service| service.instances.reverse());
        for guest in &mut reversed.guests {
            guest.publishes.reverse();
            guest.connects.reverse();
            guest.services.reverse();
            guest.egress.reverse();
        }
        prop_assert_eq!(model(&state), model(&reversed));
        prop_assert_eq!(model(&state).whole(), model(&reversed).whole());
    }

    #[test]
    fn every_publish_once_and_every_guest_bound(state in states(60)) {
        let model = model(&state);
        for guest in &state.guests {
            for (family, ip, version) in [(Family::V4, "ip", 4), (Family::V6, "ip6", 6)] {
                let address = state.network.guest_address_of(guest.slot, family);
                let mac = address::guest_mac(guest.slot);
                let source = format!("ether type {ip} ether saddr {mac} {ip} saddr {address} accept");
                prop_assert!(model.ingress[&guest.slot].contains(&source));
                for publish in guest.publishes.iter().filter(|publish| publish.is_on(family)) {
                    let at = publish.bound().map(|a| format!("{a} . ")).unwrap_or_default();
                    let bound = if at.is_empty() { "" } else { "_at" };
                    let (transport, first) = (publish.transport, publish.host_port);
                    let (set, key, value) = if publish.count == 1 {
                        let value = format!("{address} . {}", publish.guest_port);
                        (format!("published{bound}_{version}"), format!("{at}{transport} . {first}"), value)
                    } else {
                        let key = format!("{at}{transport} . {first}-{}", first + publish.count - 1);
                        (format!("published_ranges{bound}_{version}"), key, address.to_string())
                    };
                    prop_assert_eq!(model.elements[&set].get(&key), Some(&value), "{}", key);
                }
            }
        }
    }

    /// Each pair and port is in the sets once if it is granted, and not at all if it is not. A target that is not there is in
    /// those that refuse.
    #[test]
    fn what_is_granted_is_in_the_sets(state in states(60)) {
        let model = model(&state);
        let slots = (1..5).map(slot);
        let pairs = slots.clone().flat_map(|client| slots.clone().map(move |target| (client, target)));
        for (client, target) in pairs {
            let own: Vec<Reach> = state
                .guests
                .iter()
                .filter(|guest| guest.slot == client)
                .flat_map(|guest| guest.connects.iter().filter(|grant| grant.target == target))
                .map(|grant| grant.reach)
                .collect();
            let is_there = state.slots().contains(&target);
            let sets = [
                ("granted", String::new(), format!("\"lith{client}\" . \"lith{target}\""), is_there),
                ("absent", "_4".to_owned(), format!("\"lith{client}\" . {}", state.network.guest_address(target)), !is_there),
                ("absent", "_6".to_owned(), format!("\"lith{client}\" . {}", state.network.guest_address_6(target)), !is_there),
            ];
            for (set, end, pair, counts) in sets {
                let [whole, single, ranges] = ["_whole", "", "_ranges"].map(|kind| keys(&model, &format!("{set}{kind}{end}")));
                let is_whole = own.contains(&Reach::Any) && counts;
                prop_assert_eq!(whole.iter().filter(|element| **element == pair).count(), usize::from(is_whole));
                for (port, transport) in (1..31).flat_map(|port| [(port, Transport::Tcp), (port, Transport::Udp)]) {
                    let is_granted = counts && !is_whole && own.iter().any(|reach| match reach {
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
    fn what_is_published_is_reachable(state in states(60)) {
        let model = model(&state);
        let [single, ranges] = ["reachable", "reachable_ranges"].map(|name| keys(&model, name));
        for guest in &state.guests {
            for publish in &guest.publishes {
                let prefix = format!("\"lith{}\" . {} . ", guest.slot, publish.transport);
                for port in [publish.guest_port, publish.guest_port + (publish.count - 1)] {
                    prop_assert_eq!(holds(&single, &prefix, port) + holds(&ranges, &prefix, port), 1);
                }
            }
        }
    }

    /// A service leads to one that is granted, or refuses.
    #[test]
    fn services_lead_to_the_granted(state in states(60)) {
        let model = model(&state);
        let empty = BTreeMap::new();
        let elements = |name: &str| model.elements.get(name).unwrap_or(&empty);
        for guest in &state.guests {
            for number in &guest.services {
                let key = format!("\"lith{}\" . {}", guest.slot, state.network.service_address(*number));
                let instances = state.services.iter().filter(|service| service.number == *number);
                let own: BTreeSet<IpAddr> = instances
                    .flat_map(|service| &service.instances)
                    .filter(|slot| state.slots().contains(slot) && **slot != guest.slot)
                    .filter(|slot| guest.connects.iter().any(|grant| grant.target == **slot))
                    .map(|slot| state.network.guest_address(*slot).into())
                    .collect();
                let single = elements("service_4").get(&key);
                let spread = elements("spread_4").get(&key);
                match own.len() {
                    0 => prop_assert!(elements("absent_whole_4").contains_key(&key) && single.is_none() && spread.is_none()),
                    1 => prop_assert_eq!(single.cloned(), own.first().map(ToString::to_string)),
                    count => {
                        let chain = &model.chains[spread.unwrap().strip_prefix("goto ").unwrap()];
                        prop_assert!(chain[0].contains(&format!("mod {count} ")), "{}", chain[0]);
                        prop_assert!(own.iter().all(|address| chain[0].contains(&format!(" : {address}"))), "{}", chain[0]);
                    }
                }
            }
        }
    }

    /// A difference, taken from what was, gives what is wanted.
    #[test]
    fn a_difference_is_one(before in states(30), wanted in states(30)) {
        let wanted = NetworkState { resolver: before.resolver, ..wanted };
        let (mut model, wanted) = (model(&before), model(&wanted));
        prop_assert_eq!(model.difference(&model), Some(String::new()));
        let script = model.difference(&wanted).unwrap();
        script.lines().for_each(|line| execute(&mut model, line));
        prop_assert_eq!(model, wanted);
    }
}

/// Does to a model what a command of `nft` does to tables, and fails where that would.
fn execute(model: &mut Model, line: &str) {
    if let Some(command) = line.split_once(" netdev lith").map(|(verb, rest)| (verb, rest.trim())) {
        return execute_ingress(model, command);
    }
    let (verb, rest) = line.split_once(" inet lith ").unwrap();
    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let declaration = || rest.strip_prefix("{ ").unwrap().strip_suffix(" }").unwrap().to_owned();
    match verb {
        "add set" => assert_eq!(model.sets.insert(name.to_owned(), declaration()), None),
        "delete set" => drop(model.sets.remove(name).unwrap()),
        "add limit" => {
            let limit = declaration().strip_suffix(';').unwrap().to_owned();
            assert_eq!(model.limits.insert(name.to_owned(), limit), None);
        }
        "delete limit" => drop(model.limits.remove(name).unwrap()),
        "add chain" => {
            let hook = if rest.is_empty() { vec![] } else { vec![declaration()] };
            assert_eq!(model.chains.insert(name.to_owned(), hook), None);
        }
        // What it hangs on outlives that.
        "flush chain" => model.chains.get_mut(name).unwrap().retain(|rule| rule.starts_with("type ")),
        "delete chain" => {
            let left = model.chains.remove(name).unwrap();
            assert!(left.iter().all(|rule| rule.starts_with("type ")), "{line}");
        }
        "add rule" => model.chains.get_mut(name).unwrap().push(rest.to_owned()),
        "add element" => {
            let elements = model.elements.entry(name.to_owned()).or_default();
            for element in declaration().split(", ") {
                // The addresses of IPv6 have no space before their colons.
                let (key, value) = element.split_once(" : ").unwrap_or((element, ""));
                assert_eq!(elements.insert(key.to_owned(), value.to_owned()), None, "{line}");
            }
        }
        "delete element" => {
            let elements = model.elements.get_mut(name).unwrap();
            declaration().split(", ").for_each(|key| drop(elements.remove(key).unwrap()));
            if elements.is_empty() {
                model.elements.remove(name);
            }
        }
        other => panic!("{other}"),
    }
}

fn execute_ingress(model: &mut Model, (verb, rest): (&str, &str)) {
    let (chain, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let slot = address::slot_of_tap(chain);
    match verb {
        "add table" => assert!(model.ingress.is_empty()),
        "delete table" => model.ingress.clear(),
        "add chain" => drop(model.ingress.entry(slot.unwrap()).or_default()),
        "flush chain" => model.ingress.get_mut(&slot.unwrap()).unwrap().clear(),
        "delete chain" => assert_eq!(model.ingress.remove(&slot.unwrap()), Some(vec![])),
        "add rule" => model.ingress.get_mut(&slot.unwrap()).unwrap().push(rest.to_owned()),
        other => panic!("{other}"),
    }
}

#[test]
fn the_number_of_rules_is_constant() {
    let rules = |guests: u16| {
        let guest = |number| Guest::closed(slot(number));
        let state = NetworkState { guests: (1..=guests).map(guest).collect(), ..NetworkState::default() };
        let model = model(&state);
        (
            model.fixed.clone(),
            model.chains.len(),
            model.ingress.values().flatten().count() / usize::from(guests),
        )
    };
    assert_eq!(rules(1), rules(200));
}

#[test]
fn without_guests_nothing_hangs_on_a_device() {
    let model = model(&NetworkState::default());
    assert!(!model.whole().contains("hook ingress"));
    assert_eq!(model.elements.values().flatten().count(), 0);
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
