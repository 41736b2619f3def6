//! Reading and deleting entries of connection tracking over netlink (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! Must not decide which entries go.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::{Direction, Flow};
use crate::message::{self, HEADER_BYTES, Message, attributes, native_u32};

/// How long the kernel may take to answer. It answers at once; this is against waiting for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Room for one datagram of a dump. The kernel fills at most 32 KiB.
const DATAGRAM_BYTES: usize = 64 * 1024;

/// Most flows that are looked at: the kernel's own bound is a quarter of this on machines with much memory.
const FLOWS_MAX: usize = 1 << 20;

/// After the header of each message: family, version, resource.
const FAMILY_BYTES: usize = 4;
/// In a dump: of every family.
const FAMILY_ANY: u8 = 0;
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;

const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const CONNTRACK_GET: u16 = 0x0101;
const CONNTRACK_DELETE: u16 = 0x0102;

const FLAG_REQUEST: u16 = 0x01;
const FLAG_ACKNOWLEDGE: u16 = 0x04;
const FLAG_DUMP: u16 = 0x300;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const ADDRESS_SOURCE: u16 = 1;
const ADDRESS_DESTINATION: u16 = 2;
const ADDRESS_SOURCE_6: u16 = 3;
const ADDRESS_DESTINATION_6: u16 = 4;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_SOURCE_PORT: u16 = 2;
const PROTOCOL_DESTINATION_PORT: u16 = 3;

/// The connection tracking table of this network namespace.
pub(super) struct Table(OwnedFd);

impl Table {
    /// Opens it.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WITHIN))?;
        Ok(Self(socket))
    }

    /// All flows of both families.
    pub(super) fn flows(&self) -> io::Result<Vec<Flow>> {
        self.request(CONNTRACK_GET, FLAG_REQUEST | FLAG_DUMP, FAMILY_ANY, &[])?;
        let mut flows = Vec::new();
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            for message in self.receive(&mut buffer)? {
                match message.kind {
                    MESSAGE_DONE => return Ok(flows),
                    MESSAGE_ERROR => acknowledged(message.body)?,
                    _ => flows.extend(message.body.get(FAMILY_BYTES..).and_then(flow)),
                }
            }
            if flows.len() > FLOWS_MAX {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
        }
    }

    /// Deletes a flow; one that has ended meanwhile is fine.
    pub(super) fn delete(&self, flow: &Flow) -> io::Result<()> {
        let family = match flow.original.source {
            IpAddr::V4(_) => FAMILY_IPV4,
            IpAddr::V6(_) => FAMILY_IPV6,
        };
        self.request(CONNTRACK_DELETE, FLAG_REQUEST | FLAG_ACKNOWLEDGE, family, &flow.name)?;
        let mut buffer = vec![0; DATAGRAM_BYTES];
        for message in self.receive(&mut buffer)? {
            match acknowledged(message.body) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn request(&self, kind: u16, flags: u16, family: u8, attributes: &[u8]) -> io::Result<()> {
        let length = HEADER_BYTES + FAMILY_BYTES + attributes.len();
        let mut message = Vec::with_capacity(length);
        message.extend(u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        // Sequence number and sender: one request at a time on a socket of its own needs neither.
        message.extend([0; 8]);
        message.extend([family, 0, 0, 0]);
        message.extend(attributes);
        send(&self.0, &message, SendFlags::empty())?;
        Ok(())
    }

    fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Vec<Message<'a>>> {
        let (received, _) = recv(&self.0, &mut *buffer, RecvFlags::empty())?;
        Ok(message::messages(buffer.get(..received).unwrap_or_default()))
    }
}

/// An error message holds a negated `errno`, zero for success.
fn acknowledged(body: &[u8]) -> io::Result<()> {
    match native_u32(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn flow(attributes: &[u8]) -> Option<Flow> {
    let original = message::attributes(attributes).find(|found| found.kind == TUPLE_ORIGINAL)?;
    let reply = message::attributes(attributes).find(|found| found.kind == TUPLE_REPLY)?;
    let names =
        message::attributes(attributes).filter(|found| [TUPLE_ORIGINAL, ID, ZONE].contains(&found.kind));
    let mut name = Vec::new();
    for attribute in names {
        name.extend(attribute.whole);
        name.resize(name.len().next_multiple_of(4), 0);
    }
    Some(Flow { original: direction(original.value)?, reply: direction(reply.value)?, name })
}

fn direction(tuple: &[u8]) -> Option<Direction> {
    let addresses = attributes(tuple).find(|found| found.kind == TUPLE_ADDRESSES)?.value;
    let protocol = attributes(tuple).find(|found| found.kind == TUPLE_PROTOCOL)?.value;
    let value = |kind| attributes(addresses).find(|found| found.kind == kind).map(|found| found.value);
    let address = |kind, kind_6| match value(kind) {
        Some(value) => Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))),
        None => Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(value(kind_6)?).ok()?))),
    };
    let port = |kind| {
        let value = attributes(protocol).find(|found| found.kind == kind).map(|found| found.value);
        value.and_then(|value| <[u8; 2]>::try_from(value).ok()).map_or(0, u16::from_be_bytes)
    };
    Some(Direction {
        source: address(ADDRESS_SOURCE, ADDRESS_SOURCE_6)?,
        destination: address(ADDRESS_DESTINATION, ADDRESS_DESTINATION_6)?,
        protocol: *attributes(protocol).find(|found| found.kind == PROTOCOL_NUMBER)?.value.first()?,
        source_port: port(PROTOCOL_SOURCE_PORT),
        destination_port: port(PROTOCOL_DESTINATION_PORT),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{attribute, messages};

    #[test]
    fn a_flow_is_read() {
        let tuple = |source: [u8; 4], destination: [u8; 4], ports: (u16, u16)| {
            let addresses = [attribute(1, &source), attribute(2, &destination)].concat();
            let protocol = [
                attribute(1, &[17]),
                attribute(2, &ports.0.to_be_bytes()),
                attribute(3, &ports.1.to_be_bytes()),
            ]
            .concat();
            [attribute(0x8001, &addresses), attribute(0x8002, &protocol)].concat()
        };
        let original = attribute(0x8001, &tuple([192, 0, 2, 9], [192, 0, 2, 1], (4000, 53)));
        let reply = attribute(0x8002, &tuple([10, 83, 0, 1], [192, 0, 2, 9], (5353, 4000)));
        let id = attribute(12, &[1, 2, 3, 4]);
        let found = flow(&[original.clone(), reply, attribute(7, &[0; 4]), id.clone()].concat()).unwrap();
        assert_eq!(found.original.destination_port, 53);
        assert_eq!(found.reply.source, IpAddr::from([10, 83, 0, 1]));
        assert_eq!(found.reply.source_port, 5353);
        assert_eq!(found.name, [original, id].concat());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            for message in messages(&bytes) {
                _ = acknowledged(message.body);
                _ = flow(message.body);
            }
            _ = flow(&bytes);
        }
    }
}
