//! Who may reach whom on a node, and under which names: from the tasks with their slots, and what each declares, to
//! grants between slots, and to the services that names lead to.
//!
//! Pure. Must not know how a grant is put in force. A target that the node does not have gives no grant; one that it has
//! and that does not run gives one, for its slot is its own for as long as its alloc lives. Names lead to services, whether
//! anything of them runs or not.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::Port;
use crate::job::access::{Connect, ConnectPorts, ENTRIES_MAX};
use crate::name::{JobName, TaskId, TaskName};
use crate::service::ServiceKey;
use crate::slot::Slot;

/// Most grants of one task: a hundred targets with forty ports each. One task must not use up what the node has.
pub const TASK_GRANTS_MAX: usize = 4_096;
/// Most grants of a node: as many elements go into the packet filter in two seconds, which is what a change of any
/// task's network may take.
pub const NODE_GRANTS_MAX: usize = 65_536;
/// Most names of one task: an alias and two more for each of its entries.
pub const NAMES_MAX: usize = 3 * ENTRIES_MAX;

/// A task of the node.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Which.
    pub id: &'a TaskId,
    /// Its number on the node.
    pub slot: Slot,
    /// The ports that it listens on for others.
    pub ports: &'a [Port],
    /// What it may reach.
    pub connects: &'a [Connect],
}

/// The right of one task to open connections to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Grant {
    /// Whom it may reach.
    pub target: Slot,
    /// Where.
    pub reach: Reach,
}

/// What of a target may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Every port of both transports.
    Any,
    /// These ports.
    Ports(Port),
}

/// The service that an entry of `connects` of a task is about.
#[must_use]
pub fn target(client: &TaskId, connect: &Connect) -> ServiceKey {
    let job = connect.job.as_ref().unwrap_or(&client.alloc.job);
    (job.clone(), connect.task.clone())
}

/// How fit an instance that runs is for new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// Its health check fails, or has not passed yet.
    Unwell,
    /// It is healthy, or nobody asks.
    Well,
}

/// The grants of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// By the task that has them; nothing for one that has none.
    pub of: BTreeMap<Slot, Vec<Grant>>,
    /// Tasks that do not have all that they declare, for that would be too much.
    pub cut: Vec<TaskId>,
}

/// The tasks of a node, laid out for looking up.
#[derive(Debug)]
pub struct Directory<'a> {
    /// Instances in order.
    tasks: BTreeMap<(&'a JobName, &'a TaskName), Vec<Member<'a>>>,
}

impl<'a> Directory<'a> {
    /// The directory of these tasks, whatever their order.
    #[must_use]
    pub fn new(members: impl IntoIterator<Item = Member<'a>>) -> Self {
        let mut tasks: BTreeMap<_, Vec<Member<'a>>> = BTreeMap::new();
        for member in members {
            tasks.entry((&member.id.alloc.job, &member.id.task)).or_default().push(member);
        }
        for instances in tasks.values_mut() {
            instances.sort_by_key(|member| member.id);
        }
        Self { tasks }
    }

    /// Whether there is an instance of a service.
    #[must_use]
    pub fn has(&self, job: &JobName, task: &TaskName) -> bool {
        self.tasks.contains_key(&(job, task))
    }

    /// The instances of a service that are fit for new connections, as `fitness` says of each: those that are well, or all
    /// that run if none is. One that does not run is none.
    #[must_use]
    pub fn instances(
        &self,
        (job, task): &ServiceKey,
        fitness: impl Fn(&TaskId) -> Option<Fitness>,
    ) -> Vec<Slot> {
        let members = self.tasks.get(&(job, task)).map_or(&[][..], Vec::as_slice);
        let running: Vec<(Slot, Fitness)> =
            members.iter().filter_map(|member| Some((member.slot, fitness(member.id)?))).collect();
        let best = running.iter().map(|(_, fitness)| *fitness).max();
        running.into_iter().filter(|(_, fitness)| Some(*fitness) == best).map(|(slot, _)| slot).collect()
    }

    /// Every instance that a right of `client` is about; never itself.
    pub fn targets<'b>(
        &'b self,
        client: &'b TaskId,
        connect: &'b Connect,
    ) -> impl Iterator<Item = &'b Member<'a>> {
        let job = connect.job.as_ref().unwrap_or(&client.alloc.job);
        let instances = self.tasks.get(&(job, &connect.task)).map_or(&[][..], Vec::as_slice);
        instances.iter().filter(move |member| member.id != client)
    }

    /// What every task may reach: for each target everything, or ranges of ports that neither overlap nor touch.
    #[must_use]
    pub fn grants(&self) -> Grants {
        let mut grants = Grants::default();
        let mut left = NODE_GRANTS_MAX;
        let mut members: Vec<&Member<'a>> = self.tasks.values().flatten().collect();
        members.sort_by_key(|member| member.id);
        for member in members {
            let limit = left.min(TASK_GRANTS_MAX);
            let mut own: Vec<Grant> = self.grants_of(member).take(limit.saturating_add(1)).collect();
            if own.len() > limit {
                own.truncate(limit);
                grants.cut.push(member.id.clone());
            }
            left = left.saturating_sub(own.len());
            if !own.is_empty() {
                grants.of.insert(member.slot, own);
            }
        }
        grants
    }

    fn grants_of(&self, client: &Member<'a>) -> impl Iterator<Item = Grant> {
        // Further names of a target are no further rights.
        let distinct: BTreeSet<Connect> =
            client.connects.iter().map(|connect| Connect { alias: None, ..connect.clone() }).collect();
        let mut whole: BTreeSet<Slot> = BTreeSet::new();
        let mut parts: BTreeMap<Slot, Vec<Port>> = BTreeMap::new();
        for connect in &distinct {
            for target in self.targets(client.id, connect) {
                let ports = match &connect.ports {
                    ConnectPorts::Any => {
                        whole.insert(target.slot);
                        continue;
                    }
                    ConnectPorts::Declared => target.ports,
                    ConnectPorts::One(port) => std::slice::from_ref(port),
                };
                parts.entry(target.slot).or_default().extend(ports);
            }
        }
        parts.retain(|target, _| !whole.contains(target));
        let whole = whole.into_iter().map(|target| Grant { target, reach: Reach::Any });
        let parts = parts.into_iter().flat_map(|(target, ports)| {
            merged(ports).into_iter().map(move |ports| Grant { target, reach: Reach::Ports(ports) })
        });
        whole.chain(parts)
    }
}

/// The names by which `client` finds the services that it connects to: each leads to one, or to several where an alias is
/// said twice. `is_own` says whether the client's own job has a task of a name.
///
/// An alias is a name. So is the target's own, and in another job also `task.job`, without doubt; there the target's
/// name alone is one only where nothing else could be meant.
#[must_use]
pub fn names(
    client: &TaskId,
    connects: &[Connect],
    is_own: impl Fn(&TaskName) -> bool,
) -> BTreeMap<String, BTreeSet<ServiceKey>> {
    let mut named = certain_names(client, connects);
    for (name, service) in short_names(client, connects, is_own) {
        let meant = named.entry(name).or_default();
        if meant.iter().all(|other| *other == service) {
            meant.insert(service);
        }
    }
    while named.len() > NAMES_MAX {
        named.pop_last();
    }
    named
}

/// Names of tasks of other jobs without the job: those that no own task has, and only one of the targets.
fn short_names(
    client: &TaskId,
    connects: &[Connect],
    is_own: impl Fn(&TaskName) -> bool,
) -> Vec<(String, ServiceKey)> {
    let foreign = connects.iter().filter(|connect| foreign_job(client, connect).is_some());
    let mut services: BTreeMap<&TaskName, BTreeSet<ServiceKey>> = BTreeMap::new();
    for connect in foreign {
        services.entry(&connect.task).or_default().insert(target(client, connect));
    }
    let single = services.into_iter().filter(|(task, services)| services.len() == 1 && !is_own(task));
    single
        .flat_map(|(task, services)| services.into_iter().map(|service| (task.to_string(), service)))
        .collect()
}

/// Aliases, names of tasks of the same job, and `task.job` for those of other jobs.
fn certain_names(client: &TaskId, connects: &[Connect]) -> BTreeMap<String, BTreeSet<ServiceKey>> {
    let mut named: BTreeMap<String, BTreeSet<ServiceKey>> = BTreeMap::new();
    for connect in connects {
        let own = match foreign_job(client, connect) {
            None => connect.task.to_string(),
            Some(job) => format!("{}.{job}", connect.task),
        };
        for name in connect.alias.iter().chain([&own]) {
            named.entry(name.to_ascii_lowercase()).or_default().insert(target(client, connect));
        }
    }
    named
}

/// The job of a target, if it is another one than the client's.
fn foreign_job<'a>(client: &TaskId, connect: &'a Connect) -> Option<&'a JobName> {
    connect.job.as_ref().filter(|job| **job != client.alloc.job)
}

/// The same ports as few ranges, in order, which neither overlap nor touch.
#[must_use]
pub fn merged(ports: impl IntoIterator<Item = Port>) -> Vec<Port> {
    let mut ports: Vec<Port> = ports.into_iter().collect();
    ports.sort_by_key(|port| (port.transport, port.number, port.last));
    let mut merged: Vec<Port> = Vec::new();
    for port in ports {
        match merged.last_mut() {
            Some(before) if touches(before, &port) => before.last = before.last.max(port.last),
            _ => merged.push(port),
        }
    }
    merged
}

/// Whether a range that does not begin earlier goes on where `before` ends.
fn touches(before: &Port, port: &Port) -> bool {
    before.transport == port.transport && port.number <= before.last.saturating_add(1)
}

#[cfg(test)]
mod tests;
