//! The words a person gets for mistakes in when and within which bounds a task runs: they are product, so every change to
//! them shows here.

#![expect(clippy::too_many_lines, reason = "a test is as long as what is said in it")]

mod support;

use support::shown;

#[test]
fn kind_and_schedule() {
    let text = r#"job: hello
tasks:
  a: { image: x, kind: onse }
  b: { image: x, kind: periodic }
  c: { image: x, schedule: 0 3 * * * }
  d: { image: x, kind: periodic, schedule: daily }
  e: { image: x, kind: periodic, schedule: "0 25 * * *" }
  f: { image: x, kind: once, schedule: "0 3 * * *" }
  g: { image: x, kind: cron }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `onse` is none of `service`, `once`, `periodic`
     --> job.yaml:3:24
      |
    3 |   a: { image: x, kind: onse }
      |                        ^^^^
      |
      = hint: did you mean `once`?

    error: a periodic task needs a schedule
     --> job.yaml:4:18
      |
    4 |   b: { image: x, kind: periodic }
      |                  ^^^^
      |
      = hint: add `schedule:`, such as `schedule: 30 3 * * *` for each night at 3:30

    error: only a periodic task has a schedule
     --> job.yaml:5:18
      |
    5 |   c: { image: x, schedule: 0 3 * * * }
      |                  ^^^^^^^^
      |
      = hint: add `kind: periodic`

    error: `daily` is not a schedule: it has 1 field, not 5
     --> job.yaml:6:44
      |
    6 |   d: { image: x, kind: periodic, schedule: daily }
      |                                            ^^^^^
      |
      = hint: write minute, hour, day, month and day of the week, such as `30 3 * * *` for each night at 3:30

    error: `0 25 * * *` is not a schedule: `25` is no hour
     --> job.yaml:7:44
      |
    7 |   e: { image: x, kind: periodic, schedule: "0 25 * * *" }
      |                                            ^^^^^^^^^^^^
      |
      = hint: write minute, hour, day, month and day of the week, such as `30 3 * * *` for each night at 3:30

    error: only a periodic task has a schedule
     --> job.yaml:8:30
      |
    8 |   f: { image: x, kind: once, schedule: "0 3 * * *" }
      |                              ^^^^^^^^
      |
      = hint: add `kind: periodic`

    error: `cron` is none of `service`, `once`, `periodic`
     --> job.yaml:9:24
      |
    9 |   g: { image: x, kind: cron }
      |                        ^^^^
    "#);
}

#[test]
fn process() {
    let text = r#"job: hello
tasks:
  a: { image: x, groups: [ "a:b", "a b", "" ] }
  b: { image: x, hostname: "a b" }
  c: { image: x, timezone: Berlin! }
  d: { image: x, gpu: 17 }
  e: { image: x, groups: [ video, video ] }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `a:b` is not a group
     --> job.yaml:3:28
      |
    3 |   a: { image: x, groups: [ "a:b", "a b", "" ] }
      |                            ^^^^^
      |
      = hint: write one name or number

    error: `a b` is not a group
     --> job.yaml:3:35
      |
    3 |   a: { image: x, groups: [ "a:b", "a b", "" ] }
      |                                   ^^^^^
      |
      = hint: write a name or number, such as `video` or `44`

    error: `""` is not a group
     --> job.yaml:3:42
      |
    3 |   a: { image: x, groups: [ "a:b", "a b", "" ] }
      |                                          ^^
      |
      = hint: write a name or number, such as `video` or `44`

    error: `a b` is not a host name
     --> job.yaml:4:28
      |
    4 |   b: { image: x, hostname: "a b" }
      |                            ^^^^^
      |
      = hint: host names hold letters, digits, `-`, `_` and `.`, such as `db` or `mail.example.org`

    error: `Berlin!` is not a time zone
     --> job.yaml:5:28
      |
    5 |   c: { image: x, timezone: Berlin! }
      |                            ^^^^^^^
      |
      = hint: write a name such as `Europe/Berlin` or `UTC`

    error: `17` is not a number of graphics processors
     --> job.yaml:6:23
      |
    6 |   d: { image: x, gpu: 17 }
      |                       ^^
      |
      = hint: write `all`, or a number from 1 to 16

    warning: this stands in `groups` already
     --> job.yaml:7:35
      |
    7 |   e: { image: x, groups: [ video, video ] }
      |                                   ^^^^^
    "#);
}

#[test]
fn bounds() {
    let text = r#"job: hello
tasks:
  a: { image: x, logging: { max_size: 1K, max_files: 0, driver: json } }
  b: { image: x, ulimits: { nofiles: 1, nofile: many, nproc: "2:1", core: { soft: 1 } } }
  c: { image: x, ulimits: { colour: 1, RLIMIT_CORE: 0, stack: { soft: 2, hard: 1 } } }
  d: { image: x, sysctls: { somaxconn: 1, "a b.c": 2 } }
  e: { image: x, logging: 10M, ulimits: 5, sysctls: [ a ] }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `1K` of log is not between 64K and 1G
     --> job.yaml:3:39
      |
    3 |   a: { image: x, logging: { max_size: 1K, max_files: 0, driver: json } }
      |                                       ^^

    error: `0` is not between 1 and 100
     --> job.yaml:3:54
      |
    3 |   a: { image: x, logging: { max_size: 1K, max_files: 0, driver: json } }
      |                                                      ^

    error: `logging` has no key `driver`
     --> job.yaml:3:57
      |
    3 |   a: { image: x, logging: { max_size: 1K, max_files: 0, driver: json } }
      |                                                         ^^^^^^
      |
      = hint: its keys are max_size, max_files

    error: `nofiles` is not a limit of a process
     --> job.yaml:4:29
      |
    4 |   b: { image: x, ulimits: { nofiles: 1, nofile: many, nproc: "2:1", core: { soft: 1 } } }
      |                             ^^^^^^^
      |
      = hint: did you mean `nofile`?

    error: `many` is not a limit
     --> job.yaml:4:49
      |
    4 |   b: { image: x, ulimits: { nofiles: 1, nofile: many, nproc: "2:1", core: { soft: 1 } } }
      |                                                 ^^^^
      |
      = hint: write a number, `unlimited`, or both limits as SOFT:HARD such as `1024:65536`

    error: `2:1`: the soft limit is above the hard one
     --> job.yaml:4:62
      |
    4 |   b: { image: x, ulimits: { nofiles: 1, nofile: many, nproc: "2:1", core: { soft: 1 } } }
      |                                                              ^^^^^

    error: the limit `core` is given with `soft` and `hard`
     --> job.yaml:4:69
      |
    4 |   b: { image: x, ulimits: { nofiles: 1, nofile: many, nproc: "2:1", core: { soft: 1 } } }
      |                                                                     ^^^^
      |
      = hint: write both, or one number for both: `core: 65536`

    error: `colour` is not a limit of a process
     --> job.yaml:5:29
      |
    5 |   c: { image: x, ulimits: { colour: 1, RLIMIT_CORE: 0, stack: { soft: 2, hard: 1 } } }
      |                             ^^^^^^
      |
      = hint: the limits are as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack

    error: `RLIMIT_CORE` is not a limit of a process
     --> job.yaml:5:40
      |
    5 |   c: { image: x, ulimits: { colour: 1, RLIMIT_CORE: 0, stack: { soft: 2, hard: 1 } } }
      |                                        ^^^^^^^^^^^
      |
      = hint: did you mean `core`?

    error: `2:1`: the soft limit is above the hard one
     --> job.yaml:5:80
      |
    5 |   c: { image: x, ulimits: { colour: 1, RLIMIT_CORE: 0, stack: { soft: 2, hard: 1 } } }
      |                                                                                ^

    error: `somaxconn` is not a kernel setting
     --> job.yaml:6:29
      |
    6 |   d: { image: x, sysctls: { somaxconn: 1, "a b.c": 2 } }
      |                             ^^^^^^^^^
      |
      = hint: write its name with dots, such as `net.core.somaxconn`

    error: `a b.c` is not a kernel setting
     --> job.yaml:6:43
      |
    6 |   d: { image: x, sysctls: { somaxconn: 1, "a b.c": 2 } }
      |                                           ^^^^^^^
      |
      = hint: write its name with dots, such as `net.core.somaxconn`

    error: `logging` is a mapping, such as `{ max_size: 10M, max_files: 3 }`; this is a single value
     --> job.yaml:7:27
      |
    7 |   e: { image: x, logging: 10M, ulimits: 5, sysctls: [ a ] }
      |                           ^^^
      |
      = hint: write the keys below `logging`, each in its own line and indented further

    error: `ulimits` is a mapping of limits to numbers, such as `{ nofile: 65536 }`; this is a single value
     --> job.yaml:7:41
      |
    7 |   e: { image: x, logging: 10M, ulimits: 5, sysctls: [ a ] }
      |                                         ^
      |
      = hint: write the keys below `ulimits`, each in its own line and indented further

    error: `sysctls` is a mapping of settings to values, such as `{ net.core.somaxconn: 1024 }`; this is a list
     --> job.yaml:7:44
      |
    7 |   e: { image: x, logging: 10M, ulimits: 5, sysctls: [ a ] }
      |                                            ^^^^^^^
      |
      = hint: write the keys below `sysctls`, each in its own line and indented further
    "#);
}

#[test]
fn groups() {
    let text = r#"job: hello
groups:
  a:
    place: [ Node 1, node-1, node-1 ]
    failover_after: 999h
    update: { parallel: 0, order: start_first, on_failure: stop, delay: 2d, monitor: 5s }
    size: 5
    tasks: { t: { image: x, update: fast } }
  b:
    place: { node: x }
    tasks: { u: { image: x } }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `Node 1` is not a name: use a-z, 0-9 and `-`, starting and ending with a letter or digit
     --> job.yaml:4:14
      |
    4 |     place: [ Node 1, node-1, node-1 ]
      |              ^^^^^^
      |
      = hint: `node-1` would do

    warning: this stands in `place` already
     --> job.yaml:4:30
      |
    4 |     place: [ Node 1, node-1, node-1 ]
      |                              ^^^^^^

    error: `999h` is longer than 168h
     --> job.yaml:5:21
      |
    5 |     failover_after: 999h
      |                     ^^^^

    error: `0` is not between 1 and 100
     --> job.yaml:6:25
      |
    6 |     update: { parallel: 0, order: start_first, on_failure: stop, delay: 2d, monitor: 5s }
      |                         ^

    error: `start_first` is none of `stop-first`, `start-first`
     --> job.yaml:6:35
      |
    6 |     update: { parallel: 0, order: start_first, on_failure: stop, delay: 2d, monitor: 5s }
      |                                   ^^^^^^^^^^^
      |
      = hint: did you mean `start-first`?

    error: `stop` is none of `pause`, `continue`, `rollback`
     --> job.yaml:6:60
      |
    6 |     update: { parallel: 0, order: start_first, on_failure: stop, delay: 2d, monitor: 5s }
      |                                                            ^^^^

    error: `2d` is not a duration
     --> job.yaml:6:73
      |
    6 |     update: { parallel: 0, order: start_first, on_failure: stop, delay: 2d, monitor: 5s }
      |                                                                         ^^
      |
      = hint: write numbers with units, such as `10s`, `1m30s` or `500ms`

    error: `update` has no key `monitor`
     --> job.yaml:6:77
      |
    6 |     update: { parallel: 0, order: start_first, on_failure: stop, delay: 2d, monitor: 5s }
      |                                                                             ^^^^^^^
      |
      = hint: did you mean `watch`?

    error: `size` is a key of a volume, not of a group
     --> job.yaml:7:5
      |
    7 |     size: 5
      |     ^^^^
      |
      = hint: write `volumes:`, a name for the volume, and below it `size`

    error: `update` is a mapping, such as `{ parallel: 2, delay: 10s }`; this is a single value
     --> job.yaml:8:37
      |
    8 |     tasks: { t: { image: x, update: fast } }
      |                                     ^^^^
      |
      = hint: write the keys below `update`, each in its own line and indented further

    error: `place` takes the name of a node, or a list of names; this is a mapping
      --> job.yaml:10:5
       |
    10 |     place: { node: x }
       |     ^^^^^
    "#);
}

#[test]
fn keys_of_small_sections() {
    let text = r#"job: hello
image: x
pool: fast
tasks:
  web:
    image: nginx
    healthcheck: { test: x }
    networks: [ a ]
    Extra-Hosts: [ a ]
    size: 10G
    tasks: {}
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `image` is a key of a task, not of a job
     --> job.yaml:2:1
      |
    2 | image: x
      | ^^^^^
      |
      = hint: write `tasks:`, a name for the task, and below it `image`

    error: `pool` is a key of a volume, not of a job
     --> job.yaml:3:1
      |
    3 | pool: fast
      | ^^^^
      |
      = hint: write `volumes:`, a name for the volume, and below it `pool`

    error: a task has no key `healthcheck`
     --> job.yaml:7:5
      |
    7 |     healthcheck: { test: x }
      |     ^^^^^^^^^^^
      |
      = hint: did you mean `health`?

    error: a task has no key `networks`
     --> job.yaml:8:5
      |
    8 |     networks: [ a ]
      |     ^^^^^^^^
      |
      = hint: did you mean `connects`?

    error: a task has no key `Extra-Hosts`
     --> job.yaml:9:5
      |
    9 |     Extra-Hosts: [ a ]
      |     ^^^^^^^^^^^
      |
      = hint: did you mean `hosts`?

    error: `size` is a key of a volume, not of a task
      --> job.yaml:10:5
       |
    10 |     size: 10G
       |     ^^^^
       |
       = hint: write `volumes:`, a name for the volume, and below it `size`

    error: `tasks` is a key of a job, not of a task
      --> job.yaml:11:5
       |
    11 |     tasks: {}
       |     ^^^^^
       |
       = hint: move `tasks` to the top of the file
    "#);
}

#[test]
fn a_schedule_that_is_too_long() {
    let long = format!("{}* * * *", "1,".repeat(600));
    let text = format!("job: j\ntasks:\n  t:\n    image: x\n    kind: periodic\n    schedule: {long}\n");
    let report = shown(&text);
    insta::assert_snapshot!(report.lines().next().unwrap_or_default(), @"error: the schedule is longer than 1024 bytes");
}
