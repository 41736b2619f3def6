//! Tasks that wait for others: the order in which they start, what is told meanwhile, and what waiting does not cost.

use lith_testkit::{World, eventually};
use serde_json::{Value, json};

fn task(script: &str, rest: &Value) -> Value {
    let mut task = json!({
        "image": "busybox:1",
        "command": ["sh", "-c", script],
        "memory_bytes": 96 << 20,
        "cpu_millis": 1000,
        "restart": "always",
        "stop_grace_ms": 1000,
    });
    task.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    task
}

#[test]
fn tasks_start_in_the_order_that_their_job_says() {
    let world = World::start(&["busybox"]);
    let go_on = "exec sleep 1000000";
    let health = json!({
        "probe": { "shell": "test -f /tmp/go" }, "every_ms": 300, "start_ms": 3_600_000, "start_every_ms": 300,
    });
    world.put(&json!({ "name": "order", "groups": {
        "data": { "count": 1, "tasks": {
            "db": task(go_on, &json!({ "health": health })),
            "setup": task("echo done", &json!({ "kind": "once" })),
        } },
        "main": { "count": 1, "tasks": {
            "web": task(go_on, &json!({ "depends_on": { "db": "healthy", "setup": "completed" } })),
            "last": task(go_on, &json!({ "depends_on": { "web": "started" } })),
            "broken": task("exit 7", &json!({ "kind": "once", "restart": "no" })),
            "hopeless": task(go_on, &json!({ "depends_on": { "broken": "completed" } })),
        } },
        "none": { "count": 0, "tasks": { "idle": task(go_on, &json!({})) } },
    } }));
    await_task(&world, "setup", |task| task["phase"] == "finished");
    let web = await_task(&world, "web", |task| task["why"] == "waits for db to be healthy");
    assert_eq!((&web["phase"], &web["restarts"]), (&"waiting".into(), &0.into()), "{web}");
    await_task(&world, "last", |task| task["why"] == "waits for web to start");
    await_task(&world, "hopeless", |task| task["why"] == "waits for broken, which ended with code 7");
    assert!(world.tasks("order").iter().all(|task| task["task"] != "idle"));
    let table = world.lith(&["ps", "order"]).ok().stdout;
    assert!(table.contains("waits for db to be healthy"), "{table}");

    let _ = world.lith(&["exec", "order/db", "--", "touch", "/tmp/go"]).ok();
    let web = await_task(&world, "web", |task| task["phase"] == "running");
    let last = await_task(&world, "last", |task| task["phase"] == "running");
    assert_eq!((&web["restarts"], &last["restarts"]), (&0.into(), &0.into()));
    let since = |task: &Value| task["running_since_ms"].as_u64().unwrap();
    assert!(since(&web) <= since(&last), "{web} {last}");
    // What runs once has run once, though its policy is that of a service.
    let setup = await_task(&world, "setup", |_| true);
    assert_eq!((&setup["phase"], &setup["last_exit"]), (&"finished".into(), &"exited with code 0".into()));
    assert_eq!(world.lith(&["logs", "order/setup"]).ok().stdout, "done\n");
}

fn await_task(world: &World, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("task {name} to get there"), || {
        let task = world.tasks("order").into_iter().find(|task| task["task"] == name).unwrap_or_default();
        if is_so(&task) { Ok(task) } else { Err(task) }
    })
}
