//! The durable record of how a boot ended, and what can be learnt of a supervisor from outside. Owns `exit.json` and the
//! lock file. A record is there exactly when the boot is over and was seen to its end.

use super::{Client, Ending, ShimError, socket_in};
use crate::durable;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Version of the record's form.
const VERSION: u32 = 1;
const RECORD: &str = "exit.json";
const LOCK: &str = "shim.lock";
/// A supervisor that has told of the end still says goodbye to its watchers, and `find` holds the lock for an instant:
/// the next boot waits for both instead of failing.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// How a boot ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExitRecord {
    version: u32,
    /// How.
    pub ending: Ending,
    /// Whether the guest ran out of memory before.
    pub oom_killed: bool,
    /// When the process was started, if it ever was.
    pub running_since: Option<Timestamp>,
    /// When the machine was gone.
    pub ended_at: Timestamp,
    /// Whether it ended because the host asked its processes to end: nobody wanted the task to stop.
    #[serde(default)]
    pub went_down_with_host: bool,
}

impl ExitRecord {
    pub(super) fn new(
        ending: Ending,
        oom_killed: bool,
        running_since: Option<Timestamp>,
        ended_at: Timestamp,
    ) -> ExitRecord {
        ExitRecord {
            version: VERSION,
            ending,
            oom_killed,
            running_since,
            ended_at,
            went_down_with_host: false,
        }
    }
}

/// What is left of, or goes on with, a boot of a task.
#[derive(Debug)]
pub enum Found {
    /// A supervisor runs; ask it.
    Running(Client),
    /// The boot is over.
    Exited(ExitRecord),
    /// There is neither: the supervisor was killed, the host went down, or the task never ran.
    Nothing,
}

/// Looks for the task with these folders: a running supervisor first, then its record.
///
/// # Errors
/// The lock or the record exists but cannot be read.
pub fn find(task_dir: &Path, run_dir: &Path) -> Result<Found, ShimError> {
    let path = task_dir.join(LOCK);
    match File::open(&path) {
        Ok(file) => match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Found::Running(Client::new(socket_in(run_dir)))),
            Err(error) => return Err(ShimError::file("lock", &path)(error.into())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(ShimError::file("open", &path)(error)),
    }
    let path = task_dir.join(RECORD);
    match std::fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json)
            .map(Found::Exited)
            .map_err(|error| ShimError::file("read", &path)(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(ShimError::file("read", &path)(error)),
    }
}

/// Removes the record of a boot that is over, before the next is begun: until the next supervisor holds its lock, the
/// record would be taken for that of the new boot.
///
/// # Errors
/// The record cannot be removed.
pub fn forget(task_dir: &Path) -> Result<(), ShimError> {
    let record = record_path(task_dir);
    match std::fs::remove_file(&record) {
        Ok(()) => durable::sync_folder(task_dir).map_err(ShimError::file("sync", task_dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ShimError::file("remove", &record)(error)),
    }
}

/// Held from before a supervisor is started until it is gone: the agent takes it and hands it over open, so that at no
/// instant a supervisor that is about to run looks like one that has vanished. The kernel drops it with the last
/// process that has it, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of a task and removes the record of its boot before.
    pub(super) fn take(name: &str, task_dir: &Path) -> Result<Lock, ShimError> {
        let path = task_dir.join(LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(ShimError::file("open", &path))?;
        let started = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(LOCK_INTERVAL);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(ShimError::AlreadyRunning { name: name.to_owned() });
                }
                Err(error) => return Err(ShimError::file("lock", &path)(error.into())),
            }
        }
        // Until the supervisor says who it is, nobody shall be taken for it.
        file.set_len(0).map_err(ShimError::file("empty", &path))?;
        forget(task_dir)?;
        Ok(Lock { file })
    }

    /// The lock as it was handed over to this process, which writes its number into it.
    pub(super) fn adopt(descriptor: OwnedFd) -> Result<Lock, ShimError> {
        let mut file = File::from(descriptor);
        let written = file.write_all(std::process::id().to_string().as_bytes());
        written
            .map_err(|error| ShimError::Config { problem: format!("its lock cannot be written: {error}") })?;
        Ok(Lock { file })
    }

    /// For handing it over.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

/// Ends a supervisor by force, and with it its machine. Whether there was one.
///
/// # Errors
/// The lock exists but cannot be read, or names no process although it is held.
pub fn kill(task_dir: &Path) -> Result<bool, ShimError> {
    if !matches!(find(task_dir, task_dir)?, Found::Running(_)) {
        return Ok(false);
    }
    let path = task_dir.join(LOCK);
    let number = std::fs::read_to_string(&path).map_err(ShimError::file("read", &path))?;
    let process = number.trim().parse().ok().and_then(Pid::from_raw);
    let process = process
        .ok_or_else(|| ShimError::file("read a process from", &path)(io::ErrorKind::InvalidData.into()))?;
    match rustix::process::kill_process(process, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(true),
        Err(error) => Err(ShimError::file("end the process in", &path)(error.into())),
    }
}

pub(super) fn write(record: &ExitRecord, task_dir: &Path) -> Result<(), ShimError> {
    let path = record_path(task_dir);
    let json =
        serde_json::to_vec_pretty(record).map_err(|error| ShimError::file("write", &path)(error.into()))?;
    durable::write(&path, &json, 0o600).map_err(ShimError::file("write", &path))
}

fn record_path(task_dir: &Path) -> PathBuf {
    task_dir.join(RECORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_running_exited_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let look = || find(folder.path(), folder.path()).unwrap();
        assert!(matches!(look(), Found::Nothing));
        let lock = Lock::take("web", folder.path()).unwrap();
        assert!(matches!(look(), Found::Running(_)));
        let second = Lock::take("web", folder.path()).unwrap_err();
        assert_eq!(second.to_string(), "task web has a supervisor already");
        let record = ExitRecord::new(
            Ending::Code { code: 3 },
            false,
            Some(Timestamp::UNIX_EPOCH),
            Timestamp::UNIX_EPOCH,
        );
        write(&record, folder.path()).unwrap();
        drop(lock);
        let Found::Exited(found) = look() else { panic!("no record") };
        assert_eq!(found, record);
        forget(folder.path()).unwrap();
        assert!(matches!(look(), Found::Nothing), "nothing of the boot before, until the next has its lock");
        forget(folder.path()).unwrap();
        write(&record, folder.path()).unwrap();
        let _lock = Lock::take("web", folder.path()).unwrap();
        assert!(!record_path(folder.path()).exists());
    }
}
