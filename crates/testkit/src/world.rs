//! A test's own world: a machine on which lith runs, its neighbour on the network, and what people do with both.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::command::{Output, Running};
use crate::folder::Folder;
use crate::namespace::Namespace;
use crate::processes::{self, Pid};
use crate::wait::{eventually, eventually_within};
use crate::{assets, leftovers};

/// The machine's address on its network.
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The address of another machine there.
pub const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// Their addresses of IPv6.
pub const HOST_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x192, 0, 2, 0, 0, 0, 1);
/// That of the other machine.
pub const NEIGHBOUR_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x192, 0, 2, 0, 0, 0, 9);
/// A public address that stands for the internet: the neighbour has it, and is the machine's default gateway.
pub const FAR: Ipv4Addr = Ipv4Addr::new(20, 0, 0, 7);
/// One of IPv6.
pub const FAR_6: Ipv6Addr = Ipv6Addr::new(0x2a00, 0x20, 0, 0, 0, 0, 0, 7);
/// Where clouds answer questions about a machine; the neighbour has it too.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Lines of the daemon's log that are shown when a test fails.
const LOG_LINES_SHOWN: usize = 60;
/// How long `lith up` may take to answer: it is a start of a program, on a machine that may be busy.
const UP_DEADLINE: Duration = Duration::from_secs(60);

/// A world of a test. Dropping it removes everything, and fails the test if lith itself left something.
#[derive(Debug)]
pub struct World {
    folder: Folder,
    /// The machine.
    pub host: Namespace,
    /// Another machine on its network.
    pub lan: Arc<Namespace>,
    /// The data folder; may be changed before the daemon is started.
    pub data_dir: PathBuf,
    /// A folder whose files lie over those of `/etc` for the daemon; may be set before it is started.
    pub etc: Option<PathBuf>,
    daemon: Option<Child>,
    is_down: bool,
}

impl World {
    /// A world in which lith does not run yet.
    #[must_use]
    pub fn prepare() -> Self {
        let folder = Folder::new();
        std::fs::create_dir(folder.path().join("home")).expect("the folder is new");
        let (host, lan) = (Namespace::new(), Namespace::new());
        host.shell(&format!("ip link add lan0 type veth peer name lan0 netns {}", lan.process()));
        lan.shell(&format!(
            "ip addr add {NEIGHBOUR}/24 dev lan0; ip link set lan0 up; ip addr add {FAR}/32 dev lo; \
             ip addr add {METADATA}/32 dev lo; ip addr add {NEIGHBOUR_6}/64 dev lan0 nodad; \
             ip addr add {FAR_6}/128 dev lo"
        ));
        // The neighbour knows a way to the guests, so that it is the machine that keeps them apart.
        host.shell(&format!(
            "ip addr add {HOST}/24 dev lan0; ip link set lan0 up; ip route add default via {NEIGHBOUR}; \
             ip addr add {HOST_6}/64 dev lan0 nodad; ip route add default via {NEIGHBOUR_6}"
        ));
        lan.shell(&format!(
            "ip route add 10.83.0.0/16 via {HOST}; ip route add fd6c:690a:5301::/48 via {HOST_6}"
        ));
        let data_dir = folder.path().join("data");
        Self { folder, host, lan: Arc::new(lan), data_dir, etc: None, daemon: None, is_down: true }
    }

    /// A world in which lith runs and has these images.
    #[must_use]
    pub fn start(images: &[&str]) -> Self {
        let mut world = Self::prepare();
        world.up();
        for image in images {
            world.load(image);
        }
        world
    }

    /// A path in the world's own folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    /// The command line with these arguments, to be run in [`World::host`].
    pub fn lith_command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(assets::lith());
        command.args(arguments).current_dir(self.folder.path());
        command.env("LITH_DATA_DIR", &self.data_dir).env("LITH_RUN_DIR", self.run_dir());
        command.env("HOME", self.path("home")).env_remove("NO_COLOR").env("COLUMNS", "100");
        command
    }

    /// The command line of the daemon.
    #[must_use]
    pub fn up_command(&self) -> Command {
        // The folders are arguments, too: by them the processes of this world are told from others.
        let (data_dir, run_dir, kernel) = (&self.data_dir, self.run_dir(), assets::kernel());
        let arguments = [OsStr::new("up"), OsStr::new("--data-dir"), data_dir.as_os_str()];
        let mut command = self.lith_command(&arguments);
        if let Some(etc) = &self.etc {
            command = self.with_etc(etc, command);
        }
        command.arg("--run-dir").arg(run_dir).arg("--kernel").arg(kernel).args(["--node", "odin"]);
        command
    }

    /// The same command in mounts of its own, in which `/etc` has more files. Its process stays the one that is started.
    fn with_etc(&self, etc: &Path, command: Command) -> Command {
        let work = self.path("etc-work");
        std::fs::create_dir_all(&work).expect("the folder is ours");
        let script =
            "mount -t overlay -o \"lowerdir=/etc,upperdir=$0,workdir=$1\" overlay /etc; shift; exec \"$@\"";
        let mut wrapped = Command::new("unshare");
        wrapped.args(["--mount", "sh", "-ec", script]).arg(etc).arg(work);
        wrapped.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        wrapped.current_dir(self.folder.path());
        wrapped
    }

    /// Starts the daemon and waits until it answers.
    pub fn up(&mut self) {
        self.up_with(&[]);
    }

    /// The same with further arguments.
    pub fn up_with(&mut self, arguments: &[&str]) {
        assert!(self.daemon.is_none(), "it runs already");
        let log = self.log_path();
        let log = File::options().create(true).append(true).open(log).expect("the folder is ours");
        let mut command = self.up_command();
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = self.host.run(|| command.spawn()).expect("lith starts");
        eventually_within(UP_DEADLINE, "an answer of `lith up`", || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("`lith up` ended with {status}:\n{}", self.log());
            }
            // Another daemon's socket may still be there.
            let output = self.lith(&["version", "--json"]);
            let version = serde_json::from_str::<Value>(&output.stdout).unwrap_or_default();
            let is_answer = version.to_string().contains(&format!("\"pid\":{}", child.id()));
            if is_answer { Ok(()) } else { Err(output) }
        });
        self.daemon = Some(child);
        self.is_down = false;
    }

    fn log_path(&self) -> PathBuf {
        self.path("up.log")
    }

    /// What the daemon has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs a command of a person to its end.
    pub fn lith<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.host.finish(self.lith_command(arguments), b"")
    }

    /// The same with this on its standard input.
    pub fn lith_with_input<S: AsRef<OsStr>>(&self, arguments: &[S], stdin: &[u8]) -> Output {
        self.host.finish(self.lith_command(arguments), stdin)
    }

    /// Starts a command of a person, to be looked at while it runs.
    pub fn lith_running<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        self.host.start(self.lith_command(arguments))
    }

    /// Takes in a test image.
    pub fn load(&self, image: &str) {
        let path = assets::image(image);
        let _ = self.lith(&[OsStr::new("image"), OsStr::new("load"), path.as_os_str()]).ok();
    }

    /// Takes in a test image under a name that people use.
    pub fn load_as(&self, image: &str, name: &str) {
        let path = assets::image(image);
        let words =
            [OsStr::new("image"), "load".as_ref(), "--name".as_ref(), name.as_ref(), path.as_os_str()];
        let _ = self.lith(&words).ok();
    }

    /// Asks the API itself, as other programs do: `line` is method and path. Status and body of the answer.
    #[must_use]
    pub fn ask(&self, line: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: lith\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        let mut answer = String::new();
        let mut stream = UnixStream::connect(self.run_dir().join("lith.sock")).expect("lith listens");
        stream.write_all(request.as_bytes()).expect("lith reads");
        stream.read_to_string(&mut answer).expect("lith answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }

    /// Deploys a job in its wire form without waiting for its tasks; the plan.
    pub fn put(&self, job: &Value) -> Value {
        let name = job["name"].as_str().expect("a job has a name");
        let (status, plan) = self.ask(&format!("PUT /v1/jobs/{name}"), job);
        assert_eq!(status, 200, "{plan}");
        plan
    }

    /// Deploys a job file, whatever comes of it.
    pub fn deploy(&self, job: &str) -> Output {
        self.lith_with_input(&["deploy", "-"], job.as_bytes())
    }

    /// Deploys a job file without waiting for the tasks.
    pub fn deploy_unwaited(&self, job: &str) {
        let _ = self.lith_with_input(&["deploy", "--no-wait", "-"], job.as_bytes()).ok();
    }

    /// Every task of a job, as `lith ps --json` shows it.
    #[must_use]
    pub fn tasks(&self, job: &str) -> Vec<Value> {
        match self.lith(&["ps", "--json", job]).json() {
            Value::Array(tasks) => tasks,
            other => panic!("`lith ps --json` is no list: {other}"),
        }
    }

    /// The only task of a job.
    #[must_use]
    pub fn task(&self, job: &str) -> Value {
        let mut tasks = self.tasks(job);
        assert_eq!(tasks.len(), 1, "{tasks:?}");
        tasks.remove(0)
    }

    /// Waits until the only task of a job is as it should be, and returns it.
    pub fn await_task(&self, job: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("job {job} to be {what}"), || {
            let task = self.task(job);
            if is_so(&task) { Ok(task) } else { Err(task) }
        })
    }

    /// The supervisor of a task, named `job.group.index.task`.
    #[must_use]
    pub fn shim(&self, task: &str) -> Option<Pid> {
        let config = self.data_dir.join("node/tasks").join(task).join("shim.json");
        let shims = processes::with_argument(&config.to_string_lossy());
        assert!(shims.len() <= 1, "task {task} has several supervisors: {shims:?}");
        shims.first().copied()
    }

    /// The machine of a task.
    #[must_use]
    pub fn vmm(&self, task: &str) -> Option<Pid> {
        processes::children(self.shim(task)?).first().copied()
    }

    /// The daemon.
    #[must_use]
    pub fn daemon(&self) -> Option<Pid> {
        self.daemon.as_ref().map(|child| Pid(child.id()))
    }

    /// `kill -9` of the daemon.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.kill().and_then(|()| daemon.wait()).expect("it is our child");
    }

    /// Ends every process of lith, and empties the folder that a reboot empties: all that a power cut leaves.
    pub fn cut_power(&mut self) {
        self.kill_daemon();
        eventually("every process to end", || {
            let processes = self.processes();
            processes.iter().for_each(|pid| pid.kill());
            if processes.is_empty() { Ok(()) } else { Err(format!("{processes:?}")) }
        });
        std::fs::remove_dir_all(self.run_dir()).expect("it is there");
    }

    /// `lith down --purge`, after which nothing may be left.
    pub fn down_purge(&mut self) {
        let _ = self.lith(&["down", "--purge", "--yes"]).ok();
        if let Some(mut daemon) = self.daemon.take() {
            let status = eventually("the end of `lith up`", || {
                daemon.try_wait().expect("it is our child").ok_or_else(|| self.log())
            });
            assert!(status.success(), "`lith up` ended with {status}:\n{}", self.log());
        }
        self.is_down = true;
    }

    /// The daemon has ended by itself or was asked to.
    pub fn await_daemon_end(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        eventually("the end of `lith up`", || {
            daemon.try_wait().expect("it is our child").map(drop).ok_or_else(|| self.log())
        });
    }

    /// Every living process of lith in this world.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        processes::of_world(self.folder.path())
    }

    /// What there is of lith in this world, a line each; nothing after `lith down --purge`.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let folders = [self.data_dir.as_path(), &self.run_dir()];
        leftovers::list(self.folder.path(), &folders, &self.host)
    }

    /// A text in which the paths of this world are replaced by names, for comparison.
    #[must_use]
    pub fn plain(&self, text: &str) -> String {
        text.replace(&*self.data_dir.to_string_lossy(), "DATA")
            .replace(&*self.run_dir().to_string_lossy(), "RUN")
            .replace(&*self.folder.path().to_string_lossy(), "WORLD")
    }

    /// What a person should know who looks for the cause of a failed test.
    fn show_log(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        let text = format!("--- the end of the log of `lith up`\n{}\n---\n", shown.join("\n"));
        // Standard error is where a failed test speaks.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn end(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        if !self.is_down {
            let output = self.lith(&["down", "--purge", "--yes"]);
            if output.code != 0 {
                left.push(output.to_string());
            }
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        left.extend(self.leftovers());
        left
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let is_failed = std::thread::panicking();
        if is_failed {
            self.show_log();
        }
        let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.end()));
        match left {
            Ok(left) if left.is_empty() || is_failed => {}
            Ok(left) => panic!("lith left behind:\n{}", left.join("\n")),
            Err(_) if is_failed => {}
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
