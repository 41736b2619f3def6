//! A command beside the main process: in its namespaces, with pipes or a terminal, until it ends or the host gives up.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use lith_guest::messages::{BootStep, Exec, ExecControl, Outcome, Tty, TtySize};
use lith_guest::process::Environment;
use lith_guest::signal::Signal;
use lith_guest::wire::Stream;
use rustix::fs::{Mode, OFlags, Uid, fchown, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::children::Children;
use crate::failure::{During, Failure};
use crate::inbox::Inbox;
use crate::port::Port;
use crate::pump;
use crate::server::{Request, Server};
use crate::spawn::{Resolved, Wanted, explain, launch, resolve};
use crate::sys::{self, Place, Receiver, StandardFiles};
use crate::task::{Task, owned_pipe};
use crate::view::{Namespaces, inside_task};

/// A running command, as far as the host may influence it.
pub(crate) struct Target {
    pid: i32,
    terminal: Option<OwnedFd>,
}

impl Target {
    /// Does what the host asks.
    pub(crate) fn control(&self, control: ExecControl) {
        match control {
            ExecControl::Resize(size) => {
                if let Some(terminal) = &self.terminal {
                    // A terminal that is gone has no size.
                    let _ = tcsetwinsize(terminal, window(size));
                }
            }
        }
    }

    /// The host gave up: tell the command as a terminal that is closed does. It may go on, as `nohup` does.
    pub(crate) fn hang_up(&self, children: &Children) {
        // A group that is gone needs no signal.
        children.if_running(self.pid, || drop(sys::kill(Receiver::Group(self.pid), Signal::HUP.0)));
    }
}

fn window(size: TtySize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}

/// The ends that stay here.
struct Ends {
    /// Where the host's bytes go; closed at their end, unless it is a terminal.
    input: OwnedFd,
    outputs: Vec<(Stream, OwnedFd)>,
    terminal: Option<OwnedFd>,
}

/// Serves the request; gives how it ended.
pub(crate) fn serve(server: &Arc<Server>, channel: u32, request: &Request, exec: &Exec) -> Outcome {
    match run(server, channel, request, exec) {
        Ok(outcome) => outcome,
        Err(failure) => Outcome::Failed { code: failure.code, message: failure.sentence().to_owned() },
    }
}

fn run(server: &Arc<Server>, channel: u32, request: &Request, exec: &Exec) -> Result<Outcome, Failure> {
    let (task, namespaces) = server.running_task()?;
    let spec = &task.spec;
    let working_dir = exec.working_dir.as_deref().unwrap_or(&spec.working_dir);
    let wanted = Wanted {
        argv: &exec.argv,
        env: environment(&spec.env, exec),
        user: exec.user.as_deref().unwrap_or(&spec.user),
        groups: &task.groups,
        working_dir,
    };
    let resolved = inside_task(&namespaces, || {
        let folder = std::fs::metadata(wanted.working_dir);
        folder.during(BootStep::WorkingDir, format_args!("enter {:?}", wanted.working_dir))?;
        resolve(wanted)
    });
    let resolved = resolved.during(BootStep::Start, "enter the task's root")??;
    let (files, ends) = open_ends(&task, &resolved, exec.tty.as_ref())
        .during(BootStep::Start, "make pipes or a terminal for the command")?;
    let pid = start(server, &task, &resolved, &namespaces, files, ends.terminal.is_some())?;
    let Ends { input, outputs, terminal } = ends;
    let is_terminal = terminal.is_some();
    request.set_target(server.children(), Target { pid, terminal });
    let (ended_read, ended_write) = pipe_with(PipeFlags::CLOEXEC).during(BootStep::Start, "make a pipe")?;
    let port = server.port();
    let exit = std::thread::scope(|scope| {
        for (stream, source) in outputs {
            let ended = ended_read.try_clone().ok();
            scope.spawn(move || pump::run(port, channel, stream, source, ended));
        }
        spawn_feeder(server, channel, request.inbox(), input, is_terminal);
        let exit = server.children().wait(pid);
        drop(ended_write);
        exit
    });
    Ok(Outcome::Exited(exit))
}

fn environment(main: &Environment, exec: &Exec) -> Environment {
    let terminal = exec.tty.iter().map(|tty| format!("TERM={}", tty.term)).collect();
    main.clone().with(&Environment(terminal)).with(&exec.env)
}

/// Starts a command in the main process's namespaces; gives its process ID, to be waited for.
pub(crate) fn start(
    server: &Server,
    task: &Task,
    resolved: &Resolved,
    namespaces: &Namespaces,
    files: StandardFiles,
    has_terminal: bool,
) -> Result<i32, Failure> {
    let step = BootStep::Start;
    let place = Place::Join {
        mounts: namespaces.mounts.try_clone().during(step, "enter the task's mounts")?,
        cgroup: namespaces.cgroup.try_clone().during(step, "enter the task's control group")?,
    };
    let launch = launch(resolved, task.limits.clone(), place, has_terminal)?;
    let spawn = || {
        move_into_link_name_space(namespaces.pids.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
        server.children().start(|| sys::spawn(launch, files))
    };
    // On a thread of its own: every later child of this one would be in the namespace too.
    std::thread::scope(|scope| scope.spawn(spawn).join())
        .unwrap_or_else(|_| Err(io::Error::other("thread panicked")))
        .map_err(|error| explain(resolved, &error))
}

fn open_ends(task: &Task, resolved: &Resolved, tty: Option<&Tty>) -> io::Result<(StandardFiles, Ends)> {
    let Some(tty) = tty else {
        let (input_read, input) = pipe_with(PipeFlags::CLOEXEC)?;
        let ((out, out_write), (err, err_write)) = (owned_pipe(resolved)?, owned_pipe(resolved)?);
        let outputs = vec![(Stream::Out, out), (Stream::Err, err)];
        return Ok(([input_read, out_write, err_write], Ends { input, outputs, terminal: None }));
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = openat(&task.terminals, "ptmx", flags, Mode::empty())?;
    unlockpt(&terminal)?;
    let peer = ioctl_tiocgptpeer(&terminal, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    fchown(&peer, Some(Uid::from_raw(resolved.identity.uid)), None)?;
    tcsetwinsize(&terminal, window(tty.size))?;
    let outputs = vec![(Stream::Out, terminal.try_clone()?)];
    let ends = Ends { input: terminal.try_clone()?, outputs, terminal: Some(terminal) };
    Ok(([peer.try_clone()?, peer.try_clone()?, peer], ends))
}

/// Passes the host's bytes on, on a thread that ends with the channel or with the command, not before its caller.
fn spawn_feeder(server: &Arc<Server>, channel: u32, inbox: &Arc<Inbox>, input: OwnedFd, is_terminal: bool) {
    let (port, inbox) = (Arc::clone(server.port()), Arc::clone(inbox));
    std::thread::spawn(move || feed(&port, channel, &inbox, File::from(input), is_terminal));
}

fn feed(port: &Port, channel: u32, inbox: &Inbox, input: File, is_terminal: bool) {
    let mut input = Some(input);
    while let Some(bytes) = inbox.take() {
        // A command that reads no more: take its bytes all the same, as a closed pipe does.
        if input.as_mut().is_some_and(|input| input.write_all(&bytes).is_err()) {
            input = None;
        }
        port.consumed(channel, bytes.len());
    }
    if is_terminal && let Some(mut terminal) = input {
        // End of file, as the user of a terminal types it. What follows is the command's business.
        let _ = terminal.write_all(b"\x04");
    }
}
