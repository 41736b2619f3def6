//! The server: what is deployed, and what each node should therefore have.
//!
//! Owns the database. Every decision is a pure function of core over the loaded world; this module loads, asks core,
//! writes one transaction and hands the agent its part. Database calls block and run on blocking threads.

mod clone;
mod desired;
pub(crate) mod events;
pub(crate) mod history;
pub(crate) mod restore;
mod status;
pub(crate) mod volumes;
pub(crate) mod warnings;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lith_api::agent::{Desired, Observed};
use lith_api::error::{Code, Failure};
use lith_api::event::Event;
use lith_api::task::{Ask, AskRequest, Change, ChangeKind, JobDetail, JobSummary, Plan, TaskStatus};
use lith_core::capability;
use lith_core::deploy::ports::{Holder, PortTaken, Socket};
use lith_core::deploy::{self, Job, TaskKey};
use lith_core::job::JobSpec;
use lith_core::name::{JobName, NodeName};
use lith_core::place;
use lith_core::service::{self, ServiceKey, ServiceNumber};
use lith_core::task::Incarnation;
use lith_store::{Store, StoreError, StoredJob, World, Write};
use tokio::sync::{mpsc, watch};

use self::volumes::Volumes;
use crate::agent::{AgentHandle, ports};
use crate::layout::Layout;
use crate::{clock, host_ports};
use lith_core::chain::chain;

/// Events that are stored in one transaction.
const EVENTS_AT_ONCE: usize = 64;
/// Time that an answer waits for the agent. A round takes a fraction of a second.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(5);

/// What is done with a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carry {
    /// It is only shown.
    Nothing,
    /// It is carried out, whatever the job is now.
    Out,
    /// It is carried out if the job is still at this version: what was shown is what is done, as long as the tasks are as well
    /// as they were.
    OutAt(u64),
}

/// The server of a cluster.
#[derive(Debug)]
pub struct Server {
    store: Mutex<Store>,
    node: NodeName,
    desired: watch::Sender<Arc<Desired>>,
    observed: watch::Receiver<Arc<Observed>>,
    /// The id of the last stored event: it only wakes those who read them from the database.
    last_event: watch::Sender<u64>,
    /// A restore that has not ended.
    unended: Mutex<Option<restore::UnendedOf>>,
    clones: clone::Clones,
}

impl Server {
    /// A server over its database, which tells the agent what to have through `desired`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn new(
        mut store: Store,
        node: NodeName,
        desired: watch::Sender<Arc<Desired>>,
        observed: watch::Receiver<Arc<Observed>>,
    ) -> Result<Self, StoreError> {
        let world = store.world()?;
        let last_event = watch::Sender::new(store.last_event()?);
        let server = Self {
            store: Mutex::new(store),
            node,
            desired,
            observed,
            last_event,
            unended: Mutex::default(),
            clones: clone::Clones::default(),
        };
        server.converge(world)?;
        Ok(server)
    }

    /// Places what is not placed, numbers what has no number, and tells the agent all that it should have.
    fn converge(&self, mut world: World) -> Result<(), StoreError> {
        let (placements, services) = (self.placements(&world), unnumbered(&world));
        if !(placements.is_empty() && services.is_empty()) {
            let write = Write { placements, services, ..Write::default() };
            let mut store = self.store();
            store.write(&write, clock::now())?;
            world = store.world()?;
        }
        self.desired.send_replace(Arc::new(desired::of(&world, &self.node)));
        Ok(())
    }

    fn placements(&self, world: &World) -> Vec<place::Placement> {
        place::place(&place::World {
            jobs: world.jobs.values().map(|stored| &stored.job).collect(),
            nodes: [self.node.clone()].into(),
            allocs: world.allocs.clone(),
        })
    }

    /// Plans the deployment of a job and, unless it is only to be shown, carries it out.
    ///
    /// # Errors
    /// When the job is not valid or collides with another.
    pub async fn deploy(
        self: &Arc<Self>,
        name: String,
        spec: lith_api::job::JobSpec,
        carry: Carry,
        agent: AgentHandle,
    ) -> Result<Plan, Failure> {
        let spec = JobSpec::try_from(&spec).map_err(|error| {
            Failure::new(Code::Invalid, format!("the job is not valid: {}", chain(&error)))
        })?;
        if spec.name.as_str() != name {
            let message = format!("the request is for job \"{name}\" but declares job \"{}\"", spec.name);
            return Err(Failure::new(Code::Invalid, message));
        }
        let plan = self.blocking(move |server| server.deploy_blocking(spec, carry, agent.layout())).await?;
        if carry != Carry::Nothing && plan.changes.iter().any(|change| change.kind == ChangeKind::Adjust) {
            // Whether a task is ready does not tell that it may reach what it could not before.
            self.until_taken_up().await;
        }
        Ok(plan)
    }

    fn deploy_blocking(&self, spec: JobSpec, carry: Carry, layout: &Layout) -> Result<Plan, Failure> {
        let mut store = self.store();
        let world = store.world().map_err(|error| database(&error))?;
        if let Some(failure) = refused(&spec) {
            return Err(failure);
        }
        let jobs = || world.jobs.values().map(|stored| &stored.job);
        let current = world.jobs.get(&spec.name).map(|stored| &stored.job);
        let held = || held_by_programs(&spec, current.map(|job| &job.spec));
        if let Some(failure) =
            ports_taken(&deploy::ports::taken(&spec, jobs())).or_else(|| ports_taken(&held()))
        {
            return Err(failure);
        }
        let from_version = current.map_or(0, |job| job.version);
        if let Carry::OutAt(version) = carry
            && version != from_version
        {
            return Err(moved_on(&spec.name, version, from_version));
        }
        let found = Volumes::of(&spec, layout)?;
        if carry != Carry::Nothing {
            found.check_sent()?;
        }
        let resized = current.map_or_else(Vec::new, |job| found.resized(&job.spec));
        let volumes = found.changes();
        let warnings = capability::not_in_force(&spec).into_iter().chain(resized).collect();
        let well = current
            .map_or_else(BTreeSet::new, |job| status::well(job, &self.observed.borrow(), clock::now()));
        let plan = deploy::plan(current, spec, next(&world), &well);
        // What concerns no task, such as a volume of which there is no disk yet, is a change of the job, too.
        let is_same = plan.is_empty() && current.is_some_and(|job| job.spec == plan.job.spec);
        let answer = Plan {
            job: plan.job.spec.name.to_string(),
            from_version,
            version: if is_same { from_version } else { plan.job.version },
            changes: plan.changes.iter().map(Change::from).collect(),
            volumes,
            warnings,
        };
        if carry != Carry::Nothing && !is_same {
            let message = format!("version {} was deployed", plan.job.version);
            let event = job_event(&plan.job.spec.name, "deployed", message);
            self.commit(&mut store, vec![plan.job], vec![], event).map_err(|error| database(&error))?;
        }
        Ok(answer)
    }

    /// Writes changed jobs, places what follows from them, and tells the agent.
    fn commit(
        &self,
        store: &mut Store,
        put: Vec<Job>,
        delete: Vec<JobName>,
        event: Event,
    ) -> Result<(), StoreError> {
        let mut world = store.world()?;
        for name in &delete {
            world.jobs.remove(name);
        }
        let now = clock::now();
        for job in &put {
            let stored = StoredJob { job: job.clone(), created: now, updated: now };
            world.jobs.insert(job.spec.name.clone(), stored);
        }
        let (placements, services) = (self.placements(&world), unnumbered(&world));
        let write = Write { put, services, delete, placements, events: vec![event] };
        let (_, events) = store.write(&write, now)?;
        self.desired.send_replace(Arc::new(desired::of(&store.world()?, &self.node)));
        self.announce(&events);
        Ok(())
    }

    /// Deletes a job. Its tasks are stopped and removed by their node.
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn remove(self: &Arc<Self>, name: String) -> Result<JobSummary, Failure> {
        let removed = self.blocking(move |server| {
            let mut store = server.store();
            let stored = find(&mut store, &name)?;
            let summary = status::summary(&stored, &server.observed.borrow());
            let job = stored.job.spec.name;
            let event = job_event(&job, "removed", "the job was removed".to_owned());
            server.commit(&mut store, vec![], vec![job], event).map_err(|error| database(&error))?;
            Ok(summary)
        });
        let removed = removed.await?;
        self.until_taken_up().await;
        Ok(removed)
    }

    /// Stops, starts or restarts a job or one of its tasks.
    ///
    /// # Errors
    /// When there is no such job or task.
    pub async fn ask(self: &Arc<Self>, name: String, request: AskRequest) -> Result<JobDetail, Failure> {
        let job = name.clone();
        let asked = self.blocking(move |server| {
            let mut store = server.store();
            let stored = find(&mut store, &name)?;
            let world = store.world().map_err(|error| database(&error))?;
            let next = status::ask(&stored.job, &request, &server.observed.borrow(), next(&world))?;
            if next != stored.job {
                let verb = match request.ask {
                    Ask::Stop => "stop",
                    Ask::Start => "start",
                    Ask::Restart => "restart",
                };
                let what = request.task.map_or("every task".to_owned(), |task| format!("task \"{task}\""));
                let event = job_event(&next.spec.name, "asked", format!("{verb} of {what} was asked"));
                server.commit(&mut store, vec![next], vec![], event).map_err(|error| database(&error))?;
            }
            Ok(())
        });
        asked.await?;
        self.until_taken_up().await;
        self.detail(job).await
    }

    /// Waits until the agent works towards what was decided last. Its word from before may say "stopped" of a task
    /// that it is about to start. An agent that is held up is not waited for longer than [`TAKEN_UP_WITHIN`].
    async fn until_taken_up(&self) {
        let version = self.desired.borrow().version;
        let mut observed = self.observed.clone();
        let taken_up = observed.wait_for(|seen| seen.version >= version);
        let _ = tokio::time::timeout(TAKEN_UP_WITHIN, taken_up).await;
    }

    /// A job with its tasks.
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn detail(self: &Arc<Self>, name: String) -> Result<JobDetail, Failure> {
        self.blocking(move |server| {
            let mut store = server.store();
            let stored = find(&mut store, &name)?;
            server.detail_of(&mut store, &stored)
        })
        .await
    }

    fn detail_of(&self, store: &mut Store, stored: &StoredJob) -> Result<JobDetail, Failure> {
        let world = store.world().map_err(|error| database(&error))?;
        let observed = self.observed.borrow().clone();
        let name = stored.job.spec.name.to_string();
        let mut tasks = status::tasks(&world, &observed);
        tasks.retain(|task| task.job == name);
        Ok(JobDetail {
            summary: status::summary(stored, &observed),
            spec: lith_api::job::JobSpec::from(&stored.job.spec).without_secrets(),
            tasks,
        })
    }

    /// The name of a job that is there.
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn job_name(self: &Arc<Self>, name: String) -> Result<JobName, Failure> {
        self.blocking(move |server| Ok(find(&mut server.store(), &name)?.job.spec.name)).await
    }

    /// Every job.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn jobs(self: &Arc<Self>) -> Result<Vec<JobSummary>, Failure> {
        self.blocking(|server| {
            let world = server.store().world().map_err(|error| database(&error))?;
            let observed = server.observed.borrow().clone();
            Ok(world.jobs.values().map(|stored| status::summary(stored, &observed)).collect())
        })
        .await
    }

    /// Every task that is wanted or still there, of one job or of all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn tasks(self: &Arc<Self>, job: Option<String>) -> Result<Vec<TaskStatus>, Failure> {
        self.blocking(move |server| {
            let world = server.store().world().map_err(|error| database(&error))?;
            let observed = server.observed.borrow().clone();
            let mut tasks = status::tasks(&world, &observed);
            tasks.retain(|task| job.as_ref().is_none_or(|job| task.job == *job));
            Ok(tasks)
        })
        .await
    }

    /// Names of the images of every task that is deployed, also of those that are stopped.
    #[must_use]
    pub fn wanted_images(&self) -> BTreeSet<String> {
        let desired = self.desired.borrow();
        let tasks = desired.allocs.iter().flat_map(|alloc| &alloc.tasks);
        tasks.map(|task| task.spec.image.clone()).collect()
    }

    /// Tells of each change of phase, for as long as the agent lives.
    pub async fn narrate(self: Arc<Self>) {
        let mut observed = self.observed.clone();
        let mut before = Arc::clone(&observed.borrow_and_update());
        while observed.changed().await.is_ok() {
            let now = Arc::clone(&observed.borrow_and_update());
            let events = status::phase_events(&before, &now);
            before = now;
            if events.is_empty() {
                continue;
            }
            self.keep_events(events).await;
        }
    }

    /// Tells of what tasks tried and were refused, for as long as the agent lives.
    pub async fn narrate_blocked(self: Arc<Self>, mut told: mpsc::Receiver<Event>) {
        let mut events = Vec::new();
        while told.recv_many(&mut events, EVENTS_AT_ONCE).await > 0 {
            self.keep_events(std::mem::take(&mut events)).await;
        }
    }

    async fn keep_events(self: &Arc<Self>, events: Vec<Event>) {
        let stored = self
            .blocking(move |server| {
                let write = Write { events, ..Write::default() };
                let (_, events) =
                    server.store().write(&write, clock::now()).map_err(|error| database(&error))?;
                server.announce(&events);
                Ok(())
            })
            .await;
        if let Err(failure) = stored {
            tracing::error!(error = %failure.message, "events were not stored");
        }
    }

    /// Wakes those who watch. In whatever order two calls come, nobody goes back.
    fn announce(&self, events: &[Event]) {
        let Some(last) = events.last().map(|event| event.id) else { return };
        self.last_event.send_if_modified(|told| {
            let is_newer = last > *told;
            *told = last.max(*told);
            is_newer
        });
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        // A panic while it was held left at most an open transaction, which SQLite rolls back.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs database work on a blocking thread.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let server = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&server))
            .await
            .unwrap_or_else(|error| Err(Failure::new(Code::Internal, format!("the request failed: {error}"))))
    }
}

/// Numbers for what is deployed and has none, as everything of a database of before there were any.
fn unnumbered(world: &World) -> Vec<(ServiceKey, ServiceNumber)> {
    let jobs = world.jobs.values().map(|stored| &stored.job.spec);
    service::numbers_for(jobs, &world.services, world.last_service)
}

fn find(store: &mut Store, name: &str) -> Result<StoredJob, Failure> {
    let mut world = store.world().map_err(|error| database(&error))?;
    let found = name.parse::<JobName>().ok().and_then(|name| world.jobs.remove(&name));
    found.ok_or_else(|| {
        Failure::new(Code::NotFound, format!("there is no job \"{name}\""))
            .hint("`lith job ls` lists what is there")
    })
}

/// What this version cannot run, told whole: a person who repairs one thing after the other learns nothing faster.
fn refused(spec: &JobSpec) -> Option<Failure> {
    let refusals = capability::refusals(spec);
    let hint = refusals.first()?.hint.clone();
    let sentences: Vec<&str> = refusals.iter().map(|refusal| refusal.message.as_str()).collect();
    let failure = Failure::new(Code::Invalid, sentences.join("; "));
    Some(match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

/// Ports that cannot be had, the first ones by name.
fn ports_taken(taken: &[PortTaken]) -> Option<Failure> {
    let hint = taken.first()?.hint();
    let sentences: Vec<String> =
        taken.iter().take(deploy::ports::TOLD_MAX).map(ToString::to_string).collect();
    Some(Failure::new(Code::Conflict, sentences.join("; ")).hint(hint))
}

/// Ports that the job is to publish anew and that other programs of this machine hold. When the machine does not tell,
/// whoever starts the tasks finds out.
fn held_by_programs(spec: &JobSpec, before: Option<&JobSpec>) -> Vec<PortTaken> {
    if spec.tasks().all(|(.., task)| task.publish.is_empty()) {
        return vec![];
    }
    let held = host_ports::held().unwrap_or_else(|error| {
        tracing::warn!(error = %chain(&error), "which programs hold ports is not known");
        vec![]
    });
    let sockets: Vec<Socket> = held.iter().map(|held| held.socket).collect();
    let mut taken = deploy::ports::held(spec, before, &sockets);
    // The tables do not tell a socket for every address from one for those of IPv6 alone.
    taken.retain(|taken| !ports::is_free(&taken.publish));
    for taken in &mut taken {
        if let Holder::Program { socket, process } = &mut taken.holder {
            let inode = held.iter().find(|held| held.socket == *socket).map(|held| held.inode);
            *process = inode.and_then(host_ports::process_of);
        }
    }
    taken
}

fn moved_on(job: &JobName, planned: u64, now: u64) -> Failure {
    let state = |version| match version {
        0 => "it did not exist".to_owned(),
        version => format!("it was at version {version}"),
    };
    let now = if now == 0 { "it is removed".to_owned() } else { format!("it is at version {now}") };
    let message = format!("job \"{job}\" has changed since it was planned: {}, now {now}", state(planned));
    Failure::new(Code::Conflict, message).hint("plan it again, and deploy what that shows")
}

fn database(error: &StoreError) -> Failure {
    Failure::new(Code::Internal, chain(error)).hint("see the log of `lith up`")
}

fn job_event(job: &JobName, kind: &str, message: String) -> Event {
    Event { id: 0, time_ms: 0, job: Some(job.to_string()), task: None, kind: kind.to_owned(), message }
}

/// The incarnation of what changes now: no version, and so no incarnation, was ever given twice.
fn next(world: &World) -> Incarnation {
    Incarnation(world.version + 1)
}

/// Every task of a job, as a key.
fn keys(job: &Job) -> impl Iterator<Item = &TaskKey> {
    job.desires.keys()
}
