//! The process: opens the volumes, starts the threads, waits for connections and for the end.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::control::{self, failure};
use super::cutter::{self, now_ns};
use super::lock::VolumeLock;
use super::port::Port;
use super::protocol::{Failure, Ready};
use super::{Config, DESCRIPTOR_FIRST, Served, keeper, sys};
use crate::blk::{Access, Settings};
use crate::disk::Disk;
use crate::error::VolumeError;
use crate::lock;
use crate::reader::{Reader, ReaderError};
use crate::segment::VolumeUuid;
use crate::storage::Folder;
use crate::volume::Volume;
use rustix::event::{PollFd, PollFlags, poll};

/// Stack of a thread that answers questions or waits.
const STACK_BYTES: usize = 256 << 10;
/// Questions at a time: the daemon's, and a lifeline for each task.
const CONNECTIONS_MAX: usize = 128;

/// So long guests that are going may take until the end is refused.
const GUESTS_LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at whether they have.
const GUESTS_INTERVAL: Duration = Duration::from_millis(5);

/// What all threads share.
#[derive(Debug)]
pub(super) struct Service {
    /// Those that are held: none when checkpoints are read.
    pub(super) volumes: Vec<ServedVolume>,
    /// In the order of the sockets.
    ports: Vec<Arc<Port>>,
    pub(super) interval: Duration,
    /// Held by who makes a cut.
    pub(super) cutting: Turn,
    ending: Mutex<bool>,
    ended: Condvar,
    connections: AtomicUsize,
    /// Written to when the main thread is to look.
    bell: std::os::unix::net::UnixStream,
}

/// A turn that threads take one after the other.
#[derive(Debug, Default)]
pub(super) struct Turn(Mutex<()>);

impl Turn {
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        lock(&self.0)
    }
}

/// What is done for a volume again and again, and may go wrong until it goes well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    Cut,
    Unmark,
    Fold,
}

impl Duty {
    const ALL: [Self; 3] = [Self::Cut, Self::Unmark, Self::Fold];
}

/// A volume that is held, with its port.
pub(super) struct ServedVolume {
    pub(super) id: String,
    pub(super) folder: PathBuf,
    pub(super) reserve_bytes: u64,
    pub(super) window_ns: i64,
    pub(super) history_bytes_max: u64,
    pub(super) volume: Arc<Volume<Folder>>,
    pub(super) port: Arc<Port>,
    /// By duty.
    problems: Mutex<[Option<String>; Duty::ALL.len()]>,
    _lock: VolumeLock,
}

impl std::fmt::Debug for ServedVolume {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServedVolume").field("id", &self.id).finish_non_exhaustive()
    }
}

impl ServedVolume {
    /// The gravest thing that is wrong.
    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.problems).iter().flatten().next().cloned()
    }

    /// Remembers how a duty went, for the status, and tells the log what is new.
    pub(super) fn note(&self, duty: Duty, problem: Option<String>) {
        let known = &mut lock(&self.problems)[duty as usize];
        match &problem {
            Some(words) if known.as_ref() != Some(words) => {
                tracing::error!(volume = %self.id, error = %words, ?duty, "the history is not kept as it should be");
            }
            None if known.is_some() => tracing::info!(volume = %self.id, ?duty, "the history is kept again"),
            Some(_) | None => {}
        }
        *known = problem;
    }
}

impl Service {
    /// Whether the end has come, within some time.
    pub(super) fn waits_for_end(&self, wait: Duration) -> bool {
        let ending = lock(&self.ending);
        let (ending, _) = self
            .ended
            .wait_timeout_while(ending, wait, |ending| !*ending)
            .unwrap_or_else(PoisonError::into_inner);
        *ending
    }

    pub(super) fn is_ending(&self) -> bool {
        *lock(&self.ending)
    }

    /// Waits until no guest has a volume: that one's VMM is gone shows a moment after it is.
    pub(super) fn wait_for_guests(&self) {
        let begun = Instant::now();
        while self.ports.iter().any(|port| port.is_attached()) && begun.elapsed() < GUESTS_LEAVE_WITHIN {
            if self.waits_for_end(GUESTS_INTERVAL) {
                return;
            }
        }
    }

    /// Ends, after a last checkpoint, unless a guest has a volume.
    pub(super) fn end(&self) -> Result<(), Failure> {
        if let Some(port) = self.ports.iter().find(|port| port.is_attached()) {
            let message = format!("a guest has volume {}", port.id);
            return Err(Failure { message, hint: None });
        }
        self.settle().map_err(|error| failure(&error))?;
        *lock(&self.ending) = true;
        self.ended.notify_all();
        // The main thread looks when it hears it; if it cannot be told, it is gone.
        let _ = (&self.bell).write_all(b"e");
        Ok(())
    }

    /// A guest has let go of its volume. With the last one, what it left becomes a checkpoint.
    fn has_detached(&self) {
        if self.ports.iter().all(|port| !port.is_attached()) {
            // Its status tells what went wrong.
            let _ = cutter::cut(self, true);
        }
        let _ = (&self.bell).write_all(b"d");
    }

    /// A checkpoint of what the volumes hold while nobody writes.
    fn settle(&self) -> Result<(), VolumeError> {
        cutter::cut(self, true)?;
        for served in &self.volumes {
            served.volume.flush().map_err(VolumeError::file("sync", crate::names::DISK))?;
            // What was marked in the last round goes with the second.
            served.volume.unmark()?;
            served.volume.unmark()?;
        }
        Ok(())
    }
}

/// The whole of the process: `arguments` is the path of its configuration, and what tells
/// people whose it is. To be called once, before any thread is started.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    let started = start(arguments);
    let ready = match &started {
        Ok(_) => Ready::Serves,
        Err(Obstacle::Failed(failure)) => Ready::Failed(failure.clone()),
        Err(Obstacle::Waits(failure)) => Ready::Waits(failure.clone()),
    };
    let mut line = serde_json::to_vec(&ready).expect("it always encodes");
    line.push(b'\n');
    // Who started it may be gone by now, and finds it by its socket.
    let _ = std::io::stdout().write_all(&line);
    match started {
        Ok(running) => running.run(),
        Err(_) => ExitCode::FAILURE,
    }
}

struct Running {
    service: Arc<Service>,
    control: UnixListener,
    devices: Vec<UnixListener>,
    terminations: std::os::fd::OwnedFd,
    bell: std::os::unix::net::UnixStream,
}

/// Why volumes are not served.
enum Obstacle {
    Failed(Failure),
    /// It goes away by itself.
    Waits(Failure),
}

impl From<Failure> for Obstacle {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn start(arguments: &[String]) -> Result<Running, Obstacle> {
    let plain = |message: String| Failure { message, hint: None };
    let [path, _] = arguments else { return Err(plain("it is started by lith itself".to_owned()).into()) };
    let terminations =
        sys::terminations().map_err(|error| plain(format!("cannot wait for SIGTERM: {error}")))?;
    let config =
        std::fs::read(path).map_err(|error| plain(format!("cannot read its configuration: {error}")))?;
    let config: Config = serde_json::from_slice(&config)
        .map_err(|error| plain(format!("its configuration is none: {error}")))?;
    let inherited = |number| {
        let listener = sys::listener(number).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        listener.map_err(|error| plain(format!("descriptor {number}: {error}")))
    };
    let control = inherited(DESCRIPTOR_FIRST)?;
    let devices = (1..).take(config.volumes.len()).map(|number| inherited(DESCRIPTOR_FIRST + number));
    let devices = devices.collect::<Result<Vec<_>, _>>()?;
    let (volumes, ports) = match config.access {
        Access::ReadWrite => {
            let volumes = config.volumes.iter().map(|served| open(served, &config.holder));
            let volumes = volumes.collect::<Result<Vec<_>, _>>()?;
            let ports = volumes.iter().map(|served| Arc::clone(&served.port)).collect();
            (volumes, ports)
        }
        Access::ReadOnly => {
            let ports = config.volumes.iter().map(open_checkpoints);
            (vec![], ports.collect::<Result<Vec<_>, _>>()?)
        }
    };
    let (bell, ringer) = std::os::unix::net::UnixStream::pair().map_err(|error| plain(error.to_string()))?;
    let service = Service {
        volumes,
        ports,
        interval: Duration::from_millis(config.interval_ms),
        cutting: Turn::default(),
        ending: Mutex::new(false),
        ended: Condvar::new(),
        connections: AtomicUsize::new(0),
        bell: ringer,
    };
    Ok(Running { service: Arc::new(service), control, devices, terminations, bell })
}

fn open(served: &Served, holder: &str) -> Result<ServedVolume, Failure> {
    let lock = VolumeLock::take(&served.folder, &served.id, holder)?;
    let named = |error: &VolumeError| {
        let failure = failure(error);
        Failure { message: format!("volume {}: {}", served.id, failure.message), ..failure }
    };
    let mut uuid = VolumeUuid::default();
    let bad = |_| Failure { message: format!("volume {}: bad identity", served.id), hint: None };
    hex::decode_to_slice(&served.uuid, &mut uuid.0).map_err(bad)?;
    let folder = Folder::new(&served.folder);
    let volume = Volume::open_or_begin(folder, uuid, now_ns()).map_err(|error| named(&error))?;
    // One that was cut short is ended before anybody sees the disk.
    volume.end_restore(now_ns()).map_err(|error| named(&error))?;
    let volume = Arc::new(volume);
    let disk: Arc<dyn Disk> = Arc::<Volume<Folder>>::clone(&volume);
    let port = Port::of_volume(&served.id, disk, settings(served, Access::ReadWrite));
    let bad = |error| Failure { message: lith_core::chain::chain(&error), hint: None };
    Ok(ServedVolume {
        id: served.id.clone(),
        folder: served.folder.clone(),
        reserve_bytes: served.reserve_bytes,
        window_ns: i64::try_from(served.window_s.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX),
        history_bytes_max: served.history_bytes_max,
        volume,
        port: Arc::new(port.map_err(bad)?),
        problems: Mutex::default(),
        _lock: lock,
    })
}

fn settings(served: &Served, access: Access) -> Settings {
    Settings { serial: served.serial.clone(), queues: served.queues, access }
}

/// A volume of which guests read checkpoints. That there is one is looked at first.
fn open_checkpoints(served: &Served) -> Result<Arc<Port>, Obstacle> {
    let folder = Folder::read_only(&served.folder);
    match Reader::open(&folder) {
        Ok(_) => {
            let settings = settings(served, Access::ReadOnly);
            Ok(Arc::new(Port::of_checkpoints(&served.id, folder, settings)))
        }
        Err(error) => {
            let message = format!("volume {}: {}", served.id, lith_core::chain::chain(&error));
            let failure = Failure { message, hint: error.hint().map(str::to_owned) };
            Err(if matches!(error, ReaderError::Empty) { Obstacle::Waits(failure) } else { failure.into() })
        }
    }
}

impl Running {
    fn run(self) -> ExitCode {
        let Self { service, control, devices, terminations, bell } = self;
        for (name, work) in [("cutter", cutter::run as fn(&Arc<Service>)), ("keeper", keeper::run)] {
            let service = Arc::clone(&service);
            if spawn(name, move || work(&service)).is_err() {
                return ExitCode::FAILURE;
            }
        }
        let mut host_stops = false;
        loop {
            let mut fds = vec![
                PollFd::from_borrowed_fd(terminations.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN),
            ];
            // A guest that comes while the former one's requests are being ended waits in the socket's queue.
            let look_for = |position: usize| match service.ports[position].is_attached() {
                true => PollFlags::empty(),
                false => PollFlags::IN,
            };
            fds.extend(
                devices
                    .iter()
                    .enumerate()
                    .map(|(at, device)| PollFd::from_borrowed_fd(device.as_fd(), look_for(at))),
            );
            if poll(&mut fds, None).is_err() {
                continue;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            let mut buffer = [0; 256];
            if ready[0] {
                // What is read says who sent it, which is of no interest.
                let _ = rustix::io::read(&terminations, &mut buffer);
                host_stops = true;
            }
            if ready[1] {
                let _ = rustix::io::read(&bell, &mut buffer);
            }
            // Its guests stop as well when the host does, and it ends with the last of them.
            if service.is_ending() || (host_stops && service.end().is_ok()) {
                return ExitCode::SUCCESS;
            }
            if ready[2] {
                accept_control(&service, &control);
            }
            for (position, _) in ready[3..].iter().enumerate().filter(|(_, is_ready)| **is_ready) {
                accept_device(&service, position, &devices[position]);
            }
        }
    }
}

fn accept_control(service: &Arc<Service>, listener: &UnixListener) {
    let Ok((stream, _)) = listener.accept() else { return };
    if stream.set_nonblocking(false).is_err()
        || service.connections.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX
    {
        service.connections.fetch_sub(1, Ordering::AcqRel);
        return;
    }
    let shared = Arc::clone(service);
    let answering = spawn("control", move || {
        control::serve(&shared, stream);
        shared.connections.fetch_sub(1, Ordering::AcqRel);
    });
    if answering.is_err() {
        service.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Takes a guest's VMM. There is none at this moment: two that write to one disk destroy it.
fn accept_device(service: &Arc<Service>, position: usize, listener: &UnixListener) {
    let Ok((stream, _)) = listener.accept() else { return };
    let port = &service.ports[position];
    if stream.set_nonblocking(false).is_err() || !port.take() {
        return;
    }
    let shared = Arc::clone(service);
    let serving = spawn("device", move || {
        let port = &shared.ports[position];
        port.serve(stream);
        port.let_go();
        shared.has_detached();
    });
    if serving.is_err() {
        port.let_go();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work).map(drop)
}
