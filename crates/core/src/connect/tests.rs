//! Grants and names, from tables and from properties.

use proptest::prelude::*;

use super::*;
use crate::job::Transport;
use crate::value;

/// Identifier, ports, connects; the slot is the position, from 1.
type Plain<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

struct World {
    tasks: Vec<(TaskId, Slot, Vec<Port>, Vec<Connect>)>,
}

impl World {
    fn new(tasks: &[Plain<'_>]) -> Self {
        let task = |(index, (id, ports, connects)): (usize, &Plain<'_>)| {
            let slot = Slot::new(u16::try_from(index + 1).unwrap()).unwrap();
            let ports = ports.iter().map(|text| value::port::port(text).unwrap());
            let connects = connects.iter().map(|text| value::access::connect(text).unwrap());
            (id.parse().unwrap(), slot, ports.collect(), connects.collect())
        };
        Self { tasks: tasks.iter().enumerate().map(task).collect() }
    }

    fn directory(&self) -> Directory<'_> {
        Directory::new(self.tasks.iter().map(|(id, slot, ports, connects)| Member {
            id,
            slot: *slot,
            ports,
            connects,
        }))
    }

    /// Lines like `1 > 2 80-90/udp`.
    fn grants(&self) -> Vec<String> {
        let grants = self.directory().grants();
        assert_eq!(grants.cut, vec![]);
        let line = |(client, grant): (&Slot, &Grant)| match grant.reach {
            Reach::Any => format!("{client} > {} *", grant.target),
            Reach::Ports(port) => format!("{client} > {} {port}", grant.target),
        };
        grants
            .of
            .iter()
            .flat_map(|(client, own)| own.iter().map(move |grant| line((client, grant))))
            .collect()
    }

    /// Lines like `db shop/db`, of the first task.
    fn names(&self) -> Vec<String> {
        let (id, _, _, connects) = &self.tasks[0];
        let directory = self.directory();
        super::names(id, connects, |task| directory.has(&id.alloc.job, task))
            .into_iter()
            .flat_map(|(name, services)| {
                services.into_iter().map(move |(job, task)| format!("{name} {job}/{task}"))
            })
            .collect()
    }
}

#[test]
fn what_is_granted() {
    let check = |tasks: &[Plain<'_>], expected: &[&str]| assert_eq!(World::new(tasks).grants(), expected);
    let db: Plain<'_> = ("shop.main.0.db", &["5432", "53/udp"], &[]);
    check(&[("shop.main.0.web", &[], &["db"]), db], &["1 > 2 5432", "1 > 2 53/udp"]);
    check(&[("shop.main.0.web", &[], &["db:5432"]), db], &["1 > 2 5432"]);
    check(&[("shop.main.0.web", &[], &["db:9000-9010/udp"]), db], &["1 > 2 9000-9010/udp"]);
    check(&[("shop.main.0.web", &[], &["db:*"]), db], &["1 > 2 *"]);
    check(&[("shop.main.0.web", &[], &["db:*", "db", "db:80"]), db], &["1 > 2 *"]);
    check(
        &[("shop.main.0.web", &[], &["db:5433", "db", "db:5430-5431 as x"]), db],
        &["1 > 2 5430-5433", "1 > 2 53/udp"],
    );
    // The right is about the job that is named, and the own one where none is.
    check(&[("blog.main.0.web", &[], &["db"]), db], &[]);
    check(&[("blog.main.0.web", &[], &["shop/db:80"]), db], &["1 > 2 80"]);
    check(&[("shop.main.0.web", &[], &["shop/db:80"]), db], &["1 > 2 80"]);
    check(&[("shop.main.0.web", &[], &["blog/db:80"]), db], &[]);
    check(&[("shop.main.0.web", &[], &["cache:80"]), db], &[]);
    // Nothing is declared, so nothing is reached, unless the client says it.
    check(
        &[("shop.main.0.web", &[], &["cache", "cache:6379"]), ("shop.x.0.cache", &[], &[])],
        &["1 > 2 6379"],
    );
}

#[test]
fn every_instance_is_a_target_but_oneself() {
    let world = World::new(&[
        ("shop.web.0.web", &["80"], &["web", "db"]),
        ("shop.web.1.web", &["80"], &["web"]),
        ("shop.db.10.db", &["5432"], &[]),
        ("shop.db.9.db", &["5432"], &["db:*"]),
    ]);
    assert_eq!(world.grants(), ["1 > 2 80", "1 > 3 5432", "1 > 4 5432", "2 > 1 80", "4 > 3 *"]);
    assert_eq!(world.names(), ["db shop/db", "web shop/web"]);
}

#[test]
fn names_are_certain() {
    let check = |connects: &[&str], others: &[&str], expected: &[&str]| {
        let mut tasks: Vec<Plain<'_>> = vec![("shop.main.0.web", &[], connects)];
        tasks.extend(others.iter().map(|id| (*id, &[][..], &[][..])));
        assert_eq!(World::new(&tasks).names(), expected, "{connects:?} {others:?}");
    };
    check(&["db"], &["shop.main.0.db"], &["db shop/db"]);
    check(&["db as Store"], &["shop.main.0.db"], &["db shop/db", "store shop/db"]);
    let foreign = ["db pg/db", "db.pg pg/db"];
    check(&["pg/db"], &["pg.main.0.db"], &foreign);
    check(&["pg/db as store"], &["pg.main.0.db"], &[foreign[0], foreign[1], "store pg/db"]);
    check(&["shop/db"], &["shop.main.0.db"], &["db shop/db"]);
    // An own task is called so, whether it is a target or not; even the client itself.
    check(&["pg/db"], &["pg.main.0.db", "shop.main.0.db"], &["db.pg pg/db"]);
    check(&["pg/db", "db"], &["pg.main.0.db", "shop.main.0.db"], &["db shop/db", "db.pg pg/db"]);
    check(&["pg/web"], &["pg.main.0.web"], &["web.pg pg/web"]);
    // Several are called so.
    check(&["pg/db", "my/db"], &["pg.main.0.db", "my.main.0.db"], &["db.my my/db", "db.pg pg/db"]);
    check(
        &["pg/db", "cache as db"],
        &["pg.main.0.db", "shop.main.0.cache"],
        &["cache shop/cache", "db shop/cache", "db.pg pg/db"],
    );
    // A name that is said twice leads to both.
    check(
        &["a as store", "b as store"],
        &["shop.x.0.a", "shop.x.0.b"],
        &["a shop/a", "b shop/b", "store shop/a", "store shop/b"],
    );
    // A name is there before what it leads to.
    check(&["pg/db as store"], &[], &[foreign[0], foreign[1], "store pg/db"]);
}

#[test]
fn new_connections_go_to_the_fittest_that_run() {
    let world = World::new(&[
        ("shop.web.0.web", &[], &[]),
        ("shop.web.1.web", &[], &[]),
        ("shop.web.2.web", &[], &[]),
    ]);
    let service = ("shop".parse().unwrap(), "web".parse().unwrap());
    let check = |fitness: [Option<Fitness>; 3], expected: &[u16]| {
        let of = |id: &TaskId| fitness[id.alloc.index as usize];
        let found = world.directory().instances(&service, of);
        let found: Vec<u16> = found.into_iter().map(Slot::number).collect();
        assert_eq!(found, expected, "{fitness:?}");
    };
    let (well, unwell) = (Some(Fitness::Well), Some(Fitness::Unwell));
    check([well, unwell, well], &[1, 3]);
    check([unwell, unwell, None], &[1, 2]);
    check([None, well, None], &[2]);
    check([None; 3], &[]);
    let other = ("shop".parse().unwrap(), "db".parse().unwrap());
    assert_eq!(world.directory().instances(&other, |_| well), vec![]);
}

#[test]
fn nothing_is_without_a_bound() {
    let ids: Vec<String> = (0..100).map(|index| format!("shop.main.{index}.web")).collect();
    let ports: Vec<String> = (0..100).map(|index| (1000 + 2 * index).to_string()).collect();
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    let aliases: Vec<String> = (0..200).map(|index| format!("web as w{index}")).collect();
    let connects: Vec<&str> = aliases.iter().map(String::as_str).collect();
    let tasks: Vec<Plain<'_>> = ids.iter().map(|id| (id.as_str(), &ports[..], &connects[..])).collect();
    let world = World::new(&tasks);
    let grants = world.directory().grants();
    assert_eq!(grants.cut.len(), 100);
    assert_eq!(grants.of.values().map(Vec::len).max(), Some(TASK_GRANTS_MAX));
    assert_eq!(grants.of.values().map(Vec::len).sum::<usize>(), NODE_GRANTS_MAX);
    assert_eq!(world.names().len(), 201, "every name leads somewhere");
}

fn port() -> impl Strategy<Value = Port> {
    // Few numbers, so that ranges meet, and both ends.
    let number = prop_oneof![1u16..40, 65_520u16..];
    (number.clone(), number, any::<bool>()).prop_map(|(one, other, is_tcp)| Port {
        number: one.min(other),
        last: one.max(other),
        transport: if is_tcp { Transport::Tcp } else { Transport::Udp },
    })
}

proptest! {
    #[test]
    fn merging_keeps_exactly_what_was_there(ports in proptest::collection::vec(port(), 0..12)) {
        let merged = merged(ports.clone());
        for transport in [Transport::Tcp, Transport::Udp] {
            for number in (1..=41).chain(65_518..=u16::MAX) {
                let was = ports.iter().any(|port| port.holds(number, transport));
                let is = merged.iter().filter(|port| port.holds(number, transport)).count();
                prop_assert_eq!(usize::from(was), is, "{}/{}", number, transport);
            }
        }
        for pair in merged.windows(2) {
            let apart = pair[0].transport != pair[1].transport
                || pair[0].last.checked_add(1).is_some_and(|next| next < pair[1].number);
            prop_assert!(apart, "{:?}", pair);
        }
    }
}
