//! The sets and maps of the table `inet lith`, and what is in them: all that belongs to single guests.
//!
//! Single ports stand in hashed sets, ranges in sets of intervals, which the kernel looks through more slowly. Elements of
//! intervals must not overlap, so they are merged first. Guests are named by their TAPs, so that one element is about both
//! families; where an address is not a guest's, there is a set for each family. Must not hold rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lith_core::connect::{Reach, merged};
use lith_core::job::access::Egress;
use lith_core::job::{Port, Transport};
use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;

use super::egress::{WrittenOut, canonical, outermost};
use super::{Surroundings, words};
use crate::address::{Family, GuestNetwork, TAP_PREFIX};
use crate::state::{Guest, NetworkState, Redirect};

/// What a set or map is of.
#[derive(Debug)]
pub(super) struct Kind {
    /// `set` or `map`.
    pub(super) noun: &'static str,
    pub(super) name: String,
    /// As `nft` writes it.
    pub(super) kind: String,
    /// Whether its elements are ranges.
    pub(super) is_interval: bool,
}

/// Those that exist once.
pub(super) fn kinds() -> Vec<Kind> {
    let pair = "ifname . ifname";
    let port = "inet_proto . inet_service";
    let mut kinds = vec![
        set("reachable", format!("ifname . {port}")),
        ranges("set", "reachable_ranges", format!("ifname . {port}")),
        set("granted_whole", pair.to_owned()),
        set("granted", format!("{pair} . {port}")),
        ranges("set", "granted_ranges", format!("{pair} . {port}")),
        set("internet", "ifname".to_owned()),
        Kind { noun: "map", name: "names".into(), kind: "ifname : verdict".into(), is_interval: false },
        Kind { noun: "map", name: "bandwidth".into(), kind: "ifname : limit".into(), is_interval: false },
    ];
    for family in Family::BOTH {
        let (_, address, end) = words(family);
        let map = |name: &str, kind: String| Kind {
            noun: "map",
            name: format!("{name}_{end}"),
            kind,
            is_interval: false,
        };
        let named = |name: &str| format!("{name}_{end}");
        kinds.extend([
            set(&named("guests"), format!("ifname . {address}")),
            set(&named("guest_addresses"), address.to_owned()),
            set(&named("switched"), "ifname".to_owned()),
            ranges("set", &named("attached"), address.to_owned()),
            map("published", format!("{port} : {address} . inet_service")),
            map("published_at", format!("{address} . {port} : {address} . inet_service")),
            ranges("map", &named("published_ranges"), format!("{port} : {address}")),
            ranges("map", &named("published_ranges_at"), format!("{address} . {port} : {address}")),
            set(&named("absent_whole"), format!("ifname . {address}")),
            set(&named("absent"), format!("ifname . {address} . {port}")),
            ranges("set", &named("absent_ranges"), format!("ifname . {address} . {port}")),
            map("service", format!("ifname . {address} : {address}")),
            map("spread", format!("ifname . {address} : verdict")),
            ranges("set", &named("egress_whole"), format!("ifname . {address}")),
            ranges("set", &named("egress"), format!("ifname . {address} . {port}")),
        ]);
    }
    kinds
}

fn set(name: &str, kind: String) -> Kind {
    Kind { noun: "set", name: name.to_owned(), kind, is_interval: false }
}

fn ranges(noun: &'static str, name: &str, kind: String) -> Kind {
    Kind { noun, name: name.to_owned(), kind, is_interval: true }
}

/// What is in sets and maps: by the name of the set and the element's key, what the element leads to; nothing in sets.
pub(super) type Elements = BTreeMap<String, BTreeMap<String, String>>;

/// The rules of chains, by their names.
pub(super) type Chains = BTreeMap<String, Vec<String>>;

/// Puts elements in their sets.
#[derive(Debug, Default)]
pub(super) struct Collector {
    pub(super) elements: Elements,
    /// Of services with several instances.
    pub(super) chains: Chains,
}

impl Collector {
    /// Everything that `state` and the machine put there.
    pub(super) fn new(state: &NetworkState, surroundings: &Surroundings) -> Self {
        let mut collector = Self::default();
        let slots = state.slots();
        for family in Family::BOTH {
            let (.., end) = words(family);
            for slot in &slots {
                let address = state.network.guest_address_of(*slot, family).to_string();
                collector.put(&format!("guests_{end}"), format!("{} . {address}", tap(*slot)));
                collector.put(&format!("guest_addresses_{end}"), address);
            }
            let switched = match family {
                Family::V4 => &surroundings.switched,
                Family::V6 => &surroundings.switched_6,
            };
            for name in switched {
                collector.put(&format!("switched_{end}"), format!("\"{name}\""));
            }
        }
        for range in outermost(surroundings.attached.iter().map(|range| canonical(*range)).collect()) {
            let (.., end) = words(Family::of(range.0));
            collector.put(&format!("attached_{end}"), format!("{}/{}", range.0, range.1));
        }
        collector.publish(state);
        collector.reach(state);
        collector.grant(state, &slots);
        collector.serve(state, &slots);
        state.guests.iter().for_each(|guest| collector.let_out(guest));
        collector
    }

    fn put(&mut self, set: &str, key: String) {
        self.map(set, key, String::new());
    }

    fn map(&mut self, set: &str, key: String, value: String) {
        match self.elements.get_mut(set) {
            Some(elements) => drop(elements.insert(key, value)),
            None => drop(self.elements.insert(set.to_owned(), BTreeMap::from([(key, value)]))),
        }
    }

    /// One of two sets: of single ports, or of ranges.
    fn put_port(&mut self, set: &str, end: &str, prefix: &str, port: Port) {
        let range = if port.number == port.last { "" } else { "_ranges" };
        self.put(&format!("{set}{range}{end}"), format!("{prefix} . {}", element(port)));
    }

    /// Where published ports lead. To a range belongs an address alone: the kernel keeps the port then.
    fn publish(&mut self, state: &NetworkState) {
        for (publish, slot) in state.publishes() {
            for family in Family::BOTH.into_iter().filter(|family| publish.is_on(*family)) {
                let guest = state.network.guest_address_of(slot, family);
                let (.., end) = words(family);
                let range = if publish.count > 1 { "_ranges" } else { "" };
                let bound = if publish.bound().is_some() { "_at" } else { "" };
                let (key, value) = redirection(&publish, guest);
                self.map(&format!("published{range}{bound}_{end}"), key, value);
            }
        }
    }

    /// The ports of guests to which published ones lead. Several may lead to one.
    fn reach(&mut self, state: &NetworkState) {
        let mut ports: BTreeMap<Slot, Vec<Port>> = BTreeMap::new();
        for (publish, slot) in state.publishes() {
            let last = publish.guest_port.saturating_add(publish.count.saturating_sub(1));
            let port = Port { number: publish.guest_port, last, transport: publish.transport };
            ports.entry(slot).or_default().push(port);
        }
        for (slot, ports) in ports {
            for port in merged(ports) {
                self.put_port("reachable", "", &tap(slot), port);
            }
        }
    }

    /// What guests may open to each other, and what of it refuses because the target is not there.
    fn grant(&mut self, state: &NetworkState, slots: &BTreeSet<Slot>) {
        let (mut whole, mut parts) = (BTreeSet::new(), BTreeMap::<(Slot, Slot), Vec<Port>>::new());
        for guest in &state.guests {
            for grant in &guest.connects {
                let pair = (guest.slot, grant.target);
                match grant.reach {
                    Reach::Any => {
                        whole.insert(pair);
                    }
                    Reach::Ports(port) => parts.entry(pair).or_default().push(port),
                }
            }
        }
        parts.retain(|pair, _| !whole.contains(pair));
        for (client, target) in whole {
            if slots.contains(&target) {
                self.put("granted_whole", format!("{} . {}", tap(client), tap(target)));
            } else {
                for family in Family::BOTH {
                    self.refuse_whole(client, state.network.guest_address_of(target, family));
                }
            }
        }
        for ((client, target), ports) in parts {
            for port in merged(ports) {
                if slots.contains(&target) {
                    self.put_port("granted", "", &format!("{} . {}", tap(client), tap(target)), port);
                    continue;
                }
                for family in Family::BOTH {
                    let address = state.network.guest_address_of(target, family);
                    let end = format!("_{}", words(family).2);
                    self.put_port("absent", &end, &format!("{} . {address}", tap(client)), port);
                }
            }
        }
    }

    fn refuse_whole(&mut self, client: Slot, address: IpAddr) {
        let (.., end) = words(Family::of(address));
        self.put(&format!("absent_whole_{end}"), format!("{} . {address}", tap(client)));
    }

    /// Where virtual addresses lead: for each guest to those instances that it may reach at all.
    fn serve(&mut self, state: &NetworkState, slots: &BTreeSet<Slot>) {
        let instances = state.instances(slots);
        let own = |guest: &Guest, number: &ServiceNumber| -> Vec<Slot> {
            let all = instances.get(number).map_or(&[][..], Vec::as_slice);
            all.iter().copied().filter(|slot| guest.may_reach(*slot)).collect()
        };
        let rights =
            || state.guests.iter().flat_map(|guest| guest.services.iter().map(move |number| (guest, number)));
        let mut spreads: BTreeMap<ServiceNumber, BTreeSet<Vec<Slot>>> = BTreeMap::new();
        for (guest, number) in rights() {
            let own = own(guest, number);
            if own.len() > 1 {
                spreads.entry(*number).or_default().insert(own);
            }
        }
        for (guest, number) in rights() {
            let own = own(guest, number);
            for family in Family::BOTH {
                let (.., end) = words(family);
                let address = state.network.service_address_of(*number, family);
                let key = format!("{} . {address}", tap(guest.slot));
                match own.as_slice() {
                    [] => self.refuse_whole(guest.slot, address),
                    [one] => {
                        let target = state.network.guest_address_of(*one, family);
                        self.map(&format!("service_{end}"), key, target.to_string());
                    }
                    _ => {
                        let lists = spreads.get(number).into_iter().flatten();
                        let index = lists.take_while(|list| **list != own).count();
                        self.map(&format!("spread_{end}"), key, format!("goto spread_{number}_{index}"));
                    }
                }
            }
        }
        for (number, lists) in spreads {
            for (index, list) in lists.iter().enumerate() {
                self.chains.insert(format!("spread_{number}_{index}"), spread(state.network, list));
            }
        }
    }

    /// What a guest may reach outside, as far as it is known before it asks for names.
    fn let_out(&mut self, guest: &Guest) {
        if guest.egress.contains(&Egress::Internet) {
            self.put("internet", tap(guest.slot));
        }
        let WrittenOut { whole, ports } = WrittenOut::new(&guest.egress);
        for (address, prefix) in whole {
            let (.., end) = words(Family::of(address));
            self.put(&format!("egress_whole_{end}"), format!("{} . {address}/{prefix}", tap(guest.slot)));
        }
        for ((address, prefix), port) in ports {
            let (.., end) = words(Family::of(address));
            let key = format!("{} . {address}/{prefix} . {}", tap(guest.slot), element(port));
            self.put(&format!("egress_{end}"), key);
        }
    }
}

/// Takes one instance after the other.
fn spread(network: GuestNetwork, instances: &[Slot]) -> Vec<String> {
    let rule = |family| {
        let (ip, _, version) = words(family);
        let places = instances.iter().enumerate();
        let places: Vec<String> = places
            .map(|(index, slot)| format!("{index} : {}", network.guest_address_of(*slot, family)))
            .collect();
        let (count, places) = (instances.len(), places.join(", "));
        format!("meta nfproto ipv{version} dnat {ip} to numgen inc mod {count} map {{ {places} }}")
    };
    Family::BOTH.map(rule).to_vec()
}

/// A guest's TAP as a key.
pub(super) fn tap(slot: Slot) -> String {
    format!("\"{TAP_PREFIX}{slot}\"")
}

fn redirection(publish: &Redirect, guest: IpAddr) -> (String, String) {
    let at = publish.bound().map(|address| format!("{address} . ")).unwrap_or_default();
    let transport = keyword(publish.transport);
    if publish.count > 1 {
        let key = format!("{at}{transport} . {}-{}", publish.host_port, publish.host_last());
        return (key, guest.to_string());
    }
    let key = format!("{at}{transport} . {}", publish.host_port);
    (key, format!("{guest} . {}", publish.guest_port))
}

/// Transport and port, or range of ports.
pub(crate) fn element(port: Port) -> String {
    let transport = keyword(port.transport);
    if port.number == port.last {
        return format!("{transport} . {}", port.number);
    }
    format!("{transport} . {}-{}", port.number, port.last)
}

fn keyword(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}
