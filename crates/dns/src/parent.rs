//! The privileged half: holds the policy, keeps the other half running, checks and carries out what it wants opened, and
//! answers the agent. One thread that waits for all of them.
//!
//! ```text
//!   begin: state of a predecessor ─▶ sockets ─▶ child ready ─▶ predecessor ends ─▶ lock ─▶ agent's socket ─▶ serving
//!   serving: child ended ─▶ started again, later each time ─▶ serving
//!            SIGTERM, as at a shutdown: guests are given their time to stop ─▶ end
//!            told to end, or to yield to a successor ─▶ child is killed ─▶ end
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lith_core::egress::Range;
use lith_core::job::{Port, STOP_GRACE_DEFAULT};
use lith_core::resolve::{NamePolicy, Opening};
use lith_core::slot::Slot;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::net::RecvFlags;

use crate::form::{
    Answer, Hello, Outcome, Policy, PolicyError, Refused, Request, State, ToChild, ToParent, VERSION,
    WrittenOpening,
};
use crate::frame::{self, CHILD_BYTES_MAX};
use crate::openings::{self, Openings};
use crate::refused::{self, RefusedNames};
use crate::sockets::Pair;
use crate::{child, control, resolv_conf, sockets, sys};

/// How often the node's list of resolvers is looked at: a network that has changed is noticed by a person within seconds.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A child that is ready later than this will not be.
const READY_DEADLINE: Duration = Duration::from_secs(10);
/// A predecessor that was told to end does so at once.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);
/// Between attempts to take its lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(5);
/// A child that does not read is not well.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// Before a child that ended soon is started again; twice as long each time.
const RESTART_MIN: Duration = Duration::from_millis(100);
/// At most.
const RESTART_MAX: Duration = Duration::from_secs(5);
/// One that ran for so long has not ended because of how it began.
const RAN_WELL: Duration = Duration::from_secs(30);
/// How often it is told that something was refused: each time the agent looks at everything.
const NEWS_INTERVAL: Duration = Duration::from_secs(5);
/// At a shutdown, how much longer than the usual grace of a task it goes on.
const STOP_SLACK: Duration = Duration::from_secs(2);
/// Of those who want to be told so many are.
const WATCHERS_MAX: usize = 8;
/// Read at once from the child.
const READ_BYTES: usize = 64 << 10;
/// Read at once of what it wants opened, so that one change of the packet filter does for many.
const READS_MAX: usize = 16;

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the agent asks.
    pub socket: PathBuf,
    /// Held by the one resolver of the node.
    pub lock: PathBuf,
    /// The addresses at which guests are answered.
    pub addresses: Vec<IpAddr>,
    /// The node's list of resolvers.
    pub resolv_conf: PathBuf,
    /// Whose the sockets are at which guests are answered: the user of the half that has them.
    pub user: u32,
}

/// The half without rights, as a process. Dropping it ends it.
pub trait Child {
    /// Readable when it has ended.
    fn pidfd(&self) -> BorrowedFd<'_>;
    /// Its number.
    fn pid(&self) -> u32;
    /// How it ended, in words, once it has.
    fn ending(&mut self) -> String;
}

/// Starts the half without rights, [`child::main`], with the descriptors that it inherits.
pub type Start<'a, C> = Box<dyn FnMut(Vec<OwnedFd>) -> Result<C, String> + 'a>;
/// Opens addresses, each for as long as it is to be open from now on, and gives the guests for which that failed, with
/// the reason.
pub type Open<'a> = Box<dyn FnMut(&[Opening]) -> BTreeMap<Slot, String> + 'a>;

/// What others do.
pub struct Outside<'a, C> {
    /// Starts the other half.
    pub start: Start<'a, C>,
    /// Has the packet filter let a guest through.
    pub open: Open<'a>,
}

impl<C> fmt::Debug for Outside<'_, C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Outside").finish_non_exhaustive()
    }
}

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// No sockets.
    #[error("cannot listen for guests' questions")]
    Sockets(#[source] io::Error),
    /// No child.
    #[error("cannot start the process that reads guests' questions: {0}")]
    Start(String),
    /// A child that is not well.
    #[error("the process that reads guests' questions does not begin")]
    NotReady,
    /// Another one.
    #[error("another resolver holds {}", .0.display())]
    Locked(PathBuf),
    /// A file or socket.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Waiting.
    #[error("cannot wait for something to happen")]
    Wait(#[source] io::Error),
}

struct Running<C> {
    process: C,
    stream: UnixStream,
    received: Vec<u8>,
    since: Instant,
}

struct Parent<'a, C> {
    outside: Outside<'a, C>,
    config: Config,
    port: u16,
    pairs: Vec<Pair>,
    policy: Option<Policy>,
    /// How many there were.
    number: u64,
    guests: BTreeMap<Slot, (String, NamePolicy)>,
    node: Vec<Range<IpAddr>>,
    openings: Openings,
    refused: RefusedNames,
    servers: Vec<SocketAddr>,
    running: Option<Running<C>>,
    restart: (Instant, Duration),
    watchers: Vec<UnixStream>,
    news: Option<Instant>,
}

/// What the child wants opened, as far as it is allowed.
struct Wanted {
    number: u64,
    name: String,
    openings: Vec<Opening>,
}

/// What has been waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happened {
    AgentAsks,
    ChildSpeaks,
    ChildEnded,
    Termination,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

/// The whole of the process: takes over from a predecessor, calls `ready`, and answers until it is told to end.
///
/// # Errors
/// What keeps it from beginning, or from waiting.
pub fn run<C: Child>(
    config: Config,
    outside: Outside<'_, C>,
    ready: impl FnOnce(&Hello),
) -> Result<(), ParentError> {
    let terminations = sys::terminations().map_err(ParentError::Wait)?;
    let before = control::hello(&config.socket).ok();
    let port = before.as_ref().map_or(0, |hello| hello.port);
    let bind = || sockets::bind(&config.addresses, port);
    let (port, pairs) = sys::as_user(config.user, bind).map_err(ParentError::Sockets)?;
    let mut parent = Parent::new(config, outside, port, pairs);
    if let Ok(state) = control::state(&parent.config.socket) {
        // So that it can answer as soon as it begins.
        parent.adopt(state);
    }
    parent.look_at_servers();
    parent.start().map_err(ParentError::Start)?;
    parent.wait_until_ready()?;
    let lock = parent.take_over()?;
    let listener = listen(&parent.config.socket)?;
    ready(&parent.hello());
    let served = parent.serve(&listener, &terminations);
    // With its child and the sockets of both. A successor that has the lock is ready, and a question that came to these
    // sockets after that would be lost.
    drop(parent);
    drop(lock);
    served
}

fn listen(path: &Path) -> Result<UnixListener, ParentError> {
    let failed = |source| ParentError::File { path: path.to_owned(), source };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

impl<'a, C: Child> Parent<'a, C> {
    fn new(config: Config, outside: Outside<'a, C>, port: u16, pairs: Vec<Pair>) -> Self {
        let now = Instant::now();
        Self {
            outside,
            config,
            port,
            pairs,
            policy: None,
            number: 0,
            guests: BTreeMap::new(),
            node: Vec::new(),
            openings: Openings::default(),
            refused: RefusedNames::default(),
            servers: Vec::new(),
            running: None,
            restart: (now, RESTART_MIN),
            watchers: Vec::new(),
            news: None,
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            version: VERSION,
            port: self.port,
            program: own_program(),
            pid: std::process::id(),
            child: self.running.as_ref().map(|running| running.process.pid()),
        }
    }

    /// Has the predecessor end, if there is one, and goes on where it was.
    fn take_over(&mut self) -> Result<File, ParentError> {
        if let Ok(state) = control::take_over(&self.config.socket) {
            self.adopt(state);
        }
        self.take_lock()
    }

    /// Goes on where a predecessor is.
    fn adopt(&mut self, state: State) {
        let State { policy, openings, refused } = state;
        if let Some(policy) = policy
            && let Err(error) = self.set_policy(policy)
        {
            tracing::warn!(%error, "the names that guests had before are not known");
        }
        let now = Instant::now();
        for written in openings {
            if let Some(opening) = written.opening() {
                self.openings.add(&written.name, &[opening], now);
            }
        }
        // The last word counts, and contains what was said before.
        self.refused = RefusedNames::default();
        refused.into_iter().for_each(|refused| self.refused.add(refused));
    }

    fn take_lock(&self) -> Result<File, ParentError> {
        let path = &self.config.lock;
        let failed = |source| ParentError::File { path: path.clone(), source };
        let options = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
        let file = options.open(path).map_err(failed)?;
        let until = Instant::now() + LOCK_DEADLINE;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                    std::thread::sleep(LOCK_INTERVAL);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(ParentError::Locked(path.clone())),
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    fn start(&mut self) -> Result<(), String> {
        let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        ours.set_write_timeout(Some(WRITE_DEADLINE)).map_err(|error| error.to_string())?;
        let descriptors = child::descriptors(theirs, &self.pairs).map_err(|error| error.to_string())?;
        let process = (self.outside.start)(descriptors)?;
        let since = Instant::now();
        self.running = Some(Running { process, stream: ours, received: Vec::new(), since });
        let servers = ToChild::Upstreams(self.servers.clone());
        self.tell(&servers);
        let (number, policy) = (self.number, self.policy.clone().unwrap_or_default());
        self.tell(&ToChild::Policy { number, policy });
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<(), ParentError> {
        let until = Instant::now() + READY_DEADLINE;
        while let Some(running) = &mut self.running {
            let left = until.saturating_duration_since(Instant::now());
            let mut look = [PollFd::new(&running.stream, PollFlags::IN)];
            wait(&mut look, left)?;
            let messages = running.read().map_err(|_| ParentError::NotReady)?;
            if messages.contains(&ToParent::Ready) {
                return Ok(());
            }
            if left.is_zero() {
                break;
            }
        }
        Err(ParentError::NotReady)
    }

    fn serve(&mut self, listener: &UnixListener, terminations: &OwnedFd) -> Result<(), ParentError> {
        let mut looked = Instant::now();
        let mut end: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if end.is_some_and(|end| now >= end) {
                return Ok(());
            }
            if now.saturating_duration_since(looked) >= LOOK_INTERVAL {
                self.look_at_servers();
                looked = now;
            }
            self.start_again(now);
            self.tell_news(now);
            // Once it has come, it stays readable.
            let terminations = terminations.as_fd();
            let happened = self.wait_for_something(listener, end.is_none().then_some(terminations))?;
            if happened.contains(&Happened::Termination) {
                end = Some(now + STOP_GRACE_DEFAULT + STOP_SLACK);
            }
            if happened.contains(&Happened::ChildSpeaks) {
                self.hear_child();
            }
            if happened.contains(&Happened::ChildEnded) {
                self.child_ended("it has ended");
            }
            if happened.contains(&Happened::AgentAsks) && self.hear_agent(listener) == Next::End {
                return Ok(());
            }
        }
    }

    fn wait_for_something(
        &self,
        listener: &UnixListener,
        terminations: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<Happened>, ParentError> {
        let mut waited = vec![(Happened::AgentAsks, listener.as_fd())];
        waited.extend(terminations.map(|descriptor| (Happened::Termination, descriptor)));
        let mut time = LOOK_INTERVAL;
        if let Some(running) = &self.running {
            waited.push((Happened::ChildSpeaks, running.stream.as_fd()));
            waited.push((Happened::ChildEnded, running.process.pidfd()));
        } else {
            time = time.min(self.restart.0.saturating_duration_since(Instant::now()));
        }
        let mut look = Vec::new();
        for (_, descriptor) in &waited {
            look.push(PollFd::from_borrowed_fd(*descriptor, PollFlags::IN));
        }
        wait(&mut look, time)?;
        let is_ready = look.iter().map(|one| !one.revents().is_empty());
        Ok(waited
            .iter()
            .zip(is_ready)
            .filter(|(_, is_ready)| *is_ready)
            .map(|((what, _), _)| *what)
            .collect())
    }

    fn start_again(&mut self, now: Instant) {
        if self.running.is_some() || now < self.restart.0 {
            return;
        }
        if let Err(why) = self.start() {
            tracing::error!(why, "guests' questions are not read");
            self.running = None;
            self.delay(now);
        }
    }

    fn delay(&mut self, now: Instant) {
        self.restart = (now + self.restart.1, (self.restart.1 * 2).min(RESTART_MAX));
    }

    /// Lets the child go, whatever it still does.
    fn child_ended(&mut self, why: &str) {
        let Some(mut running) = self.running.take() else { return };
        let ending = running.process.ending();
        tracing::error!(why, ending, "the process that reads guests' questions is started again");
        let now = Instant::now();
        if now.saturating_duration_since(running.since) >= RAN_WELL {
            self.restart.1 = RESTART_MIN;
        }
        self.delay(now);
    }

    fn tell(&mut self, message: &ToChild) {
        let Some(running) = &mut self.running else { return };
        let told = frame::pack(message).map_err(io::Error::other);
        if let Err(error) = told.and_then(|frame| running.stream.write_all(&frame)) {
            self.child_ended(&format!("it cannot be told anything: {error}"));
        }
    }

    fn hear_child(&mut self) {
        let mut wanted = Vec::new();
        for _ in 0..READS_MAX {
            let Some(running) = &mut self.running else { return };
            match running.read() {
                Ok(messages) if messages.is_empty() => break,
                Ok(messages) => wanted.extend(messages.into_iter().filter_map(|one| self.heard(one))),
                Err(error) => {
                    self.child_ended(&format!("it makes no sense: {error}"));
                    return;
                }
            }
        }
        self.open(wanted);
    }

    /// What of a message is to be opened, if anything.
    fn heard(&mut self, message: ToParent) -> Option<Wanted> {
        match message {
            ToParent::Ready | ToParent::Applied(_) => None,
            ToParent::Refused(names) => {
                let is_known = |one: &Refused| {
                    let slot = Slot::new(one.slot);
                    let guest = slot.and_then(|slot| self.guests.get(&slot));
                    refused::is_plausible(&one.name) && guest.is_some_and(|(task, _)| *task == one.task)
                };
                let names: Vec<Refused> = names.into_iter().filter(is_known).collect();
                names.into_iter().for_each(|name| self.refused.add(name));
                None
            }
            ToParent::Open { number, slot, task, name, addresses } => {
                let guest = Slot::new(slot).and_then(|slot| self.guests.get(&slot));
                let is_asked =
                    |(whose, _): &&(String, NamePolicy)| *whose == task && refused::is_plausible(&name);
                let policy = guest.filter(is_asked).map(|(_, policy)| policy);
                let allowed = |policy| openings::allowed(policy, &name, &addresses, &self.node);
                let openings = policy.map(allowed).unwrap_or_default();
                Some(Wanted { number, name, openings })
            }
        }
    }

    /// Opens what is wanted and allowed, in one change, and says so.
    fn open(&mut self, wanted: Vec<Wanted>) {
        let now = Instant::now();
        let (mut outcomes, mut places) = (Vec::new(), BTreeSet::new());
        for Wanted { number, name, openings } in wanted {
            let slot = openings.first().map(|opening| opening.slot);
            let outcome = if slot.is_none() {
                Outcome::Refused
            } else if self.openings.has_room(&openings, now) {
                // Before it is done, so that those of one change are counted together.
                self.openings.add(&name, &openings, now);
                places.extend(openings.iter().map(|opening| (opening.slot, opening.address, opening.port)));
                Outcome::Opened
            } else {
                Outcome::TooMany
            };
            outcomes.push((number, slot, outcome));
        }
        let failed = self.carry_out(&places, now);
        for (number, slot, outcome) in outcomes {
            let has_failed = outcome == Outcome::Opened && slot.is_some_and(|slot| failed.contains(&slot));
            let outcome = if has_failed { Outcome::Refused } else { outcome };
            self.tell(&ToChild::Opened { number, outcome });
        }
    }

    /// Has what is remembered of these places put in force, and gives the guests for which that failed.
    fn carry_out(&mut self, places: &BTreeSet<(Slot, IpAddr, Option<Port>)>, now: Instant) -> BTreeSet<Slot> {
        if places.is_empty() {
            return BTreeSet::new();
        }
        let opening = |(slot, address, port): &(Slot, IpAddr, Option<Port>)| {
            let lifetime = self.openings.left(*slot, *address, *port, now)?;
            Some(Opening { slot: *slot, address: *address, port: *port, lifetime })
        };
        let openings: Vec<Opening> = places.iter().filter_map(opening).collect();
        let failed = (self.outside.open)(&openings);
        for (slot, error) in &failed {
            tracing::error!(%slot, error, "addresses that names led to cannot be opened");
        }
        failed.into_keys().collect()
    }

    fn set_policy(&mut self, policy: Policy) -> Result<(), PolicyError> {
        if self.policy.as_ref() == Some(&policy) {
            return Ok(());
        }
        let guests = policy.guests()?;
        self.node = policy.node_ranges();
        let before = std::mem::replace(&mut self.guests, guests);
        for (slot, (task, _)) in before {
            if self.guests.get(&slot).is_none_or(|(now, _)| *now != task) {
                self.openings.forget(slot);
            }
        }
        let (guests, node) = (&self.guests, &self.node);
        self.openings.keep_allowed(|slot, name, address, port| {
            let opens = |(_, policy): &(String, NamePolicy)| {
                policy.openings(name, address, 0, node).iter().any(|opening| opening.port == port)
            };
            guests.get(&slot).is_some_and(opens)
        });
        self.number += 1;
        self.policy = Some(policy.clone());
        self.tell(&ToChild::Policy { number: self.number, policy });
        self.wait_until_applied();
        Ok(())
    }

    /// Waits until the child answers by the last policy; one that has ended begins with it.
    fn wait_until_applied(&mut self) {
        let until = Instant::now() + WRITE_DEADLINE;
        let mut wanted = Vec::new();
        while let Some(running) = &mut self.running {
            let left = until.saturating_duration_since(Instant::now());
            let mut look = [PollFd::new(&running.stream, PollFlags::IN)];
            let read = wait(&mut look, left).map_err(io::Error::other).and_then(|()| running.read());
            let messages = match read {
                Ok(messages) if left.is_zero() && messages.is_empty() => Err("it does not hear".to_owned()),
                Ok(messages) => Ok(messages),
                Err(error) => Err(format!("it makes no sense: {error}")),
            };
            match messages {
                Ok(messages) => {
                    let is_applied = messages.contains(&ToParent::Applied(self.number));
                    wanted.extend(messages.into_iter().filter_map(|one| self.heard(one)));
                    if is_applied {
                        break;
                    }
                }
                Err(why) => self.child_ended(&why),
            }
        }
        self.open(wanted);
    }

    /// Looks whether others are to be asked about names outside.
    fn look_at_servers(&mut self) {
        let text = match read_bounded(&self.config.resolv_conf) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                tracing::warn!(%error, "the node's list of resolvers cannot be read");
                return;
            }
        };
        let socket = self.pairs.first().map(|pair| pair.udp.as_fd());
        let scope = |name: &str| rustix::net::netdevice::name_to_index(socket?, name).ok();
        let servers = resolv_conf::servers(&text, &self.config.addresses, scope);
        if servers != self.servers {
            tracing::info!(?servers, "others are asked about names outside");
            self.servers.clone_from(&servers);
            self.tell(&ToChild::Upstreams(servers));
        }
    }

    /// Answers one question of the agent, who is root as well.
    fn hear_agent(&mut self, listener: &UnixListener) -> Next {
        let mut next = Next::GoOn;
        let heard = listener.accept().and_then(|(mut stream, _)| {
            let request = control::read_request(&mut stream)?;
            if request == Request::Watch {
                stream.set_nonblocking(true)?;
                self.watchers.truncate(WATCHERS_MAX - 1);
                self.watchers.insert(0, stream);
                return Ok(());
            }
            let answer;
            (answer, next) = self.answer(request);
            control::write_answer(&mut stream, &answer)
        });
        if let Err(error) = heard {
            tracing::debug!(%error, "a question of the agent came to nothing");
        }
        next
    }

    fn answer(&mut self, request: Request) -> (Answer, Next) {
        let answer = match request {
            Request::Hello => Answer::Hello(self.hello()),
            Request::Policy(policy) => match self.set_policy(policy) {
                Ok(()) => Answer::Done,
                Err(error) => Answer::Failed(error.to_string()),
            },
            Request::Openings => Answer::Openings(self.written_openings()),
            Request::Refused => Answer::Refused(self.refused.drain()),
            Request::Watch => Answer::Failed("it is answered elsewhere".to_owned()),
            Request::State => Answer::State(self.state()),
            Request::Yield => return (Answer::State(self.state()), Next::End),
            Request::End => return (Answer::Done, Next::End),
        };
        (answer, Next::GoOn)
    }

    fn state(&mut self) -> State {
        let openings = self.written_openings();
        State { policy: self.policy.clone(), openings, refused: self.refused.list() }
    }

    fn written_openings(&mut self) -> Vec<WrittenOpening> {
        let open = self.openings.list(Instant::now());
        open.iter().map(|(name, opening)| WrittenOpening::new(name, *opening)).collect()
    }

    /// Tells those who want to know that something was refused.
    fn tell_news(&mut self, now: Instant) {
        let is_too_soon = |before| now.saturating_duration_since(before) < NEWS_INTERVAL;
        if self.refused.is_empty() || self.news.is_some_and(is_too_soon) {
            return;
        }
        self.news = Some(now);
        self.watchers.retain_mut(|stream| match stream.write(b"\n") {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        });
    }
}

impl<C> Running<C> {
    /// The messages that have come, without waiting; an end of the channel is an error.
    fn read(&mut self) -> io::Result<Vec<ToParent>> {
        let mut bytes = vec![0; READ_BYTES];
        let length = match rustix::net::recv(&self.stream, &mut bytes, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, length)) => length,
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        self.received.extend_from_slice(bytes.get(..length).unwrap_or_default());
        let mut messages = Vec::new();
        while let Some(message) =
            frame::take(&mut self.received, CHILD_BYTES_MAX).map_err(io::Error::other)?
        {
            messages.push(message);
        }
        Ok(messages)
    }
}

fn wait(look: &mut [PollFd<'_>], time: Duration) -> Result<(), ParentError> {
    let time = Timespec::try_from(time).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    match poll(look, Some(&time)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(ParentError::Wait(error.into())),
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(resolv_conf::BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Device and number of the file that this process runs: another one means another version, or the same one built anew.
#[must_use]
pub fn own_program() -> (u64, u64) {
    fs::metadata("/proc/self/exe").map_or((0, 0), |metadata| (metadata.dev(), metadata.ino()))
}
