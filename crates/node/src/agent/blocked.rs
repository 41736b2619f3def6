//! What tasks of this node tried and were refused: gathered from the packet filter and the resolver, kept in memory, told
//! to the server at a pace that people can read.
//!
//! Everything that is decided is in [`lith_core::blocked`]. Nothing depends on it: where the kernel cannot tell, tasks are
//! refused all the same, and whoever asks is told that not everything is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lith_api::agent::Desired;
use lith_api::blocked as api;
use lith_api::event::Event;
use lith_core::blocked::allow::{Allow, View, allow};
use lith_core::blocked::{Attempt, Blocked, NameRefusal, Names, Notice, WINDOW};
use lith_core::chain::chain;
use lith_core::name::{JobName, TaskId};
use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;
use lith_core::time::Time;
use lith_core::value::port;
use lith_net::address::{GATEWAY, GATEWAY_6, GATEWAY_LINK_6};
use lith_net::blocked::Reader;
use lith_net::{GuestNetwork, own_addresses};
use tokio::sync::mpsc::Sender;

use super::lock;
use crate::clock;

/// Between two looks at whether a window of telling is over.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// For how long the node's own addresses are taken as they were.
const ADDRESSES_INTERVAL: Duration = Duration::from_secs(30);
/// Events that wait for the server. It stores them at once; what comes when there is no room is still listed.
pub(crate) const EVENTS_WAITING_MAX: usize = 256;

/// What was refused on this node. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct BlockedLog(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    blocked: Blocked,
    names: Names,
    view: View,
    tasks: BTreeMap<Slot, TaskId>,
    /// What the view was made of.
    desired: Option<Arc<Desired>>,
    /// When the node's own addresses were looked at.
    addresses_at: Option<Instant>,
    /// Why what is sent is not noticed.
    blind: Option<String>,
    events: Option<Sender<Event>>,
}

impl BlockedLog {
    /// Begins to gather, on a thread of its own that ends with the process. Events go where `events` leads.
    pub(crate) fn start(&self, events: Sender<Event>) {
        lock(&self.0).events = Some(events);
        let reader = Reader::open();
        if let Err(error) = &reader {
            self.go_blind(&chain(error));
        }
        let log = self.clone();
        let gather = move || log.gather(reader.ok());
        if let Err(error) = std::thread::Builder::new().name("blocked".to_owned()).spawn(gather) {
            self.go_blind(&chain(&error));
        }
    }

    fn go_blind(&self, why: &str) {
        tracing::warn!(error = why, "what tasks are refused is not noticed, but for names");
        lock(&self.0).blind = Some(format!("only names are noticed, for the kernel does not tell: {why}"));
    }

    fn gather(&self, mut reader: Option<Reader>) {
        let mut looked_at = Instant::now();
        loop {
            match reader.as_ref().map(|reader| reader.read(LOOK_INTERVAL)) {
                Some(Ok(refused)) => {
                    for refused in refused {
                        self.note(refused.slot, refused.attempt, 1);
                    }
                }
                Some(Err(error)) => {
                    self.go_blind(&chain(&error));
                    reader = None;
                }
                None => std::thread::sleep(LOOK_INTERVAL),
            }
            if looked_at.elapsed() >= LOOK_INTERVAL {
                looked_at = Instant::now();
                lock(&self.0).end_windows(clock::now());
            }
        }
    }

    /// Takes note that the guest in a slot was not told what a name leads to, `count` times.
    pub fn name_refused(&self, slot: Slot, name: &str, refusal: NameRefusal, count: u64) {
        let task = lock(&self.0).tasks.get(&slot).cloned();
        let Some(task) = task else { return };
        // The search domain that the guest's resolver tries behind a name is no other name.
        let whole = Attempt::name(name, refusal);
        let attempt = match &whole {
            Attempt::Name { name, .. } => {
                Attempt::name(lith_core::blocked::allow::bare(&task, name), refusal)
            }
            Attempt::Flow { .. } => whole,
        };
        self.note(slot, attempt, count);
    }

    /// Takes note that a guest learned that a name of outside leads to these addresses.
    pub fn looked_up(&self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let (mut inner, now) = (lock(&self.0), clock::now());
        for address in addresses {
            inner.names.note(name, address, now);
        }
    }

    fn note(&self, slot: Slot, attempt: Attempt, count: u64) {
        let (mut inner, now) = (lock(&self.0), clock::now());
        let Some(task) = inner.tasks.get(&slot).cloned() else { return };
        let Some(notice) = inner.blocked.note(&task, attempt, count, now) else { return };
        drop(inner);
        self.look_at_addresses();
        lock(&self.0).tell(&notice, now);
    }

    /// Takes over who is in which slot, and what there is in the cluster.
    pub(crate) fn see(&self, tasks: BTreeMap<Slot, TaskId>, desired: &Arc<Desired>, network: GuestNetwork) {
        let mut inner = lock(&self.0);
        if inner.tasks == tasks && inner.desired.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, desired)) {
            return;
        }
        inner.desired = Some(Arc::clone(desired));
        let view = view(&tasks, desired, network);
        if inner.tasks != tasks {
            let ids: BTreeSet<TaskId> = tasks.values().cloned().collect();
            inner.blocked.keep(&ids);
            inner.tasks = tasks;
        }
        let own = std::mem::take(&mut inner.view.own);
        inner.view = View { own, ..view };
    }

    /// Looks at the node's own addresses, if that was some time ago. A program is asked, so nothing is locked meanwhile.
    fn look_at_addresses(&self) {
        {
            let mut inner = lock(&self.0);
            if inner.addresses_at.is_some_and(|at| at.elapsed() < ADDRESSES_INTERVAL) {
                return;
            }
            inner.addresses_at = Some(Instant::now());
        }
        let own = own_addresses().unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "the node's addresses are not known");
            BTreeSet::new()
        });
        let gateways: [IpAddr; 3] = [GATEWAY.into(), GATEWAY_6.into(), GATEWAY_LINK_6.into()];
        lock(&self.0).view.own = own.into_iter().chain(gateways).collect();
    }

    /// What the tasks of a job tried at or after a time. Blocks for a moment.
    #[must_use]
    pub fn of_job(&self, job: &JobName, since: Time) -> api::Blocked {
        self.look_at_addresses();
        let (inner, now) = (lock(&self.0), clock::now());
        let attempts = inner.blocked.of_job(job, since).into_iter().map(|(task, attempt, record)| {
            let kind = match attempt {
                Attempt::Name { .. } => api::Kind::Name,
                Attempt::Flow { .. } => api::Kind::Flow,
            };
            let told = api::Attempt {
                task: task.to_string(),
                kind,
                what: attempt.to_string(),
                times: record.count,
                first_ms: record.first.0,
                last_ms: record.last.0,
                allow_with: String::new(),
                connects: None,
                egress: None,
                target_ports: None,
            };
            told.allowed_with(&allow(task, attempt, &inner.view, &inner.names, now))
        });
        api::Blocked {
            now_ms: now.0,
            attempts: attempts.collect(),
            omitted: inner.blocked.omitted(job),
            blind: inner.blind.clone(),
        }
    }
}

impl Inner {
    fn end_windows(&mut self, now: Time) {
        for notice in self.blocked.end_windows(now) {
            self.tell(&notice, now);
        }
    }

    /// Hands an event to the server; without one, or when it is behind, nobody is told.
    fn tell(&self, notice: &Notice, now: Time) {
        let event = match notice {
            Notice::First { task, attempt } => {
                let allow = allow(task, attempt, &self.view, &self.names, now);
                event(task, first(attempt, &allow))
            }
            Notice::More { task, attempts } => event(task, more(task, *attempts)),
        };
        if let Some(events) = &self.events {
            // Full, or the server is gone: the list has it.
            let _ = events.try_send(event);
        }
    }
}

fn event(task: &TaskId, message: String) -> Event {
    let (job, task) = (Some(task.alloc.job.to_string()), Some(task.to_string()));
    Event { id: 0, time_ms: 0, job, task, kind: "blocked".to_owned(), message }
}

fn first(attempt: &Attempt, allow: &Allow) -> String {
    let what = match attempt {
        Attempt::Name { name, .. } => format!("the name {name} was refused"),
        Attempt::Flow { .. } => format!("sending to {attempt} was refused"),
    };
    match allow {
        Allow::Connect { .. } | Allow::Egress(_) | Allow::ByHand(_) => {
            format!("{what}; to allow it: {allow}")
        }
        Allow::Never(why) => format!("{what}: {why}"),
    }
}

fn more(task: &TaskId, attempts: u64) -> String {
    let (noun, verb) = if attempts == 1 { ("attempt", "was") } else { ("attempts", "were") };
    let (minutes, job) = (WINDOW.as_secs() / 60, &task.alloc.job);
    format!(
        "{attempts} more {noun} {verb} refused within {minutes} minutes; `lith job blocked {job}` lists them"
    )
}

/// What is known of the cluster, but for the node's own addresses.
fn view(tasks: &BTreeMap<Slot, TaskId>, desired: &Desired, network: GuestNetwork) -> View {
    let ports = |texts: &[String]| texts.iter().filter_map(|text| port::port(text).ok()).collect::<Vec<_>>();
    let mut view =
        View { ranges: vec![(network.base().into(), 16), (network.base_6().into(), 48)], ..View::default() };
    for (slot, id) in tasks {
        let key = (id.alloc.job.clone(), id.task.clone());
        for address in [IpAddr::from(network.guest_address(*slot)), network.guest_address_6(*slot).into()] {
            view.addresses.insert(address, key.clone());
        }
        view.tasks.entry(key).or_default();
    }
    for service in &desired.services {
        let (Ok(job), Ok(task)) = (service.job.parse(), service.task.parse()) else { continue };
        let (key, number) = ((job, task), ServiceNumber::new(service.number));
        if let Some(number) = number {
            let addresses =
                [IpAddr::from(network.service_address(number)), network.service_address_6(number).into()];
            view.addresses.extend(addresses.map(|address| (address, key.clone())));
        }
        view.tasks.insert(key, ports(&service.ports));
    }
    for alloc in &desired.allocs {
        let running = alloc.tasks.iter().filter(|task| task.run);
        let published = running.flat_map(|task| &task.spec.publish);
        view.published.extend(published.filter_map(|text| port::publish(text).ok()));
    }
    view
}

#[cfg(test)]
mod tests {
    use lith_api::agent::ServiceEntry;
    use lith_core::blocked::Protocol;
    use lith_core::job::Transport;

    use super::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    fn flow(address: &str, port: u16) -> Attempt {
        let address = address.parse().unwrap();
        Attempt::Flow { address, port: Some(port), protocol: Protocol::Ported(Transport::Tcp) }
    }

    fn log() -> (BlockedLog, tokio::sync::mpsc::Receiver<Event>) {
        let log = BlockedLog::default();
        let services = vec![
            ServiceEntry { job: "shop".into(), task: "web".into(), number: 1, ports: vec![] },
            ServiceEntry { job: "pg".into(), task: "db".into(), number: 2, ports: vec!["5432".into()] },
        ];
        let desired = Arc::new(Desired { services, ..Desired::default() });
        let tasks = [(slot(1), "shop.main.0.web"), (slot(2), "pg.main.0.db")];
        let tasks = tasks.map(|(slot, id)| (slot, id.parse().unwrap())).into();
        log.see(tasks, &desired, GuestNetwork::default());
        let (sender, receiver) = tokio::sync::mpsc::channel(EVENTS_WAITING_MAX);
        lock(&log.0).events = Some(sender);
        (log, receiver)
    }

    #[test]
    fn what_is_refused_is_told_and_listed() {
        let (log, mut events) = log();
        log.note(slot(1), flow("10.83.128.2", 5432), 1);
        log.note(slot(1), flow("10.83.0.2", 5432), 1);
        log.looked_up("api.example.org", ["1.1.1.1".parse().unwrap()]);
        log.note(slot(1), flow("1.1.1.1", 80), 3);
        log.name_refused(slot(1), "Db.shop.lith.internal.", NameRefusal::NotDeclared, 1);
        log.name_refused(slot(1), "db", NameRefusal::NotDeclared, 1);
        log.note(slot(1), flow("169.254.83.1", 22), 1);
        log.note(slot(9), flow("1.1.1.1", 80), 1);
        let mut told = vec![];
        while let Ok(event) = events.try_recv() {
            assert_eq!((event.kind.as_str(), event.job.as_deref()), ("blocked", Some("shop")));
            told.push(event.message);
        }
        assert_eq!(
            told,
            [
                "sending to 10.83.128.2:5432 was refused; to allow it: connects: [ pg/db:5432 ]",
                "sending to 10.83.0.2:5432 was refused; to allow it: connects: [ pg/db:5432 ]",
                "sending to 1.1.1.1:80 was refused; to allow it: egress: [ api.example.org:80 ]",
                "the name db was refused; to allow it: connects: [ pg/db ]",
                "sending to 169.254.83.1:22 was refused: the node's own ports are closed to tasks, but those that tasks publish",
            ]
        );
        let listed = log.of_job(&"shop".parse().unwrap(), Time(0));
        let mut whats: Vec<_> =
            listed.attempts.iter().map(|attempt| (attempt.what.as_str(), attempt.times)).collect();
        whats.sort_unstable();
        assert_eq!(
            whats,
            [
                ("1.1.1.1:80", 3),
                ("10.83.0.2:5432", 1),
                ("10.83.128.2:5432", 1),
                ("169.254.83.1:22", 1),
                ("db", 2)
            ]
        );
        assert_eq!(log.of_job(&"shop".parse().unwrap(), Time(listed.now_ms + 1)).attempts, []);
        assert_eq!(log.of_job(&"pg".parse().unwrap(), Time(0)).attempts, []);
        // The slot belongs to another one now.
        log.see(
            [(slot(1), "pg.main.0.db".parse().unwrap())].into(),
            &Arc::default(),
            GuestNetwork::default(),
        );
        assert_eq!(log.of_job(&"shop".parse().unwrap(), Time(0)).attempts, []);
    }

    #[test]
    fn words() {
        let task = "shop.main.0.web".parse().unwrap();
        assert_eq!(
            more(&task, 1),
            "1 more attempt was refused within 10 minutes; `lith job blocked shop` lists them"
        );
        assert_eq!(
            more(&task, 500),
            "500 more attempts were refused within 10 minutes; `lith job blocked shop` lists them"
        );
    }
}
