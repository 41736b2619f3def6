//! Networks, names, evidence and the internet.

use super::{Folder, converted, decisions, options, task, told, with, words};
use crate::compose::convert::ConvertOptions;

/// `from -> to ports (evidence)`, a line each.
fn list(text: &str) -> String {
    lines(&converted(text))
}

fn lines(converted: &crate::compose::convert::Converted) -> String {
    let line = |c: &crate::compose::convert::connect::Connection| {
        let ports = if c.ports.is_empty() { String::from("*") } else { words(&c.ports) };
        format!("{} -> {} {ports} ({})\n", c.from, c.to, words(&c.evidence))
    };
    converted.connections.iter().map(line).collect()
}

const SHOP: &str = "
services:
  web:
    image: shop:1
    ports: [ \"8080:80\" ]
    environment:
      DATABASE_URL: postgres://u:p@db:5432/shop
      CACHE_HOST: cache
      CACHE_PORT: 6379
    depends_on: [ db ]
  db: { image: \"postgres:17\" }
  cache: { image: \"redis:7\", expose: [ 6380 ] }
  mail: { image: mailer, networks: [ apart ] }
networks: { apart: { internal: true } }
";

#[test]
fn every_pair_on_a_network_with_what_speaks_for_it() {
    insta::assert_snapshot!(list(SHOP), @"
    cache -> db 5432 ()
    cache -> web 80 ()
    db -> cache 6379, 6380 ()
    db -> web 80 ()
    web -> cache 6379, 6380 (environment CACHE_HOST)
    web -> db 5432 (depends_on, environment DATABASE_URL)
    ");
    let job = converted(SHOP).job;
    insta::assert_snapshot!(words(&task(&job, "web").connects), @"cache, db");
    insta::assert_snapshot!(words(&task(&job, "cache").ports), @"6379, 6380");
    insta::assert_snapshot!(words(&task(&job, "db").ports), @"5432");
}

#[test]
fn narrow_keeps_what_something_speaks_for() {
    let narrow = ConvertOptions { narrow: true, ..options() };
    let converted = with(SHOP, &narrow, &Folder::default());
    insta::assert_snapshot!(lines(&converted), @"
    web -> cache 6379, 6380 (environment CACHE_HOST)
    web -> db 5432 (depends_on, environment DATABASE_URL)
    ");
    insta::assert_snapshot!(decisions(&converted), @"
    web.connects: db: depends_on, environment DATABASE_URL
    web.connects: cache: environment CACHE_HOST
    job: Compose allows 6 connections; the 2 that something speaks for are kept
    job: Compose implies `egress: [ internet ]`; remove it where a task needs none
    ");
}

#[test]
fn internal_networks_have_no_way_out() {
    let job = converted(SHOP).job;
    assert_eq!(words(&task(&job, "web").egress), "internet");
    assert!(task(&job, "mail").egress.is_empty() && task(&job, "mail").connects.is_empty());
    let both = "
services: { a: { image: a, networks: [ in, out ] }, b: { image: b, network_mode: none } }
networks: { in: { internal: true }, out: {} }
";
    let job = converted(both).job;
    assert_eq!(words(&task(&job, "a").egress), "internet");
    assert!(task(&job, "b").egress.is_empty());
    insta::assert_snapshot!(told(both), @"
    note: Compose implies it, so these may reach the internet: a
     --> compose.yaml:2:13
      |
    2 | services: { a: { image: a, networks: [ in, out ] }, b: { image: b, network_mode: none } }
      |             ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone
    ");
}

#[test]
fn a_target_that_is_called_without_a_port_is_open() {
    let text = "
services:
  a: { image: a, environment: { Q: \"mq:5672\" } }
  b: { image: b, environment: { Q: mq } }
  c: { image: c, command: \"run --queue=mq-old\" }
  mq: { image: rabbitmq }
";
    insta::assert_snapshot!(list(text), @"
    a -> b * ()
    a -> c * ()
    a -> mq 5672 (environment Q)
    b -> a * ()
    b -> c * ()
    b -> mq * (environment Q)
    c -> a * ()
    c -> b * ()
    c -> mq 5672 ()
    mq -> a * ()
    mq -> b * ()
    mq -> c * ()
    ");
}

#[test]
fn further_names_are_aliases() {
    let text = "
services:
  web_app: { image: a, container_name: shop_web, command: [ serve, \"--db\", \"primary:5432\" ] }
  db:
    image: b
    hostname: database
    networks: { default: { aliases: [ primary, db, web_app ] } }
  worker: { image: c, links: [ \"db:store\" ], network_mode: bridge }
";
    let converted = converted(text);
    insta::assert_snapshot!(words(&task(&converted.job, "web-app").connects), @"db, db as database, db as primary");
    insta::assert_snapshot!(words(&task(&converted.job, "db").connects), @"web-app:*, web-app:* as shop_web, web-app:* as web_app");
    insta::assert_snapshot!(words(&task(&converted.job, "worker").connects), @"db, db as database, db as store");
    insta::assert_snapshot!(decisions(&converted), @"
    web-app.image: `web_app` in Compose; names are DNS labels here
    web-app.connects: db: command
    worker.connects: db: depends_on, links
    job: Compose allows these 3 connections; something speaks for 2 of them (`--narrow` keeps only those)
    job: Compose implies `egress: [ internet ]`; remove it where a task needs none
    ");
    insta::assert_snapshot!(told(text), @r#"
    note: Compose implies it, so these may reach the internet: db, web-app, worker
     --> compose.yaml:3:3
      |
    3 |   web_app: { image: a, container_name: shop_web, command: [ serve, "--db", "primary:5432" ] }
      |   ^^^^^^^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    warning: `web_app` is also the name of another service, which keeps it
     --> compose.yaml:4:3
      |
    4 |   db:
      |   ^^
      |
      = hint: give one of them another name
    "#);
}

#[test]
fn external_networks_are_networks_of_the_file() {
    let text = "
services:
  a: { image: a, networks: [ proxy ] }
  b: { image: b, networks: [ proxy ], external_links: [ other ] }
networks: { proxy: { external: true } }
";
    insta::assert_snapshot!(list(text), @"
    a -> b * ()
    b -> a * ()
    ");
    insta::assert_snapshot!(told(text), @"
    note: Compose implies it, so these may reach the internet: a, b
     --> compose.yaml:3:3
      |
    3 |   a: { image: a, networks: [ proxy ] }
      |   ^
      |
      = hint: to take it away, put a service on networks with `internal: true` alone

    warning: nothing outside of the file is reached by itself, so `other` is not
     --> compose.yaml:4:57
      |
    4 |   b: { image: b, networks: [ proxy ], external_links: [ other ] }
      |                                                         ^^^^^
      |
      = hint: add `connects: [ JOB/TASK ]` to the job file that `lith convert` prints

    warning: on `proxy` only services of this file reach each other, nothing of other projects
     --> compose.yaml:5:13
      |
    5 | networks: { proxy: { external: true } }
      |             ^^^^^
      |
      = hint: to reach a task of another job, add `connects: [ JOB/TASK ]` to the job file that `lith convert` prints
    ");
}

/// Which services the value of a variable speaks for, each with the ports that it names.
fn named_by(value: &str) -> String {
    let services: String =
        ["db", "cache", "gateway"].map(|name| format!("  {name}: {{ image: x }}\n")).concat();
    let text = format!("services:\n{services}  web: {{ image: web, environment: {{ V: {value:?} }} }}\n");
    let narrow = ConvertOptions { narrow: true, ..options() };
    let converted = with(&text, &narrow, &Folder::default());
    let all = converted.connections.iter().filter(|connection| connection.from.as_str() == "web");
    let line = |connection: &crate::compose::convert::Connection| {
        [connection.to.to_string(), words(&connection.ports)].join(" ").trim_end().to_owned()
    };
    all.map(line).collect::<Vec<String>>().join("; ")
}

#[test]
fn a_name_counts_where_a_host_can_stand() {
    for (value, named) in [
        ("db", "db"),
        ("DB", "db"),
        ("db:5432", "db 5432"),
        ("db.", "db"),
        ("postgres://db/shop", "db"),
        ("postgres://gateway:cache@db/cache", "db"),
        ("postgres://gateway:1234@db:5432/cache", "db 5432"),
        ("gateway://cache:6379/0", "cache 6379"),
        ("db/shop", "db"),
        ("minio|db?key=gateway,x", "gateway"),
        ("db|cache", "db"),
        ("host=db port=5432 user=cache", "cache; db"),
        ("{\"host\": \"db\", \"port\": 5432}", "db"),
        ("db,cache:6379", "cache 6379; db"),
        ("localhost 10.0.0.1 db", "db"),
        ("try cache:6379 first", "cache 6379"),
        ("notes behind a gateway", ""),
        ("gateway of the shop", ""),
        ("the gateway, not the cache", ""),
        ("/var/lib/db", ""),
        ("/var/cache/db/x", ""),
        ("gateway-old", ""),
        ("a db.", ""),
    ] {
        assert_eq!(named_by(value), named, "{value}");
    }
}

#[test]
fn each_word_of_a_command_can_be_a_host() {
    let text = "
services:
  a: { image: a, command: \"wait --for=db 5432\" }
  b: { image: b, entrypoint: [ sh, -c, \"nc -z db 5432; cp /etc/db/x .\" ] }
  c: { image: c, healthcheck: { test: \"pg_isready -h db\" } }
  d: { image: d, command: \"cat /srv/db\" }
  db: { image: db }
";
    let narrow = ConvertOptions { narrow: true, ..options() };
    insta::assert_snapshot!(lines(&with(text, &narrow, &Folder::default())), @"
    a -> db * (command)
    b -> db * (entrypoint)
    c -> db * (healthcheck)
    ");
}
