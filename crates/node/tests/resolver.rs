//! `lith resolve` as the agent starts it, in a network namespace, as root: two processes, one of which has no rights.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lith_dns::control;
use lith_dns::form::{Guest, Policy, Reason};
use lith_testkit::{Namespace, eventually};
use lith_vmm::jail::cgroup;
use rustix::process::{Pid, Signal, kill_process};

const GUEST: &str = "10.83.0.7";

struct Node {
    namespace: Namespace,
    folder: tempfile::TempDir,
    group: String,
    parents: Vec<Child>,
}

impl Node {
    fn new(name: &str) -> Self {
        let namespace = Namespace::new();
        namespace.shell(&format!("ip addr add 169.254.83.1/32 dev lo; ip addr add {GUEST}/32 dev lo"));
        let group = format!("test-resolver-{name}-{}", std::process::id());
        Self { namespace, folder: tempfile::tempdir().unwrap(), group, parents: Vec::new() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("control.sock")
    }

    /// Starts one, and returns the line that it says.
    fn start(&mut self, program: &Path) -> String {
        let mut command = Command::new(program);
        command.arg("resolve").arg(self.folder.path()).arg(&self.group).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = self.namespace.run(|| command.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.parents.push(child);
        line
    }

    fn child(&self) -> Option<u32> {
        control::hello(&self.socket()).ok()?.child
    }

    /// How many of some questions are answered.
    fn answered(&self, name: &str) -> usize {
        let port = control::hello(&self.socket()).unwrap().port;
        let (from, server) = (format!("{GUEST}:0"), format!("169.254.83.1:{port}"));
        let (from, server) = (from.parse().unwrap(), server.parse().unwrap());
        self.namespace.run(|| lith_dns::probe::measure(from, server, name, (100, 10)).unwrap()).answers.len()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = control::end(&self.socket());
        for parent in &mut self.parents {
            let _ = parent.kill();
            let _ = parent.wait();
        }
        while cgroup::end_members(&self.group) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = cgroup::remove(&self.group);
    }
}

fn policy() -> Policy {
    let guest = Guest {
        slot: 7,
        task: "shop.1.web".to_owned(),
        job: "shop".to_owned(),
        own: vec!["web".to_owned()],
        addresses: vec![GUEST.parse().unwrap()],
        names: BTreeMap::from([("db".to_owned(), vec!["10.83.128.1".parse().unwrap()])]),
        egress: vec![],
    };
    Policy { node: vec![], guests: vec![guest] }
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// A line of a process's status.
fn status(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn who_reads_what_guests_send_has_no_rights() {
    let mut node = Node::new("rights");
    let line = node.start(Path::new(env!("CARGO_BIN_EXE_lith")));
    assert!(line.starts_with(r#"{"answers":"#), "{line}");
    control::set_policy(&node.socket(), &policy()).unwrap();
    assert_eq!(node.answered("db"), 10);
    let child = node.child().unwrap();
    for (key, expected) in [
        ("Uid", "2000065000 2000065000 2000065000 2000065000"),
        ("Gid", "2000065000 2000065000 2000065000 2000065000"),
        ("Groups", ""),
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("NoNewPrivs", "1"),
    ] {
        assert_eq!(status(child, key), expected, "{key}");
    }
    let namespace = |pid: u32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let parent = control::hello(&node.socket()).unwrap().pid;
    for kind in ["mnt", "ipc", "uts", "pid"] {
        assert_ne!(namespace(child, kind), namespace(parent, kind), "{kind}");
    }
    let root: Vec<_> = fs::read_dir(format!("/proc/{child}/root"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(
        !root
            .iter()
            .any(|name| ["run", "home", "root", "proc", "sys", "var"].iter().any(|other| name == other)),
        "{root:?}"
    );
}

#[test]
fn either_half_may_be_killed_and_a_successor_takes_over() {
    let mut node = Node::new("life");
    node.start(Path::new(env!("CARGO_BIN_EXE_lith")));
    control::set_policy(&node.socket(), &policy()).unwrap();
    let (first, port) = (node.child().unwrap(), control::hello(&node.socket()).unwrap().port);
    signal(first, Signal::KILL);
    eventually("another child", || match node.child() {
        Some(child) if child != first => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(node.answered("db"), 10);
    // Another program, as after an upgrade.
    let copy = node.folder.path().join("lith");
    fs::copy(env!("CARGO_BIN_EXE_lith"), &copy).unwrap();
    let before = control::hello(&node.socket()).unwrap();
    node.start(&copy);
    let after = control::hello(&node.socket()).unwrap();
    assert_eq!(after.port, port);
    assert_ne!((after.program, after.pid), (before.program, before.pid));
    assert_eq!(node.answered("db"), 10);
    eventually("what was refused is told", || {
        node.answered("secret.example");
        let told = control::refused(&node.socket()).unwrap();
        let is_it = told.iter().any(|one| one.name == "secret.example" && one.reason == Reason::NotDeclared);
        is_it.then_some(()).ok_or("nothing")
    });
    // With the parent goes the child.
    let child = node.child().unwrap();
    signal(after.pid, Signal::KILL);
    for parent in &mut node.parents {
        parent.wait().unwrap();
    }
    eventually("the end of the child", || {
        let is_there = Path::new(&format!("/proc/{child}")).exists();
        (!is_there).then_some(()).ok_or("it is there")
    });
}

#[test]
fn at_a_shutdown_guests_are_answered_while_they_stop() {
    let mut node = Node::new("shutdown");
    node.start(Path::new(env!("CARGO_BIN_EXE_lith")));
    control::set_policy(&node.socket(), &policy()).unwrap();
    // Everybody gets it.
    let (parent, child) = (control::hello(&node.socket()).unwrap().pid, node.child().unwrap());
    signal(parent, Signal::TERM);
    signal(child, Signal::TERM);
    assert_eq!(node.answered("db"), 10);
    assert_eq!(node.child(), Some(child));
    assert!(node.parents[0].wait().unwrap().success());
}
