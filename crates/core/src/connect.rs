//! Who may reach whom on a node, and under which names: from the tasks with their slots, and what each declares, to
//! grants between slots.
//!
//! Pure. Must not know how a grant is put in force. A target that the node does not have gives no grant and no name; one
//! that it has and that does not run gives both, for its slot is its own for as long as its alloc lives.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::Port;
use crate::job::access::{Connect, ConnectPorts};
use crate::name::{JobName, TaskId, TaskName};
use crate::slot::Slot;

/// Most grants of one task: a hundred targets with forty ports each. One task must not use up what the node has.
pub const TASK_GRANTS_MAX: usize = 4_096;
/// Most grants of a node: as many elements go into the packet filter in two seconds, which is what a change of any
/// task's network may take.
pub const NODE_GRANTS_MAX: usize = 65_536;
/// Most addresses under one name: programs try a few.
pub const NAME_ADDRESSES_MAX: usize = 16;
/// Most addresses under all names of a task together, unless it has more names than that: all are sent to its guest in
/// one message.
pub const ADDRESSES_MAX: usize = 1_000;

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

    /// The names by which `client` finds its targets, each with a slot; a name with several instances comes several
    /// times.
    ///
    /// An alias is a name. So is the target's own, and in another job also `task.job`, without doubt; there the target's
    /// name alone is one only where nothing else could be meant.
    #[must_use]
    pub fn names(&self, client: &TaskId, connects: &[Connect]) -> Vec<(String, Slot)> {
        let named = self.named(client, connects);
        let each = (ADDRESSES_MAX / named.len().max(1)).clamp(1, NAME_ADDRESSES_MAX);
        let mut names = Vec::new();
        for (name, connects) in named {
            let targets: BTreeSet<(&TaskId, Slot)> = connects
                .into_iter()
                .flat_map(|connect| self.targets(client, connect).map(|member| (member.id, member.slot)))
                .collect();
            names.extend(targets.into_iter().take(each).map(|(_, slot)| (name.clone(), slot)));
        }
        names
    }

    /// The same names with the tasks that they stand for, whether or not the node has an instance of them.
    #[must_use]
    pub fn services(
        &self,
        client: &TaskId,
        connects: &[Connect],
    ) -> BTreeMap<String, BTreeSet<(JobName, TaskName)>> {
        let service = |connect: &Connect| {
            let job = connect.job.as_ref().unwrap_or(&client.alloc.job);
            (job.clone(), connect.task.clone())
        };
        let named = self.named(client, connects).into_iter();
        named.map(|(name, connects)| (name, connects.into_iter().map(service).collect())).collect()
    }

    /// What each name stands for.
    fn named<'b>(&self, client: &TaskId, connects: &'b [Connect]) -> BTreeMap<String, BTreeSet<&'b Connect>> {
        let mut named = certain_names(client, connects);
        for (name, connect) in self.short_names(client, connects) {
            let is_same = |other: &&Connect| other.job == connect.job && other.task == connect.task;
            if named.get(&name).is_none_or(|others| others.iter().all(is_same)) {
                named.entry(name).or_default().insert(connect);
            }
        }
        named
    }

    /// Names of tasks of other jobs without the job: those that no own task has, and only one of the targets.
    fn short_names<'b>(&self, client: &TaskId, connects: &'b [Connect]) -> Vec<(String, &'b Connect)> {
        let foreign: Vec<(&JobName, &Connect)> =
            connects.iter().filter_map(|connect| Some((foreign_job(client, connect)?, connect))).collect();
        let mut jobs: BTreeMap<&TaskName, BTreeSet<&JobName>> = BTreeMap::new();
        for (job, connect) in &foreign {
            jobs.entry(&connect.task).or_default().insert(*job);
        }
        let is_plain = |task: &TaskName| {
            let is_own = self.tasks.contains_key(&(&client.alloc.job, task));
            !is_own && jobs.get(task).is_some_and(|jobs| jobs.len() == 1)
        };
        let plain = foreign.into_iter().filter(|(_, connect)| is_plain(&connect.task));
        plain.map(|(_, connect)| (connect.task.to_string(), connect)).collect()
    }
}

/// Aliases, names of tasks of the same job, and `task.job` for those of other jobs.
fn certain_names<'a>(client: &TaskId, connects: &'a [Connect]) -> BTreeMap<String, BTreeSet<&'a Connect>> {
    let mut named: BTreeMap<String, BTreeSet<&Connect>> = BTreeMap::new();
    for connect in connects {
        let own = match foreign_job(client, connect) {
            None => connect.task.to_string(),
            Some(job) => format!("{}.{job}", connect.task),
        };
        for name in connect.alias.iter().chain([&own]) {
            named.entry(name.clone()).or_default().insert(connect);
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
