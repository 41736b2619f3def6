//! What a person does with the history of a volume: snapshots, restores, looking inside, clones, growth, removal.

use std::path::Path;

use lith_testkit::{World, eventually};
use serde_json::{Value, json};

/// Two tasks, each with a volume, of one instance: cut at one instant, restored as one.
fn job() -> Value {
    let task = |volume: &str| {
        json!({
            "image": "hello:1",
            "entrypoint": ["sh", "-c", "exec sleep 1000000"],
            "volumes": [format!("{volume}:/srv")],
            "memory_bytes": 96 << 20,
            "cpu_millis": 1000,
            "restart": "always",
            "stop_grace_ms": 1000,
        })
    };
    json!({
        "name": "notes",
        "volumes": { "db": { "size_bytes": 64 << 20 }, "files": { "size_bytes": 64 << 20 } },
        "groups": { "main": { "count": 1, "tasks": { "db": task("db"), "web": task("files") } } },
    })
}

#[test]
fn a_volume_goes_back_to_before_a_bad_change() {
    let mut world = World::start(&["hello"]);
    world.put(&job());
    running(&world);
    run(&world, "db", "echo good > /srv/note; mkdir /srv/deep; echo x > /srv/deep/file; sync");
    run(&world, "web", "echo page > /srv/index; sync");
    let made = world.lith(&["volume", "snapshot", "--job", "notes", "--name", "before"]).ok();
    assert!(made.stdout.contains("before") || made.stderr.contains("before"), "{made}");
    let taken = world.lith(&["volume", "snapshot", "notes.db", "--name", "before"]);
    assert_eq!(taken.code, 1, "{taken}");
    assert!(taken.stderr.contains("already"), "{taken}");

    run(&world, "db", "echo bad > /srv/note; rm -r /srv/deep; sync");
    run(&world, "web", "rm /srv/index; sync");
    looking_inside(&world);
    restored(&world);
    // A crash of all that serves is a power cut, and nothing worse.
    world.cut_power();
    world.up();
    running(&world);
    assert_eq!(run(&world, "db", "cat /srv/note /srv/deep/file"), "good\nx\n");
    what_was_replaced_is_kept(&world);
    clones_and_removal(&world);
    disks_are_clean(&world);
}

fn looking_inside(world: &World) {
    let newest = || world.lith(&["volume", "cat", "notes.db:/note"]).ok().stdout;
    eventually("a checkpoint with the bad change", || {
        let note = newest();
        if note == "bad\n" { Ok(()) } else { Err(note) }
    });
    let at = ["--snapshot", "before"];
    let cat = world.lith(&[&["volume", "cat", "notes.db:/note"], &at[..]].concat()).ok();
    assert_eq!(cat.stdout, "good\n");
    let list = world.lith(&[&["volume", "ls", "notes.db:/"], &at[..]].concat()).ok().stdout;
    assert!(list.contains("note") && list.contains("deep"), "{list}");
    let outside = world.lith(&["volume", "cat", "notes.db:/../../etc/passwd"]);
    assert_eq!(outside.code, 1, "{outside}");
    let target = world.path("out");
    let target_text = target.to_str().unwrap();
    let _ = world.lith(&[&["volume", "cp", "notes.db:/deep", target_text], &at[..]].concat()).ok();
    let copied = ["file", "deep/file"].iter().map(|name| target.join(name)).find(|path| path.exists());
    assert_eq!(std::fs::read_to_string(copied.unwrap()).unwrap(), "x\n");
    let archive = world.path("all.tar");
    let _ = world.lith(&["volume", "export", "notes.files", archive.to_str().unwrap()]).ok();
    assert!(std::fs::metadata(&archive).unwrap().len() >= 1024);
}

fn restored(world: &World) {
    let asked = world.lith(&["volume", "restore", "--job", "notes", "--snapshot", "before"]);
    assert_eq!(asked.code, 1, "nobody can say yes: {asked}");
    let restored = world.lith(&["volume", "restore", "--job", "notes", "--snapshot", "before", "--yes"]).ok();
    running(world);
    assert_eq!(run(world, "db", "cat /srv/note /srv/deep/file"), "good\nx\n", "{restored}");
    assert_eq!(run(world, "web", "cat /srv/index"), "page\n");
}

fn what_was_replaced_is_kept(world: &World) {
    let snapshots = world.lith(&["volume", "snapshots", "--json"]).ok().json();
    let names: Vec<&str> =
        snapshots.as_array().unwrap().iter().map(|snapshot| snapshot["name"].as_str().unwrap()).collect();
    let kept = names.iter().find(|name| name.starts_with("before-restore-")).unwrap();
    let bad = world.lith(&["volume", "cat", "notes.db:/note", "--snapshot", kept]).ok();
    assert_eq!(bad.stdout, "bad\n");
    let _ = world.lith(&["volume", "check", "notes.db"]).ok();
}

fn clones_and_removal(world: &World) {
    let _ = world.lith(&["volume", "clone", "notes.db", "copy.db", "--snapshot", "before"]).ok();
    let cat = world.lith(&["volume", "cat", "copy.db:/note"]).ok();
    assert_eq!(cat.stdout, "good\n");
    let refused = world.lith(&["volume", "rm", "copy.db"]);
    assert_eq!(refused.code, 1, "nobody can say yes: {refused}");
    let _ = world.lith(&["volume", "rm", "--yes", "copy.db"]).ok();
    let listed = |removed: bool| {
        let arguments: &[&str] =
            if removed { &["volume", "ls", "--removed", "--json"] } else { &["volume", "ls", "--json"] };
        world.lith(arguments).ok().stdout.contains("copy.db.0")
    };
    assert_eq!((listed(false), listed(true)), (false, true));
    let _ = world.lith(&["volume", "unrm", "copy.db"]).ok();
    assert_eq!((listed(false), listed(true)), (true, false));
}

/// After the journal is replayed, on a copy.
fn disks_are_clean(world: &World) {
    // While its task runs: the guest's file system follows its disk.
    let _ = world.lith(&["volume", "grow", "notes.db", "128M"]).ok();
    eventually("the file system to be as large as its disk", || {
        let size = run(world, "db", "df -m /srv | tail -1");
        let megabytes = size.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok());
        if megabytes.is_some_and(|megabytes| megabytes > 90) { Ok(()) } else { Err(size) }
    });
    let _ = world.lith(&["stop", "notes"]).ok();
    for volume in ["notes.db.0", "notes.files.0"] {
        let disk = world.data_dir.join("volumes").join(volume).join("disk.img");
        let copy = world.path(&format!("{volume}.img"));
        std::fs::copy(&disk, &copy).unwrap();
        check(&["-fy", "-E", "journal_only"], &copy);
        check(&["-fn"], &copy);
    }
}

pub(crate) fn check(options: &[&str], image: &Path) {
    let output = std::process::Command::new("e2fsck").args(options).arg(image).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn run(world: &World, task: &str, line: &str) -> String {
    world.lith(&["exec", &format!("notes/{task}"), "--", "sh", "-c", line]).ok().stdout
}

fn running(world: &World) {
    eventually("both tasks to be running", || {
        let tasks = world.tasks("notes");
        let are_up = tasks.len() == 2 && tasks.iter().all(|task| task["phase"] == "running");
        if are_up { Ok(()) } else { Err(format!("{tasks:?}")) }
    });
}
