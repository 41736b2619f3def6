//! A volume that one task writes and others read: they see checkpoints of it, whoever writes meanwhile.

use lith_testkit::{World, eventually};
use serde_json::{Value, json};

fn task(volume: &str, line: &str) -> Value {
    json!({
        "image": "hello:1",
        "entrypoint": ["sh", "-c", line],
        "volumes": [volume],
        "memory_bytes": 96 << 20,
        "cpu_millis": 1000,
        "restart": "always",
        "stop_grace_ms": 1000,
    })
}

/// The writer appends a line a moment; the readers are in its group, and in another one.
fn job() -> Value {
    let write = "i=$(cat /srv/lines 2>/dev/null | wc -l); while true; do i=$((i+1)); echo $i >> /srv/lines; sync; done";
    let read = "exec sleep 1000000";
    json!({
        "name": "shared",
        "volumes": { "data": { "size_bytes": 64 << 20 } },
        "groups": {
            "back": { "count": 1, "tasks": { "writer": task("data:/srv", write), "beside": task("data:/srv:ro", read) } },
            "front": { "count": 1, "tasks": { "reader": task("data:/srv:ro", read) } },
        },
    })
}

#[test]
fn others_see_checkpoints_of_a_volume() {
    let mut world = World::start(&["hello"]);
    world.put(&job());
    for task in ["writer", "beside", "reader"] {
        running(&world, task);
    }
    // What is seen is what was there when it was cut, be it nothing yet. It stays as it was, while more is written.
    let first = lines(&world, "reader");
    eventually("the writer to go on", || {
        let now = lines(&world, "writer");
        if now > first + 20 { Ok(()) } else { Err(now) }
    });
    assert_eq!(lines(&world, "reader"), first);
    refusals(&world);
    listed(&world);

    // The next start sees a newer one.
    let _ = world.lith(&["restart", "shared/reader"]).ok();
    let second = eventually("the reader to see a newer checkpoint", || {
        let run = world.lith(&["exec", "shared/reader", "--", "sh", "-c", "wc -l < /srv/lines"]);
        let now = run.stdout.trim().parse::<u64>().unwrap_or(0);
        if now > first { Ok(now) } else { Err(run) }
    });

    // Who reads goes on when who writes is stopped, and when the daemon is started again.
    let _ = world.lith(&["stop", "shared/writer"]).ok();
    world.kill_daemon();
    world.up();
    running(&world, "reader");
    assert_eq!(lines(&world, "reader"), second);
    let _ = world.lith(&["start", "shared/writer"]).ok();
    running(&world, "writer");

    // A crash of all is a power cut for all.
    world.cut_power();
    world.up();
    for task in ["writer", "beside", "reader"] {
        running(&world, task);
    }
    assert!(lines(&world, "reader") >= second);
    let _ = world.lith(&["rm", "--volumes", "shared"]).ok();
    assert_eq!(world.lith(&["volume", "ls", "--json"]).ok().json(), json!([]));
}

fn refusals(world: &World) {
    for line in ["echo x > /srv/lines", "rm /srv/lines", "mount -o remount,rw /srv"] {
        let run = world.lith(&["exec", "shared/reader", "--", "sh", "-c", line]);
        assert_ne!(run.code, 0, "{line}: {run}");
    }
    let mut second = job();
    second["groups"]["front"]["tasks"]["reader"]["volumes"] = json!(["data:/srv"]);
    let (status, failure) = world.ask("PUT /v1/jobs/shared", &second);
    assert_eq!(status, 400, "{failure}");
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("volume \"data\" is written by tasks \"reader\", \"writer\""), "{failure}");
}

fn listed(world: &World) {
    let volumes = world.lith(&["volume", "ls", "--json"]).ok().json();
    assert_eq!(volumes[0]["holders"], json!(["shared.back.0.writer"]));
    let mut readers: Vec<String> = serde_json::from_value(volumes[0]["readers"].clone()).unwrap();
    readers.sort();
    assert_eq!(readers, ["shared.back.0.beside", "shared.front.0.reader"]);
}

/// Every line that is there is whole, and none is missing.
fn lines(world: &World, task: &str) -> u64 {
    let line = "test ! -e /srv/lines || cat /srv/lines";
    let text = world.lith(&["exec", &format!("shared/{task}"), "--", "sh", "-c", line]).ok().stdout;
    let mut numbers = text.lines().map(|line| line.parse::<u64>());
    let last = numbers.by_ref().enumerate().try_fold(0, |_, (index, number)| match number {
        Ok(number) if number == index as u64 + 1 => Ok(number),
        other => Err((index, other)),
    });
    last.unwrap_or_else(|wrong| panic!("{task} sees {wrong:?}"))
}

fn running(world: &World, name: &str) {
    eventually(&format!("{name} to run"), || {
        let tasks = world.tasks("shared");
        let task = tasks.iter().find(|task| task["task"] == name);
        match task {
            Some(task) if task["phase"] == "running" => Ok(()),
            _ => Err(format!("{tasks:?}")),
        }
    });
}
