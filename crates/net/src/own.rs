//! The addresses of this host, asked of the kernel (rtnetlink(7)). Not through `ip`: each change of a guest asks, and a node
//! with hundreds of guests has thousands.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::netdevice::index_to_name;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::address::{self, Family};
use crate::error::NetworkError;
use crate::message::{self, HEADER_BYTES, Message, native_u32};

/// How long the kernel may take to answer. It answers at once; this is against waiting for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Room for one datagram of a dump. The kernel fills at most 32 KiB.
const DATAGRAM_BYTES: usize = 64 * 1024;
/// Most addresses that are looked at: each guest has three, and nobody has more than a few thousand of their own.
const ADDRESSES_MAX: usize = 1 << 17;
/// After the header of each message: family, length of the prefix, flags, scope, index of the interface.
const ADDRESS_BYTES: usize = 8;

const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESSES: u16 = 22;
const FLAGS_DUMP: u16 = 0x301;

/// The address that an interface has in IPv6; in IPv4 that of the other end where there is one.
const ADDRESS: u16 = 1;
/// The address that an interface has in IPv4.
const LOCAL: u16 = 2;
/// The index that the loopback interface of every network namespace has (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// An interface whose name is no text, or that goes while it is asked about: no way for clients, but what it is attached to
/// counts.
const UNNAMED: &str = "?";

/// An address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    /// The interface that has it.
    pub(crate) device: String,
    pub(crate) is_loopback: bool,
    pub(crate) address: IpAddr,
    /// Length of the prefix of the network that it is in.
    pub(crate) prefix: u8,
}

impl Own {
    /// Whether it is on an interface of others that may be a way to published ports. One whose name cannot stand in a script for
    /// `nft` is left out; the kernel allows nearly everything. So are addresses that mean nothing beyond one link of IPv6,
    /// which nothing is forwarded from.
    fn is_way(&self) -> bool {
        let is_plain = |character: char| character.is_ascii_alphanumeric() || "._@-".contains(character);
        self.is_foreign() && !self.is_loopback && self.device.chars().all(is_plain)
    }

    fn is_foreign(&self) -> bool {
        let is_link_local = matches!(self.address, IpAddr::V6(address) if address.is_unicast_link_local());
        address::slot_of_tap(&self.device).is_none() && !is_link_local
    }
}

/// The groups of notices about addresses (`RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`).
pub(crate) const NOTICES: u32 = 0x10 | 0x100;

/// Whether a notice says that an address came or went that counts. By the address alone, as an interface that is gone has no
/// name any more.
pub(crate) fn is_change(notice: &Message<'_>) -> bool {
    let counts = |address: IpAddr| match address {
        IpAddr::V4(address) => address != address::GATEWAY,
        IpAddr::V6(address) => address != address::GATEWAY_6 && !address.is_unicast_link_local(),
    };
    [NEW_ADDRESS, DELETE_ADDRESS].contains(&notice.kind)
        && read(notice.body).is_some_and(|(_, address, _)| counts(address))
}

/// The interfaces of others through which clients of a family come.
pub(crate) fn ways(own: &[Own], family: Family) -> BTreeSet<String> {
    let ways = own.iter().filter(|own| own.is_way() && Family::of(own.address) == family);
    ways.map(|own| own.device.clone()).collect()
}

/// The networks that the host is attached to. One of all addresses is none.
pub(crate) fn attached(own: &[Own]) -> BTreeSet<(IpAddr, u8)> {
    let attached = own.iter().filter(|own| own.is_foreign() && !own.is_loopback && own.prefix > 0);
    attached.map(|own| (own.address, own.prefix)).collect()
}

/// The addresses that this host has on its interfaces, of both families.
///
/// # Errors
/// The kernel does not answer as it should.
pub fn own_addresses() -> Result<BTreeSet<IpAddr>, NetworkError> {
    let own = addresses().map_err(NetworkError::Addresses)?;
    Ok(own.into_iter().map(|own| own.address).collect())
}

/// All addresses of this host, with where they are.
///
/// # Errors
/// The kernel does not answer as it should.
pub(crate) fn addresses() -> io::Result<Vec<Own>> {
    let flags = SocketFlags::CLOEXEC;
    // No protocol is that of routes and addresses.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WITHIN))?;
    let length = HEADER_BYTES + ADDRESS_BYTES;
    let mut request = Vec::with_capacity(length);
    request.extend(u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?.to_ne_bytes());
    request.extend(GET_ADDRESSES.to_ne_bytes());
    request.extend(FLAGS_DUMP.to_ne_bytes());
    // Neither sequence nor sender, and every family and interface.
    request.resize(length, 0);
    send(&socket, &request, SendFlags::empty())?;
    receive(&socket)
}

fn receive(socket: &OwnedFd) -> io::Result<Vec<Own>> {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let (mut found, mut names) = (Vec::new(), BTreeMap::new());
    loop {
        let (received, _) = recv(socket, &mut *buffer, RecvFlags::empty())?;
        for message in message::messages(buffer.get(..received).unwrap_or_default()) {
            match message.kind {
                MESSAGE_DONE => return Ok(found),
                MESSAGE_ERROR => return Err(refusal(&message)),
                NEW_ADDRESS => {
                    let Some((index, address, prefix)) = read(message.body) else { continue };
                    let name = names.entry(index).or_insert_with(|| {
                        index_to_name(socket, index).unwrap_or_else(|_| UNNAMED.to_owned())
                    });
                    found.push(Own { device: name.clone(), is_loopback: index == LOOPBACK, address, prefix });
                }
                _ => {}
            }
        }
        if found.len() > ADDRESSES_MAX {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
    }
}

/// An error message holds a negated `errno`.
fn refusal(message: &Message<'_>) -> io::Error {
    match native_u32(message.body, 0).map(u32::cast_signed) {
        Some(code) => io::Error::from_raw_os_error(code.saturating_neg()),
        None => io::ErrorKind::InvalidData.into(),
    }
}

/// Index of the interface, address, and length of the prefix.
fn read(body: &[u8]) -> Option<(u32, IpAddr, u8)> {
    let (prefix, index) = (*body.get(1)?, native_u32(body, 4)?);
    let value = |kind| {
        let attributes = body.get(ADDRESS_BYTES..)?;
        message::attributes(attributes).find(|found| found.kind == kind).map(|found| found.value)
    };
    let value = value(LOCAL).or_else(|| value(ADDRESS))?;
    let address = match value.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?)),
        _ => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)),
    };
    Some((index, address, prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::attribute;

    #[test]
    fn addresses_are_read() {
        let body = |attributes: &[Vec<u8>]| [&[2, 24, 0, 0, 7, 0, 0, 0][..], &attributes.concat()].concat();
        let both = [attribute(ADDRESS, &[192, 0, 2, 2]), attribute(LOCAL, &[192, 0, 2, 1])];
        assert_eq!(read(&body(&both)), Some((7, IpAddr::from([192, 0, 2, 1]), 24)));
        let six = [attribute(ADDRESS, &[0x2a; 16])];
        assert_eq!(read(&body(&six)), Some((7, IpAddr::from([0x2a; 16]), 24)));
        assert_eq!(read(&body(&[])), None);
    }

    #[test]
    fn addresses_of_taps_are_no_change() {
        let check = |kind, address: &str, expected| {
            let bytes = match address.parse().unwrap() {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            let body = [&[2, 24, 0, 0, 7, 0, 0, 0][..], &attribute(ADDRESS, &bytes)].concat();
            assert_eq!(is_change(&Message { kind, body: &body }), expected, "{address}");
        };
        for kind in [NEW_ADDRESS, DELETE_ADDRESS] {
            check(kind, "192.168.1.10", true);
            check(kind, "2a01:db8::1", true);
            check(kind, &address::GATEWAY.to_string(), false);
            check(kind, &address::GATEWAY_6.to_string(), false);
            check(kind, "fe80::1", false);
        }
        check(GET_ADDRESSES, "192.168.1.10", false);
    }

    #[test]
    fn what_is_a_way_and_what_is_attached() {
        let own = |device: &str, address: &str, prefix| Own {
            device: device.to_owned(),
            is_loopback: device == "lo",
            address: address.parse().unwrap(),
            prefix,
        };
        let all = [
            own("lo", "127.0.0.1", 8),
            own("lo", "203.0.113.1", 32),
            own("eth0", "192.0.2.1", 24),
            own("eth0", "fe80::1", 64),
            own("eth1", "2001:db8::1", 64),
            own("odd \"name", "198.51.100.1", 24),
            own("lith7", "169.254.83.1", 32),
            own("tun0", "10.0.0.1", 0),
        ];
        assert_eq!(ways(&all, Family::V4), ["eth0".to_owned(), "tun0".to_owned()].into());
        assert_eq!(ways(&all, Family::V6), ["eth1".to_owned()].into());
        let expected = [("192.0.2.1", 24), ("2001:db8::1", 64), ("198.51.100.1", 24)];
        assert_eq!(attached(&all), expected.map(|(text, prefix)| (text.parse().unwrap(), prefix)).into());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            _ = read(&bytes);
        }
    }
}
