//! An instance of lith for measuring, with folders of its own: started, spoken to through its command line, and taken
//! down with everything it made, also when a measurement fails.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::build_release;
use super::processes::{self, Process};
use crate::{assets, images, process, target_dir};

/// Where the instance speaks; the folder is of the world of measuring, and goes with it.
const RUN_DIR: &str = "/run/lith-bench";
/// Far more than any start takes, even on a busy machine without virtualization.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// What `lith up` may take to end, or to be ended.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at something that is awaited; below what a person could notice in a figure.
const POLL: Duration = Duration::from_millis(5);

/// A running `lith up`.
pub(super) struct Instance {
    program: PathBuf,
    data: PathBuf,
    run: PathBuf,
    up: Child,
}

impl Instance {
    /// Starts lith and waits until it answers.
    pub(super) fn start(root: &Path) -> Result<Self> {
        let program = target_dir(root).join("release/lith");
        let data = target_dir(root).join("bench-data");
        let run = PathBuf::from(RUN_DIR);
        // What a killed measurement left are control groups and this folder.
        if data.exists() {
            purge(&program, &data, &run);
        }
        images::remove_tree(&data)?;
        for folder in [&data, &run] {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        process::output(Command::new("cp").arg("-al").arg(assets::kernel(root)?).arg(data.join("kernel")))?;
        let log = std::fs::File::create(data.join("up.log")).context("cannot create the log of lith up")?;
        let mut command = Command::new(&program);
        command.arg("up").arg("--data-dir").arg(&data).arg("--run-dir").arg(&run);
        let up = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let up = up.with_context(|| format!("cannot start {}", program.display()))?;
        let instance = Self { program, data, run, up };
        instance.wait_until("lith up to answer", || Ok(instance.lith(&["ps"]).is_ok().then_some(())))?;
        Ok(instance)
    }

    /// The path of a file beside its data.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// The process id of `lith up`.
    pub(super) fn pid(&self) -> u32 {
        self.up.id()
    }

    /// The supervisors of this instance's tasks: each names one of its folders on its command line.
    pub(super) fn shims<'a>(&self, all: &'a [Process]) -> Vec<&'a Process> {
        let folders = [&self.data, &self.run].map(|folder| folder.to_string_lossy().into_owned());
        let is_shim = |process: &&Process| {
            let words = processes::command_line(process.pid);
            words.contains(" shim ") && folders.iter().any(|folder| words.contains(folder))
        };
        all.iter().filter(is_shim).collect()
    }

    /// Runs one command of lith and returns what it printed.
    pub(super) fn lith(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        process::output(Command::new(&self.program).args(arguments).env("LITH_RUN_DIR", &self.run))
    }

    /// Runs one command of lith with `--json`.
    pub(super) fn lith_json(&self, arguments: &[&str]) -> Result<Value> {
        let bytes = self.lith(&[arguments, &["--json"]].concat())?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("lith {} printed no JSON", arguments.join(" ")))
    }

    /// Loads the tiny HTTP image.
    pub(super) fn load_hello(&self, root: &Path) -> Result<()> {
        let archive = super::image_archive(root, "hello")?;
        let archive = archive.to_str().context("the path of the image is not UTF-8")?;
        self.lith(&["image", "load", archive, "--name", "hello:1"]).map(drop)
    }

    /// Writes a job that serves the tiny page on a port of this machine.
    pub(super) fn write_hello_job(&self, port: u16) -> Result<PathBuf> {
        let path = self.data.join("hello.yaml");
        let text = format!(
            "job: hello\ntasks:\n  web:\n    image: hello:1\n    memory: 128M\n    publish: [\"{port}:80\"]\n"
        );
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Deploys the tiny page and waits for it. Returns the seconds from the command to the first answer.
    pub(super) fn deploy_hello(&self, port: u16) -> Result<f64> {
        let job = self.write_hello_job(port)?;
        let start = Instant::now();
        let mut command = Command::new(&self.program);
        command.arg("deploy").arg(job).env("LITH_RUN_DIR", &self.run);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot start lith deploy")?;
        serving_s(start, &mut child, port)
    }

    fn wait_until<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(value) = attempt()? {
                return Ok(value);
            }
            std::thread::sleep(POLL);
        }
        let log = std::fs::read_to_string(self.data.join("up.log")).unwrap_or_default();
        bail!("waited in vain for {what}; its log:\n{log}")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        purge(&self.program, &self.data, &self.run);
        end(&mut self.up, END_TIMEOUT);
        let _ = std::fs::remove_dir_all(&self.data);
        let _ = std::fs::remove_dir_all(&self.run);
    }
}

/// Takes down all that an instance has.
fn purge(program: &Path, data: &Path, run: &Path) {
    let mut down = Command::new(program);
    down.args(["down", "--purge", "--yes", "--data-dir"]).arg(data).arg("--run-dir").arg(run);
    if let Err(error) = process::output(&mut down) {
        println!("warning: {error:#}");
    }
}

/// Waits until a program that was asked to end has done so, and ends it by force after a while.
pub(super) fn end(child: &mut Child, patience: Duration) {
    let deadline = Instant::now() + patience;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
    // Both fail only when it has ended and was waited for.
    let _ = child.kill();
    let _ = child.wait();
}

/// Builds lith, its guest kernel and the image that it serves.
pub(super) fn prepare(root: &Path) -> Result<()> {
    build_release(root, &["--package", "lith-node", "--bin", "lith"])?;
    super::image_archive(root, "hello")?;
    assets::kernel(root).map(drop)
}

/// A port of this machine that nobody uses now.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind a port")?;
    Ok(listener.local_addr().context("a bound port without a number")?.port())
}

/// Seconds from the start to the page, while the command that brings it runs; its end is waited for afterwards.
pub(super) fn serving_s(start: Instant, child: &mut Child, port: u16) -> Result<f64> {
    let answered = wait_for_page(port);
    let seconds = start.elapsed().as_secs_f64();
    let status = child.wait().context("cannot wait for the command")?;
    if !status.success() {
        bail!("the command that brings the page failed with {status}");
    }
    answered?;
    Ok(seconds)
}

/// Asks for the page again and again until it comes.
pub(super) fn wait_for_page(port: u16) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        if get(port)
            .is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200"))
        {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    bail!("port {port} did not serve the page within {} s", START_TIMEOUT.as_secs())
}

fn get(port: u16) -> std::io::Result<Vec<u8>> {
    // Short, because a packet that is sent before the guest listens may be answered by nobody.
    let patience = Duration::from_millis(200);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = vec![0; 512];
    let count = stream.read(&mut answer)?;
    answer.truncate(count);
    Ok(answer)
}
