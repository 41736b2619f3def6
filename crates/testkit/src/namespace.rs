//! Network namespaces that stand for machines. They have no names: one vanishes when its keeper and the last process in
//! it have ended, however the test ends.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::{self, Output, Running};

/// A network namespace, kept by a process that ends when this is dropped, or when the test's process does.
#[derive(Debug)]
pub struct Namespace {
    handle: OwnedFd,
    keeper: Child,
    stdin: Option<ChildStdin>,
}

impl Namespace {
    /// A new one, with a working loopback.
    #[must_use]
    pub fn new() -> Self {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is installed");
        let mut line = String::new();
        let stdout = keeper.stdout.take().expect("it was asked for");
        BufReader::new(stdout).read_line(&mut line).expect("the keeper speaks");
        assert_eq!(line, "ready\n", "network namespaces need root");
        let handle = std::fs::File::open(format!("/proc/{}/ns/net", keeper.id())).expect("the keeper lives");
        let stdin = keeper.stdin.take();
        Self { handle: handle.into(), keeper, stdin }
    }

    /// Runs something on a thread in this namespace. Sockets and processes made there belong to it.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter namespaces");
            action()
        };
        thread::scope(|scope| {
            scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program to its end.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, program: &str, arguments: &[S]) -> Output {
        let mut command = Command::new(program);
        command.args(arguments);
        self.finish(command, b"")
    }

    /// Runs a prepared command to its end, with this on its standard input.
    pub fn finish(&self, command: Command, stdin: &[u8]) -> Output {
        self.run(|| command::run(command, stdin))
    }

    /// Starts a prepared command whose output is looked at while it runs.
    pub fn start(&self, command: Command) -> Running {
        self.run(|| Running::start(command))
    }

    /// Runs a shell command, which must succeed, and gives its output.
    pub fn shell(&self, script: &str) -> String {
        self.command("sh", &["-ec", script]).ok().stdout
    }

    /// The ID of a process in this namespace, by which `ip` names it.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.keeper.id()
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It ends with its input; there is nothing else to do about it.
        let _ = self.keeper.wait();
    }
}
