//! What tasks may reach: from what each was started with, or declares, to grants, services and names.
//!
//! Who gets what is decided in [`lith_core::connect`]. What runs has the rights that its version declares, which may be
//! others than it was started with; while another version is wanted, it keeps those that it has until it has ended, as it
//! keeps its published ports. What it may reach follows the targets that there are, without a restart: names lead to virtual
//! addresses, and those to the instances that run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lith_api::agent::ServiceEntry;
use lith_core::connect::{Directory, Member, names, target};
use lith_core::job::access::{BANDWIDTH_MIN, Bandwidth, Connect, Egress};
use lith_core::job::{Port, TaskSpec};
use lith_core::name::TaskId;
use lith_core::resolve::NamePolicy;
use lith_core::service::{ServiceKey, ServiceNumber};
use lith_core::slot::Slot;
use lith_core::value;
use lith_guest::messages::HostEntry;
use lith_net::GuestNetwork;
use serde::{Deserialize, Serialize};

/// A task's part in the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// The ports that it listens on for others.
    pub(crate) ports: Vec<Port>,
    /// What it may reach in the cluster.
    pub(crate) connects: Vec<Connect>,
    /// What it may reach outside.
    pub(crate) egress: Vec<Egress>,
    /// Most that it sends, and receives.
    pub(crate) bandwidth: Option<Bandwidth>,
}

/// The same in the note of a boot, each entry as the job file writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WrittenRights {
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    connects: Vec<String>,
    #[serde(default)]
    egress: Vec<String>,
    #[serde(default)]
    bandwidth: Option<String>,
}

impl Rights {
    /// Those that a task declares.
    pub(crate) fn declared(spec: &TaskSpec) -> Self {
        Self {
            ports: spec.ports.clone(),
            connects: spec.connects.clone(),
            egress: spec.egress.clone(),
            bandwidth: spec.bandwidth,
        }
    }

    /// Those that were written down; what cannot be read gives no right. Of a bandwidth that cannot be read the least is
    /// left.
    pub(crate) fn read(written: &WrittenRights) -> Self {
        let bandwidth = |text: &String| value::bandwidth::parse(text).unwrap_or(BANDWIDTH_MIN);
        Self {
            ports: read_all(&written.ports, value::port::port),
            connects: read_all(&written.connects, value::access::connect),
            egress: read_all(&written.egress, value::access::egress),
            bandwidth: written.bandwidth.as_ref().map(bandwidth),
        }
    }

    /// To be written down.
    pub(crate) fn written(&self) -> WrittenRights {
        WrittenRights {
            ports: write_all(&self.ports),
            connects: write_all(&self.connects),
            egress: write_all(&self.egress),
            bandwidth: self.bandwidth.map(|bandwidth| bandwidth.to_string()),
        }
    }

    /// The task as others see it.
    pub(crate) fn member<'a>(&'a self, id: &'a TaskId, slot: Slot) -> Member<'a> {
        Member { id, slot, ports: &self.ports, connects: &self.connects }
    }
}

fn read_all<T>(texts: &[String], read: impl Fn(&str) -> Result<T, value::Refusal>) -> Vec<T> {
    texts.iter().filter_map(|text| read(text).ok()).collect()
}

fn write_all<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// The numbers that the cluster gives to services. What cannot be read has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Services(BTreeMap<ServiceKey, ServiceNumber>);

impl Services {
    /// Those that the server tells.
    pub(crate) fn read(entries: &[ServiceEntry]) -> Self {
        let read = |entry: &ServiceEntry| {
            let key = (entry.job.parse().ok()?, entry.task.parse().ok()?);
            Some((key, ServiceNumber::new(entry.number)?))
        };
        Self(entries.iter().filter_map(read).collect())
    }

    /// Each with its number.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&ServiceKey, ServiceNumber)> {
        self.0.iter().map(|(key, number)| (key, *number))
    }

    /// Those that a task may use.
    pub(crate) fn of(&self, client: &TaskId, rights: &Rights) -> Vec<ServiceNumber> {
        let number = |connect: &Connect| self.0.get(&target(client, connect)).copied();
        let numbers: BTreeSet<ServiceNumber> = rights.connects.iter().filter_map(number).collect();
        numbers.into_iter().collect()
    }
}

/// What a task may learn of names.
pub(crate) fn name_policy(
    directory: &Directory<'_>,
    services: &Services,
    network: GuestNetwork,
    (id, slot): (&TaskId, Slot),
    rights: &Rights,
) -> NamePolicy {
    let addresses = |number: &ServiceNumber| -> [IpAddr; 2] {
        [network.service_address(*number).into(), network.service_address_6(*number).into()]
    };
    let job = &id.alloc.job;
    let named = names(id, &rights.connects, |task| directory.has(job, task));
    let names = named.into_iter().filter_map(|(name, keys)| {
        let numbers = keys.iter().filter_map(|key| services.0.get(key));
        let addresses: Vec<IpAddr> = numbers.flat_map(addresses).collect();
        // What the cluster does not have has no name either.
        (!addresses.is_empty()).then_some((name, addresses))
    });
    NamePolicy {
        slot,
        job: job.clone(),
        own: vec![id.task.to_string()],
        addresses: vec![network.guest_address(slot).into(), network.guest_address_6(slot).into()],
        names: names.collect(),
        egress: rights.egress.clone(),
    }
}

/// The lines of a task's `/etc/hosts` that its image does not bring: those that it declares, then itself.
pub(crate) fn hosts(network: GuestNetwork, (id, slot): (&TaskId, Slot), spec: &TaskSpec) -> Vec<HostEntry> {
    let declared =
        spec.hosts.iter().map(|(name, address)| HostEntry { name: name.clone(), address: *address });
    // The host name is there anyway.
    let own = spec
        .hostname
        .as_ref()
        .map(|_| HostEntry { name: id.task.to_string(), address: network.guest_address(slot).into() });
    declared.chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(connects: &[&str], hosts: &[(&str, &str)]) -> TaskSpec {
        TaskSpec {
            connects: connects.iter().map(|text| value::access::connect(text).unwrap()).collect(),
            hosts: hosts.iter().map(|(name, to)| ((*name).to_owned(), to.parse().unwrap())).collect(),
            ..TaskSpec::new("busybox:1")
        }
    }

    fn services(entries: &[(&str, &str, u16)]) -> Services {
        let entry = |(job, task, number): &(&str, &str, u16)| ServiceEntry {
            job: (*job).to_owned(),
            task: (*task).to_owned(),
            number: *number,
            ports: vec![],
        };
        Services::read(&entries.iter().map(entry).collect::<Vec<_>>())
    }

    #[test]
    fn rights_are_read_as_they_were_written() {
        let mut spec = spec(&["db", "pg/db:5432 as store", "api:*", "dns:53-54/udp"], &[]);
        spec.ports = ["80", "9000-9010/udp"].map(|text| value::port::port(text).unwrap()).to_vec();
        spec.egress = ["internet", "*.ntfy.sh:443", "[2001:db8::1]:53/udp", "10.0.0.0/24"]
            .map(|text| value::access::egress(text).unwrap())
            .to_vec();
        spec.bandwidth = Some(Bandwidth(50_000_000));
        let rights = Rights::declared(&spec);
        assert_eq!(Rights::read(&rights.written()), rights);
        // The note of a lith that knew of none, and one that makes no sense.
        assert_eq!(Rights::read(&serde_json::from_str("{}").unwrap()), Rights::default());
        let odd = r#"{"ports": ["0"], "connects": ["a/b/c", "db"], "egress": ["x"], "bandwidth": "fast"}"#;
        let odd = Rights::read(&serde_json::from_str(odd).unwrap());
        assert_eq!((odd.ports.len(), odd.connects.len(), odd.egress.len()), (0, 1, 0));
        assert_eq!(odd.bandwidth, Some(BANDWIDTH_MIN));
    }

    #[test]
    fn names_lead_to_the_virtual_addresses_of_services_that_there_are() {
        let [web, db]: [TaskId; 2] = ["shop.main.0.web", "shop.main.0.db"].map(|id| id.parse().unwrap());
        let [one, two] = [1, 2].map(|number| Slot::new(number).unwrap());
        let nothing = Rights::default();
        let services =
            services(&[("shop", "db", 7), ("pg", "db", 8), ("shop", "web", 9), ("bad name", "x", 10)]);
        let rights = Rights::declared(&spec(&["db as Store", "pg/db", "gone"], &[]));
        let directory = Directory::new([rights.member(&web, one), nothing.member(&db, two)]);
        let policy = name_policy(&directory, &services, GuestNetwork::default(), (&web, one), &rights);
        let lines: Vec<String> = policy.names.iter().map(|(name, at)| format!("{name} {at:?}")).collect();
        assert_eq!(
            lines,
            [
                "db [10.83.128.7, fd6c:690a:5301:1::7]",
                "db.pg [10.83.128.8, fd6c:690a:5301:1::8]",
                "store [10.83.128.7, fd6c:690a:5301:1::7]",
            ]
        );
        assert_eq!(policy.own, ["web"]);
        let numbers: Vec<u16> = services.of(&web, &rights).into_iter().map(ServiceNumber::number).collect();
        assert_eq!(numbers, [7, 8]);
        assert_eq!(services.all().count(), 3);
    }

    #[test]
    fn lines_of_hosts() {
        let web = "shop.main.0.web".parse().unwrap();
        let check = |spec: &TaskSpec, expected: &[&str]| {
            let lines = hosts(GuestNetwork::default(), (&web, Slot::new(1).unwrap()), spec);
            let lines: Vec<String> =
                lines.iter().map(|line| format!("{} {}", line.name, line.address)).collect();
            assert_eq!(lines, expected);
        };
        check(&spec(&["db as x"], &[("DB", "::1"), ("a.b", "192.0.2.1")]), &["DB ::1", "a.b 192.0.2.1"]);
        check(&TaskSpec { hostname: Some("front".to_owned()), ..spec(&[], &[]) }, &["web 10.83.0.1"]);
    }
}
