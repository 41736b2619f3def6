//! One round of the agent: look, decide, remember, act, tell.

mod network;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lith_api::agent::{Alloc, AllocTask, Desired, Observed};
use lith_api::task::TaskStatus;
use lith_core::job::{Publish, RestartPolicy, STOP_GRACE_DEFAULT, TaskSpec, Transport};
use lith_core::name::{AllocId, TaskId, VolumeId, VolumeName};
use lith_core::slot::Slot;
use lith_core::task::{
    Action, Exit, ExitReport, HealthState, History, Image, Incarnation, Phase, Process, Step, Wanted, step,
};
use lith_core::time::Time;

use super::connects::{self, Rights};
use super::disks::{self, Mounting};
use super::order::{self, Known};
use super::serving::For;
use super::state::{self, PinnedImage, Record, StateError};
use super::supervise::Boot;
use super::{Agent, RETRY_INTERVAL, health};
use crate::clock;
use lith_core::chain::chain;

/// Between looks at whether a port has become free: the end of the task that has it wakes the agent anyway.
const HOLDER_INTERVAL: Duration = Duration::from_secs(1);

/// Of a task that runs without what it declares of the network.
const RIGHTS_MISSING: &str = "runs, but what it may reach is not in force yet: the log of lith says why";

/// What a sentence repeats of a failed check: the rest is in the task's details.
const OUTPUT_CHARS_SHOWN: usize = 200;

/// A task that the node should have, ready to run.
#[derive(Debug, Clone)]
struct Declared {
    /// Which alloc of its name it belongs to.
    born: u64,
    spec: TaskSpec,
    wanted: Wanted,
    /// Volumes of which it sees checkpoints.
    reads: BTreeSet<VolumeName>,
}

impl Declared {
    fn mounting<'a>(&'a self, id: &'a TaskId) -> Mounting<'a> {
        Mounting { id, spec: &self.spec, reads: &self.reads }
    }
}

/// A task as it is before anything is decided.
#[derive(Debug)]
struct Seen {
    id: TaskId,
    declared: Option<Declared>,
    process: Process,
    /// It belongs to an alloc that was removed, and another one has its name by now.
    is_former: bool,
}

/// A task in this round.
#[derive(Debug)]
struct Turn {
    id: TaskId,
    slot: Slot,
    declared: Option<Declared>,
    process: Process,
    step: Step,
    /// What is offered of it on the node: of a machine that lives, what it was started with, whatever is declared by
    /// now, so that its clients stay with it until it has ended.
    publish: Vec<Publish>,
    /// What it may reach, and what of it other tasks may: of a machine that lives what is declared of its version, or what
    /// that was started with while another one is wanted.
    rights: Rights,
}

impl Turn {
    /// Puts the start off, until what is in its way has gone.
    fn put_off(&mut self, why: String) {
        self.step.actions.clear();
        self.step.phase = Phase::Waiting;
        self.step.why = Some(why);
        self.step.wake_at = Some(clock::now().after(HOLDER_INTERVAL));
    }

    /// The version that the step speaks of: of one whose image is awaited, even while its former version runs.
    fn spoken_of(&self) -> Incarnation {
        let awaits = matches!(self.step.phase, Phase::Waiting | Phase::Fetching);
        let wanted = self.declared.as_ref().filter(|_| awaits).map(|declared| declared.wanted.incarnation);
        wanted.or(self.step.history.incarnation).unwrap_or(Incarnation(0))
    }
}

impl Agent {
    /// One round. Returns when to look again though nothing calls for it.
    pub(super) fn round(&mut self) -> Result<Option<Time>, StateError> {
        self.keep_desired()?;
        let mut plan = Declarations::read(&self.kept, self.is_draining);
        self.keep_holds(&mut plan);
        let now = clock::now();
        let before = self.records.clone();
        let mut turns = self.decide(plan, now);
        self.tell_holds(&mut turns);
        let living = turns.iter().filter(|turn| is_alive(&turn.process));
        self.living = living.map(|turn| turn.id.clone()).collect();
        self.is_unsaved |= self.records != before;
        let saved = self.save();
        self.wait_for_volumes(&mut turns);
        self.hold_ports(&mut turns);
        self.serve_volumes(&mut turns);
        self.apply_network(&mut turns);
        let wake_at = turns.iter().filter_map(|turn| turn.step.wake_at).min();
        let mut wakes: Vec<Time> = wake_at.into_iter().collect();
        if turns.iter().any(|turn| is_alive(&turn.process) && !self.has_its_rights(turn)) {
            wakes.push(clock::now().after(RETRY_INTERVAL));
        }
        for turn in &turns {
            for action in &turn.step.actions {
                // What is not remembered must not be acted upon, but for what ends a machine: a full disk does not
                // keep a task from being stopped.
                if saved.is_err() && !matches!(action, Action::Stop | Action::Kill) {
                    continue;
                }
                if let Err(exit) = self.act(turn, action) {
                    tracing::warn!(task = %turn.id, error = %exit, "an action failed");
                    self.failed.insert(turn.id.clone(), exit);
                    wakes.push(now);
                }
                if *action == Action::Remove {
                    // What is declared anew under its name comes next; what could not be removed is tried again.
                    let is_gone = !self.records.tasks.contains_key(&turn.id);
                    wakes.push(if is_gone { now } else { now.after(RETRY_INTERVAL) });
                }
            }
        }
        self.forget_contents(&turns);
        self.tell(&turns);
        saved?;
        Ok(wakes.into_iter().min())
    }

    /// Writes what is to be remembered, if it is not on disk yet.
    fn save(&mut self) -> Result<(), StateError> {
        if self.is_unsaved {
            self.records.save(&self.config.layout)?;
            self.is_unsaved = false;
            self.tasks.send_replace(super::tasks_of(&self.records));
        }
        Ok(())
    }

    /// Puts what the server wants on disk before anything is done about it. The word of a database that does not know this
    /// node's tasks is not followed: it would remove them. A person has to decide then.
    fn keep_desired(&mut self) -> Result<(), StateError> {
        let latest = Arc::clone(&self.desired.borrow_and_update());
        let is_followed = self.kept.is_followed_by(&latest.cluster, latest.version);
        if !is_followed && !self.config.trusts_database {
            tracing::warn!(
                kept = self.kept.version,
                got = latest.version,
                "the server's database is not the one that this node follows; ignored"
            );
            return Ok(());
        }
        if latest != self.kept {
            state::save_desired(&self.config.layout, &latest)?;
            self.kept = latest;
        }
        Ok(())
    }

    fn decide(&mut self, plan: Declarations, now: Time) -> Vec<Turn> {
        let is_whole = plan.is_whole;
        let mut seen = self.look(plan);
        for (id, why) in self.obstacles(&seen) {
            let one = seen.iter_mut().find(|one| one.id == id);
            if let Some(declared) = one.and_then(|one| one.declared.as_mut()) {
                declared.wanted.obstacle = Some(why);
            }
        }
        let mut turns = Vec::new();
        for Seen { id, declared, process, is_former } in seen {
            let Some(record) = self.records.tasks.get_mut(&id) else { continue };
            let image = match &declared {
                Some(declared) if needs_image(&process, &declared.wanted) => {
                    look_at_image(&self.images, record, declared)
                }
                _ => Image::Missing,
            };
            let step = match &declared {
                Some(declared) => step(&record.history, Some(&declared.wanted), &image, &process, now),
                None if is_whole || is_former => step(&record.history, None, &image, &process, now),
                None if self.is_draining => {
                    step(&record.history, Some(&stopped(&record.history)), &image, &process, now)
                }
                None => left_alone(&record.history, &process),
            };
            record.history = step.history.clone();
            let publish = match &declared {
                _ if is_alive(&process) => self.supervisors.published(&id),
                Some(declared) if is_starting(&step) => declared.spec.publish.clone(),
                _ => vec![],
            };
            let rights = match &declared {
                Some(declared) if is_of_version(&process, declared.wanted.incarnation) => {
                    self.supervisors.regrant(&id, Rights::declared(&declared.spec))
                }
                _ if is_alive(&process) => self.supervisors.rights(&id),
                Some(declared) => Rights::declared(&declared.spec),
                None => Rights::default(),
            };
            let slot = record.slot;
            turns.push(Turn { id, slot, declared, process, step, publish, rights });
        }
        turns
    }

    /// Every task that is declared or remembered, as it is now.
    fn look(&mut self, mut plan: Declarations) -> Vec<Seen> {
        let known: BTreeSet<TaskId> = self.records.tasks.keys().chain(plan.tasks.keys()).cloned().collect();
        let mut seen = Vec::new();
        for id in known {
            let declared = plan.tasks.remove(&id);
            let born = declared.as_ref().map_or(0, |declared| declared.born);
            let preferred = self.supervisors.slot(&id);
            let Some(record) = self.records.entry(&id, born, preferred) else {
                tracing::error!(task = %id, "no slot is free: the node has too many tasks");
                continue;
            };
            // What a removed alloc of the same name has left goes first, whole; then the new one begins with nothing.
            let declared = declared.filter(|declared| declared.born == record.born);
            let is_former = declared.is_none() && born != 0;
            let process = self.process(&id);
            if let Process::Exited(ExitReport { boot, exit, .. }) = &process {
                tracing::info!(task = %id, boot, %exit, "a boot has ended");
            }
            seen.push(Seen { id, declared, process, is_former });
        }
        seen
    }

    /// What is in the way of the start of each task that has to wait.
    fn obstacles(&self, seen: &[Seen]) -> Vec<(TaskId, String)> {
        let declared = || seen.iter().filter_map(|one| Some((one, one.declared.as_ref()?)));
        // To look for an image takes a look at the disk.
        let awaited: BTreeSet<_> =
            declared().flat_map(|(_, declared)| declared.spec.depends_on.keys()).collect();
        let mut known = BTreeMap::new();
        for (Seen { id, process, .. }, declared) in declared() {
            let Some(record) = self.records.tasks.get(id) else { continue };
            let has_check = !awaited.contains(&id.task) || has_check(&self.images, record, declared);
            let (wanted, history) = (&declared.wanted, &record.history);
            known.insert(id, Known { wanted, has_check, history, process });
        }
        declared()
            .filter_map(|(one, declared)| {
                Some((one.id.clone(), order::obstacle(&one.id, &declared.spec, &known)?))
            })
            .collect()
    }

    /// The task's supervisor as seen now; a start that failed counts as a boot that ended.
    fn process(&mut self, id: &TaskId) -> Process {
        let Some(record) = self.records.tasks.get(id) else { return Process::Absent };
        if let Some(exit) = self.failed.get(id) {
            return Process::Exited(ExitReport {
                boot: record.history.boot,
                incarnation: record.history.incarnation.unwrap_or(Incarnation(0)),
                ran: Duration::ZERO,
                exit: exit.clone(),
            });
        }
        self.supervisors.look(id)
    }

    /// Holds the published ports of what runs or starts. A start that cannot have its ports is put off while another
    /// task still has them, and called off when another program has.
    fn hold_ports(&mut self, turns: &mut [Turn]) {
        for turn in turns.iter().filter(|turn| turn.publish.is_empty()) {
            self.ports.release(&turn.id);
        }
        for turn in turns.iter().filter(|turn| is_alive(&turn.process)) {
            if let Err(why) = self.ports.hold(&turn.id, &turn.publish) {
                tracing::warn!(task = %turn.id, error = %why, "a port of a running task is not held");
            }
        }
        for turn in turns.iter_mut().filter(|turn| is_starting(&turn.step)) {
            if let Some((publish, holder)) = self.ports.holder(&turn.id, &turn.publish) {
                let (port, transport) = (publish.host_port, publish.transport);
                turn.put_off(format!("waits for port {port}/{transport}, which {holder} still has"));
            } else if let Err(why) = self.ports.hold(&turn.id, &turn.publish) {
                self.ports.release(&turn.id);
                self.call_off(turn, why);
            }
        }
    }

    fn call_off(&mut self, turn: &mut Turn, why: String) {
        self.failed.insert(turn.id.clone(), Exit::NotStarted(why));
        turn.step.actions.clear();
        turn.step.wake_at = Some(clock::now());
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
                self.supervisors.stop(&turn.id, grace);
            }
            Action::Kill => self.supervisors.kill(&turn.id),
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
        let record = self.records.tasks.get_mut(&turn.id).ok_or("it is not known")?;
        let choose = |images: &crate::images::Images| image_of(images, record, declared);
        let image = self.images.pin(&turn.id, choose).ok_or("its image is gone")?;
        let pinned = PinnedImage { incarnation: incarnation.0, digest: image.digest.to_string() };
        if record.image.as_ref() != Some(&pinned) {
            record.image = Some(pinned);
            self.is_unsaved = true;
            self.save().map_err(|error| chain(&error))?;
        }
        let network = self.config.network;
        let kept = Arc::clone(&self.kept);
        let alloc = alloc_of(&kept, &turn.id).ok_or("its alloc is not known")?;
        let declaration = (alloc, &declared.spec);
        let mounting = declared.mounting(&turn.id);
        let place = |whose: &For, id: &VolumeId| self.serving.place(whose, id);
        let disks = disks::prepare(&self.config.layout, mounting, alloc, place)?;
        let mut config = self.machines.config(&turn.id, turn.slot, declaration, &image, network, disks)?;
        config.boot.extra_hosts = connects::hosts(network, (&turn.id, turn.slot), &declared.spec);
        let volumes = mounting.held();
        let boot_of = Boot {
            id: &turn.id,
            slot: turn.slot,
            incarnation,
            boot,
            network,
            publish: &turn.publish,
            rights: &turn.rights,
            volumes: &volumes,
        };
        self.supervisors.start(&boot_of, &config)?;
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
                self.is_unsaved = true;
                if let Err(error) = self.save() {
                    tracing::error!(error = %chain(&error), "a removed task is still remembered");
                }
                tracing::info!(task = %turn.id, "removed everything of a task");
            }
            Err(error) => tracing::error!(task = %turn.id, %error, "a task's files cannot be removed"),
        }
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
        let (running, health) = match &turn.process {
            Process::Running { since, health, .. } if turn.step.phase == Phase::Running => {
                (Some(*since), *health)
            }
            _ => (None, None),
        };
        let health_output = health.and_then(|_| self.supervisors.health_output(&turn.id));
        let ready = running.is_some().then(|| {
            let address = self.config.network.guest_address(turn.slot);
            let ports = turn.declared.as_ref().map_or(vec![], |declared| tcp_ports(&declared.spec));
            self.supervisors.readiness(&turn.id, history.boot, address, ports)
        });
        let (is_ready, why) = match ready {
            Some(_) if !self.has_its_rights(turn) => (false, Some(RIGHTS_MISSING.to_owned())),
            Some(Ok(())) => (true, unhealthy(health, health_output.as_deref())),
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
            incarnation: turn.spoken_of().0,
            image: turn.declared.as_ref().map_or(String::new(), |declared| declared.spec.image.clone()),
            image_digest: self
                .records
                .tasks
                .get(&turn.id)
                .and_then(|record| record.image.as_ref())
                .map(|image| image.digest.clone()),
            running_since_ms: running.map(|since| since.0),
            health: health.map(Into::into),
            health_output,
            restarts: history.restarts,
            last_exit: history.last_exit.as_ref().map(ToString::to_string),
            is_held_up: matches!(history.last_exit, Some(Exit::NotStarted(_))),
            address: running.map(|_| self.config.network.guest_address(turn.slot).to_string()),
            publish: turn
                .declared
                .as_ref()
                .map_or(vec![], |declared| declared.spec.publish.iter().map(ToString::to_string).collect()),
        }
    }

    /// Whether what a running task declares of the network is in force, for its version.
    fn has_its_rights(&self, turn: &Turn) -> bool {
        let declared = turn.declared.as_ref();
        let declared = declared.filter(|declared| is_of_version(&turn.process, declared.wanted.incarnation));
        let wanted = declared.map(|declared| Rights::declared(&declared.spec));
        wanted.is_none_or(|wanted| self.rights_in_force.get(&turn.id) == Some(&wanted))
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

/// The alloc of a task, with what its job brings along.
fn alloc_of<'a>(desired: &'a Desired, id: &TaskId) -> Option<&'a Alloc> {
    let alloc = id.alloc.to_string();
    desired.allocs.iter().find(|one| one.id == alloc)
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
            match declare(alloc, task, is_draining) {
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
        obstacle: None,
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

fn declare(alloc: &Alloc, task: &AllocTask, is_draining: bool) -> Result<(TaskId, Declared), String> {
    let Alloc { id, born, .. } = alloc;
    let (alloc, born): (AllocId, u64) = (id.parse().map_err(|error| chain(&error))?, *born);
    let name = task.name.parse().map_err(|error: lith_core::name::NameError| chain(&error))?;
    let spec = task.spec.parse(&task.name).map_err(|error| chain(&error))?;
    let wanted = Wanted {
        incarnation: Incarnation(task.incarnation),
        run: task.run && !is_draining,
        restart: spec.restart_policy(),
        stop_grace: spec.stop_grace,
        obstacle: None,
    };
    let reads = task.reads.iter().map(|volume| volume.parse().map_err(|error| chain(&error)));
    let reads = reads.collect::<Result<_, _>>()?;
    Ok((TaskId { alloc, task: name }, Declared { born, spec, wanted, reads }))
}

/// Whether it matters that the image of the wanted version is here: before a start, and before what runs is stopped for
/// another version.
fn needs_image(process: &Process, wanted: &Wanted) -> bool {
    let is_other = |running: &Incarnation| *running != wanted.incarnation;
    wanted.run
        && match process {
            Process::Absent => true,
            Process::Booting { incarnation } | Process::Running { incarnation, .. } => is_other(incarnation),
            Process::Stopping | Process::Exited(_) => false,
        }
}

fn is_alive(process: &Process) -> bool {
    match process {
        Process::Booting { .. } | Process::Running { .. } | Process::Stopping => true,
        Process::Absent | Process::Exited(_) => false,
    }
}

/// Whether this version of the task has a machine, and is not on its way out.
fn is_of_version(process: &Process, wanted: Incarnation) -> bool {
    match process {
        Process::Booting { incarnation } | Process::Running { incarnation, .. } => *incarnation == wanted,
        Process::Absent | Process::Stopping | Process::Exited(_) => false,
    }
}

fn is_starting(step: &Step) -> bool {
    step.actions.iter().any(|action| matches!(action, Action::Start { .. }))
}

/// The ports at which a task that is up answers. Those of a range are opened when they are needed, as for a transfer of a file.
fn tcp_ports(spec: &TaskSpec) -> Vec<u16> {
    let published = spec.publish.iter().filter(|publish| publish.count == 1);
    let published = published.map(|publish| (publish.guest_port, publish.transport));
    let declared = spec.ports.iter().filter(|port| port.number == port.last);
    let ports = published.chain(declared.map(|port| (port.number, port.transport)));
    let tcp = ports.filter(|(_, transport)| *transport == Transport::Tcp).map(|(number, _)| number);
    tcp.collect::<BTreeSet<u16>>().into_iter().collect()
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

/// Whether a task's health is asked for. While its image is not here, nobody knows; then it may be.
fn has_check(images: &crate::images::Images, record: &Record, declared: &Declared) -> bool {
    let asked = declared.spec.health.as_ref();
    image_of(images, record, declared)
        .is_none_or(|image| health::check(image.config.healthcheck.as_ref(), asked).is_some())
}

/// What a person is told about a task that runs and is not well.
fn unhealthy(health: Option<HealthState>, output: Option<&str>) -> Option<String> {
    match (health?, output) {
        (HealthState::Starting | HealthState::Healthy, _) => None,
        (HealthState::Unhealthy, Some(output)) => {
            Some(format!("is unhealthy: {}", output.chars().take(OUTPUT_CHARS_SHOWN).collect::<String>()))
        }
        (HealthState::Unhealthy, None) => Some("is unhealthy".to_owned()),
    }
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
    use lith_api::job::TaskSpec as WireSpec;

    fn desired(memory_bytes: u64) -> Desired {
        let spec = WireSpec { memory_bytes, ..WireSpec::from(&TaskSpec::new("nginx:1")) };
        let task =
            AllocTask { name: "web".to_owned(), spec, incarnation: 1, run: true, reads: BTreeSet::new() };
        let alloc = Alloc {
            id: "shop.main.0".to_owned(),
            born: 1,
            volumes: BTreeMap::new(),
            secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            tasks: vec![task],
        };
        Desired { cluster: "one".to_owned(), version: 1, allocs: vec![alloc], services: vec![] }
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_what_is_not_wanted() {
        let good = Declarations::read(&desired(256 << 20), false);
        assert_eq!((good.tasks.len(), good.is_whole), (1, true));
        let bad = Declarations::read(&desired(1), false);
        assert_eq!((bad.tasks.len(), bad.is_whole), (0, false));
        assert!(!Declarations::read(&Desired::default(), false).is_whole, "nobody ever said anything");
        let process = Process::Running { incarnation: Incarnation(1), since: Time(1), health: None };
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
