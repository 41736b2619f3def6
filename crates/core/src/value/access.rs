//! What a task may reach, and the names it is offered under: entries of `connects`, `egress`, `expose` and `hosts`.

use std::net::IpAddr;

use super::port::{self, port_number};
use super::{Refusal, quoted};
use crate::job::access::{Connect, ConnectPorts, Egress, Expose};
use crate::name::NameError;

/// Longest host name (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// `redis`, `db:5432`, `db:53/udp`, `db:*`, `postgres/db:5432`, `api as backend`.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn connect(text: &str) -> Result<Connect, Refusal> {
    let refusal = || Refusal::new(format!("{} names no task to connect to", quoted(text)));
    let example =
        "write a task of this job, or JOB/TASK, such as `redis`, `db:5432` or `postgres/db:5432 as db`";
    let (target, alias) = match text.split_once(" as ") {
        Some((target, alias)) => (target.trim_end(), Some(alias.trim_start())),
        None => (text, None),
    };
    if let Some(alias) = alias {
        host_name(alias).map_err(|why| Refusal { hint: why.hint, ..refusal() })?;
    }
    let (place, ports) = match target.split_once(':') {
        None => (target, ConnectPorts::Declared),
        Some((place, "*")) => (place, ConnectPorts::Any),
        Some((place, ports)) => (place, ConnectPorts::One(port::port(ports)?)),
    };
    let (job, task) = match place.split_once('/') {
        Some((job, task)) => (Some(job), task),
        None => (None, place),
    };
    let no_name = |_: NameError| refusal().hint(example);
    Ok(Connect {
        job: job.map(str::parse).transpose().map_err(no_name)?,
        task: task.parse().map_err(no_name)?,
        ports,
        alias: alias.map(str::to_owned),
    })
}

/// `internet`, `api.github.com:443`, `*.ntfy.sh:443`, `192.168.1.20:631`, `10.0.0.0/24`, `[2001:db8::1]:443`.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn egress(text: &str) -> Result<Egress, Refusal> {
    let refusal = || Refusal::new(format!("{} names nothing that a task could reach", quoted(text)));
    if text == "internet" {
        return Ok(Egress::Internet);
    }
    let example = "write `internet`, or a host with its port such as `api.example.com:443`, or an address such as \
                   `192.168.1.20:631` or `10.0.0.0/24`";
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split('/').next().unwrap_or(rest);
        let hint = match scheme {
            "https" => format!("write `{host}:443`"),
            "http" => format!("write `{host}:80`"),
            _ => example.to_owned(),
        };
        return Err(refusal().hint(hint));
    }
    let (host, port) = split_port(text).ok_or_else(|| refusal().hint(example))?;
    let port = port.map(port::port).transpose()?;
    if let Some((address, prefix)) = network(host) {
        let first = masked(address, prefix);
        if first != address {
            let hint = format!("the first address of this network is {first}: write `{first}/{prefix}`");
            return Err(refusal().hint(hint));
        }
        return Ok(Egress::Network { address, prefix, port });
    }
    let name = host.to_ascii_lowercase();
    if host_name(name.strip_prefix("*.").unwrap_or(&name)).is_err() || !name.contains('.') {
        return Err(refusal().hint(example));
    }
    Ok(Egress::Name { name, port })
}

/// Host and port; brackets around an address of IPv6.
fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => after.is_empty().then_some((host, None)),
        };
    }
    if text.matches(':').count() > 1 {
        return Some((text, None));
    }
    Some(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

/// An address with the length of its prefix.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => whole,
        Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= whole)?,
    };
    Some((address, prefix))
}

/// The first address of the network that this one is in.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    let rest = |whole: u32| whole.checked_sub(prefix).expect("a prefix is no longer than its address");
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(rest(32)).unwrap_or(0);
            IpAddr::from((u32::from(address) & mask).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(rest(128)).unwrap_or(0);
            IpAddr::from((u128::from(address) & mask).to_be_bytes())
        }
    }
}

/// `photos.example.org:8080`.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn expose(text: &str) -> Result<Expose, Refusal> {
    let refusal = || Refusal::new(format!("{} exposes nothing", quoted(text)));
    let example =
        "write the host name and the port of the task that answers, such as `photos.example.org:8080`";
    let host_and_port = text.rsplit_once(':').and_then(|(host, port)| Some((host, port_number(port)?)));
    let (host, port) = host_and_port.ok_or_else(|| refusal().hint(example))?;
    let host = host.to_ascii_lowercase();
    host_name(&host).map_err(|_| refusal().hint(example))?;
    Ok(Expose { host, port })
}

/// A host name: labels joined by dots. `_` passes, for people name services so and Docker's resolver answers.
///
/// # Errors
/// What is wrong with it.
pub fn host_name(text: &str) -> Result<String, Refusal> {
    let refusal = || Refusal::new(format!("{} is not a host name", quoted(text)));
    let example = "host names hold letters, digits, `-`, `_` and `.`, such as `db` or `mail.example.org`";
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let inside = bytes.iter().all(|&byte| is_word(byte) || byte == b'-');
        let ends = bytes.first().is_some_and(|&byte| is_word(byte))
            && bytes.last().is_some_and(|&byte| is_word(byte));
        inside && ends && bytes.len() <= crate::name::NAME_BYTES_MAX
    };
    if text.len() > HOST_BYTES_MAX || !text.split('.').all(is_label) {
        return Err(refusal().hint(example));
    }
    Ok(text.to_owned())
}
