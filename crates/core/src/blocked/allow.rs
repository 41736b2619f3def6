//! The line of a job file that would allow what was refused, and never more than that.
//!
//! Pure. Must not know whether anybody should allow it: that is a person's to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::{Attempt, NameRefusal, Names, Protocol};
use crate::capability::impossible_egress;
use crate::egress::{Range, holds, is_public};
use crate::job::access::{Connect, ConnectPorts, Egress};
use crate::job::{Port, Publish, Transport};
use crate::name::{JobName, TaskId, TaskName};
use crate::resolve::ZONE;
use crate::service::ServiceKey;
use crate::time::Time;

/// The port of an outside name that was never reached, so that nobody knows better: that of HTTPS.
const PORT_UNKNOWN: u16 = 443;

/// What a node knows of the cluster and of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Tasks of the cluster with the ports that they declare.
    pub tasks: BTreeMap<ServiceKey, Vec<Port>>,
    /// Addresses that stand for a task: those of its instances, and its virtual ones.
    pub addresses: BTreeMap<IpAddr, ServiceKey>,
    /// Ranges that tasks alone have addresses of.
    pub ranges: Vec<Range<IpAddr>>,
    /// Addresses of the node itself, its end of tasks' cables among them.
    pub own: BTreeSet<IpAddr>,
    /// What tasks publish on the node.
    pub published: Vec<Publish>,
}

/// What would allow an attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allow {
    /// An entry of `connects`.
    Connect {
        /// The entry.
        connect: Connect,
        /// The port that the target, of the same job, has to declare for it.
        undeclared: Option<Port>,
    },
    /// An entry of `egress`.
    Egress(Egress),
    /// Something that a person has to find out first.
    ByHand(&'static str),
    /// Nothing would, and why.
    Never(&'static str),
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { connect, undeclared } => {
                write!(f, "connects: [ {} ]", quoted(&connect.to_string()))?;
                match undeclared {
                    Some(port) => write!(f, ", and ports: [ {port} ] of \"{}\"", connect.task),
                    None => Ok(()),
                }
            }
            Self::Egress(entry) => write!(f, "egress: [ {} ]", quoted(&entry.to_string())),
            Self::ByHand(what) => f.write_str(what),
            Self::Never(why) => write!(f, "nothing: {why}"),
        }
    }
}

/// In quotes where YAML could take it for something else.
fn quoted(entry: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || ['-', '.', '/', ':'].contains(&letter);
    let begins_plainly = entry.starts_with(|first: char| first.is_ascii_lowercase());
    if begins_plainly && entry.chars().all(is_plain) { entry.to_owned() } else { format!("\"{entry}\"") }
}

/// What would allow the attempt of a task.
#[must_use]
pub fn allow(client: &TaskId, attempt: &Attempt, view: &View, names: &Names, now: Time) -> Allow {
    match attempt {
        Attempt::Name { name, refusal } => name_allowed(client, name, *refusal, view),
        Attempt::Flow { address, port: Some(port), protocol: Protocol::Ported(transport) } => {
            let port = Port::one(*port, *transport);
            flow_allowed(client, *address, port, view, names.of(*address, now))
        }
        Attempt::Flow { address, .. } if view.addresses.contains_key(address) => {
            Allow::Never("tasks reach each other by TCP and UDP alone")
        }
        Attempt::Flow { .. } => Allow::Never(
            "outside, TCP and UDP are passed alone, and ping where `egress` has the address without a port",
        ),
    }
}

fn flow_allowed(client: &TaskId, address: IpAddr, port: Port, view: &View, name: Option<&str>) -> Allow {
    let entry =
        Egress::Network { address, prefix: if address.is_ipv4() { 32 } else { 128 }, port: Some(port) };
    if let Some(target) = view.addresses.get(&address) {
        return connect(client, target, Some(port), view);
    }
    if view.ranges.iter().any(|range| holds(*range, address)) {
        return Allow::Never("no task has this address");
    }
    if view.own.contains(&address) {
        let is_published =
            view.published.iter().any(|publish| is_at(publish, address, port.number, port.transport));
        return if is_published {
            Allow::Egress(entry)
        } else {
            Allow::Never("the node's own ports are closed to tasks, but those that tasks publish")
        };
    }
    if address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Allow::Never("broadcasts do not leave a task");
    }
    if impossible_egress(&entry).is_some() {
        return Allow::Never(why_unreachable(address));
    }
    match name {
        Some(name) if is_public(address) && name.contains('.') => {
            Allow::Egress(Egress::Name { name: name.to_owned(), port: Some(port) })
        }
        _ => Allow::Egress(entry),
    }
}

fn why_unreachable(address: IpAddr) -> &'static str {
    if address.is_multicast() {
        "multicast does not leave a task"
    } else if address.is_loopback() {
        "loopback is the task itself"
    } else if address.is_unspecified() {
        "it is the address of nobody"
    } else if address == IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)) {
        "metadata of a cloud's machine is closed to every task"
    } else {
        "no task can reach this address"
    }
}

/// Whether a publish offers a port at an address of the node.
fn is_at(publish: &Publish, address: IpAddr, number: u16, transport: Transport) -> bool {
    publish.address.is_none_or(|published| published == address)
        && publish.transport == transport
        && (publish.host_port..=publish.host_last()).contains(&number)
}

fn connect(client: &TaskId, (job, task): &ServiceKey, port: Option<Port>, view: &View) -> Allow {
    let is_own = *job == client.alloc.job;
    let declared = view.tasks.get(&(job.clone(), task.clone())).map_or(&[][..], Vec::as_slice);
    let is_declared =
        |port: &Port| declared.iter().any(|declared| declared.holds(port.number, port.transport));
    if port.is_none() && is_own && declared.is_empty() {
        return Allow::ByHand("`ports` of that task, and `connects` with it");
    }
    Allow::Connect {
        connect: Connect {
            job: (!is_own).then(|| job.clone()),
            task: task.clone(),
            ports: port.map_or(ConnectPorts::Declared, ConnectPorts::One),
            alias: None,
        },
        undeclared: port.filter(|port| is_own && !is_declared(port)),
    }
}

fn name_allowed(client: &TaskId, name: &str, refusal: NameRefusal, view: &View) -> Allow {
    match refusal {
        NameRefusal::Kind => return Allow::Never("questions for everything at once are not answered"),
        NameRefusal::TooManyAddresses => {
            return Allow::Never("more addresses are open to the task than it may have");
        }
        NameRefusal::TooManyQuestions => {
            return Allow::Never("the task asks for more names than are answered");
        }
        NameRefusal::PrivateAddress => {
            return Allow::ByHand("egress with the private address that it leads to, and its port");
        }
        NameRefusal::NotDeclared | NameRefusal::NotPublic => {}
    }
    let name = bare(client, name);
    let in_cluster = name.strip_suffix(ZONE).and_then(|rest| rest.strip_suffix('.'));
    if let Some(target) = task_of(client, in_cluster.unwrap_or(name), view) {
        return connect(client, &target, None, view);
    }
    if name.ends_with(".arpa") && !name.ends_with(".home.arpa") {
        return Allow::Never("whose address it is is told of what the task may reach");
    }
    if !name.contains('.') || name == ZONE || in_cluster.is_some() {
        return Allow::Never("no task has this name");
    }
    let port = Some(Port::one(PORT_UNKNOWN, Transport::Tcp));
    let entry = Egress::Name { name: name.to_owned(), port };
    // What a job file would not take, such as a name with other letters, is no line of one.
    match crate::value::access::egress(&entry.to_string()) {
        Ok(_) => Allow::Egress(entry),
        Err(_) => Allow::Never("no host has such a name"),
    }
}

/// The name as the task's program said it, without the search domain that its resolver tries behind it.
#[must_use]
pub fn bare<'a>(client: &TaskId, name: &'a str) -> &'a str {
    let domain = format!(".{}.{ZONE}", client.alloc.job);
    name.strip_suffix(domain.as_str()).unwrap_or(name)
}

/// The task that a name can only stand for.
fn task_of(client: &TaskId, name: &str, view: &View) -> Option<ServiceKey> {
    let has = |job: &str, task: &str| -> Option<ServiceKey> {
        let key = (job.parse().ok()?, task.parse().ok()?);
        view.tasks.contains_key(&key).then_some(key)
    };
    if let Some((task, job)) = name.split_once('.') {
        return has(job, task);
    }
    let own = has(client.alloc.job.as_str(), name);
    let only = |fits: &dyn Fn(&JobName, &TaskName) -> bool| {
        let mut found = view.tasks.keys().filter(|(job, task)| fits(job, task));
        let first = found.next()?;
        found.next().is_none().then(|| first.clone())
    };
    // A program that says the name of a job means its only task.
    own.or_else(|| only(&|_, task| task.as_str() == name)).or_else(|| only(&|job, _| job.as_str() == name))
}
