//! Volumes as a person sees them: what they hold at first, what they outlive, and when they go.

use lith_testkit::{World, eventually};
use serde_json::{Value, json};

/// The image `hello` has a page in `/www`.
fn job(version: u32) -> Value {
    let task = json!({
        "image": "hello:1",
        "entrypoint": ["sh", "-c", "echo started >> /www/log; exec sleep 1000000"],
        "env": { "VERSION": version.to_string() },
        "volumes": ["site:/www", "deep:/www/deep", "site:/again:ro"],
        "memory_bytes": 96 << 20,
        "cpu_millis": 1000,
        "restart": "always",
        "stop_grace_ms": 1000,
    });
    json!({
        "name": "disks",
        "volumes": { "site": { "size_bytes": 64 << 20 }, "deep": { "size_bytes": 32 << 20 } },
        "groups": { "main": { "count": 1, "tasks": { "web": task } } },
    })
}

const TASK: &str = "disks/web";

#[test]
fn a_volume_outlives_what_mounts_it() {
    let mut world = World::start(&["hello"]);
    world.put(&job(1));
    running(&world);
    first_content(&world);
    let _ = world.lith(&["exec", TASK, "--", "sh", "-c", "echo kept > /www/deep/note; sync"]).ok();

    let _ = world.lith(&["restart", "disks"]).ok();
    expect_starts(&world, 2);
    world.put(&job(2));
    expect_starts(&world, 3);
    let _ = world.lith(&["stop", "disks"]).ok();
    let _ = world.lith(&["start", "disks"]).ok();
    expect_starts(&world, 4);
    // What was synced survives the loss of power; what came after may.
    let _ = world.lith(&["exec", TASK, "--", "sync"]).ok();
    world.cut_power();
    world.up();
    running(&world);
    expect_starts(&world, 5);
    assert_eq!(run(&world, "cat /www/deep/note"), "kept\n");

    let refused = world.lith(&["volume", "rm", "--yes", "disks.site.0"]);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(refused.stderr.contains("belongs to job \"disks\""), "{refused}");
    let removed = world.lith(&["rm", "disks"]).ok();
    assert!(removed.stderr.contains("volumes disks.deep.0 disks.site.0 are kept"), "{removed}");
    world.put(&job(3));
    running(&world);
    expect_starts(&world, 6);
    let _ = world.lith(&["rm", "--volumes", "disks"]).ok();
    assert_eq!(world.lith(&["volume", "ls", "--json"]).ok().json(), json!([]));
    world.put(&job(4));
    running(&world);
    expect_starts(&world, 1);
    shared_is_refused(&world);
}

fn first_content(world: &World) {
    // As in the image, and seen at both of its places.
    assert!(run(world, "cat /again/index.html").contains("<title>Hello from lith</title>"));
    assert_eq!(run(world, "stat -c '%a %u' /www"), "755 0\n");
    assert!(run(world, "grep ' /www ' /proc/mounts").contains(" ext4 rw"));
    let denied = world.lith(&["exec", TASK, "--", "touch", "/again/x"]);
    assert!(denied.stderr.contains("Read-only file system"), "{denied}");
    // What lith keeps beside it is not shown.
    assert_eq!(run(world, "ls -A /www/deep"), "");
    let disk = world.data_dir.join("volumes/disks.site.0/disk.img");
    assert_eq!(std::fs::metadata(disk).unwrap().len(), 64 << 20);
    let table = world.lith(&["volume", "ls"]).ok().stdout;
    assert!(table.contains("disks.site.0") && table.contains("declared"), "{table}");
}

fn shared_is_refused(world: &World) {
    let mut job = job(5);
    let tasks = &mut job["groups"]["main"]["tasks"];
    tasks["other"] = tasks["web"].clone();
    let (status, failure) = world.ask("PUT /v1/jobs/disks", &job);
    assert_eq!(status, 400, "{failure}");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("is written by tasks \"other\", \"web\": shared volumes come in a later version"),
        "{failure}"
    );
}

fn run(world: &World, line: &str) -> String {
    world.lith(&["exec", TASK, "--", "sh", "-c", line]).ok().stdout
}

fn running(world: &World) {
    world.await_task("disks", "running", |task| task["phase"] == "running");
}

/// The volume holds a line for each start of its task.
fn expect_starts(world: &World, count: usize) {
    eventually(&format!("start {count} to be noted"), || {
        let log = world.lith(&["exec", TASK, "--", "cat", "/www/log"]);
        if log.code == 0 && log.stdout.lines().count() == count { Ok(()) } else { Err(log) }
    });
}
