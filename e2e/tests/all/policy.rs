//! What happens when a task ends by itself: each restart policy as a person sees it.

use jiff::Timestamp;
use lith_testkit::{World, eventually};
use serde_json::Value;

const JOB: &str = r#"
job: ends
tasks:
  done: { image: "busybox:1", memory: 96M, command: [sh, -c, "echo worked"], restart: "no" }
  twice: { image: "busybox:1", memory: 96M, command: [sh, -c, "echo failed; exit 4"], restart: "on-failure:2" }
  loop: { image: "busybox:1", memory: 96M, command: [sh, -c, "echo again; exit 5"] }
"#;

#[test]
fn policies_are_kept() {
    let world = World::start(&["busybox"]);
    world.deploy_unwaited(JOB);
    let done = await_named(&world, "done", |task| task["phase"] == "finished");
    assert_eq!((&done["last_exit"], &done["restarts"]), (&"exited with code 0".into(), &0.into()));
    let twice = await_named(&world, "twice", |task| task["phase"] == "finished");
    assert_eq!((&twice["last_exit"], &twice["restarts"]), (&"exited with code 4".into(), &2.into()));
    assert_eq!(world.lith(&["logs", "ends/twice"]).ok().stdout, "failed\nfailed\nfailed\n");
    let looped = await_named(&world, "loop", |task| task["restarts"].as_u64() >= Some(4));
    assert_eq!(looped["last_exit"], "exited with code 5");
    delays_grow(&world);
    let table = world.lith(&["ps", "ends"]).ok().stdout;
    assert!(table.contains("exited with code 4"), "{table}");
    let waiting = await_named(&world, "loop", |task| task["phase"] == "waiting");
    assert!(waiting["why"].as_str().unwrap().contains("exited with code 5"), "{waiting}");
    // What has finished runs again when a person asks for it.
    let _ = world.lith(&["start", "ends/done"]).ok();
    eventually("the work to be done again", || {
        let log = world.lith(&["logs", "ends/done"]).ok().stdout;
        if log == "worked\nworked\n" { Ok(()) } else { Err(log) }
    });
}

/// Every failure makes the next delay longer, from a second on: seen as the time between two boots.
fn delays_grow(world: &World) {
    let times: Vec<Timestamp> = eventually("five boots", || {
        let log = world.lith(&["logs", "ends/loop", "--json"]).ok().stdout;
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let times: Vec<Timestamp> =
            lines.map(|line| line["time"].as_str().unwrap().parse().unwrap()).collect();
        if times.len() >= 5 { Ok(times) } else { Err(log) }
    });
    let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64()).collect();
    for (gap, delay) in gaps.iter().zip([1.0, 2.0, 4.0, 8.0]) {
        assert!(*gap >= delay, "{gaps:?}");
    }
}

fn await_named(world: &World, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("task {name} to get there"), || {
        let tasks = world.tasks("ends");
        let task = tasks.into_iter().find(|task| task["task"] == name).unwrap_or_default();
        if is_so(&task) { Ok(task) } else { Err(task) }
    })
}
