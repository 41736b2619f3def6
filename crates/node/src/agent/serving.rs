//! The processes that serve volumes: one for the volumes of an alloc, found again by their folders after a restart of the
//! daemon. Owns starting, finding and ending them; what they do is `lith_volume::service`'s.
//!
//! ```text
//!   absent ── ensure ──▶ opening ──▶ serving ── nobody needs it ──▶ ending ──▶ absent
//!                           │ failed: told once, then absent
//! ```

pub(crate) mod owner;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lith_core::chain::chain;
use lith_core::name::{AllocId, VolumeId};
use lith_vmm::durable;
use lith_vmm::jail::{self, Jail, Program, Tie};
use lith_vmm::machine::UID_BASE;
use lith_volume::service::{Client, Config, Ready, Request, Served};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::wake::Waker;
use crate::layout::Layout;
use crate::pools::{self, Space};

/// The user of these processes: that of slot 0, which no task has. Each sees its own volumes alone.
const USER: u32 = UID_BASE;
/// Between two checkpoints while something changes.
const INTERVAL_MS: u64 = 1000;
/// How much history is kept: a day.
const WINDOW_S: u64 = 24 * 3600;
/// Queues that a guest may use: more than two processors of a guest that wait for one disk are rare.
pub(super) const QUEUES: u16 = 4;
/// Files that such a process may have open: its volumes' histories, while it folds them.
const OPEN_FILES_MAX: u64 = 16 << 10;
/// Longest first line of such a process.
const READY_BYTES_MAX: u64 = 64 << 10;
/// What is shown in the jail, for the dynamic linker.
pub(crate) const LIBRARIES: [&str; 6] =
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"];
/// The program that runs, also when its file was replaced meanwhile.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";

const RECORD: &str = "serving.json";
const LOCK: &str = "lock";
const LOG: &str = "log";
const CONFIG: &str = "config.json";
const CONTROL: &str = "control.sock";
const JAIL: &str = "jail";

/// A process that serves volumes, as it is written down beside its sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    alloc: String,
    volumes: Vec<String>,
}

/// A volume that is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Which.
    pub(super) id: VolumeId,
    /// Its folder.
    pub(super) folder: PathBuf,
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

/// What is known when volumes are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All are served.
    Serves,
    /// Not yet; the agent is woken.
    Opening,
    /// They cannot be: a sentence.
    Failed(String),
}

#[derive(Debug)]
enum State {
    Opening(Arc<Mutex<Option<Result<(), String>>>>),
    Serves,
    /// Asked to end; whether it has refused.
    Ending(Arc<AtomicBool>),
}

#[derive(Debug)]
struct Process {
    folder: PathBuf,
    alloc: AllocId,
    volumes: Vec<VolumeId>,
    state: State,
}

/// All of them on this node.
#[derive(Debug)]
pub(super) struct Serving {
    layout: Layout,
    processes: Vec<Process>,
    /// Why the last start for an alloc failed, until it is told.
    failures: BTreeMap<AllocId, String>,
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
                Some((alloc, volumes)) if is_alive(&folder) => {
                    processes.push(Process { folder, alloc, volumes, state: State::Serves });
                }
                // It has ended, or was never begun.
                _ => forget(&folder),
            }
        }
        Self { layout, processes, failures: BTreeMap::new(), children: Arc::default(), waker }
    }

    /// Whether none runs.
    pub(super) fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Sees to it that volumes of an alloc are served.
    pub(super) fn ensure(&mut self, alloc: &AllocId, wanted: &[Wanted]) -> Outcome {
        self.reap();
        if let Some(why) = self.failures.remove(alloc) {
            return Outcome::Failed(why);
        }
        let is_between =
            |process: &Process| process.alloc == *alloc && !matches!(process.state, State::Serves);
        if self.processes.iter().any(is_between) {
            return Outcome::Opening;
        }
        let missing: Vec<&Wanted> = wanted.iter().filter(|one| self.place(&one.id).is_none()).collect();
        if missing.is_empty() {
            return Outcome::Serves;
        }
        match self.start(alloc, &missing) {
            Ok(()) => Outcome::Opening,
            Err(why) => Outcome::Failed(why),
        }
    }

    /// Where a volume is served, if it is.
    pub(super) fn place(&self, id: &VolumeId) -> Option<Place> {
        let serves = |process: &&Process| matches!(process.state, State::Serves);
        self.processes.iter().filter(serves).find_map(|process| {
            let position = process.volumes.iter().position(|volume| volume == id)?;
            Some(Place {
                device: process.folder.join(device(position)),
                control: process.folder.join(CONTROL),
                serial: serial(id),
            })
        })
    }

    /// Ends those of allocs that need none.
    pub(super) fn end_idle(&mut self, needed: &BTreeSet<AllocId>) {
        self.reap();
        for process in &mut self.processes {
            if needed.contains(&process.alloc) || !matches!(process.state, State::Serves) {
                continue;
            }
            let refused: Arc<AtomicBool> = Arc::default();
            process.state = State::Ending(Arc::clone(&refused));
            let (client, waker) = (Client::new(&process.folder.join(CONTROL)), self.waker.clone());
            let (alloc, folder) = (process.alloc.to_string(), process.folder.clone());
            std::thread::spawn(move || {
                if let Err(error) = client.command(&Request::End) {
                    tracing::warn!(%alloc, error = %chain(&error), "the volumes of an alloc are not let go");
                    refused.store(true, Ordering::Release);
                } else {
                    // Its lock goes with it, which takes a moment; and nothing else will wake the agent then.
                    wait_for_end(&folder);
                }
                waker.wake();
            });
        }
    }

    /// Notices those that have ended.
    fn reap(&mut self) {
        lock(&self.children).retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        let failures = &mut self.failures;
        self.processes.retain_mut(|process| {
            if let State::Opening(result) = &process.state {
                let result = lock(result).take();
                match result {
                    None => {}
                    Some(Ok(())) => process.state = State::Serves,
                    Some(Err(why)) => {
                        failures.insert(process.alloc.clone(), why);
                        forget(&process.folder);
                        return false;
                    }
                }
                return true;
            }
            if is_alive(&process.folder) {
                return true;
            }
            if matches!(process.state, State::Serves) {
                let words = last_words(&process.folder);
                tracing::error!(alloc = %process.alloc, words, "the process that serves volumes has ended");
            }
            forget(&process.folder);
            false
        });
        for process in &mut self.processes {
            // One that did not want to end goes on.
            if matches!(&process.state, State::Ending(refused) if refused.load(Ordering::Acquire)) {
                process.state = State::Serves;
            }
        }
    }

    fn start(&mut self, alloc: &AllocId, wanted: &[&Wanted]) -> Result<(), String> {
        let served = served(wanted)?;
        let folder = self.new_folder().map_err(|error| format!("its volumes cannot be served: {error}"))?;
        let volumes: Vec<VolumeId> = wanted.iter().map(|one| one.id.clone()).collect();
        let launch = Launch { folder: folder.clone(), alloc: alloc.to_string(), volumes: served };
        let result: Arc<Mutex<Option<Result<(), String>>>> = Arc::default();
        let (told, waker, children) = (Arc::clone(&result), self.waker.clone(), Arc::clone(&self.children));
        std::thread::spawn(move || {
            let outcome = launch.run(&children);
            *lock(&told) = Some(outcome);
            waker.wake();
        });
        self.processes.push(Process { folder, alloc: alloc.clone(), volumes, state: State::Opening(result) });
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

/// The control socket of the process that serves a volume, if one does.
pub(crate) fn control_of(layout: &Layout, id: &VolumeId) -> Option<PathBuf> {
    let serves =
        |folder: &PathBuf| read(folder).is_some_and(|(_, volumes)| volumes.contains(id)) && is_alive(folder);
    folders(layout).into_iter().find(serves).map(|folder| folder.join(CONTROL))
}

fn folders(layout: &Layout) -> Vec<PathBuf> {
    fs::read_dir(layout.serving_all()).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn read(folder: &Path) -> Option<(AllocId, Vec<VolumeId>)> {
    let record: Record = serde_json::from_slice(&fs::read(folder.join(RECORD)).ok()?).ok()?;
    let volumes = record.volumes.iter().map(|id| id.parse().ok()).collect::<Option<Vec<VolumeId>>>()?;
    Some((record.alloc.parse().ok()?, volumes))
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
fn forget(folder: &Path) {
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

fn served(wanted: &[&Wanted]) -> Result<Vec<(Served, PathBuf)>, String> {
    let list = wanted.iter().enumerate().map(|(position, one)| {
        let uuid = pools::random_hex().map_err(|error| format!("there is no randomness: {error}"))?;
        let inside = PathBuf::from(format!("/volumes/{position}"));
        let pool = one.folder.parent().unwrap_or(&one.folder);
        let space = Space::of(pool).map_err(|error| format!("{} cannot be used: {error}", pool.display()))?;
        let served = Served {
            id: one.id.to_string(),
            folder: inside,
            serial: serial(&one.id),
            reserve_bytes: space.reserve_bytes(),
            history_bytes_max: history_bytes_max(pool, space),
            queues: QUEUES,
            uuid,
        };
        Ok((served, one.folder.clone()))
    });
    list.collect()
}

/// An equal part of what a pool may spend on history.
fn history_bytes_max(pool: &Path, space: Space) -> u64 {
    let entries = fs::read_dir(pool).into_iter().flatten().flatten();
    let is_volume = |entry: &fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.parse::<VolumeId>().is_ok())
    };
    space.history_bytes() / entries.filter(is_volume).count().max(1) as u64
}

fn last_words(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All that a start needs.
struct Launch {
    folder: PathBuf,
    alloc: String,
    volumes: Vec<(Served, PathBuf)>,
}

impl Launch {
    fn run(self, children: &Mutex<Vec<jail::Process>>) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| format!("its volumes cannot be served: {error}");
        for (_, folder) in &self.volumes {
            owner::give_to_user(folder).map_err(|error| failed(&format!("{}: {error}", folder.display())))?;
        }
        let (descriptors, lock) = self.descriptors().map_err(|error| failed(&error))?;
        self.write_config().map_err(|error| failed(&error))?;
        let (ready_read, ready_write) = io::pipe().map_err(|error| failed(&error))?;
        let log = File::create(self.folder.join(LOG)).map_err(|error| failed(&error))?;
        let own = File::open(OWN_PROGRAM).map_err(|error| failed(&error))?;
        let jail = self.jail();
        fs::create_dir_all(&jail.root).map_err(|error| failed(&error))?;
        let program = Program {
            path: PathBuf::from("lith"),
            file: Some(own.into()),
            // The folder is for people who look at processes.
            arguments: vec![
                crate::disks::SUBCOMMAND.to_owned(),
                format!("/{CONFIG}"),
                self.folder.display().to_string(),
            ],
            stdout: ready_write.into(),
            stderr: log.into(),
            descriptors,
        };
        let child = jail::spawn(&jail, program).map_err(|error| failed(&chain(&error)))?;
        self::lock(children).push(child);
        drop(lock);
        let mut line = String::new();
        let read = BufReader::new(ready_read.take(READY_BYTES_MAX)).read_line(&mut line);
        read.map_err(|error| failed(&error))?;
        match serde_json::from_str(&line) {
            Ok(Ready::Serves) => Ok(()),
            Ok(Ready::Failed(failure)) => {
                let hint = failure.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                Err(format!("{}{hint}", failure.message))
            }
            Err(_) => {
                let words = last_words(&self.folder);
                Err(failed(&if words.is_empty() { "their process ended at once".to_owned() } else { words }))
            }
        }
    }

    /// The sockets and the lock that the process inherits, in the order that it knows; and the lock once more, which is to
    /// be held until the process has it.
    fn descriptors(&self) -> io::Result<(Vec<std::os::fd::OwnedFd>, File)> {
        let record = Record {
            alloc: self.alloc.clone(),
            volumes: self.volumes.iter().map(|(served, _)| served.id.clone()).collect(),
        };
        let json = serde_json::to_vec(&record).map_err(io::Error::from)?;
        // The lock first: whoever finds the record takes one without it for a process that has ended.
        let lock = File::create(self.folder.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        durable::write(&self.folder.join(RECORD), &json, 0o600)?;
        let mut descriptors = vec![UnixListener::bind(self.folder.join(CONTROL))?.into()];
        for position in 0..self.volumes.len() {
            descriptors.push(UnixListener::bind(self.folder.join(device(position)))?.into());
        }
        descriptors.push(lock.try_clone()?.into());
        Ok((descriptors, lock))
    }

    fn write_config(&self) -> io::Result<()> {
        let config = Config {
            holder: self.alloc.clone(),
            interval_ms: INTERVAL_MS,
            window_s: WINDOW_S,
            volumes: self.volumes.iter().map(|(served, _)| served.clone()).collect(),
        };
        let json = serde_json::to_vec(&config).map_err(io::Error::from)?;
        // There are no secrets in it, and the jail's user must read it.
        durable::write(&self.folder.join(CONFIG), &json, 0o644)
    }

    fn jail(&self) -> Jail {
        Jail {
            tie: Tie::Alone,
            uid: USER,
            root: self.folder.join(JAIL),
            read_only: LIBRARIES.iter().map(PathBuf::from).collect(),
            files: vec![(self.folder.join(CONFIG), "/config.json")],
            devices: vec![PathBuf::from("/dev/null")],
            writable: self
                .volumes
                .iter()
                .map(|(served, folder)| (folder.clone(), served.folder.clone()))
                .collect(),
            open_files_max: OPEN_FILES_MAX,
            // A disk may grow while it is served.
            file_bytes_max: u64::MAX,
            ..Jail::default()
        }
    }
}
