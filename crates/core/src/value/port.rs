//! Ports and published ports: `8080`, `53/udp`, `"8080:80"`, `"127.0.0.1:5353:53/udp"`.

use std::net::Ipv4Addr;

use super::{Refusal, quoted};
use crate::job::{Port, Publish, Transport};

/// A port that a task listens on.
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
    let (number, transport) =
        transport(text).ok_or_else(|| refusal().hint("write `/tcp` or `/udp` after the port"))?;
    if number.contains('-') {
        return Err(refusal().hint("ranges are not supported yet; list each port"));
    }
    let number = port_number(number).ok_or_else(|| refusal().hint("ports are 1 to 65535"))?;
    Ok(Port { number, transport })
}

/// A port offered on the node; one number alone means the same port on both sides.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn publish(text: &str) -> Result<Publish, Refusal> {
    let refusal = || Refusal::new(format!("{} does not publish a port", quoted(text)));
    let example = "write \"NODE:TASK\", such as \"8080:80\", \"127.0.0.1:8080:80\" or \"5353:53/udp\"";
    if text.contains('[') || text.matches(':').count() > 2 {
        return Err(refusal().hint("addresses are IPv4 in this version"));
    }
    let (rest, transport) =
        transport(text).ok_or_else(|| refusal().hint("write `/tcp` or `/udp` after the ports"))?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (address, host_port, guest_port) = match parts.as_slice() {
        [port] => (None, *port, *port),
        [address, port] if self::address(address).is_ok() && port_number(port).is_some() => {
            let hint = format!("name the port of the node too, as in \"{address}:{port}:{port}\"");
            return Err(refusal().hint(hint));
        }
        [host_port, guest_port] => (None, *host_port, *guest_port),
        [address, host_port, guest_port] => (Some(*address), *host_port, *guest_port),
        _ => return Err(refusal().hint(example)),
    };
    if host_port.contains('-') || guest_port.contains('-') {
        return Err(refusal().hint("ranges are not supported yet; list each port"));
    }
    // Docker's way to say "all addresses" is ours of saying nothing.
    let address = address.map(self::address).transpose()?.filter(|address| !address.is_unspecified());
    let number = |part: &str| match port_number(part) {
        Some(number) => Ok(number),
        None if part.is_empty() => Err(refusal().hint(example)),
        None => {
            let hint =
                if part.bytes().all(|byte| byte.is_ascii_digit()) { "ports are 1 to 65535" } else { example };
            Err(refusal().hint(hint))
        }
    };
    let (host_port, guest_port) = (number(host_port)?, number(guest_port)?);
    Ok(Publish { address, host_port, guest_port, transport })
}

/// An address of the node; `0.0.0.0` means all of them.
fn address(text: &str) -> Result<Ipv4Addr, Refusal> {
    let refusal = || Refusal::new(format!("{} is not an IPv4 address", quoted(text)));
    let address: Ipv4Addr = text.parse().map_err(|_| {
        refusal().hint("name an address of the node, such as 127.0.0.1, or none for all of them")
    })?;
    if address.is_multicast() || address.is_broadcast() {
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

fn port_number(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten().filter(|number| *number != 0)
}
