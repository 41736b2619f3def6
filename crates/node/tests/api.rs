//! The API over its real socket, with a real database behind it. No agent runs, so that nothing is ever started: what
//! nodes do is tested elsewhere.

// Clippy takes only what is marked as a test for one.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use lith_api::agent::{Desired, Observed};
use lith_api::event::Event;
use lith_api::task::{Phase, TaskStatus};
use lith_core::name::NodeName;
use lith_core::time::Time;
use lith_net::GuestNetwork;
use lith_node::agent::{Agent, AgentConfig, Ends};
use lith_node::doctor::Doctor;
use lith_node::http::{self, Context};
use lith_node::images::Images;
use lith_node::layout::Layout;
use lith_node::server::Server;
use lith_node::up;
use lith_store::{Store, Write as Changes};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Longer than any answer takes on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait for an answer that must not come yet. An early one comes within milliseconds.
const NEVER: Duration = Duration::from_millis(500);

/// A server on its socket. It ends with its runtime.
struct World {
    _folder: tempfile::TempDir,
    layout: Layout,
    /// Where events of what tasks were refused come from.
    blocked: tokio::sync::mpsc::Sender<Event>,
    /// What the agent is told, and what it sees: nothing, unless a test says it.
    wanted: watch::Receiver<Arc<Desired>>,
    seen: watch::Sender<Arc<Observed>>,
    _runtime: tokio::runtime::Runtime,
    _agent: Agent,
}

impl World {
    /// A server whose database was prepared.
    fn new(prepare: impl FnOnce(&mut Store)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = up::prepare(&folder.path().join("data"), &folder.path().join("run")).unwrap();
        let mut store = Store::open(&layout.database()).unwrap();
        prepare(&mut store);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let images = Images::open(&layout.images()).unwrap();
        let node: NodeName = "odin".parse().unwrap();
        let network = GuestNetwork::default();
        let config = AgentConfig {
            layout: layout.clone(),
            node: node.clone(),
            network,
            kernels: vec![],
            trusts_database: false,
        };
        let doctor = Arc::new(Doctor::new(&config));
        let (agent, ends) = Agent::new(config, images.clone(), runtime.handle().clone()).unwrap();
        let Ends { desired, handle, .. } = ends;
        let (seen, observed) = watch::channel(Arc::default());
        let wanted = desired.subscribe();
        let server = Arc::new(Server::new(store, node.clone(), desired, observed.clone()).unwrap());
        let (blocked, told) = tokio::sync::mpsc::channel(8);
        runtime.spawn(Arc::clone(&server).narrate_blocked(told));
        let server = Ok(server);
        // Nobody is stopped here.
        let (ask, _) = tokio::sync::mpsc::channel(1);
        let (_, outcome) = watch::channel(None);
        let down = http::Down { ask, observed, outcome };
        let (node, data_dir) = (node.to_string(), layout.data.display().to_string());
        let context = Context { server, agent: handle, images, node, data_dir, down, doctor };
        let socket = layout.socket();
        runtime.block_on(async {
            let listener = http::listen(&socket).unwrap();
            tokio::spawn(async move { axum::serve(listener, http::router(context)).await });
        });
        Self { _folder: folder, layout, blocked, wanted, seen, _runtime: runtime, _agent: agent }
    }

    /// Sends a request and returns the connection to read the answer from.
    fn send(&self, line: &str, headers: &str, body: &str) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(self.layout.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: lith\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// Status and body of an answer.
    fn ask(&self, line: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut answer = String::new();
        self.send(line, "", &body).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
    }

    /// Events as they come. The server has begun the answer when this returns.
    fn events(&self, query: &str, headers: &str) -> impl Iterator<Item = Event> + use<> {
        let mut answer = self.send(&format!("GET /v1/events{query}"), headers, "");
        let mut status = String::new();
        answer.read_line(&mut status).unwrap();
        assert!(status.contains(" 200 "), "{status}");
        let lines = answer.lines().map(Result::unwrap);
        lines.filter_map(|line| Some(serde_json::from_str(line.strip_prefix("data: ")?).unwrap()))
    }

    fn deploy(&self, query: &str, count: u32) -> (u16, Value) {
        self.ask(&format!("PUT /v1/jobs/shop{query}"), &shop(count))
    }
}

/// The job `shop` with one task in so many instances.
fn shop(count: u32) -> Value {
    let task = json!({
        "image": "nginx:1", "memory_bytes": 268_435_456, "cpu_millis": 1000, "restart": "always", "stop_grace_ms": 1000
    });
    json!({ "name": "shop", "groups": { "main": { "count": count, "tasks": { "web": task } } } })
}

fn write_events(store: &mut Store, count: usize, time: u64) {
    let event = Event {
        id: 0,
        time_ms: 0,
        job: Some("old".to_owned()),
        task: None,
        kind: "deployed".to_owned(),
        message: "x".to_owned(),
    };
    store.write(&Changes { events: vec![event; count], ..Changes::default() }, Time(time)).unwrap();
}

#[test]
fn only_root_reaches_the_socket() {
    let world = World::new(|_| ());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.layout.socket()), 0o600);
    assert_eq!(mode(&world.layout.run), 0o700);
    assert_eq!(mode(&world.layout.data), 0o700);
}

#[test]
fn what_was_shown_is_what_is_done() {
    let world = World::new(|_| ());
    let (status, plan) = world.deploy("?dry_run=true", 3);
    assert_eq!((status, &plan["from_version"], &plan["version"]), (200, &json!(0), &json!(1)));
    assert_eq!(world.deploy("?if_version=0", 3).0, 200);
    // Planned from nothing, and somebody was faster.
    let (status, failure) = world.deploy("?if_version=0", 1);
    assert_eq!((status, &failure["code"]), (409, &json!("E0003")));
    assert_eq!(
        failure["message"],
        "job \"shop\" has changed since it was planned: it did not exist, now it is at version 1"
    );
    assert_eq!(failure["hint"], "plan it again, and deploy what that shows");
    let (_, plan) = world.deploy("?dry_run=true", 1);
    let text = &plan["changes"][0]["text"];
    assert_eq!(text, "goes from 3 to 1 instance, the others are removed with their disks");
    let (status, plan) = world.deploy(&format!("?if_version={}", plan["from_version"]), 1);
    assert_eq!((status, &plan["version"]), (200, &json!(2)));
    assert_eq!(world.ask("DELETE /v1/jobs/shop", &Value::Null).0, 200);
    let (status, failure) = world.deploy("?if_version=2", 1);
    assert_eq!(status, 409);
    assert_eq!(
        failure["message"],
        "job \"shop\" has changed since it was planned: it was at version 2, now it is removed"
    );
}

/// Before the agent knows of it, nothing is said about a task that it may be starting.
#[test]
fn a_stop_is_answered_with_the_agents_word() {
    let world = World::new(|_| ());
    assert_eq!(world.deploy("", 1).0, 200);
    let (_, job) = world.ask("GET /v1/jobs/shop", &Value::Null);
    let task: TaskStatus = serde_json::from_value(job["tasks"][0].clone()).unwrap();
    let before = world.wanted.borrow().version;
    let mut answer = world.send("POST /v1/jobs/shop/ask", "", &json!({ "ask": "stop" }).to_string());
    answer.get_ref().set_read_timeout(Some(NEVER)).unwrap();
    let early = answer.read(&mut [0; 1]).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    let version = world.wanted.borrow().version;
    assert!(version > before, "it was decided");
    let tasks = vec![TaskStatus { phase: Phase::Stopping, ..task }];
    world.seen.send_replace(Arc::new(Observed { version, tasks }));
    answer.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    answer.read_to_string(&mut text).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let job: Value = serde_json::from_str(body).unwrap();
    assert_eq!(job["tasks"][0]["phase"], "stopping");
}

/// A volume is no task's own, and what is declared of it counts from the first start on.
#[test]
fn what_concerns_no_task_is_stored_too() {
    let world = World::new(|_| ());
    let with = |size: u64| {
        let mut job = shop(1);
        job["groups"]["main"]["tasks"]["web"]["volumes"] = json!(["data:/srv"]);
        job["volumes"] = json!({ "data": { "size_bytes": size << 30 } });
        world.ask("PUT /v1/jobs/shop", &job)
    };
    let (status, plan) = with(1);
    assert_eq!((status, &plan["volumes"][0]["text"]), (200, &json!("is created")));
    let (status, plan) = with(2);
    // There is no disk yet that could keep its size.
    assert_eq!((status, &plan["version"], &plan["warnings"]), (200, &json!(2), &Value::Null), "{plan}");
    assert_eq!(plan["changes"][0]["kind"], "keep");
    let (_, job) = world.ask("GET /v1/jobs/shop", &Value::Null);
    assert_eq!(job["spec"]["volumes"]["data"]["size_bytes"], json!(2_u64 << 30));
    let (_, plan) = with(2);
    assert_eq!((&plan["from_version"], &plan["version"]), (&json!(2), &json!(2)));
}

#[test]
fn events_come_whole_and_in_order() {
    let world = World::new(|store| {
        write_events(store, 1200, 10);
        write_events(store, 1300, 20);
    });
    let all = world.events("?since_ms=0", "");
    let some = world.events("?since_ms=11", "");
    let after = world.events("", "last-event-id: 7\r\n");
    let live = world.events("", "");
    assert_eq!(world.deploy("", 1).0, 200);
    let check = |events: &mut dyn Iterator<Item = Event>, first: u64| {
        let mut expected = first;
        for event in events.take(usize::try_from(2502 - first).unwrap()) {
            assert_eq!(event.id, expected, "none is missing and none is out of order");
            expected += 1;
            if event.id == 2501 {
                assert_eq!(event.message, "version 1 was deployed");
            }
        }
        assert_eq!(expected, 2502);
    };
    for (mut events, first) in [(Box::new(all) as Box<dyn Iterator<Item = Event>>, 1), (Box::new(some), 1201)]
    {
        check(&mut events, first);
    }
    for (mut events, first) in
        [(Box::new(after) as Box<dyn Iterator<Item = Event>>, 8), (Box::new(live), 2501)]
    {
        check(&mut events, first);
    }
    let mut answer = String::new();
    world.send("GET /v1/events", "last-event-id: x\r\n", "").read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("E0001"), "{answer}");
}

#[test]
fn what_is_not_kept_any_more_is_told() {
    let world = World::new(|store| write_events(store, 25_000, 10));
    let after: Vec<Event> = world.events("", "last-event-id: 7\r\n").take(2).collect();
    assert_eq!((after[0].kind.as_str(), after[0].id), ("missed", 5000));
    assert_eq!(after[0].message, "4993 events before the next one are not kept any more");
    assert_eq!(after[1].id, 5001);
    let all: Vec<Event> = world.events("?since_ms=0", "").take(1).collect();
    assert_eq!(
        (all[0].kind.as_str(), all[0].id),
        ("deployed", 5001),
        "what was never asked for is not missed"
    );
}

#[test]
fn failures_name_their_request() {
    let world = World::new(|_| ());
    let mut names = Vec::new();
    for line in ["GET /v1/jobs/none", "GET /v1/none", "PATCH /v1/jobs", "GET /v1/tasks/x/logs"] {
        let (status, failure) = world.ask(line, &Value::Null);
        assert_eq!((status, &failure["code"]), (404, &json!("E0002")), "{line}");
        names.push(failure["request"].as_str().unwrap().to_owned());
    }
    assert!(names.iter().all(|name| name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit())));
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 4);
    let (status, failure) = world.ask("PUT /v1/jobs/shop", &json!({ "name": 7 }));
    assert_eq!((status, &failure["code"]), (400, &json!("E0001")));
}

#[test]
fn the_description_is_served() {
    let world = World::new(|_| ());
    let (status, description) = world.ask("GET /v1/openapi.json", &Value::Null);
    assert_eq!(status, 200);
    assert!(description["paths"]["/v1/openapi.json"]["get"].is_object());
    assert!(description["paths"]["/v1/jobs/{job}"]["put"].is_object());
}

#[test]
fn a_volume_that_is_missing_is_shown_until_it_is_given_up() {
    let world = World::new(|_| ());
    let made = r#"{"form":1,"volumes":{"shop.data.0":"default"}}"#;
    std::fs::write(world.layout.volumes_made(), made).unwrap();
    let (status, volumes) = world.ask("GET /v1/volumes", &Value::Null);
    assert_eq!((status, volumes.as_array().unwrap().len()), (200, 1), "{volumes}");
    assert_eq!((&volumes[0]["id"], &volumes[0]["has_disk"]), (&json!("shop.data.0"), &json!(false)));
    let problem = volumes[0]["problem"].as_str().unwrap();
    assert!(problem.contains("is missing") && problem.contains("lith volume rm shop.data.0"), "{problem}");
    let (status, removed) = world.ask("DELETE /v1/volumes/shop.data.0", &Value::Null);
    assert_eq!((status, &removed["id"]), (200, &json!("shop.data.0")), "{removed}");
    assert_eq!(world.ask("GET /v1/volumes", &Value::Null), (200, json!([])));
    assert_eq!(world.ask("DELETE /v1/volumes/shop.data.0", &Value::Null).0, 404);
}

#[test]
fn what_tasks_were_refused_is_asked_of_a_job_that_is_there() {
    let world = World::new(|_| ());
    let (status, failure) = world.ask("GET /v1/jobs/shop/blocked", &Value::Null);
    assert_eq!((status, &failure["code"]), (404, &json!("E0002")));
    assert_eq!(world.deploy("", 1).0, 200);
    let (status, blocked) = world.ask("GET /v1/jobs/shop/blocked?since_ms=5", &Value::Null);
    assert_eq!((status, &blocked["attempts"]), (200, &json!([])));
    assert!(blocked["now_ms"].as_u64().unwrap() > 5, "{blocked}");
    let event = Event {
        id: 0,
        time_ms: 0,
        job: Some("shop".to_owned()),
        task: Some("shop.main.0.web".to_owned()),
        kind: "blocked".to_owned(),
        message: "the name db was refused; to allow it: connects: [ pg/db ]".to_owned(),
    };
    let mut events = world.events("", "");
    world.blocked.blocking_send(event.clone()).unwrap();
    let told = events.next().unwrap();
    assert_eq!((told.task, told.message), (event.task, event.message));
    assert!(told.id > 0 && told.time_ms > 0);
}

#[test]
fn a_port_that_a_program_holds_is_refused_before_anything_changes() {
    let world = World::new(|_| ());
    // An address of its own, so that no other program takes the port.
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = std::net::Ipv4Addr::new(127, 85, high, low);
    let socket = std::net::UdpSocket::bind((address, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    // In another process, for this one's are lith's own.
    let mut holder = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(std::os::fd::OwnedFd::from(socket))
        .spawn()
        .unwrap();
    let publishing = |entries: &[String]| {
        let mut job = shop(1);
        job["groups"]["main"]["tasks"]["web"]["publish"] = json!(entries);
        job
    };
    let entry = format!("{port}:53/udp");
    for query in ["?dry_run=true", "?if_version=0", ""] {
        let (status, failure) =
            world.ask(&format!("PUT /v1/jobs/shop{query}"), &publishing(std::slice::from_ref(&entry)));
        assert_eq!((status, &failure["code"]), (409, &json!("E0003")), "{failure}");
        let message = format!(
            "port {port}/udp of this machine, which task \"web\" publishes with \"{entry}\", is held by cat (pid {}) on {address}",
            holder.id()
        );
        assert_eq!(failure["message"], json!(message));
    }
    assert_eq!(world.ask("GET /v1/jobs", &Value::Null).1, json!([]));
    let elsewhere = publishing(&[format!("127.0.0.1:{port}:53/udp"), format!("{port}:53")]);
    assert_eq!(world.ask("PUT /v1/jobs/shop?dry_run=true", &elsewhere).0, 200);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(world.ask("PUT /v1/jobs/shop", &publishing(&[entry])).0, 200);
}
