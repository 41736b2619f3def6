//! Real servers as images that no one adapted, spoken to by their own clients from another machine.

use std::net::SocketAddr;

use lith_testkit::{HOST, NEIGHBOUR, Output, World, eventually};
use serde_json::json;

use crate::client::{ask_udp, page};

/// Answers each datagram with where it came from.
const ECHO: &str = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"0.0.0.0\", 5353))\n\
                    while True: d, a = s.recvfrom(2048); s.sendto(a[0].encode() + b\" \" + d, a)";

#[test]
fn nginx_and_a_python_app_serve() {
    let world = World::start(&["nginx", "python"]);
    let echo = serde_json::to_string(ECHO).unwrap();
    let job = format!(
        r#"
job: sites
tasks:
  nginx: {{ image: "nginx:1", memory: 128M, publish: ["8081:80"] }}
  notes: {{ image: "python:1", memory: 192M, publish: ["8000:8000"] }}
  echo:
    image: python:1
    memory: 128M
    entrypoint: [python3, -c, {echo}]
    publish: ["5353:5353/udp"]
"#
    );
    let _ = world.deploy(&job).ok();
    assert!(page(&world.lan, &format!("http://{HOST}:8081/")).contains("nginx"));
    let output = world.lith(&["logs", "sites/nginx"]).ok();
    let log = output.stdout + &output.stderr;
    assert!(log.contains(&NEIGHBOUR.to_string()), "nginx logs the client: {log}");

    let notes = format!("http://{HOST}:8000");
    let whoami = world.lan.command("curl", &["-sS", &format!("{notes}/whoami")]).json();
    let group = world.lith(&["exec", "sites/notes", "--", "getent", "group", "app"]).ok().stdout;
    let gid: u32 = group.split(':').nth(2).unwrap().parse().unwrap();
    assert_eq!(whoami, json!({ "uid": 10001, "gid": gid, "cwd": "/app" }), "as the image says");
    let added = world.lan.command("curl", &["-sS", "-d", "buy milk", &format!("{notes}/notes")]).json();
    assert_eq!(added, json!({ "id": 1 }));

    let answer = ask_udp(&world.lan, SocketAddr::from((HOST, 5353)), "ping");
    assert_eq!(answer, format!("{NEIGHBOUR} ping"));
    let answer = ask_udp(&world.host, SocketAddr::from(([127, 0, 0, 1], 5353)), "ping");
    assert_eq!(answer, "169.254.83.1 ping");

    let _ = world.lith(&["restart", "sites/notes"]).ok();
    let kept = world.lan.command("curl", &["-sS", &format!("{notes}/notes")]).json();
    assert_eq!(kept, json!([{ "id": 1, "text": "buy milk" }]));
}

#[test]
fn redis_and_postgres_keep_what_they_were_told() {
    let world = World::start(&["redis", "postgres"]);
    let job = r#"
job: stores
tasks:
  cache: { image: "redis:1", memory: 128M, publish: ["6379:6379"] }
  db:
    image: postgres:1
    memory: 256M
    env: { POSTGRES_PASSWORD: secret }
    publish: ["5432:5432"]
    stop_grace: 60s
"#;
    let _ = world.deploy(job).ok();
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

    let _ = world.lith(&["restart", "stores"]).ok();
    assert_eq!(redis(&["get", "colour"]), "green\n");
    let trees = eventually("the database to take queries again", || {
        let output = psql(&world, "select name from trees order by name");
        if output.code == 0 { Ok(output.stdout) } else { Err(output) }
    });
    assert_eq!(trees, "fir\noak\n");
    let output = world.lith(&["logs", "stores/db"]).ok();
    let log = output.stdout + &output.stderr;
    assert!(log.contains("database system is shut down"), "it was stopped in peace: {log}");
}

fn psql(world: &World, query: &str) -> Output {
    let connection = format!("postgresql://postgres:secret@{HOST}/postgres?connect_timeout=10");
    world.lan.command("psql", &["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", query, &connection])
}
