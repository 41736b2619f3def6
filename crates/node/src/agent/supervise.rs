//! Supervisors: started, found again, watched, stopped.
//!
//! What is on disk and in the kernel's locks is the truth; watching a supervisor's socket only says more and sooner.
//! `boot.json` in a task's folder says which boot was begun, and with what: without a supervisor and without its report,
//! it tells that both were lost; with one, it tells what the machine was promised, whatever is declared by now. What a
//! running machine can take over is promised anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lith_core::job::Publish;
use lith_core::name::{TaskId, VolumeId};
use lith_core::slot::Slot;
use lith_core::task::{Exit, ExitReport, HealthState, Incarnation, Process};
use lith_core::time::Time;
use lith_guest::messages::health::{HealthState as GuestHealth, Report};
use lith_guest::signal::Signal;
use lith_net::GuestNetwork;
use lith_vmm::durable;
use lith_vmm::jail::cgroup;
use lith_vmm::shim::{self, Client, Ending, ExitRecord, Found, ShimConfig, TaskState};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::connects::{Rights, WrittenRights};
use super::lock;
use super::machine::{self, with_hint};
use super::serving::OWN_PROGRAM;
use super::{ready, wake::Waker};
use crate::layout::Layout;
use lith_core::chain::chain;

/// Between attempts to connect to a supervisor that holds its lock but does not listen yet, or ends.
const CONNECT_INTERVAL: Duration = Duration::from_millis(20);
/// Attempts at that pace: five seconds, for a machine on which many start at once.
const QUICK_ATTEMPTS: u32 = 250;
/// Afterwards: something is wrong, and a person may be repairing it.
const PATIENT_INTERVAL: Duration = Duration::from_secs(1);
/// The kernel takes some milliseconds to end a killed VMM.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Says which boot was begun.
const BOOT_FILE: &str = "boot.json";

/// Which boot was begun, in a task's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    incarnation: u64,
    boot: u64,
    /// The boot of the host, as the kernel names it.
    host_boot: String,
    slot: u16,
    /// Base of the range that the guest's address is from; none when it is not known.
    network: Option<Ipv4Addr>,
    /// Where its supervisor listens.
    run_dir: PathBuf,
    /// What is offered of it on the node, as the job file writes it.
    publish: Vec<String>,
    /// What it may reach, and what of it may be reached by other tasks.
    #[serde(default)]
    rights: WrittenRights,
    /// Its volumes.
    #[serde(default)]
    volumes: Vec<String>,
}

/// What a boot is begun with.
#[derive(Debug)]
pub(crate) struct Boot<'a> {
    /// The task.
    pub(crate) id: &'a TaskId,
    /// Its slot.
    pub(crate) slot: Slot,
    /// The version to run.
    pub(crate) incarnation: Incarnation,
    /// The number of the boot.
    pub(crate) boot: u64,
    /// The range that its address is from.
    pub(crate) network: GuestNetwork,
    /// What is offered of it on the node.
    pub(crate) publish: &'a [Publish],
    /// What it may reach, and what of it may be reached by other tasks.
    pub(crate) rights: &'a Rights,
    /// Its volumes.
    pub(crate) volumes: &'a [VolumeId],
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
    /// Where it has to answer.
    ports: Vec<u16>,
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
    /// Children of this process: they must be waited for.
    children: BTreeMap<TaskId, std::process::Child>,
    /// Those that were asked once to end their machine at once.
    condemned: BTreeSet<TaskId>,
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
            condemned: BTreeSet::new(),
            watched: BTreeMap::new(),
            probed: BTreeMap::new(),
        }
    }

    /// The task's supervisor and machine, as they are now.
    pub(crate) fn look(&mut self, id: &TaskId) -> Process {
        let task_dir = self.layout.task(id);
        self.reap(id);
        let begun = self.begun(id);
        let run_dir = begun.as_ref().map_or_else(PathBuf::new, |begun| begun.run_dir.clone());
        match shim::find(&task_dir, &run_dir) {
            // A supervisor without a note runs nothing that anybody wants, and is stopped.
            Ok(Found::Running(client)) => self.watch(id, client, &begun.unwrap_or_default()),
            Ok(found) => {
                self.watched.remove(id);
                self.probed.remove(id);
                self.condemned.remove(id);
                let Some(begun) = begun else { return Process::Absent };
                // Its disks are free only when the VMM is gone, too.
                if cgroup::end_members(&machine::name(&self.layout, id)) {
                    self.look_again();
                    return Process::Stopping;
                }
                Process::Exited(self.report(&task_dir, &begun, found))
            }
            Err(error) => {
                tracing::error!(task = %id, error = %chain(&error), "a supervisor cannot be looked at");
                Process::Stopping
            }
        }
    }

    /// The range that the address of a living machine is from.
    pub(crate) fn network_in_use(&self, id: &TaskId) -> Option<GuestNetwork> {
        let begun = self.begun(id)?;
        let is_alive = matches!(shim::find(&self.layout.task(id), &begun.run_dir), Ok(Found::Running(_)));
        begun.network.filter(|_| is_alive).and_then(GuestNetwork::new)
    }

    /// What is known of the boot that was begun last, until its end is part of the history.
    fn begun(&self, id: &TaskId) -> Option<Begun> {
        match read_begun(&self.layout.task(id)) {
            Ok(begun) => begun,
            Err(error) => {
                // Then nothing is known of the boot but that it was begun.
                tracing::error!(task = %id, %error, "the note of a boot cannot be read");
                Some(Begun::default())
            }
        }
    }

    /// The slot of a boot that was begun, if one was.
    pub(crate) fn slot(&self, id: &TaskId) -> Option<Slot> {
        Slot::new(self.begun(id)?.slot)
    }

    /// What is offered on the node of a boot that was begun.
    pub(crate) fn published(&self, id: &TaskId) -> Vec<Publish> {
        let publish = self.begun(id).map_or_else(Vec::new, |begun| begun.publish);
        publish.iter().filter_map(|text| lith_core::value::port::publish(text).ok()).collect()
    }

    /// The rights of a boot that was begun.
    pub(crate) fn rights(&self, id: &TaskId) -> Rights {
        self.begun(id).map_or_else(Rights::default, |begun| Rights::read(&begun.rights))
    }

    /// Gives a boot that was begun other rights, and says which it has now: those of before where they cannot be noted.
    pub(crate) fn regrant(&self, id: &TaskId, rights: Rights) -> Rights {
        let task_dir = self.layout.task(id);
        // A note that cannot be read is not written over: it holds more than this.
        let Ok(Some(mut begun)) = read_begun(&task_dir) else { return self.rights(id) };
        let before = std::mem::replace(&mut begun.rights, rights.written());
        if begun.rights == before {
            return rights;
        }
        match write_begun(&task_dir, &begun) {
            Ok(()) => {
                tracing::info!(task = %id, "a running task has other rights in the network");
                rights
            }
            Err(why) => {
                tracing::error!(task = %id, error = %why, "a running task keeps the rights that it has");
                Rights::read(&before)
            }
        }
    }

    /// The volumes of a boot that was begun.
    pub(crate) fn mounted(&self, id: &TaskId) -> Vec<VolumeId> {
        let volumes = self.begun(id).map_or_else(Vec::new, |begun| begun.volumes);
        volumes.iter().filter_map(|text| text.parse().ok()).collect()
    }

    fn look_again(&self) {
        let waker = self.waker.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(LOOK_AGAIN).await;
            waker.wake();
        });
    }

    fn reap(&mut self, id: &TaskId) {
        let has_ended = self.children.get_mut(id).is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
        if has_ended {
            self.children.remove(id);
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
            Seen::State(TaskState::Running { since, health, .. }) => {
                let since = Time(u64::try_from(since.as_millisecond()).unwrap_or_default());
                let health = health.map(|report| health_of(&report));
                Process::Running { incarnation, since, health }
            }
            // The machine is gone, and the supervisor about to end.
            Seen::State(TaskState::Stopping | TaskState::Exited { .. }) => Process::Stopping,
        }
    }

    /// What the last failed check of a running task said.
    pub(crate) fn health_output(&self, id: &TaskId) -> Option<String> {
        match &*lock(&self.watched.get(id)?.seen) {
            Seen::State(TaskState::Running { health: Some(report), .. }) => report.output.clone(),
            Seen::State(
                TaskState::Booting
                | TaskState::Running { .. }
                | TaskState::Stopping
                | TaskState::Exited { .. },
            )
            | Seen::Nothing => None,
        }
    }

    fn report(&self, task_dir: &Path, begun: &Begun, found: Found) -> ExitReport {
        let (ran, exit) = match found {
            Found::Exited(record) => (ran(&record), exit_of(&record)),
            Found::Running(_) | Found::Nothing if begun.host_boot == self.host_boot => {
                (Duration::ZERO, Exit::SupervisorDied(shim::complaint(task_dir)))
            }
            Found::Running(_) | Found::Nothing => (Duration::ZERO, Exit::NodeRestarted),
        };
        ExitReport { boot: begun.boot, incarnation: Incarnation(begun.incarnation), ran, exit }
    }

    /// Starts the supervisor of a boot.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    pub(crate) fn start(&mut self, boot: &Boot<'_>, config: &ShimConfig) -> Result<(), String> {
        let begun = Begun {
            incarnation: boot.incarnation.0,
            boot: boot.boot,
            host_boot: self.host_boot.clone(),
            slot: boot.slot.number(),
            network: Some(boot.network.base()),
            run_dir: config.run_dir.clone(),
            publish: boot.publish.iter().map(ToString::to_string).collect(),
            rights: boot.rights.written(),
            volumes: boot.volumes.iter().map(ToString::to_string).collect(),
        };
        let task_dir = self.layout.task(boot.id);
        // First: with the new note beside it, the record of the boot before would be taken for this one's.
        shim::forget(&task_dir).map_err(|error| chain(&error))?;
        write_begun(&task_dir, &begun)?;
        let started = lith_net::tap::open(boot.slot)
            .map_err(|error| with_hint(chain(&error), error.hint()))
            .and_then(|tap| {
                shim::launch(Path::new(OWN_PROGRAM), &[crate::shim::SUBCOMMAND], config, Some(tap))
                    .map_err(|error| with_hint(chain(&error), error.hint()))
            });
        match started {
            Ok(child) => {
                self.children.insert(boot.id.clone(), child);
                self.waker.wake();
                Ok(())
            }
            Err(why) => {
                // Nothing was begun after all.
                let path = task_dir.join(BOOT_FILE);
                std::fs::remove_file(&path)
                    .map_err(|error| format!("{why}; and {} stays: {error}", path.display()))?;
                Err(why)
            }
        }
    }

    /// Asks the supervisor to stop its task, by the signal that it was started with.
    pub(crate) fn stop(&self, id: &TaskId, grace: Duration) {
        let client = self.client(id);
        let id = id.clone();
        self.runtime.spawn(async move {
            if let Err(error) = client.stop(None, grace).await {
                tracing::warn!(task = %id, error = %chain(&error), "a supervisor did not take the word to stop");
            }
        });
    }

    /// Ends the machine at once: the first time by asking its supervisor, which then leaves a report; the next time by
    /// ending the supervisor, with which its machine ends.
    pub(crate) fn kill(&mut self, id: &TaskId) {
        if !self.condemned.insert(id.clone()) {
            match shim::kill(&self.layout.task(id)) {
                Ok(was_there) => tracing::warn!(task = %id, was_there, "a supervisor was ended by force"),
                Err(error) => {
                    tracing::error!(task = %id, error = %chain(&error), "a supervisor cannot be ended");
                }
            }
            return self.look_again();
        }
        let client = self.client(id);
        let id = id.clone();
        self.runtime.spawn(async move {
            if let Err(error) = client.kill().await {
                tracing::warn!(task = %id, error = %chain(&error), "a supervisor did not take the word to end");
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
        self.condemned.remove(id);
    }

    /// Whether a running task answers; asked for the first time, starts to find out.
    pub(crate) fn readiness(
        &mut self,
        id: &TaskId,
        boot: u64,
        address: Ipv4Addr,
        ports: Vec<u16>,
    ) -> Result<(), Option<String>> {
        let is_same = |probed: &&Probed| probed.boot == boot && probed.ports == ports;
        if let Some(probed) = self.probed.get(id).filter(is_same) {
            return lock(&probed.is_ready).clone();
        }
        let is_ready = Arc::new(Mutex::new(Err(None)));
        let (result, waker, probed) = (Arc::clone(&is_ready), self.waker.clone(), ports.clone());
        let probe = async move {
            ready::wait(address, probed, |why| {
                *lock(&result) = Err(Some(why));
                waker.wake();
            })
            .await;
            *lock(&result) = Ok(());
            waker.wake();
        };
        let task = Aborting(self.runtime.spawn(probe));
        self.probed.insert(id.clone(), Probed { boot, ports, is_ready, _task: task });
        Err(None)
    }

    fn client(&self, id: &TaskId) -> Client {
        let run_dir = self.begun(id).map_or_else(PathBuf::new, |begun| begun.run_dir);
        Client::new(shim::socket_in(&run_dir))
    }
}

fn health_of(report: &Report) -> HealthState {
    match report.state {
        GuestHealth::Starting => HealthState::Starting,
        GuestHealth::Healthy => HealthState::Healthy,
        GuestHealth::Unhealthy => HealthState::Unhealthy,
    }
}

/// Follows a supervisor until it is gone, and wakes the agent at each change.
async fn follow(client: Client, task_dir: PathBuf, seen: Arc<Mutex<Seen>>, waker: Waker) {
    let mut attempts = 0;
    // Its lock says when it is gone; meanwhile it may not listen yet, or be about to end.
    while matches!(shim::find(&task_dir, &task_dir), Ok(Found::Running(_))) {
        match client.watch().await {
            Ok(mut watch) => {
                attempts = 0;
                if let Err(error) = follow_states(&mut watch, &seen, &waker).await {
                    tracing::warn!(folder = %task_dir.display(), error = %chain(&error), "a supervisor is not understood");
                }
            }
            Err(error) if attempts == QUICK_ATTEMPTS => {
                tracing::warn!(folder = %task_dir.display(), error = %chain(&error), "a supervisor does not answer");
            }
            Err(_) => {}
        }
        attempts += 1;
        tokio::time::sleep(if attempts < QUICK_ATTEMPTS { CONNECT_INTERVAL } else { PATIENT_INTERVAL }).await;
    }
    waker.wake();
}

async fn follow_states(
    watch: &mut shim::Watch,
    seen: &Mutex<Seen>,
    waker: &Waker,
) -> Result<(), shim::ClientError> {
    while let Some(state) = watch.next().await? {
        *lock(seen) = Seen::State(state);
        waker.wake();
    }
    Ok(())
}

fn read_begun(task_dir: &Path) -> io::Result<Option<Begun>> {
    match std::fs::read(task_dir.join(BOOT_FILE)) {
        Ok(json) => Ok(Some(serde_json::from_slice(&json)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn write_begun(task_dir: &Path, begun: &Begun) -> Result<(), String> {
    let json = serde_json::to_vec(begun).expect("numbers and text always encode");
    let path = task_dir.join(BOOT_FILE);
    durable::write(&path, &json, 0o600)
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

/// How long the process itself ran: a boot that hangs until its deadline is no healthy run.
fn ran(record: &ExitRecord) -> Duration {
    let ran = record.running_since.map(|since| record.ended_at.duration_since(since));
    ran.and_then(|ran| Duration::try_from(ran).ok()).unwrap_or(Duration::ZERO)
}

/// A shell passes on as a code that its child was killed (POSIX: 128 and the signal's number).
const CODE_KILLED: u8 = 137;

/// A process that lived on though the kernel had killed one of its children for want of memory ended by itself.
fn exit_of(record: &ExitRecord) -> Exit {
    // Whatever it made of the word to stop: nobody wanted that, and it runs again with the node.
    if record.went_down_with_host {
        return Exit::NodeRestarted;
    }
    match &record.ending {
        Ending::Signal { signal: Signal::KILL } | Ending::Code { code: CODE_KILLED } if record.oom_killed => {
            Exit::OutOfMemory
        }
        Ending::Code { code } => Exit::Code(i32::from(*code)),
        Ending::Signal { signal } => Exit::Signal(signal.0),
        Ending::VmmDied { message } => Exit::MachineDied(message.clone()),
        Ending::BootFailed { message } => Exit::Failed(message.clone()),
    }
}
