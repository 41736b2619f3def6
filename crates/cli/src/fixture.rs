//! Values for this crate's tests.

use lith_api::task::{Phase, TaskStatus};

/// A ready task with this identifier.
pub(crate) fn task(id: &str) -> TaskStatus {
    let parts: Vec<&str> = id.split('.').collect();
    TaskStatus {
        id: id.to_owned(),
        job: parts[0].to_owned(),
        group: parts[1].to_owned(),
        index: parts[2].parse().unwrap(),
        task: parts[3].to_owned(),
        node: "oak".to_owned(),
        phase: Phase::Running,
        is_ready: true,
        why: None,
        hint: None,
        incarnation: 1,
        image: "hello:1".to_owned(),
        image_digest: Some("sha256:00".to_owned()),
        running_since_ms: Some(1000),
        health: None,
        health_output: None,
        restarts: 0,
        last_exit: None,
        is_held_up: false,
        address: Some("10.83.0.1".to_owned()),
        publish: vec![],
    }
}

/// Something that a task was refused five times, a minute ago when it is 301 seconds.
pub(crate) fn attempt(task: &str, what: &str, allow_with: &str) -> lith_api::blocked::Attempt {
    lith_api::blocked::Attempt {
        task: task.to_owned(),
        kind: lith_api::blocked::Kind::Flow,
        what: what.to_owned(),
        times: 5,
        first_ms: 1000,
        last_ms: 241_000,
        allow_with: allow_with.to_owned(),
        connects: None,
        egress: None,
        target_ports: None,
    }
}
