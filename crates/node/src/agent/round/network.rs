//! The network's part of a round: what runs or starts gets its TAP, its rules, and its names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use lith_core::chain::chain;
use lith_core::connect::{Directory, Fitness, Grants};
use lith_core::job::Publish;
use lith_core::name::TaskId;
use lith_core::resolve::Opening;
use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;
use lith_core::task::{HealthState, Process};
use lith_dns::form::Policy;
use lith_net::address::Family;
use lith_net::watch::Disturbance;
use lith_net::{Guest, NetworkState, Redirect, Service};

use super::super::connects::{self, Services};
use super::super::machine::with_hint;
use super::super::resolver::{self, Resolver};
use super::super::{Agent, RESYNC_INTERVAL};
use super::{Turn, is_alive, is_starting};

impl Agent {
    /// Makes TAPs and rules those of what runs or starts. When that fails, nothing starts.
    pub(super) fn apply_network(&mut self, turns: &mut [Turn]) {
        let services = Services::read(&self.kept.services);
        let resolver = self.ensure_resolver(turns);
        let (state, cut) = self.network_state(turns, &services, resolver);
        let disturbance = self.network_watch.take_disturbance();
        let is_due = self.network_looked_at.is_none_or(|at| at.elapsed() >= RESYNC_INTERVAL);
        let is_same = self.in_force.as_ref() == Some(&state);
        if is_same && (state.guests.is_empty() || (!is_due && disturbance.is_none())) {
            return self.tell_names(turns, &services);
        }
        if disturbance == Some(Disturbance::Ours) || (is_due && self.network_watch.is_deaf()) {
            self.network.distrust();
        } else if is_due || disturbance == Some(Disturbance::Others) {
            self.network.pass_firewalls();
        }
        for task in cut {
            tracing::error!(%task, "may reach too many ports of too many tasks; not all are open to it");
        }
        // Without guests nothing of ours stays on the host, not even an empty table.
        let changed = if state.guests.is_empty() {
            self.network.remove_all(state.network)
        } else {
            self.network.apply(&state, &|| still_open(&self.resolver))
        };
        match changed {
            Ok(()) => {
                self.in_force = Some(state);
                self.network_looked_at = Some(Instant::now());
                self.look_at_addresses();
                self.tell_names(turns, &services);
            }
            Err(error) => {
                let why = with_hint(format!("the network cannot be set up: {}", chain(&error)), error.hint());
                tracing::error!(error = %why, "the network was not changed");
                self.in_force = None;
                self.network_error = Some(error);
                for turn in turns.iter_mut().filter(|turn| is_starting(&turn.step)) {
                    self.call_off(turn, why.clone());
                }
            }
        }
    }

    /// What should be, and the tasks of which not all can be.
    fn network_state(
        &self,
        turns: &[Turn],
        services: &Services,
        resolver: Option<lith_net::Resolver>,
    ) -> (NetworkState, Vec<TaskId>) {
        let directory = directory(turns);
        let Grants { mut of, cut } = directory.grants();
        let guests: Vec<Guest> = present(turns)
            .map(|turn| Guest {
                slot: turn.slot,
                publishes: redirects(&turn.publish),
                connects: of.remove(&turn.slot).unwrap_or_default(),
                services: services.of(&turn.id, &turn.rights),
                egress: turn.rights.egress.clone(),
                bandwidth: turn.rights.bandwidth,
            })
            .collect();
        let fitness: BTreeMap<&TaskId, Fitness> =
            turns.iter().filter_map(|turn| Some((&turn.id, fitness(&turn.process)?))).collect();
        let used: BTreeSet<ServiceNumber> = guests.iter().flat_map(|guest| guest.services.clone()).collect();
        let used = services.all().filter(|(_, number)| used.contains(number));
        let services = used.map(|(key, number)| Service {
            number,
            instances: directory.instances(key, |id| fitness.get(id).copied()),
        });
        let state =
            NetworkState { network: self.config.network, services: services.collect(), resolver, guests };
        (state, cut)
    }

    /// Who resolves names; none while there is nobody to ask. Nothing starts without it: most programs give up where their
    /// names do not resolve.
    fn ensure_resolver(&mut self, turns: &mut [Turn]) -> Option<lith_net::Resolver> {
        present(turns).next()?;
        match self.resolver.ensure() {
            Ok(port) => Some(lith_net::Resolver { port, user: crate::resolver::USER }),
            Err(why) => {
                tracing::error!(error = %why, "there is no resolver");
                for turn in turns.iter_mut().filter(|turn| is_starting(&turn.step)) {
                    self.call_off(turn, why.clone());
                }
                None
            }
        }
    }

    /// Tells the resolver what each guest may learn. The rules are in force by then.
    fn tell_names(&mut self, turns: &[Turn], services: &Services) {
        if present(turns).next().is_none() {
            return self.rights_in_force.clear();
        }
        let (directory, network) = (directory(turns), self.config.network);
        let guest = |turn: &Turn| {
            let policy =
                connects::name_policy(&directory, services, network, (&turn.id, turn.slot), &turn.rights);
            resolver::guest(&turn.id, policy)
        };
        let guests = present(turns).map(guest).collect();
        match self.resolver.tell(Policy { node: self.node_ranges.clone(), guests }) {
            Ok(()) => {
                let rights = present(turns).map(|turn| (turn.id.clone(), turn.rights.clone()));
                self.rights_in_force = rights.collect();
            }
            Err(error) => tracing::error!(%error, "tasks resolve names as before"),
        }
    }

    /// Learns which addresses are the node's own, so that no name opens them.
    fn look_at_addresses(&mut self) {
        match lith_net::own_addresses() {
            Ok(own) => {
                let whole = |address: IpAddr| (address, if address.is_ipv4() { 32 } else { 128 });
                let cluster = Family::BOTH.map(|family| self.config.network.range(family));
                self.node_ranges = own.into_iter().map(whole).chain(cluster).collect();
            }
            Err(error) => tracing::warn!(error = %chain(&error), "the node's addresses are not known"),
        }
    }

    /// Takes note of the names that the resolver refused, and of what the others have led to.
    pub(in crate::agent) fn take_refused_names(&self) {
        let is_there = self.in_force.as_ref().is_some_and(|state| state.resolver.is_some());
        if !is_there {
            return;
        }
        // Nobody answers while one takes the place of another; what it knows is asked for the next time.
        for refused in self.resolver.refused().unwrap_or_default() {
            if let Some(slot) = Slot::new(refused.slot) {
                self.blocked.name_refused(slot, &refused.name, refused.reason.into(), refused.count);
            }
        }
        for (name, opening) in self.resolver.openings().unwrap_or_default() {
            self.blocked.looked_up(&name, [opening.address]);
        }
    }
}

/// What names have opened. When nobody answers, names that are looked up again open it again.
fn still_open(resolver: &Resolver) -> Vec<Opening> {
    let openings = resolver.openings().unwrap_or_default();
    openings.into_iter().map(|(_, opening)| opening).collect()
}

/// Those that have a machine, or are about to.
fn present(turns: &[Turn]) -> impl Iterator<Item = &Turn> {
    turns.iter().filter(|turn| is_alive(&turn.process) || is_starting(&turn.step))
}

/// The tasks of the node as they find each other.
fn directory(turns: &[Turn]) -> Directory<'_> {
    Directory::new(turns.iter().map(|turn| turn.rights.member(&turn.id, turn.slot)))
}

fn redirects(publish: &[Publish]) -> Vec<Redirect> {
    publish.iter().flat_map(|publish| Redirect::of(*publish)).collect()
}

/// How fit a task is for new connections; not at all while its process does not run.
fn fitness(process: &Process) -> Option<Fitness> {
    match process {
        Process::Running { health: Some(HealthState::Starting | HealthState::Unhealthy), .. } => {
            Some(Fitness::Unwell)
        }
        Process::Running { health: Some(HealthState::Healthy) | None, .. } => Some(Fitness::Well),
        Process::Absent | Process::Booting { .. } | Process::Stopping | Process::Exited(_) => None,
    }
}
