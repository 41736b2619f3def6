//! The words a person gets for mistakes in what a task reaches, offers, waits for, and how its health is asked for: they are
//! product, so every change to them shows here.

#![expect(clippy::too_many_lines, reason = "a test is as long as what is said in it")]

mod support;

use support::shown;

#[test]
fn connects() {
    let text = r#"job: hello
tasks:
  web:
    image: x
    connects: [ rediss, redis, "db:5432", "db:5433", "redis:6379", "redis:*", other/any, "a b", "db as", "db:http" ]
  db: { image: x, ports: [ 5432 ] }
  redis: { image: x }
  front: { image: x, publish: [ "80:8080" ] }
  back: { image: x, connects: [ front, "front:8080" ] }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: the job has no task `rediss`
     --> job.yaml:5:17
      |
    5 |     connects: [ rediss, redis, "db:5432", "db:5433", "redis:6379", "redis:*", other/any, "a b", "db as"...
      |                 ^^^^^^
      |
      = hint: did you mean `redis`?

    error: `redis` declares no ports, so this reaches nothing
     --> job.yaml:5:25
      |
    5 |     connects: [ rediss, redis, "db:5432", "db:5433", "redis:6379", "redis:*", other/any, "a b", "db as"...
      |                         ^^^^^
      |
      = hint: add `ports:` to `redis`, or write `redis:*` for all

    error: `db` does not declare port 5433
     --> job.yaml:5:43
      |
    5 |     connects: [ rediss, redis, "db:5432", "db:5433", "redis:6379", "redis:*", other/any, "a b", "db as"...
      |                                           ^^^^^^^^^
      |
      = hint: its ports are 5432; add this one if it listens there too

    error: `redis` does not declare port 6379
     --> job.yaml:5:54
      |
    5 |     connects: [ rediss, redis, "db:5432", "db:5433", "redis:6379", "redis:*", other/any, "a b", "db as"...
      |                                                      ^^^^^^^^^^^^
      |
      = hint: add `ports: [ 6379 ]` to `redis`

    error: `a b` names no task to connect to
     --> job.yaml:5:90
      |
    5 |     connects: [ rediss, redis, "db:5432", "db:5433", "redis:6379", "redis:*", other/any, "a b", "db as"...
      |                                                                                          ^^^^^
      |
      = hint: write a task of this job, or JOB/TASK, such as `redis`, `db:5432` or `postgres/db:5432 as db`

    error: `db as` names no task to connect to
     --> job.yaml:5:97
      |
    5 | ...", "redis:6379", "redis:*", other/any, "a b", "db as", "db:http" ]
      |                                                  ^^^^^^^
      |
      = hint: write a task of this job, or JOB/TASK, such as `redis`, `db:5432` or `postgres/db:5432 as db`

    error: `http` is not a port
     --> job.yaml:5:106
      |
    5 | ...6379", "redis:*", other/any, "a b", "db as", "db:http" ]
      |                                                 ^^^^^^^^^
      |
      = hint: ports are 1 to 65535; a range is written `9000-9010`

    error: `front` declares no ports, so this reaches nothing
     --> job.yaml:9:33
      |
    9 |   back: { image: x, connects: [ front, "front:8080" ] }
      |                                 ^^^^^
      |
      = hint: add `ports: [ 8080 ]` to `front`, or write `front:*` for all
    "#);
}

#[test]
fn egress_expose_and_hosts() {
    let text = r#"job: hello
tasks:
  web:
    image: x
    ports: [ 80 ]
    egress: [ everything, "https://example.org/x", "10.0.0.1/24", internet, internet ]
    expose: [ photos.example.org, "photos.example.org:81", "photos.example.org:80" ]
    hosts: { printer: here, "a b": 10.0.0.1, list: [ 10.0.0.1 ] }
  db: { image: x, egress: { internet: true }, hosts: [ a ] }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `everything` names nothing that a task could reach
     --> job.yaml:6:15
      |
    6 |     egress: [ everything, "https://example.org/x", "10.0.0.1/24", internet, internet ]
      |               ^^^^^^^^^^
      |
      = hint: write `internet`, or a host with its port such as `api.example.com:443`, or an address such as `192.168.1.20:631` or `10.0.0.0/24`

    error: `https://example.org/x` names nothing that a task could reach
     --> job.yaml:6:27
      |
    6 |     egress: [ everything, "https://example.org/x", "10.0.0.1/24", internet, internet ]
      |                           ^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write `example.org:443`

    error: `10.0.0.1/24` names nothing that a task could reach
     --> job.yaml:6:52
      |
    6 |     egress: [ everything, "https://example.org/x", "10.0.0.1/24", internet, internet ]
      |                                                    ^^^^^^^^^^^^^
      |
      = hint: the first address of this network is 10.0.0.0: write `10.0.0.0/24`

    warning: this stands in `egress` already
     --> job.yaml:6:77
      |
    6 |     egress: [ everything, "https://example.org/x", "10.0.0.1/24", internet, internet ]
      |                                                                             ^^^^^^^^

    error: `photos.example.org` exposes nothing
     --> job.yaml:7:15
      |
    7 |     expose: [ photos.example.org, "photos.example.org:81", "photos.example.org:80" ]
      |               ^^^^^^^^^^^^^^^^^^
      |
      = hint: write the host name and the port of the task that answers, such as `photos.example.org:8080`

    error: `web` does not declare port 81
     --> job.yaml:7:35
      |
    7 |     expose: [ photos.example.org, "photos.example.org:81", "photos.example.org:80" ]
      |                                   ^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: add `ports: [ 81 ]` to the task

    error: `here` is not an address
     --> job.yaml:8:23
      |
    8 |     hosts: { printer: here, "a b": 10.0.0.1, list: [ 10.0.0.1 ] }
      |                       ^^^^
      |
      = hint: write an address of IPv4 or IPv6, such as `192.168.1.20`

    error: `a b` is not a host name
     --> job.yaml:8:29
      |
    8 |     hosts: { printer: here, "a b": 10.0.0.1, list: [ 10.0.0.1 ] }
      |                             ^^^^^
      |
      = hint: host names hold letters, digits, `-`, `_` and `.`, such as `db` or `mail.example.org`

    error: `list` takes a single value; this is a list
     --> job.yaml:8:46
      |
    8 |     hosts: { printer: here, "a b": 10.0.0.1, list: [ 10.0.0.1 ] }
      |                                              ^^^^

    error: `egress` takes one value or a list; this is a mapping
     --> job.yaml:9:19
      |
    9 |   db: { image: x, egress: { internet: true }, hosts: [ a ] }
      |                   ^^^^^^

    error: `hosts` is a mapping of host names to addresses; this is a list
     --> job.yaml:9:47
      |
    9 |   db: { image: x, egress: { internet: true }, hosts: [ a ] }
      |                                               ^^^^^
      |
      = hint: write the keys below `hosts`, each in its own line and indented further
    "#);
}

#[test]
fn health() {
    let text = r#"job: hello
tasks:
  a: { image: x, health: off }
  b: { image: x, health: { http: "http://localhost:8080/x" } }
  c: { image: x, health: { http: "8080" } }
  d: { image: x, health: { http: ":0/" } }
  e: { image: x, health: { tcp: 80, shell: x } }
  f: { image: x, health: {} }
  g: { image: x, health: { tcp: 80, interval: 10s, retries: 0, every: 0s, timeout: 25h } }
  h: { image: x, health: { command: [] } }
  i: { image: x, health: { command: "a && b" } }
  j: { image: x, health: { shell: "" } }
  k: { image: x, health: [ curl ] }
  l: { image: x, health: { http: ":80/a b" } }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `off` is no check
     --> job.yaml:3:26
      |
    3 |   a: { image: x, health: off }
      |                          ^^^
      |
      = hint: write `none` for no check, or a mapping such as `{ http: ":8080/" }`

    error: `http://localhost:8080/x` is not a port and a path
     --> job.yaml:4:34
      |
    4 |   b: { image: x, health: { http: "http://localhost:8080/x" } }
      |                                  ^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: the task itself is asked: write `":8080/x"`

    error: `8080` is not a port and a path
     --> job.yaml:5:34
      |
    5 |   c: { image: x, health: { http: "8080" } }
      |                                  ^^^^^^
      |
      = hint: write the port and the path, such as `":8080/health"`

    error: `0` is not a port
     --> job.yaml:6:34
      |
    6 |   d: { image: x, health: { http: ":0/" } }
      |                                  ^^^^^
      |
      = hint: ports are 1 to 65535

    error: one check asks one thing; `shell` asks another
     --> job.yaml:7:37
      |
    7 |   e: { image: x, health: { tcp: 80, shell: x } }
      |                                     ^^^^^
      |
      = hint: keep `tcp` or `shell`

    error: this check asks nothing and changes nothing
     --> job.yaml:8:18
      |
    8 |   f: { image: x, health: {} }
      |                  ^^^^^^
      |
      = hint: add one of `http`, `tcp`, `command` and `shell`, or a time for the image's own check

    error: `health` has no key `interval`
     --> job.yaml:9:37
      |
    9 |   g: { image: x, health: { tcp: 80, interval: 10s, retries: 0, every: 0s, timeout: 25h } }
      |                                     ^^^^^^^^
      |
      = hint: did you mean `every`?

    error: `0` is not between 1 and 1000
     --> job.yaml:9:61
      |
    9 |   g: { image: x, health: { tcp: 80, interval: 10s, retries: 0, every: 0s, timeout: 25h } }
      |                                                             ^

    error: `0s` is no time at all
     --> job.yaml:9:71
      |
    9 |   g: { image: x, health: { tcp: 80, interval: 10s, retries: 0, every: 0s, timeout: 25h } }
      |                                                                       ^^
      |
      = hint: write a longer one, such as `10s`

    error: `25h` is longer than 24h
     --> job.yaml:9:84
      |
    9 |   g: { image: x, health: { tcp: 80, interval: 10s, retries: 0, every: 0s, timeout: 25h } }
      |                                                                                    ^^^

    error: the command of the check is empty
      --> job.yaml:10:28
       |
    10 |   h: { image: x, health: { command: [] } }
       |                            ^^^^^^^
       |
       = hint: name the program to run

    warning: `&&` means nothing here: no shell reads `command`
      --> job.yaml:11:37
       |
    11 |   i: { image: x, health: { command: "a && b" } }
       |                                     ^^^^^^^^
       |
       = hint: write `command: [ sh, -c, "…" ]` if the image has a shell

    error: the command of the check is empty
      --> job.yaml:12:28
       |
    12 |   j: { image: x, health: { shell: "" } }
       |                            ^^^^^
       |
       = hint: name the program to run

    error: `health` is `none`, or a mapping such as `{ http: ":8080/" }`; this is a list
      --> job.yaml:13:18
       |
    13 |   k: { image: x, health: [ curl ] }
       |                  ^^^^^^
       |
       = hint: write the keys below `health`, each in its own line and indented further

    error: `:80/a b` is not a port and a path
      --> job.yaml:14:34
       |
    14 |   l: { image: x, health: { http: ":80/a b" } }
       |                                  ^^^^^^^^^
       |
       = hint: a path holds no spaces; write `%20` for one
    "#);
}

#[test]
fn depends_on() {
    let text = r"job: hello
tasks:
  a: { image: x, depends_on: [ bb ] }
  bbb: { image: x, health: none }
  c: { image: x, depends_on: { bbb: healthy } }
  d: { image: x, depends_on: { bbb: service_completed_successfully } }
  e: { image: x, depends_on: { bbb: heathy } }
  f: { image: x, depends_on: bbb }
  g: { image: x, depends_on: { bbb: } }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: the job has no task `bb`
     --> job.yaml:3:32
      |
    3 |   a: { image: x, depends_on: [ bb ] }
      |                                ^^
      |
      = hint: did you mean `bbb`?

    error: `bbb` is never healthy: its `health` is `none`
     --> job.yaml:5:32
      |
    5 |   c: { image: x, depends_on: { bbb: healthy } }
      |                                ^^^
      |
      = hint: give `bbb` a check, or wait for `started`

    error: `service_completed_successfully` is none of `started`, `healthy`, `completed`
     --> job.yaml:6:37
      |
    6 |   d: { image: x, depends_on: { bbb: service_completed_successfully } }
      |                                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write `completed`

    error: `heathy` is none of `started`, `healthy`, `completed`
     --> job.yaml:7:37
      |
    7 |   e: { image: x, depends_on: { bbb: heathy } }
      |                                     ^^^^^^
      |
      = hint: did you mean `healthy`?

    error: `depends_on` takes a list of tasks, or a mapping of tasks to conditions
     --> job.yaml:8:18
      |
    8 |   f: { image: x, depends_on: bbb }
      |                  ^^^^^^^^^^
      |
      = hint: write `depends_on: [ db ]`, or `depends_on: { db: healthy }`

    error: `bbb` takes a single value; this is nothing
     --> job.yaml:9:32
      |
    9 |   g: { image: x, depends_on: { bbb: } }
      |                                ^^^
    "#);
}

#[test]
fn circle() {
    let text = r"job: hello
tasks:
  a: { image: x, depends_on: [ b ] }
  b: { image: x, depends_on: [ c ] }
  c: { image: x, depends_on: [ a ] }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: tasks wait for each other, so none can start: `a` → `b` → `c` → `a`
     --> job.yaml:3:32
      |
    3 |   a: { image: x, depends_on: [ b ] }
      |                                ^
      |
      = hint: remove one of these from `depends_on`
    "#);
}

#[test]
fn a_task_that_waits_for_itself() {
    let text = "job: hello\ntasks: { a: { image: x, depends_on: [ a ] } }\n";
    insta::assert_snapshot!(shown(text), @"
    error: `a` waits for itself
     --> job.yaml:2:39
      |
    2 | tasks: { a: { image: x, depends_on: [ a ] } }
      |                                       ^
      |
      = hint: remove it from `depends_on`
    ");
}

#[test]
fn a_name_in_two_groups() {
    let text = r"job: hello
groups:
  front: { tasks: { web: { image: x } } }
  back: { tasks: { web: { image: x } } }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: two groups have a task `web`
     --> job.yaml:4:20
      |
    4 |   back: { tasks: { web: { image: x } } }
      |                    ^^^
      |
      = hint: the first stands in line 3; tasks find each other by their names: give one another name
    "#);
}

#[test]
fn names_of_nothing() {
    let text = "job: j
tasks:
  t: { image: x, connects: [ nobody, \"db as -x\" ], egress: [ \"http://host.example/x\" ], configs: [ app.conf ] }
  u: { image: x, depends_on: [ nothing ] }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: the job has no task `nobody`
     --> job.yaml:3:30
      |
    3 |   t: { image: x, connects: [ nobody, "db as -x" ], egress: [ "http://host.example/x" ], configs: [ app....
      |                              ^^^^^^
      |
      = hint: add a task of this name to the job

    error: `db as -x` names no task to connect to
     --> job.yaml:3:38
      |
    3 |   t: { image: x, connects: [ nobody, "db as -x" ], egress: [ "http://host.example/x" ], configs: [ app....
      |                                      ^^^^^^^^^^
      |
      = hint: host names hold letters, digits, `-`, `_` and `.`, such as `db` or `mail.example.org`

    error: `http://host.example/x` names nothing that a task could reach
     --> job.yaml:3:62
      |
    3 |   t: { image: x, connects: [ nobody, "db as -x" ], egress: [ "http://host.example/x" ], configs: [ app....
      |                                                              ^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write `host.example:80`

    error: the job has no config `app.conf`
     --> job.yaml:3:100
      |
    3 | ...ress: [ "http://host.example/x" ], configs: [ app.conf ] }
      |                                                  ^^^^^^^^
      |
      = hint: add `configs: { app.conf: { file: ./app.conf } }` to the job

    error: the job has no task `nothing`
     --> job.yaml:4:32
      |
    4 |   u: { image: x, depends_on: [ nothing ] }
      |                                ^^^^^^^
      |
      = hint: add a task of this name to the job
    "#);
}

/// A circle of more tasks than a message names.
#[test]
fn a_long_circle() {
    let tasks: String = (0..12)
        .map(|task| format!("  t{task:02}: {{ image: x, depends_on: [ t{:02} ] }}\n", (task + 1) % 12))
        .collect();
    insta::assert_snapshot!(shown(&format!("job: j\ntasks:\n{tasks}")), @"
    error: tasks wait for each other, so none can start: `t00` → `t01` → `t02` → `t03` → `t04` → `t05` → `t06` → `t07` → `t00`, with others between
     --> job.yaml:3:34
      |
    3 |   t00: { image: x, depends_on: [ t01 ] }
      |                                  ^^^
      |
      = hint: remove one of these from `depends_on`
    ");
}

#[test]
fn more_than_a_list_may_hold() {
    let limit = |key: &str, count: usize, item: fn(usize) -> String| {
        let items: String = (0..count).map(|index| format!("      {}\n", item(index))).collect();
        shown(&format!("job: j\ntasks:\n  u: {{ image: x }}\n  t:\n    image: x\n    {key}:\n{items}"))
    };
    insta::assert_snapshot!(limit("hosts", 201, |index| format!("h{index}: 10.0.0.1")), @"
    error: `hosts` holds 201 entries; the limit is 200
       --> job.yaml:207:7
        |
    207 |       h200: 10.0.0.1
        |       ^^^^
    ");
    insta::assert_snapshot!(limit("depends_on", 101, |_| String::from("- u")), @"
    error: `depends_on` holds 101 entries; the limit is 100
       --> job.yaml:107:9
        |
    107 |       - u
        |         ^
    ");
    insta::assert_snapshot!(limit("sysctls", 101, |index| format!("net.n{index}: 1")), @"
    error: `sysctls` holds 101 entries; the limit is 100
       --> job.yaml:107:7
        |
    107 |       net.n100: 1
        |       ^^^^^^^^
    ");
}

#[test]
fn addresses_and_hosts_that_are_none() {
    let text = r#"job: j
tasks:
  t: { image: x, egress: [ "[::1", "[::1]x" ], expose: [ "-x:80" ], devices: [ "/dev/a:/dev/b:rw:m" ] }
  u: { image: x, health: { http: "ftp://x:99999/" }, cpus: 2x }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `[::1` names nothing that a task could reach
     --> job.yaml:3:28
      |
    3 |   t: { image: x, egress: [ "[::1", "[::1]x" ], expose: [ "-x:80" ], devices: [ "/dev/a:/dev/b:rw:m" ] }
      |                            ^^^^^^
      |
      = hint: write `internet`, or a host with its port such as `api.example.com:443`, or an address such as `192.168.1.20:631` or `10.0.0.0/24`

    error: `[::1]x` names nothing that a task could reach
     --> job.yaml:3:36
      |
    3 |   t: { image: x, egress: [ "[::1", "[::1]x" ], expose: [ "-x:80" ], devices: [ "/dev/a:/dev/b:rw:m" ] }
      |                                    ^^^^^^^^
      |
      = hint: write `internet`, or a host with its port such as `api.example.com:443`, or an address such as `192.168.1.20:631` or `10.0.0.0/24`

    error: `-x:80` exposes nothing
     --> job.yaml:3:58
      |
    3 |   t: { image: x, egress: [ "[::1", "[::1]x" ], expose: [ "-x:80" ], devices: [ "/dev/a:/dev/b:rw:m" ] }
      |                                                          ^^^^^^^
      |
      = hint: write the host name and the port of the task that answers, such as `photos.example.org:8080`

    error: `/dev/a:/dev/b:rw:m` is not a device
     --> job.yaml:3:80
      |
    3 |   t: { image: x, egress: [ "[::1", "[::1]x" ], expose: [ "-x:80" ], devices: [ "/dev/a:/dev/b:rw:m" ] }
      |                                                                                ^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write its path, such as `/dev/fuse` or `/dev/ttyUSB0`

    error: `ftp://x:99999/` is not a port and a path
     --> job.yaml:4:34
      |
    4 |   u: { image: x, health: { http: "ftp://x:99999/" }, cpus: 2x }
      |                                  ^^^^^^^^^^^^^^^^
      |
      = hint: write the port and the path, such as `":8080/health"`

    error: `2x` is not a number of processors
     --> job.yaml:4:60
      |
    4 |   u: { image: x, health: { http: "ftp://x:99999/" }, cpus: 2x }
      |                                                            ^^
      |
      = hint: write a number such as `2` or `0.5`
    "#);
}

#[test]
fn access_that_can_never_be() {
    let text = "job: j
tasks:
  t:
    image: x
    publish: [ \"[::1]:80:80\" ]
    egress: [ \"127.0.0.1:80\", \"a.example:1-100\", 169.254.169.254 ]
    bandwidth: 10MB/s
  u: { image: x, bandwidth: 50 }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `[::1]:80:80`: what is sent to ::1 stays on the node, whose kernel passes it to no task
     --> job.yaml:5:16
      |
    5 |     publish: [ "[::1]:80:80" ]
      |                ^^^^^^^^^^^^^
      |
      = hint: publish it on the node's own address of IPv4: `127.0.0.1:80:80`

    error: `127.0.0.1:80` is of no use: loopback is the task itself
     --> job.yaml:6:15
      |
    6 |     egress: [ "127.0.0.1:80", "a.example:1-100", 169.254.169.254 ]
      |               ^^^^^^^^^^^^^^
      |
      = hint: name a task in `connects`, or an address that the node has on its network

    error: `a.example:1-100` names 100 ports; a name has up to 16
     --> job.yaml:6:31
      |
    6 |     egress: [ "127.0.0.1:80", "a.example:1-100", 169.254.169.254 ]
      |                               ^^^^^^^^^^^^^^^^^
      |
      = hint: name the ports that it is reached at, or none for every port

    error: `169.254.169.254` is of no use: metadata of a cloud's machine is closed to every task, for it holds the machine's own secrets
     --> job.yaml:6:50
      |
    6 |     egress: [ "127.0.0.1:80", "a.example:1-100", 169.254.169.254 ]
      |                                                  ^^^^^^^^^^^^^^^
      |
      = hint: give the task what it needs as a secret

    error: `10MB/s` is not a bandwidth
     --> job.yaml:7:16
      |
    7 |     bandwidth: 10MB/s
      |                ^^^^^^
      |
      = hint: bandwidth counts bits, eight to the byte: `80M` is ten megabytes per second

    error: `50` is not between 64k and 100G
     --> job.yaml:8:29
      |
    8 |   u: { image: x, bandwidth: 50 }
      |                             ^^
      |
      = hint: a number alone counts bits per second; did you mean `50M`?
    "#);
}
