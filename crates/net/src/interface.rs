//! What the kernel has of links, addresses and routes, and making TAPs into what a guest needs.
//!
//! Through the `ip` program, in batches: one process per step whatever the number of guests. Touches only interfaces
//! whose names [`address::tap_name`] gives.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::Ipv4Addr;

use lith_core::slot::Slot;
use serde_json::Value;

use crate::address::{self, GATEWAY, GATEWAY_6, GATEWAY_LINK_6, GuestNetwork};
use crate::command::run;
use crate::error::NetworkError;

/// Settings under `/proc/sys/net/ipv4/conf/{tap}`, each with its reason.
const SETTINGS: [(&str, &str); 9] = [
    // A published port on 127.0.0.1 leads from the loopback address out of this interface.
    ("route_localnet", "1"),
    // What arrives must come from where a route to it leads.
    ("rp_filter", "1"),
    // Answers to clients on the network are forwarded.
    ("forwarding", "1"),
    // Answer no ARP request at all.
    ("arp_ignore", "8"),
    ("proxy_arp", "0"),
    // A guest does not tell the host where to send packets.
    ("accept_redirects", "0"),
    ("accept_source_route", "0"),
    ("accept_local", "0"),
    ("send_redirects", "0"),
];

/// Settings under `/proc/sys/net/ipv6/conf/{tap}`, before IPv6 is turned on there.
const SETTINGS_6: [(&str, &str); 11] = [
    // What guests send is forwarded; older kernels ask the machine-wide switch alone.
    ("force_forwarding", "1"),
    // No address but those that are given: a guest must not find one that follows from the hardware's.
    ("addr_gen_mode", "1"),
    ("autoconf", "0"),
    ("use_tempaddr", "0"),
    ("accept_dad", "0"),
    ("dad_transmits", "0"),
    // A guest does not tell the host where to send packets.
    ("accept_ra", "0"),
    ("accept_redirects", "0"),
    // Zero would still let one kind of routing header through.
    ("accept_source_route", "-1"),
    ("router_solicitations", "0"),
    ("proxy_ndp", "0"),
];

/// Whether the host has IPv6 at all.
const DISABLE_IPV6: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";

/// The group that TAPs are in while they are being removed: "lith" in ASCII, so that nobody else's is meant.
const DOOMED_GROUP: u32 = 0x6c69_7468;

/// A TAP as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tap {
    /// A VMM holds its other end.
    pub(crate) is_held: bool,
    /// Its hardware address is the one of its slot, and it is not about to be removed.
    pub(crate) is_identified: bool,
    /// It is up.
    pub(crate) is_up: bool,
}

/// A route as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// First address.
    pub(crate) address: Ipv4Addr,
    /// Length of the prefix.
    pub(crate) bits: u32,
    /// The interface; empty for routes without one.
    pub(crate) device: String,
}

/// All TAPs of lith in this network namespace.
pub(crate) fn taps() -> Result<BTreeMap<Slot, Tap>, NetworkError> {
    let links = query("list taps", &["-details", "-json", "link", "show", "type", "tun"])?;
    Ok(links.iter().filter_map(tap).collect())
}

fn tap(link: &Value) -> Option<(Slot, Tap)> {
    let slot = address::slot_of_tap(link.get("ifname")?.as_str()?)?;
    let has = |flag| has_flag(link, flag);
    let is_addressed = link.get("address")?.as_str()? == address::host_mac(slot).to_string();
    let is_doomed = link.get("group").is_some_and(|group| group != "default");
    let is_identified = is_addressed && !is_doomed && has("NOARP") && !has("MULTICAST");
    Some((slot, Tap { is_held: has("LOWER_UP"), is_identified, is_up: has("UP") }))
}

fn has_flag(link: &Value, flag: &str) -> bool {
    link.get("flags").and_then(Value::as_array).is_some_and(|flags| flags.iter().any(|value| value == flag))
}

/// All IPv4 routes to networks but the default ones.
pub(crate) fn routes() -> Result<Vec<Route>, NetworkError> {
    let routes = query("list routes", &["-4", "-json", "route", "show", "table", "all"])?;
    Ok(routes.iter().filter_map(route).collect())
}

fn route(entry: &Value) -> Option<Route> {
    let destination = entry.get("dst")?.as_str()?;
    let (address, bits) = destination.split_once('/').unwrap_or((destination, "32"));
    let device = entry.get("dev").and_then(Value::as_str).unwrap_or_default();
    Some(Route { address: address.parse().ok()?, bits: bits.parse().ok()?, device: device.to_owned() })
}

/// Removes TAPs; a VMM that still holds one has its cable pulled. As a group, because the kernel waits some
/// milliseconds for each removal that it is told of alone.
pub(crate) fn delete(slots: &BTreeSet<Slot>) -> Result<(), NetworkError> {
    if slots.is_empty() {
        return Ok(());
    }
    let doom = |slot: &Slot| format!("link set dev {} group {DOOMED_GROUP}\n", address::tap_name(*slot));
    let mut script: String = slots.iter().map(doom).collect();
    _ = writeln!(script, "link delete group {DOOMED_GROUP}");
    batch("remove taps", &script)
}

/// Makes a TAP that is down have its hardware address, and neither ARP nor multicast. Such a change to one that is up would
/// drop its neighbour entries.
fn identify(script: &mut String, slot: Slot) {
    let (tap, mac) = (address::tap_name(slot), address::host_mac(slot));
    _ = writeln!(
        script,
        "link set dev {tap} down\nlink set dev {tap} address {mac} arp off multicast off group default"
    );
}

/// Brings TAPs up as what they should be, with the gateway's addresses and the ways to their guest. Does nothing to one that
/// has all that.
pub(crate) fn bring_up(slots: &BTreeMap<Slot, Tap>, network: GuestNetwork) -> Result<(), NetworkError> {
    let mut script = String::new();
    let has_ipv6 = has_ipv6();
    for (slot, tap) in slots {
        let (name, mac, guest) =
            (address::tap_name(*slot), address::guest_mac(*slot), network.guest_address(*slot));
        for (setting, value) in SETTINGS {
            set(&format!("/proc/sys/net/ipv4/conf/{name}/{setting}"), value)?;
        }
        settle_ipv6(&name, has_ipv6)?;
        if !tap.is_identified {
            identify(&mut script, *slot);
        }
        if !(tap.is_identified && tap.is_up) {
            _ = writeln!(script, "link set dev {name} up");
        }
        _ = writeln!(script, "address replace {GATEWAY}/32 dev {name} scope link");
        _ = writeln!(script, "neighbour replace {guest} lladdr {mac} dev {name} nud permanent");
        _ = writeln!(script, "route replace {guest}/32 dev {name} scope link src {GATEWAY}");
        if has_ipv6 {
            let guest = network.guest_address_6(*slot);
            _ = writeln!(script, "address replace {GATEWAY_LINK_6}/64 dev {name} nodad noprefixroute");
            _ = writeln!(script, "address replace {GATEWAY_6}/128 dev {name} nodad noprefixroute");
            _ = writeln!(script, "neighbour replace {guest} lladdr {mac} dev {name} nud permanent");
            _ = writeln!(script, "route replace {guest}/128 dev {name} src {GATEWAY_6}");
        }
    }
    batch("bring taps up", &script)
}

/// Whether the host has IPv6 and uses it.
pub(crate) fn has_ipv6() -> bool {
    get(DISABLE_IPV6).is_ok_and(|value| value == "0")
}

/// Makes a TAP one that has IPv6, or has none.
fn settle_ipv6(name: &str, has_ipv6: bool) -> Result<(), NetworkError> {
    let path = |setting| format!("/proc/sys/net/ipv6/conf/{name}/{setting}");
    if !has_ipv6 {
        let disable = path("disable_ipv6");
        return if fs::exists(&disable).unwrap_or(false) { set(&disable, "1") } else { Ok(()) };
    }
    for (setting, value) in SETTINGS_6 {
        let path = path(setting);
        // Which of them a kernel has depends on how it was built.
        if fs::exists(&path).unwrap_or(false) {
            set(&path, value)?;
        }
    }
    set(&path("disable_ipv6"), "0")
}

/// Writes a kernel setting unless it has that value.
pub(crate) fn set(path: &str, value: &str) -> Result<(), NetworkError> {
    let failed = |source: io::Error| NetworkError::Setting { path: path.to_owned(), source };
    if get(path)? == value {
        return Ok(());
    }
    fs::write(path, value).map_err(failed)
}

/// Reads a kernel setting.
pub(crate) fn get(path: &str) -> Result<String, NetworkError> {
    let value = fs::read_to_string(path);
    let failed = |source| NetworkError::Setting { path: path.to_owned(), source };
    value.map(|value| value.trim().to_owned()).map_err(failed)
}

fn batch(purpose: &'static str, script: &str) -> Result<(), NetworkError> {
    if script.is_empty() {
        return Ok(());
    }
    let done = run("ip", &["-batch", "-"], script);
    done.map(drop).map_err(|source| NetworkError::Command { purpose, source })
}

fn query(purpose: &'static str, arguments: &[&str]) -> Result<Vec<Value>, NetworkError> {
    let output = run("ip", arguments, "").map_err(|source| NetworkError::Command { purpose, source })?;
    // Some versions print nothing instead of an empty list.
    if output.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&output).map_err(|source| NetworkError::Answer { purpose, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_are_recognised() {
        let check = |link: &str, expected: Option<(u16, bool, bool)>| {
            let found = tap(&serde_json::from_str(link).unwrap());
            let expected = expected.map(|(slot, is_identified, is_up)| {
                (Slot::new(slot).unwrap(), Tap { is_held: false, is_identified, is_up })
            });
            assert_eq!(found, expected, "{link}");
        };
        check(
            r#"{"ifname":"lith7","flags":["NO-CARRIER","BROADCAST","NOARP","UP"],"address":"02:6c:68:74:00:07"}"#,
            Some((7, true, true)),
        );
        check(
            r#"{"ifname":"lith7","flags":["BROADCAST","MULTICAST"],"address":"4a:d7:13:10:4c:3d"}"#,
            Some((7, false, false)),
        );
        check(
            r#"{"ifname":"lith7","flags":["NOARP","UP"],"group":"1818850408","address":"02:6c:68:74:00:07"}"#,
            Some((7, false, true)),
        );
        check(r#"{"ifname":"tun0","flags":[],"address":"4a:d7:13:10:4c:3d"}"#, None);
        check("{}", None);
    }

    #[test]
    fn routes_are_read() {
        let check = |entry: &str, expected: Option<(&str, u32, &str)>| {
            let expected = expected.map(|(address, bits, device)| Route {
                address: address.parse().unwrap(),
                bits,
                device: device.into(),
            });
            assert_eq!(route(&serde_json::from_str(entry).unwrap()), expected, "{entry}");
        };
        check(r#"{"dst":"10.0.0.0/8","dev":"eth0"}"#, Some(("10.0.0.0", 8, "eth0")));
        check(r#"{"dst":"10.0.0.1","dev":"eth0"}"#, Some(("10.0.0.1", 32, "eth0")));
        check(r#"{"type":"blackhole","dst":"10.9.0.0/16"}"#, Some(("10.9.0.0", 16, "")));
        check(r#"{"dst":"default","dev":"eth0"}"#, None);
    }
}
