//! The node's own resolvers, as `/etc/resolv.conf` names them (resolv.conf(5)). Pure.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Where it lies.
pub const PATH: &str = "/etc/resolv.conf";
/// Largest file that is looked at.
pub const BYTES_MAX: u64 = 64 << 10;
/// Most resolvers that are asked: as many as the C library asks.
const SERVERS_MAX: usize = 3;
const PORT: u16 = 53;

/// The resolvers in order, without those of `ours`, which would ask themselves. `scope` gives the number of a network
/// interface, as a link-local address needs it.
#[must_use]
pub fn servers(text: &str, ours: &[IpAddr], scope: impl Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let value = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        if let Some((address, interface)) = value.split_once('%') {
            let address: Ipv6Addr = address.parse().ok()?;
            return Some(SocketAddr::V6(SocketAddrV6::new(address, PORT, 0, scope(interface)?)));
        }
        value.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT))
    };
    let mut servers: Vec<SocketAddr> = Vec::new();
    for found in text.lines().filter_map(server) {
        if !ours.contains(&found.ip()) && !servers.contains(&found) {
            servers.push(found);
        }
    }
    servers.truncate(SERVERS_MAX);
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_people() {
        let check = |text: &str, expected: &[&str]| {
            let ours = ["169.254.83.1".parse().unwrap()];
            let found = servers(text, &ours, |name| (name == "eth0").then_some(2));
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("", &[]);
        check("# nameserver 1.1.1.1\n;x\nsearch lan\n", &[]);
        check("nameserver\t127.0.0.53\noptions edns0\n", &["127.0.0.53:53"]);
        check("nameserver 1.1.1.1\nnameserver 1.1.1.1\n nameserver ::1 # x\n", &["1.1.1.1:53", "[::1]:53"]);
        check("nameserver fe80::1%eth0\nnameserver fe80::1%eth9\nnameserver x\n", &["[fe80::1%2]:53"]);
        check("nameserver 169.254.83.1\nnameserver 9.9.9.9\n", &["9.9.9.9:53"]);
        check(
            "nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\nnameserver 1.0.0.4\n",
            &["1.0.0.1:53", "1.0.0.2:53", "1.0.0.3:53"],
        );
    }
}
