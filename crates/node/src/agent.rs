//! The agent: drives this machine towards what it should have.
//!
//! One thread owns everything: it looks at the world, asks core for the next step of each task, writes what must be
//! remembered, acts, and tells what it sees. Nothing depends on a notification: they only make it look sooner. What
//! waits (connections to supervisors, downloads, probes) runs elsewhere and leaves its result where the next round
//! finds it.
//!
//! ```text
//!   desired ─┐                         ┌─▶ records (disk)
//!   records ─┼─▶ look ─▶ core::step ───┼─▶ network, ports
//!   world ───┘      ▲                  └─▶ start, stop, fetch, remove ─▶ observed
//!                   └──── woken by: desired, supervisors, downloads, probes, time
//! ```

pub mod blocked;
mod connects;
mod disks;
mod drain;
mod health;
mod machine;
mod network;
mod order;
pub(crate) mod ports;
mod ready;
pub mod resolver;
mod round;
pub(crate) mod serving;
mod settings;
pub mod state;
mod supervise;
mod wake;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lith_api::agent::{Desired, Observed};
use lith_api::event::Event;
use lith_core::job::STOP_GRACE_DEFAULT;
use lith_core::name::{JobName, NodeName, TaskId, VolumeId};
use lith_core::slot::Slot;
use lith_core::task::Exit;
use lith_net::{GuestNetwork, Network, NetworkError, NetworkState};
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::images::Images;
use crate::layout::Layout;
use blocked::BlockedLog;
use connects::Rights;
pub use drain::DrainError;
use drain::Patience;
use machine::Machines;
use network::NetworkWatch;
use ports::Ports;
use resolver::Resolver;
use serving::Serving;
use state::{Records, StateError};
use supervise::Supervisors;
pub use wake::Waker;

/// A look at everything though nothing called for it: notices what no notification told.
const RESYNC_INTERVAL: Duration = Duration::from_secs(30);
/// After a round that failed as a whole, such as on a full disk.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// What the agent needs to know of its machine.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where its files lie.
    pub layout: Layout,
    /// Its name.
    pub node: NodeName,
    /// Where guests' addresses come from.
    pub network: GuestNetwork,
    /// Folders that may hold the guests' kernel, in order.
    pub kernels: Vec<PathBuf>,
    /// A person said that the database is to be followed, whatever it knows of this node's tasks.
    pub trusts_database: bool,
}

/// What others hold of the agent.
#[derive(Debug, Clone)]
pub struct AgentHandle {
    layout: Layout,
    tasks: watch::Receiver<Tasks>,
    holds: Holds,
    waker: Waker,
    blocked: BlockedLog,
}

/// What others may know of a task that the node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remembered {
    slot: Slot,
    /// How long it may take to stop by itself.
    stop_grace: Option<Duration>,
}

type Tasks = Arc<BTreeMap<TaskId, Remembered>>;

fn tasks_of(records: &Records) -> Tasks {
    let tasks = records.tasks.iter().map(|(id, record)| {
        (id.clone(), Remembered { slot: record.slot, stop_grace: record.history.stop_grace })
    });
    Arc::new(tasks.collect())
}

/// Instances of jobs whose tasks with volumes do not run for now.
type Holds = Arc<Mutex<BTreeMap<(JobName, u32), usize>>>;

/// Keeps the tasks that have volumes of one instance of a job from running, while it lives.
#[derive(Debug)]
pub struct Hold {
    instance: (JobName, u32),
    holds: Holds,
    waker: Waker,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = lock(&self.holds);
        if let Some(count) = holds.get_mut(&self.instance) {
            *count -= 1;
            if *count == 0 {
                holds.remove(&self.instance);
            }
        }
        drop(holds);
        self.waker.wake();
    }
}

impl AgentHandle {
    /// The folder of a task's log, if the node knows the task.
    #[must_use]
    pub fn log(&self, id: &TaskId) -> Option<PathBuf> {
        self.tasks.borrow().contains_key(id).then(|| self.layout.task(id))
    }

    /// Where the node's files lie.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What tasks tried to reach and were refused.
    #[must_use]
    pub fn blocked(&self) -> &BlockedLog {
        &self.blocked
    }

    /// Stops the tasks that have volumes of an instance of a job, and keeps them so.
    #[must_use]
    pub fn hold(&self, job: &JobName, index: u32) -> Hold {
        let instance = (job.clone(), index);
        *lock(&self.holds).entry(instance.clone()).or_default() += 1;
        self.waker.wake();
        Hold { instance, holds: Arc::clone(&self.holds), waker: self.waker.clone() }
    }

    /// Whether the tasks that have volumes of an instance of a job are kept from running.
    #[must_use]
    pub fn is_held(&self, job: &JobName, index: u32) -> bool {
        let holds = lock(&self.holds);
        holds.contains_key(&(job.clone(), index))
    }

    /// How long the slowest task of an instance of a job may take to stop by itself.
    #[must_use]
    pub fn longest_grace(&self, job: &JobName, index: u32) -> Duration {
        let tasks = self.tasks.borrow();
        let its = tasks.iter().filter(|(id, _)| id.alloc.job == *job && id.alloc.index == index);
        its.filter_map(|(_, task)| task.stop_grace).max().unwrap_or(STOP_GRACE_DEFAULT)
    }

    /// Who speaks with the process that serves a volume, if one does.
    #[must_use]
    pub fn disks(&self, volume: &VolumeId) -> Option<lith_volume::service::Client> {
        serving::control_of(&self.layout, volume).map(|socket| lith_volume::service::Client::new(&socket))
    }

    /// The tasks that see a checkpoint of a volume now.
    #[must_use]
    pub fn readers(&self, volume: &VolumeId) -> Vec<TaskId> {
        serving::readers_of(&self.layout, volume)
    }

    /// A task that may still have the disk of a volume open: one of the same job and instance, wanted or not.
    #[must_use]
    pub fn user_of(&self, volume: &VolumeId) -> Option<TaskId> {
        let is_its = |id: &&TaskId| id.alloc.job == volume.job && id.alloc.index == volume.index;
        self.tasks.borrow().keys().find(is_its).cloned()
    }

    /// A client of the task's supervisor, if the node knows the task. It may not run.
    #[must_use]
    pub fn supervisor(&self, id: &TaskId) -> Option<lith_vmm::shim::Client> {
        let slot = self.tasks.borrow().get(id)?.slot;
        Some(lith_vmm::shim::Client::new(lith_vmm::shim::socket_in(&self.layout.running(slot))))
    }
}

/// The agent of one machine.
pub struct Agent {
    config: AgentConfig,
    images: Images,
    desired: watch::Receiver<Arc<Desired>>,
    /// What the server last said, as kept on disk.
    kept: Arc<Desired>,
    observed: watch::Sender<Arc<Observed>>,
    tasks: watch::Sender<Tasks>,
    records: Records,
    machines: Machines,
    supervisors: Supervisors,
    serving: Serving,
    ports: Ports,
    network: Network,
    in_force: Option<NetworkState>,
    /// The rights of tasks for which rules and names are in force.
    rights_in_force: BTreeMap<TaskId, Rights>,
    /// When the machine's network was last compared with what it should be.
    network_looked_at: Option<Instant>,
    network_watch: NetworkWatch,
    resolver: Resolver,
    /// The node's own addresses and the cluster's, which no name opens.
    node_ranges: Vec<(IpAddr, u8)>,
    blocked: BlockedLog,
    /// Where events of what was refused go, until the gathering begins.
    blocked_events: Option<mpsc::Sender<Event>>,
    /// What is remembered differs from what is on disk.
    is_unsaved: bool,
    /// Why the network is not as it should be, since the last round.
    network_error: Option<NetworkError>,
    /// Tasks whose supervisor lived in the last round.
    living: Vec<TaskId>,
    /// Starts that did not even begin, until their history is written.
    failed: BTreeMap<TaskId, Exit>,
    holds: Holds,
    is_draining: bool,
    runtime: tokio::runtime::Handle,
    wake: wake::Wake,
}

/// The ends by which the rest of the daemon speaks with the agent.
#[derive(Debug)]
pub struct Ends {
    /// What the server wants.
    pub desired: watch::Sender<Arc<Desired>>,
    /// What the agent sees.
    pub observed: watch::Receiver<Arc<Observed>>,
    /// Access to tasks.
    pub handle: AgentHandle,
    /// Makes the agent look.
    pub waker: Waker,
    /// Events of what tasks tried and were refused.
    pub blocked: mpsc::Receiver<Event>,
}

impl Agent {
    /// The agent with what it remembers. Nothing is touched yet.
    ///
    /// # Errors
    /// When its own files cannot be read: it must not guess what runs.
    pub fn new(
        config: AgentConfig,
        images: Images,
        runtime: tokio::runtime::Handle,
    ) -> Result<(Self, Ends), StateError> {
        let records = Records::load(&config.layout)?;
        let kept = Arc::new(state::load_desired(&config.layout)?);
        let (waker, wake) = wake::pair();
        let (desired_sender, desired) = watch::channel(Arc::clone(&kept));
        let (observed, observed_receiver) = watch::channel(Arc::default());
        let (tasks, tasks_receiver) = watch::channel(tasks_of(&records));
        let holds = Holds::default();
        let blocked = BlockedLog::default();
        let (blocked_events, blocked_receiver) = mpsc::channel(blocked::EVENTS_WAITING_MAX);
        let handle = AgentHandle {
            layout: config.layout.clone(),
            tasks: tasks_receiver,
            holds: Arc::clone(&holds),
            waker: waker.clone(),
            blocked: blocked.clone(),
        };
        let serving = Serving::new(config.layout.clone(), waker.clone());
        let supervisors = Supervisors::new(config.layout.clone(), waker.clone(), runtime.clone());
        // A machine keeps its address: another range is for when none runs.
        let in_use = records.tasks.keys().find_map(|id| supervisors.network_in_use(id));
        let network = in_use.unwrap_or(config.network);
        if network != config.network {
            tracing::warn!(%network, "tasks run with addresses of this range: another one needs `lith down` first");
        }
        let config = AgentConfig { network, ..config };
        let pinned = records.tasks.iter().filter_map(|(id, r)| Some((id, r.image.as_ref()?.digest.as_str())));
        images.pin_all(pinned);
        let agent = Self {
            images: images.waking(waker.clone()),
            supervisors,
            serving,
            machines: Machines::new(config.layout.clone(), config.kernels.clone()),
            network: Network::new(config.layout.network(), &config.layout.data.to_string_lossy()),
            desired,
            kept,
            observed,
            tasks,
            records,
            ports: Ports::default(),
            in_force: None,
            rights_in_force: BTreeMap::new(),
            network_looked_at: None,
            network_watch: NetworkWatch::default(),
            resolver: Resolver::new(config.layout.clone(), waker.clone()),
            node_ranges: vec![],
            blocked,
            blocked_events: Some(blocked_events),
            is_unsaved: false,
            network_error: None,
            living: vec![],
            failed: BTreeMap::new(),
            holds,
            is_draining: false,
            runtime,
            wake,
            config,
        };
        let (desired, observed) = (desired_sender, observed_receiver);
        let ends = Ends { desired, observed, handle, waker, blocked: blocked_receiver };
        Ok((agent, ends))
    }

    /// Works until it is asked to drain and everything is gone. Blocks its thread.
    ///
    /// # Errors
    /// When draining is given up: what could not be stopped or removed stays, and the next drain goes on from there.
    pub fn run(mut self) -> Result<(), DrainError> {
        self.network_watch.start(self.wake.waker());
        if let Some(events) = self.blocked_events.take() {
            self.blocked.start(events);
        }
        let mut patience = Patience::default();
        loop {
            self.is_draining |= self.wake.is_draining();
            if self.is_draining && self.is_empty() {
                match self.network.remove_all(self.config.network) {
                    Ok(()) => {
                        lith_vmm::jail::cgroup::remove_parents();
                        return Ok(());
                    }
                    Err(error) => {
                        tracing::error!(error = %lith_core::chain::chain(&error), "the network was not removed");
                        self.network_error = Some(error);
                    }
                }
            }
            let (mut wait, mut failure) = match self.round() {
                Ok(at) => {
                    (at.map_or(RESYNC_INTERVAL, |at| at.since(clock::now()).min(RESYNC_INTERVAL)), None)
                }
                Err(error) => {
                    tracing::error!(error = %lith_core::chain::chain(&error), "the agent cannot go on; it tries again");
                    (RETRY_INTERVAL, Some(DrainError::State { source: error }))
                }
            };
            self.take_refused_names();
            let slots = self.records.tasks.iter().map(|(id, record)| (record.slot, id.clone())).collect();
            self.blocked.see(slots, &self.kept, self.config.network);
            let network_error = self.network_error.take().map(|source| DrainError::Network { source });
            if self.is_draining {
                failure = failure.or(network_error);
                wait = wait.min(RETRY_INTERVAL);
                patience.judge(failure, &self.living, self.longest_grace(), Instant::now())?;
            }
            self.wake.wait(wait);
        }
    }

    /// How long the slowest task may take to stop by itself.
    fn longest_grace(&self) -> Duration {
        let graces = self.records.tasks.values().filter_map(|record| record.history.stop_grace);
        graces.max().unwrap_or(STOP_GRACE_DEFAULT)
    }

    /// Whether no task has a supervisor, as far as the last round saw.
    fn is_empty(&self) -> bool {
        self.in_force.as_ref().is_some_and(|state| state.guests.is_empty()) && self.serving.is_empty()
    }
}

/// What a mutex holds. Values are replaced whole, so that a panic leaves none half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
