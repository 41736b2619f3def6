//! Health as a person sees it: each kind of check, from inside the task, and what becomes of an unhealthy one: nothing.

use lith_testkit::{World, eventually};
use serde_json::{Value, json};

/// A check that is made often.
fn check(probe: &Value) -> Value {
    json!({ "probe": probe, "every_ms": 300, "timeout_ms": 5000, "retries": 2, "start_every_ms": 300 })
}

fn task(script: &str, probe: &Value) -> Value {
    json!({
        "image": "busybox:1",
        "command": ["sh", "-c", script],
        "user": "1000",
        "env": { "MARK": "/tmp/mark" },
        "memory_bytes": 96 << 20,
        "cpu_millis": 1000,
        "restart": "always",
        "stop_grace_ms": 1000,
        "health": check(probe),
    })
}

#[test]
fn checks_are_made_in_the_task_and_told() {
    let world = World::start(&["busybox"]);
    let serve = "mkdir -p /tmp/www; echo yes > /tmp/www/up; exec busybox httpd -f -p 8080 -h /tmp/www";
    let wait = "touch $MARK; exec sleep 1000000";
    world.put(&json!({ "name": "health", "groups": { "main": { "count": 1, "tasks": {
        "page": task(serve, &json!({ "http": { "port": 8080, "path": "/up" } })),
        "port": task(serve, &json!({ "tcp": 8080 })),
        "shell": task(wait, &json!({ "shell": "test -f $MARK && test $(id -u) = 1000 || { echo gone; exit 3; }" })),
    } } } }));
    for name in ["page", "port", "shell"] {
        let task = of(&world, name, "healthy");
        assert_eq!(task["health_output"], Value::Null, "{task}");
    }
    // A check in the task may be faster than the look from outside that makes it ready.
    eventually("each to be ready and healthy", || {
        let table = world.lith(&["ps", "health"]).ok().stdout;
        if table.matches("ready (healthy)").count() == 3 { Ok(()) } else { Err(table) }
    });

    // What is unhealthy goes on, is told with the check's own words, and may recover.
    let vmm = world.vmm("health.main.0.shell");
    let _ = world.lith(&["exec", "health/shell", "--", "rm", "/tmp/mark"]).ok();
    let task = of(&world, "shell", "unhealthy");
    assert_eq!((&task["health_output"], &task["restarts"]), (&"gone".into(), &0.into()), "{task}");
    assert_eq!(task["why"], "is unhealthy: gone");
    let table = world.lith(&["ps", "health"]).ok().stdout;
    assert!(table.contains("(unhealthy)"), "{table}");
    let _ = world.lith(&["exec", "health/shell", "--", "touch", "/tmp/mark"]).ok();
    of(&world, "shell", "healthy");
    assert_eq!(world.vmm("health.main.0.shell"), vmm);
    let _ = world.lith(&["exec", "health/page", "--", "rm", "/tmp/www/up"]).ok();
    let task = of(&world, "page", "unhealthy");
    assert_eq!(task["health_output"], "GET /up at port 8080 was answered with 404");
    world.lith_running(&["events", "--since", "1h", "health"]).wait_for("(unhealthy)");
}

fn of(world: &World, name: &str, health: &str) -> Value {
    eventually(&format!("task {name} to be {health}"), || {
        let task = world.tasks("health").into_iter().find(|task| task["task"] == name).unwrap_or_default();
        if task["health"] == health { Ok(task) } else { Err(task) }
    })
}
