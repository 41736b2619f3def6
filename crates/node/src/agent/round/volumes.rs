//! What a round does about volumes: starts wait for their disks, which are served first; what is to be restored has no
//! guest meanwhile; what new volumes started with is forgotten when they have it.

use std::sync::PoisonError;

use lith_core::name::{TaskId, VolumeId};
use lith_core::task::{Exit, Process};

use super::{Agent, Declarations, Declared, Turn, alloc_of, is_alive, is_starting};
use crate::agent::disks;
use crate::agent::serving::Outcome;
use crate::volumes;

impl Agent {
    /// What is to be restored has no guest meanwhile.
    pub(super) fn keep_holds(&self, plan: &mut Declarations) {
        let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, declared) in plan.tasks.iter_mut().filter(|(_, declared)| !declared.spec.volumes.is_empty())
        {
            if holds.contains_key(&(id.alloc.job.clone(), id.alloc.index)) {
                declared.wanted.run = false;
            }
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
            let wanted = disks::mounted(&turn.id, &declared.spec);
            let holder = held.iter().find(|(volume, id)| *id != turn.id && wanted.contains(volume));
            if let Some((volume, holder)) = holder {
                turn.put_off(format!("waits for volume {}, which task {holder} still has", volume.volume));
            }
        }
    }

    /// Has the volumes of what starts served, and lets go of those that nobody needs.
    pub(super) fn serve_volumes(&mut self, turns: &mut [Turn]) {
        for turn in turns.iter_mut().filter(|turn| is_starting(&turn.step)) {
            match self.volumes_of(turn) {
                Outcome::Serves => {}
                Outcome::Opening => turn.put_off("its volumes are being opened".to_owned()),
                Outcome::Failed(why) => self.call_off(turn, why),
            }
        }
        let needs = |turn: &&Turn| {
            let has_volumes = |one: &Declared| one.wanted.run && !one.spec.volumes.is_empty();
            turn.declared.as_ref().is_some_and(has_volumes)
                || (is_alive(&turn.process) && !self.supervisors.mounted(&turn.id).is_empty())
        };
        let needed = turns.iter().filter(needs).map(|turn| turn.id.alloc.clone()).collect();
        self.serving.end_idle(&needed);
    }

    fn volumes_of(&mut self, turn: &Turn) -> Outcome {
        let Some(declared) = turn.declared.as_ref().filter(|one| !one.spec.volumes.is_empty()) else {
            return Outcome::Serves;
        };
        let Some(alloc) = alloc_of(&self.kept, &turn.id) else {
            return Outcome::Failed("its alloc is not known".to_owned());
        };
        match disks::make(&self.config.layout, &turn.id, &declared.spec, alloc) {
            Ok(wanted) => self.serving.ensure(&turn.id.alloc, &wanted),
            Err(why) => Outcome::Failed(why),
        }
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
            let mut kept = disks::mounted(&turn.id, &declared.spec);
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
