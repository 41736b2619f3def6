//! What is written out in a guest's egress, as ranges that do not overlap: the kernel takes no others into one set.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lith_core::connect::merged;
use lith_core::egress::{Range, holds};
use lith_core::job::Port;
use lith_core::job::access::Egress;

/// What is written out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenOut {
    /// Every port; none holds another one.
    pub(super) whole: BTreeSet<Range<IpAddr>>,
    /// Ports; no address is in two with the same port. Those that lie in one of the above are left out.
    pub(super) ports: Vec<(Range<IpAddr>, Port)>,
}

impl WrittenOut {
    /// Of a guest's egress.
    pub(super) fn new(egress: &[Egress]) -> Self {
        let (mut all, mut parts) = (BTreeSet::new(), BTreeMap::<_, Vec<Port>>::new());
        for entry in egress {
            let Egress::Network { address, prefix, port } = entry else { continue };
            let range = canonical((*address, *prefix));
            match port {
                None => {
                    all.insert(range);
                }
                Some(port) => parts.entry(range).or_default().push(*port),
            }
        }
        let whole = outermost(all);
        parts.retain(|range, _| !whole.iter().any(|outer| is_within(*range, *outer)));
        let mut ports = Vec::new();
        for (range, own) in &parts {
            let outer = parts.iter().filter(|(outer, _)| *outer != range && is_within(*range, **outer));
            let covered = merged(outer.flat_map(|(_, ports)| ports.iter().copied()));
            let rest = merged(own.iter().copied()).into_iter().flat_map(|port| without(port, &covered));
            ports.extend(rest.map(|port| (*range, port)));
        }
        Self { whole, ports }
    }
}

/// Those ranges that none of the others holds.
pub(super) fn outermost(ranges: BTreeSet<Range<IpAddr>>) -> BTreeSet<Range<IpAddr>> {
    let mut found: BTreeSet<Range<IpAddr>> = BTreeSet::new();
    // Ranges are nested or apart, and one that holds another comes before it, with nothing but what it holds between.
    let mut last: Option<Range<IpAddr>> = None;
    for range in ranges {
        if last.is_none_or(|last| !is_within(range, last)) {
            found.insert(range);
            last = Some(range);
        }
    }
    found
}

/// A range with its first address as its address.
pub(super) fn canonical((address, prefix): Range<IpAddr>) -> Range<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let prefix = prefix.min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            (IpAddr::V4((u32::from(address) & mask).into()), prefix)
        }
        IpAddr::V6(address) => {
            let prefix = prefix.min(128);
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            (IpAddr::V6((u128::from(address) & mask).into()), prefix)
        }
    }
}

fn is_within(inner: Range<IpAddr>, outer: Range<IpAddr>) -> bool {
    outer.1 <= inner.1 && holds(outer, inner.0)
}

/// What of a range of ports is not in others, which are sorted and apart.
fn without(port: Port, others: &[Port]) -> Vec<Port> {
    let mut rest = Vec::new();
    let mut first = Some(port.number);
    for other in others.iter().filter(|other| other.transport == port.transport) {
        let Some(start) = first else { break };
        if other.last < start || other.number > port.last {
            continue;
        }
        if other.number > start {
            rest.push(Port { number: start, last: other.number.saturating_sub(1), ..port });
        }
        first = other.last.checked_add(1).filter(|next| *next <= port.last);
    }
    rest.extend(first.map(|number| Port { number, ..port }));
    rest
}

#[cfg(test)]
mod tests {
    use lith_core::egress::is_written_out;
    use lith_core::job::Transport;
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Egress> {
        let range = prop_oneof![
            (0u8..8, 28u8..=32).prop_map(|(last, prefix)| (IpAddr::from([192, 168, 0, last]), prefix)),
            Just((IpAddr::from([0, 0, 0, 0]), 0)),
            (0u16..8, 124u8..=128)
                .prop_map(|(last, prefix)| (IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]), prefix)),
        ];
        let port = (1u16..12, 0u16..5, any::<bool>()).prop_map(|(number, more, is_tcp)| Port {
            number,
            last: number + more,
            transport: if is_tcp { Transport::Tcp } else { Transport::Udp },
        });
        (range, proptest::option::weighted(0.8, port)).prop_map(|((address, prefix), port)| Egress::Network {
            address,
            prefix,
            port,
        })
    }

    proptest! {
        #[test]
        fn each_port_of_each_address_once(entries in proptest::collection::vec(entry(), 0..8)) {
            let found = WrittenOut::new(&entries);
            let addresses = (0..8).flat_map(|last| {
                [IpAddr::from([192, 168, 0, last]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)])]
            });
            for address in addresses {
                for (port, transport) in (1..17).flat_map(|port| [(port, Transport::Tcp), (port, Transport::Udp)]) {
                    let whole = found.whole.iter().filter(|range| holds(**range, address)).count();
                    let ports = found.ports.iter().filter(|(range, own)| {
                        holds(*range, address) && own.holds(port, transport)
                    });
                    let ports = ports.count();
                    let expected = is_written_out(&entries, address, (port, transport));
                    prop_assert_eq!(whole + ports > 0, expected, "{} {} {:?}", address, port, found);
                    prop_assert!(whole <= 1 && ports <= 1, "{} {} {:?}", address, port, found);
                }
            }
        }
    }
}
