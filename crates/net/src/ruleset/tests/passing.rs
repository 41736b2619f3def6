//! Everything that is granted passes, and nothing else does: what the rules do is what a state says, told a second time in
//! other words.

use lith_core::egress::{holds as in_range, is_public, is_written_out};

use super::super::chains::never;
use super::super::evaluate::{CABLE, Fate, Machine, Packet, device};
use super::*;
use crate::address::{GATEWAY, GATEWAY_6, MacAddress, guest_mac};

/// What should become of a packet. Where a service leads, and where a packet leaves, is not said twice.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Dropped,
    Refused,
    Unanswered,
    Resolver,
    Guest(Slot, u16),
    Out,
    /// To a socket of the node, or through it to others, neither of which these rules are about.
    Free,
}

fn attached() -> BTreeSet<(IpAddr, u8)> {
    [("192.0.2.1", 24), ("2a01::1", 64), ("172.20.1.1", 16)]
        .map(|(text, prefix)| (text.parse().unwrap(), prefix))
        .into()
}

fn addresses() -> Vec<IpAddr> {
    let state = NetworkState::default();
    let texts = [
        "192.0.2.1",
        "172.20.1.1",
        "2a01::1",
        "169.254.83.1",
        "fd6c:6974:6800::53:1",
        "192.0.2.9",
        "2a01::9",
        "9.9.9.9",
        "2a02::7",
        "10.9.0.1",
        "fd77::1",
        "169.254.169.254",
        "168.63.129.16",
        "100.64.0.1",
        "224.0.0.251",
        "255.255.255.255",
        "ff02::1",
        "fe80::53:1",
        "127.0.0.1",
        "::1",
        "::ffff:9.9.9.9",
        "0.0.0.1",
    ];
    let guests = (1..6)
        .flat_map(|number| Family::BOTH.map(|family| state.network.guest_address_of(slot(number), family)));
    let services = (1..5).flat_map(|number| {
        Family::BOTH.map(|family| state.network.service_address_of(service(number), family))
    });
    texts.into_iter().map(|text| text.parse().unwrap()).chain(guests).chain(services).collect()
}

/// Egress at addresses that are tried.
fn near_entry() -> impl Strategy<Value = Egress> {
    let network = (proptest::sample::select(addresses()), 0u8..=128, proptest::option::of(near_ports()))
        .prop_map(|(address, prefix, port)| Egress::Network { address, prefix, port });
    prop_oneof![1 => Just(Egress::Internet), 4 => network]
}

fn near_publish() -> impl Strategy<Value = Redirect> {
    let address = proptest::option::of(proptest::sample::select(addresses()[..3].to_vec()));
    (address, 1u16..8, 1u16..8, 1u16..4, transport()).prop_map(
        |(address, host_port, guest_port, count, transport)| {
            let guest_port = if count > 1 { host_port } else { guest_port };
            Redirect { address, host_port, guest_port, count, transport }
        },
    )
}

fn near_ports() -> impl Strategy<Value = Port> {
    (1u16..8, 0u16..3, transport()).prop_map(|(number, more, transport)| Port {
        number,
        last: number + more,
        transport,
    })
}

fn near_guest() -> impl Strategy<Value = Guest> {
    let reach = prop_oneof![1 => Just(Reach::Any), 5 => near_ports().prop_map(Reach::Ports)];
    let grant = (1u16..6, reach).prop_map(|(target, reach)| Grant { target: slot(target), reach });
    let services = proptest::collection::vec((1u16..4).prop_map(service), 0..4);
    (
        proptest::collection::vec(near_publish(), 0..3),
        proptest::collection::vec(grant, 0..6),
        services,
        proptest::collection::vec(near_entry(), 0..4),
    )
        .prop_map(|(publishes, connects, services, egress)| Guest {
            publishes,
            connects,
            services,
            egress,
            ..Guest::closed(slot(1))
        })
}

/// States in which much meets: of four guests most are there.
fn near_states() -> impl Strategy<Value = NetworkState> {
    let guests = proptest::collection::vec(proptest::option::weighted(0.8, near_guest()), 4);
    let services = proptest::collection::vec(proptest::collection::vec((1u16..6).prop_map(slot), 0..5), 3);
    (guests, services, proptest::option::weighted(0.8, Just(RESOLVER))).prop_map(
        |(guests, services, resolver)| {
            let slots = (1..).map(slot).zip(guests);
            let guests = slots.filter_map(|(slot, guest)| Some(Guest { slot, ..guest? })).collect();
            let services =
                (1..).map(service).zip(services).map(|(number, instances)| Service { number, instances });
            let mut state =
                NetworkState { guests, services: services.collect(), resolver, ..NetworkState::default() };
            while state.validate().is_err() {
                let last = state.guests.iter_mut().rev().find(|guest| !guest.publishes.is_empty());
                last.unwrap().publishes.clear();
            }
            state
        },
    )
}

/// A packet, and what there is to say about it.
struct Question<'a> {
    state: &'a NetworkState,
    local: &'a BTreeSet<IpAddr>,
    packet: &'a Packet,
    /// Which instance comes next.
    turn: usize,
}

impl Question<'_> {
    /// What a state says of a guest's packet, or of one that arrives from a cable.
    fn answer(&self) -> Verdict {
        let client = self.state.guests.iter().find(|guest| device(guest.slot) == self.packet.device);
        client.map_or_else(|| self.arriving(), |client| self.of(client))
    }

    fn to(&self) -> IpAddr {
        self.packet.destination
    }

    fn transport(&self) -> Option<Transport> {
        match self.packet.protocol {
            "tcp" => Some(Transport::Tcp),
            "udp" => Some(Transport::Udp),
            _ => None,
        }
    }

    fn address(&self, slot: Slot) -> IpAddr {
        self.state.network.guest_address_of(slot, Family::of(self.to()))
    }

    fn is_guest(&self, address: IpAddr) -> bool {
        self.state.guests.iter().any(|guest| self.address(guest.slot) == address)
    }

    fn published(&self) -> Option<Verdict> {
        let transport = self.transport()?;
        let fits = |publish: &Redirect| {
            let last = publish.host_port + (publish.count - 1);
            publish.transport == transport
                && publish.is_on(Family::of(self.to()))
                && publish.bound().is_none_or(|address| address == self.to())
                && (publish.host_port..=last).contains(&self.packet.port)
        };
        self.state.guests.iter().find_map(|guest| {
            let publish = guest.publishes.iter().find(|publish| fits(publish))?;
            Some(Verdict::Guest(guest.slot, publish.guest_port + (self.packet.port - publish.host_port)))
        })
    }

    fn arriving(&self) -> Verdict {
        if self.is_guest(self.packet.source) {
            return Verdict::Dropped;
        }
        let is_node = self.local.contains(&self.to()) && !self.to().is_loopback();
        match self.published() {
            Some(verdict) if is_node => verdict,
            _ if self.is_guest(self.to()) => Verdict::Dropped,
            _ => Verdict::Free,
        }
    }

    fn of(&self, client: &Guest) -> Verdict {
        let to = self.to();
        let is_true =
            self.packet.mac == guest_mac(client.slot) && self.packet.source == self.address(client.slot);
        if !is_true || to.is_loopback() {
            return Verdict::Dropped;
        }
        if self.state.network.holds(to) {
            return self.to_cluster(client);
        }
        if self.packet.port == 53 && self.transport().is_some() && !self.is_written_out_with_port(client) {
            return if self.state.resolver.is_some() { Verdict::Resolver } else { Verdict::Refused };
        }
        let is_never = never(Family::of(to)).into_iter().any(|range| in_range(range, to));
        if is_never || is_for_all(to) {
            return Verdict::Refused;
        }
        let is_written = self.is_written_out(client);
        if self.local.contains(&to) {
            return self.published().filter(|_| is_written).unwrap_or(Verdict::Refused);
        }
        let is_internet = client.egress.contains(&Egress::Internet)
            && is_public(to)
            && !attached().into_iter().any(|range| in_range(range, to));
        if is_written || is_internet { Verdict::Out } else { Verdict::Refused }
    }

    fn is_written_out(&self, client: &Guest) -> bool {
        match self.transport() {
            Some(transport) => is_written_out(&client.egress, self.to(), (self.packet.port, transport)),
            None => client.egress.iter().any(|entry| {
                matches!(entry, Egress::Network { address, prefix, port: None }
                    if in_range((*address, *prefix), self.to()))
            }),
        }
    }

    fn is_written_out_with_port(&self, client: &Guest) -> bool {
        let Some(transport) = self.transport() else { return false };
        client.egress.iter().any(|entry| {
            matches!(entry, Egress::Network { address, prefix, port: Some(port) }
                if in_range((*address, *prefix), self.to()) && port.holds(self.packet.port, transport))
        })
    }

    fn is_granted(&self, client: &Guest, slot: Slot) -> bool {
        let Some(transport) = self.transport() else { return false };
        client.connects.iter().filter(|grant| grant.target == slot).any(|grant| match grant.reach {
            Reach::Any => true,
            Reach::Ports(port) => port.holds(self.packet.port, transport),
        })
    }

    fn to_cluster(&self, client: &Guest) -> Verdict {
        let to = self.to();
        if let Some(slot) = (1..=4000).map(slot).find(|slot| self.address(*slot) == to) {
            return match (self.is_granted(client, slot), self.is_guest(to)) {
                (true, true) => Verdict::Guest(slot, self.packet.port),
                (true, false) => Verdict::Unanswered,
                (false, _) => Verdict::Refused,
            };
        }
        let address = |number| self.state.network.service_address_of(number, Family::of(to));
        let own = client.services.iter().find(|number| address(**number) == to);
        let (Some(number), Some(_)) = (own, self.transport()) else { return Verdict::Refused };
        let services = self.state.services.iter().filter(|service| service.number == *number);
        let instances: BTreeSet<Slot> = services
            .flat_map(|service| service.instances.iter().copied())
            .filter(|slot| *slot != client.slot && self.state.slots().contains(slot))
            .filter(|slot| client.connects.iter().any(|grant| grant.target == *slot))
            .collect();
        match instances.iter().nth(self.turn % instances.len().max(1)) {
            None => Verdict::Unanswered,
            Some(chosen) if self.is_granted(client, *chosen) => Verdict::Guest(*chosen, self.packet.port),
            Some(_) => Verdict::Refused,
        }
    }
}

fn is_for_all(address: IpAddr) -> bool {
    address.is_multicast() || matches!(address, IpAddr::V4(address) if address.is_broadcast())
}

fn verdict(state: &NetworkState, fate: &Fate) -> Verdict {
    match fate {
        Fate::Dropped => Verdict::Dropped,
        Fate::Refused => Verdict::Refused,
        Fate::Unanswered => Verdict::Unanswered,
        Fate::Host(address, port) => {
            let resolver = [IpAddr::from(GATEWAY), GATEWAY_6.into()];
            if resolver.contains(address) && state.resolver.is_some_and(|resolver| resolver.port == *port) {
                Verdict::Resolver
            } else {
                Verdict::Free
            }
        }
        Fate::Sent { device, port, .. } => {
            crate::address::slot_of_tap(device).map_or(Verdict::Out, |slot| Verdict::Guest(slot, *port))
        }
    }
}

/// A packet of a guest or of somebody else, mostly an honest one.
fn packets() -> impl Strategy<Value = (Option<u16>, bool, usize, IpAddr, &'static str, u16)> {
    let from = prop_oneof![9 => (1u16..5).prop_map(Some), 1 => Just(None)];
    let port = prop_oneof![8 => 1u16..10, 1 => Just(53), 1 => Just(RESOLVER.port)];
    let protocol = prop_oneof![4 => Just("tcp"), 3 => Just("udp"), 1 => Just("icmp")];
    let cluster = addresses().split_off(22);
    let to = prop_oneof![proptest::sample::select(addresses()), proptest::sample::select(cluster)];
    (from, proptest::bool::weighted(0.9), 0usize..6, to, protocol, port)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..ProptestConfig::with_cases(800) })]

    #[test]
    fn what_is_granted_passes_and_nothing_else(
        state in near_states(),
        packets in proptest::collection::vec(packets(), 40),
    ) {
        let surroundings = Surroundings {
            switched: [CABLE.to_owned()].into(),
            switched_6: [CABLE.to_owned()].into(),
            attached: attached(),
        };
        let model = Model::new(&state, "me", &surroundings).unwrap();
        let mut local: BTreeSet<IpAddr> = attached().into_iter().map(|(address, _)| address).collect();
        local.extend([IpAddr::from(GATEWAY), GATEWAY_6.into(), IpAddr::from([127, 0, 0, 1])]);
        let guests = state.guests.iter().flat_map(|guest| {
            Family::BOTH.map(|family| (state.network.guest_address_of(guest.slot, family), device(guest.slot)))
        });
        let mut machine = Machine::new(&model, local.clone(), guests.collect());
        for (from, is_honest, turn, destination, protocol, port) in packets {
            let (family, liar) = (Family::of(destination), slot(5));
            let own = from.map_or(liar, slot);
            let source = match (from, is_honest) {
                (None, true) => if destination.is_ipv4() { IpAddr::from([192, 0, 2, 9]) } else { "2a01::9".parse().unwrap() },
                (_, true) => state.network.guest_address_of(own, family),
                (_, false) => state.network.guest_address_of(slot(turn as u16 % 4 + 1), family),
            };
            let mac = if turn == 5 && !is_honest { MacAddress([2; 6]) } else { guest_mac(own) };
            let device = from.map_or(CABLE.to_owned(), |number| device(slot(number)));
            // Who is not a guest has no TAP.
            if from.is_some_and(|number| !state.slots().contains(&slot(number))) {
                continue;
            }
            machine.turn = turn;
            let packet = Packet { device, mac, source, destination, protocol, port };
            let fate = machine.send(&packet);
            let (is, should) = (verdict(&state, &fate), Question { state: &state, local: &local, packet: &packet, turn }.answer());
            let is_free = should == Verdict::Free && matches!(is, Verdict::Free | Verdict::Resolver | Verdict::Out | Verdict::Dropped);
            prop_assert!(is == should || is_free, "{:?} is {:?} and should be {:?}", packet, fate, should);
            if matches!(is, Verdict::Guest(..) | Verdict::Resolver | Verdict::Out) && !is_free {
                let back = machine.answer(&packet, &fate);
                let arrives = matches!(&back, Fate::Sent { device, destination, .. }
                    if *device == packet.device && *destination == packet.source);
                prop_assert!(arrives, "the answer to {:?} at {:?} is {:?}", packet, fate, back);
            }
        }
    }
}
