//! The agent's handle to the resolver: found again after a restart of the daemon, started where there is none, replaced by
//! one of this daemon's own program, told whom it may answer what.
//!
//! ```text
//!   ensure ── answers, same program ──▶ its port
//!        └─── nobody, or another one ─▶ start: takes over from the other one ─▶ its port
//! ```

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lith_core::chain::chain;
use lith_core::name::TaskId;
use lith_core::resolve::{NamePolicy, Opening};
use lith_dns::control;
use lith_dns::form::{Guest, Hello, Policy, Refused, WrittenOpening};
use lith_dns::parent::own_program;
use lith_vmm::jail::cgroup;
use rustix::fs::{FlockOperation, flock};

use super::serving::OWN_PROGRAM;
use super::wake::Waker;
use crate::layout::Layout;
use crate::resolver::{self, Begun, LOG};

/// Before one that could not be started is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Longest first line of one that starts.
const BEGUN_BYTES_MAX: u64 = 64 << 10;
/// One that was told to end kills its other half and does.
const END_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const END_INTERVAL: Duration = Duration::from_millis(10);

/// The resolver of this node.
#[derive(Debug)]
pub struct Resolver {
    layout: Layout,
    waker: Waker,
    /// What it was told, and the process that was.
    told: Option<(u32, Policy)>,
    /// The process whose end wakes the agent.
    watched: Option<u32>,
    /// When and why there was none.
    failed: Option<(Instant, String)>,
    /// Those that this daemon has started, to be waited for.
    children: Vec<Child>,
}

impl Resolver {
    /// Nothing is looked for yet.
    #[must_use]
    pub fn new(layout: Layout, waker: Waker) -> Self {
        Self { layout, waker, told: None, watched: None, failed: None, children: Vec::new() }
    }

    /// Sees to it that guests' questions are answered, and says at which port of the node that is. Blocks while one starts,
    /// a tenth of a second. A port that differs from the last one belongs into the rules.
    ///
    /// # Errors
    /// A sentence that says why there is none. It is tried again, but not at once.
    pub fn ensure(&mut self) -> Result<u16, String> {
        self.children.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
        let hello = match control::hello(&self.socket()) {
            Ok(hello) if hello.program == own_program() => hello,
            _ => self.start_in_time()?,
        };
        if self.watched != Some(hello.pid) {
            self.watch(hello.pid);
        }
        if self.told.as_ref().is_some_and(|(pid, _)| *pid != hello.pid) {
            self.told = None;
        }
        Ok(hello.port)
    }

    fn start_in_time(&mut self) -> Result<Hello, String> {
        if let Some((since, why)) = &self.failed
            && since.elapsed() < RETRY_INTERVAL
        {
            return Err(why.clone());
        }
        let started = self.start();
        self.failed = started.as_ref().err().map(|why| (Instant::now(), why.clone()));
        started
    }

    fn start(&mut self) -> Result<Hello, String> {
        let folder = self.layout.resolver();
        let failed = |error: io::Error| format!("names cannot be resolved: {error}");
        fs::create_dir_all(&folder).map_err(failed)?;
        let mut options = File::options();
        let log = options.read(true).append(true).create(true).mode(0o600).open(folder.join(LOG));
        let mut command = Command::new(OWN_PROGRAM);
        command.arg(resolver::SUBCOMMAND).arg(&folder).arg(cgroup_name(&self.layout));
        command.current_dir("/").env_clear();
        // It runs `nft`.
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.map_err(failed)?);
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take();
        self.children.push(child);
        let mut line = String::new();
        if let Some(stdout) = stdout {
            // It says something or ends: what it waits for until then has deadlines.
            BufReader::new(stdout.take(BEGUN_BYTES_MAX)).read_line(&mut line).map_err(failed)?;
        }
        match serde_json::from_str(&line) {
            Ok(Begun::Answers(hello)) => {
                tracing::info!(
                    port = hello.port,
                    pid = hello.pid,
                    "guests' questions for names are answered"
                );
                Ok(hello)
            }
            Ok(Begun::Failed(why)) => Err(format!("names cannot be resolved: {why}")),
            Err(_) => Err("names cannot be resolved: the resolver ended at once".to_owned()),
        }
    }

    /// Lets guests learn this from now on. Cheap when nothing has changed.
    ///
    /// # Errors
    /// A sentence. What they could learn before stays.
    pub fn tell(&mut self, policy: Policy) -> Result<(), String> {
        if self.told.as_ref().is_some_and(|(_, told)| *told == policy) {
            return Ok(());
        }
        let failed = |error: io::Error| format!("the resolver does not learn what guests may: {error}");
        let hello = control::hello(&self.socket()).map_err(failed)?;
        control::set_policy(&self.socket(), &policy).map_err(failed)?;
        self.told = Some((hello.pid, policy));
        Ok(())
    }

    /// What is open because names have led there, for rules that are made anew, with the name that led there last.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn openings(&self) -> io::Result<Vec<(String, Opening)>> {
        let written = control::openings(&self.socket())?;
        let opening = |one: WrittenOpening| one.opening().map(|opening| (one.name, opening));
        Ok(written.into_iter().filter_map(opening).collect())
    }

    /// The names that were refused since this was asked last. The agent is woken when there are new ones.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn refused(&self) -> io::Result<Vec<Refused>> {
        control::refused(&self.socket())
    }

    fn socket(&self) -> std::path::PathBuf {
        resolver::socket(&self.layout.resolver())
    }

    /// Wakes the agent when the resolver ends, and when it has refused something.
    fn watch(&mut self, pid: u32) {
        let Ok(stream) = control::watch(&self.socket()) else {
            return;
        };
        let waker = self.waker.clone();
        let spawned =
            std::thread::Builder::new().name("resolver".to_owned()).spawn(move || wake_for(stream, &waker));
        if let Err(error) = spawned {
            tracing::warn!(%error, "the resolver is not watched: the agent looks by itself");
            return;
        }
        self.watched = Some(pid);
    }
}

/// Ends with the resolver.
fn wake_for(mut stream: UnixStream, waker: &Waker) {
    let mut bytes = [0; 64];
    while stream.read(&mut bytes).is_ok_and(|length| length > 0) {
        waker.wake();
    }
    waker.wake();
}

/// A guest's part of the policy. `task` says who it is.
#[must_use]
pub fn guest(task: &TaskId, policy: NamePolicy) -> Guest {
    Guest {
        slot: policy.slot.number(),
        task: task.to_string(),
        job: policy.job.to_string(),
        own: policy.own,
        addresses: policy.addresses,
        names: policy.names,
        egress: policy.egress.iter().map(ToString::to_string).collect(),
    }
}

/// Ends the resolver, and removes what it had.
///
/// # Errors
/// A sentence.
pub fn end(layout: &Layout) -> Result<(), String> {
    let folder = layout.resolver();
    // That nobody answers is as good.
    let _ = control::end(&resolver::socket(&folder));
    if !wait_for_end(&folder).map_err(|error| error.to_string())? {
        return Err(format!("{} is still held", resolver::lock(&folder).display()));
    }
    let group = cgroup_name(layout);
    let until = Instant::now() + END_DEADLINE;
    while cgroup::end_members(&group) && Instant::now() < until {
        std::thread::sleep(END_INTERVAL);
    }
    cgroup::remove(&group).map_err(|error| chain(&error))?;
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("{}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Whether nobody holds the lock any more.
fn wait_for_end(folder: &Path) -> io::Result<bool> {
    let file = match File::open(resolver::lock(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        file => file?,
    };
    let until = Instant::now() + END_DEADLINE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(END_INTERVAL),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

fn cgroup_name(layout: &Layout) -> String {
    format!("resolver{}", layout.instance())
}
