//! The history of volumes as the server offers it: checkpoints, snapshots, restores, clones. A volume that is served is asked
//! of its process; one that is not is opened here, which nobody else does at the same time.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lith_api::error::{Code, Failure};
use lith_api::volume::{
    Checkpoint, CloneRequest, Point, RestoreEvent, RestoreRequest, Restored, Snapshot, SnapshotRequest,
    Volume,
};
use lith_core::chain::chain;
use lith_core::name::{JobName, VolumeId};
use lith_volume::error::VolumeError;
use lith_volume::history::{self, History};
use lith_volume::manifest::Manifest;
use lith_volume::names;
use lith_volume::segment::VolumeUuid;
use lith_volume::service::{Client, ClientError, Request, VolumeLock};
use lith_volume::storage::{Folder, Storage};
use lith_volume::volume::{Volume as OpenVolume, clone_into};
use serde::{Deserialize, Serialize};

use super::Server;
use super::volumes::find;
use crate::agent::{AgentHandle, serving};
use crate::clock;
use crate::layout::Layout;
use crate::volumes::{self, Found};

/// How long the tasks of an instance may take to stop beyond their grace, and their disks to be let go.
const STOP_DEADLINE: Duration = Duration::from_secs(180);
/// Between two looks at whether they have.
const STOP_INTERVAL: Duration = Duration::from_millis(100);

/// What is seen of a volume's history.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) history_bytes: u64,
    pub(super) dirty_bytes: u64,
    pub(super) last: Option<Checkpoint>,
    pub(super) oldest: Option<Checkpoint>,
    pub(super) is_attached: bool,
    pub(super) problem: Option<String>,
}

/// Looks at the history of a volume.
pub(super) fn look(found: &Found, agent: &AgentHandle) -> Seen {
    let mut seen = Seen { history_bytes: bytes(&found.folder), ..Seen::default() };
    if found.size_bytes.is_none() && found.content_bytes.is_none() {
        seen.problem = Some(format!("its disk {} is missing", names::DISK));
    }
    if !volumes::is_there(&found.folder.join(names::MANIFEST)) {
        return seen;
    }
    match History::open(Folder::read_only(&found.folder)).and_then(|history| ends(&history)) {
        Ok((oldest, last)) => (seen.oldest, seen.last) = (oldest, last),
        Err(error) => seen.problem = Some(chain(&error)),
    }
    if let Some(status) = agent.disks(&found.id).and_then(|client| client.status().ok()) {
        let id = found.id.to_string();
        if let Some(status) = status.volumes.into_iter().find(|status| status.id == id) {
            seen.dirty_bytes = status.dirty_bytes;
            seen.is_attached = status.is_attached;
            seen.problem = seen.problem.or(status.problem);
        }
    }
    seen
}

/// What the history of the volume in a folder takes, bytes.
pub(super) fn bytes(folder: &Path) -> u64 {
    [names::LOG, names::BASE].iter().map(|name| volumes::taken(&folder.join(name))).sum()
}

fn ends(history: &History<Folder>) -> Result<(Option<Checkpoint>, Option<Checkpoint>), VolumeError> {
    let list = history.checkpoints()?;
    let wire = |checkpoint: Option<&history::Checkpoint>| checkpoint.map(|one| wire(one, history.manifest()));
    Ok((wire(list.first()), wire(list.last())))
}

fn wire(checkpoint: &history::Checkpoint, manifest: &Manifest) -> Checkpoint {
    let names = manifest.snapshots.iter().filter(|snapshot| snapshot.seq == checkpoint.id.seq);
    Checkpoint {
        seq: checkpoint.id.seq,
        epoch: checkpoint.id.epoch,
        time_ms: ms(checkpoint.time_ns),
        bytes: checkpoint.segment_bytes,
        is_at_rest: checkpoint.marks.is_at_rest,
        is_recovered: checkpoint.marks.is_recovered,
        is_merged: checkpoint.marks.is_merged,
        snapshots: names.map(|snapshot| snapshot.name.clone()).collect(),
    }
}

fn ms(time_ns: i64) -> u64 {
    u64::try_from(time_ns / 1_000_000).unwrap_or_default()
}

fn now_ns() -> i64 {
    i64::try_from(clock::now().0.saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}

/// The words for a person.
pub(crate) fn failed(id: &VolumeId, error: &VolumeError) -> Failure {
    let code = match error {
        VolumeError::NoCheckpoint { .. } | VolumeError::NoSnapshot { .. } => Code::NotFound,
        VolumeError::SnapshotExists { .. } | VolumeError::RestoreUnfinished { .. } => Code::Conflict,
        VolumeError::Shrinks { .. } => Code::Invalid,
        VolumeError::File { .. }
        | VolumeError::NoDisk { .. }
        | VolumeError::Manifest { .. }
        | VolumeError::Damaged { .. } => Code::Machine,
    };
    let failure = Failure::new(code, format!("volume \"{id}\": {}", chain(error)));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn unanswered(error: &ClientError) -> Failure {
    let code = match error {
        ClientError::Refused(_) => Code::Conflict,
        ClientError::Gone(_) | ClientError::Lost(_) => Code::Machine,
    };
    let failure = Failure::new(code, chain(error));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn parse(text: &str) -> Result<VolumeId, Failure> {
    text.parse().map_err(|error| Failure::new(Code::Invalid, chain(&error)))
}

/// Volumes that are asked for together: of one instance of one job.
fn instance(texts: &[String]) -> Result<(Vec<VolumeId>, JobName, u32), Failure> {
    let ids = texts.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    let invalid = |message: &str| Failure::new(Code::Invalid, message);
    let first = ids.first().ok_or_else(|| invalid("no volume is named"))?.clone();
    if ids.iter().any(|id| id.job != first.job || id.index != first.index) {
        return Err(invalid(
            "these volumes belong to different instances: one instant cannot be told for all",
        ));
    }
    Ok((ids, first.job, first.index))
}

impl Server {
    /// Every checkpoint of a volume that can be read, in order.
    ///
    /// # Errors
    /// There is no such volume, or its history cannot be read.
    pub async fn checkpoints(
        self: &Arc<Self>,
        id: VolumeId,
        agent: AgentHandle,
    ) -> Result<Vec<Checkpoint>, Failure> {
        self.blocking(move |_| {
            let found = find(agent.layout(), &id)?;
            if !volumes::is_there(&found.folder.join(names::MANIFEST)) {
                return Ok(vec![]);
            }
            let history =
                History::open(Folder::read_only(&found.folder)).map_err(|error| failed(&id, &error))?;
            let list = history.checkpoints().map_err(|error| failed(&id, &error))?;
            Ok(list.iter().map(|checkpoint| wire(checkpoint, history.manifest())).collect())
        })
        .await
    }

    /// Every snapshot of every volume.
    ///
    /// # Errors
    /// A pool cannot be read.
    pub async fn snapshots(self: &Arc<Self>, agent: AgentHandle) -> Result<Vec<Snapshot>, Failure> {
        self.blocking(move |_| {
            let found = volumes::list(agent.layout()).map_err(|error| {
                Failure::new(Code::Machine, format!("the volumes cannot be listed: {error}"))
            })?;
            let mut list = Vec::new();
            for Found { id, folder, .. } in found {
                // One that cannot be read shows that in the list of volumes.
                let Ok(Some(manifest)) = Manifest::load(&Folder::read_only(&folder)) else { continue };
                list.extend(manifest.snapshots.into_iter().map(|snapshot| Snapshot {
                    volume: id.to_string(),
                    name: snapshot.name,
                    seq: snapshot.seq,
                    time_ms: ms(snapshot.time_ns),
                }));
            }
            Ok(list)
        })
        .await
    }

    /// Gives a name to what volumes hold at one instant.
    ///
    /// # Errors
    /// There is no such volume, the name is taken, or it cannot be stored.
    pub async fn snapshot(
        self: &Arc<Self>,
        request: SnapshotRequest,
        agent: AgentHandle,
    ) -> Result<Vec<Snapshot>, Failure> {
        self.blocking(move |_| {
            let (ids, ..) = instance(&request.volumes)?;
            if request.name.is_empty() || request.name.len() > 128 || request.name.contains(char::is_control)
            {
                return Err(Failure::new(Code::Invalid, "a snapshot needs a name of at most 128 bytes"));
            }
            let mut made = Vec::new();
            let mut at_rest = Vec::new();
            for id in &ids {
                find(agent.layout(), id)?;
                match agent.disks(id) {
                    Some(client) => made.push((client, id.to_string())),
                    None => at_rest.push(id.clone()),
                }
            }
            let mut list = served_snapshots(made, &request.name)?;
            for id in at_rest {
                let volume = open(agent.layout(), &id)?;
                let point = volume.cut_at_rest(now_ns()).map_err(|error| failed(&id, &error))?;
                let snapshot = volume.snapshot(&request.name).map_err(|error| failed(&id, &error))?;
                let time_ms = ms(point.time_ns);
                list.push(Snapshot {
                    volume: id.to_string(),
                    name: snapshot.name,
                    seq: snapshot.seq,
                    time_ms,
                });
            }
            list.sort_by(|a, b| a.volume.cmp(&b.volume));
            Ok(list)
        })
        .await
    }

    /// Takes the name of a snapshot away.
    ///
    /// # Errors
    /// There is no such volume or snapshot.
    pub async fn forget_snapshot(
        self: &Arc<Self>,
        id: VolumeId,
        name: String,
        agent: AgentHandle,
    ) -> Result<(), Failure> {
        self.blocking(move |_| {
            find(agent.layout(), &id)?;
            match agent.disks(&id) {
                Some(client) => {
                    let volume = id.to_string();
                    client
                        .command(&Request::ForgetSnapshot { volume, name })
                        .map_err(|error| unanswered(&error))
                }
                None => {
                    let volume = open(agent.layout(), &id)?;
                    volume.forget_snapshot(&name).map(drop).map_err(|error| failed(&id, &error))
                }
            }
        })
        .await
    }

    /// Makes a volume larger, also while its task runs.
    ///
    /// # Errors
    /// There is no such volume, or it would be smaller.
    pub async fn grow(
        self: &Arc<Self>,
        id: VolumeId,
        bytes: u64,
        agent: AgentHandle,
    ) -> Result<Volume, Failure> {
        self.blocking(move |server| {
            let found = find(agent.layout(), &id)?;
            let has = found.size_bytes.ok_or_else(|| {
                Failure::new(Code::Conflict, format!("volume \"{id}\" has no disk yet"))
                    .hint("give its size in the job file")
            })?;
            if bytes < has {
                let error = VolumeError::Shrinks { has, wanted: bytes };
                return Err(failed(&id, &error));
            }
            match agent.disks(&id) {
                Some(client) => {
                    let volume = id.to_string();
                    client.command(&Request::Grow { volume, bytes }).map_err(|error| unanswered(&error))?;
                }
                None => {
                    open(agent.layout(), &id)?.grow(bytes).map_err(|error| failed(&id, &error))?;
                }
            }
            server.one_volume(&id, &agent)
        })
        .await
    }

    /// Restores volumes to one instant. Steps and results are told to `tell`; the last word is a failure or nothing.
    pub fn restore(&self, request: &RestoreRequest, agent: &AgentHandle, tell: &mut dyn FnMut(RestoreEvent)) {
        if let Err(failure) = restore(request, agent, tell) {
            tell(RestoreEvent::Failed(failure));
        }
    }

    /// Makes a volume of another one's checkpoint.
    pub fn clone_volume(
        &self,
        id: &VolumeId,
        request: &CloneRequest,
        agent: &AgentHandle,
        tell: &mut dyn FnMut(RestoreEvent),
    ) {
        let result = clone_one(id, request, agent, tell).and_then(|made| self.one_volume(&made, agent));
        tell(result.map_or_else(RestoreEvent::Failed, RestoreEvent::Cloned));
    }

    /// Verifies all that a volume's history holds.
    pub fn check_volume(&self, id: &VolumeId, agent: &AgentHandle, tell: &mut dyn FnMut(RestoreEvent)) {
        let check = || -> Result<(), Failure> {
            let found = find(agent.layout(), id)?;
            let history =
                History::open(Folder::read_only(&found.folder)).map_err(|error| failed(id, &error))?;
            history.verify(&|_| {}).map_err(|error| failed(id, &error))
        };
        tell(RestoreEvent::Step(format!("reading the history of {id}")));
        match check() {
            Ok(()) => tell(RestoreEvent::Step("everything that is stored is as it was written".to_owned())),
            Err(failure) => tell(RestoreEvent::Failed(failure)),
        }
    }

    /// Puts the history of a volume aside and begins another.
    ///
    /// # Errors
    /// There is no such volume, it is in use, or its files cannot be moved.
    pub async fn forget_history(
        self: &Arc<Self>,
        id: VolumeId,
        agent: AgentHandle,
    ) -> Result<Volume, Failure> {
        self.blocking(move |server| {
            let found = find(agent.layout(), &id)?;
            if found.size_bytes.is_none() {
                // Without its description it would be taken for one that is new, and get an empty disk.
                return Err(failed(&id, &VolumeError::NoDisk { name: names::DISK }));
            }
            let _hold = quiet(&id.job, id.index, std::slice::from_ref(&id), &agent)?;
            let aside = found.folder.join(format!("aside.{}", clock::now().0));
            let moved = std::fs::create_dir(&aside).and_then(|()| {
                for name in [names::MANIFEST, names::INTENTS, names::LOG, names::BASE] {
                    let path = found.folder.join(name);
                    if volumes::is_there(&path) {
                        std::fs::rename(&path, aside.join(name))?;
                    }
                }
                Ok(())
            });
            moved.map_err(|error| {
                Failure::new(Code::Machine, format!("the history of \"{id}\" cannot be put aside: {error}"))
            })?;
            drop(open(agent.layout(), &id)?);
            server.one_volume(&id, &agent)
        })
        .await
    }

    /// The checkpoint that a point means, and the folder of its volume.
    ///
    /// # Errors
    /// There is no such volume or point.
    pub async fn resolve(
        self: &Arc<Self>,
        id: VolumeId,
        point: Point,
        agent: AgentHandle,
    ) -> Result<(PathBuf, u64), Failure> {
        self.blocking(move |_| {
            let found = find(agent.layout(), &id)?;
            if !volumes::is_there(&found.folder.join(names::MANIFEST)) {
                let message = format!("volume \"{id}\" has no checkpoint yet: its task has not started");
                return Err(Failure::new(Code::NotFound, message));
            }
            let chosen = choose(&[(id, found.folder.clone())], &point)?;
            Ok((found.folder, chosen[0].id.seq))
        })
        .await
    }
}

/// Snapshots of volumes that are served, all or none. Those of one process are of one instant; an instance has several when
/// volumes were added to it while it ran.
fn served_snapshots(served: Vec<(Client, String)>, name: &str) -> Result<Vec<Snapshot>, Failure> {
    let mut processes: Vec<(Client, Vec<String>)> = Vec::new();
    for (client, id) in served {
        match processes.iter_mut().find(|(known, _)| *known == client) {
            Some((_, ids)) => ids.push(id),
            None => processes.push((client, vec![id])),
        }
    }
    let mut made = Vec::new();
    for (position, (client, ids)) in processes.iter().enumerate() {
        match client.snapshot(ids, name) {
            Ok(more) => made.extend(more),
            Err(error) => {
                for (client, ids) in &processes[..position] {
                    for id in ids {
                        let request = Request::ForgetSnapshot { volume: id.clone(), name: name.to_owned() };
                        // A name that stays is seen in the list.
                        let _ = client.command(&request);
                    }
                }
                return Err(unanswered(&error));
            }
        }
    }
    let wire = made.into_iter().map(|made| Snapshot {
        volume: made.volume,
        name: made.name,
        seq: made.seq,
        time_ms: ms(made.time_ns),
    });
    Ok(wire.collect())
}

/// A volume that this process has open.
struct Opened {
    volume: OpenVolume<Folder>,
    folder: PathBuf,
    _lock: VolumeLock,
}

impl std::ops::Deref for Opened {
    type Target = OpenVolume<Folder>;

    fn deref(&self) -> &OpenVolume<Folder> {
        &self.volume
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // Nobody writes any more: what was marked in the last round goes with the second. Else it counts as after a crash.
        let unmarked = self.volume.unmark().and_then(|()| self.volume.unmark());
        if let Err(error) = unmarked {
            tracing::warn!(folder = %self.folder.display(), error = %chain(&error), "a volume stays marked");
        }
        // What was made here belongs to who serves and reads volumes. It is tried again before the next start.
        if let Err(error) = serving::give_to_user(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "files of a volume have a wrong owner");
        }
    }
}

/// Opens a volume that nobody serves: there is one writer at a time, whoever it is.
fn open(layout: &Layout, id: &VolumeId) -> Result<Opened, Failure> {
    let found = find(layout, id)?;
    let lock =
        VolumeLock::take(&found.folder, &id.to_string(), "a command of the server").map_err(|taken| {
            let failure = Failure::new(Code::Conflict, taken.message);
            match taken.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
    let storage = Folder::new(&found.folder);
    let volume = OpenVolume::open_or_begin(storage, uuid()?, now_ns()).map_err(|error| failed(id, &error))?;
    let opened = Opened { volume, folder: found.folder, _lock: lock };
    opened.end_restore(now_ns()).map_err(|error| failed(id, &error))?;
    Ok(opened)
}

fn uuid() -> Result<VolumeUuid, Failure> {
    let mut bytes = [0; 16];
    let random = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    random.map_err(|error| Failure::new(Code::Machine, format!("there is no randomness: {error}")))?;
    Ok(VolumeUuid(bytes))
}

/// Stops what has volumes of an instance, and waits until nobody has these open.
fn quiet(
    job: &JobName,
    index: u32,
    ids: &[VolumeId],
    agent: &AgentHandle,
) -> Result<crate::agent::Hold, Failure> {
    let hold = agent.hold(job, index);
    let deadline = Instant::now() + STOP_DEADLINE;
    while ids.iter().any(|id| agent.disks(id).is_some()) {
        if Instant::now() > deadline {
            let message = format!("the tasks of {job} that have these volumes did not stop");
            return Err(Failure::new(Code::Conflict, message).hint("`lith ps` shows them"));
        }
        std::thread::sleep(STOP_INTERVAL);
    }
    Ok(hold)
}

/// A restore that must be carried to its end: written before the first volume is changed.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    keep_as: String,
    volumes: Vec<(String, u64)>,
}

/// One restore at a time: there is one note of what must be carried to its end.
static RESTORING: Mutex<()> = Mutex::new(());

fn restore(
    request: &RestoreRequest,
    agent: &AgentHandle,
    tell: &mut dyn FnMut(RestoreEvent),
) -> Result<(), Failure> {
    let (ids, job, index) = instance(&request.volumes)?;
    let Ok(_turn) = RESTORING.try_lock() else {
        let failure = Failure::new(Code::Conflict, "another restore is under way");
        return Err(failure.hint("try again when it has ended"));
    };
    if agent.layout().restore().exists() {
        let message = "a restore that was begun before has not ended";
        return Err(Failure::new(Code::Conflict, message).hint("start lith again: it carries it to its end"));
    }
    let layout = agent.layout();
    let folders = ids.iter().map(|id| Ok((id.clone(), find(layout, id)?.folder)));
    let folders = folders.collect::<Result<Vec<_>, Failure>>()?;
    let targets = choose(&folders, &request.to)?;
    tell(RestoreEvent::Step(format!("stopping what has the volumes of {job}")));
    let hold = quiet(&job, index, &ids, agent)?;
    let keep_as = format!("before-restore-{}", stamp());
    let journal = Journal {
        keep_as: keep_as.clone(),
        volumes: ids.iter().zip(&targets).map(|(id, target)| (id.to_string(), target.id.seq)).collect(),
    };
    for ((id, folder), target) in folders.iter().zip(&targets) {
        // What was chosen may be damaged or have been folded meanwhile, and nothing has been changed yet.
        History::open(Folder::read_only(folder))
            .and_then(|history| history.verify_restore(target.id.seq))
            .map_err(|error| failed(id, &error))?;
    }
    write_journal(layout, &journal)?;
    let restored = restore_all(layout, &ids, &targets, &keep_as, tell);
    if let Err(failure) = restored {
        // Some are what they were and some are not yet: nothing of it starts before the rest has been done.
        std::mem::forget(hold);
        return Err(failure.hint("its tasks stay stopped; start lith again when the cause is gone: it carries the restore to its end"));
    }
    tell(RestoreEvent::Step("starting its tasks again".to_owned()));
    drop(hold);
    Ok(())
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

fn write_journal(layout: &Layout, journal: &Journal) -> Result<(), Failure> {
    let json = serde_json::to_vec(journal).expect("texts and numbers always encode");
    let written = lith_vmm::durable::write(&layout.restore(), &json, 0o600);
    written.map_err(|error| Failure::new(Code::Machine, format!("the restore cannot be noted: {error}")))
}

fn remove_journal(layout: &Layout) -> Result<(), Failure> {
    std::fs::remove_file(layout.restore())
        .and_then(|()| lith_vmm::durable::sync_folder(&layout.node()))
        .map_err(|error| Failure::new(Code::Machine, format!("the restore cannot be ended: {error}")))
}

/// Carries a restore to its end that a crash cut off, before anything starts. What cannot be is held: an app must not find
/// its database restored and its files not.
pub(crate) fn end_restore(agent: &AgentHandle) -> Option<crate::agent::Hold> {
    let failure = try_end_restore(agent.layout()).err()?;
    tracing::error!(error = %failure.message, "a restore cannot be ended; its tasks do not start");
    let journal: Journal = serde_json::from_slice(&std::fs::read(agent.layout().restore()).ok()?).ok()?;
    let id: VolumeId = journal.volumes.first()?.0.parse().ok()?;
    Some(agent.hold(&id.job, id.index))
}

fn try_end_restore(layout: &Layout) -> Result<(), Failure> {
    let json = match std::fs::read(layout.restore()) {
        Ok(json) => json,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let message = format!("the note of a restore cannot be read: {error}");
            return Err(Failure::new(Code::Machine, message));
        }
    };
    let journal: Journal = serde_json::from_slice(&json).map_err(|error| {
        Failure::new(Code::Machine, format!("{} is damaged: {error}", layout.restore().display()))
    })?;
    for (id, seq) in &journal.volumes {
        let id = parse(id)?;
        // One whose process lives is served: it was never stopped, so nothing of this was begun.
        if serving::control_of(layout, &id).is_some() {
            continue;
        }
        let volume = open(layout, &id)?;
        if volume.manifest().snapshots.iter().all(|snapshot| snapshot.name != journal.keep_as) {
            volume.restore(*seq, &journal.keep_as, now_ns()).map_err(|error| failed(&id, &error))?;
        }
        tracing::info!(volume = %id, seq, "ended a restore that was cut off");
    }
    remove_journal(layout)
}

/// The checkpoints that a point means for volumes that belong together.
fn choose(folders: &[(VolumeId, PathBuf)], point: &Point) -> Result<Vec<history::Checkpoint>, Failure> {
    let opened = folders.iter().map(|(id, folder)| {
        let history = History::open(Folder::read_only(folder)).map_err(|error| failed(id, &error))?;
        let list = history.checkpoints().map_err(|error| failed(id, &error))?;
        Ok((id, history, list))
    });
    let opened = opened.collect::<Result<Vec<_>, Failure>>()?;
    let mut limit_ns = match point {
        Point::Newest => i64::MAX,
        Point::Time(time_ms) => {
            i64::try_from(*time_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000).saturating_add(999_999)
        }
        Point::Checkpoint(seq) => {
            if opened.len() > 1 {
                let message = "checkpoints are numbered for each volume by itself: say a time or a snapshot";
                return Err(Failure::new(Code::Invalid, message));
            }
            let (id, _, list) = &opened[0];
            return one(id, list, *seq).map(|found| vec![found]);
        }
        Point::Snapshot(name) => {
            let named = opened.iter().map(|(id, history, list)| {
                let snapshot = history.manifest().snapshots.iter().find(|snapshot| snapshot.name == *name);
                let missing = VolumeError::NoSnapshot { name: name.clone() };
                one(id, list, snapshot.ok_or_else(|| failed(id, &missing))?.seq)
            });
            return named.collect();
        }
    };
    loop {
        let chosen = opened.iter().map(|(id, _, list)| {
            let newest = list.iter().rfind(|checkpoint| checkpoint.time_ns <= limit_ns);
            newest.cloned().ok_or_else(|| {
                let first = list.first().map_or(0, |checkpoint| checkpoint.time_ns);
                let when = jiff::Timestamp::from_nanosecond(i128::from(first)).unwrap_or_default();
                let message = format!("the history of volume \"{id}\" begins at {when:.0}");
                Failure::new(Code::NotFound, message).hint("`lith volume checkpoints` lists what is there")
            })
        });
        let chosen = chosen.collect::<Result<Vec<_>, Failure>>()?;
        match torn(&opened, &chosen)? {
            // A crash came between: one volume has the cut, another that changed has not.
            Some(time_ns) => limit_ns = time_ns - 1,
            None => return Ok(chosen),
        }
    }
}

type Candidate<'a> = (&'a VolumeId, History<Folder>, Vec<history::Checkpoint>);

/// The time of a cut that only some of the volumes have that it concerned.
fn torn(opened: &[Candidate<'_>], chosen: &[history::Checkpoint]) -> Result<Option<i64>, Failure> {
    for ((id, history, _), checkpoint) in opened.iter().zip(chosen) {
        let companions = history.companions(checkpoint.id.seq).map_err(|error| failed(id, &error))?;
        for companion in companions {
            let other = opened.iter().position(|(_, other, _)| other.manifest().uuid == companion.volume);
            let Some(other) = other else { continue };
            let is_whole = match opened[other].2.iter().find(|one| one.id.seq == companion.seq) {
                // Its number may have been given again, to a later cut.
                Some(found) => found.time_ns == checkpoint.time_ns,
                // It was merged with later ones.
                None => companion.seq <= chosen[other].id.seq,
            };
            if !is_whole {
                return Ok(Some(checkpoint.time_ns));
            }
        }
    }
    Ok(None)
}

fn one(id: &VolumeId, list: &[history::Checkpoint], seq: u64) -> Result<history::Checkpoint, Failure> {
    let found = list.iter().find(|checkpoint| checkpoint.id.seq == seq).cloned();
    let seq_of = |checkpoint: Option<&history::Checkpoint>| checkpoint.map_or(0, |one| one.id.seq);
    found.ok_or_else(|| {
        let (first, last) = (seq_of(list.first()), seq_of(list.last()));
        failed(id, &VolumeError::NoCheckpoint { seq, first, last })
    })
}

fn clone_one(
    id: &VolumeId,
    request: &CloneRequest,
    agent: &AgentHandle,
    tell: &mut dyn FnMut(RestoreEvent),
) -> Result<VolumeId, Failure> {
    let layout = agent.layout();
    let found = find(layout, id)?;
    let target = parse(&request.to)?;
    if layout.pool_of(&target).is_some() {
        let message = format!("there is a volume \"{target}\" already");
        return Err(Failure::new(Code::Conflict, message).hint("choose another name"));
    }
    let chosen = choose(&[(id.clone(), found.folder.clone())], &request.at)?;
    let seq = chosen[0].id.seq;
    tell(RestoreEvent::Step(format!("copying {id} as of checkpoint {seq}")));
    let pool = found.folder.parent().unwrap_or(Path::new("/")).to_owned();
    // Not a volume's name: what a crash leaves is none.
    let draft = pool.join(format!("{target}.new"));
    let made = || -> Result<(), VolumeError> {
        let failed =
            |error| VolumeError::File { operation: "make", name: draft.display().to_string(), source: error };
        let _ = std::fs::remove_dir_all(&draft);
        std::fs::create_dir(&draft)
            .and_then(|()| std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o700)))
            .map_err(failed)?;
        let view = History::open(Folder::read_only(&found.folder))?.view(seq)?;
        let uuid = uuid()
            .map_err(|failure| VolumeError::Manifest { name: names::MANIFEST, problem: failure.message })?;
        let storage = Folder::new(&draft);
        clone_into(&view, &storage, uuid, now_ns(), &|_| {})?;
        storage.sync_folder("").map_err(failed)?;
        serving::give_to_user(&draft).map_err(failed)?;
        std::fs::rename(&draft, pool.join(target.to_string())).map_err(failed)?;
        lith_vmm::durable::sync_folder(&pool).map_err(failed)
    };
    made().map_err(|error| {
        let _ = std::fs::remove_dir_all(&draft);
        failed(id, &error)
    })?;
    Ok(target)
}

/// A moment for a name: `20261121-030000`.
fn stamp() -> String {
    let now = jiff::Timestamp::from_millisecond(i64::try_from(clock::now().0).unwrap_or_default());
    now.unwrap_or_default().strftime("%Y%m%d-%H%M%S").to_string()
}
