//! Databases under write load on volumes, while machines, the processes that serve their disks, and the daemon are killed at
//! random moments: nothing that was committed is missing, and checkpoints hold databases that are whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lith_testkit::{World, eventually};
use serde_json::{Value, json};

/// How often something is killed.
const KILLS: usize = 30;
/// Commits that are waited for between two kills.
const COMMITS: u64 = 20;

/// Commits numbers one after the other, and says so when each is committed. At its start it says what it found.
const SQLITE: &str = r#"
import sqlite3
db = sqlite3.connect('/data/db.sqlite', isolation_level=None)
db.execute('pragma journal_mode = wal')
db.execute('pragma synchronous = full')
check = db.execute('pragma integrity_check').fetchone()[0]
db.execute('create table if not exists t (n integer primary key, pad blob)')
last, count = db.execute('select coalesce(max(n), 0), count(*) from t').fetchone()
print('found', check, last, count, flush=True)
while True:
    last += 1
    db.execute('insert into t values (?, randomblob(3000))', (last,))
    print('committed', last, flush=True)
"#;

/// Writes each number to the one volume, and then to the other.
const PAIR: &str = r#"
import os
def put(path, number):
    with open(path + '.new', 'w') as file:
        file.write(str(number))
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + '.new', path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
number = 0
while True:
    number += 1
    put('/first/number', number)
    put('/second/number', number)
    print('committed', number, flush=True)
"#;

fn task(script: &str, volumes: &[&str]) -> Value {
    json!({
        "image": "python:1",
        "entrypoint": ["python3", "-c", script],
        "user": "root",
        "volumes": volumes,
        "memory_bytes": 192 << 20,
        "cpu_millis": 1000,
        "restart": "always",
        "stop_grace_ms": 1000,
    })
}

fn job(name: &str, script: &str, volumes: &[&str]) -> Value {
    let names = volumes.iter().map(|volume| volume.split(':').next().unwrap());
    let declared: BTreeMap<&str, Value> =
        names.map(|name| (name, json!({ "size_bytes": 256 << 20 }))).collect();
    json!({
        "name": name,
        "volumes": declared,
        "groups": { "main": { "count": 1, "tasks": { "app": task(script, volumes) } } },
    })
}

/// What a task has said: the last number committed before each `found`, and what was found.
fn said(world: &World, job: &str) -> Vec<(Option<u64>, String)> {
    // The node may not know the task yet, and the daemon may be starting: then nothing has been said.
    let log = world.lith(&["logs", job]).stdout;
    log.lines()
        .filter_map(|line| match line.split_once(' ') {
            // A word that was cut off in the middle says nothing.
            Some(("committed", number)) => Some((Some(number.parse().ok()?), String::new())),
            Some(("found", found)) if found.split(' ').count() == 3 => Some((None, found.to_owned())),
            _ => None,
        })
        .collect()
}

fn committed(world: &World, job: &str) -> u64 {
    said(world, job).iter().filter_map(|(number, _)| *number).max().unwrap_or(0)
}

fn await_commits(world: &World, job: &str, more_than: u64) -> u64 {
    eventually(&format!("{job} to commit more than {more_than}"), || {
        let number = committed(world, job);
        if number > more_than { Ok(number) } else { Err(format!("{number}, {:?}", world.tasks(job))) }
    })
}

/// Each time a database was opened, all that was committed before was there.
fn nothing_is_missing(world: &World, job: &str) {
    let mut last = 0;
    for (number, found) in said(world, job) {
        if let Some(number) = number {
            last = number;
            continue;
        }
        let parts: Vec<&str> = found.split(' ').collect();
        assert_eq!(parts[0], "ok", "the database is damaged: {found}");
        let (newest, count): (u64, u64) = (parts[1].parse().unwrap(), parts[2].parse().unwrap());
        assert!(newest >= last, "{last} was committed, and {newest} is the newest one there");
        assert_eq!(newest, count, "one in the middle is missing");
    }
}

/// A xorshift generator: which is killed follows from the round alone.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Ends what serves the disks.
fn kill_disks(world: &World) {
    let serves = |pid: &lith_testkit::Pid| pid.arguments().get(1).is_some_and(|one| one == "disks");
    world.processes().into_iter().filter(serves).for_each(lith_testkit::Pid::kill);
}

fn kill_something(world: &mut World, state: &mut u64) -> &'static str {
    match random(state) % 3 {
        0 => {
            if let Some(vmm) = world.vmm("sqlite.main.0.app") {
                vmm.kill();
            }
            "the machine"
        }
        1 => {
            kill_disks(world);
            "what serves its disk"
        }
        _ => {
            world.kill_daemon();
            world.up();
            kill_disks(world);
            "the daemon, and what serves its disk"
        }
    }
}

#[test]
fn sqlite_keeps_what_it_has_committed() {
    let mut world = World::start(&["python"]);
    world.put(&job("sqlite", SQLITE, &["data:/data"]));
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut number = await_commits(&world, "sqlite", COMMITS);
    for round in 0..KILLS {
        let what = kill_something(&mut world, &mut state);
        // What fails again and again is started after longer and longer times; a person who asks has it at once.
        let _ = world.lith(&["restart", "sqlite"]).ok();
        number = await_commits(&world, "sqlite", number + random(&mut state) % COMMITS);
        println!("round {round}: killed {what}, committed {number}");
    }
    nothing_is_missing(&world, "sqlite");
    checkpoints_are_whole(&world);
}

/// The database as of some checkpoints, looked at on the host.
fn checkpoints_are_whole(world: &World) {
    let checkpoints = world.lith(&["volume", "checkpoints", "sqlite.data", "--json"]).ok().json();
    let all: Vec<u64> = checkpoints
        .as_array()
        .unwrap()
        .iter()
        .map(|checkpoint| checkpoint["seq"].as_u64().unwrap())
        .collect();
    let mut newest = 0;
    let mut sampled = 0;
    let mut in_order = all.clone();
    in_order.sort_unstable();
    for seq in in_order.iter().step_by(in_order.len().div_ceil(12)) {
        let folder = world.path(&format!("at-{seq}"));
        let at = ["--checkpoint", &seq.to_string()].map(str::to_owned);
        let mut arguments = vec!["volume".to_owned(), "cp".to_owned(), "sqlite.data:/".to_owned()];
        arguments.push(folder.to_str().unwrap().to_owned());
        arguments.extend(at);
        let copied = world.lith(&arguments);
        if copied.code != 0 {
            // Before its task had started for the first time there was no folder of it.
            assert_eq!(sampled, 0, "{copied}");
            continue;
        }
        let Some(database) = find(&folder, "db.sqlite") else { continue };
        let last = open(&database);
        assert!(last >= newest, "checkpoint {seq} has {last}, and one before has {newest}");
        (newest, sampled) = (last, sampled + 1);
    }
    assert!(sampled >= 5, "only {sampled} of {} checkpoints had a database", all.len());
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    entries
        .map(|entry| entry.path())
        .find_map(|path| if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) })
}

/// The newest number of a database that is whole.
fn open(path: &Path) -> u64 {
    let database = rusqlite::Connection::open(path).unwrap();
    let check: String = database.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let query = "select coalesce(max(n), 0), count(*) from t";
    let counted = database.query_row(query, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
    // Before the first commit there is no table.
    let (newest, count) = counted.unwrap_or((0, 0));
    assert_eq!(newest, count, "one in the middle is missing");
    u64::try_from(newest).unwrap()
}

#[test]
fn volumes_of_one_instance_are_cut_at_one_instant() {
    let world = World::start(&["python"]);
    world.put(&job("pair", PAIR, &["first:/first", "second:/second"]));
    let _ = await_commits(&world, "pair", 300);
    let checkpoints = world.lith(&["volume", "checkpoints", "pair.first", "--json"]).ok().json();
    let times: Vec<u64> = checkpoints
        .as_array()
        .unwrap()
        .iter()
        .map(|checkpoint| checkpoint["time_ms"].as_u64().unwrap())
        .collect();
    let mut compared = 0;
    for time_ms in times {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(time_ms).unwrap()).unwrap().to_string();
        let number = |volume: &str| {
            let path = format!("pair.{volume}:/number");
            let answer = world.lith(&["volume", "cat", &path, "--at", &at]);
            (answer.code == 0).then(|| answer.stdout.trim().parse::<u64>().unwrap())
        };
        if let (Some(first), Some(second)) = (number("first"), number("second")) {
            assert!(
                second <= first,
                "at {time_ms} the second write ({second}) is there without the first ({first})"
            );
            assert!(first <= second + 1, "at {time_ms}: {first} and {second} were never together");
            compared += 1;
        }
    }
    assert!(compared >= 3, "only {compared} checkpoints were compared");
}
