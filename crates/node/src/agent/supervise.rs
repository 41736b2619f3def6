//! Supervisors: started, found again, watched, stopped.
//!
//! What is on disk and in the kernel's locks is the truth; watching a supervisor's socket only says more and sooner.
//! `boot.json` in a task's folder says which boot was begun: without a supervisor and without its report, it tells that
//! both were lost.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lith_core::name::TaskId;
use lith_core::slot::Slot;
use lith_core::task::{Exit, ExitReport, Incarnation, Process};
use lith_core::time::Time;
use lith_vmm::durable;
use lith_vmm::shim::{self, Client, Ending, ExitRecord, Found, ShimConfig, TaskState};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::{ready, wake::Waker};
use crate::chain::chain;
use crate::layout::Layout;

/// Between attempts to connect to a supervisor that holds its lock but does not listen yet, or ends.
const CONNECT_INTERVAL: Duration = Duration::from_millis(20);
/// Attempts to reach a supervisor that was just launched: five seconds, for a machine on which many start at once.
const LAUNCH_ATTEMPTS: u32 = 250;
/// Says which boot was begun.
const BOOT_FILE: &str = "boot.json";

/// Which boot was begun, in a task's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    incarnation: u64,
    boot: u64,
    /// The boot of the host, as the kernel names it.
    host_boot: String,
}

impl Begun {
    /// A boot of which only is known that it was begun.
    fn unknown() -> Self {
        Self { incarnation: 0, boot: 0, host_boot: String::new() }
    }
}

/// What the watcher of a supervisor has learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// Nothing yet.
    Nothing,
    /// The supervisor's own word.
    State(TaskState),
}

/// A supervisor that is being watched. Dropping it ends the watching.
#[derive(Debug)]
struct Watched {
    boot: u64,
    seen: Arc<Mutex<Seen>>,
    _task: Aborting,
}

/// A probe of whether a task answers.
#[derive(Debug)]
struct Probed {
    boot: u64,
    /// `None` while it does not; the sentence says why, once that is known.
    is_ready: Arc<Mutex<Result<(), Option<String>>>>,
    _task: Aborting,
}

/// A tokio task that ends when this is dropped.
#[derive(Debug)]
struct Aborting(tokio::task::JoinHandle<()>);

impl Drop for Aborting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// All supervisors of this node.
#[derive(Debug)]
pub(crate) struct Supervisors {
    layout: Layout,
    waker: Waker,
    runtime: Handle,
    host_boot: String,
    /// Children of this process: they must be waited for, and while one lives it may not hold its lock yet.
    children: BTreeMap<TaskId, std::process::Child>,
    watched: BTreeMap<TaskId, Watched>,
    probed: BTreeMap<TaskId, Probed>,
}

impl Supervisors {
    pub(crate) fn new(layout: Layout, waker: Waker, runtime: Handle) -> Self {
        let host_boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            layout,
            waker,
            runtime,
            host_boot: host_boot.trim().to_owned(),
            children: BTreeMap::new(),
            watched: BTreeMap::new(),
            probed: BTreeMap::new(),
        }
    }

    /// The task's supervisor and machine, as they are now.
    pub(crate) fn look(&mut self, id: &TaskId, slot: Slot) -> Process {
        let task_dir = self.layout.task(id);
        let has_child = self.reap(id);
        let begun = match read_begun(&task_dir) {
            Ok(Some(begun)) => begun,
            Ok(None) => return Process::Absent,
            Err(error) => {
                // Without it nothing is known of the boot but that it was begun.
                tracing::error!(task = %id, %error, "the note of a boot cannot be read");
                Begun::unknown()
            }
        };
        match shim::find(&task_dir, &self.layout.running(slot)) {
            Ok(Found::Running(client)) => self.watch(id, client, &begun),
            // It has not taken its lock yet, or is about to end.
            Ok(Found::Nothing) if has_child => {
                let client = self.client(slot);
                self.watch(id, client, &begun)
            }
            Ok(found) => {
                self.watched.remove(id);
                self.probed.remove(id);
                Process::Exited(self.report(&begun, found))
            }
            Err(error) => {
                tracing::error!(task = %id, error = %chain(&error), "a supervisor cannot be looked at");
                Process::Stopping
            }
        }
    }

    /// Whether a child of this process lives for the task.
    fn reap(&mut self, id: &TaskId) -> bool {
        let Some(child) = self.children.get_mut(id) else { return false };
        match child.try_wait() {
            Ok(None) => true,
            Ok(Some(_)) | Err(_) => {
                self.children.remove(id);
                false
            }
        }
    }

    /// The state of a living supervisor, watching it from now on.
    fn watch(&mut self, id: &TaskId, client: Client, begun: &Begun) -> Process {
        let incarnation = Incarnation(begun.incarnation);
        if self.watched.get(id).is_none_or(|watched| watched.boot != begun.boot) {
            let seen = Arc::new(Mutex::new(Seen::Nothing));
            let follow = follow(client, self.layout.task(id), Arc::clone(&seen), self.waker.clone());
            let task = Aborting(self.runtime.spawn(follow));
            self.watched.insert(id.clone(), Watched { boot: begun.boot, seen, _task: task });
        }
        let seen = self.watched.get(id).map_or(Seen::Nothing, |watched| lock(&watched.seen).clone());
        match seen {
            Seen::Nothing | Seen::State(TaskState::Booting) => Process::Booting { incarnation },
            Seen::State(TaskState::Running { since, .. }) => {
                let since = Time(u64::try_from(since.as_millisecond()).unwrap_or_default());
                Process::Running { incarnation, since }
            }
            // The machine is gone, and the supervisor about to end.
            Seen::State(TaskState::Stopping | TaskState::Exited { .. }) => Process::Stopping,
        }
    }

    fn report(&self, begun: &Begun, found: Found) -> ExitReport {
        let (ran, exit) = match found {
            Found::Exited(record) => (ran(&record), exit_of(&record)),
            Found::Running(_) | Found::Nothing if begun.host_boot == self.host_boot => {
                (Duration::ZERO, Exit::SupervisorDied)
            }
            Found::Running(_) | Found::Nothing => (Duration::ZERO, Exit::NodeRestarted),
        };
        ExitReport { boot: begun.boot, incarnation: Incarnation(begun.incarnation), ran, exit }
    }

    /// Starts the supervisor of a boot.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    pub(crate) fn start(
        &mut self,
        id: &TaskId,
        slot: Slot,
        incarnation: Incarnation,
        boot: u64,
        config: &ShimConfig,
    ) -> Result<(), String> {
        let begun = Begun { incarnation: incarnation.0, boot, host_boot: self.host_boot.clone() };
        let json = serde_json::to_vec(&begun).expect("numbers and text always encode");
        let task_dir = self.layout.task(id);
        // First: with the new note beside it, the record of the boot before would be taken for this one's.
        shim::forget(&task_dir).map_err(|error| chain(&error))?;
        let path = task_dir.join(BOOT_FILE);
        durable::write(&path, &json, 0o600)
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        let started = lith_net::tap::open(slot).map_err(|error| chain(&error)).and_then(|tap| {
            let program = std::env::current_exe().map_err(|error| format!("lith is not found: {error}"))?;
            shim::launch(&program, &[crate::shim::SUBCOMMAND], config, Some(tap))
                .map_err(|error| chain(&error))
        });
        match started {
            Ok(child) => {
                self.children.insert(id.clone(), child);
                self.waker.wake();
                Ok(())
            }
            Err(why) => {
                // Nothing was begun after all.
                std::fs::remove_file(&path)
                    .map_err(|error| format!("{why}; and {} stays: {error}", path.display()))?;
                Err(why)
            }
        }
    }

    /// Asks the supervisor to stop its task, by the signal that it was started with.
    pub(crate) fn stop(&self, id: &TaskId, slot: Slot, grace: Duration) {
        let client = self.client(slot);
        let id = id.clone();
        self.runtime.spawn(async move {
            if let Err(error) = client.stop(None, grace).await {
                tracing::warn!(task = %id, error = %chain(&error), "a supervisor did not take the word to stop");
            }
        });
    }

    /// Asks the supervisor to end its machine at once. One that does not listen stays: the next step asks again.
    pub(crate) fn kill(&mut self, id: &TaskId, slot: Slot) {
        let client = self.client(slot);
        let id = id.clone();
        self.runtime.spawn(async move {
            if let Err(error) = client.kill().await {
                tracing::error!(task = %id, error = %chain(&error), "a supervisor cannot be ended");
            }
        });
    }

    /// Deletes the report of a boot that is in the history now.
    pub(crate) fn forget_exit(&mut self, id: &TaskId) -> io::Result<()> {
        match std::fs::remove_file(self.layout.task(id).join(BOOT_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Forgets a task that was removed.
    pub(crate) fn forget(&mut self, id: &TaskId) {
        self.watched.remove(id);
        self.probed.remove(id);
        self.children.remove(id);
    }

    /// Whether a running task answers; asked for the first time, starts to find out.
    pub(crate) fn readiness(
        &mut self,
        id: &TaskId,
        boot: u64,
        address: Ipv4Addr,
        ports: Vec<u16>,
    ) -> Result<(), Option<String>> {
        if let Some(probed) = self.probed.get(id).filter(|probed| probed.boot == boot) {
            return lock(&probed.is_ready).clone();
        }
        let is_ready = Arc::new(Mutex::new(Err(None)));
        let (result, waker) = (Arc::clone(&is_ready), self.waker.clone());
        let probe = async move {
            ready::wait(address, ports, |why| {
                *lock(&result) = Err(Some(why));
                waker.wake();
            })
            .await;
            *lock(&result) = Ok(());
            waker.wake();
        };
        let task = Aborting(self.runtime.spawn(probe));
        self.probed.insert(id.clone(), Probed { boot, is_ready, _task: task });
        Err(None)
    }

    fn client(&self, slot: Slot) -> Client {
        Client::new(shim::socket_in(&self.layout.running(slot)))
    }
}

/// Follows a supervisor until it is gone, and wakes the agent at each change.
async fn follow(client: Client, task_dir: PathBuf, seen: Arc<Mutex<Seen>>, waker: Waker) {
    let run_dir = PathBuf::new();
    let mut attempts_left = LAUNCH_ATTEMPTS;
    loop {
        if let Ok(mut watch) = client.watch().await {
            attempts_left = 0;
            while let Ok(Some(state)) = watch.next().await {
                *lock(&seen) = Seen::State(state);
                waker.wake();
            }
        }
        // Not listening yet, or ending: its lock says when it is gone.
        let is_there = matches!(shim::find(&task_dir, &run_dir), Ok(Found::Running(_)));
        if !is_there && attempts_left == 0 {
            break;
        }
        attempts_left = attempts_left.saturating_sub(1);
        tokio::time::sleep(CONNECT_INTERVAL).await;
    }
    waker.wake();
}

fn read_begun(task_dir: &Path) -> io::Result<Option<Begun>> {
    match std::fs::read(task_dir.join(BOOT_FILE)) {
        Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// How long the process itself ran: a boot that hangs until its deadline is no healthy run.
fn ran(record: &ExitRecord) -> Duration {
    let ran = record.running_since.map(|since| record.ended_at.duration_since(since));
    ran.and_then(|ran| Duration::try_from(ran).ok()).unwrap_or(Duration::ZERO)
}

fn exit_of(record: &ExitRecord) -> Exit {
    if record.oom_killed {
        return Exit::OutOfMemory;
    }
    match &record.ending {
        Ending::Code { code } => Exit::Code(i32::from(*code)),
        Ending::Signal { signal } => Exit::Signal(signal.0),
        Ending::VmmDied { message } => Exit::MachineDied(message.clone()),
        Ending::BootFailed { message } => Exit::Failed(message.clone()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Values are replaced whole, so that a panic leaves none half-written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
