//! Databases that are taken back, while they are written to, to checkpoints that were cut while they were written to: each is
//! whole, has all that was committed before the cut, and nothing that was begun after it.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use lith_testkit::{World, eventually};

use crate::load::{Load, POSTGRES, SQLITE, checkpoints, newest_committed, sampled};
use crate::volumes::check;

/// Commits that are waited for between two points.
const COMMITS: u64 = 10;
/// Checkpoints that are looked at by `e2fsck`.
const CHECKED: usize = 6;

/// An instant that a database can be taken back to.
#[derive(Debug)]
struct Point {
    /// Its words for the command line.
    words: [String; 2],
    /// What had been committed before the cut.
    committed: u64,
    /// What was committed some time after it.
    later: u64,
}

/// How a person names it.
#[derive(Debug, Clone, Copy)]
enum Way {
    Snapshot,
    Number,
    Time,
}

impl Point {
    fn expect(&self, newest: u64) {
        assert!(
            newest >= self.committed,
            "{newest} is the newest one, of what was committed before: {self:?}"
        );
        // The one after it may have been begun.
        assert!(newest <= self.later + 1, "{newest} is the newest one, which was begun after: {self:?}");
    }
}

#[test]
fn sqlite_goes_back_to_checkpoints() {
    goes_back(SQLITE);
}

#[test]
fn postgres_goes_back_to_checkpoints() {
    goes_back(POSTGRES);
}

fn goes_back(load: Load) {
    let world = World::start(&[load.image]);
    world.put(&load.spec());
    let volume = format!("{}.data", load.job);
    let mut number = load.await_commits(&world, COMMITS);
    let mut points = Vec::new();
    for way in [Way::Snapshot, Way::Number, Way::Time, Way::Snapshot] {
        let committed = newest_committed(&load.said(&world));
        let words = cut(&world, &volume, way);
        points.push(Point { words, committed, later: load.newest(&world) });
        number = load.await_commits(&world, number + COMMITS);
    }
    // Not in their order: some lie before what was restored, and some in what was replaced.
    for which in [2, 0, 3, 1] {
        restore(&world, load, &volume, &points[which]);
    }
    clone_runs(&world, load, &volume, &points[2]);
    file_systems_are_clean(&world, &volume);
}

/// Has a checkpoint cut, or waits for the next one; its words for the command line.
fn cut(world: &World, volume: &str, way: Way) -> [String; 2] {
    let words = |option: &str, which: &str| [option, which].map(str::to_owned);
    let next = || {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis();
        eventually("another checkpoint", || {
            let all = checkpoints(world, volume);
            let later = all.iter().find(|checkpoint| u128::from(checkpoint.time_ms) > now_ms);
            later.copied().ok_or_else(|| format!("{all:?}"))
        })
    };
    match way {
        Way::Snapshot => {
            let name = format!("behind-{}", checkpoints(world, volume).len());
            let _ = world.lith(&["volume", "snapshot", volume, "--name", &name]).ok();
            words("--snapshot", &name)
        }
        Way::Number => words("--checkpoint", &next().seq.to_string()),
        Way::Time => {
            let time_ms = i64::try_from(next().time_ms).expect("it is in this age");
            let time = jiff::Timestamp::from_millisecond(time_ms).expect("it is in this age");
            words("--at", &time.to_string())
        }
    }
}

/// Takes the volume back while its task runs.
fn restore(world: &World, load: Load, volume: &str, point: &Point) {
    let [option, which] = &point.words;
    let times = load.openings(world) + 1;
    let _ = world.lith(&["volume", "restore", volume, option, which, "--yes"]).ok();
    let newest = load.await_found(world, times);
    point.expect(newest);
    println!("{} at {point:?}: {newest}", load.job);
}

/// What another volume starts with.
fn clone_runs(world: &World, load: Load, volume: &str, point: &Point) {
    let [option, which] = &point.words;
    let copy = load.named("copy", "copy.main.0.app");
    let _ = world.lith(&["volume", "clone", volume, "copy.data", option, which]).ok();
    world.put(&copy.spec());
    let newest = copy.await_found(world, 1);
    point.expect(newest);
}

/// As of some checkpoints, a disk is what a power cut leaves: once its journal is replayed, nothing is wrong with it.
fn file_systems_are_clean(world: &World, volume: &str) {
    let all = checkpoints(world, volume);
    let last = all.last().into_iter();
    for checkpoint in sampled(&all, CHECKED).chain(last) {
        let clone = format!("disk.at-{}", checkpoint.seq);
        let _ = world
            .lith(&["volume", "clone", volume, &clone, "--checkpoint", &checkpoint.seq.to_string()])
            .ok();
        let disk = world.data_dir.join(format!("volumes/{clone}.0/disk.img"));
        is_clean(&disk);
        let _ = world.lith(&["volume", "rm", "--now", "--yes", &clone]).ok();
    }
}

/// What `e2fsck` says of a disk that has lost power, and nothing is wrong with: the journal is replayed, files that were open
/// without a name go, and the sums in the superblock, which the kernel writes when it has time, are made up.
const ORDINARY: [&str; 7] = [
    "volume: recovering journal",
    "Pass ",
    "Clearing orphaned inode ",
    "Free blocks count wrong (",
    "Free inodes count wrong (",
    "Fix? yes",
    "volume: ***** FILE SYSTEM WAS MODIFIED *****",
];

fn is_clean(disk: &Path) {
    let output = Command::new("e2fsck").arg("-fy").arg(disk).output().expect("it is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let is_ordinary = |line: &str| ORDINARY.iter().any(|start| line.starts_with(start));
    let is_sum = |line: &str| line.starts_with("volume: ") && line.ends_with(" blocks");
    let odd: Vec<&str> =
        text.lines().filter(|line| !line.is_empty() && !is_ordinary(line) && !is_sum(line)).collect();
    assert!(odd.is_empty(), "{odd:?} in:\n{text}");
    check(&["-fn"], disk);
}
