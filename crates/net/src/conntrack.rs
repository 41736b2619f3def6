//! Forgetting flows that the state no longer explains.
//!
//! The kernel redirects a flow as its first packet was redirected for as long as packets come, whatever the rules say
//! later. Left alone, a UDP client that keeps talking would stay with the former owner of a port, and never find a
//! guest whose port was published after its first packet. What one guest was granted of another would go on when it is
//! granted no longer, in the direction of the answers. So after each change the table of flows is read and what
//! does not fit is deleted. Which flows is decided purely here; the messages are in [`netlink`].

mod netlink;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use lith_core::connect::{Grant, Reach, merged};
use lith_core::job::{Port, Transport};
use lith_core::slot::Slot;

use crate::error::NetworkError;
use crate::interface;
use crate::state::NetworkState;

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Direction {
    source: Ipv4Addr,
    destination: Ipv4Addr,
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

/// Where a published port leads, or a range of them.
struct Target {
    /// Last port on the node.
    last: u16,
    guest: Ipv4Addr,
    /// In the guest, what the first port leads to.
    port: u16,
}

/// What the state explains, laid out for looking up.
struct Explained<'a> {
    state: &'a NetworkState,
    /// Addresses of guests that may have flows from before this change.
    settled: BTreeSet<Ipv4Addr>,
    /// By address of the node if only that one counts, protocol, and first port of the node.
    publishes: BTreeMap<(Option<Ipv4Addr>, u8, u16), Target>,
    /// Who may reach whom at every port.
    whole: BTreeSet<(Ipv4Addr, Ipv4Addr)>,
    /// Last port, by client, target, protocol, and first port.
    granted: BTreeMap<(Ipv4Addr, Ipv4Addr, u8, u16), u16>,
    local: BTreeSet<Ipv4Addr>,
}

/// Deletes flows to guests that `state` does not explain, all flows to `fresh` guests, and UDP flows to the host itself
/// that now belong to a published port. Returns how many.
pub(crate) fn forget_unexplained(
    state: &NetworkState,
    fresh: &BTreeSet<Slot>,
) -> Result<usize, NetworkError> {
    let explained = Explained::new(state, fresh, interface::local_addresses()?);
    let table = netlink::Table::open().map_err(NetworkError::Conntrack)?;
    let mut flows = table.flows().map_err(NetworkError::Conntrack)?;
    flows.retain(|flow| !explained.explains(flow));
    for flow in &flows {
        table.delete(flow).map_err(NetworkError::Conntrack)?;
    }
    Ok(flows.len())
}

impl<'a> Explained<'a> {
    fn new(state: &'a NetworkState, fresh: &BTreeSet<Slot>, local: BTreeSet<Ipv4Addr>) -> Self {
        let settled =
            state.slots().difference(fresh).map(|slot| state.network.guest_address(*slot)).collect();
        let publishes = state.publishes().into_iter().map(|(publish, slot)| {
            let guest = state.network.guest_address(slot);
            let target = Target { last: publish.host_last(), guest, port: publish.guest_port };
            ((publish.address, protocol(publish.transport), publish.host_port), target)
        });
        let (mut whole, mut parts) = (BTreeSet::new(), BTreeMap::<_, Vec<Port>>::new());
        for guest in &state.guests {
            for Grant { target, reach } in &guest.connects {
                let pair = (state.network.guest_address(guest.slot), state.network.guest_address(*target));
                match reach {
                    Reach::Any => {
                        whole.insert(pair);
                    }
                    Reach::Ports(port) => parts.entry(pair).or_default().push(*port),
                }
            }
        }
        let granted = parts.into_iter().flat_map(|((client, target), ports)| {
            let key = move |port: &Port| (client, target, protocol(port.transport), port.number);
            merged(ports).into_iter().map(move |port| (key(&port), port.last))
        });
        Self { state, settled, publishes: publishes.collect(), whole, granted: granted.collect(), local }
    }

    /// Where a packet to this destination is redirected now.
    fn target(&self, to: &Direction) -> Option<(Ipv4Addr, u16)> {
        let at = |address: Option<Ipv4Addr>| {
            let upto = (address, to.protocol, to.destination_port);
            let ((_, _, first), target) =
                self.publishes.range((address, to.protocol, 0)..=upto).next_back()?;
            let offset = to.destination_port.checked_sub(*first)?;
            let is_within = to.destination_port <= target.last;
            is_within.then(|| (target.guest, target.port.saturating_add(offset)))
        };
        at(Some(to.destination)).or_else(|| at(None))
    }

    /// Whether a guest may open this to another one.
    fn is_granted(&self, opened: &Direction) -> bool {
        let Direction { source, destination, protocol, destination_port: port, .. } = *opened;
        if self.whole.contains(&(source, destination)) {
            return [Transport::Tcp, Transport::Udp].map(self::protocol).contains(&protocol);
        }
        let (first, last) = ((source, destination, protocol, 0), (source, destination, protocol, port));
        self.granted.range(first..=last).next_back().is_some_and(|(_, last)| port <= *last)
    }

    fn explains(&self, flow: &Flow) -> bool {
        let (original, reply) = (&flow.original, &flow.reply);
        let was_redirected = original.destination != reply.source;
        if self.state.network.contains(reply.source) {
            let is_settled = self.settled.contains(&reply.source);
            return is_settled
                && if was_redirected {
                    self.target(original) == Some((reply.source, reply.source_port))
                } else {
                    // What is not from a guest is from root on the host.
                    !self.state.network.contains(original.source)
                        || (self.settled.contains(&original.source) && self.is_granted(original))
                };
        }
        // A TCP connection to the host's own server is left to end by itself: deleting it would break it.
        let is_claimed = original.protocol == protocol(Transport::Udp)
            && !was_redirected
            && self.local.contains(&original.destination)
            && self.target(original).is_some();
        !is_claimed
    }
}

/// The IP protocol number (RFC 790 and after).
fn protocol(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    }
}

#[cfg(test)]
mod tests {
    use crate::state::Redirect;

    use super::*;
    use crate::state::Guest;

    const TCP: u8 = 6;
    const UDP: u8 = 17;

    /// A client's flow to `to`, answered by `by`.
    fn flow(protocol: u8, to: (&str, u16), by: (&str, u16)) -> Flow {
        flow_of("192.0.2.9", protocol, to, by)
    }

    fn flow_of(client: &str, protocol: u8, to: (&str, u16), by: (&str, u16)) -> Flow {
        let client: Ipv4Addr = client.parse().unwrap();
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
        let explained = Explained::new(&state, &BTreeSet::from([Slot::new(3).unwrap()]), local);
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
        let explained = Explained::new(&state, &BTreeSet::from([slot(3)]), BTreeSet::new());
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
}
