//! What follows from a slot: the guest's address, the hardware addresses of both ends, the TAP's name.
//!
//! Pure. Must not look at the machine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lith_core::egress;
use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;

/// The host's address on every TAP, and so every guest's gateway. Link-local, since it means nothing beyond the TAP; it
/// is announced nowhere: guests know it by a permanent neighbour entry.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 83, 1);

/// The host's link-local address on every TAP: next hop of the guests' IPv6.
pub const GATEWAY_LINK_6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x53, 1);

/// The address of IPv6 at which guests' questions for names are answered, of the host alone. Unique local (RFC 4193); the
/// 40 bits that should be random are "lith" and one that no guest network has.
pub const GATEWAY_6: Ipv6Addr = Ipv6Addr::new(0xfd6c, 0x6974, 0x6800, 0, 0, 0, 0x53, 1);

/// What the names of all TAPs begin with; the slot follows.
pub const TAP_PREFIX: &str = "lith";

/// Bits of the part of a guest's address that all guests share.
const PREFIX_BITS: u32 = 16;

/// Set in the virtual addresses of services.
const SERVICE_BIT: u32 = 0x8000;

/// First four bytes of guests' hardware addresses: locally administered, then "lit".
const GUEST_MAC_PREFIX: [u8; 4] = [0x02, 0x6c, 0x69, 0x74];

/// First four bytes of the hardware addresses of the host's ends.
const HOST_MAC_PREFIX: [u8; 4] = [0x02, 0x6c, 0x68, 0x74];

/// Bits of the part of an address of IPv6 that all guests and services of a network share.
const PREFIX_BITS_6: u8 = 48;

/// One of the two kinds of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// That of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// A hardware (Ethernet) address. Displays as `02:6c:69:74:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The range, a /16, that guests of one node have their addresses from. Displays as `10.83.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestNetwork(Ipv4Addr);

impl Default for GuestNetwork {
    /// `10.83.0.0/16`: private, and outside what home routers and container engines use by default.
    fn default() -> Self {
        Self(Ipv4Addr::new(10, 83, 0, 0))
    }
}

impl fmt::Display for GuestNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{PREFIX_BITS}", self.0)
    }
}

impl GuestNetwork {
    /// The /16 that starts at `base`; `None` unless it is private (RFC 1918) and its last two bytes are zero. Other
    /// ranges are refused because the guests' routes would hide somebody's real addresses.
    #[must_use]
    pub fn new(base: Ipv4Addr) -> Option<Self> {
        let [_, _, c, d] = base.octets();
        (base.is_private() && c == 0 && d == 0).then_some(Self(base))
    }

    /// The first address of the range.
    #[must_use]
    pub fn base(self) -> Ipv4Addr {
        self.0
    }

    /// Whether `address` lies in the range.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.overlaps(address, 32)
    }

    /// Whether the range shares an address with `address/bits`. Bits above 32 count as 32.
    #[must_use]
    pub fn overlaps(self, address: Ipv4Addr, bits: u32) -> bool {
        let shorter = bits.min(PREFIX_BITS);
        let mask = u32::MAX.checked_shl(32 - shorter).unwrap_or(0);
        (u32::from(self.0) ^ u32::from(address)) & mask == 0
    }

    /// The address of the guest in `slot`, used as a /32.
    #[must_use]
    pub fn guest_address(self, slot: Slot) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.0) | u32::from(slot.number()))
    }

    /// The address of IPv6 of the guest in `slot`, used as a /128.
    #[must_use]
    pub fn guest_address_6(self, slot: Slot) -> Ipv6Addr {
        self.address_6(0, slot.number())
    }

    /// The virtual address of a service: in the upper half of the range, where no guest is.
    #[must_use]
    pub fn service_address(self, service: ServiceNumber) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.0) | SERVICE_BIT | u32::from(service.number()))
    }

    /// The virtual address of IPv6 of a service.
    #[must_use]
    pub fn service_address_6(self, service: ServiceNumber) -> Ipv6Addr {
        self.address_6(1, service.number())
    }

    /// The first address of the range of IPv6 that guests and services are in, a /48: unique local (RFC 4193), with the
    /// first two bytes of the range of IPv4 in it, so that both differ from those of another range.
    #[must_use]
    pub fn base_6(self) -> Ipv6Addr {
        self.address_6(0, 0)
    }

    /// The address of one family of the guest in `slot`.
    #[must_use]
    pub fn guest_address_of(self, slot: Slot, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.guest_address(slot).into(),
            Family::V6 => self.guest_address_6(slot).into(),
        }
    }

    /// The virtual address of one family of a service.
    #[must_use]
    pub fn service_address_of(self, service: ServiceNumber, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.service_address(service).into(),
            Family::V6 => self.service_address_6(service).into(),
        }
    }

    /// The range of one family that guests and services are in.
    #[must_use]
    pub fn range(self, family: Family) -> (IpAddr, u8) {
        match family {
            Family::V4 => (self.0.into(), 16),
            Family::V6 => (self.base_6().into(), PREFIX_BITS_6),
        }
    }

    /// Whether an address of either family is in the range of guests and services.
    #[must_use]
    pub fn holds(self, address: IpAddr) -> bool {
        egress::holds(self.range(Family::of(address)), address)
    }

    fn address_6(self, subnet: u16, number: u16) -> Ipv6Addr {
        let [first, second, ..] = self.0.octets();
        Ipv6Addr::new(0xfd6c, 0x6900 | u16::from(first), u16::from(second) << 8 | 1, subnet, 0, 0, 0, number)
    }
}

/// The hardware address of the guest's network card.
#[must_use]
pub fn guest_mac(slot: Slot) -> MacAddress {
    mac(GUEST_MAC_PREFIX, slot)
}

/// The hardware address of the TAP, the host's end.
#[must_use]
pub fn host_mac(slot: Slot) -> MacAddress {
    mac(HOST_MAC_PREFIX, slot)
}

/// The name of the TAP: `lith{slot}`.
#[must_use]
pub fn tap_name(slot: Slot) -> String {
    format!("{TAP_PREFIX}{slot}")
}

/// The slot that a TAP's name stands for; `None` for names that [`tap_name`] never gives.
#[must_use]
pub fn slot_of_tap(name: &str) -> Option<Slot> {
    let slot = Slot::new(name.strip_prefix(TAP_PREFIX)?.parse().ok()?)?;
    (tap_name(slot) == name).then_some(slot)
}

fn mac(prefix: [u8; 4], slot: Slot) -> MacAddress {
    let [a, b, c, d] = prefix;
    let [high, low] = slot.number().to_be_bytes();
    MacAddress([a, b, c, d, high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_follows_from_the_slot() {
        let check = |number: u16, address: &str, guest: &str, host: &str, tap: &str| {
            let slot = Slot::new(number).unwrap();
            assert_eq!(GuestNetwork::default().guest_address(slot).to_string(), address);
            assert_eq!(guest_mac(slot).to_string(), guest);
            assert_eq!(host_mac(slot).to_string(), host);
            assert_eq!(tap_name(slot), tap);
            assert_eq!(slot_of_tap(tap), Some(slot));
        };
        check(1, "10.83.0.1", "02:6c:69:74:00:01", "02:6c:68:74:00:01", "lith1");
        check(256, "10.83.1.0", "02:6c:69:74:01:00", "02:6c:68:74:01:00", "lith256");
        check(4000, "10.83.15.160", "02:6c:69:74:0f:a0", "02:6c:68:74:0f:a0", "lith4000");
    }

    #[test]
    fn services_are_beside_the_guests() {
        let network = GuestNetwork::new(Ipv4Addr::new(172, 20, 0, 0)).unwrap();
        let check = |number, address: &str, address_6: &str| {
            let service = ServiceNumber::new(number).unwrap();
            assert_eq!(network.service_address(service).to_string(), address);
            assert_eq!(network.service_address_6(service).to_string(), address_6);
        };
        check(1, "172.20.128.1", "fd6c:69ac:1401:1::1");
        check(32_766, "172.20.255.254", "fd6c:69ac:1401:1::7ffe");
        let last = Slot::new(lith_core::slot::SLOT_MAX).unwrap();
        assert_eq!(network.guest_address_6(last).to_string(), "fd6c:69ac:1401::fa0");
        assert!(network.guest_address(last) < network.service_address(ServiceNumber::new(1).unwrap()));
        assert_eq!(network.base_6().to_string(), "fd6c:69ac:1401::");
    }

    #[test]
    fn foreign_names_are_no_taps() {
        for name in
            ["lith", "lith0", "lith01", "lith+1", "lith4001", "lith99999999", "lith1x", "tap1", "xlith1", ""]
        {
            assert_eq!(slot_of_tap(name), None, "{name}");
        }
    }

    #[test]
    fn only_private_whole_ranges() {
        let check = |base: &str, good: bool| {
            assert_eq!(GuestNetwork::new(base.parse().unwrap()).is_some(), good, "{base}");
        };
        check("10.83.0.0", true);
        check("172.20.0.0", true);
        check("192.168.0.0", true);
        check("172.32.0.0", false);
        check("8.8.0.0", false);
        check("10.83.1.0", false);
        check("127.0.0.0", false);
    }

    #[test]
    fn overlap() {
        let check = |address: &str, bits: u32, expected: bool| {
            assert_eq!(
                GuestNetwork::default().overlaps(address.parse().unwrap(), bits),
                expected,
                "{address}/{bits}"
            );
        };
        check("10.83.4.0", 24, true);
        check("10.0.0.0", 8, true);
        check("10.82.0.0", 15, true);
        check("10.84.0.0", 15, false);
        check("192.168.1.0", 24, false);
        check("0.0.0.0", 0, true);
    }
}
