//! Restores: volumes of an instance become what they were at one instant, all of them or none. Owns the note of a restore
//! that has not ended, and sees to it that nothing starts on disks of which some are restored and some are not.
//!
//! ```text
//!  hold, stop ──▶ note ──▶ each volume: snapshot of what is, then the change ──▶ no note ──▶ let go
//!                   │ failed, or crashed: held; tried again until it has ended ──▲
//!                   └─────────────────────────────────────────────────────────────┘
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lith_api::error::{Code, Failure};
use lith_api::event::Event;
use lith_api::volume::{Checkpoint, RestoreEvent, RestoreRequest, Restored, Snapshot};
use lith_core::name::{JobName, VolumeId};
use lith_store::Write;
use lith_volume::error::VolumeError;
use lith_volume::history::{self, verify_restore};
use lith_volume::manifest::Manifest;
use lith_volume::storage::Folder;
use serde::{Deserialize, Serialize};

use super::Server;
use super::history::{choose, failed, instance, ms, now_ns, open, quiet};
use super::volumes::find;
use crate::agent::{AgentHandle, Hold};
use crate::clock;
use crate::layout::Layout;
use crate::volumes::{self, Found};

/// Between two attempts to end a restore that could not be ended: a person may be repairing what is in the way.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// A restore that must be carried to its end: written before the first volume is changed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    keep_as: String,
    pub(super) volumes: Vec<(String, u64)>,
}

/// One restore at a time: there is one note of what must be carried to its end.
pub(super) static RESTORING: Mutex<()> = Mutex::new(());

pub(super) fn another_restore() -> Failure {
    Failure::new(Code::Conflict, "another restore is under way").hint("try again when it has ended")
}

/// What a person can do about a note that cannot be read.
const DAMAGED_HINT: &str = "its tasks stay stopped; put the file right, or remove it: then each volume of which a restore was \
     begun ends that by itself";

impl Server {
    /// Restores volumes to one instant. Steps and results are told to `tell`; the last word is a failure or nothing.
    pub fn restore(
        self: &Arc<Self>,
        request: &RestoreRequest,
        agent: &AgentHandle,
        tell: &mut dyn FnMut(RestoreEvent),
    ) {
        if let Err(failure) = self.try_restore(request, agent, tell) {
            tell(RestoreEvent::Failed(failure));
        }
    }

    fn try_restore(
        self: &Arc<Self>,
        request: &RestoreRequest,
        agent: &AgentHandle,
        tell: &mut dyn FnMut(RestoreEvent),
    ) -> Result<(), Failure> {
        let (ids, job, index) = instance(&request.volumes)?;
        let Ok(turn) = RESTORING.try_lock() else { return Err(another_restore()) };
        if agent.layout().restore().exists() {
            let message = "a restore that was begun before has not ended";
            return Err(Failure::new(Code::Conflict, message).hint("`lith volume ls` shows why"));
        }
        let layout = agent.layout();
        let folders = ids.iter().map(|id| Ok((id.clone(), find(layout, id)?.folder)));
        let folders = folders.collect::<Result<Vec<_>, Failure>>()?;
        let targets = choose(&folders, &request.to)?;
        tell(RestoreEvent::Step(format!("stopping what has the volumes of {job}")));
        let hold = quiet(&job, index, &ids, agent)?;
        let keep_as = unused_name(&folders)?;
        let volumes = ids.iter().zip(&targets).map(|(id, target)| (id.to_string(), target.id.seq)).collect();
        let journal = Journal { keep_as: keep_as.clone(), volumes };
        for ((id, folder), target) in folders.iter().zip(&targets) {
            // What was chosen may be damaged or have been folded meanwhile, and nothing has been changed yet.
            verify_restore(&Folder::read_only(folder), target.id.seq).map_err(|error| failed(id, &error))?;
        }
        write_journal(layout, &journal)?;
        if let Err(failure) = restore_all(layout, &ids, &targets, &keep_as, tell) {
            // Some are what they were and some are not yet: nothing of it starts before the rest has been done.
            let unended = Unended { instances: [(job, index)].into(), holds: vec![hold] };
            drop(turn);
            self.note_unended(Some((unended.instances.clone(), Some(failure.message.clone()))));
            tokio::runtime::Handle::current().spawn(unended.end_later(agent.clone(), Some(Arc::clone(self))));
            let hint = "its tasks stay stopped; it is tried again every minute until it has ended";
            return Err(failure.hint(hint));
        }
        tell(RestoreEvent::Step("starting its tasks again".to_owned()));
        drop(hold);
        Ok(())
    }

    /// Remembers a restore that has not ended, and why; or that there is none.
    fn note_unended(&self, unended: Option<UnendedOf>) {
        *self.unended.lock().unwrap_or_else(PoisonError::into_inner) = unended;
    }

    /// What a restore that has not ended means for a volume.
    pub(super) fn unended(&self, id: &VolumeId) -> Option<String> {
        let unended = self.unended.lock().unwrap_or_else(PoisonError::into_inner);
        let (instances, why) = unended.as_ref()?;
        instances.contains(&(id.job.clone(), id.index)).then(|| match why {
            Some(why) => format!("a restore cannot be ended, its tasks do not start: {why}"),
            None => "a restore that was cut off is being carried to its end".to_owned(),
        })
    }

    /// Tells what became of a restore that was cut off.
    fn tell_of_restore(&self, job: &JobName, kind: &str, message: String) {
        let event = Event {
            id: 0,
            time_ms: 0,
            job: Some(job.to_string()),
            task: None,
            kind: kind.to_owned(),
            message,
        };
        match self.store().write(&Write { events: vec![event], ..Write::default() }, clock::now()) {
            Ok((_, events)) => self.announce(&events),
            Err(error) => {
                tracing::warn!(error = %lith_core::chain::chain(&error), "an event was not stored");
            }
        }
    }
}

/// Why a restore has not ended, for each instance that it concerns; no sentence while it is being carried to its end.
pub(super) type UnendedOf = (BTreeSet<(JobName, u32)>, Option<String>);

/// A name that no snapshot of these volumes has: by a snapshot of that name it is known that a restore was begun.
fn unused_name(folders: &[(VolumeId, PathBuf)]) -> Result<String, Failure> {
    let mut taken = BTreeSet::new();
    for (id, folder) in folders {
        let manifest = Manifest::load(&Folder::read_only(folder)).map_err(|error| failed(id, &error))?;
        taken.extend(manifest.into_iter().flat_map(|manifest| manifest.snapshots).map(|one| one.name));
    }
    let name = format!("before-restore-{}", stamp());
    let others = (2_u32..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.clone()).chain(others);
    Ok(names.find(|name| !taken.contains(name)).expect("there are more numbers than snapshots"))
}

fn restore_all(
    layout: &Layout,
    ids: &[VolumeId],
    targets: &[history::Checkpoint],
    keep_as: &str,
    tell: &mut dyn FnMut(RestoreEvent),
) -> Result<(), Failure> {
    for (id, target) in ids.iter().zip(targets) {
        let when = jiff::Timestamp::from_nanosecond(i128::from(target.time_ns)).unwrap_or_default();
        tell(RestoreEvent::Step(format!("restoring {id} to checkpoint {} of {when:.0}", target.id.seq)));
        let restored = restore_one(layout, id, target.id.seq, keep_as)?;
        tell(RestoreEvent::Restored(restored));
    }
    remove_journal(layout)
}

fn restore_one(layout: &Layout, id: &VolumeId, seq: u64, keep_as: &str) -> Result<Restored, Failure> {
    let volume = open(layout, id)?;
    let point = volume.restore(seq, keep_as, now_ns()).map_err(|error| failed(id, &error))?;
    let replaced = volume.manifest().snapshots.into_iter().find(|snapshot| snapshot.name == keep_as);
    let replaced =
        replaced.ok_or_else(|| failed(id, &VolumeError::NoSnapshot { name: keep_as.to_owned() }))?;
    let to = Checkpoint {
        seq: point.id.seq,
        epoch: point.id.epoch,
        time_ms: ms(point.time_ns),
        bytes: 0,
        is_at_rest: true,
        is_recovered: false,
        is_merged: false,
        snapshots: vec![],
    };
    let replaced = Snapshot {
        volume: id.to_string(),
        name: replaced.name,
        seq: replaced.seq,
        time_ms: ms(replaced.time_ns),
    };
    Ok(Restored { volume: id.to_string(), to, replaced })
}

pub(super) fn write_journal(layout: &Layout, journal: &Journal) -> Result<(), Failure> {
    let json = serde_json::to_vec(journal).expect("texts and numbers always encode");
    let written = lith_vmm::durable::write(&layout.restore(), &json, 0o600);
    written.map_err(|error| Failure::new(Code::Machine, format!("the restore cannot be noted: {error}")))
}

pub(super) fn remove_journal(layout: &Layout) -> Result<(), Failure> {
    std::fs::remove_file(layout.restore())
        .and_then(|()| lith_vmm::durable::sync_folder(&layout.node()))
        .map_err(|error| Failure::new(Code::Machine, format!("the restore cannot be ended: {error}")))
}

pub(super) fn read_journal(layout: &Layout) -> Result<Option<Journal>, Failure> {
    let json = match std::fs::read(layout.restore()) {
        Ok(json) => json,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let message = format!("the note of a restore cannot be read: {error}");
            return Err(Failure::new(Code::Machine, message).hint(DAMAGED_HINT));
        }
    };
    serde_json::from_slice(&json).map(Some).map_err(|error| {
        let message = format!("{} is damaged: {error}", layout.restore().display());
        Failure::new(Code::Machine, message).hint(DAMAGED_HINT)
    })
}

/// A restore that has not ended, and what must not run before it has: an app must not find its database restored and its
/// files not.
#[derive(Debug)]
pub(crate) struct Unended {
    instances: BTreeSet<(JobName, u32)>,
    holds: Vec<Hold>,
}

impl Unended {
    /// One that a crash has cut off: to be asked before anything starts. Of a note that cannot be read nobody knows whom it
    /// concerns; then it is every volume of which a restore was begun.
    pub(crate) fn find(agent: &AgentHandle) -> Option<Self> {
        let instances = match read_journal(agent.layout()) {
            Ok(None) => return None,
            Ok(Some(journal)) => {
                let ids = journal.volumes.iter().filter_map(|(id, _)| id.parse::<VolumeId>().ok());
                ids.map(|id| (id.job, id.index)).collect()
            }
            Err(failure) => {
                tracing::error!(error = %failure.message, "a restore was cut off; what it concerns does not start");
                begun(agent.layout())
            }
        };
        let instances: BTreeSet<(JobName, u32)> = instances;
        let holds = instances.iter().map(|(job, index)| agent.hold(job, *index)).collect();
        Some(Self { instances, holds })
    }

    /// Carries it to its end, however often that must be tried.
    pub(crate) async fn end(self, agent: AgentHandle, server: Option<Arc<Server>>) {
        let mut told = None;
        let note = |why: Option<String>| {
            if let Some(server) = &server {
                server.note_unended(Some((self.instances.clone(), why)));
            }
        };
        note(None);
        loop {
            let agent = agent.clone();
            let ended = tokio::task::spawn_blocking(move || end_noted(&agent)).await;
            let internal = |error| Failure::new(Code::Internal, format!("the attempt failed: {error}"));
            let Err(failure) = ended.map_err(internal).flatten() else { break };
            if told.as_ref() != Some(&failure.message) {
                tracing::error!(error = %failure.message, "a restore cannot be ended; its tasks do not start");
                self.tell(
                    server.as_deref(),
                    "restore-failed",
                    &format!("a restore cannot be ended: {}", failure.message),
                );
            }
            let hint = failure.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            note(Some(format!("{}{hint}", failure.message)));
            told = Some(failure.message);
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        if let Some(server) = &server {
            server.note_unended(None);
        }
        self.tell(server.as_deref(), "restored", "a restore of its volumes that was cut off has ended");
        drop(self.holds);
    }

    /// The same, when it has just failed.
    async fn end_later(self, agent: AgentHandle, server: Option<Arc<Server>>) {
        tokio::time::sleep(RETRY_INTERVAL).await;
        self.end(agent, server).await;
    }

    fn tell(&self, server: Option<&Server>, kind: &str, message: &str) {
        let jobs: BTreeSet<&JobName> = self.instances.iter().map(|(job, _)| job).collect();
        for job in jobs {
            if let Some(server) = server {
                server.tell_of_restore(job, kind, message.to_owned());
            }
        }
    }
}

/// The instances of which a volume's own description says that a restore of it was begun.
fn begun(layout: &Layout) -> BTreeSet<(JobName, u32)> {
    let found = volumes::list_readable(layout);
    let is_begun = |found: &Found| match Manifest::load(&Folder::read_only(&found.folder)) {
        Ok(manifest) => manifest.is_some_and(|manifest| manifest.restore.is_some()),
        // Nobody knows: it does not start either.
        Err(_) => true,
    };
    found.into_iter().filter(is_begun).map(|found| (found.id.job, found.id.index)).collect()
}

/// Carries the restore that is noted to its end, if there is one.
fn end_noted(agent: &AgentHandle) -> Result<(), Failure> {
    let _turn = RESTORING.lock().unwrap_or_else(PoisonError::into_inner);
    let layout = agent.layout();
    let Some(journal) = read_journal(layout)? else { return Ok(()) };
    let texts: Vec<String> = journal.volumes.iter().map(|(id, _)| id.clone()).collect();
    let (ids, job, index) = instance(&texts)?;
    // What has them may still be on its way out.
    let _hold = quiet(&job, index, &ids, agent)?;
    for (id, (_, seq)) in ids.iter().zip(&journal.volumes) {
        let volume = open(layout, id)?;
        if volume.manifest().snapshots.iter().all(|snapshot| snapshot.name != journal.keep_as) {
            volume.restore(*seq, &journal.keep_as, now_ns()).map_err(|error| failed(id, &error))?;
        }
        tracing::info!(volume = %id, seq, "ended a restore that was cut off");
    }
    remove_journal(layout)
}

/// A moment for a name: `20261121-030000`.
fn stamp() -> String {
    let now = jiff::Timestamp::from_millisecond(i64::try_from(clock::now().0).unwrap_or_default());
    now.unwrap_or_default().strftime("%Y%m%d-%H%M%S").to_string()
}

#[cfg(test)]
mod tests;
