//! What a node should have: a pure function of the stored world.

use std::collections::BTreeMap;

use lith_api::agent::{Alloc, AllocTask, Desired};
use lith_core::name::NodeName;
use lith_store::World;

/// Everything that `node` should have.
pub(crate) fn of(world: &World, node: &NodeName) -> Desired {
    let mut allocs = BTreeMap::new();
    for (id, _) in world.allocs.iter().filter(|(_, placed)| *placed == node) {
        let Some(job) = world.jobs.get(&id.job).map(|stored| &stored.job) else { continue };
        let Some(group) = job.spec.groups.get(&id.group) else { continue };
        let tasks = group.tasks.iter().filter_map(|(name, spec)| {
            let desire = job.desires.get(&(id.group.clone(), name.clone()))?;
            Some(AllocTask {
                name: name.to_string(),
                spec: spec.into(),
                incarnation: desire.incarnation.0,
                run: desire.run,
            })
        });
        let born = world.births.get(id).copied().unwrap_or_default();
        allocs.insert(id.to_string(), Alloc { id: id.to_string(), born, tasks: tasks.collect() });
    }
    Desired { cluster: world.cluster.clone(), version: world.version, allocs: allocs.into_values().collect() }
}
