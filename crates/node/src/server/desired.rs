//! What a node should have: a pure function of the stored world.

use std::collections::{BTreeMap, BTreeSet};

use lith_api::agent::{Alloc, AllocTask, Desired};
use lith_core::job::volume::Mount;
use lith_core::job::{GroupSpec, JobSpec, TaskSpec};
use lith_core::name::{NodeName, TaskName};
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
                reads: job.spec.reads(name).into_iter().map(ToString::to_string).collect(),
            })
        });
        let born = world.births.get(id).copied().unwrap_or_default();
        let alloc = Alloc { id: id.to_string(), born, tasks: tasks.collect(), ..brought(&job.spec, group) };
        allocs.insert(id.to_string(), alloc);
    }
    Desired { cluster: world.cluster.clone(), version: world.version, allocs: allocs.into_values().collect() }
}

/// What the tasks of a group need of their job, and no more: a node learns no secret that it has no use for.
fn brought<'a>(job: &'a JobSpec, group: &'a GroupSpec) -> Alloc {
    let tasks = || group.tasks.values();
    let held = |(name, task): (&TaskName, &'a TaskSpec)| {
        let reads = job.reads(name);
        task.volumes.iter().filter_map(Mount::volume).filter(move |volume| !reads.contains(volume))
    };
    let volumes: BTreeSet<_> = group.tasks.iter().flat_map(held).collect();
    let secrets: BTreeSet<_> = tasks().flat_map(|task| &task.secrets).map(|mount| &mount.source).collect();
    let configs: BTreeSet<_> = tasks().flat_map(|task| &task.configs).map(|mount| &mount.source).collect();
    Alloc {
        id: String::new(),
        born: 0,
        volumes: named(&job.volumes, &volumes),
        secrets: named(&job.secrets, &secrets),
        configs: named(&job.configs, &configs),
        tasks: vec![],
    }
}

fn named<'a, N: Ord + ToString, T, W: From<&'a T>>(
    all: &'a BTreeMap<N, T>,
    wanted: &BTreeSet<&N>,
) -> BTreeMap<String, W> {
    all.iter()
        .filter(|(name, _)| wanted.contains(name))
        .map(|(name, value)| (name.to_string(), W::from(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use lith_core::deploy;
    use lith_core::job::file::{Content, FileMount, FileSource};
    use lith_core::job::volume::{MountSource, VolumeSpec};
    use lith_core::task::Incarnation;
    use lith_core::time::Time;
    use lith_store::StoredJob;

    use super::*;

    fn mounted(name: &str) -> FileMount {
        FileMount {
            source: name.parse().unwrap(),
            target: format!("/run/secrets/{name}"),
            uid: None,
            gid: None,
            mode: None,
            is_writable: false,
        }
    }

    #[test]
    fn a_node_gets_what_its_tasks_use_and_no_more() {
        let inline = |text: &str| FileSource::Inline(Content(text.as_bytes().into()));
        let db = TaskSpec {
            secrets: vec![mounted("password")],
            volumes: vec![Mount {
                source: MountSource::Volume("disk".parse().unwrap()),
                target: "/var/lib".to_owned(),
                is_read_only: false,
            }],
            ..TaskSpec::new("db:1")
        };
        let web = TaskSpec { configs: vec![mounted("site")], ..TaskSpec::new("web:1") };
        let group = |name: &str, task| GroupSpec::new([(name.parse().unwrap(), task)].into());
        let groups = [("db".parse().unwrap(), group("db", db)), ("web".parse().unwrap(), group("web", web))];
        let spec = JobSpec {
            volumes: ["disk", "other"].map(|name| (name.parse().unwrap(), VolumeSpec::default())).into(),
            secrets: ["password", "other"].map(|name| (name.parse().unwrap(), inline(name))).into(),
            configs: ["site", "other"].map(|name| (name.parse().unwrap(), inline(name))).into(),
            ..JobSpec::new("shop".parse().unwrap(), groups.into())
        };
        let job = deploy::plan(None, spec, Incarnation(1)).job;
        let stored = StoredJob { job, created: Time(0), updated: Time(0) };
        let node: NodeName = "odin".parse().unwrap();
        let ids = ["shop.db.0", "shop.web.0"].map(|id| (id.parse().unwrap(), node.clone()));
        let world = World {
            jobs: [("shop".parse().unwrap(), stored)].into(),
            allocs: ids.into(),
            ..World::default()
        };
        let desired = of(&world, &node);
        let names = |alloc: &Alloc| -> Vec<String> {
            let names = alloc.volumes.keys().chain(alloc.secrets.keys()).chain(alloc.configs.keys());
            names.cloned().collect()
        };
        assert_eq!(names(&desired.allocs[0]), ["disk", "password"]);
        assert_eq!(names(&desired.allocs[1]), ["site"]);
        assert!(desired.allocs.iter().all(|alloc| alloc.tasks[0].reads.is_empty()));
        assert!(desired.allocs[0].secrets["password"].content.is_some());
    }
}
