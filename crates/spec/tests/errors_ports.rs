//! The words a person gets for mistakes in ports: they are product, so every change to them shows here.

mod support;

use support::shown;

#[test]
fn ports() {
    let text = r#"job: hello
tasks:
  web:
    image: nginx
    ports: [ "8080:80", 0, 70000, http, 80/sctp, 8010-8000, { target: 80 } ]
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `8080:80` is not a port
     --> job.yaml:5:14
      |
    5 |     ports: [ "8080:80", 0, 70000, http, 80/sctp, 8010-8000, { target: 80 } ]
      |              ^^^^^^^^^
      |
      = hint: `ports` lists what the task listens on; to offer it on the node: `publish: [ "8080:80" ]`

    error: `0` is not a port
     --> job.yaml:5:25
      |
    5 |     ports: [ "8080:80", 0, 70000, http, 80/sctp, 8010-8000, { target: 80 } ]
      |                         ^
      |
      = hint: ports are 1 to 65535; a range is written `9000-9010`

    error: `70000` is not a port
     --> job.yaml:5:28
      |
    5 |     ports: [ "8080:80", 0, 70000, http, 80/sctp, 8010-8000, { target: 80 } ]
      |                            ^^^^^
      |
      = hint: ports are 1 to 65535; a range is written `9000-9010`

    error: `http` is not a port
     --> job.yaml:5:35
      |
    5 |     ports: [ "8080:80", 0, 70000, http, 80/sctp, 8010-8000, { target: 80 } ]
      |                                   ^^^^
      |
      = hint: ports are 1 to 65535; a range is written `9000-9010`

    error: `80/sctp` is not a port
     --> job.yaml:5:41
      |
    5 |     ports: [ "8080:80", 0, 70000, http, 80/sctp, 8010-8000, { target: 80 } ]
      |                                         ^^^^^^^
      |
      = hint: write `/tcp` or `/udp` after the port

    error: `8010-8000` is not a port
     --> job.yaml:5:50
      |
    5 |     ports: [ "8080:80", 0, 70000, http, 80/sctp, 8010-8000, { target: 80 } ]
      |                                                  ^^^^^^^^^
      |
      = hint: ports are 1 to 65535; a range is written `9000-9010`

    error: the items of `ports` are single values; this is a mapping
     --> job.yaml:5:61
      |
    5 |     ports: [ "8080:80", 0, 70000, http, 80/sctp, 8010-8000, { target: 80 } ]
      |                                                             ^^^^^^^^^^^^^^
      |
      = hint: write each item as one value, in quotes if it holds `: `
    "#);
}

#[test]
fn publish_ports() {
    let text = r#"job: hello
tasks:
  web:
    image: nginx
    publish:
      - ":80"
      - 8080:http
      - 8000-8010:8000-8011
      - 8080:70000
      - 53:53/dns
      - "1:2:3:4"
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `:80` does not publish a port
     --> job.yaml:6:9
      |
    6 |       - ":80"
      |         ^^^^^
      |
      = hint: write "NODE:TASK", such as "8080:80", "127.0.0.1:8080:80" or "5353:53/udp"

    error: `8080:http` does not publish a port
     --> job.yaml:7:9
      |
    7 |       - 8080:http
      |         ^^^^^^^^^
      |
      = hint: write "NODE:TASK", such as "8080:80", "127.0.0.1:8080:80" or "5353:53/udp"

    error: `8000-8010:8000-8011` does not publish a port
     --> job.yaml:8:9
      |
    8 |       - 8000-8010:8000-8011
      |         ^^^^^^^^^^^^^^^^^^^
      |
      = hint: both ranges have the same number of ports, as in "9000-9010:9000-9010"

    error: `8080:70000` does not publish a port
     --> job.yaml:9:9
      |
    9 |       - 8080:70000
      |         ^^^^^^^^^^
      |
      = hint: ports are 1 to 65535; a range is written `9000-9010`

    error: `53:53/dns` does not publish a port
      --> job.yaml:10:9
       |
    10 |       - 53:53/dns
       |         ^^^^^^^^^
       |
       = hint: write `/tcp` or `/udp` after the ports

    error: `1:2:3:4` does not publish a port
      --> job.yaml:11:9
       |
    11 |       - "1:2:3:4"
       |         ^^^^^^^^^
       |
       = hint: write "NODE:TASK", such as "8080:80", "127.0.0.1:8080:80" or "5353:53/udp"
    "#);
}

#[test]
fn publish_addresses() {
    let text = r#"job: hello
tasks:
  web:
    image: nginx
    publish:
      - 127.0.0.1:80
      - localhost:8080:80
      - "[::1]:8080"
      - 224.0.0.1:80:80
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `127.0.0.1:80` does not publish a port
     --> job.yaml:6:9
      |
    6 |       - 127.0.0.1:80
      |         ^^^^^^^^^^^^
      |
      = hint: name the port of the node too, as in "127.0.0.1:80:80"

    error: `localhost` is not an address
     --> job.yaml:7:9
      |
    7 |       - localhost:8080:80
      |         ^^^^^^^^^^^^^^^^^
      |
      = hint: name an address of the node, such as 127.0.0.1, or none for all of them

    error: `[::1]:8080` does not publish a port
     --> job.yaml:8:9
      |
    8 |       - "[::1]:8080"
      |         ^^^^^^^^^^^^
      |
      = hint: name the port of the node too, as in "[::1]:8080:8080"

    error: `224.0.0.1` is no address of a node
     --> job.yaml:9:9
      |
    9 |       - 224.0.0.1:80:80
      |         ^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn publish_collides_with_itself() {
    let text = r#"job: hello
groups:
  front:
    count: 3
    tasks:
      web: { image: nginx, publish: [ "8080:80" ] }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: port 8080 of the node is wanted by each of the 3 instances of this group
     --> job.yaml:6:39
      |
    6 |       web: { image: nginx, publish: [ "8080:80" ] }
      |                                       ^^^^^^^^^
      |
      = hint: an instance that publishes a port is alone with it: set `count: 1`, or remove `publish`
    "#);
}

#[test]
fn publish_collides() {
    let text = r#"job: hello
tasks:
  web:
    image: nginx
    publish: [ "8080:80", "8080:81" ]
  api:
    image: api
    publish: [ "127.0.0.1:8080:80", "8080:80/udp" ]
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: port 8080/tcp of the node is already published by this task
     --> job.yaml:5:27
      |
    5 |     publish: [ "8080:80", "8080:81" ]
      |                           ^^^^^^^^^
      |
      = hint: choose another port before the colon, as in "8081:81"

    error: port 8080/tcp of the node is already published by task `web`
     --> job.yaml:8:16
      |
    8 |     publish: [ "127.0.0.1:8080:80", "8080:80/udp" ]
      |                ^^^^^^^^^^^^^^^^^^^
      |
      = hint: choose another port before the colon, as in "127.0.0.1:8081:80"
    "#);
}

#[test]
fn ports_repeated_is_shown_with_the_errors() {
    let text = r"job: hello
tasks:
  web:
    image: nginx
    ports: [ 80, 80 ]
    memory: x
";
    insta::assert_snapshot!(shown(text), @r#"
    warning: this stands in `ports` already
     --> job.yaml:5:18
      |
    5 |     ports: [ 80, 80 ]
      |                  ^^

    error: `x` is not a size
     --> job.yaml:6:13
      |
    6 |     memory: x
      |             ^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`
    "#);
}
