//! Real servers as images that no one adapted, deployed with the job files that people copy, spoken to by their own
//! clients from another machine.

use std::net::SocketAddr;

use lith_testkit::{HOST, NEIGHBOUR, Output, World, eventually};
use serde_json::json;

use crate::client::{ask_udp, page};

const BUSYBOX: &str = include_str!("../../../examples/busybox/job.yaml");
const NGINX: &str = include_str!("../../../examples/nginx/job.yaml");
const POSTGRES: &str = include_str!("../../../examples/postgres/job.yaml");
const PYTHON: &str = include_str!("../../../examples/python/job.yaml");
const REDIS: &str = include_str!("../../../examples/redis/job.yaml");

/// Answers each datagram with where it came from.
const ECHO: &str = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"0.0.0.0\", 5353))\n\
                    while True: d, a = s.recvfrom(2048); s.sendto(a[0].encode() + b\" \" + d, a)";

#[test]
fn nginx_and_a_python_app_serve() {
    let world = World::start(&["busybox", "nginx", "python"]);
    let echo = serde_json::to_string(ECHO).unwrap();
    let job = format!(
        r#"
job: echo
tasks:
  echo:
    image: python:1
    memory: 128M
    entrypoint: [python3, -c, {echo}]
    publish: ["5353:5353/udp"]
"#
    );
    for job in [BUSYBOX, NGINX, PYTHON, &job] {
        let _ = world.deploy(job).ok();
    }
    logged(&world, "busybox", "alive");
    assert!(page(&world.lan, &format!("http://{HOST}:8081/")).contains("nginx"));
    logged(&world, "nginx", &NEIGHBOUR.to_string());

    let notes = format!("http://{HOST}:8000");
    let whoami = world.lan.command("curl", &["-sS", &format!("{notes}/whoami")]).json();
    let group = world.lith(&["exec", "python", "--", "getent", "group", "app"]).ok().stdout;
    let gid: u32 = group.split(':').nth(2).unwrap().parse().unwrap();
    assert_eq!(whoami, json!({ "uid": 10001, "gid": gid, "cwd": "/app" }), "as the image says");
    let added = world.lan.command("curl", &["-sS", "-d", "buy milk", &format!("{notes}/notes")]).json();
    assert_eq!(added, json!({ "id": 1 }));

    let answer = ask_udp(&world.lan, SocketAddr::from((HOST, 5353)), "ping");
    assert_eq!(answer, format!("{NEIGHBOUR} ping"));
    let answer = ask_udp(&world.host, SocketAddr::from(([127, 0, 0, 1], 5353)), "ping");
    assert_eq!(answer, "169.254.83.1 ping");

    let _ = world.lith(&["restart", "python"]).ok();
    let kept = world.lan.command("curl", &["-sS", &format!("{notes}/notes")]).json();
    assert_eq!(kept, json!([{ "id": 1, "text": "buy milk" }]));
}

#[test]
fn redis_and_postgres_keep_what_they_were_told() {
    let world = World::start(&["redis", "postgres"]);
    let _ = world.deploy(REDIS).ok();
    let _ = world.deploy(POSTGRES).ok();
    let redis = |words: &[&str]| {
        let host = HOST.to_string();
        world.lan.command("redis-cli", &[&["-h", &host], words].concat()).ok().stdout
    };
    assert_eq!(redis(&["ping"]), "PONG\n");
    assert_eq!(redis(&["set", "colour", "green"]), "OK\n");
    assert_eq!(redis(&["save"]), "OK\n");
    // The port opens before the database takes queries.
    eventually("the database to take queries", || {
        let output = psql(&world, "select 1");
        if output.code == 0 { Ok(()) } else { Err(output) }
    });
    let _ = psql(&world, "create table trees (name text); insert into trees values ('oak'), ('fir')").ok();

    let _ = world.lith(&["restart", "redis"]).ok();
    let _ = world.lith(&["restart", "postgres"]).ok();
    assert_eq!(redis(&["get", "colour"]), "green\n");
    let trees = eventually("the database to take queries again", || {
        let output = psql(&world, "select name from trees order by name");
        if output.code == 0 { Ok(output.stdout) } else { Err(output) }
    });
    assert_eq!(trees, "fir\noak\n");
    // It was stopped in peace.
    logged(&world, "postgres", "database system is shut down");
}

/// Waits until a text stands in a job's log: what a process writes is there a moment later.
fn logged(world: &World, job: &str, text: &str) {
    eventually(&format!("{text:?} in the log of {job}"), || {
        let log = world.lith(&["logs", job]).ok();
        let is_there = log.stdout.contains(text) || log.stderr.contains(text);
        if is_there { Ok(()) } else { Err(log) }
    });
}

fn psql(world: &World, query: &str) -> Output {
    let connection = format!("postgresql://postgres:secret@{HOST}/postgres?connect_timeout=10");
    world.lan.command("psql", &["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", query, &connection])
}
