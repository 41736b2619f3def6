//! Forgetting flows that the state no longer explains.
//!
//! The kernel redirects a flow as its first packet was redirected for as long as packets come, whatever the rules say
//! later. Left alone, a UDP client that keeps talking would stay with the former owner of a port, and never find a
//! guest whose port was published after its first packet. What one guest was granted of another would go on when it is
//! granted no longer, in the direction of the answers, and what it opened outside the cluster in both. So after each change
//! the table of flows is read and what does not fit is deleted. What a name opened fits for as long as its guest's egress has
//! names and does not change: which address belongs to which is not known here. Which flows go is decided purely here; the
//! messages are in [`netlink`].

mod netlink;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lith_core::connect::{Grant, Reach, merged};
use lith_core::egress::{Range, holds, is_public, is_written_out};
use lith_core::job::access::Egress;
use lith_core::job::{Port, Transport};
use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;

use crate::address::{Family, GATEWAY, GATEWAY_6};
use crate::error::NetworkError;
use crate::state::{Guest, NetworkState};

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Direction {
    source: IpAddr,
    destination: IpAddr,
    /// IP protocol number.
    protocol: u8,
    /// Zero for protocols without ports.
    source_port: u16,
    /// Zero for protocols without ports.
    destination_port: u16,
}

/// A flow as connection tracking has it: the packets as the opener sends them, and the answers as they leave whoever
/// answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    original: Direction,
    reply: Direction,
    /// The attributes that name the flow to the kernel, as it sent them.
    name: Vec<u8>,
}

/// What happened to the guests since the flows began, and what is around them.
#[derive(Debug, Default)]
pub(crate) struct Circumstances {
    /// Guests that are other ones than before.
    pub(crate) fresh: BTreeSet<Slot>,
    /// Guests whose egress is another one than before, or whose connections out may not all have been judged by it.
    pub(crate) regulated: BTreeSet<Slot>,
    /// What names have opened to guests and is still open.
    pub(crate) opened: BTreeSet<(Slot, IpAddr)>,
    /// The addresses of the host.
    pub(crate) local: BTreeSet<IpAddr>,
    /// Networks that the host is attached to.
    pub(crate) attached: BTreeSet<Range<IpAddr>>,
}

/// Where a published port leads, or a range of them.
struct Target {
    /// Last port on the node.
    last: u16,
    guest: Slot,
    /// In the guest, what the first port leads to.
    port: u16,
}

/// What the state explains, laid out for looking up.
struct Explained<'a> {
    state: &'a NetworkState,
    circumstances: &'a Circumstances,
    /// By address, guests that may have flows from before this change.
    settled: BTreeMap<IpAddr, &'a Guest>,
    /// By the virtual address.
    services: BTreeMap<IpAddr, (ServiceNumber, &'a [Slot])>,
    /// By family, address of the node if only that one counts, protocol, and first port of the node.
    publishes: BTreeMap<(Family, Option<IpAddr>, u8, u16), Target>,
    /// Who may reach whom at every port.
    whole: BTreeSet<(Slot, Slot)>,
    /// Last port, by client, target, protocol, and first port.
    granted: BTreeMap<(Slot, Slot, u8, u16), u16>,
}

/// Deletes flows of guests that `state` does not explain, all flows of fresh guests, and UDP flows to the host itself that now
/// belong to a published port. Returns how many.
pub(crate) fn forget_unexplained(
    state: &NetworkState,
    circumstances: &Circumstances,
) -> Result<usize, NetworkError> {
    let explained = Explained::new(state, circumstances);
    let table = netlink::Table::open().map_err(NetworkError::Conntrack)?;
    let mut flows = table.flows().map_err(NetworkError::Conntrack)?;
    flows.retain(|flow| !explained.explains(flow));
    for flow in &flows {
        table.delete(flow).map_err(NetworkError::Conntrack)?;
    }
    Ok(flows.len())
}

impl<'a> Explained<'a> {
    fn new(state: &'a NetworkState, circumstances: &'a Circumstances) -> Self {
        let network = state.network;
        let remaining = state.guests.iter().filter(|guest| !circumstances.fresh.contains(&guest.slot));
        let settled = remaining.flat_map(|guest| {
            Family::BOTH.map(|family| (network.guest_address_of(guest.slot, family), guest))
        });
        let services = state.services.iter().flat_map(|service| {
            let entry = (service.number, service.instances.as_slice());
            Family::BOTH.map(|family| (network.service_address_of(service.number, family), entry))
        });
        let publishes = state.publishes().into_iter().flat_map(|(publish, slot)| {
            let families = Family::BOTH.into_iter().filter(move |family| publish.is_on(*family));
            families.map(move |family| {
                let target = Target { last: publish.host_last(), guest: slot, port: publish.guest_port };
                ((family, publish.bound(), protocol(publish.transport), publish.host_port), target)
            })
        });
        let (mut whole, mut parts) = (BTreeSet::new(), BTreeMap::<_, Vec<Port>>::new());
        for guest in &state.guests {
            for Grant { target, reach } in &guest.connects {
                match reach {
                    Reach::Any => {
                        whole.insert((guest.slot, *target));
                    }
                    Reach::Ports(port) => parts.entry((guest.slot, *target)).or_default().push(*port),
                }
            }
        }
        let granted = parts.into_iter().flat_map(|((client, target), ports)| {
            let key = move |port: &Port| (client, target, protocol(port.transport), port.number);
            merged(ports).into_iter().map(move |port| (key(&port), port.last))
        });
        Self {
            state,
            circumstances,
            settled: settled.collect(),
            services: services.collect(),
            publishes: publishes.collect(),
            whole,
            granted: granted.collect(),
        }
    }

    /// Where a packet to this destination of the node is redirected now.
    fn target(&self, to: &Direction) -> Option<(Slot, u16)> {
        let family = Family::of(to.destination);
        let at = |address: Option<IpAddr>| {
            let upto = (family, address, to.protocol, to.destination_port);
            let ((.., first), target) =
                self.publishes.range((family, address, to.protocol, 0)..=upto).next_back()?;
            let offset = to.destination_port.checked_sub(*first)?;
            let is_within = to.destination_port <= target.last;
            is_within.then(|| (target.guest, target.port.saturating_add(offset)))
        };
        at(Some(to.destination)).or_else(|| at(None))
    }

    /// Whether a guest may open this port to another one.
    fn is_granted(&self, (client, target): (Slot, Slot), protocol: u8, port: u16) -> bool {
        if self.whole.contains(&(client, target)) {
            return transport(protocol).is_some();
        }
        let (first, last) = ((client, target, protocol, 0), (client, target, protocol, port));
        self.granted.range(first..=last).next_back().is_some_and(|(_, last)| port <= *last)
    }

    fn explains(&self, flow: &Flow) -> bool {
        let (original, reply) = (&flow.original, &flow.reply);
        if self.state.network.holds(reply.source) {
            let Some(target) = self.settled.get(&reply.source) else { return false };
            if self.state.network.holds(original.source) {
                let client = self.settled.get(&original.source);
                return client.is_some_and(|client| self.explains_between(client, target, flow));
            }
            // What is neither redirected nor from a guest is from root on the host.
            return original.destination == reply.source
                || self.target(original) == Some((target.slot, reply.source_port));
        }
        if self.state.network.holds(original.source) {
            let client = self.settled.get(&original.source);
            return client.is_some_and(|client| self.explains_out(client, flow));
        }
        // A TCP connection to the host's own server is left to end by itself: deleting it would break it.
        let was_redirected = original.destination != reply.source;
        let is_claimed = original.protocol == protocol(Transport::Udp)
            && !was_redirected
            && self.circumstances.local.contains(&original.destination)
            && self.target(original).is_some();
        !is_claimed
    }

    /// Directly, through a virtual address, or through the node.
    fn explains_between(&self, client: &Guest, target: &Guest, Flow { original, reply, .. }: &Flow) -> bool {
        let pair = (client.slot, target.slot);
        let port = original.destination_port;
        if original.destination == reply.source {
            return self.is_granted(pair, original.protocol, port);
        }
        if self.state.network.holds(original.destination) {
            let service = self.services.get(&original.destination);
            return service.is_some_and(|(number, instances)| {
                client.services.contains(number)
                    && instances.contains(&target.slot)
                    && port == reply.source_port
                    && self.is_granted(pair, original.protocol, port)
            });
        }
        let is_written_out = transport(original.protocol)
            .is_some_and(|transport| is_written_out(&client.egress, original.destination, (port, transport)));
        is_written_out && self.target(original) == Some((target.slot, reply.source_port))
    }

    /// To the resolver, or out of the cluster.
    fn explains_out(&self, client: &Guest, Flow { original, reply, .. }: &Flow) -> bool {
        if [IpAddr::from(GATEWAY), GATEWAY_6.into()].contains(&reply.source) {
            return original.destination_port == QUESTIONS_PORT
                && self.state.resolver.is_some_and(|resolver| resolver.port == reply.source_port);
        }
        let destination = original.destination;
        client.egress.iter().any(|entry| match entry {
            Egress::Internet => {
                is_public(destination)
                    && !self.circumstances.attached.iter().any(|range| holds(*range, destination))
            }
            Egress::Name { .. } => {
                let is_regulated = self.circumstances.regulated.contains(&client.slot);
                !is_regulated || self.circumstances.opened.contains(&(client.slot, destination))
            }
            Egress::Network { port: None, address, prefix } => holds((*address, *prefix), destination),
            Egress::Network { port: Some(port), address, prefix } => {
                holds((*address, *prefix), destination)
                    && transport(original.protocol)
                        .is_some_and(|transport| port.holds(original.destination_port, transport))
            }
        })
    }
}

/// Where questions for names go.
const QUESTIONS_PORT: u16 = 53;

/// The IP protocol number (RFC 790 and after).
fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

/// What has ports that can be granted.
fn transport(number: u8) -> Option<Transport> {
    [Transport::Tcp, Transport::Udp].into_iter().find(|transport| protocol(*transport) == number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Guest, Redirect, Resolver, Service};

    const TCP: u8 = 6;
    const UDP: u8 = 17;

    /// A client's flow to `to`, answered by `by`.
    fn flow(protocol: u8, to: (&str, u16), by: (&str, u16)) -> Flow {
        flow_of("192.0.2.9", protocol, to, by)
    }

    fn flow_of(client: &str, protocol: u8, to: (&str, u16), by: (&str, u16)) -> Flow {
        let client: IpAddr = client.parse().unwrap();
        let (to_address, by_address) = (to.0.parse().unwrap(), by.0.parse().unwrap());
        Flow {
            original: Direction {
                source: client,
                destination: to_address,
                protocol,
                source_port: 4000,
                destination_port: to.1,
            },
            reply: Direction {
                source: by_address,
                destination: client,
                protocol,
                source_port: by.1,
                destination_port: 4000,
            },
            name: Vec::new(),
        }
    }

    #[test]
    fn what_the_state_explains() {
        let publish = |address: &str, host_port, guest_port, transport| Redirect {
            address: address.parse().ok(),
            host_port,
            guest_port,
            count: 1,
            transport,
        };
        let range = Redirect { count: 101, ..publish("", 6000, 6000, Transport::Udp) };
        let guest = |slot, publishes| Guest { publishes, ..Guest::closed(Slot::new(slot).unwrap()) };
        let state = NetworkState {
            guests: vec![
                guest(1, vec![publish("", 8080, 80, Transport::Tcp), publish("", 53, 53, Transport::Udp)]),
                guest(2, vec![publish("127.0.0.1", 9000, 90, Transport::Udp)]),
                guest(3, vec![publish("", 8083, 80, Transport::Tcp)]),
                guest(5, vec![range]),
            ],
            ..NetworkState::default()
        };
        let local = ["192.0.2.2", "127.0.0.1"].map(|address| address.parse().unwrap()).into();
        let circumstances =
            Circumstances { fresh: [Slot::new(3).unwrap()].into(), local, ..Circumstances::default() };
        let explained = Explained::new(&state, &circumstances);
        let check = |protocol, to, by, expected| {
            assert_eq!(explained.explains(&flow(protocol, to, by)), expected, "{to:?} {by:?}");
        };
        check(TCP, ("192.0.2.2", 8080), ("10.83.0.1", 80), true);
        check(TCP, ("192.0.2.2", 8080), ("10.83.0.1", 81), false);
        check(TCP, ("192.0.2.2", 8080), ("10.83.0.2", 80), false);
        check(UDP, ("192.0.2.2", 8080), ("10.83.0.1", 80), false);
        check(TCP, ("192.0.2.2", 8083), ("10.83.0.3", 80), false);
        check(UDP, ("127.0.0.1", 9000), ("10.83.0.2", 90), true);
        check(UDP, ("192.0.2.2", 9000), ("10.83.0.2", 90), false);
        check(TCP, ("10.83.0.2", 22), ("10.83.0.2", 22), true);
        check(TCP, ("10.83.0.4", 22), ("10.83.0.4", 22), false);
        check(UDP, ("192.0.2.2", 53), ("192.0.2.2", 53), false);
        check(UDP, ("192.0.2.7", 53), ("192.0.2.7", 53), true);
        check(TCP, ("192.0.2.2", 8080), ("192.0.2.2", 8080), true);
        check(UDP, ("192.0.2.2", 53), ("172.17.0.2", 53), true);
        for (port, expected) in [(5999, false), (6000, true), (6050, true), (6100, true), (6101, false)] {
            check(UDP, ("192.0.2.2", port), ("10.83.0.5", port), expected);
        }
        check(UDP, ("192.0.2.2", 6050), ("10.83.0.5", 6051), false);
        check(TCP, ("192.0.2.2", 6050), ("10.83.0.5", 6050), false);
    }

    #[test]
    fn what_is_granted_between_guests() {
        let slot = |number| Slot::new(number).unwrap();
        let ports = |number, last, transport| Reach::Ports(Port { number, last, transport });
        let guest = |number, grants: &[(u16, Reach)]| Guest {
            connects: grants
                .iter()
                .map(|(target, reach)| Grant { target: slot(*target), reach: *reach })
                .collect(),
            ..Guest::closed(slot(number))
        };
        let state = NetworkState {
            guests: vec![
                guest(
                    1,
                    &[
                        (2, ports(80, 80, Transport::Tcp)),
                        (2, ports(90, 99, Transport::Udp)),
                        (3, Reach::Any),
                    ],
                ),
                guest(2, &[(4, Reach::Any)]),
                guest(3, &[(2, Reach::Any)]),
            ],
            ..NetworkState::default()
        };
        let circumstances = Circumstances { fresh: [slot(3)].into(), ..Circumstances::default() };
        let explained = Explained::new(&state, &circumstances);
        let check = |client: u16, protocol, target: u16, port, expected| {
            let (client, target) = (format!("10.83.0.{client}"), format!("10.83.0.{target}"));
            let flow = flow_of(&client, protocol, (&target, port), (&target, port));
            assert_eq!(explained.explains(&flow), expected, "{flow:?}");
        };
        check(1, TCP, 2, 80, true);
        check(1, TCP, 2, 79, false);
        check(1, TCP, 2, 81, false);
        check(1, UDP, 2, 80, false);
        for (port, expected) in [(89, false), (90, true), (99, true), (100, false)] {
            check(1, UDP, 2, port, expected);
        }
        check(2, TCP, 1, 80, false);
        // Granted, but the target is gone, or either of them is another one than before.
        check(2, TCP, 4, 80, false);
        check(1, TCP, 3, 80, false);
        check(3, TCP, 2, 80, false);
        check(1, 1, 2, 0, false);
    }

    /// A guest with everything, its target, two with names, and one with nothing.
    fn everything() -> NetworkState {
        let slot = |number| Slot::new(number).unwrap();
        let number = |number| ServiceNumber::new(number).unwrap();
        let service = |service, instances: &[u16]| Service {
            number: number(service),
            instances: instances.iter().map(|number| slot(*number)).collect(),
        };
        let network = |address: &str, prefix, port| Egress::Network {
            address: address.parse().unwrap(),
            prefix,
            port: Some(Port::one(port, Transport::Tcp)),
        };
        let publish =
            Redirect { address: None, host_port: 8080, guest_port: 80, count: 1, transport: Transport::Tcp };
        let grant = Grant { target: slot(2), reach: Reach::Ports(Port::one(80, Transport::Tcp)) };
        let name = Egress::Name { name: "example.org".to_owned(), port: None };
        let one = Guest {
            connects: vec![grant],
            services: vec![number(1), number(3)],
            egress: vec![Egress::Internet, network("192.168.1.0", 24, 631), network("192.0.2.2", 32, 8080)],
            ..Guest::closed(slot(1))
        };
        let named = |number| Guest { egress: vec![name.clone()], ..Guest::closed(slot(number)) };
        let two = Guest { publishes: vec![publish], ..Guest::closed(slot(2)) };
        NetworkState {
            guests: vec![one, two, named(3), named(4), Guest::closed(slot(5))],
            services: vec![service(1, &[2]), service(2, &[2]), service(3, &[5])],
            resolver: Some(Resolver { port: 5353, user: 65_000 }),
            ..NetworkState::default()
        }
    }

    #[test]
    fn what_leads_through_virtual_addresses_and_out() {
        let (state, slot) = (everything(), |number| Slot::new(number).unwrap());
        let circumstances = Circumstances {
            regulated: [slot(4)].into(),
            attached: [("2a01::".parse().unwrap(), 64)].into(),
            ..Circumstances::default()
        };
        let explained = Explained::new(&state, &circumstances);
        let check = |client: u16, protocol, to: (&str, u16), by: (&str, u16), expected| {
            let address = match to.0.contains(':') {
                true => state.network.guest_address_6(slot(client)).to_string(),
                false => state.network.guest_address(slot(client)).to_string(),
            };
            let flow = flow_of(&address, protocol, to, by);
            assert_eq!(explained.explains(&flow), expected, "{client} {to:?} {by:?}");
        };
        // Through a virtual address: the guest's own, to an instance, at a port that is granted.
        check(1, TCP, ("10.83.128.1", 80), ("10.83.0.2", 80), true);
        check(1, TCP, ("fd6c:690a:5301:1::1", 80), ("fd6c:690a:5301::2", 80), true);
        check(1, UDP, ("10.83.128.1", 80), ("10.83.0.2", 80), false);
        check(1, TCP, ("10.83.128.1", 81), ("10.83.0.2", 81), false);
        check(1, TCP, ("10.83.128.2", 80), ("10.83.0.2", 80), false);
        check(1, TCP, ("10.83.128.3", 80), ("10.83.0.2", 80), false);
        check(1, TCP, ("10.83.128.3", 80), ("10.83.0.5", 80), false);
        check(3, TCP, ("10.83.128.1", 80), ("10.83.0.2", 80), false);
        check(1, TCP, ("10.83.128.1", 80), ("10.83.0.9", 80), false);
        check(1, TCP, ("10.83.128.1", 80), ("10.83.128.1", 80), false);
        // Out.
        let out = |client, protocol, to: (&str, u16), expected| check(client, protocol, to, to, expected);
        out(1, TCP, ("9.9.9.9", 443), true);
        out(1, UDP, ("2a02::7", 443), true);
        out(1, 1, ("9.9.9.9", 0), true);
        out(1, TCP, ("2a01::9", 443), false);
        out(1, TCP, ("192.168.1.20", 631), true);
        out(1, UDP, ("192.168.1.20", 631), false);
        out(1, TCP, ("192.168.1.20", 632), false);
        out(3, TCP, ("9.9.9.9", 443), true);
        out(4, TCP, ("9.9.9.9", 443), false);
        out(5, TCP, ("9.9.9.9", 443), false);
        out(9, TCP, ("9.9.9.9", 443), false);
        // Through the node.
        check(1, TCP, ("192.0.2.2", 8080), ("10.83.0.2", 80), true);
        check(1, TCP, ("192.0.2.3", 8080), ("10.83.0.2", 80), false);
        check(3, TCP, ("192.0.2.2", 8080), ("10.83.0.2", 80), false);
        // Questions for names.
        check(5, UDP, ("8.8.8.8", 53), ("169.254.83.1", 5353), true);
        check(5, UDP, ("2a02::7", 53), ("fd6c:6974:6800::53:1", 5353), true);
        check(5, UDP, ("8.8.8.8", 53), ("169.254.83.1", 5454), false);
        check(5, UDP, ("8.8.8.8", 54), ("169.254.83.1", 5353), false);
        check(9, UDP, ("8.8.8.8", 53), ("169.254.83.1", 5353), false);
    }
}
