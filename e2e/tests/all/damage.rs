//! Volumes of which something is missing, full or damaged: a person is told what it is in a sentence, nothing is made anew in
//! its place, and there is a way back.

mod full;
mod history;

use std::path::{Path, PathBuf};

use lith_testkit::{World, eventually};
use serde_json::{Value, json};

const TASK: &str = "notes/app";
const VOLUME: &str = "notes.data";

fn job(name: &str, script: &str) -> Value {
    let task = json!({
        "image": "hello:1",
        "entrypoint": ["sh", "-c", script],
        "volumes": ["data:/srv"],
        "memory_bytes": 96 << 20,
        "cpu_millis": 1000,
        "restart": "always",
        "stop_grace_ms": 1000,
    });
    json!({
        "name": name,
        "volumes": { "data": { "size_bytes": 64 << 20 } },
        "groups": { "main": { "count": 1, "tasks": { "app": task } } },
    })
}

/// Starts job `notes`, whose volume has a note.
fn with_a_note(world: &World) {
    world.put(&job("notes", "exec sleep 1000000"));
    running(world);
    let _ = run(world, "echo kept > /srv/note; sync");
}

fn run(world: &World, line: &str) -> String {
    world.lith(&["exec", TASK, "--", "sh", "-c", line]).ok().stdout
}

fn running(world: &World) {
    world.await_task("notes", "running", |task| task["phase"] == "running");
}

/// Stops job `notes`, and waits until nobody has its disk.
fn stop(world: &World) {
    let _ = world.lith(&["stop", "notes"]).ok();
    eventually("the disk to be let go", || {
        let processes = world.processes();
        let serves = |pid: &&lith_testkit::Pid| pid.arguments().get(1).is_some_and(|word| word == "disks");
        if processes.iter().any(|pid| serves(&pid)) { Err(format!("{processes:?}")) } else { Ok(()) }
    });
}

/// The task does not start, and who wants it to is told why; who looks later, too.
fn does_not_start(world: &World, job: &str, why: &str) {
    let started = world.lith(&["restart", job]);
    assert_eq!(started.code, 1, "{started}");
    assert!(started.stderr.contains(why), "{why}: {started}");
    // It is tried again now and then.
    world.await_task(job, &format!("held up: {why}"), |task| {
        task["phase"] != "running" && task["why"].as_str().is_some_and(|said| said.contains(why))
    });
    eventually("a person to be told", || {
        // In one line, or several.
        let shown = world.lith(&["ps", job]).ok().stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        if shown.contains(why) { Ok(()) } else { Err(shown) }
    });
}

/// A task that could not start is tried again after longer and longer times; a person who asks has it at once.
fn starts_again(world: &World) {
    let _ = world.lith(&["restart", "notes"]).ok();
    running(world);
    assert_eq!(run(world, "cat /srv/note"), "kept\n");
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

#[test]
fn a_pool_that_is_not_what_it_was_is_not_used() {
    let mut world = World::prepare();
    let (pool, elsewhere) = (world.path("bulk"), world.path("unmounted"));
    std::fs::create_dir(&pool).unwrap();
    world.up_with(&["--pool", &format!("bulk={}", pool.display())]);
    world.load("hello");
    with_a_note(&world);
    stop(&world);

    // As if its disk were not mounted.
    std::fs::rename(&pool, &elsewhere).unwrap();
    std::fs::create_dir(&pool).unwrap();
    does_not_start(&world, "notes", "has no .lith-pool: is its disk mounted?");
    let pools = world.lith(&["pool", "ls", "--json"]).ok().stdout;
    assert!(pools.contains("is its disk mounted?"), "{pools}");
    assert_eq!(names(&pool), Vec::<PathBuf>::new(), "nothing is made there");

    // Another disk in its place.
    let marker = json!({ "form": 1, "name": "other", "identity": "00".repeat(16) });
    std::fs::write(pool.join(".lith-pool"), marker.to_string()).unwrap();
    does_not_start(&world, "notes", "is another pool (\"other\")");
    assert_eq!(names(&pool), [pool.join(".lith-pool")], "nothing is made there");

    std::fs::remove_dir_all(&pool).unwrap();
    does_not_start(&world, "notes", "is no folder");
    assert!(!pool.exists(), "nothing is made there");

    std::fs::rename(&elsewhere, &pool).unwrap();
    starts_again(&world);
}

#[test]
fn a_disk_that_is_missing_is_not_made_anew() {
    let world = World::start(&["hello"]);
    with_a_note(&world);
    stop(&world);
    let folder = world.data_dir.join("volumes/notes.data.0");
    let (disk, elsewhere) = (folder.join("disk.img"), world.path("elsewhere.img"));
    std::fs::rename(&disk, &elsewhere).unwrap();
    let before: Vec<PathBuf> = names(&folder).into_iter().filter(|path| !path.ends_with("readers")).collect();

    does_not_start(&world, "notes", "the disk of volume \"notes.data.0\" is missing");
    assert!(!disk.exists(), "it is not made anew");
    let shown = world.lith(&["volume", "ls", "--json"]).ok().stdout;
    assert!(shown.contains("its disk disk.img is missing"), "{shown}");
    let checked = world.lith(&["volume", "check", VOLUME]);
    assert_eq!(checked.code, 1, "{checked}");
    assert!(checked.stderr.contains("its disk disk.img is missing"), "{checked}");
    // What would make another one in its place is refused, too.
    for words in [
        &["volume", "restore", VOLUME, "--checkpoint", "1", "--yes"][..],
        &["volume", "snapshot", VOLUME, "--name", "now"],
        &["volume", "grow", VOLUME, "128M"],
        &["volume", "forget-history", VOLUME, "--yes"],
    ] {
        let refused = world.lith(words);
        assert_eq!(refused.code, 1, "{refused}");
    }
    // Whoever looks at it takes a lock.
    let after: Vec<PathBuf> = names(&folder).into_iter().filter(|path| !path.ends_with("readers")).collect();
    assert_eq!(after, before, "nothing is made, and what is left stays");

    std::fs::rename(&elsewhere, &disk).unwrap();
    starts_again(&world);
}
