//! The same image under Docker, from Debian's `docker.io`, with a daemon of its own in folders of its own: what lith is
//! measured against. An installed daemon is not touched: this one has also its network, its mounts and its `/run`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Figure, Outcome, image_archive, instance, median};
use crate::{images, process, target_dir};

/// Odd, so that there is a middle one.
const RUNS: usize = 5;
/// dockerd starts containerd before it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What dockerd gets to end its containers and its containerd.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// Builds the image.
pub(super) fn prepare(root: &Path) -> Result<()> {
    image_archive(root, "hello").map(drop)
}

pub(super) fn measure(root: &Path) -> Result<Outcome> {
    for program in ["dockerd", "docker", "skopeo"] {
        if process::find(program).is_none() {
            return Ok(Outcome::Skipped(format!(
                "{program} is not installed; to compare: apt-get install docker.io skopeo"
            )));
        }
    }
    let daemon = Daemon::start(&target_dir(root).join("bench-docker"))?;
    daemon.load_hello(&image_archive(root, "hello")?)?;
    let (mut runs, mut stacks) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        runs.push(daemon.run_hello()?);
    }
    daemon.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"])?;
    for _ in 0..RUNS {
        stacks.push(daemon.stack_hello()?);
    }
    Ok(Outcome::Measured(vec![
        Figure { name: "deploy.docker_s", value: median(runs) },
        Figure { name: "deploy.swarm_s", value: median(stacks) },
    ]))
}

struct Daemon {
    folder: PathBuf,
    child: Child,
}

impl Daemon {
    fn start(folder: &Path) -> Result<Self> {
        images::remove_tree(folder)?;
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let log = std::fs::File::create(folder.join("log")).context("cannot create the log of dockerd")?;
        let mut command = Command::new("dockerd");
        for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(option).arg(folder.join(name));
        }
        command.arg("--host").arg(format!("unix://{}", folder.join("socket").display()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let mut daemon = Self { folder: folder.to_path_buf(), child: child.context("cannot start dockerd")? };
        let deadline = Instant::now() + START_TIMEOUT;
        while daemon.docker(&["info"]).is_err() {
            let has_ended = daemon.child.try_wait().context("cannot wait for dockerd")?.is_some();
            if has_ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(daemon.folder.join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                bail!("dockerd does not run here: {}", tail.join("; "));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(daemon)
    }

    fn docker(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        process::output(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let host = format!("unix://{}", self.folder.join("socket").display());
        let mut command = Command::new("docker");
        command.args(arguments).env("DOCKER_HOST", host);
        command
    }

    fn load_hello(&self, archive: &Path) -> Result<()> {
        // This Docker reads its own kind of archive only.
        let converted = self.folder.join("hello.tar");
        let mut skopeo = Command::new("skopeo");
        skopeo
            .args(["copy", "--quiet", "--insecure-policy"])
            .arg(format!("oci-archive:{}:hello:1", archive.display()));
        process::output(skopeo.arg(format!("docker-archive:{}:hello:1", converted.display())))?;
        self.docker(&["load", "--input", converted.to_str().context("a path that is not UTF-8")?]).map(drop)
    }

    fn run_hello(&self) -> Result<f64> {
        let port = instance::free_port()?;
        let seconds = self.serve(
            &["run", "--detach", "--name", "bench", "--publish", &format!("{port}:80"), "hello:1"],
            port,
        );
        self.docker(&["rm", "--force", "bench"])?;
        seconds
    }

    fn stack_hello(&self) -> Result<f64> {
        let port = instance::free_port()?;
        let file = self.folder.join("stack.yaml");
        let text = format!(
            "version: \"3.8\"\nservices:\n  web:\n    image: hello:1\n    ports:\n      - {{ target: 80, published: {port}, mode: host }}\n"
        );
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let file = file.to_str().context("a path that is not UTF-8")?;
        let seconds = self
            .serve(&["stack", "deploy", "--resolve-image", "never", "--compose-file", file, "bench"], port);
        self.docker(&["stack", "rm", "bench"])?;
        self.wait_for_empty()?;
        seconds
    }

    /// Seconds from a command to the first answer; looked for while the command runs, as with lith.
    fn serve(&self, arguments: &[&str], port: u16) -> Result<f64> {
        let start = Instant::now();
        let mut command = self.command(arguments);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot start docker")?;
        instance::serving_s(start, &mut child, port)
    }

    /// A stack is removed in the background; the next run must not meet its rest.
    fn wait_for_empty(&self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let is_empty = |arguments: &[&str]| -> Result<bool> { Ok(self.docker(arguments)?.is_empty()) };
        while !is_empty(&["ps", "--all", "--quiet"])?
            || !is_empty(&["network", "ls", "-q", "--filter", "name=bench_"])?
        {
            if Instant::now() > deadline {
                bail!("docker stack rm did not finish within {} s", START_TIMEOUT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // dockerd stops its containers and its containerd on SIGTERM; what it leaves on SIGKILL ends with the world.
        let _ = process::output(Command::new("kill").arg(self.child.id().to_string()));
        instance::end(&mut self.child, END_TIMEOUT);
        // It fails while something is still mounted there: the next run starts by removing it.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
