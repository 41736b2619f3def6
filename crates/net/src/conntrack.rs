//! Forgetting flows that the state no longer explains.
//!
//! The kernel redirects a flow as its first packet was redirected for as long as packets come, whatever the rules say
//! later. Left alone, a UDP client that keeps talking would stay with the former owner of a port, and never find a
//! guest whose port was published after its first packet. So after each change the table of flows is read and what
//! does not fit is deleted. Which flows is decided purely here; the messages are in [`netlink`].

mod netlink;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use lith_core::job::Transport;
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

/// Where a published port leads.
struct Target {
    /// Only for packets to this address of the node.
    at: Option<Ipv4Addr>,
    guest: Ipv4Addr,
    port: u16,
}

/// What the state explains, laid out for looking up.
struct Explained<'a> {
    state: &'a NetworkState,
    /// Addresses of guests that may have flows from before this change.
    settled: BTreeSet<Ipv4Addr>,
    /// By protocol and port of the node.
    publishes: BTreeMap<(u8, u16), Vec<Target>>,
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
        let mut publishes: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (publish, slot) in state.publishes() {
            let guest = state.network.guest_address(slot);
            let target = Target { at: publish.address, guest, port: publish.guest_port };
            publishes.entry((protocol(publish.transport), publish.host_port)).or_default().push(target);
        }
        Self { state, settled, publishes, local }
    }

    /// Where a packet to this destination is redirected now.
    fn target(&self, to: &Direction) -> Option<(Ipv4Addr, u16)> {
        let targets = self.publishes.get(&(to.protocol, to.destination_port))?;
        let found = targets.iter().find(|target| target.at.is_none_or(|address| address == to.destination));
        found.map(|target| (target.guest, target.port))
    }

    fn explains(&self, flow: &Flow) -> bool {
        let (original, reply) = (&flow.original, &flow.reply);
        let was_redirected = original.destination != reply.source;
        if self.state.network.contains(reply.source) {
            let is_settled = self.settled.contains(&reply.source);
            let leads_here = || self.target(original) == Some((reply.source, reply.source_port));
            return is_settled && (!was_redirected || leads_here());
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
    use lith_core::job::Publish;

    use super::*;
    use crate::state::Guest;

    const TCP: u8 = 6;
    const UDP: u8 = 17;

    /// A client's flow to `to`, answered by `by`.
    fn flow(protocol: u8, to: (&str, u16), by: (&str, u16)) -> Flow {
        let client: Ipv4Addr = "192.0.2.9".parse().unwrap();
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
        let publish = |address: &str, host_port, guest_port, transport| Publish {
            address: address.parse().ok(),
            host_port,
            guest_port,
            transport,
        };
        let guest = |slot, publishes| Guest { slot: Slot::new(slot).unwrap(), publishes };
        let state = NetworkState {
            guests: vec![
                guest(1, vec![publish("", 8080, 80, Transport::Tcp), publish("", 53, 53, Transport::Udp)]),
                guest(2, vec![publish("127.0.0.1", 9000, 90, Transport::Udp)]),
                guest(3, vec![publish("", 8083, 80, Transport::Tcp)]),
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
    }
}
