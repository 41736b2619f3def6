//! One round of the agent: look, decide, remember, act, tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lith_api::agent::{AllocTask, Desired, Observed};
use lith_api::task::TaskStatus;
use lith_core::job::{Publish, RestartPolicy, STOP_GRACE_DEFAULT, TaskSpec};
use lith_core::name::{AllocId, TaskId};
use lith_core::slot::Slot;
use lith_core::task::{
    Action, Exit, ExitReport, History, Image, Incarnation, Phase, Process, Step, Wanted, step,
};
use lith_core::time::Time;
use lith_net::{Guest, NetworkState};

use super::Agent;
use super::state::{self, PinnedImage, Record, StateError};
use crate::chain::chain;
use crate::clock;

/// A task that the node should have, ready to run.
#[derive(Debug, Clone)]
struct Declared {
    spec: TaskSpec,
    wanted: Wanted,
}

/// A task in this round.
#[derive(Debug)]
struct Turn {
    id: TaskId,
    slot: Slot,
    declared: Option<Declared>,
    process: Process,
    step: Step,
}

impl Agent {
    /// One round. Returns when to look again though nothing calls for it.
    pub(super) fn round(&mut self) -> Result<Option<Time>, StateError> {
        self.keep_desired()?;
        let plan = Declarations::read(&self.kept, self.is_draining);
        let now = clock::now();
        let before = self.records.clone();
        let mut turns = self.decide(plan, now);
        if self.records != before {
            self.records.save(&self.config.layout)?;
            self.publish_slots();
        }
        self.hold_ports(&mut turns);
        self.apply_network(&mut turns);
        let wake_at = turns.iter().filter_map(|turn| turn.step.wake_at).min();
        let mut has_failed = false;
        for turn in &turns {
            for action in &turn.step.actions {
                if let Err(exit) = self.act(turn, action) {
                    tracing::warn!(task = %turn.id, error = %exit, "an action failed");
                    self.failed.insert(turn.id.clone(), exit);
                    has_failed = true;
                }
            }
        }
        self.tell(&turns);
        Ok(if has_failed { Some(now) } else { wake_at })
    }

    /// Puts what the server wants on disk before anything is done about it. An older word than the one kept is not
    /// followed: it would come from a server that was restored from a copy, and a person has to decide then.
    fn keep_desired(&mut self) -> Result<(), StateError> {
        let latest = Arc::clone(&self.desired.borrow_and_update());
        if latest.version < self.kept.version {
            tracing::warn!(
                kept = self.kept.version,
                got = latest.version,
                "the server went back in time; ignored"
            );
            return Ok(());
        }
        if latest != self.kept {
            state::save_desired(&self.config.layout, &latest)?;
            self.kept = latest;
        }
        Ok(())
    }

    fn decide(&mut self, mut plan: Declarations, now: Time) -> Vec<Turn> {
        let known: BTreeSet<TaskId> = self.records.tasks.keys().chain(plan.tasks.keys()).cloned().collect();
        let mut turns = Vec::new();
        for id in known {
            let declared = plan.tasks.remove(&id);
            let process = self.process(&id);
            if let Process::Exited(ExitReport { boot, exit, .. }) = &process {
                tracing::info!(task = %id, boot, %exit, "a boot has ended");
            }
            let Some(record) = self.records.entry(&id) else {
                tracing::error!(task = %id, "no slot is free: the node has too many tasks");
                continue;
            };
            let image = match &declared {
                Some(declared) if declared.wanted.run && process == Process::Absent => {
                    look_at_image(&self.images, record, declared)
                }
                _ => Image::Missing,
            };
            let step = match &declared {
                Some(declared) => step(&record.history, Some(&declared.wanted), &image, &process, now),
                None if plan.is_whole => step(&record.history, None, &image, &process, now),
                None if self.is_draining => {
                    step(&record.history, Some(&stopped(&record.history)), &image, &process, now)
                }
                None => left_alone(&record.history, &process),
            };
            record.history = step.history.clone();
            turns.push(Turn { id, slot: record.slot, declared, process, step });
        }
        turns
    }

    /// The task's supervisor as seen now; a start that failed counts as a boot that ended.
    fn process(&mut self, id: &TaskId) -> Process {
        let Some(record) = self.records.tasks.get(id) else { return Process::Absent };
        if let Some(exit) = self.failed.get(id) {
            return Process::Exited(ExitReport {
                boot: record.history.boot,
                incarnation: record.history.incarnation.unwrap_or(Incarnation(0)),
                ran: std::time::Duration::ZERO,
                exit: exit.clone(),
            });
        }
        self.supervisors.look(id, record.slot)
    }

    /// Holds the published ports of what runs or starts. A start that cannot have its ports is called off.
    fn hold_ports(&mut self, turns: &mut [Turn]) {
        for turn in turns {
            let starts = is_starting(&turn.step);
            if !starts && !is_alive(&turn.process) {
                self.ports.release(&turn.id);
                continue;
            }
            let Some(publishes) = turn.declared.as_ref().map(|declared| &declared.spec.publish) else {
                continue;
            };
            match self.ports.hold(&turn.id, publishes) {
                Ok(()) => {}
                Err(why) if starts => self.call_off(turn, why),
                Err(why) => {
                    tracing::warn!(task = %turn.id, error = %why, "a port of a running task is not held")
                }
            }
        }
    }

    fn call_off(&mut self, turn: &mut Turn, why: String) {
        self.failed.insert(turn.id.clone(), Exit::NotStarted(why));
        turn.step.actions.clear();
        turn.step.wake_at = Some(clock::now());
    }

    /// Makes TAPs and rules those of what runs or starts. When that fails, nothing starts.
    fn apply_network(&mut self, turns: &mut [Turn]) {
        let guests =
            turns.iter().filter(|turn| is_alive(&turn.process) || is_starting(&turn.step)).map(|turn| {
                let publishes: Vec<Publish> = turn
                    .declared
                    .as_ref()
                    .filter(|declared| declared.wanted.run)
                    .map_or(vec![], |declared| declared.spec.publish.clone());
                Guest { slot: turn.slot, publishes }
            });
        let state = NetworkState { network: self.config.network, guests: guests.collect() };
        if self.in_force.as_ref() == Some(&state) {
            return;
        }
        // Without guests nothing of ours stays on the host, not even an empty table.
        let changed = if state.guests.is_empty() {
            self.network.remove_all(state.network)
        } else {
            self.network.apply(&state)
        };
        match changed {
            Ok(()) => self.in_force = Some(state),
            Err(error) => {
                let why = format!("the network cannot be set up: {}", chain(&error));
                tracing::error!(error = %why, "the network was not changed");
                self.in_force = None;
                for turn in turns.iter_mut().filter(|turn| is_starting(&turn.step)) {
                    self.call_off(turn, why.clone());
                }
            }
        }
    }

    fn act(&mut self, turn: &Turn, action: &Action) -> Result<(), Exit> {
        match action {
            Action::Fetch => {
                if let Some(declared) = &turn.declared {
                    self.images.fetch(&declared.spec.image, &self.runtime);
                }
            }
            Action::ForgetFetch => {
                if let Some(declared) = &turn.declared {
                    self.images.forget_failure(&declared.spec.image);
                }
            }
            Action::Start { incarnation, boot } => {
                if let Some(declared) = &turn.declared {
                    self.start(turn, declared, *incarnation, *boot).map_err(Exit::NotStarted)?;
                }
            }
            Action::Stop => {
                let grace = turn.step.history.stop_grace.unwrap_or(STOP_GRACE_DEFAULT);
                self.supervisors.stop(&turn.id, turn.slot, grace);
            }
            Action::Kill => self.supervisors.kill(&turn.id, turn.slot),
            Action::ForgetExit => {
                self.failed.remove(&turn.id);
                if let Err(error) = self.supervisors.forget_exit(&turn.id) {
                    tracing::error!(task = %turn.id, %error, "the report of a boot cannot be deleted");
                }
            }
            Action::Remove => self.remove(turn),
        }
        Ok(())
    }

    fn start(
        &mut self,
        turn: &Turn,
        declared: &Declared,
        incarnation: Incarnation,
        boot: u64,
    ) -> Result<(), String> {
        let layout = &self.config.layout;
        let record = self.records.tasks.get_mut(&turn.id).ok_or("it is not known")?;
        let choose = |images: &crate::images::Images| image_of(images, record, declared);
        let image = self.images.pin(&turn.id, choose).ok_or("its image is gone")?;
        let pinned = PinnedImage { incarnation: incarnation.0, digest: image.digest.to_string() };
        if record.image.as_ref() != Some(&pinned) {
            record.image = Some(pinned);
            self.records.save(layout).map_err(|error| chain(&error))?;
        }
        let config =
            self.machines.config(&turn.id, turn.slot, &declared.spec, &image, self.config.network)?;
        self.supervisors.start(&turn.id, turn.slot, incarnation, boot, &config)?;
        tracing::info!(task = %turn.id, slot = %turn.slot, image = %image.digest, boot, "started a supervisor");
        Ok(())
    }

    fn remove(&mut self, turn: &Turn) {
        match self.machines.remove(&turn.id, turn.slot) {
            Ok(()) => {
                self.records.tasks.remove(&turn.id);
                self.supervisors.forget(&turn.id);
                self.ports.release(&turn.id);
                self.images.unpin(&turn.id);
                if let Err(error) = self.records.save(&self.config.layout) {
                    tracing::error!(error = %chain(&error), "a removed task is still remembered");
                }
                self.publish_slots();
                tracing::info!(task = %turn.id, "removed everything of a task");
            }
            Err(error) => tracing::error!(task = %turn.id, %error, "a task's files cannot be removed"),
        }
    }

    fn publish_slots(&self) {
        let slots = self.records.tasks.iter().map(|(id, record)| (id.clone(), record.slot)).collect();
        self.slots.send_replace(Arc::new(slots));
    }

    /// Tells what is seen, if it differs from what was told.
    fn tell(&mut self, turns: &[Turn]) {
        let tasks = turns.iter().filter(|turn| self.records.tasks.contains_key(&turn.id)).collect::<Vec<_>>();
        let tasks = tasks.into_iter().map(|turn| self.status(turn)).collect();
        let observed = Observed { version: self.kept.version, tasks };
        self.observed.send_if_modified(|told| {
            let differs = **told != observed;
            if differs {
                *told = Arc::new(observed);
            }
            differs
        });
    }

    fn status(&mut self, turn: &Turn) -> TaskStatus {
        let TaskId { alloc, task } = &turn.id;
        let AllocId { job, group, index } = alloc;
        let history = &turn.step.history;
        let running = match &turn.process {
            Process::Running { since, .. } if turn.step.phase == Phase::Running => Some(*since),
            _ => None,
        };
        let ready = running.is_some().then(|| {
            let address = self.config.network.guest_address(turn.slot);
            let ports = turn.declared.as_ref().map_or(vec![], |declared| tcp_ports(&declared.spec));
            self.supervisors.readiness(&turn.id, history.boot, address, ports)
        });
        let (is_ready, why) = match ready {
            Some(Ok(())) => (true, None),
            Some(Err(why)) => (false, why),
            None => (false, turn.step.why.clone().or_else(|| self.fetch_progress(turn))),
        };
        TaskStatus {
            id: turn.id.to_string(),
            job: job.to_string(),
            group: group.to_string(),
            index: *index,
            task: task.to_string(),
            node: self.config.node.to_string(),
            phase: turn.step.phase.into(),
            is_ready,
            why,
            hint: self.fetch_hint(turn),
            incarnation: history.incarnation.map_or(0, |incarnation| incarnation.0),
            image: turn.declared.as_ref().map_or(String::new(), |declared| declared.spec.image.clone()),
            image_digest: self
                .records
                .tasks
                .get(&turn.id)
                .and_then(|record| record.image.as_ref())
                .map(|image| image.digest.clone()),
            running_since_ms: running.map(|since| since.0),
            restarts: history.restarts,
            last_exit: history.last_exit.as_ref().map(ToString::to_string),
            address: running.map(|_| self.config.network.guest_address(turn.slot).to_string()),
            publish: turn
                .declared
                .as_ref()
                .map_or(vec![], |declared| declared.spec.publish.iter().map(ToString::to_string).collect()),
        }
    }

    /// How far the fetch of a task's image is.
    fn fetch_progress(&self, turn: &Turn) -> Option<String> {
        let declared = turn.declared.as_ref().filter(|_| turn.step.phase == Phase::Fetching)?;
        self.images.progress(&declared.spec.image)
    }

    /// What to do about an image that could not be fetched.
    fn fetch_hint(&self, turn: &Turn) -> Option<String> {
        let has_not_begun = matches!(turn.step.history.last_exit, Some(Exit::NotStarted(_)));
        let declared =
            turn.declared.as_ref().filter(|_| turn.step.phase == Phase::Waiting && has_not_begun)?;
        self.images.hint(&declared.spec.image)
    }
}

/// What the node should have, as values that cannot be wrong.
struct Declarations {
    tasks: BTreeMap<TaskId, Declared>,
    /// Every declaration could be read, and there is one at all. If not, a task without one may still be wanted: its
    /// disks must not be removed.
    is_whole: bool,
}

impl Declarations {
    fn read(desired: &Desired, is_draining: bool) -> Self {
        let mut tasks = BTreeMap::new();
        // Version 0 is what an agent has that was never told anything, or that has lost its file.
        let mut is_whole = desired.version > 0;
        for (alloc, task) in
            desired.allocs.iter().flat_map(|alloc| alloc.tasks.iter().map(move |task| (alloc, task)))
        {
            match declare(&alloc.id, task, is_draining) {
                Ok((id, task)) => {
                    tasks.insert(id, task);
                }
                Err(why) => {
                    tracing::error!(alloc = %alloc.id, task = %task.name, error = %why, "a task cannot be read");
                    is_whole = false;
                }
            }
        }
        Self { tasks, is_whole }
    }
}

/// A task that is to stop and to keep everything.
fn stopped(history: &History) -> Wanted {
    Wanted {
        incarnation: history.incarnation.unwrap_or(Incarnation(0)),
        run: false,
        restart: RestartPolicy::Always,
        stop_grace: history.stop_grace.unwrap_or(STOP_GRACE_DEFAULT),
    }
}

/// A task of which is not known whether it is wanted: whatever it does, it goes on.
fn left_alone(history: &History, process: &Process) -> Step {
    let phase = match process {
        Process::Absent | Process::Exited(_) => Phase::Waiting,
        Process::Booting { .. } => Phase::Starting,
        Process::Running { .. } => Phase::Running,
        Process::Stopping => Phase::Stopping,
    };
    let why = Some("is left as it is: what the server wants of it cannot be read".to_owned());
    Step { history: history.clone(), actions: vec![], phase, why, wake_at: None }
}

fn declare(alloc: &str, task: &AllocTask, is_draining: bool) -> Result<(TaskId, Declared), String> {
    let alloc: AllocId = alloc.parse().map_err(|error| chain(&error))?;
    let name = task.name.parse().map_err(|error: lith_core::name::NameError| chain(&error))?;
    let spec = task.spec.parse(&task.name).map_err(|error| chain(&error))?;
    let wanted = Wanted {
        incarnation: Incarnation(task.incarnation),
        run: task.run && !is_draining,
        restart: spec.restart,
        stop_grace: spec.stop_grace,
    };
    Ok((TaskId { alloc, task: name }, Declared { spec, wanted }))
}

fn is_alive(process: &Process) -> bool {
    match process {
        Process::Booting { .. } | Process::Running { .. } | Process::Stopping => true,
        Process::Absent | Process::Exited(_) => false,
    }
}

fn is_starting(step: &Step) -> bool {
    step.actions.iter().any(|action| matches!(action, Action::Start { .. }))
}

fn tcp_ports(spec: &TaskSpec) -> Vec<u16> {
    let tcp = lith_core::job::Transport::Tcp;
    let published =
        spec.publish.iter().filter(|publish| publish.transport == tcp).map(|publish| publish.guest_port);
    let declared = spec.ports.iter().filter(|port| port.transport == tcp).map(|port| port.number);
    let ports: BTreeSet<u16> = published.chain(declared).collect();
    ports.into_iter().collect()
}

/// The image that a start would use: the pinned one within an incarnation, else what the name leads to now.
fn image_of(
    images: &crate::images::Images,
    record: &Record,
    declared: &Declared,
) -> Option<crate::images::Stored> {
    let pinned = record.image.as_ref().filter(|image| image.incarnation == declared.wanted.incarnation.0);
    pinned.and_then(|image| images.stored(&image.digest)).or_else(|| images.stored(&declared.spec.image))
}

fn look_at_image(images: &crate::images::Images, record: &Record, declared: &Declared) -> Image {
    if image_of(images, record, declared).is_some() {
        return Image::Present;
    }
    images.fetching(&declared.spec.image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lith_api::agent::Alloc;
    use lith_api::job::TaskSpec as WireSpec;

    fn desired(memory_bytes: u64) -> Desired {
        let spec = WireSpec {
            image: "nginx:1".to_owned(),
            entrypoint: None,
            command: None,
            env: BTreeMap::new(),
            user: None,
            working_dir: None,
            memory_bytes,
            cpu_millis: 1000,
            ports: vec![],
            publish: vec![],
            restart: "always".to_owned(),
            stop_signal: None,
            stop_grace_ms: 1000,
        };
        let task = AllocTask { name: "web".to_owned(), spec, incarnation: 1, run: true };
        let alloc = Alloc { id: "shop.main.0".to_owned(), tasks: vec![task] };
        Desired { version: 1, allocs: vec![alloc] }
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_what_is_not_wanted() {
        let good = Declarations::read(&desired(256 << 20), false);
        assert_eq!((good.tasks.len(), good.is_whole), (1, true));
        let bad = Declarations::read(&desired(1), false);
        assert_eq!((bad.tasks.len(), bad.is_whole), (0, false));
        assert!(!Declarations::read(&Desired::default(), false).is_whole, "nobody ever said anything");
        let process = Process::Running { incarnation: Incarnation(1), since: Time(1) };
        let history = History { boot: 1, ..History::default() };
        let step = left_alone(&history, &process);
        assert_eq!((step.history, step.actions, step.phase), (history, vec![], Phase::Running));
    }

    #[test]
    fn draining_runs_nothing() {
        let drained = Declarations::read(&desired(256 << 20), true);
        assert!(drained.tasks.values().all(|task| !task.wanted.run));
    }
}
