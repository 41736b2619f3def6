//! Ports of a service: `ports` and `expose`, short and long.
//!
//! Owns their grammar. A range stays a range. Must not judge whether a port is free.

use std::net::IpAddr;

use lith_core::job::Transport;
use lith_core::value::quoted;

use super::tree::Value;
use crate::compose::project::{ExposedPort, PublishedPort};
use crate::diagnostic::Code;
use crate::value::Refusal;

const EXAMPLE: &str = "write it as in `8080:80`, `127.0.0.1:8080:80` or `53:53/udp`";

fn refuse(message: String) -> Refusal {
    Refusal::new(Code::BadPublish, message).hint(EXAMPLE)
}

/// `[[address:]published:]target[/protocol]`.
pub(super) fn short(text: &str) -> Result<PublishedPort, Refusal> {
    let (before, last) = text.rsplit_once(':').map_or((None, text), |(before, last)| (Some(before), last));
    let (address, published) = match before.map(|before| before.rsplit_once(':')) {
        None => (None, None),
        Some(None) => (None, before),
        Some(Some((address, published))) => (Some(address), Some(published)),
    };
    let (target, protocol) = last.split_once('/').unwrap_or((last, ""));
    if target.is_empty() {
        return Err(refuse(format!("{} publishes no port", quoted(text))));
    }
    let transport = transport(protocol)?;
    let target = range(target)?;
    let published = published.filter(|text| !text.is_empty()).map(range).transpose()?;
    if let Some((first, last)) = published
        && last - first != target.1 - target.0
        && target.0 != target.1
    {
        return Err(refuse(format!("the two ranges of {} are not of the same length", quoted(text))));
    }
    let address = address.filter(|text| !text.is_empty()).map(self::address).transpose()?;
    Ok(PublishedPort { address, published: published.filter(|ports| *ports != (0, 0)), target, transport })
}

/// A mapping of `target`, `published`, `host_ip` and `protocol`.
pub(super) fn long(value: &Value) -> Result<PublishedPort, Refusal> {
    let field = |key: &str| value.get(key).and_then(Value::text).filter(|text| !text.is_empty());
    let target = field("target").map(range).transpose()?;
    let target = target.ok_or_else(|| refuse(String::from("a port has no `target`")))?;
    let published = field("published").map(range).transpose()?.filter(|ports| *ports != (0, 0));
    let transport = transport(field("protocol").unwrap_or_default())?;
    let address = field("host_ip").map(address).transpose()?;
    Ok(PublishedPort { address, published, target, transport })
}

/// A port or a range of them, of `expose`.
pub(super) fn exposed(text: &str) -> Result<ExposedPort, Refusal> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, ""));
    Ok(ExposedPort { range: range(ports)?, transport: transport(protocol)? })
}

fn address(text: &str) -> Result<String, Refusal> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(_) => Ok(bare.to_owned()),
        Err(_) => Err(refuse(format!("{} is not an address of a host", quoted(text)))),
    }
}

fn transport(text: &str) -> Result<Transport, Refusal> {
    match text.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok(Transport::Tcp),
        "udp" => Ok(Transport::Udp),
        "sctp" => Err(Refusal::new(Code::BadPublish, "lith publishes no SCTP").hint("publish TCP or UDP")),
        _ => Err(Refusal::new(Code::BadPublish, format!("{} is not a protocol of ports", quoted(text)))
            .hint("write `tcp` or `udp`")),
    }
}

/// `80` or `80-90`.
fn range(text: &str) -> Result<(u16, u16), Refusal> {
    let refusal = || {
        Refusal::new(Code::BadPort, format!("{} is not a port or a range of them", quoted(text)))
            .hint("ports are numbers up to 65535; a range is written `8000-8010`")
    };
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<u16>().ok()).flatten().ok_or_else(refusal)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last { Err(refusal()) } else { Ok((first, last)) }
}
