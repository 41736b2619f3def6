//! The processes that serve volumes: one for the volumes of an alloc, and one for each task that sees checkpoints of others'
//! volumes, found again by their folders after a restart of the daemon. Owns starting, finding and ending them; what they do is `lith_volume::service`'s.
//!
//! ```text
//!   absent ── ensure ──▶ opening ──▶ serving ── nobody needs it ──▶ ending ──▶ absent
//!                           │ failed: told once, then absent
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lith_core::chain::chain;
use lith_core::name::{AllocId, TaskId, VolumeId};
use lith_vmm::durable;
use lith_vmm::jail::{self, Jail, Program, Tie};
use lith_vmm::machine::UID_BASE;
use lith_volume::service::{Access, Client, Config, Failure, Ready, Request, Served};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::wake::Waker;
use crate::layout::Layout;
use crate::pools::{self, Space};

/// The user of these processes: that of slot 0, which no task has. Each sees its own volumes alone.
const USER: u32 = UID_BASE;
/// Between two checkpoints while something changes.
const INTERVAL_MS: u64 = 1000;
/// Before it is looked again whether there is something to read.
const WAIT_MIN: Duration = Duration::from_millis(900);
/// How much history is kept: a day.
const WINDOW_S: u64 = 24 * 3600;
/// Queues that a guest may use: more than two processors of a guest that wait for one disk are rare.
pub(super) const QUEUES: u16 = 4;
/// Files that such a process may have open: its volumes' histories, while it folds them.
const OPEN_FILES_MAX: u64 = 16 << 10;
/// Most that one that reads may write, which is what it says.
const LOG_BYTES_MAX: u64 = 1 << 20;
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
    /// What a task reads of others, by a process that can read no more.
    Reader(TaskId),
}

impl For {
    fn alloc(&self) -> &AllocId {
        match self {
            For::Alloc(alloc) | For::Reader(TaskId { alloc, .. }) => alloc,
        }
    }

    fn reader(&self) -> Option<&TaskId> {
        match self {
            For::Alloc(_) => None,
            For::Reader(task) => Some(task),
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
    /// There is nothing to be read yet: a sentence.
    Waits(String),
    /// They cannot be: a sentence.
    Failed(String),
}

#[derive(Debug)]
enum State {
    Opening(Arc<Mutex<Option<Outcome>>>),
    Serves,
    /// Asked to end; whether it has refused.
    Ending(Arc<AtomicBool>),
}

#[derive(Debug)]
struct Process {
    folder: PathBuf,
    whose: For,
    volumes: Vec<VolumeId>,
    state: State,
}

/// All of them on this node.
#[derive(Debug)]
pub(super) struct Serving {
    layout: Layout,
    processes: Vec<Process>,
    /// Why the last start failed, until it is told.
    failures: BTreeMap<For, Outcome>,
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
                    processes.push(Process { folder, whose, volumes, state: State::Serves });
                }
                // It has ended, or was never begun.
                _ => forget(&folder),
            }
        }
        Self {
            layout,
            processes,
            failures: BTreeMap::new(),
            waiting: BTreeMap::new(),
            children: Arc::default(),
            waker,
        }
    }

    /// Whether none runs.
    pub(super) fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// Sees to it that volumes are served.
    pub(super) fn ensure(&mut self, whose: &For, wanted: &[Wanted]) -> Outcome {
        self.reap();
        if let Some(failure) = self.failures.remove(whose) {
            if let Outcome::Waits(why) = &failure {
                self.waiting.insert(whose.clone(), (Instant::now(), why.clone()));
            }
            return failure;
        }
        self.waiting.retain(|_, (since, _)| since.elapsed() < WAIT_MIN);
        if let Some((_, why)) = self.waiting.get(whose) {
            return Outcome::Waits(why.clone());
        }
        let is_between =
            |process: &Process| process.whose == *whose && !matches!(process.state, State::Serves);
        if self.processes.iter().any(is_between) {
            return Outcome::Opening;
        }
        let missing: Vec<&Wanted> =
            wanted.iter().filter(|one| self.place(whose.reader(), &one.id).is_none()).collect();
        if missing.is_empty() {
            return Outcome::Serves;
        }
        match self.start(whose, &missing) {
            Ok(()) => Outcome::Opening,
            Err(why) => Outcome::Failed(why),
        }
    }

    /// Where a volume is served, if it is: to who writes it, or to a task that reads it.
    pub(super) fn place(&self, reader: Option<&TaskId>, id: &VolumeId) -> Option<Place> {
        let serves =
            |process: &&Process| matches!(process.state, State::Serves) && process.whose.reader() == reader;
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
            let refused: Arc<AtomicBool> = Arc::default();
            process.state = State::Ending(Arc::clone(&refused));
            let (client, waker) = (Client::new(&process.folder.join(CONTROL)), self.waker.clone());
            let (whose, folder) = (process.whose.to_string(), process.folder.clone());
            std::thread::spawn(move || {
                if let Err(error) = client.command(&Request::End) {
                    tracing::info!(%whose, error = %chain(&error), "volumes are not let go yet");
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
                    Some(Outcome::Serves) => process.state = State::Serves,
                    Some(failure) => {
                        failures.insert(process.whose.clone(), failure);
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
                tracing::error!(whose = %process.whose, words, "the process that serves volumes has ended");
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

    fn start(&mut self, whose: &For, wanted: &[&Wanted]) -> Result<(), String> {
        let served = served(wanted)?;
        let folder = self.new_folder().map_err(|error| format!("its volumes cannot be served: {error}"))?;
        let volumes: Vec<VolumeId> = wanted.iter().map(|one| one.id.clone()).collect();
        let launch = Launch { folder: folder.clone(), whose: whose.clone(), volumes: served };
        let result: Arc<Mutex<Option<Outcome>>> = Arc::default();
        let (told, waker, children) = (Arc::clone(&result), self.waker.clone(), Arc::clone(&self.children));
        std::thread::spawn(move || {
            let outcome = launch.run(&children).unwrap_or_else(Outcome::Failed);
            *lock(&told) = Some(outcome);
            waker.wake();
        });
        self.processes.push(Process { folder, whose: whose.clone(), volumes, state: State::Opening(result) });
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
    whose: For,
    volumes: Vec<(Served, PathBuf)>,
}

impl Launch {
    fn run(self, children: &Mutex<Vec<jail::Process>>) -> Result<Outcome, String> {
        let failed = |error: &dyn std::fmt::Display| format!("its volumes cannot be served: {error}");
        // What others write is theirs by now.
        for (_, folder) in self.volumes.iter().filter(|_| self.access() == Access::ReadWrite) {
            give_to_user(folder).map_err(|error| failed(&format!("{}: {error}", folder.display())))?;
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
        let sentence = |failure: Failure| {
            let hint = failure.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}{hint}", failure.message)
        };
        match serde_json::from_str(&line) {
            Ok(Ready::Serves) => Ok(Outcome::Serves),
            Ok(Ready::Failed(failure)) => Err(sentence(failure)),
            Ok(Ready::Waits(failure)) => Ok(Outcome::Waits(sentence(failure))),
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
            alloc: self.whose.alloc().to_string(),
            reader: self.whose.reader().map(|task| task.task.to_string()),
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
            holder: self.whose.to_string(),
            access: self.access(),
            interval_ms: INTERVAL_MS,
            window_s: WINDOW_S,
            volumes: self.volumes.iter().map(|(served, _)| served.clone()).collect(),
        };
        let json = serde_json::to_vec(&config).map_err(io::Error::from)?;
        // There are no secrets in it, and the jail's user must read it.
        durable::write(&self.folder.join(CONFIG), &json, 0o644)
    }

    fn access(&self) -> Access {
        if self.whose.reader().is_some() { Access::ReadOnly } else { Access::ReadWrite }
    }

    fn jail(&self) -> Jail {
        let volumes: Vec<(PathBuf, PathBuf)> =
            self.volumes.iter().map(|(served, folder)| (folder.clone(), served.folder.clone())).collect();
        let (writable, folders, file_bytes_max) = match self.access() {
            // A disk may grow while it is served.
            Access::ReadWrite => (volumes, vec![], u64::MAX),
            // What it says may be a file.
            Access::ReadOnly => (vec![], volumes, LOG_BYTES_MAX),
        };
        Jail {
            tie: Tie::Alone,
            uid: USER,
            root: self.folder.join(JAIL),
            read_only: LIBRARIES.iter().map(PathBuf::from).collect(),
            files: vec![(self.folder.join(CONFIG), "/config.json")],
            devices: vec![PathBuf::from("/dev/null")],
            writable,
            folders,
            open_files_max: OPEN_FILES_MAX,
            file_bytes_max,
            ..Jail::default()
        }
    }
}

/// Gives a volume's folder and files to the user of these processes.
pub(crate) fn give_to_user(folder: &Path) -> io::Result<()> {
    let give = |path: &Path| std::os::unix::fs::lchown(path, Some(USER), Some(USER));
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give_to_user(&entry.path())?;
        } else {
            give(&entry.path())?;
        }
    }
    give(folder)
}
