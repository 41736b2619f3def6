//! Where volumes lie, and what becomes of one that is not there: never a new, empty one in its place.

use std::path::Path;

use lith_testkit::{World, eventually};
use serde_json::{Value, json};

fn job() -> Value {
    let task = json!({
        "image": "hello:1",
        "entrypoint": ["sh", "-c", "exec sleep 1000000"],
        "volumes": ["site:/srv"],
        "memory_bytes": 96 << 20,
        "cpu_millis": 1000,
        "restart": "always",
        "stop_grace_ms": 1000,
    });
    json!({
        "name": "pools",
        "volumes": { "site": { "size_bytes": 64 << 20, "pool": "default" } },
        "groups": { "main": { "count": 1, "tasks": { "web": task } } },
    })
}

const VOLUME: &str = "pools.site.0";

#[test]
fn a_volume_stays_where_it_is_and_is_missed_where_it_is_not() {
    let mut world = World::prepare();
    let bulk = world.path("bulk");
    std::fs::create_dir(&bulk).unwrap();
    // The first pool is the one for what names none.
    let pool = format!("bulk={}", bulk.display());
    world.up_with(&["--pool", &pool]);
    world.load("hello");
    lies_in_its_pool(&world, &bulk);
    is_limited(&world);
    a_restore_is_carried_to_its_end(&mut world, &pool);
    is_missed(&world);
}

/// It was sent before anybody knew of its pool.
fn lies_in_its_pool(world: &World, bulk: &Path) {
    let folder = world.path("site");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("page"), "hi\n").unwrap();
    let _ = world.lith(&["volume", "import", "pools.site", folder.to_str().unwrap()]).ok();
    assert!(bulk.join(VOLUME).join("content.erofs").exists());
    world.put(&job());
    running(world);
    assert_eq!(run(world, "cat /srv/page"), "hi\n");
    assert!(world.data_dir.join("volumes").join(VOLUME).join("disk.img").exists());
    assert!(!bulk.join(VOLUME).exists());
}

/// The process that serves it has a control group of its own.
fn is_limited(world: &World) {
    let serving =
        world.processes().into_iter().find(|pid| pid.arguments().get(1).is_some_and(|word| word == "disks"));
    let groups = serving.unwrap().read("cgroup").unwrap();
    assert!(groups.contains("/lith/disks-1"), "{groups}");
}

/// As after a crash between the note and the first change: its task runs when the daemon starts.
fn a_restore_is_carried_to_its_end(world: &mut World, pool: &str) {
    run(world, "echo good > /srv/note; sync");
    let _ = world.lith(&["volume", "snapshot", "pools.site", "--name", "before"]).ok();
    run(world, "echo bad > /srv/note; sync");
    let (_, snapshots) = world.ask("GET /v1/volumes/snapshots", &Value::Null);
    let seq = &snapshots[0]["seq"];
    assert!(seq.is_u64(), "{snapshots}");
    world.kill_daemon();
    let note = world.data_dir.join("node/restore.json");
    std::fs::write(&note, json!({ "keep_as": "kept", "volumes": [[VOLUME, seq]] }).to_string()).unwrap();
    world.up_with(&["--pool", pool]);
    eventually("the restore to have ended", || {
        if note.exists() { Err(world.lith(&["volume", "ls"]).stdout) } else { Ok(()) }
    });
    eventually("its task to run on what was restored", || {
        let cat = world.lith(&["exec", "pools/web", "--", "cat", "/srv/note"]);
        if cat.stdout == "good\n" { Ok(()) } else { Err(cat) }
    });
    let told = world.lith(&["volume", "snapshots", "pools.site"]).ok().stdout;
    assert!(told.contains("before") && told.contains("kept"), "{told}");
}

fn is_missed(world: &World) {
    let ask = |what: &str| {
        let (status, answer) = world.ask("POST /v1/jobs/pools/ask", &json!({ "ask": what }));
        assert_eq!(status, 200, "{answer}");
    };
    let _ = world.lith(&["stop", "pools"]).ok();
    eventually("its disk to be let go", || {
        let left = world.processes();
        let serves = left.iter().any(|pid| pid.arguments().get(1).is_some_and(|word| word == "disks"));
        if serves { Err(format!("{left:?}")) } else { Ok(()) }
    });
    let (there, elsewhere) = (world.data_dir.join("volumes").join(VOLUME), world.path("elsewhere"));
    std::fs::rename(&there, &elsewhere).unwrap();
    ask("start");
    world.await_task("pools", "missed", |task| task.to_string().contains("is missing"));
    assert!(!there.exists());
    let table = world.lith(&["volume", "ls"]).ok().stdout;
    assert!(table.contains(VOLUME) && table.contains("is missing"), "{table}");
    std::fs::rename(&elsewhere, &there).unwrap();
    ask("restart");
    running(world);
    assert_eq!(run(world, "cat /srv/note"), "good\n");
}

fn run(world: &World, line: &str) -> String {
    world.lith(&["exec", "pools/web", "--", "sh", "-c", line]).ok().stdout
}

fn running(world: &World) {
    world.await_task("pools", "running", |task| task["phase"] == "running");
}
