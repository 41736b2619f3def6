//! The processes that serve volumes: one for the volumes of an alloc, and one for each task that sees checkpoints of others'
//! volumes, found again by their folders after a restart of the daemon. Owns starting, finding and ending them; what they do is `lith_volume::service`'s.
//!
//! ```text
//!   absent ── ensure ──▶ opening ──▶ serving ── nobody needs it ──▶ ending ──▶ over ──▶ absent
//!                           │ failed: told once ──────────────────────────────▲
//! ```
//!
//! What may take long, such as making a disk, is done by the thread of a start: the agent's own never waits for a disk.

mod launch;
pub(crate) mod owner;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lith_core::chain::chain;
use lith_core::name::{AllocId, TaskId, VolumeId};
use lith_vmm::jail::{self, cgroup};
use lith_vmm::machine::UID_BASE;
use lith_volume::service::{Client, Request};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use launch::Launch;

use super::lock;
use super::wake::Waker;
use crate::layout::Layout;
use crate::pools::Keeps;

/// The user of these processes: that of slot 0, which no task has. Each sees its own volumes alone.
const USER: u32 = UID_BASE;
/// Queues that a guest may use: more than two processors of a guest that wait for one disk are rare.
pub(super) const QUEUES: u16 = 4;
/// The program that runs, also when its file was replaced meanwhile.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";

/// Before it is looked again whether there is something to read.
const WAIT_MIN: Duration = Duration::from_millis(900);
/// After a process has refused to end, as while a guest is being let go, or on a disk that is full.
const REFUSED_INTERVAL: Duration = Duration::from_secs(1);
/// The kernel takes some milliseconds to end a process that has let its lock go.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Of a log, so much is read for its last line.
const LAST_WORDS_BYTES_MAX: u64 = 4096;

const RECORD: &str = "serving.json";
const LOCK: &str = "lock";
const LOG: &str = "log";
const CONTROL: &str = "control.sock";

/// A process that serves volumes, as it is written down beside its sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    alloc: String,
    /// The task that reads, when it is not for who writes.
    #[serde(default)]
    reader: Option<String>,
    volumes: Vec<String>,
}

/// For whom volumes are served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum For {
    /// All that an alloc's tasks write, by one process.
    Alloc(AllocId),
    /// What a task reads of others, by a process that can read and no more.
    Reader(TaskId),
}

impl For {
    fn reader(&self) -> Option<&TaskId> {
        match self {
            For::Alloc(_) => None,
            For::Reader(task) => Some(task),
        }
    }

    fn record(&self, volumes: &[&VolumeId]) -> Record {
        let (For::Alloc(alloc) | For::Reader(TaskId { alloc, .. })) = self;
        Record {
            alloc: alloc.to_string(),
            reader: self.reader().map(|id| id.task.to_string()),
            volumes: volumes.iter().map(ToString::to_string).collect(),
        }
    }
}

impl std::fmt::Display for For {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            For::Alloc(alloc) => alloc.fmt(formatter),
            For::Reader(task) => task.fmt(formatter),
        }
    }
}

/// A volume that is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Which.
    pub(super) id: VolumeId,
    /// Its folder.
    pub(super) folder: PathBuf,
    /// How much history it keeps, with all others of its pool.
    pub(super) keeps: Keeps,
}

/// Where volumes are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The device's socket, by volume.
    pub(super) device: PathBuf,
    /// The control socket of its process.
    pub(super) control: PathBuf,
    /// By this the guest finds the disk.
    pub(super) serial: String,
}

/// What a task that starts needs of its volumes.
#[derive(Debug)]
pub(super) struct Demand {
    /// The task.
    pub(super) task: TaskId,
    /// For whom they are served.
    pub(super) whose: For,
    /// The volumes that it mounts.
    pub(super) own: Vec<VolumeId>,
    /// All that may be served with them.
    pub(super) of_alloc: Vec<VolumeId>,
    /// Whether a guest lives that has some of these.
    pub(super) has_guests: bool,
    /// Memory of all guests for which they are served.
    pub(super) memory_bytes: u64,
}

/// What is known when volumes are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All are served.
    Serves,
    /// Not yet; the agent is woken.
    Opening,
    /// The process of another alloc still has this one.
    Elsewhere(VolumeId, AllocId),
    /// There is nothing to be read yet: a sentence.
    Waits(String),
    /// They cannot be: a sentence.
    Failed(String),
}

#[derive(Debug)]
enum State {
    /// Its start is under way, for a task; what came of it.
    Opening(TaskId, Arc<Mutex<Option<Opened>>>),
    Serves,
    /// Asked to end; whether it has refused.
    Ending(Arc<AtomicBool>),
    /// It did not come to serve, and may be on its way out.
    Over,
}

/// The volumes that are served, or why none are.
type Opened = Result<Vec<VolumeId>, Outcome>;

#[derive(Debug)]
struct Process {
    folder: PathBuf,
    whose: For,
    volumes: Vec<VolumeId>,
    /// What its guests' memory may be: that counts as its own where it is the first to write into it.
    memory_bytes: u64,
    state: State,
}

/// All of them on this node.
#[derive(Debug)]
pub(super) struct Serving {
    layout: Layout,
    processes: Vec<Process>,
    /// Why the last start for a task failed, until it is told.
    failures: BTreeMap<(TaskId, For), Outcome>,
    /// Who had nothing to read, when, and why: not asked again at once, for each end of a process is a round for all.
    waiting: BTreeMap<For, (Instant, String)>,
    /// Those that this daemon has started, to be waited for.
    children: Arc<Mutex<Vec<jail::Process>>>,
    waker: Waker,
}

impl Serving {
    /// Finds those that run.
    pub(super) fn new(layout: Layout, waker: Waker) -> Self {
        let mut processes = Vec::new();
        for folder in folders(&layout) {
            match read(&folder) {
                Some((whose, volumes)) if is_alive(&folder) => {
                    // With the next task that starts it is known how much memory its guests have.
                    processes.push(Process { folder, whose, volumes, memory_bytes: 0, state: State::Serves });
                }
                // It has ended, or was never begun.
                _ => {
                    cgroup::end_members(&cgroup_name(&layout, &folder));
                    forget(&layout, &folder);
                }
            }
        }
        let (failures, waiting) = (BTreeMap::new(), BTreeMap::new());
        Self { layout, processes, failures, waiting, children: Arc::default(), waker }
    }

    /// Whether none runs.
    pub(super) fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Sees to it that the volumes of a task are served. Those that are not are made by `make` if they are not there yet, with
    /// all others of its alloc: what is served by one process is cut at one instant.
    pub(super) fn ensure(
        &mut self,
        demand: &Demand,
        make: impl FnOnce() -> Result<Vec<Wanted>, Outcome> + Send + 'static,
    ) -> Outcome {
        self.reap();
        if let Some(failure) = self.failures.remove(&(demand.task.clone(), demand.whose.clone())) {
            if let Outcome::Waits(why) = &failure {
                self.waiting.insert(demand.whose.clone(), (Instant::now(), why.clone()));
            }
            return failure;
        }
        self.waiting.retain(|_, (since, _)| since.elapsed() < WAIT_MIN);
        if let Some((_, why)) = self.waiting.get(&demand.whose) {
            return Outcome::Waits(why.clone());
        }
        let is_between =
            |process: &Process| process.whose == demand.whose && !matches!(process.state, State::Serves);
        if self.processes.iter().any(is_between) || self.has_let_go(demand) {
            return Outcome::Opening;
        }
        for process in self.processes.iter().filter(|process| process.whose != demand.whose) {
            if let (For::Alloc(alloc), For::Alloc(_)) = (&process.whose, &demand.whose)
                && let Some(volume) = process.volumes.iter().find(|volume| demand.own.contains(volume))
            {
                return Outcome::Elsewhere(volume.clone(), alloc.clone());
            }
        }
        if demand.own.iter().all(|volume| self.place(&demand.whose, volume).is_some()) {
            self.grant_memory(demand);
            return Outcome::Serves;
        }
        match self.start(demand, make) {
            Ok(()) => Outcome::Opening,
            Err(why) => Outcome::Failed(why),
        }
    }

    /// Whether a process is being ended because it has a volume that is another's by now.
    fn has_let_go(&mut self, demand: &Demand) -> bool {
        if demand.has_guests {
            return false;
        }
        let is_stale = |process: &&mut Process| {
            process.whose == demand.whose
                && process.volumes.iter().any(|volume| !demand.of_alloc.contains(volume))
        };
        let stale = self.processes.iter_mut().filter(is_stale);
        stale.map(|process| end(process, &self.waker)).count() > 0
    }

    /// Lets processes have the memory that their guests may have by now.
    fn grant_memory(&mut self, demand: &Demand) {
        let its = self.processes.iter_mut().filter(|process| process.whose == demand.whose);
        for process in its.filter(|process| process.memory_bytes < demand.memory_bytes) {
            let name = cgroup_name(&self.layout, &process.folder);
            match cgroup::Cgroup::create(&name, launch::limits(demand.memory_bytes)) {
                Ok(_) => process.memory_bytes = demand.memory_bytes,
                Err(error) => {
                    tracing::warn!(group = name, error = %chain(&error), "a process keeps its former limits");
                }
            }
        }
    }

    /// Where a volume is served for somebody, if it is.
    pub(super) fn place(&self, whose: &For, id: &VolumeId) -> Option<Place> {
        let serves = |process: &&Process| process.whose == *whose && matches!(process.state, State::Serves);
        self.processes.iter().filter(serves).find_map(|process| {
            let position = process.volumes.iter().position(|volume| volume == id)?;
            Some(Place {
                device: process.folder.join(device(position)),
                control: process.folder.join(CONTROL),
                serial: serial(id),
            })
        })
    }

    /// Ends those that nobody needs.
    pub(super) fn end_idle(&mut self, needed: &BTreeSet<For>) {
        self.reap();
        for process in &mut self.processes {
            if needed.contains(&process.whose) || !matches!(process.state, State::Serves) {
                continue;
            }
            end(process, &self.waker);
        }
    }

    /// Notices those that have ended.
    fn reap(&mut self) {
        lock(&self.children).retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        let (layout, failures, waker) = (&self.layout, &mut self.failures, &self.waker);
        self.processes.retain_mut(|process| {
            if let State::Opening(task, result) = &process.state {
                let result = lock(result).take();
                match result {
                    None => return true,
                    Some(Ok(volumes)) => {
                        process.volumes = volumes;
                        process.state = State::Serves;
                        return true;
                    }
                    Some(Err(failure)) => {
                        failures.insert((task.clone(), process.whose.clone()), failure);
                        process.state = State::Over;
                    }
                }
            }
            if !matches!(process.state, State::Over) {
                if is_alive(&process.folder) {
                    return true;
                }
                if matches!(process.state, State::Serves) {
                    let words = last_words(&process.folder);
                    tracing::error!(whose = %process.whose, words, "the process that serves volumes has ended");
                }
                process.state = State::Over;
            }
            // One that did not come to serve may still be there, whatever it does.
            if cgroup::end_members(&cgroup_name(layout, &process.folder)) {
                look_again(waker.clone());
                return true;
            }
            forget(layout, &process.folder);
            false
        });
        for process in &mut self.processes {
            // One that did not want to end goes on.
            if matches!(&process.state, State::Ending(refused) if refused.load(Ordering::Acquire)) {
                process.state = State::Serves;
            }
        }
    }

    fn start(
        &mut self,
        demand: &Demand,
        make: impl FnOnce() -> Result<Vec<Wanted>, Outcome> + Send + 'static,
    ) -> Result<(), String> {
        let folder = self.new_folder().map_err(|error| format!("its volumes cannot be served: {error}"))?;
        let whose = demand.whose.clone();
        // A volume is written by one process, and read by any number.
        let is_rival = |process: &&Process| {
            process.whose == whose || (process.whose.reader().is_none() && whose.reader().is_none())
        };
        let rivals = self.processes.iter().filter(is_rival);
        let taken: BTreeSet<VolumeId> = rivals.flat_map(|process| process.volumes.iter().cloned()).collect();
        let missing: Vec<VolumeId> =
            demand.own.iter().filter(|volume| !taken.contains(volume)).cloned().collect();
        // Whoever must not find the volumes in use sees that they are about to be.
        let held = launch::announce(&folder, &whose, &missing)
            .map_err(|error| format!("its volumes cannot be served: {error}"))?;
        let launch = Launch {
            lock: held,
            folder: folder.clone(),
            whose: whose.clone(),
            cgroup: cgroup_name(&self.layout, &folder),
            memory_bytes: demand.memory_bytes,
        };
        let result: Arc<Mutex<Option<Opened>>> = Arc::default();
        let (told, waker, children) = (Arc::clone(&result), self.waker.clone(), Arc::clone(&self.children));
        std::thread::spawn(move || {
            let opened = make().and_then(|mut wanted| {
                wanted.retain(|one| !taken.contains(&one.id));
                launch.run(&wanted, &children)?;
                Ok(wanted.into_iter().map(|one| one.id).collect())
            });
            *lock(&told) = Some(opened);
            waker.wake();
        });
        let state = State::Opening(demand.task.clone(), result);
        let memory_bytes = demand.memory_bytes;
        self.processes.push(Process { folder, whose, volumes: missing, memory_bytes, state });
        Ok(())
    }

    fn new_folder(&self) -> io::Result<PathBuf> {
        let all = self.layout.serving_all();
        fs::create_dir_all(&all)?;
        for number in 1..=u32::MAX {
            let folder = all.join(number.to_string());
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(folder),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::StorageFull.into())
    }
}

/// Asks a process to end.
fn end(process: &mut Process, waker: &Waker) {
    let refused: Arc<AtomicBool> = Arc::default();
    process.state = State::Ending(Arc::clone(&refused));
    let (client, waker) = (Client::new(&process.folder.join(CONTROL)), waker.clone());
    let (whose, folder) = (process.whose.to_string(), process.folder.clone());
    std::thread::spawn(move || {
        if let Err(error) = client.command(&Request::End) {
            tracing::info!(%whose, error = %chain(&error), "volumes are not let go yet");
            // It will be asked again, but not without a pause.
            std::thread::sleep(REFUSED_INTERVAL);
            refused.store(true, Ordering::Release);
        } else {
            // Its lock goes with it, which takes a moment; and nothing else will wake the agent then.
            wait_for_end(&folder);
        }
        waker.wake();
    });
}

fn look_again(waker: Waker) {
    std::thread::spawn(move || {
        std::thread::sleep(LOOK_AGAIN);
        waker.wake();
    });
}

/// The control group of the process that has a folder.
fn cgroup_name(layout: &Layout, folder: &Path) -> String {
    let number = folder.file_name().unwrap_or_default().to_string_lossy();
    format!("disks-{number}{}", layout.instance())
}

/// The control socket of the process that serves a volume, if one does.
pub(crate) fn control_of(layout: &Layout, id: &VolumeId) -> Option<PathBuf> {
    let writes = |(_, whose): &(PathBuf, For)| whose.reader().is_none();
    serving(layout, id).find(writes).map(|(folder, _)| folder.join(CONTROL))
}

/// The tasks that see checkpoints of a volume.
pub(crate) fn readers_of(layout: &Layout, id: &VolumeId) -> Vec<TaskId> {
    serving(layout, id).filter_map(|(_, whose)| whose.reader().cloned()).collect()
}

/// The folders of those that serve a volume.
fn serving<'a>(layout: &Layout, id: &'a VolumeId) -> impl Iterator<Item = (PathBuf, For)> + 'a {
    folders(layout).into_iter().filter_map(|folder| {
        let (whose, volumes) = read(&folder)?;
        (volumes.contains(id) && is_alive(&folder)).then_some((folder, whose))
    })
}

fn folders(layout: &Layout) -> Vec<PathBuf> {
    fs::read_dir(layout.serving_all()).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn read(folder: &Path) -> Option<(For, Vec<VolumeId>)> {
    let record: Record = serde_json::from_slice(&fs::read(folder.join(RECORD)).ok()?).ok()?;
    let volumes = record.volumes.iter().map(|id| id.parse().ok()).collect::<Option<Vec<VolumeId>>>()?;
    let alloc = record.alloc.parse().ok()?;
    let whose = match record.reader {
        Some(task) => For::Reader(TaskId { alloc, task: task.parse().ok()? }),
        None => For::Alloc(alloc),
    };
    Some((whose, volumes))
}

/// Whether the process lives: it has its lock.
fn is_alive(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_err(),
        Err(_) => false,
    }
}

/// Returns when the process has ended: its lock is free.
fn wait_for_end(folder: &Path) {
    if let Ok(file) = File::open(folder.join(LOCK)) {
        let _ = flock(&file, FlockOperation::LockShared);
    }
}

/// Removes what a process has left.
fn forget(layout: &Layout, folder: &Path) {
    if let Err(error) = cgroup::remove(&cgroup_name(layout, folder)) {
        tracing::warn!(folder = %folder.display(), error = %chain(&error), "a control group stays");
    }
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "the folder of a process that has ended stays");
    }
}

fn device(position: usize) -> String {
    format!("{position}.sock")
}

/// The name by which a guest finds a volume: short, and the same whoever else is served with it.
fn serial(id: &VolumeId) -> String {
    let name: String = id.volume.as_str().chars().take(11).collect();
    // FNV-1a, for names that begin alike.
    let hash = id
        .volume
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{name}-{hash:08x}")
}

/// The last line of the log, of whose length whoever writes it decides.
fn last_words(folder: &Path) -> String {
    let mut text = Vec::new();
    let read = File::open(folder.join(LOG)).and_then(|mut log| {
        let bytes = log.metadata()?.len();
        log.seek(SeekFrom::Start(bytes.saturating_sub(LAST_WORDS_BYTES_MAX)))?;
        log.take(LAST_WORDS_BYTES_MAX).read_to_end(&mut text)
    });
    let text = read.map(|_| String::from_utf8_lossy(&text)).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests;
