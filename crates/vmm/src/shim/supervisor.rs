//! The supervisor's loop: waits on everything at once, feeds what happens to the pure [`Life`], does the actions it
//! returns. Owns all descriptors of the boot. Decisions about the task are in `life`, bounds of buffers in
//! `guest_link` and `connection`.

use super::connection::{Connection, Purpose};
use super::guest_link::GuestLink;
use super::launch::Inherited;
use super::life::{Action, Ending, Event, Life, TaskState};
use super::protocol::{Answer, ShimRequest};
use super::record::{self, ExitRecord};
use super::{ShimConfig, ShimError, sys};
use crate::console::Console;
use crate::jail::Process;
use crate::jail::cgroup::{Cgroup, Cpu, Limits};
use crate::log::{LogError, LogStream, Writer};
use crate::machine::{Machine, MachineError, Tap};
use jiff::Timestamp;
use lith_core::chain::chain;
use lith_guest::messages::{
    ExecControl, GuestMessage, HostMessage, Outcome, Seed, Stats, UnixTime, from_json,
};
use lith_guest::mux::{self, MAIN};
use lith_guest::wire::{Body, Frame, Role, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Connections of the agent at a time: each command of a person is one, the agent's own are two or three.
const CONNECTIONS_MAX: usize = 64;
/// Threads of one VMM: vcpus, I/O workers (at most 64 in QEMU's pool) and a margin. It ends a fork bomb, nothing else.
const PROCESSES_MAX: u32 = 256;
/// One read. Large enough for copies to be fast, small enough for a process per task.
const READ_BYTES: usize = 64 << 10;
/// A guest's clock drifts by some seconds a day when its counter's frequency was measured: corrected this often.
const CLOCK_INTERVAL: Duration = Duration::from_secs(600);
/// A host that slept is noticed when the supervisor next wakes: at the latest after this time.
const SLEEP_LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Sleep of the host that a guest's clock is corrected for.
const SLEEP_MIN: Duration = Duration::from_millis(500);
/// How long those who are connected may take to read the last word.
const GOODBYE_DEADLINE: Duration = Duration::from_secs(1);
/// Reads of one descriptor before the others have their turn.
const READS_PER_TURN: usize = 8;
/// Questions for figures that a guest may leave open: more are refused until it answers.
const STATS_WAITING_MAX: usize = CONNECTIONS_MAX;
/// Entropy for a guest, bytes: twice what its random pool holds.
const SEED_BYTES: usize = 64;

/// Runs one boot to its end.
pub(super) fn run(config: ShimConfig, inherited: Inherited) -> Result<ExitRecord, ShimError> {
    let Inherited { lock: _lock, tap } = inherited;
    // Before the VMM is started: it inherits that SIGTERM does nothing. A host that goes down sends it to every process,
    // and a VMM that obeyed would take the guest's disks away from a process that has just begun to stop.
    let terminations = sys::terminations().map_err(ShimError::file("listen on", Path::new("SIGTERM")))?;
    for folder in [&config.task_dir, &config.run_dir] {
        std::fs::create_dir_all(folder).map_err(ShimError::file("make", folder))?;
    }
    let listener = listen(&config)?;
    let jail_root = config.run_dir.join("jail");
    std::fs::create_dir_all(&jail_root).map_err(ShimError::file("make", &jail_root))?;
    let log = Writer::open(&config.task_dir, config.log).map_err(log_error)?;
    let mut cgroup = None;
    let started = lifelines(&config)
        .and_then(|lifelines| Ok((lifelines, start(&config, &jail_root, &mut cgroup, tap)?)));
    let outcome = match started {
        Ok((lifelines, machine)) => {
            let mut supervisor =
                Supervisor::new(&config, machine, listener, terminations, log, cgroup.clone());
            supervisor.lifelines = lifelines;
            supervisor.run()
        }
        Err(error) => {
            let ending = Ending::BootFailed { message: chain(&error) };
            let record = ExitRecord::new(ending, false, None, Timestamp::now());
            record::write(&record, &config.task_dir).map(|()| record)
        }
    };
    // What is left behind here is found and removed by the agent; it does not change how the task ended.
    if let Some(cgroup) = cgroup {
        let _ = cgroup.remove();
    }
    let _ = std::fs::remove_file(config.socket());
    let _ = std::fs::remove_dir(&jail_root);
    outcome
}

/// Connections to the processes that serve the task's disks, which end with them.
fn lifelines(config: &ShimConfig) -> Result<Vec<UnixStream>, MachineError> {
    let connect = |path: &std::path::PathBuf| {
        UnixStream::connect(path).map_err(|source| MachineError::Drive { path: path.clone(), source })
    };
    config.disks_sockets.iter().map(connect).collect()
}

fn start(
    config: &ShimConfig,
    jail_root: &Path,
    cgroup: &mut Option<Cgroup>,
    tap: Option<OwnedFd>,
) -> Result<Machine, MachineError> {
    let driver = config.vmm.driver();
    let limits = Limits {
        memory_bytes_max: (u64::from(config.memory_mib) << 20) + driver.overhead_bytes(),
        cpu: Cpu::MillisMax(config.cpu_millis),
        processes_max: PROCESSES_MAX,
    };
    let group = Cgroup::create(&config.name, limits)
        .map_err(|source| MachineError::Jail { name: config.name.clone(), source })?;
    let procs = cgroup.insert(group).procs();
    let tap = config.tap.clone().zip(tap).map(|(name, descriptor)| Tap { name, descriptor });
    driver.start(&config.machine(jail_root, procs), tap)
}

fn listen(config: &ShimConfig) -> Result<UnixListener, ShimError> {
    let path = config.socket();
    // Of a supervisor that was killed: the lock says that none runs.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(ShimError::file("listen on", &path))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| listener.set_nonblocking(true))
        .map_err(ShimError::file("listen on", &path))?;
    Ok(listener)
}

fn log_error(error: LogError) -> ShimError {
    ShimError::File { operation: "write", path: error.path, source: error.source }
}

struct Supervisor<'a> {
    config: &'a ShimConfig,
    started: Instant,
    life: Life,
    process: Process,
    /// Pipes of the VMM, until they are closed at the other end.
    console_pipe: Option<OwnedFd>,
    complaints: Option<OwnedFd>,
    link: GuestLink,
    console: Console,
    /// The VMM's own words, for the sentence about its end.
    complaint: String,
    log: Writer,
    listener: UnixListener,
    /// Readable when the host asks this process to end.
    terminations: OwnedFd,
    /// Close when the processes that serve its disks are gone.
    lifelines: Vec<UnixStream>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Who waits for figures, in the order of asking.
    stats_waiting: VecDeque<u64>,
    clock_due: Duration,
    /// How long the host had slept when it was last looked at.
    slept: Duration,
    cgroup: Option<Cgroup>,
    buffer: Vec<u8>,
}

/// What `poll` found.
#[derive(Default)]
struct Ready {
    vmm_ended: bool,
    guest: bool,
    console: bool,
    complaints: bool,
    listener: bool,
    terminations: bool,
    disks_gone: bool,
    /// Each with whether its other end has closed.
    connections: Vec<(u64, bool)>,
}

impl<'a> Supervisor<'a> {
    fn new(
        config: &'a ShimConfig,
        machine: Machine,
        listener: UnixListener,
        terminations: OwnedFd,
        log: Writer,
        cgroup: Option<Cgroup>,
    ) -> Supervisor<'a> {
        let Machine { process, channel, console: console_pipe, complaints } = machine;
        Supervisor {
            config,
            started: Instant::now(),
            life: Life::new(Duration::from_millis(config.boot_deadline_ms), Timestamp::now()),
            process,
            console_pipe: Some(console_pipe),
            complaints: Some(complaints),
            link: GuestLink::new(channel),
            console: Console::start(&config.task_dir),
            complaint: String::new(),
            log,
            listener,
            terminations,
            lifelines: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            stats_waiting: VecDeque::new(),
            clock_due: CLOCK_INTERVAL,
            slept: slept(),
            cgroup,
            buffer: vec![0; READ_BYTES],
        }
    }

    fn run(&mut self) -> Result<ExitRecord, ShimError> {
        loop {
            if let TaskState::Exited { ending, oom_killed } = self.life.state().clone() {
                // A log on a full disk says so itself.
                let _ = self.log.finish(Timestamp::now());
                let mut record =
                    ExitRecord::new(ending, oom_killed, self.life.running_since(), Timestamp::now());
                record.went_down_with_host = self.life.went_down_with_host();
                // Those who watch learn of the end only when the record is durable.
                record::write(&record, &self.config.task_dir)?;
                self.goodbye();
                return Ok(record);
            }
            let ready = self.wait(self.timeout());
            self.turn(&ready);
        }
    }

    fn turn(&mut self, ready: &Ready) {
        if ready.console || ready.vmm_ended {
            self.read_console();
        }
        if ready.complaints || ready.vmm_ended {
            self.read_complaints();
        }
        if ready.guest || ready.vmm_ended {
            // After the VMM's end nothing new can come, so this drains what it left: the log must be complete.
            let reads = if ready.vmm_ended { usize::MAX } else { READS_PER_TURN };
            self.read_guest(reads);
        }
        if ready.listener {
            self.accept();
        }
        if ready.terminations {
            // What is read says who sent it, which is of no interest.
            let _ = rustix::io::read(&self.terminations, &mut *self.buffer);
            self.apply(Event::HostStops { grace: Duration::from_millis(self.config.stop_grace_ms) });
        }
        if ready.disks_gone {
            // Nothing is ever said on these connections.
            self.lifelines.clear();
            self.apply(Event::DisksGone);
        }
        for (id, is_hung_up) in &ready.connections {
            self.serve(*id, *is_hung_up);
        }
        if ready.vmm_ended {
            let why = self.why_vmm_ended();
            self.apply(Event::VmmEnded(why));
        }
        self.apply(Event::Tick);
        self.log.write_waiting(Timestamp::now());
        self.correct_clock();
        self.flush();
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn timeout(&self) -> Duration {
        let due = self.life.deadline().map_or(self.clock_due, |deadline| deadline.min(self.clock_due));
        let log_due = self.log.due_in(Timestamp::now()).unwrap_or(SLEEP_LOOK_INTERVAL);
        due.saturating_sub(self.now()).min(log_due).min(SLEEP_LOOK_INTERVAL)
    }

    fn wait(&self, timeout: Duration) -> Ready {
        let mut fds = vec![PollFd::from_borrowed_fd(self.process.pidfd(), PollFlags::IN)];
        let mut add = |fd, input: bool, output: bool| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, input);
            flags.set(PollFlags::OUT, output);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        // Descriptors that are closed at the other end stay in their place, replaced by one that is never ready.
        let silent = self.listener.as_fd();
        let guest = self.link.fd();
        add(guest.unwrap_or(silent), guest.is_some(), guest.is_some() && self.link.has_output());
        for pipe in [&self.console_pipe, &self.complaints] {
            add(pipe.as_ref().map_or(silent, AsFd::as_fd), pipe.is_some(), false);
        }
        add(silent, self.connections.len() < CONNECTIONS_MAX, false);
        add(self.terminations.as_fd(), true, false);
        for lifeline in &self.lifelines {
            add(lifeline.as_fd(), true, false);
        }
        for connection in self.connections.values() {
            let input = connection.wants_input() && !self.link.is_congested();
            add(connection.fd(), input, connection.has_output());
        }
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        if poll(&mut fds, Some(&timeout)).is_err() {
            // Interrupted by a signal.
            return Ready::default();
        }
        let is_ready = |position: usize| !fds[position].revents().is_empty();
        Ready {
            vmm_ended: is_ready(0),
            guest: is_ready(1) && guest.is_some(),
            console: is_ready(2) && self.console_pipe.is_some(),
            complaints: is_ready(3) && self.complaints.is_some(),
            listener: is_ready(4),
            terminations: is_ready(5),
            disks_gone: (0..self.lifelines.len()).any(|position| is_ready(6 + position)),
            connections: self
                .connections
                .keys()
                .zip(&fds[6 + self.lifelines.len()..])
                .filter(|(_, fd)| !fd.revents().is_empty())
                .map(|(id, fd)| (*id, fd.revents().intersects(PollFlags::HUP | PollFlags::ERR)))
                .collect(),
        }
    }

    fn apply(&mut self, event: Event) {
        let now = self.now();
        for action in self.life.apply(event, now) {
            match action {
                Action::SendBoot => {
                    let boot = HostMessage::Boot(Box::new(self.boot_config()));
                    self.say(&boot);
                }
                Action::SendStop { signal, grace } => {
                    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                    self.say(&HostMessage::Stop { signal, grace_ms });
                }
                Action::KillVmm => self.process.kill(),
                Action::Publish(state) => {
                    for connection in
                        self.connections.values_mut().filter(|one| one.purpose == Purpose::Watch)
                    {
                        publish(connection, &state);
                    }
                }
            }
        }
    }

    fn say(&mut self, message: &HostMessage) {
        if let Err(why) = self.link.say(message) {
            self.apply(Event::ChannelBroken(why));
        }
    }

    fn boot_config(&self) -> lith_guest::messages::BootConfig {
        let mut seed = vec![0; SEED_BYTES];
        // Blocks until the host's pool is ready, as it long is; a guest without entropy refuses to boot and says so.
        if rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty()).is_err() {
            seed.clear();
        }
        let mut boot = self.config.boot.clone();
        boot.seed = Seed(seed);
        boot.time = unix_time();
        boot
    }

    fn correct_clock(&mut self) {
        let slept = slept();
        // This clock stands still while the host sleeps, and so does the guest's.
        if self.now() >= self.clock_due || slept.saturating_sub(self.slept) >= SLEEP_MIN {
            self.slept = slept;
            self.clock_due = self.now() + CLOCK_INTERVAL;
            if self.life.is_up() {
                self.say(&HostMessage::Clock(unix_time()));
            }
        }
    }

    fn read_console(&mut self) {
        let console = &mut self.console;
        read_pipe(&mut self.console_pipe, &mut self.buffer, |bytes| console.write(bytes));
    }

    fn read_complaints(&mut self) {
        let (console, complaint) = (&mut self.console, &mut self.complaint);
        read_pipe(&mut self.complaints, &mut self.buffer, |bytes| {
            console.write(bytes);
            if let Some(line) =
                String::from_utf8_lossy(bytes).lines().rev().find(|line| !line.trim().is_empty())
            {
                *complaint = lith_guest::messages::clean(line.trim());
            }
        });
    }

    fn why_vmm_ended(&mut self) -> String {
        let status = match self.process.wait() {
            Ok(status) => status.to_string(),
            Err(error) => format!("an unknown status ({error})"),
        };
        if self.cgroup.as_ref().is_some_and(Cgroup::was_out_of_memory) {
            return "the host ended the VMM: it exceeded its memory ceiling".to_owned();
        }
        let words =
            if self.complaint.is_empty() { self.console.last_words() } else { Some(self.complaint.clone()) };
        let words = words.map(|words| format!(": {words}")).unwrap_or_default();
        format!("{} ended with {status}{words}", self.config.vmm.driver().name())
    }

    fn read_guest(&mut self, reads_max: usize) {
        for _ in 0..reads_max {
            if self.link.fd().is_none() {
                return;
            }
            match self.link.receive(&mut self.buffer) {
                Ok(events) if events.is_empty() && !self.may_have_more() => return,
                Ok(events) => events.into_iter().for_each(|event| self.guest_event(event)),
                Err(why) => return self.apply(Event::ChannelBroken(why)),
            }
        }
    }

    /// Whether the guest's bytes go on: a read can end inside a frame.
    fn may_have_more(&self) -> bool {
        self.link.fd().is_some_and(|fd| rustix::io::ioctl_fionread(fd).is_ok_and(|bytes| bytes > 0))
    }

    fn guest_event(&mut self, event: mux::Event) {
        match event {
            mux::Event::Message(json) => match from_json(&json) {
                Ok(GuestMessage::Stats(stats)) => self.answer_stats(stats),
                Ok(message) => self.apply(Event::Guest(message)),
                Err(_) => self.apply(Event::ChannelBroken("the guest sent an unknown message".to_owned())),
            },
            mux::Event::Data { channel: MAIN, stream, bytes } => {
                let stream = if stream == Stream::Err { LogStream::Stderr } else { LogStream::Stdout };
                self.log.write(stream, &bytes, Timestamp::now());
                self.link.consumed(MAIN, bytes.len());
            }
            mux::Event::Data { channel, stream, bytes } => match self.joined(channel) {
                Some(connection) => connection.send(Body::Data { stream, bytes }),
                None => self.link.consumed(channel, bytes.len()),
            },
            mux::Event::Eof { channel, stream } => {
                if let Some(connection) = self.joined(channel) {
                    connection.send(Body::Eof(stream));
                }
            }
            mux::Event::Writable { channel } => {
                let joined = |one: &&u64| self.connections[one].purpose == Purpose::Channel(channel);
                if let Some(id) = self.connections.keys().find(joined).copied() {
                    self.pump(id);
                }
            }
            mux::Event::Closed { channel, outcome } => {
                if let Some(connection) = self.joined(channel) {
                    connection.answer(&Answer::Outcome(outcome));
                }
            }
            // The last four come to a guest only; the mux refuses them at the host.
            mux::Event::Ignored
            | mux::Event::Opened { .. }
            | mux::Event::Control { .. }
            | mux::Event::Cancelled { .. } => {}
        }
    }

    fn joined(&mut self, channel: u32) -> Option<&mut Connection> {
        self.connections.values_mut().find(|one| one.purpose == Purpose::Channel(channel))
    }

    fn answer_stats(&mut self, stats: Stats) {
        // Answers come in the order of the questions; one that nobody waits for is dropped.
        if let Some(id) = self.stats_waiting.pop_front()
            && let Some(connection) = self.connections.get_mut(&id)
        {
            connection.answer(&Answer::Stats(stats));
        }
    }

    fn accept(&mut self) {
        if let Ok((stream, _)) = self.listener.accept()
            && let Ok(connection) = Connection::new(stream)
        {
            self.connections.insert(self.next_connection, connection);
            self.next_connection += 1;
        }
    }

    fn serve(&mut self, id: u64, is_hung_up: bool) {
        if let Some(connection) = self.connections.get_mut(&id) {
            if connection.wants_input() {
                connection.read(&mut self.buffer);
            } else if is_hung_up {
                // It is not read while the guest has no room, so its end would be reported without end.
                connection.is_gone = true;
            }
        }
        self.pump(id);
    }

    /// Carries out what a connection has sent, as far as the guest has room.
    fn pump(&mut self, id: u64) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            if let (Purpose::Channel(channel), Some((stream, bytes))) =
                (connection.purpose, &mut connection.waiting)
            {
                let room = self.link.mux.sendable(channel).min(bytes.len());
                if room == 0 && self.link.mux.is_open(channel) {
                    return;
                }
                let part: Vec<u8> = bytes.drain(..room).collect();
                let (stream, is_empty) = (*stream, bytes.is_empty());
                match self.link.mux.data(channel, stream, part) {
                    Ok(frame) if !is_empty => self.link.send(&frame),
                    Ok(frame) => {
                        self.link.send(&frame);
                        connection.waiting = None;
                    }
                    // Data after its end, or for a channel that has closed: nobody wants it.
                    Err(_) => connection.waiting = None,
                }
                continue;
            }
            connection.waiting = None;
            let Some(frame) = connection.next_frame() else { return };
            self.frame(id, frame);
        }
    }

    fn frame(&mut self, id: u64, frame: Frame) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match (connection.purpose, frame.body) {
            (Purpose::Unknown, Body::Open(json)) => match serde_json::from_slice(&json) {
                Ok(request) => self.request(id, request),
                Err(error) => {
                    connection.refuse(&format!("this supervisor does not know the request: {error}"))
                }
            },
            (Purpose::Channel(_), Body::Data { stream, bytes }) => connection.waiting = Some((stream, bytes)),
            (Purpose::Channel(channel), Body::Eof(stream)) => {
                if let Ok(frame) = self.link.mux.eof(channel, stream) {
                    self.link.send(&frame);
                }
            }
            (Purpose::Channel(channel), Body::Control(json)) => {
                if let Ok(control) = from_json::<ExecControl>(&json)
                    && self.link.mux.is_open(channel)
                    && let Ok(frame) = Frame::control(Role::Host, channel, &control)
                {
                    self.link.send(&frame);
                }
            }
            // What still comes after the answer.
            (Purpose::Answered, _) => {}
            (Purpose::Unknown | Purpose::Watch | Purpose::Stats | Purpose::Channel(_), _) => {
                connection.is_gone = true
            }
        }
    }

    fn request(&mut self, id: u64, request: ShimRequest) {
        let is_up = self.life.is_up();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let needs_guest =
            matches!(request, ShimRequest::Signal { .. } | ShimRequest::Stats | ShimRequest::Guest(_));
        if needs_guest && !is_up {
            return connection.refuse("the task is not running");
        }
        match request {
            ShimRequest::Watch => {
                connection.purpose = Purpose::Watch;
                publish(connection, self.life.state());
            }
            ShimRequest::Stop { signal, grace_ms } => {
                connection.answer(&Answer::Done);
                self.apply(Event::Stop { signal, grace: Duration::from_millis(grace_ms) });
            }
            ShimRequest::Kill => {
                connection.answer(&Answer::Done);
                self.apply(Event::Kill);
            }
            ShimRequest::Signal { signal } => {
                connection.answer(&Answer::Done);
                self.say(&HostMessage::Signal { signal });
            }
            ShimRequest::Stats if self.stats_waiting.len() >= STATS_WAITING_MAX => {
                connection.refuse("the guest does not answer");
            }
            ShimRequest::Stats => {
                connection.purpose = Purpose::Stats;
                self.stats_waiting.push_back(id);
                self.say(&HostMessage::Stats);
            }
            ShimRequest::Guest(request) => match self.link.mux.open(&request) {
                Ok((channel, frame)) => {
                    connection.purpose = Purpose::Channel(channel);
                    self.link.send(&frame);
                }
                Err(error) => connection.refuse(&error.to_string()),
            },
        }
    }

    /// Writes all that waits, gives the guest its credit back, and lets go of connections that are over.
    fn flush(&mut self) {
        let mut gone = Vec::new();
        for (id, connection) in &mut self.connections {
            let left = connection.flush();
            if let Purpose::Channel(channel) = connection.purpose {
                self.link.consumed(channel, left);
            }
            if connection.is_gone {
                gone.push(*id);
            }
        }
        for id in gone {
            if let Some(Connection { purpose: Purpose::Channel(channel), .. }) = self.connections.remove(&id)
                && let Ok(frame) = self.link.mux.close(channel, &Outcome::Cancelled)
            {
                self.link.send(&frame);
            }
        }
        self.link.flush();
    }

    /// The last word to everybody who is connected.
    fn goodbye(&mut self) {
        for connection in self.connections.values_mut() {
            match connection.purpose {
                Purpose::Watch => connection.answer(&Answer::Done),
                Purpose::Unknown | Purpose::Stats | Purpose::Channel(_) => {
                    connection.refuse("the task has ended")
                }
                Purpose::Answered => {}
            }
        }
        let started = Instant::now();
        loop {
            self.flush();
            let left = GOODBYE_DEADLINE.saturating_sub(started.elapsed());
            if self.connections.is_empty() || left.is_zero() {
                return;
            }
            let mut fds: Vec<_> = self
                .connections
                .values()
                .map(|connection| PollFd::from_borrowed_fd(connection.fd(), PollFlags::OUT))
                .collect();
            let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
            if poll(&mut fds, Some(&timeout)).is_err() {
                return;
            }
        }
    }
}

fn publish(connection: &mut Connection, state: &TaskState) {
    match serde_json::to_vec(state) {
        Ok(json) => connection.send(Body::Control(json)),
        Err(_) => connection.is_gone = true,
    }
}

/// Reads a pipe until it is empty for now, within one turn's measure; a closed one is let go.
fn read_pipe(pipe: &mut Option<OwnedFd>, buffer: &mut [u8], mut take: impl FnMut(&[u8])) {
    for _ in 0..READS_PER_TURN {
        let Some(fd) = pipe else { return };
        match rustix::io::read(fd, &mut *buffer) {
            Ok(0) => *pipe = None,
            Ok(count) => take(&buffer[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// How long the host has slept since it was started.
fn slept() -> Duration {
    let clock = |id| {
        let time = rustix::time::clock_gettime(id);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let monotonic = clock(rustix::time::ClockId::Monotonic);
    clock(rustix::time::ClockId::Boottime).saturating_sub(monotonic)
}

fn unix_time() -> UnixTime {
    let now = Timestamp::now();
    UnixTime {
        seconds: now.as_second(),
        nanoseconds: u32::try_from(now.subsec_nanosecond()).unwrap_or_default(),
    }
}
