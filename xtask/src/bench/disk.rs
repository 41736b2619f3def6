//! A volume with checkpoints against a plain file served by `qemu-storage-daemon`: the same front end (the crate
//! `virtio-driver`, in `blk_bench` of crates/volume), the same file system, alternating. Owns the two servers' lives.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Figure, Outcome, build_release, median, processes, sqlite};
use crate::{images, process, target_dir};

/// Where they speak: paths of sockets are short.
const RUN_DIR: &str = "/run/lith-bench-disk";
/// The size at which the ratios are measured.
const FILE_BYTES: u64 = 1 << 30;
/// One measurement of one workload.
const SECONDS: &str = "4";
/// Measurements of each side; the middle one counts.
const ROUNDS: usize = 3;
/// What a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

const WORKLOADS: [(&str, &str); 4] = [
    ("commit-8k", "disk.flush8k_ratio"),
    ("write-4k-q32", "disk.rand4k_ratio"),
    ("write-1m-q4", "disk.seq1m_ratio"),
    ("read-4k-q32", "disk.read4k_ratio"),
];

pub(super) fn prepare(root: &Path) -> Result<()> {
    build_release(root, &["-p", "lith-node", "--bin", "lith"])?;
    build_release(root, &["-p", "lith-volume", "--example", "blk_bench"])?;
    sqlite::prepare(root)
}

/// A server, killed with this.
struct Server {
    child: Child,
    socket: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

struct Bench {
    lith: PathBuf,
    tool: PathBuf,
    folder: PathBuf,
    run: PathBuf,
}

pub(super) fn measure(root: &Path) -> Result<Outcome> {
    if process::find("qemu-storage-daemon").is_none() {
        return Ok(Outcome::Skipped("qemu-storage-daemon (Debian: qemu-system-common)".to_owned()));
    }
    let bench = Bench {
        lith: target_dir(root).join("release/lith"),
        tool: target_dir(root).join("release/examples/blk_bench"),
        folder: target_dir(root).join("bench-disk"),
        run: PathBuf::from(RUN_DIR),
    };
    images::remove_tree(&bench.folder)?;
    images::remove_tree(&bench.run)?;
    for folder in [&bench.folder, &bench.run] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut figures = bench.ratios()?;
    figures.extend(bench.cost()?);
    figures.push(sqlite::measure(root)?);
    images::remove_tree(&bench.folder)?;
    images::remove_tree(&bench.run)?;
    Ok(Outcome::Measured(figures))
}

impl Bench {
    fn ratios(&self) -> Result<Vec<Figure>> {
        let peer_file = self.folder.join("peer.img");
        fill(&peer_file, FILE_BYTES)?;
        let volume = self.volume("ratios", FILE_BYTES)?;
        let ours = self.serve_volume(&volume, "ours")?;
        let peer = self.serve_peer(&peer_file)?;
        let mut figures = Vec::new();
        // Before anything else has been written: every block is as it was at the base.
        let cold = self.rate(&ours, "commit-8k")? / self.rate(&peer, "commit-8k")?;
        figures.push(Figure { name: "disk.cold_flush8k_ratio", value: cold });
        // What a day's work leaves: blocks that have been written since the base. The peer's are written as well.
        for side in [&ours, &peer] {
            self.rate(side, "write-1m-q4")?;
        }
        for (workload, name) in WORKLOADS {
            let (mut of_ours, mut of_peer) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                of_ours.push(self.rate(&ours, workload)?);
                of_peer.push(self.rate(&peer, workload)?);
            }
            let (ours, peer) = (median(of_ours), median(of_peer));
            println!("{workload}: {ours:.0} against {peer:.0} requests a second");
            figures.push(Figure { name, value: ours / peer });
        }
        Ok(figures)
    }

    /// Memory, pauses and bytes written.
    fn cost(&self) -> Result<Vec<Figure>> {
        let large = self.volume("large", 100 << 30)?;
        let server = self.serve_volume(&large, "large")?;
        for workload in ["write-4k-q32", "commit-8k"] {
            self.rate(&server, workload)?;
        }
        let rss = processes::rss_mb(server.child.id())?;
        drop(server);
        let ten = self.volume("ten", 10 << 30)?;
        let server = self.serve_volume(&ten, "ten")?;
        for workload in ["write-4k-q32", "write-1m-q4", "write-4k-q32"] {
            self.rate(&server, workload)?;
        }
        let pause_us = self.status(&server)?["cut_pause_us_max"].as_f64().context("no pauses are told")?;
        drop(server);
        let (cold, amplification) = self.amplification()?;
        Ok(vec![
            Figure { name: "disk.rss_mb", value: rss },
            Figure { name: "disk.cut_pause_ms_p99", value: pause_us / 1000.0 },
            Figure { name: "disk.write_amplification", value: amplification },
            Figure { name: "disk.cold_write_amplification", value: cold },
        ])
    }

    /// On blocks that have not changed since the base, and on blocks that have.
    fn amplification(&self) -> Result<(f64, f64)> {
        let volume = self.volume("amplification", FILE_BYTES)?;
        let server = self.serve_volume(&volume, "amplification")?;
        let cold = self.amplification_of(&server)?;
        self.rate(&server, "write-1m-q4")?;
        self.until_clean(&server)?;
        Ok((cold, self.amplification_of(&server)?))
    }

    fn amplification_of(&self, server: &Server) -> Result<f64> {
        let seconds: f64 = SECONDS.parse().context("a number")?;
        // The kernel counts a page that is written when it gets dirty: none may be from before.
        process::output(&mut Command::new("sync"))?;
        let before = written(server.child.id())?;
        let rate = self.rate(server, "write-4k-q32")?;
        // The last checkpoint is a part of it.
        self.until_clean(server)?;
        let guest = rate * seconds * 4096.0;
        Ok((written(server.child.id())? - before) / guest)
    }

    fn until_clean(&self, server: &Server) -> Result<()> {
        self.until("the last checkpoint", || {
            let status = self.status(server)?;
            Ok((status["dirty_bytes"].as_u64() == Some(0)).then_some(()))
        })
    }

    /// A folder with a disk that has been written once.
    fn volume(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        std::fs::create_dir_all(&folder).context("cannot create a volume")?;
        fill(&folder.join("disk.img"), bytes)?;
        Ok(folder)
    }

    fn serve_volume(&self, folder: &Path, name: &str) -> Result<Server> {
        let socket = self.run.join(format!("{name}.sock"));
        let mut command = Command::new(&self.tool);
        command.arg("disks").arg(&self.lith).arg(folder).arg(&socket);
        self.serve(command, socket)
    }

    fn serve_peer(&self, file: &Path) -> Result<Server> {
        let socket = self.run.join("peer.sock");
        let mut command = Command::new("qemu-storage-daemon");
        command.arg("--blockdev").arg(format!("driver=file,node-name=file,filename={}", file.display()));
        command.args(["--blockdev", "driver=raw,node-name=disk,file=file", "--export"]);
        let address = format!("addr.type=unix,addr.path={}", socket.display());
        command.arg(format!("type=vhost-user-blk,id=export,{address},node-name=disk,writable=on"));
        self.serve(command, socket)
    }

    fn serve(&self, mut command: Command, socket: PathBuf) -> Result<Server> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.with_context(|| format!("cannot start {command:?}"))?;
        let server = Server { child, socket };
        self.until("a server to listen", || Ok(server.socket.exists().then_some(())))?;
        Ok(server)
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let start = Instant::now();
        while start.elapsed() < START_TIMEOUT {
            if let Some(found) = look()? {
                return Ok(found);
            }
            std::thread::sleep(POLL);
        }
        bail!("waited {} s in vain for {what}", START_TIMEOUT.as_secs())
    }

    /// Requests a second.
    fn rate(&self, server: &Server, workload: &str) -> Result<f64> {
        let mut command = Command::new(&self.tool);
        command.arg("measure").arg(&server.socket).arg(SECONDS).arg(workload);
        let output = process::output(&mut command)?;
        let text = String::from_utf8_lossy(&output);
        let rate = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
        rate.with_context(|| format!("no rate in {text:?}"))
    }

    fn status(&self, server: &Server) -> Result<Value> {
        let output = process::output(Command::new(&self.tool).arg("status").arg(&server.socket))?;
        let mut status: Value = serde_json::from_slice(&output).context("the status is no JSON")?;
        Ok(status["volumes"][0].take())
    }
}

/// Writes a file once: 1 GiB of it that does not get smaller by packing, and a hole behind.
fn fill(path: &Path, bytes: u64) -> Result<()> {
    let file = format!("of={}", path.display());
    let count = format!("count={}", FILE_BYTES >> 20);
    process::output(Command::new("dd").args([
        "if=/dev/urandom",
        "bs=1M",
        &count,
        "conv=fsync",
        "status=none",
        &file,
    ]))?;
    let file = std::fs::OpenOptions::new().write(true).open(path).context("cannot open a disk")?;
    file.set_len(bytes).context("cannot enlarge a disk")
}

/// Bytes that a process has had written so far (proc(5), `write_bytes`).
fn written(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/io");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix("write_bytes:"));
    value.and_then(|value| value.trim().parse().ok()).with_context(|| format!("{path} has no write_bytes"))
}
