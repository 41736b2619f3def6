//! What a node should have: a pure function of the stored world.

use std::collections::{BTreeMap, BTreeSet};

use lith_api::agent::{Alloc, AllocTask, Desired, ServiceEntry};
use lith_core::job::access::Connect;
use lith_core::job::volume::Mount;
use lith_core::job::{GroupSpec, JobSpec, Port, TaskSpec};
use lith_core::name::{NodeName, TaskName};
use lith_core::service::ServiceKey;
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
    Desired {
        cluster: world.cluster.clone(),
        version: world.version,
        allocs: allocs.into_values().collect(),
        services: services(world, node),
    }
}

/// What the tasks of a node are, and what they connect to, as far as it is there.
fn services(world: &World, node: &NodeName) -> Vec<ServiceEntry> {
    let mut wanted: BTreeSet<ServiceKey> = BTreeSet::new();
    for (id, _) in world.allocs.iter().filter(|(_, placed)| *placed == node) {
        let spec = world.jobs.get(&id.job).map(|stored| &stored.job.spec);
        let Some(group) = spec.and_then(|spec| spec.groups.get(&id.group)) else { continue };
        for (name, task) in &group.tasks {
            wanted.insert((id.job.clone(), name.clone()));
            let target =
                |connect: &Connect| (connect.job.clone().unwrap_or(id.job.clone()), connect.task.clone());
            wanted.extend(task.connects.iter().map(target));
        }
    }
    let entry = |(job, task): ServiceKey| {
        let number = world.services.get(&(job.clone(), task.clone()))?.number();
        // Several groups may have a task of this name.
        let specs = world.jobs.get(&job).into_iter().flat_map(|stored| stored.job.spec.tasks());
        let its = specs.filter(|(_, name, _)| **name == task);
        let ports: BTreeSet<Port> = its.flat_map(|(.., spec)| &spec.ports).copied().collect();
        let ports = ports.iter().map(ToString::to_string).collect();
        Some(ServiceEntry { job: job.to_string(), task: task.to_string(), number, ports })
    };
    wanted.into_iter().filter_map(entry).collect()
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
        let job = deploy::plan(None, spec, Incarnation(1), &BTreeSet::new()).job;
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

    #[test]
    fn a_node_gets_the_numbers_of_what_it_has_and_of_what_that_connects_to() {
        let job = |name: &str, tasks: Vec<(&str, TaskSpec)>| {
            let tasks = tasks.into_iter().map(|(name, task)| (name.parse().unwrap(), task)).collect();
            let groups = [("main".parse().unwrap(), GroupSpec::new(tasks))].into();
            let job = deploy::plan(
                None,
                JobSpec::new(name.parse().unwrap(), groups),
                Incarnation(1),
                &BTreeSet::new(),
            )
            .job;
            (job.spec.name.clone(), StoredJob { job, created: Time(0), updated: Time(0) })
        };
        let connects = ["pg/db", "cache", "gone:6379", "never"]
            .map(|text| lith_core::value::access::connect(text).unwrap())
            .to_vec();
        let web = TaskSpec { connects, ..TaskSpec::new("web:1") };
        let ports =
            ["5432", "9000-9010/udp"].map(|text| lith_core::value::port::port(text).unwrap()).to_vec();
        let db = TaskSpec { ports, ..TaskSpec::new("db:1") };
        let shop = vec![("web", web), ("cache", TaskSpec::new("cache:1"))];
        let numbers = ["pg/db", "pg/backup", "shop/cache", "shop/web", "shop/gone"].into_iter().zip(1..);
        let numbers = numbers.map(|(name, number)| {
            let (job, task) = name.split_once('/').unwrap();
            let number = lith_core::service::ServiceNumber::new(number).unwrap();
            ((job.parse().unwrap(), task.parse().unwrap()), number)
        });
        let [here, there]: [NodeName; 2] = ["odin", "thor"].map(|node| node.parse().unwrap());
        let world = World {
            jobs: [job("shop", shop), job("pg", vec![("db", db), ("backup", TaskSpec::new("db:1"))])].into(),
            services: numbers.collect(),
            allocs: [
                ("shop.main.0".parse().unwrap(), here.clone()),
                ("pg.main.0".parse().unwrap(), there.clone()),
            ]
            .into(),
            ..World::default()
        };
        let told = |node| -> Vec<String> {
            let line = |service: ServiceEntry| {
                format!("{}/{} {} {:?}", service.job, service.task, service.number, service.ports)
            };
            of(&world, node).services.into_iter().map(line).collect()
        };
        assert_eq!(
            told(&here),
            [r#"pg/db 1 ["5432", "9000-9010/udp"]"#, "shop/cache 3 []", "shop/gone 5 []", "shop/web 4 []"]
        );
        assert_eq!(told(&there), ["pg/backup 2 []", r#"pg/db 1 ["5432", "9000-9010/udp"]"#]);
    }
}
