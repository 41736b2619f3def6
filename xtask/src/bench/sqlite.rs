//! Commits of a database in a guest: on a volume with checkpoints, and on the guest's scratch disk, which is a raw file on
//! plain virtio-blk (and below an overlay, which hands a commit on as it is). Both have the same file system on the same
//! file system of the host, and take turns within one boot.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::instance::{self, Instance};
use super::{Figure, median};

/// Prints a line for each turn: commits a second on the volume, and on the scratch disk.
const SCRIPT: &str = r"
import os, sqlite3, time
def rate(path):
    for name in (path, path + '-wal', path + '-shm'):
        if os.path.exists(name):
            os.remove(name)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute('pragma journal_mode = wal')
    db.execute('pragma synchronous = full')
    db.execute('create table t (n integer primary key, pad blob)')
    count, start = 0, time.monotonic()
    while time.monotonic() - start < SECONDS:
        db.execute('insert into t (pad) values (randomblob(3000))')
        count += 1
    spent = time.monotonic() - start
    db.close()
    return count / spent
os.makedirs('/var/tmp/peer', exist_ok=True)
# The first turn of each finds caches empty.
for path in ('/data/db', '/var/tmp/peer/db'):
    rate(path)
for turn in range(TURNS):
    ours, peer = rate('/data/db'), rate('/var/tmp/peer/db')
    print('turn', ours, peer, flush=True)
print('done', flush=True)
time.sleep(1000000)
";
/// Turns of each side; the middle one counts.
const TURNS: usize = 7;
/// How long a turn is.
const SECONDS: usize = 4;
/// What all turns may take, with the boot.
const DEADLINE: Duration = Duration::from_secs(300);

pub(super) fn prepare(root: &Path) -> Result<()> {
    instance::prepare(root)?;
    super::image_archive(root, "python").map(drop)
}

pub(super) fn measure(root: &Path) -> Result<Figure> {
    let instance = Instance::start(root)?;
    let archive = super::image_archive(root, "python")?;
    let archive = archive.to_str().context("the path of the image is not UTF-8")?;
    instance.lith(&["image", "load", archive, "--name", "python:1"])?;
    let job = job();
    let path = instance.file("sqlite.json");
    std::fs::write(&path, job.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    let path = path.to_str().context("the path of the job is not UTF-8")?;
    instance.lith(&["deploy", path])?;
    let turns = turns(&instance)?;
    let (ours, peer): (Vec<f64>, Vec<f64>) = turns.into_iter().unzip();
    let (ours, peer) = (median(ours), median(peer));
    println!("sqlite: {ours:.0} against {peer:.0} commits a second");
    Ok(Figure { name: "disk.sqlite_ratio", value: ours / peer })
}

/// YAML is a superset of JSON.
fn job() -> serde_json::Value {
    let script = SCRIPT.replace("SECONDS", &SECONDS.to_string()).replace("TURNS", &TURNS.to_string());
    serde_json::json!({
        "job": "sqlite",
        "volumes": { "data": { "size": "1G" } },
        "tasks": { "db": {
            "image": "python:1",
            "entrypoint": ["python3", "-c", script],
            "user": "root",
            "memory": "256M",
            "volumes": ["data:/data"],
        } },
    })
}

fn turns(instance: &Instance) -> Result<Vec<(f64, f64)>> {
    let start = Instant::now();
    loop {
        let log = String::from_utf8_lossy(&instance.lith(&["logs", "sqlite"])?).into_owned();
        if log.lines().any(|line| line == "done") {
            let turns = log.lines().filter_map(|line| line.strip_prefix("turn ")).filter_map(|line| {
                let (ours, peer) = line.split_once(' ')?;
                Some((ours.parse().ok()?, peer.parse().ok()?))
            });
            let turns: Vec<(f64, f64)> = turns.collect();
            if turns.len() != TURNS {
                bail!("the guest told of {} turns:\n{log}", turns.len());
            }
            return Ok(turns);
        }
        if start.elapsed() > DEADLINE {
            bail!("the guest has not ended within {} s:\n{log}", DEADLINE.as_secs());
        }
        // Not so often that asking shows in what is measured.
        std::thread::sleep(Duration::from_secs(2));
    }
}
