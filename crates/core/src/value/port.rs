//! Ports and published ports: `8080`, `53/udp`, `9000-9010`, `"8080:80"`, `"127.0.0.1:5353:53/udp"`, `"[::1]:80:80"`.

use std::net::IpAddr;

use super::{Refusal, quoted};
use crate::job::{Port, Publish, SHIFTED_PORTS_MAX, Transport};

/// Ports that a task listens on: one, or a range.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn port(text: &str) -> Result<Port, Refusal> {
    let refusal = || Refusal::new(format!("{} is not a port", quoted(text)));
    if text.contains(':') {
        let hint = format!(
            "`ports` lists what the task listens on; to offer it on the node: `publish: [ \"{text}\" ]`"
        );
        return Err(if publish(text).is_ok() { refusal().hint(hint) } else { refusal() });
    }
    let (numbers, transport) =
        transport(text).ok_or_else(|| refusal().hint("write `/tcp` or `/udp` after the port"))?;
    let (number, last) = range(numbers).ok_or_else(|| refusal().hint(RANGE))?;
    Ok(Port { number, last, transport })
}

const RANGE: &str = "ports are 1 to 65535; a range is written `9000-9010`";

/// A port offered on the node, or a range; one number alone means the same port on both sides.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn publish(text: &str) -> Result<Publish, Refusal> {
    let refusal = || Refusal::new(format!("{} does not publish a port", quoted(text)));
    let example = "write \"NODE:TASK\", such as \"8080:80\", \"127.0.0.1:8080:80\" or \"5353:53/udp\"";
    let (rest, transport) =
        transport(text).ok_or_else(|| refusal().hint("write `/tcp` or `/udp` after the ports"))?;
    let (address, ports) = split_address(rest).ok_or_else(|| refusal().hint(example))?;
    let (host, guest) = match ports.split_once(':') {
        Some((host, guest)) => (host, guest),
        None if address.is_some() && range(ports).is_some() => {
            let hint = format!("name the port of the node too, as in \"{rest}:{ports}\"");
            return Err(refusal().hint(hint));
        }
        None => (ports, ports),
    };
    // Docker's way to say "all addresses" is ours of saying nothing.
    let address = address.map(self::address).transpose()?.filter(|address| !address.is_unspecified());
    let numbers = |part: &str| match range(part) {
        Some(range) => Ok(range),
        None if part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') && !part.is_empty() => {
            Err(refusal().hint(RANGE))
        }
        None => Err(refusal().hint(example)),
    };
    let ((host_port, host_last), (guest_port, guest_last)) = (numbers(host)?, numbers(guest)?);
    let count = host_last - host_port;
    if count != guest_last - guest_port {
        return Err(
            refusal().hint("both ranges have the same number of ports, as in \"9000-9010:9000-9010\"")
        );
    }
    if host_port != guest_port && count >= SHIFTED_PORTS_MAX {
        let hint = format!("a range longer than {SHIFTED_PORTS_MAX} has the same numbers on both sides");
        return Err(refusal().hint(hint));
    }
    let count = count.checked_add(1).expect("ports begin with 1, so fewer than 65536 are in any range");
    Ok(Publish { address, host_port, guest_port, count, transport })
}

/// The address in front of the ports, if one is there; brackets around an address of IPv6.
fn split_address(text: &str) -> Option<(Option<&str>, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        return Some((Some(address), after.strip_prefix(':')?));
    }
    match text.matches(':').count() {
        0 => Some((None, text)),
        // An address with one port behind it.
        1 => {
            let (first, second) = text.split_once(':')?;
            let is_address = first.parse::<IpAddr>().is_ok();
            Some(if is_address { (Some(first), second) } else { (None, text) })
        }
        2 => {
            let (address, ports) = text.split_once(':')?;
            Some((Some(address), ports))
        }
        _ => None,
    }
}

/// An address of the node; `0.0.0.0` and `::` mean all of them.
fn address(text: &str) -> Result<IpAddr, Refusal> {
    let refusal = || Refusal::new(format!("{} is not an address", quoted(text)));
    let address: IpAddr = text.parse().map_err(|_| {
        refusal().hint("name an address of the node, such as 127.0.0.1, or none for all of them")
    })?;
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_multicast() || is_broadcast {
        return Err(Refusal::new(format!("{} is no address of a node", quoted(text))));
    }
    Ok(address)
}

/// What stands before the transport, and the transport; TCP where none is named.
fn transport(text: &str) -> Option<(&str, Transport)> {
    match text.split_once('/') {
        None => Some((text, Transport::Tcp)),
        Some((rest, name)) if name.eq_ignore_ascii_case("tcp") => Some((rest, Transport::Tcp)),
        Some((rest, name)) if name.eq_ignore_ascii_case("udp") => Some((rest, Transport::Udp)),
        Some(_) => None,
    }
}

/// First and last port.
pub(super) fn range(text: &str) -> Option<(u16, u16)> {
    match text.split_once('-') {
        None => port_number(text).map(|number| (number, number)),
        Some((first, last)) => {
            let (first, last) = (port_number(first)?, port_number(last)?);
            (first <= last).then_some((first, last))
        }
    }
}

pub(super) fn port_number(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().filter(|number| *number != 0)
}
