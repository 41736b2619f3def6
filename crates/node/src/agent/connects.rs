//! What tasks may reach on this node: from what each was started with, or declares, to grants and names.
//!
//! Who gets what is decided in [`lith_core::connect`]. What runs keeps the rights it was started with until it has
//! ended, as it keeps its published ports; what it may reach follows the targets that there are, without a restart. Its
//! `/etc/hosts` does not: a target that is placed anew after its clients' boot has another slot, and so another address,
//! under which they do not find it before they boot again. A slot is stable for the life of an alloc.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use lith_core::connect::{Directory, Member};
use lith_core::job::access::Connect;
use lith_core::job::{Port, TaskSpec};
use lith_core::name::TaskId;
use lith_core::slot::Slot;
use lith_guest::messages::HostEntry;
use lith_net::GuestNetwork;
use serde::{Deserialize, Serialize};

/// A task's part in the network of connects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// The ports that it listens on for others.
    pub(crate) ports: Vec<Port>,
    /// What it may reach.
    pub(crate) connects: Vec<Connect>,
}

/// The same in the note of a boot, each entry as the job file writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WrittenRights {
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    connects: Vec<String>,
}

impl Rights {
    /// Those that a task declares.
    pub(crate) fn declared(spec: &TaskSpec) -> Self {
        Self { ports: spec.ports.clone(), connects: spec.connects.clone() }
    }

    /// Those that were written down; what cannot be read gives no right.
    pub(crate) fn read(written: &WrittenRights) -> Self {
        let ports = written.ports.iter().filter_map(|text| lith_core::value::port::port(text).ok());
        let connects =
            written.connects.iter().filter_map(|text| lith_core::value::access::connect(text).ok());
        Self { ports: ports.collect(), connects: connects.collect() }
    }

    /// To be written down.
    pub(crate) fn written(&self) -> WrittenRights {
        WrittenRights {
            ports: self.ports.iter().map(ToString::to_string).collect(),
            connects: self.connects.iter().map(ToString::to_string).collect(),
        }
    }

    /// The task as others see it.
    pub(crate) fn member<'a>(&'a self, id: &'a TaskId, slot: Slot) -> Member<'a> {
        Member { id, slot, ports: &self.ports, connects: &self.connects }
    }
}

/// Of `former`, which have a slot that a new alloc of their name will not have, one that `client` connects to: it would
/// find it at the wrong address.
pub(crate) fn awaited<'a>(
    client: &TaskId,
    rights: &Rights,
    former: &'a BTreeSet<TaskId>,
) -> Option<&'a TaskId> {
    former.iter().find(|target| {
        rights.connects.iter().any(|connect| {
            let job = connect.job.as_ref().unwrap_or(&client.alloc.job);
            *job == target.alloc.job && connect.task == target.task
        })
    })
}

/// The lines of a task's `/etc/hosts` that its image does not bring: those that it declares, which stand for
/// themselves, then itself, then what it connects to.
pub(crate) fn hosts(
    directory: &Directory<'_>,
    network: GuestNetwork,
    (id, slot): (&TaskId, Slot),
    spec: &TaskSpec,
) -> Vec<HostEntry> {
    let declared: BTreeSet<String> = spec.hosts.keys().map(|name| name.to_ascii_lowercase()).collect();
    let entry =
        |name: &str, address: Ipv4Addr| HostEntry { name: name.to_owned(), address: IpAddr::V4(address) };
    let mut lines: Vec<HostEntry> = spec
        .hosts
        .iter()
        .map(|(name, address)| HostEntry { name: name.clone(), address: *address })
        .collect();
    // The host name is there anyway.
    if spec.hostname.is_some() {
        lines.push(entry(id.task.as_str(), network.guest_address(slot)));
    }
    let names = directory.names(id, &spec.connects).into_iter();
    let names = names.filter(|(name, _)| !declared.contains(&name.to_ascii_lowercase()));
    lines.extend(names.map(|(name, target)| entry(&name, network.guest_address(target))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use lith_core::value;

    fn spec(connects: &[&str], hosts: &[(&str, &str)]) -> TaskSpec {
        TaskSpec {
            connects: connects.iter().map(|text| value::access::connect(text).unwrap()).collect(),
            hosts: hosts.iter().map(|(name, to)| ((*name).to_owned(), to.parse().unwrap())).collect(),
            ..TaskSpec::new("busybox:1")
        }
    }

    #[test]
    fn rights_are_read_as_they_were_written() {
        let mut spec = spec(&["db", "pg/db:5432 as store", "api:*", "dns:53-54/udp"], &[]);
        spec.ports = ["80", "9000-9010/udp"].map(|text| value::port::port(text).unwrap()).to_vec();
        let rights = Rights::declared(&spec);
        assert_eq!(Rights::read(&rights.written()), rights);
        // The note of a lith that knew of none, and one that makes no sense.
        assert_eq!(Rights::read(&serde_json::from_str("{}").unwrap()), Rights::default());
        let odd = serde_json::from_str(r#"{"ports": ["0"], "connects": ["a/b/c", "db"]}"#).unwrap();
        assert_eq!(Rights::read(&odd).connects.len(), 1);
    }

    #[test]
    fn a_target_that_gets_another_slot_is_awaited() {
        let check = |client: &str, connect: &str, former: &[&str], expected: Option<&str>| {
            let rights = Rights::declared(&spec(&[connect], &[]));
            let former = former.iter().map(|id| id.parse().unwrap()).collect();
            let awaited = awaited(&client.parse().unwrap(), &rights, &former).map(ToString::to_string);
            assert_eq!(awaited.as_deref(), expected, "{client} {connect} {former:?}");
        };
        check("shop.main.0.web", "db", &["shop.main.0.db"], Some("shop.main.0.db"));
        check("shop.main.0.web", "db", &["pg.main.0.db", "shop.main.0.cache"], None);
        check("shop.main.0.web", "pg/db", &["pg.main.1.db", "shop.main.0.db"], Some("pg.main.1.db"));
        check("shop.main.0.web", "db", &[], None);
    }

    #[test]
    fn lines_of_hosts() {
        let [web, db]: [TaskId; 2] = ["shop.main.0.web", "shop.main.0.db"].map(|id| id.parse().unwrap());
        let [one, two] = [1, 2].map(|number| Slot::new(number).unwrap());
        let nothing = Rights::default();
        let check = |spec: &TaskSpec, expected: &[&str]| {
            let rights = Rights::declared(spec);
            let directory = Directory::new([rights.member(&web, one), nothing.member(&db, two)]);
            let lines = hosts(&directory, GuestNetwork::default(), (&web, one), spec);
            let lines: Vec<String> =
                lines.iter().map(|line| format!("{} {}", line.name, line.address)).collect();
            assert_eq!(lines, expected);
        };
        check(&spec(&["db as Store"], &[]), &["Store 10.83.0.2", "db 10.83.0.2"]);
        check(
            &spec(&["db as x"], &[("DB", "::1"), ("a.b", "192.0.2.1")]),
            &["DB ::1", "a.b 192.0.2.1", "x 10.83.0.2"],
        );
        check(&TaskSpec { hostname: Some("front".to_owned()), ..spec(&[], &[]) }, &["web 10.83.0.1"]);
    }
}
