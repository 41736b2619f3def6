//! What tasks were refused, as it is listed and learned.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::{PATIENCE, World, answer, check, detail, finish, task};

/// A server of a job whose task was refused two things; `ask` is told of each look.
fn refusing(ask: impl Fn() + Send + Sync + 'static) -> World {
    World::new(move |request, stream| match request {
        "GET /v1/jobs/hello" => answer(stream, 200, &detail("running", true, &Value::Null)),
        "GET /v1/tasks?job=hello" => answer(stream, 200, &json!([task("running", true, &Value::Null)])),
        "GET /v1/jobs" => answer(
            stream,
            200,
            &json!([{ "name": "hello", "version": 1, "wanted": 1, "ready": 1, "created_ms": 0, "updated_ms": 0 }]),
        ),
        _ if request.starts_with("GET /v1/jobs/hello/blocked?since_ms=") => {
            let attempts = if request.ends_with(&format!("={}", u64::MAX)) { json!([]) } else { attempts() };
            answer(stream, 200, &json!({ "now_ms": 90_000, "attempts": attempts }));
            ask();
        }
        _ => answer(stream, 404, &json!({ "code": "E0002", "message": "there is no job \"helo\"" })),
    })
}

fn attempts() -> Value {
    let attempt = |kind: &str, what: &str, allow_with: &str| {
        json!({ "task": "hello.main.0.web", "kind": kind, "what": what, "times": 3, "first_ms": 1000, "last_ms": 60_000,
                "allow_with": allow_with })
    };
    let mut name = attempt("name", "api.example.org", "egress: [ api.example.org:443 ]");
    name["egress"] = json!("api.example.org:443");
    json!([
        name,
        attempt(
            "flow",
            "169.254.169.254:80",
            "nothing: metadata of a cloud's machine is closed to every task"
        )
    ])
}

pub(crate) fn list() {
    let world = refusing(|| ());
    check(
        &world.lith(&["job", "blocked", "hello"]),
        0,
        "TASK       WHAT                TIMES  LAST     ALLOW WITH\n\
         hello/web  api.example.org     3      30s ago  egress: [ api.example.org:443 ]\n\
         hello/web  169.254.169.254:80  3      30s ago  nothing: metadata of a cloud's machine is closed to every task\n",
        "",
    );
    check(
        &world.lith(&["job", "blocked", "helo"]),
        1,
        "",
        "error: there is no job \"helo\" [E0002]\nhint: did you mean `hello`?\n",
    );
}

pub(crate) fn learn() {
    const LEARNED: &str = "tasks:\n  web:\n    egress: [ api.example.org:443 ]\n\
                           # What no line allows by itself:\n\
                           #   web: 169.254.169.254:80: nothing: metadata of a cloud's machine is closed to every task\n";
    const SAID: &str = "nothing was opened: put what you agree with into the job file and deploy it; then learn again, \
                        for what works now leads further\n";
    let looks = Arc::new(AtomicU32::new(0));
    let (sender, receiver) = std::sync::mpsc::channel();
    let counted = Arc::clone(&looks);
    let world = refusing(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        // The test may be over already.
        let _ = sender.send(());
    });
    check(&world.lith(&["job", "learn", "hello", "--for", "10ms"]), 0, LEARNED, SAID);
    assert_eq!(looks.load(Ordering::SeqCst), 2);
    let watched: Vec<()> = receiver.try_iter().collect();
    assert_eq!(watched.len(), 2);
    // Ended early, it prints what is known by then: after the third look two were taken.
    let child = world.start(&["job", "learn", "hello", "--for", "1h"]);
    for _ in 0..3 {
        receiver.recv_timeout(PATIENCE).unwrap();
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    check(&finish(child), 0, LEARNED, SAID);
}
