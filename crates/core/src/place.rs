//! Which alloc runs on which node: pure, and lazy: an alloc stays where it is unless it cannot.

use std::collections::{BTreeMap, BTreeSet};

use crate::deploy::Job;
use crate::name::{AllocId, NodeName};

/// What the scheduler knows.
#[derive(Debug, Clone, Default)]
pub struct World<'a> {
    /// Deployed jobs.
    pub jobs: Vec<&'a Job>,
    /// Nodes that can run tasks.
    pub nodes: BTreeSet<NodeName>,
    /// Where each alloc is.
    pub allocs: BTreeMap<AllocId, NodeName>,
}

/// One decision of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placement {
    /// A new alloc on this node.
    Place(AllocId, NodeName),
    /// The alloc is not declared any more.
    Remove(AllocId),
    /// The alloc should run but no node can take it.
    Unplaced(AllocId),
}

/// What to change so that exactly the declared allocs exist. Empty when they do.
#[must_use]
pub fn place(world: &World<'_>) -> Vec<Placement> {
    let declared: BTreeSet<AllocId> = world.jobs.iter().flat_map(|job| allocs_of(job)).collect();
    let removed =
        world.allocs.keys().filter(|alloc| !declared.contains(alloc)).cloned().map(Placement::Remove);
    let mut load: BTreeMap<&NodeName, usize> = world.nodes.iter().map(|node| (node, 0)).collect();
    for node in world.allocs.values() {
        if let Some(count) = load.get_mut(node) {
            *count += 1;
        }
    }
    let mut decisions: Vec<Placement> = removed.collect();
    for alloc in declared.iter().filter(|alloc| !world.allocs.contains_key(alloc)) {
        let Some((node, count)) = load.iter_mut().min_by_key(|(node, count)| (**count, *node)) else {
            decisions.push(Placement::Unplaced(alloc.clone()));
            continue;
        };
        *count += 1;
        decisions.push(Placement::Place(alloc.clone(), (*node).clone()));
    }
    decisions
}

/// Every alloc that a job declares.
pub fn allocs_of(job: &Job) -> impl Iterator<Item = AllocId> + '_ {
    job.spec.groups.iter().flat_map(|(group, spec)| {
        (0..spec.count).map(|index| AllocId { job: job.spec.name.clone(), group: group.clone(), index })
    })
}

/// The world after the decisions: what a test, and the store, make of them.
pub fn apply(allocs: &mut BTreeMap<AllocId, NodeName>, decisions: &[Placement]) {
    for decision in decisions {
        match decision {
            Placement::Place(alloc, node) => {
                allocs.insert(alloc.clone(), node.clone());
            }
            Placement::Remove(alloc) => {
                allocs.remove(alloc);
            }
            Placement::Unplaced(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::tests::{arbitrary_job, plan};
    use crate::task::Incarnation;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_converged_world_plans_nothing(
            specs in proptest::collection::btree_map("[a-c]", arbitrary_job(), 0..3),
            nodes in proptest::collection::btree_set("[x-z]", 0..3),
            stale in proptest::collection::btree_set("[a-d]", 0..3),
        ) {
            let jobs: Vec<Job> = specs
                .into_iter()
                .map(|(name, mut spec)| {
                    spec.name = name.parse().unwrap();
                    plan(None, spec, Incarnation(1)).job
                })
                .collect();
            let nodes: BTreeSet<NodeName> = nodes.iter().map(|node| node.parse().unwrap()).collect();
            let mut allocs: BTreeMap<AllocId, NodeName> = stale
                .iter()
                .map(|job| (format!("{job}.main.0").parse().unwrap(), "old".parse().unwrap()))
                .collect();
            let before = allocs.clone();
            let world = World { jobs: jobs.iter().collect(), nodes: nodes.clone(), allocs: allocs.clone() };
            let decisions = place(&world);
            apply(&mut allocs, &decisions);
            let once = allocs.clone();
            apply(&mut allocs, &decisions);
            prop_assert_eq!(&once, &allocs, "applying twice equals once");
            for (alloc, node) in &before {
                if let Some(now) = allocs.get(alloc) {
                    prop_assert_eq!(now, node, "what is placed stays");
                }
            }
            let world = World { jobs: jobs.iter().collect(), nodes: nodes.clone(), allocs };
            let again = place(&world);
            if nodes.is_empty() {
                prop_assert!(again.iter().all(|decision| matches!(decision, Placement::Unplaced(_))));
            } else {
                prop_assert_eq!(again, vec![]);
            }
        }
    }
}
