//! What a round does about volumes: starts wait for their disks, which are served first; what is to be restored has no
//! guest meanwhile; what new volumes started with is forgotten when they have it.

use std::collections::BTreeSet;

use lith_core::name::{AllocId, TaskId, VolumeId};
use lith_core::task::{Exit, Process};

use super::{Agent, Declarations, Turn, alloc_of, is_alive, is_starting};
use crate::agent::serving::{Demand, For, Outcome};
use crate::agent::{disks, lock};
use crate::volumes;

impl Agent {
    /// What is to be restored has no guest meanwhile.
    pub(super) fn keep_holds(&self, plan: &mut Declarations) {
        let holds = lock(&self.holds);
        for (id, declared) in plan.tasks.iter_mut().filter(|(_, declared)| !declared.spec.volumes.is_empty())
        {
            if holds.contains_key(&(id.alloc.job.clone(), id.alloc.index)) {
                declared.wanted.run = false;
            }
        }
    }

    /// Says of those why they do not run.
    pub(super) fn tell_holds(&self, turns: &mut [Turn]) {
        let holds = lock(&self.holds);
        let is_held = |id: &TaskId| holds.contains_key(&(id.alloc.job.clone(), id.alloc.index));
        let has_volumes =
            |turn: &Turn| turn.declared.as_ref().is_some_and(|one| !one.spec.volumes.is_empty());
        for turn in turns.iter_mut().filter(|turn| has_volumes(turn) && is_held(&turn.id)) {
            turn.step.why.get_or_insert_with(|| "is held while a command has its volumes".to_owned());
        }
    }

    /// Puts a start off while another machine has one of its disks, as when a volume has moved from one task to another in
    /// the job's file: two machines that write to one disk destroy it.
    pub(super) fn wait_for_volumes(&self, turns: &mut [Turn]) {
        let has_volumes =
            |turn: &Turn| turn.declared.as_ref().is_some_and(|one| !one.spec.volumes.is_empty());
        if !turns.iter().any(|turn| is_starting(&turn.step) && has_volumes(turn)) {
            return;
        }
        let living = turns.iter().filter(|turn| is_alive(&turn.process));
        let held: Vec<(VolumeId, TaskId)> = living
            .flat_map(|turn| {
                self.supervisors.mounted(&turn.id).into_iter().map(|volume| (volume, turn.id.clone()))
            })
            .collect();
        for turn in turns.iter_mut().filter(|turn| is_starting(&turn.step)) {
            let Some(declared) = &turn.declared else { continue };
            let wanted = declared.mounting(&turn.id).held();
            let holder = held.iter().find(|(volume, id)| *id != turn.id && wanted.contains(volume));
            if let Some((volume, holder)) = holder {
                turn.put_off(format!("waits for volume {}, which task {holder} still has", volume.volume));
            }
        }
    }

    /// Has the volumes of what starts served, and lets go of those that nobody needs.
    pub(super) fn serve_volumes(&mut self, turns: &mut [Turn]) {
        let has_guest =
            |turn: &&Turn| is_alive(&turn.process) && !self.supervisors.mounted(&turn.id).is_empty();
        let with_guests: BTreeSet<AllocId> =
            turns.iter().filter(has_guest).map(|turn| turn.id.alloc.clone()).collect();
        for turn in turns.iter_mut().filter(|turn| is_starting(&turn.step)) {
            let outcome = match self.hold_volumes(turn, with_guests.contains(&turn.id.alloc)) {
                Outcome::Serves => self.read_volumes(turn),
                outcome => outcome,
            };
            match outcome {
                Outcome::Serves => {}
                Outcome::Opening => turn.put_off("its volumes are being prepared".to_owned()),
                Outcome::Elsewhere(volume, alloc) => {
                    turn.put_off(format!("waits for volume {}, which {alloc} still has", volume.volume));
                }
                Outcome::Waits(why) => turn.put_off(why),
                Outcome::Failed(why) => self.call_off(turn, why),
            }
        }
        self.serving.end_idle(&self.needed(turns));
    }

    /// For whom volumes must be served: who runs or is to run.
    fn needed(&self, turns: &[Turn]) -> BTreeSet<For> {
        let mut needed = BTreeSet::new();
        for turn in turns {
            let wanted = turn.declared.as_ref().filter(|one| one.wanted.run);
            let mounting = wanted.map(|one| one.mounting(&turn.id));
            let lives = is_alive(&turn.process);
            let holds = mounting.is_some_and(|one| !one.held().is_empty())
                || (lives && !self.supervisors.mounted(&turn.id).is_empty());
            needed.extend(holds.then(|| For::Alloc(turn.id.alloc.clone())));
            let reads = lives || mounting.is_some_and(|one| !one.reads.is_empty());
            needed.extend(reads.then(|| For::Reader(turn.id.clone())));
        }
        needed
    }

    /// Has the volumes served that a task writes, with all others of its alloc.
    fn hold_volumes(&mut self, turn: &Turn, has_guests: bool) -> Outcome {
        let Some(declared) = &turn.declared else { return Outcome::Serves };
        let own = declared.mounting(&turn.id).held();
        if own.is_empty() {
            return Outcome::Serves;
        }
        let Some(alloc) = alloc_of(&self.kept, &turn.id) else {
            return Outcome::Failed("its alloc is not known".to_owned());
        };
        let demand = Demand {
            task: turn.id.clone(),
            whose: For::Alloc(turn.id.alloc.clone()),
            own,
            of_alloc: disks::of_alloc(&turn.id, alloc),
            has_guests,
            memory_bytes: alloc.tasks.iter().map(|task| task.spec.memory_bytes).fold(0, u64::saturating_add),
        };
        let (layout, id, declared, alloc) =
            (self.config.layout.clone(), turn.id.clone(), declared.clone(), alloc.clone());
        let make = move || disks::make(&layout, declared.mounting(&id), &alloc).map_err(Outcome::Failed);
        self.serving.ensure(&demand, make)
    }

    /// Has checkpoints served of the volumes that a task reads.
    fn read_volumes(&mut self, turn: &Turn) -> Outcome {
        let Some(declared) = &turn.declared else { return Outcome::Serves };
        let own = declared.mounting(&turn.id).read();
        if own.is_empty() {
            return Outcome::Serves;
        }
        let demand = Demand {
            task: turn.id.clone(),
            whose: For::Reader(turn.id.clone()),
            of_alloc: own.clone(),
            own,
            has_guests: false,
            memory_bytes: declared.spec.memory.0,
        };
        let (layout, id, declared) = (self.config.layout.clone(), turn.id.clone(), declared.clone());
        let find = move || disks::find_read(&layout, declared.mounting(&id)).map_err(Outcome::Waits);
        self.serving.ensure(&demand, find)
    }

    /// Removes what the volumes of running tasks started with: the guest has put it into them before it started its process.
    pub(super) fn forget_contents(&self, turns: &[Turn]) {
        let layout = &self.config.layout;
        // What has run and ended between two rounds has had it, too.
        let has_run = |turn: &&Turn| match &turn.process {
            Process::Running { .. } => true,
            Process::Exited(report) => {
                matches!(report.exit, Exit::Code(_) | Exit::Signal(_) | Exit::OutOfMemory)
            }
            _ => false,
        };
        for turn in turns.iter().filter(has_run) {
            let Some(declared) = &turn.declared else { continue };
            let mut kept = declared.mounting(&turn.id).held();
            kept.retain(|volume| volumes::is_there(&layout.volume_content(volume)));
            if kept.is_empty() {
                continue;
            }
            // What is declared by now may be more than what this boot began with.
            let begun = self.supervisors.mounted(&turn.id);
            for volume in kept.iter().filter(|volume| begun.contains(volume)) {
                volumes::forget_content(layout, volume);
            }
        }
    }
}
