//! Values that cannot be, each with its words.

use super::{Folder, attempt, options, told};
use crate::compose::convert::ConvertOptions;

#[test]
fn instances_that_want_one_port() {
    let text = "services: { web: { image: a, ports: [ \"80:80\" ], scale: 2 } }";
    insta::assert_snapshot!(told(text), @r#"
    error: port 80 of the node is wanted by each of 2 instances
     --> compose.yaml:1:39
      |
    1 | services: { web: { image: a, ports: [ "80:80" ], scale: 2 } }
      |                                       ^^^^^^^
      |
      = hint: list the port under `expose`, and publish that of a proxy in front
    "#);
}

#[test]
fn ports_that_two_services_want() {
    let text = "services: { a: { image: a, ports: [ \"80:80\" ] }, b: { image: b, ports: [ \"80:8080\" ] } }";
    insta::assert_snapshot!(told(text), @r#"
    error: port 80/tcp of the node is already published by task `a`
     --> compose.yaml:1:74
      |
    1 | services: { a: { image: a, ports: [ "80:80" ] }, b: { image: b, ports: [ "80:8080" ] } }
      |                                                                          ^^^^^^^^^
      |
      = hint: choose another port before the colon, as in "81:8080"
    "#);
}

#[test]
fn values_of_the_process_that_are_none() {
    let text = "
services:
  a:
    image: \"a:b:c\"
    user: \"a b\"
    group_add: [ \"x:y\" ]
    working_dir: srv
    hostname: \"a b\"
    extra_hosts: [ \"db:nowhere\" ]
    stop_signal: SIGNOTHING
";
    insta::assert_snapshot!(told(text), @r#"
    error: `a:b:c` is not an image reference: what follows the last `:` is no tag
     --> compose.yaml:4:12
      |
    4 |     image: "a:b:c"
      |            ^^^^^^^
      |
      = hint: tags hold letters, digits, `_`, `.` and `-`

    error: `a b` is not a user
     --> compose.yaml:5:11
      |
    5 |     user: "a b"
      |           ^^^^^
      |
      = hint: write a name or number, and a group after a colon: `www-data`, `1000:1000`

    error: `x:y` is not a group
     --> compose.yaml:6:18
      |
    6 |     group_add: [ "x:y" ]
      |                  ^^^^^
      |
      = hint: write one name or number

    error: `srv` is not an absolute path
     --> compose.yaml:7:18
      |
    7 |     working_dir: srv
      |                  ^^^
      |
      = hint: start it with `/`

    error: `a b` is not a host name
     --> compose.yaml:8:15
      |
    8 |     hostname: "a b"
      |               ^^^^^
      |
      = hint: host names hold letters, digits, `-`, `_` and `.`, such as `db` or `mail.example.org`

    error: `nowhere` is not an address
     --> compose.yaml:9:20
      |
    9 |     extra_hosts: [ "db:nowhere" ]
      |                    ^^^^^^^^^^^^
      |
      = hint: write an address behind the name, such as `db.example.org:192.0.2.7`

    error: `SIGNOTHING` is not a signal
      --> compose.yaml:10:18
       |
    10 |     stop_signal: SIGNOTHING
       |                  ^^^^^^^^^^
       |
       = hint: write a name such as `SIGTERM` or `SIGRTMIN+3`, or a number
    "#);
}

#[test]
fn values_of_its_life_that_are_none() {
    let text = "
services:
  a:
    image: a
    stop_grace_period: 48h
    restart: sometimes
    ulimits: { files: 5, nofile: { soft: 9, hard: 8 } }
    healthcheck: { test: [ CMD, a ], interval: 48h }
    deploy: { replicas: 500, mode: spread }
    platform: linux/arm/v7
";
    insta::assert_snapshot!(told(text), @"
    error: a task is given 1h at most to stop by itself
     --> compose.yaml:5:24
      |
    5 |     stop_grace_period: 48h
      |                        ^^^
      |
      = hint: write `1h`

    error: `sometimes` is not a restart policy
     --> compose.yaml:6:14
      |
    6 |     restart: sometimes
      |              ^^^^^^^^^
      |
      = hint: write `always`, `on-failure`, `on-failure:3` or `no`

    error: `files` is not a limit of a process
     --> compose.yaml:7:23
      |
    7 |     ulimits: { files: 5, nofile: { soft: 9, hard: 8 } }
      |                       ^
      |
      = hint: the limits are as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack

    error: the soft limit of `nofile` is above the hard one
     --> compose.yaml:7:34
      |
    7 |     ulimits: { files: 5, nofile: { soft: 9, hard: 8 } }
      |                                  ^^^^^^^^^^^^^^^^^^^^

    error: `interval` is longer than 24h
     --> compose.yaml:8:18
      |
    8 |     healthcheck: { test: [ CMD, a ], interval: 48h }
      |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

    error: 500 instances are more than 100
     --> compose.yaml:9:25
      |
    9 |     deploy: { replicas: 500, mode: spread }
      |                         ^^^

    error: `spread` is not a mode of `deploy`
     --> compose.yaml:9:36
      |
    9 |     deploy: { replicas: 500, mode: spread }
      |                                    ^^^^^^
      |
      = hint: its modes are replicated, global, replicated-job and global-job

    warning: a node is linux/amd64 or linux/arm64; `linux/arm/v7` will not start
      --> compose.yaml:10:15
       |
    10 |     platform: linux/arm/v7
       |               ^^^^^^^^^^^^
       |
       = hint: use an image that is made for the node, and remove `platform`
    ");
}

#[test]
fn quantities_that_are_beyond() {
    let text = "
services:
  a:
    image: a
    mem_limit: 5000g
    mem_reservation: 1g
    shm_size: 5000g
    gpus: [ { count: 20 } ]
    ulimits: { nproc: -5 }
    ports: [ \"10000-12000:20000-22000\" ]
    healthcheck: { test: [ CMD-SHELL, \" \" ], retries: 5000 }
";
    insta::assert_snapshot!(told(text), @r#"
    error: 5000G of memory are more than 4T
     --> compose.yaml:5:16
      |
    5 |     mem_limit: 5000g
      |                ^^^^^

    error: 5000G of shared memory are more than 4T
     --> compose.yaml:7:15
      |
    7 |     shm_size: 5000g
      |               ^^^^^

    error: 20 graphics processors are more than 16
     --> compose.yaml:8:11
      |
    8 |     gpus: [ { count: 20 } ]
      |           ^^^^^^^^^^^^^^^^^
      |
      = hint: leave the number out for all of them

    error: a limit of `nproc` is below zero
     --> compose.yaml:9:23
      |
    9 |     ulimits: { nproc: -5 }
      |                       ^^
      |
      = hint: write -1 for no limit

    error: `10000-12000:20000-22000/tcp` does not publish a port
      --> compose.yaml:10:14
       |
    10 |     ports: [ "10000-12000:20000-22000" ]
       |              ^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: a range longer than 1000 has the same numbers on both sides

    error: 5000 retries are more than 1000
      --> compose.yaml:11:18
       |
    11 |     healthcheck: { test: [ CMD-SHELL, " " ], retries: 5000 }
       |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

    error: the check runs nothing that a process can be given
      --> compose.yaml:11:18
       |
    11 |     healthcheck: { test: [ CMD-SHELL, " " ], retries: 5000 }
       |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: write what it runs, such as `test: curl -f http://localhost`, or `disable: true`
    "#);
}

#[test]
fn mounts_and_settings_that_are_none() {
    let text = "
services:
  a:
    image: a
    sysctls: { nonsense: 1 }
    devices: [ \"nvidia.com/gpu=all\", \"ttyUSB0\" ]
    tmpfs: [ \"/tmp:size=much\", \"/run:colour=red\" ]
    volumes: [ { type: npipe, source: a, target: /b }, \"./x:/a/../..\" ]
    extra_hosts: [ \"a:192.0.2.1\", \"a:192.0.2.2\" ]
    deploy: { mode: global }
";
    insta::assert_snapshot!(told(text), @r#"
    error: `nonsense` is not a kernel setting
     --> compose.yaml:5:26
      |
    5 |     sysctls: { nonsense: 1 }
      |                          ^
      |
      = hint: write its name with dots, such as `net.core.somaxconn`

    error: `ttyUSB0` is not a device
     --> compose.yaml:6:38
      |
    6 |     devices: [ "nvidia.com/gpu=all", "ttyUSB0" ]
      |                                      ^^^^^^^^^
      |
      = hint: write its path, such as `/dev/fuse` or `/dev/ttyUSB0`

    error: `much` is not a size
     --> compose.yaml:7:14
      |
    7 |     tmpfs: [ "/tmp:size=much", "/run:colour=red" ]
      |              ^^^^^^^^^^^^^^^^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`

    error: `/run:colour=red` is not a file system in memory
     --> compose.yaml:7:32
      |
    7 |     tmpfs: [ "/tmp:size=much", "/run:colour=red" ]
      |                                ^^^^^^^^^^^^^^^^^
      |
      = hint: its options are `size=` and `mode=`, such as `/tmp:size=64M,mode=1777`

    error: a mount of the type `npipe`: a task mounts whole volumes, and folders that its node's owner allows
     --> compose.yaml:8:16
      |
    8 |     volumes: [ { type: npipe, source: a, target: /b }, "./x:/a/../.." ]
      |                ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: mount the whole volume, or a volume of its own

    error: nothing can be mounted over `/`
     --> compose.yaml:8:56
      |
    8 |     volumes: [ { type: npipe, source: a, target: /b }, "./x:/a/../.." ]
      |                                                        ^^^^^^^^^^^^^^
      |
      = hint: name a folder below it

    warning: `a` has several addresses; the first, 192.0.2.1, is kept
     --> compose.yaml:9:35
      |
    9 |     extra_hosts: [ "a:192.0.2.1", "a:192.0.2.2" ]
      |                                   ^^^^^^^^^^^^^

    warning: `mode: global` runs one instance here, not one on each node
      --> compose.yaml:10:21
       |
    10 |     deploy: { mode: global }
       |                     ^^^^^^
    "#);
}

#[test]
fn names_that_cannot_be() {
    let text = "name: shop\nservices: { ___: { image: a }, a: { image: a, domainname: \"x y\" } }";
    insta::assert_snapshot!(told(text), @r#"
    error: `___` cannot be the name of a task
     --> compose.yaml:2:13
      |
    2 | services: { ___: { image: a }, a: { image: a, domainname: "x y" } }
      |             ^^^
      |
      = hint: use a-z, 0-9 and `-`

    error: `a.x y` is not a host name
     --> compose.yaml:2:59
      |
    2 | services: { ___: { image: a }, a: { image: a, domainname: "x y" } }
      |                                                           ^^^^^
      |
      = hint: host names hold letters, digits, `-`, `_` and `.`, such as `db` or `mail.example.org`
    "#);
    let nameless = ConvertOptions::default();
    insta::assert_snapshot!(attempt("services: { a: { image: a } }", &nameless, &Folder::default()).1, @r#"
    error: `""` cannot be the name of a job
     --> compose.yaml:1:1
      |
    1 | services: { a: { image: a } }
      | ^
      |
      = hint: name it in the first line, such as `name: shop`
    "#);
    let wrong = ConvertOptions { name: Some(String::from("My Shop")), ..options() };
    insta::assert_snapshot!(attempt("services: { a: { image: a } }", &wrong, &Folder::default()).1, @"
    error: `My Shop` is not a name: use a-z, 0-9 and `-`, starting and ending with a letter or digit
     --> compose.yaml:1:1
      |
    1 | services: { a: { image: a } }
      | ^
      |
      = hint: `my-shop` would do
    ");
}

#[test]
fn files_of_a_service_that_cannot_be() {
    let text = "
services:
  a:
    image: a
    secrets: [ { source: one, uid: root }, two ]
    configs: [ site, { source: site, target: .. } ]
secrets: { one: { file: ./one }, two: { external: true, name: one } }
configs: { site: { content: x } }
";
    let files = Folder::of([("one", "1")]);
    insta::assert_snapshot!(attempt(text, &options(), &files).1, @"
    error: `root` is not the number of a user or group
     --> compose.yaml:5:16
      |
    5 |     secrets: [ { source: one, uid: root }, two ]
      |                ^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write its number, such as `1000`

    error: `/..` leads out of itself
     --> compose.yaml:6:22
      |
    6 |     configs: [ site, { source: site, target: .. } ]
      |                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write the path without `..`

    error: `one` is also the name of another secret
     --> compose.yaml:7:34
      |
    7 | secrets: { one: { file: ./one }, two: { external: true, name: one } }
      |                                  ^^^
      |
      = hint: give the other one another name
    ");
}

#[test]
fn no_port_is_zero() {
    let text = "services: { a: { image: a, expose: [ 0 ], ports: [ \"0\", \"5000:0\" ] } }";
    insta::assert_snapshot!(told(text), @r#"
    error: `0` is not a port
     --> compose.yaml:1:38
      |
    1 | services: { a: { image: a, expose: [ 0 ], ports: [ "0", "5000:0" ] } }
      |                                      ^
      |
      = hint: ports are 1 to 65535

    error: `0` is not a port
     --> compose.yaml:1:52
      |
    1 | services: { a: { image: a, expose: [ 0 ], ports: [ "0", "5000:0" ] } }
      |                                                    ^^^
      |
      = hint: ports are 1 to 65535

    error: `0` is not a port
     --> compose.yaml:1:57
      |
    1 | services: { a: { image: a, expose: [ 0 ], ports: [ "0", "5000:0" ] } }
      |                                                         ^^^^^^^^
      |
      = hint: ports are 1 to 65535
    "#);
}

#[test]
fn words_that_deploy_does_not_have() {
    let text = "services:
  a:
    image: a
    deploy:
      mode: some
      update_config:
        failure_action: shrug
";
    insta::assert_snapshot!(told(text), @"
    error: `some` is not a mode of `deploy`
     --> compose.yaml:5:13
      |
    5 |       mode: some
      |             ^^^^
      |
      = hint: its modes are replicated, global, replicated-job and global-job

    error: `shrug` is not what can happen after a failure
     --> compose.yaml:7:25
      |
    7 |         failure_action: shrug
      |                         ^^^^^
      |
      = hint: write `pause`, `continue` or `rollback`
    ");
}

#[test]
fn a_volume_of_one_letter() {
    let text = "services: { a: { image: a, volumes: [ \"v:/srv\" ] } }\nvolumes: { v: }\n";
    insta::assert_snapshot!(told(text), @r#"
    error: `v:/srv` is not an absolute path
     --> compose.yaml:1:39
      |
    1 | services: { a: { image: a, volumes: [ "v:/srv" ] } }
      |                                       ^^^^^^^^
      |
      = hint: the name of a volume has two letters or more
    "#);
}

#[test]
fn a_command_that_no_process_is_given() {
    insta::assert_snapshot!(told(r#"services: { a: { image: a, command: [ "a\0" ] } }"#), @r#"
    error: `a\0` holds a NUL character, which no process can be given
     --> compose.yaml:1:37
      |
    1 | services: { a: { image: a, command: [ "a\0" ] } }
      |                                     ^^^^^^^^^
    "#);
}

#[test]
fn a_volume_where_a_secret_is() {
    let text = "services:
  a: { image: a, secrets: [ pw ], volumes: [ \"data:/run/secrets/pw\" ] }
volumes: { data: }
secrets: { pw: { file: pw } }
";
    insta::assert_snapshot!(attempt(text, &options(), &Folder::of([("pw", "x")])).1, @r#"
    error: `/run/secrets/pw` is mounted over twice
     --> compose.yaml:2:46
      |
    2 |   a: { image: a, secrets: [ pw ], volumes: [ "data:/run/secrets/pw" ] }
      |                                              ^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: keep one of them
    "#);
}
