//! The start of a process that serves volumes: what it inherits, what it is told, its jail. Blocks; a thread of its own does it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lith_core::chain::chain;
use lith_core::name::VolumeId;
use lith_vmm::durable;
use lith_vmm::jail::cgroup::{Cgroup, Cpu, Limits};
use lith_vmm::jail::{self, Jail, Program, Tie};
use lith_volume::service::{Access, Config, Failure, Ready, Served, VolumeLock};
use rustix::fs::{FlockOperation, flock};

use super::{
    CONTROL, For, LOCK, LOG, OWN_PROGRAM, Outcome, QUEUES, RECORD, USER, Wanted, device, last_words, owner,
    serial,
};
use crate::identity;
use crate::pools::{Most, Space};
use crate::volumes::aside;

/// Between two checkpoints while something changes.
const INTERVAL_MS: u64 = 1000;
/// Files that such a process may have open: its volumes' histories, while it folds them.
const OPEN_FILES_MAX: u64 = 16 << 10;
/// Longest first line of such a process.
const READY_BYTES_MAX: u64 = 64 << 10;
/// Most that one that reads may write, which is what it says.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// Memory of such a process itself, with what of its files is in the page cache: lists of what has changed on disks of
/// terabytes, and segments while they are put together.
const MEMORY_BYTES: u64 = 1 << 30;
/// Its threads: some for each volume and each queue, and for each connection, of which it allows 128.
const PROCESSES_MAX: u32 = 1024;
/// Its share of processor time beside a guest, whose requests it serves: the same.
const CPU_WEIGHT: u32 = 100;

const CONFIG: &str = "config.json";
const JAIL: &str = "jail";

/// The limits of such a process. What it reads into a guest's memory that nobody has written to before counts as its own.
pub(super) fn limits(guests_bytes: u64) -> Limits {
    Limits {
        memory_bytes_max: MEMORY_BYTES.saturating_add(guests_bytes),
        cpu: Cpu::Weight(CPU_WEIGHT),
        processes_max: PROCESSES_MAX,
    }
}

/// Writes down whose volumes a process is going to serve, with the lock by which it is seen whether it lives.
pub(super) fn announce(folder: &Path, whose: &For, volumes: &[VolumeId]) -> io::Result<File> {
    // The lock first: whoever finds the record takes one without it for a process that has ended.
    let lock = File::create(folder.join(LOCK))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    record(folder, whose, &volumes.iter().collect::<Vec<_>>())?;
    Ok(lock)
}

fn record(folder: &Path, whose: &For, volumes: &[&VolumeId]) -> io::Result<()> {
    let json = serde_json::to_vec(&whose.record(volumes)).map_err(io::Error::from)?;
    durable::write(&folder.join(RECORD), &json, 0o600)
}

/// All that a start needs.
pub(super) struct Launch {
    /// Held until the process has it.
    pub(super) lock: File,
    /// The process's own.
    pub(super) folder: PathBuf,
    /// For whom it is.
    pub(super) whose: For,
    /// Its control group.
    pub(super) cgroup: String,
    /// Memory of its guests.
    pub(super) memory_bytes: u64,
}

/// A volume as the process knows it, and its folder.
type Volume = (Served, PathBuf);

impl Launch {
    /// Starts the process and waits until it serves. Blocks.
    pub(super) fn run(self, wanted: &[Wanted], children: &Mutex<Vec<jail::Process>>) -> Result<(), Outcome> {
        match self.start(wanted, children).map_err(Outcome::Failed)? {
            Ready::Serves => Ok(()),
            Ready::Failed(failure) => Err(Outcome::Failed(sentence(&failure))),
            Ready::Waits(failure) => Err(Outcome::Waits(sentence(&failure))),
        }
    }

    /// What the process says when it is ready.
    fn start(self, wanted: &[Wanted], children: &Mutex<Vec<jail::Process>>) -> Result<Ready, String> {
        let failed = |error: &dyn std::fmt::Display| format!("its volumes cannot be served: {error}");
        let volumes = served(wanted)?;
        // What others write is theirs by now.
        for (served, folder) in volumes.iter().filter(|_| self.access() == Access::ReadWrite) {
            finish_aside(served, folder)?;
            owner::give_to_user(folder).map_err(|error| failed(&format!("{}: {error}", folder.display())))?;
        }
        let ids: Vec<&VolumeId> = wanted.iter().map(|one| &one.id).collect();
        record(&self.folder, &self.whose, &ids).map_err(|error| failed(&error))?;
        let descriptors = self.descriptors(&volumes).map_err(|error| failed(&error))?;
        self.write_config(&volumes).map_err(|error| failed(&error))?;
        let (ready_read, ready_write) = io::pipe().map_err(|error| failed(&error))?;
        let log = OpenOptions::new().read(true).append(true).create(true).open(self.folder.join(LOG));
        let log = log.map_err(|error| failed(&error))?;
        let own = File::open(OWN_PROGRAM).map_err(|error| failed(&error))?;
        let group = Cgroup::create(&self.cgroup, limits(self.memory_bytes))
            .map_err(|error| failed(&chain(&error)))?;
        let jail = self.jail(&volumes, group.procs());
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
        crate::agent::lock(children).push(child);
        // The process has it, and with its end it is free.
        drop(self.lock);
        let mut line = String::new();
        let read = BufReader::new(ready_read.take(READY_BYTES_MAX)).read_line(&mut line);
        read.map_err(|error| failed(&error))?;
        serde_json::from_str(&line).map_err(|_| {
            let words = last_words(&self.folder);
            failed(&if words.is_empty() { "their process ended at once".to_owned() } else { words })
        })
    }

    fn access(&self) -> Access {
        if self.whose.reader().is_some() { Access::ReadOnly } else { Access::ReadWrite }
    }

    /// The sockets and the lock that the process inherits, in the order that it knows.
    fn descriptors(&self, volumes: &[Volume]) -> io::Result<Vec<OwnedFd>> {
        let mut descriptors = vec![UnixListener::bind(self.folder.join(CONTROL))?.into()];
        for position in 0..volumes.len() {
            descriptors.push(UnixListener::bind(self.folder.join(device(position)))?.into());
        }
        descriptors.push(self.lock.try_clone()?.into());
        Ok(descriptors)
    }

    fn write_config(&self, volumes: &[Volume]) -> io::Result<()> {
        let config = Config {
            holder: self.whose.to_string(),
            access: self.access(),
            interval_ms: INTERVAL_MS,
            volumes: volumes.iter().map(|(served, _)| served.clone()).collect(),
        };
        let json = serde_json::to_vec(&config).map_err(io::Error::from)?;
        // There are no secrets in it, and the jail's user must read it.
        durable::write(&self.folder.join(CONFIG), &json, 0o644)
    }

    fn jail(&self, volumes: &[Volume], cgroups: Vec<PathBuf>) -> Jail {
        let volumes =
            volumes.iter().map(|(served, folder)| (folder.clone(), served.folder.clone())).collect();
        let (writable, folders, file_bytes_max) = match self.access() {
            // A disk may grow while it is served.
            Access::ReadWrite => (volumes, vec![], u64::MAX),
            // What it says is a file.
            Access::ReadOnly => (vec![], volumes, LOG_BYTES_MAX),
        };
        Jail {
            tie: Tie::Alone,
            uid: USER,
            root: self.folder.join(JAIL),
            read_only: jail::LIBRARIES.iter().map(PathBuf::from).collect(),
            files: vec![(self.folder.join(CONFIG), "/config.json")],
            devices: vec![PathBuf::from("/dev/null")],
            writable,
            folders,
            cgroups,
            open_files_max: OPEN_FILES_MAX,
            file_bytes_max,
            ..Jail::default()
        }
    }
}

fn sentence(failure: &Failure) -> String {
    let hint = failure.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{}{hint}", failure.message)
}

/// Carries to its end that a history is put aside, if a crash has cut it short.
fn finish_aside(served: &Served, folder: &Path) -> Result<(), String> {
    if !aside::is_unfinished(folder) {
        return Ok(());
    }
    let _lock = VolumeLock::take(folder, &served.id, "a start").map_err(|taken| taken.message)?;
    aside::finish(folder)
        .map_err(|error| format!("the history of volume {} cannot be put aside: {error}", served.id))
}

fn served(wanted: &[Wanted]) -> Result<Vec<Volume>, String> {
    let list = wanted.iter().enumerate().map(|(position, one)| {
        let uuid = identity::new().map_err(|error| format!("there is no randomness: {error}"))?.to_string();
        let inside = PathBuf::from(format!("/volumes/{position}"));
        let pool = one.folder.parent().unwrap_or(&one.folder);
        let space = Space::of(pool).map_err(|error| format!("{} cannot be used: {error}", pool.display()))?;
        let served = Served {
            id: one.id.to_string(),
            folder: inside,
            serial: serial(&one.id),
            reserve_bytes: space.reserve_bytes(),
            window_s: one.keeps.window.as_secs(),
            history_bytes_max: history_bytes_max(pool, space, one.keeps.most),
            queues: QUEUES,
            uuid,
        };
        Ok((served, one.folder.clone()))
    });
    list.collect()
}

/// An equal part of what a pool may spend on history.
fn history_bytes_max(pool: &Path, space: Space, most: Most) -> u64 {
    let entries = fs::read_dir(pool).into_iter().flatten().flatten();
    let is_volume = |entry: &fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.parse::<VolumeId>().is_ok())
    };
    space.history_bytes(most) / entries.filter(is_volume).count().max(1) as u64
}
