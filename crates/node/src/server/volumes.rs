//! Volumes as the server sees them: which are declared, whether one may be deleted, and what new ones are to start with.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lith_api::error::{Code, Failure};
use lith_api::task::{ChangeKind, VolumeChange};
use lith_api::volume::{Pool, RemovedVolume, Volume};
use lith_core::capability;
use lith_core::chain::chain;
use lith_core::job::JobSpec;
use lith_core::job::volume::VolumeSpec;
use lith_core::name::{GroupName, PoolName, TaskName, VolumeId};
use lith_image::UnpackError;
use lith_store::World;

use super::{Server, database, history};
use crate::agent::AgentHandle;
use crate::clock;
use crate::layout::{Layout, PoolPath};
use crate::pools::{self, Space};
use crate::volumes::made::{missing, missing_hint};
use crate::volumes::{self, Found, TakenIn};

/// What part of its content a new volume needs besides: its folders, its journal, its own tables.
const CONTENT_MARGIN_PART: u64 = 16;

/// How long a process takes at most to end that nobody needs: a last checkpoint, on a busy disk.
const LET_GO_DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at whether it has.
const LET_GO_INTERVAL: Duration = Duration::from_millis(50);

impl Server {
    /// Every volume that has a disk, or something to start with.
    ///
    /// # Errors
    /// When the database fails or the data folder cannot be read.
    pub async fn volumes(self: &Arc<Self>, agent: AgentHandle) -> Result<Vec<Volume>, Failure> {
        self.blocking(move |server| {
            let world = server.store().world().map_err(|error| database(&error))?;
            let found = volumes::list(agent.layout()).map_err(|error| unreadable(agent.layout(), &error))?;
            let missing = server.missing(&world, agent.layout(), &found);
            let there = found.iter().map(|found| server.volume(&world, found, &agent));
            let mut all: Vec<Volume> = there.chain(missing).collect();
            all.sort_by(|a, b| (&a.job, &a.volume, a.index).cmp(&(&b.job, &b.volume, b.index)));
            Ok(all)
        })
        .await
    }

    /// Those that were made and are not there.
    fn missing(&self, world: &World, layout: &Layout, found: &[Found]) -> Vec<Volume> {
        let made = volumes::made::load(layout).unwrap_or_else(|error| {
            tracing::error!(%error, "it is not known which volumes are missing");
            BTreeMap::new()
        });
        let is_missing = |id: &VolumeId| found.iter().all(|found| found.id != *id);
        let missing = made.iter().filter(|(id, _)| is_missing(id));
        missing
            .map(|(id, pool)| Volume {
                id: id.to_string(),
                job: id.job.to_string(),
                volume: id.volume.to_string(),
                index: id.index,
                node: self.node.to_string(),
                pool: pool.to_string(),
                size_bytes: 0,
                used_bytes: 0,
                history_bytes: 0,
                dirty_bytes: 0,
                last_checkpoint: None,
                oldest_checkpoint: None,
                holders: vec![],
                readers: vec![],
                has_disk: false,
                is_declared: world.jobs.get(&id.job).is_some_and(|stored| declares(&stored.job.spec, id)),
                problem: Some(format!("{} ({})", missing_in(layout, id, pool), missing_hint(id))),
            })
            .collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// There is no such volume, or the database fails.
    pub(super) fn one_volume(&self, id: &VolumeId, agent: &AgentHandle) -> Result<Volume, Failure> {
        let world = self.store().world().map_err(|error| database(&error))?;
        Ok(self.volume(&world, &find(agent.layout(), id)?, agent))
    }

    /// Removes a volume that nothing declares and nothing uses. It is kept for a while.
    ///
    /// # Errors
    /// When there is none, or it is declared or used.
    pub async fn remove_volume(
        self: &Arc<Self>,
        id: VolumeId,
        at_once: bool,
        agent: AgentHandle,
    ) -> Result<RemovedVolume, Failure> {
        self.blocking(move |server| {
            let layout = agent.layout();
            await_let_go(&id, &agent);
            let removed = match (made(layout)?.get(&id), find(layout, &id)) {
                (Some(pool), Err(failure)) if failure.code == Code::NotFound => {
                    return give_up(layout, &id, pool, at_once);
                }
                (Some(_) | None, _) => server.take_away(&id, &agent)?,
            };
            if at_once {
                // Without the database: it may take as long as there are bytes, and nobody finds it any more.
                std::fs::remove_dir_all(&removed.folder).map_err(|error| not_removed(&id, &error))?;
            }
            tracing::info!(volume = %id, at_once, "removed a volume, as a person asked");
            Ok(removed_volume(&removed, at_once))
        })
        .await
    }

    /// Takes a volume that nothing declares and nothing uses out of its pool.
    fn take_away(&self, id: &VolumeId, agent: &AgentHandle) -> Result<volumes::Removed, Failure> {
        let conflict = |message: String| Failure::new(Code::Conflict, message);
        // Held to the end: a deployment that declares the volume comes before, and keeps it, or after, and makes a new one.
        let mut store = self.store();
        let world = store.world().map_err(|error| database(&error))?;
        let found = find(agent.layout(), id)?;
        if world.jobs.get(&id.job).is_some_and(|stored| declares(&stored.job.spec, id)) {
            let hint = format!("`lith rm --volumes {}` removes the job with its volumes", id.job);
            return Err(conflict(format!("volume \"{id}\" belongs to job \"{}\"", id.job)).hint(hint));
        }
        if let Some(task) = agent.user_of(id) {
            let message = format!("volume \"{id}\" may still be in use: task {task} is being removed");
            return Err(conflict(message).hint("try again when `lith ps` does not show it"));
        }
        if agent.disks(id).is_some() {
            let message = format!("volume \"{id}\" is still being let go");
            return Err(conflict(message).hint("try again in a moment"));
        }
        let removed = volumes::remove(&found, clock::now().0).map_err(|error| not_removed(id, &error))?;
        forget_made(agent.layout(), id)?;
        Ok(removed)
    }

    /// Volumes that were removed and can be brought back.
    ///
    /// # Errors
    /// A pool cannot be read.
    pub async fn removed_volumes(
        self: &Arc<Self>,
        agent: AgentHandle,
    ) -> Result<Vec<RemovedVolume>, Failure> {
        self.blocking(move |_| {
            let removed =
                volumes::removed(agent.layout()).map_err(|error| unreadable(agent.layout(), &error))?;
            Ok(removed.iter().map(|removed| removed_volume(removed, false)).collect())
        })
        .await
    }

    /// Brings the volume back that was removed last under a name.
    ///
    /// # Errors
    /// There is none, or one has its name by now.
    pub async fn bring_back_volume(
        self: &Arc<Self>,
        id: VolumeId,
        agent: AgentHandle,
    ) -> Result<Volume, Failure> {
        self.blocking(move |server| {
            let removed =
                volumes::removed(agent.layout()).map_err(|error| unreadable(agent.layout(), &error))?;
            let last = removed.into_iter().rfind(|removed| removed.id == id).ok_or_else(|| {
                Failure::new(Code::NotFound, format!("no volume \"{id}\" was removed"))
                    .hint("`lith volume ls --removed` lists what can be brought back")
            })?;
            volumes::bring_back(&last).map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    Failure::new(Code::Conflict, format!("there is a volume \"{id}\" already"))
                        .hint("remove that one first, or clone it under another name")
                }
                _ => Failure::new(Code::Machine, format!("volume \"{id}\" cannot be brought back: {error}")),
            })?;
            volumes::made::note(agent.layout(), &id, &last.pool)
                .map_err(|why| Failure::new(Code::Machine, why))?;
            server.one_volume(&id, &agent)
        })
        .await
    }

    /// The pools of the node.
    ///
    /// # Errors
    /// A pool cannot be read.
    pub async fn pools(self: &Arc<Self>, agent: AgentHandle) -> Result<Vec<Pool>, Failure> {
        self.blocking(move |server| {
            let layout = agent.layout();
            let found = volumes::list(layout).map_err(|error| unreadable(layout, &error))?;
            Ok(layout.pools().iter().map(|pool| server.pool(layout, pool, &found)).collect())
        })
        .await
    }

    fn pool(&self, layout: &Layout, pool: &PoolPath, found: &[Found]) -> Pool {
        let problem = pools::check(layout, pool).err();
        let space = Space::of(&pool.path).unwrap_or_default();
        let here: Vec<&Found> = found.iter().filter(|found| found.pool == pool.name).collect();
        let history = here.iter().map(|found| history::bytes(&found.folder)).sum();
        Pool {
            name: pool.name.to_string(),
            node: self.node.to_string(),
            path: pool.path.display().to_string(),
            bytes: space.bytes,
            free_bytes: space.free_bytes.saturating_sub(space.reserve_bytes()),
            reserve_bytes: space.reserve_bytes(),
            volumes: u32::try_from(here.len()).unwrap_or(u32::MAX),
            history_bytes: history,
            history_bytes_max: space.history_bytes(pool.keeps.most),
            history_s: pool.keeps.window.as_secs(),
            problem: problem.or_else(|| space.is_full().then(|| "it is full".to_owned())),
        }
    }

    fn volume(&self, world: &World, found: &Found, agent: &AgentHandle) -> Volume {
        let Found { id, size_bytes, used_bytes, pool, .. } = found;
        let job = world.jobs.get(&id.job).map(|stored| &stored.job.spec);
        let seen = history::look(found, agent);
        let name = |group: &GroupName, task: &TaskName| format!("{}.{group}.{}.{task}", id.job, id.index);
        let holder = job.and_then(|job| job.holder(&id.volume)).filter(|_| seen.is_attached);
        Volume {
            id: id.to_string(),
            job: id.job.to_string(),
            volume: id.volume.to_string(),
            index: id.index,
            node: self.node.to_string(),
            pool: pool.to_string(),
            size_bytes: size_bytes.unwrap_or_default(),
            used_bytes: *used_bytes,
            history_bytes: seen.history_bytes,
            dirty_bytes: seen.dirty_bytes,
            last_checkpoint: seen.last,
            oldest_checkpoint: seen.oldest,
            holders: holder.map(|(group, task)| name(group, task)).into_iter().collect(),
            readers: agent.readers(id).iter().map(ToString::to_string).collect(),
            has_disk: size_bytes.is_some(),
            is_declared: job.is_some_and(|job| declares(job, id)),
            problem: self.unended(id).or(seen.problem),
        }
    }
}

/// A volume of this node.
///
/// # Errors
/// There is no such volume.
pub(super) fn find(layout: &Layout, id: &VolumeId) -> Result<Found, Failure> {
    let found = volumes::list(layout).map_err(|error| unreadable(layout, &error))?;
    found.into_iter().find(|found| found.id == *id).ok_or_else(|| {
        Failure::new(Code::NotFound, format!("there is no volume \"{id}\""))
            .hint("`lith volume ls` lists what is there")
    })
}

/// Waits, but not long, for the end of the process that serves a volume when no task has it any more: who removes a job with
/// its volumes comes at that moment.
fn await_let_go(id: &VolumeId, agent: &AgentHandle) {
    let begun = Instant::now();
    while agent.user_of(id).is_none() && agent.disks(id).is_some() && begun.elapsed() < LET_GO_DEADLINE {
        std::thread::sleep(LET_GO_INTERVAL);
    }
}

fn not_removed(id: &VolumeId, error: &std::io::Error) -> Failure {
    Failure::new(Code::Machine, format!("volume \"{id}\" cannot be removed: {error}"))
        .hint("`lith volume ls --removed` shows what is left of it")
}

fn forget_made(layout: &Layout, id: &VolumeId) -> Result<(), Failure> {
    volumes::made::forget(layout, id).map_err(|why| Failure::new(Code::Machine, why))
}

/// Gives up a volume that is missing: the next task that wants it gets a new one. One whose pool is missing is most likely
/// in it.
fn give_up(layout: &Layout, id: &VolumeId, pool: &PoolName, at_once: bool) -> Result<RemovedVolume, Failure> {
    let of_pool = layout.pools().iter().find(|path| path.name == *pool);
    let why = match of_pool {
        Some(path) => pools::check(layout, path).err(),
        None => Some(format!("this node has no pool \"{pool}\" any more")),
    };
    if let Some(why) = why.filter(|_| !at_once) {
        let message = format!("volume \"{id}\" cannot be removed: {why}");
        let hint = format!("bring the pool back; or give the volume up with `lith volume rm --now {id}`");
        return Err(Failure::new(Code::Conflict, message).hint(hint));
    }
    forget_made(layout, id)?;
    tracing::info!(volume = %id, "gave up a volume that was missing, as a person asked");
    let now_ms = clock::now().0;
    Ok(RemovedVolume {
        id: id.to_string(),
        pool: pool.to_string(),
        used_bytes: 0,
        removed_ms: now_ms,
        gone_ms: now_ms,
    })
}

fn removed_volume(removed: &volumes::Removed, is_gone: bool) -> RemovedVolume {
    let grace_ms = if is_gone { 0 } else { volumes::GRACE_MS };
    RemovedVolume {
        id: removed.id.to_string(),
        pool: removed.pool.to_string(),
        used_bytes: removed.used_bytes,
        removed_ms: removed.removed_ms,
        gone_ms: removed.removed_ms.saturating_add(grace_ms),
    }
}

/// Whether the job has an instance that mounts this disk, or declares a volume that no task mounts now: taking a mount out
/// of a file and putting it back must not cost what it held.
fn declares(job: &JobSpec, id: &VolumeId) -> bool {
    match job.holder(&id.volume).and_then(|(group, _)| job.groups.get(group)) {
        Some(group) => id.index < group.count,
        None => job.volumes.contains_key(&id.volume),
    }
}

/// The volumes of a job as they are on this node, looked at once.
pub(super) struct Volumes<'a> {
    job: &'a JobSpec,
    /// Those of the job's name, declared or not.
    found: BTreeMap<VolumeId, Found>,
    /// Those that were made and are not there.
    missing: BTreeMap<VolumeId, PoolName>,
}

impl<'a> Volumes<'a> {
    pub(super) fn of(job: &'a JobSpec, layout: &Layout) -> Result<Self, Failure> {
        let found = volumes::list(layout).map_err(|error| unreadable(layout, &error))?;
        let found = found.into_iter().filter(|found| found.id.job == job.name);
        let found: BTreeMap<VolumeId, Found> = found.map(|found| (found.id.clone(), found)).collect();
        let mut missing = made(layout)?;
        missing.retain(|id, _| id.job == job.name && !found.contains_key(id));
        Ok(Self { job, found, missing })
    }

    fn has_disk(&self, id: &VolumeId) -> bool {
        self.found.get(id).is_some_and(|found| found.size_bytes.is_some())
    }

    /// Those that instances mount and that have no disk yet, in order.
    fn unmade(&self) -> impl Iterator<Item = (VolumeId, &'a VolumeSpec)> {
        let job = self.job;
        let ids = job.volumes.iter().flat_map(move |(name, volume)| {
            let holder = job.holder(name).and_then(|(group, _)| job.groups.get(group));
            let count = holder.map_or(0, |group| group.count);
            let id = move |index| VolumeId { job: job.name.clone(), volume: name.clone(), index };
            (0..count).map(move |index| (id(index), volume))
        });
        ids.filter(|(id, _)| !self.has_disk(id) && !self.missing.contains_key(id))
    }

    /// What a deployment makes of them, each instance's own, in order: those without a disk get one, and those that are
    /// not declared any more stay.
    pub(super) fn changes(&self) -> Vec<VolumeChange> {
        let created = self.unmade().map(|(id, volume)| {
            let text = match &volume.import {
                Some(folder) => format!("is created with the content of {folder}"),
                None => "is created".to_owned(),
            };
            change(&id, ChangeKind::Create, text, volume.import.clone())
        });
        let left = self.found.keys().filter(|id| !declares(self.job, id)).map(|id| {
            let text = format!("is kept, though nothing declares it; `lith volume rm {id}` deletes it");
            change(id, ChangeKind::Keep, text, None)
        });
        let missing = self.missing.iter().filter(|(id, _)| declares(self.job, id)).map(|(id, pool)| {
            let text = format!("{}; {}", missing(id, pool), missing_hint(id));
            change(id, ChangeKind::Keep, text, None)
        });
        created.chain(left).chain(missing).collect()
    }

    /// Refuses what would start without what it is to start with, or has no room for it: later, when the disk is made, its
    /// size is what it is.
    pub(super) fn check_sent(&self) -> Result<(), Failure> {
        for (id, volume) in self.unmade() {
            let Some(folder) = &volume.import else { continue };
            let Some(content) = self.found.get(&id).and_then(|found| found.content_bytes) else {
                let message =
                    format!("volume \"{id}\" starts with the content of {folder}, which has not been sent");
                let hint = format!("`lith deploy` sends it; else `PUT /v1/volumes/{id}/content`");
                return Err(Failure::new(Code::Invalid, message).hint(hint));
            };
            let needed = content + content / CONTENT_MARGIN_PART;
            if needed > volume.size.0 {
                let message = format!(
                    "volume \"{id}\" of {} is too small for {folder}, which takes {}",
                    volume.size,
                    mebibytes(content)
                );
                let hint =
                    format!("give it more, such as `size: {}`, for it grows with use", mebibytes(2 * needed));
                return Err(Failure::new(Code::Invalid, message).hint(hint));
            }
        }
        Ok(())
    }

    /// What is said of those that were made with another size.
    pub(super) fn resized(&self, before: &JobSpec) -> Vec<String> {
        capability::resized(before, self.job, |name| {
            self.found.values().any(|found| found.id.volume == *name && found.size_bytes.is_some())
        })
    }
}

fn change(id: &VolumeId, kind: ChangeKind, text: String, import: Option<String>) -> VolumeChange {
    VolumeChange { id: id.to_string(), volume: id.volume.to_string(), kind, text, import }
}

/// In whole mebibytes, as a job file may say it.
fn mebibytes(bytes: u64) -> String {
    format!("{}M", bytes.div_ceil(1 << 20))
}

/// Keeps an archive of a folder as what a volume that has no disk yet starts with, in the pool of its job's file if that is
/// known. Blocks.
///
/// # Errors
/// When it has one, there is no such pool, or the archive cannot be read or kept.
pub(crate) fn fill(
    layout: &Layout,
    id: &VolumeId,
    pool: Option<&str>,
    archive: impl Read + Send,
) -> Result<(), Failure> {
    let exists = || {
        let message = format!("volume \"{id}\" exists, and keeps what it holds");
        let hint = "plan the job again, and deploy what that shows";
        Failure::new(Code::Conflict, message).hint(hint)
    };
    if volumes::is_there(&layout.volume_disk(id)) {
        return Err(exists());
    }
    if let Some(pool) = made(layout)?.get(id) {
        return Err(Failure::new(Code::Conflict, missing(id, pool)).hint(missing_hint(id)));
    }
    let pool = pool_for(layout, id, pool)?;
    pools::check(layout, pool).map_err(|why| Failure::new(Code::Machine, why).hint(POOL_HINT))?;
    match volumes::take_in(layout, id, pool, archive).map_err(|error| not_taken(id, &error))? {
        TakenIn::Kept => Ok(()),
        TakenIn::TooLate => Err(exists()),
    }
}

/// The pool of a name; or where something of the volume is already; or the one for new volumes.
fn pool_for<'a>(layout: &'a Layout, id: &VolumeId, name: Option<&str>) -> Result<&'a PoolPath, Failure> {
    let Some(name) = name else {
        let pool = layout.pool_of(id).or_else(|| layout.pool(None));
        return pool.ok_or_else(|| Failure::new(Code::Machine, "this node has no pool").hint(POOL_HINT));
    };
    let pool = name.parse().ok().and_then(|name| layout.pool(Some(&name)));
    pool.ok_or_else(|| {
        Failure::new(Code::Invalid, format!("this node has no pool \"{}\"", name.escape_debug()))
            .hint(POOL_HINT)
    })
}

/// What to do about a pool.
const POOL_HINT: &str = "`lith pool ls` shows the pools; `lith up --pool NAME=FOLDER` names one";

/// What is said of a volume that is missing: that of its pool first, if that is missing as a whole.
fn missing_in(layout: &Layout, id: &VolumeId, pool: &PoolName) -> String {
    let pool_path = layout.pools().iter().find(|path| path.name == *pool);
    pool_path.and_then(|path| pools::check(layout, path).err()).unwrap_or_else(|| missing(id, pool))
}

fn made(layout: &Layout) -> Result<BTreeMap<VolumeId, PoolName>, Failure> {
    volumes::made::load(layout).map_err(|why| Failure::new(Code::Machine, why))
}

fn not_taken(id: &VolumeId, error: &UnpackError) -> Failure {
    let message = format!("what volume \"{id}\" starts with cannot be kept: {}", chain(error));
    match error {
        UnpackError::Write(_) => {
            let failure = Failure::new(Code::Machine, message);
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        _ => Failure::new(Code::Invalid, message),
    }
}

fn unreadable(layout: &Layout, error: &std::io::Error) -> Failure {
    let folder = layout.volumes();
    Failure::new(Code::Machine, format!("{} cannot be read: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use lith_core::job::volume::{Mount, MountSource};
    use lith_core::job::{GroupSpec, TaskSpec};

    use super::*;
    use crate::pools::Keeps;

    /// Two instances of a task that mounts a volume, beside one that none does.
    fn job() -> JobSpec {
        let mount = Mount {
            source: MountSource::Volume("data".parse().unwrap()),
            target: "/data".to_owned(),
            is_read_only: false,
        };
        let task = TaskSpec { volumes: vec![mount], ..TaskSpec::new("db:1") };
        let group = GroupSpec { count: 2, ..GroupSpec::new([("db".parse().unwrap(), task)].into()) };
        let mut job = JobSpec::new("shop".parse().unwrap(), [("main".parse().unwrap(), group)].into());
        for name in ["data", "spare"] {
            job.volumes.insert(name.parse().unwrap(), VolumeSpec::default());
        }
        job
    }

    #[test]
    fn what_becomes_of_volumes() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        let mut job = job();
        for volume in job.volumes.values_mut() {
            volume.import = Some("./site".to_owned());
        }
        let told = || -> Vec<String> {
            let changes = Volumes::of(&job, &layout).unwrap().changes();
            changes.iter().map(|change| format!("{} {}", change.id, change.text)).collect()
        };
        let sent = || Volumes::of(&job, &layout).unwrap().check_sent().map_err(|failure| failure.message);
        let created = |index| format!("shop.data.{index} is created with the content of ./site");
        assert_eq!(told(), [created(0), created(1)]);
        let missing = |index| {
            Err(format!(
                "volume \"shop.data.{index}\" starts with the content of ./site, which has not been sent"
            ))
        };
        assert_eq!(sent(), missing(0));
        let ids = ["shop.data.0", "shop.data.1", "shop.old.0"].map(|id| id.parse::<VolumeId>().unwrap());
        for id in &ids {
            std::fs::create_dir_all(layout.volume(id)).unwrap();
        }
        std::fs::write(layout.volume_disk(&ids[0]), "").unwrap();
        assert_eq!((told(), sent()), (vec![created(1)], missing(1)));
        std::fs::File::create(layout.volume_content(&ids[1])).unwrap().set_len(70 << 30).unwrap();
        let small = "volume \"shop.data.1\" of 64G is too small for ./site, which takes 71680M";
        assert_eq!(sent(), Err(small.to_owned()));
        std::fs::write(layout.volume_content(&ids[1]), "").unwrap();
        std::fs::write(layout.volume_disk(&ids[2]), "").unwrap();
        let kept = "shop.old.0 is kept, though nothing declares it; `lith volume rm shop.old.0` deletes it";
        assert_eq!((told(), sent()), (vec![created(1), kept.to_owned()], Ok(())));
    }

    #[test]
    fn what_is_missing_is_not_created() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        std::fs::create_dir(layout.node()).unwrap();
        pools::check(&layout, &layout.pools()[0].clone()).unwrap();
        let id: VolumeId = "shop.data.0".parse().unwrap();
        volumes::made::note(&layout, &id, &"default".parse().unwrap()).unwrap();
        let job = job();
        let changes = Volumes::of(&job, &layout).unwrap().changes();
        let told: Vec<(&str, ChangeKind)> =
            changes.iter().map(|change| (change.id.as_str(), change.kind)).collect();
        assert_eq!(told, [("shop.data.1", ChangeKind::Create), ("shop.data.0", ChangeKind::Keep)]);
        assert!(changes[1].text.contains("is missing"), "{}", changes[1].text);
        let failure = fill(&layout, &id, None, [].as_slice()).unwrap_err();
        assert!(failure.message.contains("is missing") && failure.hint.is_some(), "{failure:?}");
        let failure =
            fill(&layout, &"shop.data.1".parse().unwrap(), Some("bulk"), [].as_slice()).unwrap_err();
        assert_eq!(failure.message, "this node has no pool \"bulk\"");
    }

    #[test]
    fn what_is_missing_is_given_up_by_a_person_alone() {
        let folder = tempfile::tempdir().unwrap();
        let pool = PoolPath {
            name: "bulk".parse().unwrap(),
            path: folder.path().join("bulk"),
            keeps: Keeps::default(),
        };
        let layout = Layout::new(folder.path(), folder.path()).with_pools(vec![pool.clone()]);
        std::fs::create_dir_all(layout.node()).unwrap();
        std::fs::create_dir(&pool.path).unwrap();
        pools::check(&layout, &pool).unwrap();
        let id: VolumeId = "shop.data.0".parse().unwrap();
        let note = || volumes::made::note(&layout, &id, &pool.name).unwrap();
        let is_made = || volumes::made::load(&layout).unwrap().contains_key(&id);
        note();
        give_up(&layout, &id, &pool.name, false).unwrap();
        assert!(!is_made());
        // Its disk is not mounted: that is where it is.
        note();
        std::fs::rename(&pool.path, folder.path().join("elsewhere")).unwrap();
        let failure = give_up(&layout, &id, &pool.name, false).unwrap_err();
        assert!(failure.message.contains("is missing") && is_made(), "{failure:?}");
        give_up(&layout, &id, &pool.name, true).unwrap();
        assert!(!is_made());
    }

    #[test]
    fn what_an_instance_may_mount_is_declared() {
        let job = job();
        for (id, expected) in [
            ("shop.data.0", true),
            ("shop.data.1", true),
            ("shop.data.2", false),
            ("shop.spare.0", true),
            ("shop.old.0", false),
        ] {
            assert_eq!(declares(&job, &id.parse().unwrap()), expected, "{id}");
        }
    }
}
