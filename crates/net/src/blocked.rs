//! What the packet filter refused to guests, as the kernel tells of it (`linux/netfilter/nfnetlink_log.h`).
//!
//! The rules hand the beginning of each refused packet to a group that this reads. What they hold back, for there is too
//! much of it, is not seen here. Must not judge: it says who sent what where.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use lith_core::blocked::{Attempt, Protocol};
use lith_core::slot::Slot;
use rustix::io::Errno;
use rustix::net::netdevice::index_to_name;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use crate::address::slot_of_tap;
use crate::message::{self, HEADER_BYTES, Message, attributes, native_u32};

/// The group that the rules log to. Any number that nobody else uses: it is the one of the guests' network.
pub const LOG_GROUP: u16 = 83;
/// What the rules put in front, so that what others log to this group is passed over.
pub const LOG_PREFIX: &str = "lith";

/// Beginning of a packet that is wanted: headers with a few extensions.
const COPIED_BYTES: u32 = 128;
/// Room for one datagram. The kernel joins what it logs up to a page, or up to the size that was asked for; see `NFULA_CFG_NLBUFSIZ`.
const DATAGRAM_BYTES: usize = 64 << 10;
/// How long the kernel may take to answer. It answers at once; this is against waiting for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long the kernel gathers packets before it hands them over, in hundredths of a second.
const GATHERED_FOR: u32 = 20;
/// Extension headers of IPv6 that are passed over; more are hostile.
const EXTENSIONS_MAX: usize = 8;

/// `NFNL_SUBSYS_ULOG` in the upper byte.
const PACKET: u16 = 4 << 8;
const CONFIG: u16 = PACKET | 1;
const MESSAGE_ERROR: u16 = 2;
const FLAGS_ACKNOWLEDGED: u16 = 0x01 | 0x04;
/// After the header of each message: family, version, group in network order.
const FAMILY_BYTES: usize = 4;

const CONFIG_COMMAND: u16 = 1;
const CONFIG_MODE: u16 = 2;
const CONFIG_TIMEOUT: u16 = 4;
const COMMAND_BIND: u8 = 1;
const MODE_PACKET: u8 = 2;

const DEVICE_IN: u16 = 4;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;

/// Something that a guest sent and that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The guest.
    pub slot: Slot,
    /// Where it wanted to.
    pub attempt: Attempt,
}

/// Reads what is refused in the network namespace that it was opened in.
#[derive(Debug)]
pub struct Reader(OwnedFd);

impl Reader {
    /// Begins to read. One reader alone has a group.
    ///
    /// # Errors
    /// The kernel cannot log to programs (`nfnetlink_log`), or another program has the group.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WITHIN))?;
        let reader = Self(socket);
        reader.configure(&attribute(CONFIG_COMMAND, &[COMMAND_BIND]))?;
        let [a, b, c, d] = COPIED_BYTES.to_be_bytes();
        let mode = attribute(CONFIG_MODE, &[a, b, c, d, MODE_PACKET, 0]);
        reader.configure(&[mode, attribute(CONFIG_TIMEOUT, &GATHERED_FOR.to_be_bytes())].concat())?;
        Ok(reader)
    }

    /// Waits until something was refused, at most for so long. Nothing, when nothing was; what came too fast for the
    /// kernel to keep is left out.
    ///
    /// # Errors
    /// The socket broke.
    pub fn read(&self, within: Duration) -> io::Result<Vec<Refused>> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(within.max(Duration::from_millis(1))))?;
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let received = match recv(&self.0, &mut *buffer, RecvFlags::empty()) {
            Ok((received, _)) => received,
            Err(Errno::INTR | Errno::AGAIN | Errno::NOBUFS) => return Ok(vec![]),
            Err(error) => return Err(error.into()),
        };
        let messages = message::messages(buffer.get(..received).unwrap_or_default());
        let logged = messages.iter().filter_map(logged);
        Ok(logged
            .filter_map(|(device, attempt)| Some(Refused { slot: self.slot(device)?, attempt }))
            .collect())
    }

    /// The guest behind a device; `None` for one that is no TAP of ours, or that has gone.
    fn slot(&self, device: u32) -> Option<Slot> {
        slot_of_tap(&index_to_name(self.0.as_fd(), device).ok()?)
    }

    fn configure(&self, attributes: &[u8]) -> io::Result<()> {
        let length = HEADER_BYTES + FAMILY_BYTES + attributes.len();
        let [high, low] = LOG_GROUP.to_be_bytes();
        let mut message = Vec::with_capacity(length);
        message.extend(u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?.to_ne_bytes());
        message.extend(CONFIG.to_ne_bytes());
        message.extend(FLAGS_ACKNOWLEDGED.to_ne_bytes());
        // Sequence number and sender: one request at a time on a socket of its own needs neither.
        message.extend([0; 8]);
        message.extend([0, 0, high, low]);
        message.extend(attributes);
        send(&self.0, &message, SendFlags::empty())?;
        self.acknowledged()
    }

    /// Waits for the answer to a request; packets that come meanwhile are passed over.
    fn acknowledged(&self) -> io::Result<()> {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        loop {
            let (received, _) = recv(&self.0, &mut *buffer, RecvFlags::empty())?;
            let messages = message::messages(buffer.get(..received).unwrap_or_default());
            let answer = messages.into_iter().find(|message| message.kind == MESSAGE_ERROR);
            let Some(answer) = answer else { continue };
            return match native_u32(answer.body, 0).map(u32::cast_signed) {
                Some(0) => Ok(()),
                Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                None => Err(io::ErrorKind::InvalidData.into()),
            };
        }
    }
}

/// An attribute of a request.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // Values here are a few bytes.
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The device that a logged packet came in by, and where it was to go.
fn logged(message: &Message<'_>) -> Option<(u32, Attempt)> {
    if message.kind != PACKET {
        return None;
    }
    let (mut device, mut packet, mut is_ours) = (None, None, false);
    for attribute in attributes(message.body.get(FAMILY_BYTES..)?) {
        match attribute.kind {
            DEVICE_IN => device = <[u8; 4]>::try_from(attribute.value).ok().map(u32::from_be_bytes),
            PAYLOAD => packet = Some(attribute.value),
            PREFIX => is_ours = attribute.value.starts_with(LOG_PREFIX.as_bytes()),
            _ => {}
        }
    }
    if !is_ours {
        return None;
    }
    Some((device?, destination(packet?)?))
}

/// Where a packet is to go, from the beginning of it.
fn destination(packet: &[u8]) -> Option<Attempt> {
    let (address, protocol, payload) = match packet.first()? >> 4 {
        4 => version_4(packet)?,
        6 => version_6(packet)?,
        _ => return None,
    };
    let protocol = Protocol::of_number(protocol);
    let port = match protocol {
        Protocol::Ported(_) => payload.and_then(|payload| big_endian(payload, 2)).filter(|port| *port != 0),
        Protocol::Other(_) => None,
    };
    Some(Attempt::Flow { address, port, protocol })
}

/// Destination, protocol, and what follows the header (RFC 791, section 3.1); nothing follows in a later fragment.
fn version_4(packet: &[u8]) -> Option<(IpAddr, u8, Option<&[u8]>)> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let address = <[u8; 4]>::try_from(packet.get(16..20)?).ok()?;
    let is_first = big_endian(packet, 6)? & 0x1fff == 0;
    let payload = if is_first && header >= 20 { packet.get(header..) } else { None };
    Some((Ipv4Addr::from(address).into(), *packet.get(9)?, payload))
}

/// The same of IPv6 (RFC 8200, sections 3 and 4), past the headers of options, routes and fragments.
fn version_6(packet: &[u8]) -> Option<(IpAddr, u8, Option<&[u8]>)> {
    const HOP_OPTIONS: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const OPTIONS: u8 = 60;
    let address = IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?));
    let (mut next, mut at) = (*packet.get(6)?, 40_usize);
    for _ in 0..EXTENSIONS_MAX {
        let length = match next {
            FRAGMENT => {
                let Some(offset) = big_endian(packet, at + 2) else { break };
                if offset >> 3 != 0 {
                    return Some((address, *packet.get(at)?, None));
                }
                8
            }
            HOP_OPTIONS | ROUTING | OPTIONS => {
                let Some(units) = packet.get(at + 1) else { break };
                (usize::from(*units) + 1) * 8
            }
            other => return Some((address, other, packet.get(at..))),
        };
        let Some(following) = packet.get(at) else { break };
        (next, at) = (*following, at + length);
    }
    Some((address, next, None))
}

fn big_endian(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::messages;

    /// The beginning of a packet of IPv4.
    fn packet_4(protocol: u8, fragment: u16, options: usize, payload: &[u8]) -> Vec<u8> {
        let words = 5 + u8::try_from(options).unwrap();
        let mut packet = vec![0x40 | words, 0, 0, 60, 0, 1];
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 10, 83, 0, 1, 1, 1, 1, 1]);
        packet.resize(usize::from(words) * 4, 0);
        packet.extend(payload);
        packet
    }

    /// The same of IPv6; what follows the header begins with `next`.
    fn packet_6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 40, next, 64];
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend("2606:4700::1111".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(payload);
        packet
    }

    const PORTS: [u8; 4] = [0x10, 0x00, 0x01, 0xbb];

    #[test]
    fn where_packets_go() {
        let check = |packet: &[u8], expected: Option<&str>| {
            assert_eq!(destination(packet).map(|attempt| attempt.to_string()).as_deref(), expected);
        };
        check(&packet_4(6, 0, 0, &PORTS), Some("1.1.1.1:443"));
        check(&packet_4(17, 0, 3, &PORTS), Some("1.1.1.1:443/udp"));
        check(&packet_4(6, 0x2000, 0, &PORTS), Some("1.1.1.1:443"));
        check(&packet_4(17, 0x2001, 0, &PORTS), Some("1.1.1.1 (udp)"));
        check(&packet_4(1, 0, 0, &[8, 0, 0, 0]), Some("1.1.1.1 (ping)"));
        check(&packet_4(47, 0, 0, &[0, 0, 0, 0]), Some("1.1.1.1 (protocol 47)"));
        check(&packet_4(6, 0, 0, &PORTS[..3]), Some("1.1.1.1 (tcp)"));
        check(&packet_4(6, 0, 0, &[])[..19], None);
        check(&packet_6(6, &PORTS), Some("[2606:4700::1111]:443"));
        // Options, a route of sixteen bytes, a first fragment.
        let route = [&[44, 1][..], &[0; 14]].concat();
        let extended = [&[43, 0, 0, 0, 0, 0, 0, 0][..], &route, &[17, 0, 0, 1, 0, 0, 0, 0], &PORTS].concat();
        check(&packet_6(60, &extended), Some("[2606:4700::1111]:443/udp"));
        check(&packet_6(44, &[17, 0, 0, 9, 0, 0, 0, 0]), Some("2606:4700::1111 (udp)"));
        check(&packet_6(0, &[0; 128]), Some("2606:4700::1111 (protocol 0)"));
        check(&packet_6(58, &[128, 0]), Some("2606:4700::1111 (ping)"));
        check(&[0x50; 40], None);
    }

    fn message_of(prefix: &[u8], packet: &[u8]) -> Vec<u8> {
        let body = [
            &[2, 0, 0, 83][..],
            &attribute(1, &[8, 0, 2, 0]),
            &attribute(PREFIX, prefix),
            &attribute(DEVICE_IN, &7_u32.to_be_bytes()),
            &attribute(PAYLOAD, packet),
        ]
        .concat();
        let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
        [&length.to_ne_bytes()[..], &PACKET.to_ne_bytes(), &[0; 10], &body].concat()
    }

    #[test]
    fn what_is_logged() {
        let read = |bytes: &[u8]| messages(bytes).iter().filter_map(logged).collect::<Vec<_>>();
        let good = message_of(b"lith out\0", &packet_4(6, 0, 0, &PORTS));
        let read_of_two = read(&[good.clone(), good].concat());
        let told: Vec<String> =
            read_of_two.iter().map(|(device, attempt)| format!("{device} {attempt}")).collect();
        assert_eq!(told, ["7 1.1.1.1:443", "7 1.1.1.1:443"]);
        assert_eq!(read(&message_of(b"other\0", &packet_4(6, 0, 0, &PORTS))), []);
        assert_eq!(read(&message_of(b"lith out\0", &[])), []);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            for message in messages(&bytes) {
                _ = logged(&message);
            }
            _ = destination(&bytes);
        }

        /// Whatever a guest sends, and whatever is cut off.
        #[test]
        fn no_damage_panics(
            is_6: bool, next: u8, payload in proptest::collection::vec(any::<u8>(), 0..100),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8), length: u8,
        ) {
            let mut packet = if is_6 { packet_6(next, &payload) } else { packet_4(next, 0, 0, &payload) };
            for (at, byte) in &changes {
                let at = at.index(packet.len());
                packet[at] = *byte;
            }
            packet.truncate(length.into());
            let mut bytes = message_of(b"lith\0", &packet);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                for message in messages(&bytes) {
                    _ = logged(&message);
                }
            }
            if let Some(Attempt::Flow { port: Some(port), .. }) = destination(&packet) {
                prop_assert!(port != 0);
            }
        }
    }
}
