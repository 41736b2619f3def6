//! What the host asks for, and the state that answers it: the main process and the open requests.
//!
//! ```text
//! booting ──start──▶ running ──exit──▶ over
//!    └────────────failure──────────────▲
//! ```
//! The reader's thread runs [`Server::handle`], which must not wait; each request has a thread of its own.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver as Queue, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use lith_guest::messages::{self, BootConfig, BootStep, GuestMessage, HostMessage, Outcome, VERSION};
use lith_guest::mux::{Event, MAIN};
use lith_guest::signal::Signal;
use lith_guest::wire::Stream;

use crate::children::Children;
use crate::exec::Target;
use crate::failure::{Failure, reason};
use crate::inbox::Inbox;
use crate::port::{self, Port};
use crate::sys::{self, Receiver};
use crate::task::{self, Started, Task};
use crate::view::Namespaces;
use crate::volumes::Keeper;
use crate::{boot, clock, copy, exec, lock, probe, pump, root, stats};

/// How long the host may take to read the last output and the ends of requests before the machine goes down anyway.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// How long the last messages may take.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// An open request.
#[derive(Default)]
pub(crate) struct Request {
    inbox: Arc<Inbox>,
    target: Mutex<Option<Target>>,
}

impl Request {
    /// Bytes from the host.
    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// From now on there is a command to control; one that was given up before it started is told so.
    pub(crate) fn set_target(&self, children: &Children, target: Target) {
        let mut slot = lock(&self.target);
        if self.inbox.is_cancelled() {
            target.hang_up(children);
        }
        *slot = Some(target);
    }

    fn cancel(&self, children: &Children) {
        self.inbox.cancel();
        if let Some(target) = &*lock(&self.target) {
            target.hang_up(children);
        }
    }
}

/// A wish to stop that came before there was anything to stop.
#[derive(Clone, Copy)]
struct Stop {
    signal: Option<Signal>,
    grace: Duration,
}

enum Main {
    Booting { stop: Option<Stop> },
    Running { pid: i32, task: Arc<Task>, namespaces: Option<Arc<Namespaces>> },
    Over,
}

/// The machine's side of the conversation.
pub(crate) struct Server {
    port: Arc<Port>,
    children: Children,
    main: Mutex<Main>,
    keeper: Mutex<Option<Keeper>>,
    requests: Mutex<BTreeMap<u32, Arc<Request>>>,
    requests_changed: Condvar,
}

impl Server {
    /// Says hello to the host and waits for its boot message.
    pub(crate) fn connect() -> Result<(Arc<Server>, Box<BootConfig>), Failure> {
        let (port, device) = port::connect()?;
        let server = Arc::new(Server {
            port,
            children: Children::default(),
            main: Mutex::new(Main::Booting { stop: None }),
            keeper: Mutex::default(),
            requests: Mutex::default(),
            requests_changed: Condvar::new(),
        });
        let (boot_sender, boot_queue): (Sender<Box<BootConfig>>, Queue<Box<BootConfig>>) = mpsc::channel();
        let reader = Arc::clone(&server);
        std::thread::spawn(move || {
            let error = reader.port.read(device, |event| reader.handle(event, &boot_sender));
            // The two ends do not understand each other; the host sees the machine go.
            boot::complain(&error.to_string());
            crate::power::off();
        });
        let reaper = Arc::clone(&server);
        std::thread::spawn(move || reaper.children.reap());
        server.port.message(&GuestMessage::Hello { version: VERSION });
        let no_config = |_| Failure::new(BootStep::Process, "the host went before it said what to run");
        let config = boot_queue.recv().map_err(no_config)?;
        Ok((server, config))
    }

    /// The way to the host.
    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.port
    }

    /// All child processes.
    pub(crate) fn children(&self) -> &Children {
        &self.children
    }

    /// The main process's surroundings, while it runs.
    pub(crate) fn running_task(&self) -> Result<(Arc<Task>, Arc<Namespaces>), Failure> {
        match &*lock(&self.main) {
            Main::Running { task, namespaces: Some(namespaces), .. } => {
                Ok((Arc::clone(task), Arc::clone(namespaces)))
            }
            Main::Running { namespaces: None, .. } | Main::Booting { .. } | Main::Over => {
                Err(Failure::new(BootStep::Start, "the task is not running"))
            }
        }
    }

    /// Boots, runs the main process to its end, and reports.
    pub(crate) fn run_main(self: &Arc<Server>, config: Box<BootConfig>) {
        let report = match self.start_main(&config) {
            Ok((pid, finished)) => {
                drop(config);
                let exit = self.children.wait(pid);
                *lock(&self.main) = Main::Over;
                drain(&finished);
                GuestMessage::Exited { exit, oom_killed: stats::was_oom_killed() }
            }
            Err(failure) => {
                *lock(&self.main) = Main::Over;
                GuestMessage::Failed { step: failure.step, message: failure.sentence().to_owned() }
            }
        };
        self.port.message(&report);
    }

    fn start_main(self: &Arc<Server>, config: &BootConfig) -> Result<(i32, Queue<()>), Failure> {
        let (task, resolved, volumes) = task::prepare(config)?;
        let task = Arc::new(task);
        let Started { pid, namespaces, outputs } = task::start(&self.children, &task, &resolved)?;
        match Keeper::start(volumes) {
            Ok(keeper) => *lock(&self.keeper) = keeper,
            // The task runs without it.
            Err(error) => boot::complain(&format!("nobody looks after the volumes: {}", reason(&error))),
        }
        let (finished_sender, finished) = mpsc::channel();
        for (stream, source) in [Stream::Out, Stream::Err].into_iter().zip(outputs) {
            let (port, finished) = (Arc::clone(&self.port), finished_sender.clone());
            std::thread::spawn(move || {
                pump::run(&port, MAIN, stream, source, None);
                // Nobody listens any more only when the machine goes down.
                let _ = finished.send(());
            });
        }
        let running = Main::Running { pid, task, namespaces };
        let before = std::mem::replace(&mut *lock(&self.main), running);
        // Only now: the host may ask for a command in the same instant.
        self.port.message(&GuestMessage::Started { pid: u32::try_from(pid).unwrap_or(0) });
        if let Main::Booting { stop: Some(stop) } = before {
            self.stop(stop);
        } else if let Some(check) = &config.settings.health {
            probe::watch(self, check.clone());
        }
        Ok((pid, finished))
    }

    /// Ends what is open, unmounts, says goodbye.
    pub(crate) fn shut_down(&self) {
        // First of all: whatever happens while the host takes the last words, what the task wrote is safe.
        rustix::fs::sync();
        // Their processes went with the main one, if it ever ran; what is left is to tell the host.
        let requests = lock(&self.requests);
        let is_open = |requests: &mut BTreeMap<u32, Arc<Request>>| !requests.is_empty();
        drop(self.requests_changed.wait_timeout_while(requests, DRAIN_WITHIN, is_open));
        let keeper = lock(&self.keeper).take();
        // What it is at work on could not be unmounted.
        keeper.into_iter().for_each(Keeper::stop);
        root::take_down();
        self.port.message(&GuestMessage::PowerOff);
        self.port.flush(FLUSH_WITHIN);
    }

    fn handle(self: &Arc<Server>, event: Event, boot: &Sender<Box<BootConfig>>) {
        match event {
            Event::Message(json) => match messages::from_json(&json) {
                Ok(message) => self.message(message, boot),
                Err(error) => boot::complain(&format!("{error}: {}", error.source)),
            },
            Event::Opened { channel, request } => self.open(channel, request),
            Event::Data { channel, bytes, .. } => match self.request(channel) {
                Some(request) => request.inbox.push(bytes),
                None => self.port.consumed(channel, bytes.len()),
            },
            Event::Eof { channel, .. } => {
                if let Some(request) = self.request(channel) {
                    request.inbox.end();
                }
            }
            Event::Control { channel, json } => {
                if let (Some(request), Ok(control)) = (self.request(channel), messages::from_json(&json))
                    && let Some(target) = &*lock(&request.target)
                {
                    target.control(control);
                }
            }
            Event::Cancelled { channel } => {
                if let Some(request) = self.request(channel) {
                    request.cancel(&self.children);
                }
                self.finish(channel, &Outcome::Cancelled);
            }
            Event::Writable { .. } | Event::Closed { .. } | Event::Ignored => {}
        }
    }

    fn message(self: &Arc<Server>, message: HostMessage, boot: &Sender<Box<BootConfig>>) {
        match message {
            // A second one finds nobody waiting.
            HostMessage::Boot(config) => drop(boot.send(config)),
            HostMessage::Stop { signal, grace_ms } => {
                self.stop(Stop { signal, grace: Duration::from_millis(grace_ms) });
            }
            HostMessage::Signal { signal } => {
                if let Main::Running { pid, .. } = *lock(&self.main) {
                    self.signal_main(pid, signal);
                }
            }
            HostMessage::Clock(time) => {
                if let Err(failure) = clock::set(time) {
                    boot::complain(failure.sentence());
                }
            }
            HostMessage::Stats => self.port.message(&GuestMessage::Stats(stats::read())),
        }
    }

    fn stop(self: &Arc<Server>, stop: Stop) {
        let pid = match &mut *lock(&self.main) {
            Main::Booting { stop: wish } => {
                *wish = Some(stop);
                return;
            }
            Main::Over => return,
            Main::Running { pid, task, .. } => {
                self.signal_main(*pid, stop.signal.unwrap_or(task.spec.stop_signal));
                *pid
            }
        };
        let server = Arc::clone(self);
        std::thread::spawn(move || {
            std::thread::sleep(stop.grace);
            // Takes all of its namespace's processes along. By then it has mostly been reaped, and nothing happens.
            server.signal_main(pid, Signal::KILL);
        });
    }

    fn signal_main(&self, pid: i32, signal: Signal) {
        if let Some(signal) = signal.checked() {
            // A process that is just ending needs no signal.
            self.children.if_running(pid, || drop(sys::kill(Receiver::Process(pid), signal.0)));
        }
    }

    fn request(&self, channel: u32) -> Option<Arc<Request>> {
        lock(&self.requests).get(&channel).cloned()
    }

    fn open(self: &Arc<Server>, channel: u32, asked: messages::Request) {
        let request = Arc::new(Request::default());
        lock(&self.requests).insert(channel, Arc::clone(&request));
        let server = Arc::clone(self);
        std::thread::spawn(move || {
            let outcome = match asked {
                messages::Request::Exec(asked) => exec::serve(&server, channel, &request, &asked),
                messages::Request::CopyOut { path } => copy::serve_out(&server, channel, &path),
                messages::Request::CopyIn { path } => copy::serve_in(&server, channel, &request, &path),
            };
            server.finish(channel, &outcome);
        });
    }

    /// Ends a channel; does nothing when it has ended.
    fn finish(&self, channel: u32, outcome: &Outcome) {
        let mut requests = lock(&self.requests);
        if let Some(request) = requests.remove(&channel) {
            // Whoever waits for bytes of it waits in vain.
            request.inbox.end();
            self.port.close(channel, outcome);
            self.requests_changed.notify_all();
        }
    }
}

/// Waits for the last output of the main process.
fn drain(finished: &Queue<()>) {
    for _ in [Stream::Out, Stream::Err] {
        if finished.recv_timeout(DRAIN_WITHIN).is_err() {
            boot::complain("the host does not take the last output");
            return;
        }
    }
}
