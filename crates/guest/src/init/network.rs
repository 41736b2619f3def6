//! The network interface: address, neighbour, route, through netlink (rtnetlink(7)).
//!
//! Owns the few messages this takes. Nothing on the link answers ARP or neighbour solicitations, so the gateway is a
//! permanent neighbour. Of IPv6 there is what the host gives, or nothing.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use lith_guest::messages::{BootStep, Mac, Network, Network6};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::failure::{During, Failure};

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTNH_F_ONLINK: u32 = 4;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// Nobody else can have the address, so nobody is asked (`IFA_F_NODAD`).
const IFA_F_NODAD: u8 = 2;
/// Length of an address alone.
const WHOLE_6: u8 = 128;
/// Under `/proc/sys/net/ipv6/conf/{interface}`, before it comes up: no addresses but the one given, no questions that nobody
/// answers, and no listening to whoever claims to be a router.
const SETTINGS_6: [(&str, &str); 7] = [
    ("addr_gen_mode", "1"),
    ("accept_ra", "0"),
    ("autoconf", "0"),
    ("accept_redirects", "0"),
    ("router_solicitations", "0"),
    ("accept_dad", "0"),
    ("disable_ipv6", "0"),
];
/// Index of the loopback interface, on every Linux.
const LOOPBACK: u32 = 1;

/// Brings up the loopback interface and, when there is one, the machine's own.
pub(crate) fn configure(network: Option<&Network>) -> Result<(), Failure> {
    let step = BootStep::Network;
    let mut link = Netlink::open().during(step, "open a netlink socket")?;
    link.request(RTM_NEWLINK, 0, &link_up(LOOPBACK)).during(step, "start the loopback interface")?;
    let Some(network) = network else { return Ok(()) };
    let (name, index) = find_interface(network.mac)?;
    // Before it comes up, or it would talk.
    let ipv6 = network.ipv6.as_ref().filter(|_| prepare_6(&name).is_ok());
    if ipv6.is_none() {
        // A kernel without IPv6 has nothing to switch off.
        let _ = set_6(&name, "disable_ipv6", "1");
    }
    link.request(RTM_NEWLINK, 0, &link_up(index)).during(step, format_args!("start {name}"))?;
    let mut steps = vec![
        (RTM_NEWADDR, address(index, network.address.into(), network.prefix), "set the address of"),
        (RTM_NEWNEIGH, neighbour(index, network.gateway.into(), network.gateway_mac), "set the neighbour of"),
        (RTM_NEWROUTE, default_route(index, network.gateway.into()), "set the route through"),
    ];
    if let Some(Network6 { address: own, gateway }) = ipv6 {
        let (own, gateway) = (IpAddr::from(*own), IpAddr::from(*gateway));
        steps.extend([
            (RTM_NEWADDR, address(index, own, WHOLE_6), "set the IPv6 address of"),
            (RTM_NEWNEIGH, neighbour(index, gateway, network.gateway_mac), "set the IPv6 neighbour of"),
            (RTM_NEWROUTE, default_route(index, gateway), "set the IPv6 route through"),
        ]);
    }
    for (kind, body, doing) in steps {
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        link.request(kind, flags, &body).during(step, format_args!("{doing} {name}"))?;
    }
    Ok(())
}

/// Makes the interface ready for its IPv6 address; fails where the kernel has no IPv6.
fn prepare_6(name: &str) -> io::Result<()> {
    SETTINGS_6.iter().try_for_each(|(setting, value)| set_6(name, setting, value))
}

fn set_6(name: &str, setting: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{setting}"), value)
}

fn find_interface(mac: Mac) -> Result<(String, u32), Failure> {
    for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("address").trim_end() == mac.to_string()
            && let Ok(index) = read("ifindex").trim_end().parse()
        {
            return Ok((entry.file_name().to_string_lossy().into_owned(), index));
        }
    }
    Err(Failure::new(BootStep::Network, format!("the machine has no network interface {mac}")))
}

struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    fn open() -> io::Result<Netlink> {
        // No protocol means 0, which is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sends one request and waits for the kernel's verdict.
    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(length as usize);
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(body);
        send(&self.socket, &message, SendFlags::empty())?;
        let mut answer = [0u8; 4096];
        let (_, count) = recv(&self.socket, &mut answer, RecvFlags::empty())?;
        // nlmsghdr (16 bytes), then the negated error number.
        let answer = answer.get(..count.min(20)).filter(|answer| answer.len() == 20);
        let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        match (kind, error) {
            (NLMSG_ERROR, 0) => Ok(()),
            (NLMSG_ERROR, error) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// An attribute; every value here is a multiple of four bytes long or the last one.
fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("values are a few bytes long");
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// `struct ifinfomsg`.
fn link_up(index: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [index, IFF_UP, IFF_UP] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    body
}

/// The family of an address, and its bytes.
fn parts(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    }
}

/// `struct ifaddrmsg` with its attributes.
fn address(index: u32, address: IpAddr, prefix: u8) -> Vec<u8> {
    let (family, bytes) = parts(address);
    let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
    let mut body = vec![family, prefix, flags, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &bytes);
    attribute(&mut body, IFA_ADDRESS, &bytes);
    body
}

/// `struct ndmsg` with its attributes.
fn neighbour(index: u32, gateway: IpAddr, mac: Mac) -> Vec<u8> {
    let (family, bytes) = parts(gateway);
    let mut body = vec![family, 0, 0, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&NUD_PERMANENT.to_ne_bytes());
    body.extend_from_slice(&[0, 0]);
    attribute(&mut body, NDA_DST, &bytes);
    attribute(&mut body, NDA_LLADDR, &mac.0);
    body
}

/// `struct rtmsg` with its attributes: everything through the gateway, which is on the link whatever the address says.
fn default_route(index: u32, gateway: IpAddr) -> Vec<u8> {
    let (family, bytes) = parts(gateway);
    let mut body = vec![family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST];
    body.extend_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
    attribute(&mut body, RTA_GATEWAY, &bytes);
    body
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use lith_guest::messages::Mac;

    use super::{Netlink, attribute, default_route, neighbour};

    #[test]
    fn attributes_are_padded() {
        let mut out = Vec::new();
        attribute(&mut out, 0, &[1, 2, 3, 4, 5, 6]);
        assert_eq!((out.len(), &out[4..]), (12, [1, 2, 3, 4, 5, 6, 0, 0].as_slice()));
        let gateway = IpAddr::from(Ipv4Addr::new(169, 254, 83, 1));
        assert_eq!(neighbour(2, gateway, Mac([2; 6])).len(), 12 + 8 + 12);
        assert_eq!(default_route(2, gateway).len(), 12 + 8 + 8);
        let gateway = IpAddr::from(Ipv6Addr::LOCALHOST);
        assert_eq!(neighbour(2, gateway, Mac([2; 6])).len(), 12 + 20 + 12);
        assert_eq!(default_route(2, gateway).len(), 12 + 8 + 20);
    }

    /// The kernel reads what is sent, and its refusal comes back as the error it is.
    #[test]
    fn the_kernel_answers() {
        let mut link = Netlink::open().unwrap();
        let body = neighbour(i32::MAX.unsigned_abs(), Ipv4Addr::LOCALHOST.into(), Mac([2; 6]));
        let error = link.request(super::RTM_NEWNEIGH, super::NLM_F_CREATE, &body).unwrap_err();
        // To root that there is no such interface, to others that they may not ask: both are its answers.
        let expected = [Some(libc::ENODEV), Some(libc::EPERM)];
        assert!(expected.contains(&error.raw_os_error()), "{error}");
    }
}
