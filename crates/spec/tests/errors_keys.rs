//! The words a person gets for mistakes in keys, and what they hold: they are product, so every change to them shows here.

mod support;

use support::shown;

#[test]
fn unknown_key_with_a_near_one() {
    let text = r#"job: hello
tasks:
  web:
    image: nginx
    publsh: [ "8080:80" ]
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: a task has no key `publsh`
     --> job.yaml:5:5
      |
    5 |     publsh: [ "8080:80" ]
      |     ^^^^^^
      |
      = hint: did you mean `publish`?
    "#);
}

#[test]
fn unknown_key_with_no_near_one() {
    let text = r"job: hello
tasks:
  web:
    image: nginx
    colour: blue
";
    insta::assert_snapshot!(shown(text), @"
    error: a task has no key `colour`
     --> job.yaml:5:5
      |
    5 |     colour: blue
      |     ^^^^^^
      |
      = hint: its keys are image, kind, schedule, entrypoint, command, env, env_file, user, groups, working_dir, hostname, timezone, memory, cpus, gpu, devices, volumes, tmpfs, shm_size, read_only, secrets, configs, ports, publish, expose, connects, egress, bandwidth, hosts, health, depends_on, restart, stop_signal, stop_grace, update, logging, ulimits, sysctls
    ");
}

#[test]
fn key_of_another_tool() {
    let text = r"job: hello
tasks:
  web:
    image: nginx
    environment: { A: b }
    mem_limit: 1G
";
    insta::assert_snapshot!(shown(text), @r#"
    error: a task has no key `environment`
     --> job.yaml:5:5
      |
    5 |     environment: { A: b }
      |     ^^^^^^^^^^^
      |
      = hint: did you mean `env`?

    error: a task has no key `mem_limit`
     --> job.yaml:6:5
      |
    6 |     mem_limit: 1G
      |     ^^^^^^^^^
      |
      = hint: did you mean `memory`?
    "#);
}

#[test]
fn key_of_another_level() {
    let text = r"job: hello
count: 2
image: nginx
tasks:
  web:
    image: nginx
    count: 3
    job: x
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `count` is a key of a group, not of a job
     --> job.yaml:2:1
      |
    2 | count: 2
      | ^^^^^
      |
      = hint: write `groups:`, a name for the group, and below it `count` beside `tasks`

    error: `image` is a key of a task, not of a job
     --> job.yaml:3:1
      |
    3 | image: nginx
      | ^^^^^
      |
      = hint: write `tasks:`, a name for the task, and below it `image`

    error: `count` is a key of a group, not of a task
     --> job.yaml:7:5
      |
    7 |     count: 3
      |     ^^^^^
      |
      = hint: write `groups:`, a name for the group, and below it `count` beside `tasks`

    error: `job` is a key of a job, not of a task
     --> job.yaml:8:5
      |
    8 |     job: x
      |     ^^^
      |
      = hint: move `job` to the top of the file
    "#);
}

#[test]
fn compose_file() {
    let text = r"services:
  web:
    image: nginx
";
    insta::assert_snapshot!(shown(text), @"
    error: `services` is a key of a Compose file, not of a job
     --> job.yaml:1:1
      |
    1 | services:
      | ^^^^^^^^
      |
      = hint: call it `tasks` in a job file; a Compose file has neither `job` nor `tasks` nor `groups`
    ");
}

#[test]
fn missing_name() {
    let text = r"tasks:
  web:
    image: nginx
";
    insta::assert_snapshot!(shown(text), @r#"
    error: the job has no name
     --> job.yaml:1:1
      |
    1 | tasks:
      | ^^^^^
      |
      = hint: add a line such as `job: hello` at the top
    "#);
}

#[test]
fn missing_tasks() {
    let text = "job: hello\n";
    insta::assert_snapshot!(shown(text), @r#"
    error: the job has no tasks
     --> job.yaml:1:1
      |
    1 | job: hello
      | ^^^
      |
      = hint: add `tasks:` with a name and an `image` for each, such as `tasks: { web: { image: nginx } }`
    "#);
}

#[test]
fn missing_image() {
    let text = r"job: hello
tasks:
  web:
    command: run
  db:
";
    insta::assert_snapshot!(shown(text), @r#"
    error: the task `web` has no image
     --> job.yaml:3:3
      |
    3 |   web:
      |   ^^^
      |
      = hint: add a line such as `image: nginx:1.27`

    error: the task `db` has no image
     --> job.yaml:5:3
      |
    5 |   db:
      |   ^^
      |
      = hint: add a line such as `image: nginx:1.27`
    "#);
}

#[test]
fn empty_tasks() {
    let text = r"job: hello
tasks:
";
    insta::assert_snapshot!(shown(text), @r#"
    error: the job has no tasks
     --> job.yaml:1:1
      |
    1 | job: hello
      | ^^^
      |
      = hint: add `tasks:` with a name and an `image` for each, such as `tasks: { web: { image: nginx } }`
    "#);
}

#[test]
fn empty_tasks_mapping() {
    let text = r"job: hello
tasks: {}
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `tasks` names no task
     --> job.yaml:2:1
      |
    2 | tasks: {}
      | ^^^^^
      |
      = hint: declare at least one task
    "#);
}

#[test]
fn groups_and_tasks() {
    let text = r"job: hello
groups:
  a:
    tasks: { x: { image: x } }
tasks:
  web:
    image: nginx
";
    insta::assert_snapshot!(shown(text), @r#"
    error: a job has either `groups` or `tasks`
     --> job.yaml:5:1
      |
    5 | tasks:
      | ^^^^^
      |
      = hint: `tasks` is short for one group: move these tasks into a group of their own
    "#);
}

#[test]
fn group_without_tasks() {
    let text = r"job: hello
groups:
  front:
    count: 2
";
    insta::assert_snapshot!(shown(text), @r#"
    error: the group `front` has no tasks
     --> job.yaml:3:3
      |
    3 |   front:
      |   ^^^^^
      |
      = hint: add `tasks:` with a name and an `image` for each
    "#);
}

#[test]
fn bad_names() {
    let text = r"job: My App
tasks:
  web_1:
    image: nginx
  ___:
    image: nginx
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `My App` is not a name: use a-z, 0-9 and `-`, starting and ending with a letter or digit
     --> job.yaml:1:6
      |
    1 | job: My App
      |      ^^^^^^
      |
      = hint: `my-app` would do

    error: `web_1` is not a name: use a-z, 0-9 and `-`, starting and ending with a letter or digit
     --> job.yaml:3:3
      |
    3 |   web_1:
      |   ^^^^^
      |
      = hint: `web-1` would do

    error: `___` is not a name: use a-z, 0-9 and `-`, starting and ending with a letter or digit
     --> job.yaml:5:3
      |
    5 |   ___:
      |   ^^^
    "#);
}

#[test]
fn long_name() {
    let text = r#"job: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
tasks:
  "":
    image: nginx
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: the name is 64 characters long; the limit is 63
     --> job.yaml:1:6
      |
    1 | job: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
      |      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx` would do

    error: a name cannot be empty
     --> job.yaml:3:3
      |
    3 |   "":
      |   ^^
    "#);
}

#[test]
fn wrong_types() {
    let text = r"job: [ hello ]
tasks:
  web:
    image: { name: nginx }
    publish: 8080:80
    command: { run: x }
    env: A=b
  db: redis
  list: [ a ]
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `job` takes a single value; this is a list
     --> job.yaml:1:1
      |
    1 | job: [ hello ]
      | ^^^

    error: `image` takes a single value; this is a mapping
     --> job.yaml:4:5
      |
    4 |     image: { name: nginx }
      |     ^^^^^

    error: `publish` takes a list; this is a single value
     --> job.yaml:5:5
      |
    5 |     publish: 8080:80
      |     ^^^^^^^
      |
      = hint: write `publish: [ "8080:80" ]`

    error: `command` takes a list; this is a mapping
     --> job.yaml:6:5
      |
    6 |     command: { run: x }
      |     ^^^^^^^

    error: `env` takes a mapping of names to values, or a list of `NAME=value`; this is a single value
     --> job.yaml:7:5
      |
    7 |     env: A=b
      |     ^^^

    error: a task is a mapping with an `image`; this is a single value
     --> job.yaml:8:7
      |
    8 |   db: redis
      |       ^^^^^
      |
      = hint: write the keys below `db`, each in its own line and indented further

    error: a task is a mapping with an `image`; this is a list
     --> job.yaml:9:3
      |
    9 |   list: [ a ]
      |   ^^^^
      |
      = hint: write the keys below `list`, each in its own line and indented further
    "#);
}

#[test]
fn tasks_as_list() {
    let text = r"job: hello
tasks:
  - image: nginx
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `tasks` is a mapping: the name of each task, and below it what it is; this is a list
     --> job.yaml:2:1
      |
    2 | tasks:
      | ^^^^^
      |
      = hint: write the keys below `tasks`, each in its own line and indented further
    "#);
}

#[test]
fn too_many_groups() {
    let group = "    tasks: { x: { image: x } }\n";
    let groups: String = (0..101).map(|index| format!("  g{index}:\n{group}")).collect();
    insta::assert_snapshot!(shown(&format!("job: hello\ngroups:\n{groups}")), @r#"
    error: there are 101 groups; the limit is 100
       --> job.yaml:203:3
        |
    203 |   g100:
        |   ^^^^
        |
        = hint: split them into several jobs
    "#);
}

#[test]
fn too_many_ports() {
    let ports: Vec<String> = (1..=101).map(|port| port.to_string()).collect();
    let text = format!("job: j\ntasks:\n  t:\n    image: x\n    ports:\n    - {}\n", ports.join("\n    - "));
    insta::assert_snapshot!(shown(&text), @r#"
    error: `ports` holds 101 entries; the limit is 100
       --> job.yaml:106:7
        |
    106 |     - 101
        |       ^^^
    "#);
}

#[test]
fn group_that_is_no_mapping() {
    insta::assert_snapshot!(shown("job: j\ngroups: { g: web }\n"), @"
    error: a group is a mapping with `tasks`; this is a single value
     --> job.yaml:2:14
      |
    2 | groups: { g: web }
      |              ^^^
      |
      = hint: write the keys below `g`, each in its own line and indented further
    ");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a test is as long as what is said in it")]
fn unknown_keys_of_each_level() {
    let text = r"job: j
volumes: { v: { zz: 1 } }
secrets: { s: { zz: 1 } }
configs: { c: { zz: 1 } }
groups:
  g:
    zz: 1
    tasks:
      t:
        image: x
        secrets: [ { source: s, zz: 1 } ]
        health: { zz: 1 }
        update: { zz: 1 }
        logging: { zz: 1 }
        ulimits: { nofile: { soft: 1, hard: 1, zz: 1 } }
";
    insta::assert_snapshot!(shown(text), @"
    error: a volume has no key `zz`
     --> job.yaml:2:17
      |
    2 | volumes: { v: { zz: 1 } }
      |                 ^^
      |
      = hint: its keys are pool, size, max_lag, import, shared

    error: a secret has no key `zz`
     --> job.yaml:3:17
      |
    3 | secrets: { s: { zz: 1 } }
      |                 ^^
      |
      = hint: its keys are file, variable, content

    error: a config has no key `zz`
     --> job.yaml:4:17
      |
    4 | configs: { c: { zz: 1 } }
      |                 ^^
      |
      = hint: its keys are file, variable, content

    error: a group has no key `zz`
     --> job.yaml:7:5
      |
    7 |     zz: 1
      |     ^^
      |
      = hint: its keys are count, place, failover_after, restart, update, tasks

    error: a secret or config of a task has no key `zz`
      --> job.yaml:11:33
       |
    11 |         secrets: [ { source: s, zz: 1 } ]
       |                                 ^^
       |
       = hint: its keys are source, target, uid, gid, mode, writable

    error: `health` has no key `zz`
      --> job.yaml:12:19
       |
    12 |         health: { zz: 1 }
       |                   ^^
       |
       = hint: its keys are http, tcp, command, shell, every, timeout, retries, start, start_every

    error: `update` has no key `zz`
      --> job.yaml:13:19
       |
    13 |         update: { zz: 1 }
       |                   ^^
       |
       = hint: its keys are parallel, delay, watch, order, on_failure

    error: `logging` has no key `zz`
      --> job.yaml:14:20
       |
    14 |         logging: { zz: 1 }
       |                    ^^
       |
       = hint: its keys are max_size, max_files

    error: a limit has no key `zz`
      --> job.yaml:15:48
       |
    15 |         ulimits: { nofile: { soft: 1, hard: 1, zz: 1 } }
       |                                                ^^
       |
       = hint: its keys are soft, hard
    ");
}
