//! The network's part of a round: what runs or starts gets its TAP, its rules, and its names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use lith_core::chain::chain;
use lith_core::connect::{Directory, Fitness, Grants};
use lith_core::job::Publish;
use lith_core::name::TaskId;
use lith_core::resolve::NamePolicy;
use lith_core::service::ServiceNumber;
use lith_core::task::{HealthState, Process};
use lith_net::watch::Disturbance;
use lith_net::{Guest, NetworkState, Redirect, Service};

use super::super::connects::{self, Services};
use super::super::machine::with_hint;
use super::super::{Agent, RESYNC_INTERVAL};
use super::{Turn, is_alive, is_starting};

impl Agent {
    /// Makes TAPs and rules those of what runs or starts. When that fails, nothing starts.
    pub(super) fn apply_network(&mut self, turns: &mut [Turn]) {
        let services = Services::read(&self.kept.services);
        let (state, cut) = self.network_state(turns, &services);
        let disturbance = self.network_watch.take_disturbance();
        let is_due = self.network_looked_at.is_none_or(|at| at.elapsed() >= RESYNC_INTERVAL);
        let is_same = self.in_force.as_ref() == Some(&state);
        if is_same && (state.guests.is_empty() || (!is_due && disturbance.is_none())) {
            return;
        }
        if disturbance == Some(Disturbance::Ours) || (is_due && self.network_watch.is_deaf()) {
            self.network.distrust();
        } else if is_due || disturbance.is_some() {
            self.network.pass_firewalls();
        }
        for task in cut {
            tracing::error!(%task, "may reach too many ports of too many tasks; not all are open to it");
        }
        // Without guests nothing of ours stays on the host, not even an empty table.
        let changed = if state.guests.is_empty() {
            self.network.remove_all(state.network)
        } else {
            self.network.apply(&state, &Vec::new)
        };
        match changed {
            Ok(()) => {
                self.in_force = Some(state);
                self.network_looked_at = Some(Instant::now());
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
    fn network_state(&self, turns: &[Turn], services: &Services) -> (NetworkState, Vec<TaskId>) {
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
        let state = NetworkState {
            network: self.config.network,
            services: services.collect(),
            resolver: None,
            guests,
        };
        (state, cut)
    }

    /// What each guest may learn of names.
    fn name_policies(&self, turns: &[Turn], services: &Services) -> Vec<NamePolicy> {
        let (directory, network) = (directory(turns), self.config.network);
        let policy = |turn: &Turn| {
            connects::name_policy(&directory, services, network, (&turn.id, turn.slot), &turn.rights)
        };
        present(turns).map(policy).collect()
    }
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
