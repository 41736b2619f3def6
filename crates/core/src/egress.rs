//! What a task may reach outside the cluster: which addresses are public, and what a declared entry covers.
//!
//! Pure. Must not know how an address is looked up, nor how a right is put in force.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::job::access::Egress;
use crate::job::{Port, Transport};

/// A range of addresses: its first one, and the length of its prefix in bits.
pub type Range<A> = (A, u8);

/// Addresses of IPv4 that are not public: those that the IANA IPv4 Special-Purpose Address Registry (RFC 6890) calls not
/// globally reachable, with multicast (RFC 5771) and the reserved rest. The anycast relay of 6to4 (192.88.99.0/24, RFC
/// 7526) is among them.
pub const NOT_PUBLIC_4: [Range<Ipv4Addr>; 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 52, 193, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 3),
];

/// What of IPv6 may be public at all: the part that is given out as global unicast (RFC 4291, section 2.4). Everything
/// else, such as unique local, link-local, multicast and mapped addresses, is not.
pub const GLOBAL_6: Range<Ipv6Addr> = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Ranges within [`GLOBAL_6`] that are not public: protocol assignments with Teredo, benchmarking and ORCHID
/// (2001::/23), documentation (RFC 3849, RFC 9637), and 6to4 (RFC 3056), which leads to any address of IPv4.
pub const NOT_PUBLIC_6: [Range<Ipv6Addr>; 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an address is one of the public internet, as far as an address alone tells. Networks that a node is attached to
/// may have such addresses too, and are the caller's to exclude.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    let holds = |(first, prefix): (IpAddr, u8)| holds((first, prefix), address);
    match address {
        IpAddr::V4(_) => !NOT_PUBLIC_4.into_iter().any(|(first, prefix)| holds((first.into(), prefix))),
        IpAddr::V6(_) => {
            holds((GLOBAL_6.0.into(), GLOBAL_6.1))
                && !NOT_PUBLIC_6.into_iter().any(|(first, prefix)| holds((first.into(), prefix)))
        }
    }
}

/// Whether a range holds an address. Ranges hold none of the other family; a prefix longer than an address is the whole
/// address.
#[must_use]
pub fn holds((first, prefix): Range<IpAddr>, address: IpAddr) -> bool {
    match (first, address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => {
            let rest = 32_u32.saturating_sub(prefix.into());
            (u32::from(first) ^ u32::from(address)).checked_shr(rest).unwrap_or(0) == 0
        }
        (IpAddr::V6(first), IpAddr::V6(address)) => {
            let rest = 128_u32.saturating_sub(prefix.into());
            (u128::from(first) ^ u128::from(address)).checked_shr(rest).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Whether a name is the one of an entry, or below it where the entry begins with `*.`. The name's case does not matter; a
/// final dot does not belong to it.
#[must_use]
pub fn name_matches(entry: &str, name: &str) -> bool {
    let ends_with = |end: &str| {
        let start = name.len().checked_sub(end.len());
        start.and_then(|start| name.get(start..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    };
    match entry.strip_prefix('*') {
        Some(end) => name.len() > end.len() && ends_with(end),
        None => name.len() == entry.len() && ends_with(entry),
    }
}

/// Whether the entries write out an address with a port: those that name addresses do, not `internet` and not names.
#[must_use]
pub fn is_written_out(entries: &[Egress], address: IpAddr, (number, transport): (u16, Transport)) -> bool {
    entries.iter().any(|entry| match entry {
        Egress::Network { address: first, prefix, port } => {
            holds((*first, *prefix), address) && covers(*port, number, transport)
        }
        Egress::Internet | Egress::Name { .. } => false,
    })
}

/// Whether an entry's port, or its saying nothing of one, covers this one.
#[must_use]
pub fn covers(port: Option<Port>, number: u16, transport: Transport) -> bool {
    port.is_none_or(|port| port.holds(number, transport))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses() {
        let check = |text: &str, expected: bool| {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        };
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "223.255.255.255",
        ] {
            check(address, true);
        }
        for address in [
            "0.0.0.0",
            "10.83.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            check(address, false);
        }
        for address in ["2606:4700::1111", "2a00::1", "2001:200::1", "2001:4860:4860::8888"] {
            check(address, true);
        }
        for address in [
            "::",
            "::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "fe80::1",
            "fd00::1",
            "fc00::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "3fff::1",
            "4000::1",
            "fec0::1",
        ] {
            check(address, false);
        }
    }

    #[test]
    fn ranges() {
        let check = |first: &str, prefix, address: &str, expected| {
            let range = (first.parse().unwrap(), prefix);
            assert_eq!(holds(range, address.parse().unwrap()), expected, "{first}/{prefix} {address}");
        };
        check("10.0.0.0", 24, "10.0.0.255", true);
        check("10.0.0.0", 24, "10.0.1.0", false);
        check("0.0.0.0", 0, "203.0.113.1", true);
        check("192.168.1.20", 32, "192.168.1.20", true);
        check("192.168.1.20", 32, "192.168.1.21", false);
        check("::", 0, "2001:db8::1", true);
        check("2001:db8::", 64, "2001:db8::ffff", true);
        check("2001:db8::", 64, "2001:db8:0:1::", false);
        check("::", 0, "10.0.0.1", false);
        check("0.0.0.0", 0, "::1", false);
    }

    #[test]
    fn names() {
        let check = |entry: &str, name: &str, expected| {
            assert_eq!(name_matches(entry, name), expected, "{entry} {name}");
        };
        check("api.github.com", "API.github.com", true);
        check("api.github.com", "x.api.github.com", false);
        check("api.github.com", "api.github.co", false);
        check("*.ntfy.sh", "a.ntfy.sh", true);
        check("*.ntfy.sh", "a.b.NTFY.sh", true);
        check("*.ntfy.sh", "ntfy.sh", false);
        check("*.ntfy.sh", ".ntfy.sh", false);
        check("*.ntfy.sh", "evilntfy.sh", false);
        check("*.ntfy.sh", "é.ntfy.sh", true);
        check("*.ntfy.sh", "é", false);
    }
}
