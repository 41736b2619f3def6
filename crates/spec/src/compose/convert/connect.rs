//! Connections: which task may reach which, on which ports, by which names; and what may reach the internet.
//!
//! Owns the meaning of Compose's networks. `depends_on` and `links` alone would miss a quarter of what services use, so
//! every pair on a common network may connect, and what speaks for a connection is told beside it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lith_core::job::access::{Connect, ConnectPorts, ENTRIES_MAX, Egress};
use lith_core::job::{PORTS_MAX, Port, TaskSpec, Transport};
use lith_core::name::TaskName;
use lith_core::value::{access, quoted};

use super::Work;
use super::evidence::{self, Evidence, Use, UsesOf};
use crate::compose::project::{Project, Service};
use crate::diagnostic::Code;

/// Name of the network of services that name none.
const DEFAULT_NETWORK: &str = "default";

/// A right to connect, as it is listed for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) from: TaskName,
    pub(crate) to: TaskName,
    /// The ports of the target; every one when empty.
    pub(crate) ports: Vec<Port>,
    /// What speaks for it; nothing but the common network when empty.
    pub(crate) evidence: Vec<Evidence>,
}

/// A pair of services that may connect.
struct Pair<'a> {
    from: &'a Service,
    to: &'a Service,
    /// Names of the target that `from` may use, beside that of its task.
    names: Vec<String>,
    found: Use,
}

/// Lets the tasks connect; the list of it, in order of names.
pub(super) fn connect(tasks: &mut BTreeMap<TaskName, TaskSpec>, work: &mut Work<'_>) -> Vec<Connection> {
    egress(tasks, work);
    let project = work.project;
    let known = known_names(project, work);
    let uses: UsesOf<'_> = project
        .services
        .iter()
        .map(|service| (service.name.value.as_str(), evidence::uses(service, &known)))
        .collect();
    let all = pairs(project, &uses, work);
    let offered = all.len();
    let is_narrow = work.options.narrow;
    let kept: Vec<Pair<'_>> =
        all.into_iter().filter(|pair| !is_narrow || !pair.found.evidence.is_empty()).collect();
    let declaring = declare_used(&kept, tasks, work);
    let mut connections: Vec<Connection> =
        kept.iter().filter_map(|pair| connection(pair, &declaring, tasks, work)).collect();
    connections.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    limit(tasks, work);
    if offered > 0 {
        let evident = connections.iter().filter(|connection| !connection.evidence.is_empty()).count();
        work.decide_job(if is_narrow {
            format!("Compose allows {offered} connections; the {evident} that something speaks for are kept")
        } else {
            format!("Compose allows these {offered} connections; something speaks for {evident} of them (`--narrow` keeps only those)")
        });
    }
    connections
}

/// Who may reach the internet: services on a network that is not internal.
fn egress(tasks: &mut BTreeMap<TaskName, TaskSpec>, work: &mut Work<'_>) {
    let project = work.project;
    for service in &project.services {
        let mode =
            service.network_mode.as_ref().map(|mode| mode.value.as_str()).filter(|mode| !mode.is_empty());
        let may_leave = match mode {
            Some("none") => false,
            Some(_) => true,
            None => networks(service)
                .iter()
                .any(|name| project.networks.get(*name).is_none_or(|network| !network.is_internal)),
        };
        let Some(name) = work.names.task(&service.name.value) else { continue };
        if let Some(task) = tasks.get_mut(name).filter(|_| may_leave) {
            task.egress.push(Egress::Internet);
            work.notes.internet.add(name.as_str(), service.name.span);
        }
    }
}

/// Networks on which a service finds others by name.
fn networks(service: &Service) -> BTreeSet<&str> {
    let mode = service.network_mode.as_ref().map(|mode| mode.value.as_str()).unwrap_or_default();
    match mode {
        "" if service.networks.is_empty() => BTreeSet::from([DEFAULT_NETWORK]),
        "" => service.networks.keys().map(String::as_str).collect(),
        // What a service on the node's network reaches as `localhost`, it must be able to reach by name.
        "host" => BTreeSet::from([DEFAULT_NETWORK]),
        // Docker's own network, where only links give names.
        "none" | "bridge" | "default" => BTreeSet::new(),
        other if other.starts_with("service:") || other.starts_with("container:") => BTreeSet::new(),
        other => BTreeSet::from([other]),
    }
}

/// Every name by which a service of the project may be called, in lower case.
fn known_names(project: &Project, work: &Work<'_>) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for service in &project.services {
        known.extend(own_names(service).into_iter().map(|name| name.to_lowercase()));
        known.extend(work.names.task(&service.name.value).map(ToString::to_string));
        let aliases = service.networks.values().flat_map(|attachment| &attachment.value.aliases);
        known.extend(aliases.map(|alias| alias.to_lowercase()));
        known.extend(service.links.iter().map(|link| link.value.1.to_lowercase()));
    }
    known
}

/// Names that a service has on each of its networks.
fn own_names(service: &Service) -> Vec<&str> {
    let further = [&service.container_name, &service.hostname];
    std::iter::once(service.name.value.as_str())
        .chain(further.into_iter().flatten().map(|name| name.value.as_str()))
        .filter(|name| !name.is_empty())
        .collect()
}

/// Every pair that a network or a link joins, with the names of the target.
fn pairs<'a>(project: &'a Project, uses: &UsesOf<'a>, work: &mut Work<'a>) -> Vec<Pair<'a>> {
    // A service's own name is that service, whatever others call themselves.
    let owners: HashMap<String, &str> = project
        .services
        .iter()
        .flat_map(|service| {
            let task = work.names.task(&service.name.value).map(ToString::to_string);
            std::iter::once(service.name.value.to_lowercase())
                .chain(task)
                .map(|name| (name, service.name.value.as_str()))
        })
        .collect();
    let on: Vec<BTreeSet<&str>> = project.services.iter().map(networks).collect();
    let nothing = HashMap::new();
    let mut pairs = Vec::new();
    for (from, from_on) in project.services.iter().zip(&on) {
        let found = uses.get(from.name.value.as_str()).unwrap_or(&nothing);
        let mut taken: HashMap<String, &str> = HashMap::new();
        for (to, to_on) in project.services.iter().zip(&on) {
            let common: Vec<&str> = from_on.intersection(to_on).copied().collect();
            let links: Vec<&str> = links(from, to);
            if from.name.value == to.name.value || (common.is_empty() && links.is_empty()) {
                continue;
            }
            let mut names: Vec<String> = Vec::new();
            let mut seen: BTreeSet<String> = BTreeSet::new();
            for name in own_names(to).into_iter().chain(aliases(to, &common)).chain(links) {
                let lower = name.to_lowercase();
                let owner = owners.get(&lower).or_else(|| taken.get(&lower)).copied();
                if owner.is_some_and(|owner| owner != to.name.value) {
                    ambiguous(name, to, work);
                } else if names.len() <= ENTRIES_MAX && seen.insert(lower.clone()) {
                    taken.insert(lower, &to.name.value);
                    names.push(name.to_owned());
                }
            }
            let called = work.names.task(&to.name.value).map(ToString::to_string);
            let all: Vec<String> = names.iter().cloned().chain(called).collect();
            let found = evidence::merge(from, to, &all, found);
            pairs.push(Pair { from, to, names, found });
        }
    }
    pairs
}

/// Names that a service gives another one for itself.
fn links<'a>(from: &'a Service, to: &Service) -> Vec<&'a str> {
    let to_it = from.links.iter().filter(|link| link.value.0 == to.name.value);
    to_it.map(|link| link.value.1.as_str()).filter(|name| !name.is_empty()).collect()
}

/// Names of a service on the networks that both are on.
fn aliases<'a>(to: &'a Service, common: &[&str]) -> Vec<&'a str> {
    let attached = common.iter().filter_map(|network| to.networks.get(*network));
    attached
        .flat_map(|attachment| &attachment.value.aliases)
        .map(String::as_str)
        .filter(|name| !name.is_empty())
        .collect()
}

fn ambiguous(name: &str, service: &Service, work: &mut Work<'_>) {
    let message = format!("{} is also the name of another service, which keeps it", quoted(name));
    work.reporter.warning(Code::Decided, service.name.span, message, "give one of them another name");
}

/// Ports by which targets are called are ports that they have, as those that they list are; the targets that list some.
fn declare_used(
    pairs: &[Pair<'_>],
    tasks: &mut BTreeMap<TaskName, TaskSpec>,
    work: &Work<'_>,
) -> BTreeSet<TaskName> {
    let listing =
        tasks.iter().filter(|(_, task)| !task.ports.is_empty()).map(|(name, _)| name.clone()).collect();
    for pair in pairs {
        let Some(task) = work.names.task(&pair.to.name.value).and_then(|name| tasks.get_mut(name)) else {
            continue;
        };
        for &number in &pair.found.ports {
            let is_known = task.ports.iter().any(|port| port.holds(number, Transport::Tcp));
            if !is_known && task.ports.len() < PORTS_MAX {
                task.ports.push(Port::one(number, Transport::Tcp));
            }
        }
        task.ports.sort();
    }
    listing
}

/// Gives one task the right to reach another.
fn connection(
    pair: &Pair<'_>,
    listing: &BTreeSet<TaskName>,
    tasks: &mut BTreeMap<TaskName, TaskSpec>,
    work: &mut Work<'_>,
) -> Option<Connection> {
    let from = work.names.task(&pair.from.name.value)?.clone();
    let to = work.names.task(&pair.to.name.value)?.clone();
    let known = tasks.get(&to)?.ports.clone();
    // Who calls a target without a port means one that nothing else may tell.
    let is_open = known.is_empty() || (pair.found.is_bare && !listing.contains(&to));
    let ports = if is_open { ConnectPorts::Any } else { ConnectPorts::Declared };
    let further = pair.names.iter().filter(|name| !name.eq_ignore_ascii_case(to.as_str()));
    let further = further.filter(|name| access::host_name(name).is_ok()).cloned().map(Some);
    let task = tasks.get_mut(&from)?;
    for alias in std::iter::once(None).chain(further) {
        task.connects.push(Connect { job: None, task: to.clone(), ports: ports.clone(), alias });
    }
    task.connects.sort();
    let evidence: Vec<Evidence> = pair.found.evidence.iter().cloned().collect();
    if !evidence.is_empty() {
        let words: Vec<String> = evidence.iter().map(ToString::to_string).collect();
        work.decide(&from, "connects", format!("{to}: {}", words.join(", ")));
    }
    Some(Connection { from, to, ports: if is_open { Vec::new() } else { known }, evidence })
}

/// Refuses more rights than a task may have.
fn limit(tasks: &BTreeMap<TaskName, TaskSpec>, work: &mut Work<'_>) {
    for service in &work.project.services {
        let Some(task) = work.names.task(&service.name.value).and_then(|name| tasks.get(name)) else {
            continue;
        };
        if task.connects.len() > ENTRIES_MAX {
            let message = format!(
                "{} may reach others by {} names; the limit is {ENTRIES_MAX}",
                quoted(&service.name.value),
                task.connects.len()
            );
            let hint =
                "`--narrow` keeps only what something speaks for; or put services on networks of their own";
            work.reporter.error(Code::TooMany, service.name.span, message, hint);
        }
    }
}
