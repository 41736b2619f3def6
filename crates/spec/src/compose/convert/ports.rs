//! Ports: what a task listens on, and what of it is offered on the node.
//!
//! Owns `ports` and `expose`, in either kind of network, and published ports that exclude each other.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use lith_core::job::{PORTS_MAX, Port, Publish, TaskSpec, Transport};
use lith_core::name::TaskName;
use lith_core::value::{self as shared};

use super::{Work, group};
use crate::compose::project::{PublishedPort, Service};
use crate::diagnostic::Code;
use crate::document::Span;
use crate::read::collision::Published;

/// Ports below it are those of services that a node may have itself.
const UNPRIVILEGED_MIN: u16 = 1024;

/// Reads the ports of a service.
pub(super) fn ports(service: &Service, name: &TaskName, task: &mut TaskSpec, work: &mut Work<'_>) {
    for exposed in &service.expose {
        listens(exposed.value.range, exposed.value.transport, exposed.span, task, work);
    }
    for port in &service.ports {
        if listens(port.value.target, port.value.transport, port.span, task, work) {
            let published = publish(&port.value, port.span, name, work);
            task.publish.extend(published);
        }
    }
    task.ports.sort();
    task.ports.dedup();
    task.publish.sort();
    task.publish.dedup();
    for (key, count) in [("expose", task.ports.len()), ("ports", task.publish.len())] {
        if count > PORTS_MAX {
            let message = format!("`{key}` holds {count} ports; the limit is {PORTS_MAX}");
            work.reporter.error(
                Code::TooMany,
                service.name.span,
                message,
                "write ports that follow one another as a range",
            );
        }
    }
    // What is beyond is refused: the checks that follow need not see it.
    task.ports.truncate(PORTS_MAX);
    task.publish.truncate(PORTS_MAX);
}

/// Adds ports that a task listens on; `false` when they are none.
fn listens(
    (number, last): (u16, u16),
    transport: Transport,
    span: Span,
    task: &mut TaskSpec,
    work: &mut Work<'_>,
) -> bool {
    if number == 0 {
        work.reporter.error(Code::BadPort, span, "`0` is not a port", "ports are 1 to 65535");
        return false;
    }
    task.ports.push(Port { number, last, transport });
    true
}

/// What an entry of `ports` offers on the node; nothing when it leaves that to Docker and no port suggests itself.
fn publish(port: &PublishedPort, span: Span, name: &TaskName, work: &mut Work<'_>) -> Option<Publish> {
    let (first, last) = port.target;
    let range = |(first, last): (u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let (host_first, host_last) = match port.published {
        Some(published) => published,
        None if first >= UNPRIVILEGED_MIN => {
            let message = format!(
                "Docker chooses a port of the node for {}; here it has the same number",
                range(port.target)
            );
            let hint = format!("write the port of the node in front, such as \"{first}:{first}\"");
            work.reporter.remark(Code::Decided, span, message, hint);
            work.decide(name, "publish", format!("Docker chooses a port for {}", range(port.target)));
            port.target
        }
        None => {
            let message =
                format!("port {} is not published, for no port of the node is named", range(port.target));
            let hint =
                format!("write the port of the node in front, such as \"{}:{first}\"", 8000 + first % 1000);
            work.reporter.warning(Code::Decided, span, message, hint);
            return None;
        }
    };
    let (wanted, offered) = (last - first, host_last - host_first);
    // Docker takes any free port of a range that stands before one port.
    let host_last = if wanted == 0 && offered > 0 {
        work.decide(name, "publish", format!("the first of {}", range((host_first, host_last))));
        host_first
    } else {
        host_last
    };
    let address = match &port.address {
        Some(address) if address.trim_matches(['[', ']']).parse() == Ok(Ipv6Addr::LOCALHOST) => {
            work.decide(
                name,
                "publish",
                "127.0.0.1 instead of [::1], from where nothing is passed on to a task",
            );
            format!("{}:", Ipv4Addr::LOCALHOST)
        }
        Some(address) if address.contains(':') => format!("[{}]:", address.trim_matches(['[', ']'])),
        Some(address) => format!("{address}:"),
        None => String::new(),
    };
    let transport = match port.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let text = format!("{address}{}:{}/{transport}", range((host_first, host_last)), range(port.target));
    work.accept(Code::BadPublish, span, shared::port::publish(&text))
}

/// Refuses ports of the node that two tasks want.
pub(super) fn collisions(tasks: &BTreeMap<TaskName, TaskSpec>, work: &mut Work<'_>) {
    let mut published = Published::default();
    for service in &work.project.services {
        let Some((name, task)) =
            work.names.task(&service.name.value).and_then(|name| tasks.get_key_value(name))
        else {
            continue;
        };
        let span = service.ports.first().map_or(service.name.span, |port| port.span);
        let count = group::count(service);
        if let (Some(publish), 2..) = (task.publish.first(), count) {
            let message =
                format!("port {} of the node is wanted by each of {count} instances", publish.host_port);
            let hint = "list the port under `expose`, and publish that of a proxy in front";
            work.reporter.error(Code::PortCollision, span, message, hint);
            continue;
        }
        for publish in &task.publish {
            published.add(name.as_str(), 1, *publish, place(service, publish, span), work.reporter);
        }
    }
}

/// Where the file says so.
fn place(service: &Service, publish: &Publish, default: Span) -> Span {
    let is_it = |port: &PublishedPort| {
        port.target.0 == publish.guest_port
            && port.transport == publish.transport
            && port.published.is_none_or(|(first, _)| first == publish.host_port)
    };
    service.ports.iter().find(|port| is_it(&port.value)).map_or(default, |port| port.span)
}
