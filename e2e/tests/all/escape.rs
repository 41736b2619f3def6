//! From inside guests, as root, towards everything that is not theirs: each attempt fails, and its allowed twin works. What is
//! tried stands in `docs/reference/isolation.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use lith_testkit::{FAR, FAR_6, HOST, HOST_6, METADATA, NEIGHBOUR, NEIGHBOUR_6, Running, World, eventually};
use serde_json::{Value, json};

use crate::client::request;
use crate::peers::{self, PROGRAM};

const PROBES: &str = include_str!("escape/probes.py");
const DOCUMENT: &str = include_str!("../../../docs/reference/isolation.md");
/// A public address that the friend may reach by its name, one that has no name, and one of a provider's own network. The
/// neighbour has them all.
const NAMED: Ipv4Addr = Ipv4Addr::new(20, 0, 0, 8);
const UNNAMED: Ipv4Addr = Ipv4Addr::new(20, 0, 0, 9);
const SHARED: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 7);
const PORT: u16 = 7000;
/// The guests from which is tried, with their jobs. Those without a right come first: nothing is open yet.
const GUESTS: [(&str, &str); 4] =
    [("hostile", "stranger"), ("victim", "walls"), ("friend", "guests"), ("surfer", "guests")];

#[test]
fn nothing_escapes() {
    let mut world = World::prepare();
    prepare(&mut world);
    let mut peers = Peers::start(&world);
    world.up();
    world.load("python");
    deploy(&world);
    peers.sniff_in_the_victim(&world);
    let known = known(&world).to_string();
    let mut answers: BTreeMap<(String, String), bool> = BTreeMap::new();
    for (guest, job) in GUESTS {
        for (key, answered) in probe(&world, job, guest, &known) {
            answers.insert(key, answered);
        }
    }
    check(&peers, &answers);
    is_well(&world);
}

/// Addresses of a neighbourhood, and a resolver of the machine that the test serves.
fn prepare(world: &mut World) {
    for address in [NAMED, UNNAMED, SHARED] {
        world.lan.shell(&format!("ip addr add {address}/32 dev lo"));
    }
    peers::resolve_at_the_neighbour(world);
}

/// A target, one without any right, one with some, and one that may reach the internet.
fn deploy(world: &World) {
    let task = |entrypoint: Value, more: Value| {
        let mut task = json!({
            "image": "python:1", "entrypoint": entrypoint, "user": "root", "working_dir": "/",
            "memory_bytes": 192 << 20, "cpu_millis": 1000, "restart": "always", "stop_grace_ms": 200,
        });
        let (task_fields, more) = (task.as_object_mut().unwrap(), more.as_object().unwrap().clone());
        task_fields.extend(more);
        task
    };
    let idle = || json!(["sleep", "infinity"]);
    let victim = task(
        json!(["python3", "-c", PROGRAM, "serve", "7000", "7001"]),
        json!({ "ports": ["7000", "7000/udp"], "publish": ["8080:7000"] }),
    );
    let friend = json!({
        "connects": ["walls/victim"],
        "egress": [
            format!("{NEIGHBOUR}:{PORT}"), format!("{NEIGHBOUR}:{PORT}/udp"), format!("[{NEIGHBOUR_6}]:{PORT}"),
            format!("{HOST}:8080"), format!("open.example.com:{PORT}"), format!("rebind.example.com:{PORT}"),
            format!("home.example.com:{PORT}"),
        ],
    });
    let surfer = task(idle(), json!({ "egress": ["internet"] }));
    for (job, tasks) in [
        ("walls", json!({ "victim": victim })),
        ("stranger", json!({ "hostile": task(idle(), json!({})) })),
        ("guests", json!({ "friend": task(idle(), friend), "surfer": surfer })),
    ] {
        let _ = world.put(&json!({ "name": job, "groups": { "main": { "count": 1, "tasks": tasks } } }));
    }
    for (guest, job) in GUESTS {
        eventually(&format!("{guest} to be ready"), || {
            let task = task_of(world, job, guest);
            if task["is_ready"] == true { Ok(()) } else { Err(task) }
        });
    }
}

fn task_of(world: &World, job: &str, name: &str) -> Value {
    world.tasks(job).into_iter().find(|task| task["task"] == name).unwrap_or_default()
}

/// What the probes must know.
fn known(world: &World) -> Value {
    let mut addresses = BTreeMap::new();
    let mut cables = Vec::new();
    for (guest, job) in GUESTS {
        let address: Ipv4Addr = task_of(world, job, guest)["address"].as_str().unwrap().parse().unwrap();
        let [_, _, high, low] = address.octets();
        let slot = u16::from_be_bytes([high, low]);
        addresses.insert(guest, [address.to_string(), format!("fd6c:690a:5301::{slot:x}")]);
        cables.extend(["69", "68"].map(|end| format!("02:6c:{end}:74:{high:02x}:{low:02x}")));
    }
    let ask = "import socket; print(socket.gethostbyname('victim'))";
    let service: Ipv4Addr = world
        .lith(&["exec", "guests/friend", "--", "python3", "-c", ask])
        .ok()
        .stdout
        .trim()
        .parse()
        .unwrap();
    let [_, _, high, low] = service.octets();
    let service_6 = format!("fd6c:690a:5301:1::{:x}", u16::from_be_bytes([high & 0x7f, low]));
    json!({
        "addresses": addresses, "services": { "victim": [service.to_string(), service_6] }, "cables": cables,
        "host": HOST, "host_6": HOST_6, "neighbour": NEIGHBOUR, "neighbour_6": NEIGHBOUR_6, "far": FAR, "far_6": FAR_6,
        "metadata": METADATA, "gateway": "169.254.83.1", "gateway_6": "fd6c:6974:6800::53:1",
        "gateway_link_6": "fe80::53:1", "broadcast": "192.0.2.255", "shared": SHARED, "named": NAMED, "unnamed": UNNAMED,
    })
}

/// Whether each try of a guest was answered, by its case and kind.
fn probe(world: &World, job: &str, guest: &str, known: &str) -> Vec<((String, String), bool)> {
    let task = format!("{job}/{guest}");
    let line = ["exec", "-i", &task, "--", "python3", "-", guest, known];
    let output = world.lith_with_input(&line, PROBES.as_bytes()).ok();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        ((text("case"), text("kind")), line["answered"].as_bool().unwrap())
    };
    output.stdout.lines().map(line).collect()
}

/// Each attempt was in vain, each twin was not, and both are what the document lists.
fn check(peers: &Peers, answers: &BTreeMap<(String, String), bool>) {
    let cases: BTreeSet<&str> = answers.keys().map(|(case, _)| case.as_str()).collect();
    assert_eq!(cases, listed(), "docs/reference/isolation.md lists other cases");
    assert!(cases.len() >= 40, "{}", cases.len());
    let got_through = |case: &str, kind: &str| {
        answers[&(case.to_owned(), kind.to_owned())] || peers.heard(&format!("{kind}:{case}"))
    };
    // The last frames of the last guest may be on their way.
    eventually("every twin to work", || {
        let failed: Vec<&str> = cases.iter().copied().filter(|case| !got_through(case, "twin")).collect();
        if failed.is_empty() { Ok(()) } else { Err(format!("these allowed twins did not: {failed:?}")) }
    });
    let escaped: Vec<&str> = cases.iter().copied().filter(|case| got_through(case, "attempt")).collect();
    assert_eq!(escaped, Vec::<&str>::new(), "these got through");
    let asked = peers.names.stdout();
    for secret in ["tunnel.example.net", "victim", "lith.internal", "nobody.example.net"] {
        assert!(!asked.contains(secret), "the world was asked for {secret}:\n{asked}");
    }
}

/// The cases of the document: the first column of its tables.
fn listed() -> BTreeSet<&'static str> {
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(case, _)| case).collect()
}

/// After all that, everything goes on.
fn is_well(world: &World) {
    assert!(world.daemon().is_some_and(lith_testkit::Pid::is_alive));
    for (guest, job) in GUESTS {
        assert_eq!(task_of(world, job, guest)["is_ready"], true, "{guest}");
    }
    assert!(request(&world.lan, SocketAddr::from((HOST, 8080))).unwrap().starts_with("hello"));
}

/// Those who listen.
struct Peers {
    names: Running,
    others: Vec<Running>,
}

impl Peers {
    fn start(world: &World) -> Self {
        let zone = json!({
            "open.example.com": [NAMED],
            "home.example.com": [NEIGHBOUR, NEIGHBOUR_6],
            "rebind.example.com": ["192.168.77.7", "fd00:77::7"],
            "loopback.example.com": ["127.0.0.1", "::1"],
            "metadata.example.com": [METADATA],
            "task.example.com": ["10.83.0.1", "fd6c:690a:5301::1"],
        });
        let serve = ["serve", "7000", "7001"];
        let names = peers::start(&world.lan, &["names", &zone.to_string()]);
        let others = vec![
            peers::start(&world.lan, &serve),
            peers::start(&world.lan, &["sniff"]),
            peers::start(&world.host, &serve),
        ];
        Self { names, others }
    }

    fn sniff_in_the_victim(&mut self, world: &World) {
        let mut running =
            world.lith_running(&["exec", "walls/victim", "--", "python3", "-c", PROGRAM, "sniff"]);
        running.wait_for("ready");
        self.others.push(running);
    }

    fn heard(&self, mark: &str) -> bool {
        let line = format!("heard {mark}");
        self.others.iter().any(|peer| peer.stdout().lines().any(|heard| heard == line))
    }
}
