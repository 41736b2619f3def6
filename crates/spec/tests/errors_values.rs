//! The words a person gets for mistakes in values: they are product, so every change to them shows here.

mod support;

use support::shown;

#[test]
fn memory() {
    let text = r"job: hello
tasks:
  a: { image: x, memory: 512 }
  b: { image: x, memory: lots }
  c: { image: x, memory: 16M }
  d: { image: x, memory: 9T }
  e: { image: x, memory: -1G }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `512` of memory is not between 64M and 4T
     --> job.yaml:3:26
      |
    3 |   a: { image: x, memory: 512 }
      |                          ^^^
      |
      = hint: a number alone counts bytes; did you mean `512M`?

    error: `lots` is not a size
     --> job.yaml:4:26
      |
    4 |   b: { image: x, memory: lots }
      |                          ^^^^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`

    error: `16M` of memory is not between 64M and 4T
     --> job.yaml:5:26
      |
    5 |   c: { image: x, memory: 16M }
      |                          ^^^

    error: `9T` of memory is not between 64M and 4T
     --> job.yaml:6:26
      |
    6 |   d: { image: x, memory: 9T }
      |                          ^^

    error: `-1G` is not a size
     --> job.yaml:7:26
      |
    7 |   e: { image: x, memory: -1G }
      |                          ^^^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`
    "#);
}

#[test]
fn cpus() {
    let text = r"job: hello
tasks:
  a: { image: x, cpus: 0 }
  b: { image: x, cpus: 500m }
  c: { image: x, cpus: two }
  d: { image: x, cpus: 65 }
  e: { image: x, cpus: 0.0625 }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `0` processors are not between 0.01 and 64
     --> job.yaml:3:24
      |
    3 |   a: { image: x, cpus: 0 }
      |                        ^

    error: `500m` is not a number of processors
     --> job.yaml:4:24
      |
    4 |   b: { image: x, cpus: 500m }
      |                        ^^^^
      |
      = hint: write `0.5`

    error: `two` is not a number of processors
     --> job.yaml:5:24
      |
    5 |   c: { image: x, cpus: two }
      |                        ^^^
      |
      = hint: write a number such as `2` or `0.5`

    error: `65` processors are not between 0.01 and 64
     --> job.yaml:6:24
      |
    6 |   d: { image: x, cpus: 65 }
      |                        ^^

    error: `0.0625` has more than three digits after the point
     --> job.yaml:7:24
      |
    7 |   e: { image: x, cpus: 0.0625 }
      |                        ^^^^^^
    "#);
}

#[test]
fn count() {
    let text = r"job: hello
groups:
  a: { count: -1, tasks: { x: { image: x } } }
  b: { count: many, tasks: { y: { image: x } } }
  c: { count: 101, tasks: { z: { image: x } } }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `-1` is not a whole number
     --> job.yaml:3:15
      |
    3 |   a: { count: -1, tasks: { x: { image: x } } }
      |               ^^
      |
      = hint: write a number from 0 to 100

    error: `many` is not a whole number
     --> job.yaml:4:15
      |
    4 |   b: { count: many, tasks: { y: { image: x } } }
      |               ^^^^
      |
      = hint: write a number from 0 to 100

    error: `101` is not between 0 and 100
     --> job.yaml:5:15
      |
    5 |   c: { count: 101, tasks: { z: { image: x } } }
      |               ^^^
    "#);
}

#[test]
fn stop_grace() {
    let text = r"job: hello
tasks:
  a: { image: x, stop_grace: 10 }
  b: { image: x, stop_grace: soon }
  c: { image: x, stop_grace: 2h }
  d: { image: x, stop_grace: 10 s }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `10` is not a duration
     --> job.yaml:3:30
      |
    3 |   a: { image: x, stop_grace: 10 }
      |                              ^^
      |
      = hint: give the unit: did you mean `10s`?

    error: `soon` is not a duration
     --> job.yaml:4:30
      |
    4 |   b: { image: x, stop_grace: soon }
      |                              ^^^^
      |
      = hint: write numbers with units, such as `10s`, `1m30s` or `500ms`

    error: `2h` is longer than 1h
     --> job.yaml:5:30
      |
    5 |   c: { image: x, stop_grace: 2h }
      |                              ^^

    error: `10 s` is not a duration
     --> job.yaml:6:30
      |
    6 |   d: { image: x, stop_grace: 10 s }
      |                              ^^^^
      |
      = hint: write numbers with units, such as `10s`, `1m30s` or `500ms`
    "#);
}

#[test]
fn command() {
    let text = r#"job: hello
tasks:
  a: { image: x, command: "echo it's" }
  b: { image: x, command: [ sh, { c: d }, null, "a\0b" ] }
  c: { image: x, entrypoint: "a \\" }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: the command cannot be split into words: a `'` is never closed
     --> job.yaml:3:27
      |
    3 |   a: { image: x, command: "echo it's" }
      |                           ^^^^^^^^^^^
      |
      = hint: write it as a list of words, such as `[ echo, "it's" ]`

    error: the items of `command` are single values; this is a mapping
     --> job.yaml:4:33
      |
    4 |   b: { image: x, command: [ sh, { c: d }, null, "a\0b" ] }
      |                                 ^^^^^^^^
      |
      = hint: write each item as one value, in quotes if it holds `: `

    error: the items of `command` are single values; this is nothing
     --> job.yaml:4:43
      |
    4 |   b: { image: x, command: [ sh, { c: d }, null, "a\0b" ] }
      |                                           ^^^^
      |
      = hint: write `""` for an empty text

    error: `a\0b` holds a NUL character, which no process can be given
     --> job.yaml:4:49
      |
    4 |   b: { image: x, command: [ sh, { c: d }, null, "a\0b" ] }
      |                                                 ^^^^^^

    error: the command cannot be split into words: a backslash at the end escapes nothing
     --> job.yaml:5:30
      |
    5 |   c: { image: x, entrypoint: "a \\" }
      |                              ^^^^^^
      |
      = hint: write it as a list of words, such as `[ echo, "it's" ]`
    "#);
}

#[test]
fn shell_syntax_is_shown_with_the_errors() {
    let text = r#"job: hello
tasks:
  web:
    image: nginx
    command: migrate && serve
    user: ""
"#;
    insta::assert_snapshot!(shown(text), @r#"
    warning: `&&` means nothing here: no shell reads `command`
     --> job.yaml:5:14
      |
    5 |     command: migrate && serve
      |              ^^^^^^^^^^^^^^^^
      |
      = hint: write `command: [ sh, -c, "…" ]` if the image has a shell

    error: `""` is not a user
     --> job.yaml:6:11
      |
    6 |     user: ""
      |           ^^
      |
      = hint: write a name or number, and a group after a colon: `www-data`, `1000:1000`
    "#);
}

#[test]
fn env_mapping() {
    let text = r#"job: hello
tasks:
  web:
    image: nginx
    env:
      EMPTY:
      LIST: [ a ]
      "A B": c
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: the variable `EMPTY` has no value
     --> job.yaml:6:7
      |
    6 |       EMPTY:
      |       ^^^^^
      |
      = hint: a job does not depend on your shell: give the value, or `EMPTY: ""` for an empty one

    error: the variable `LIST` takes a single value; this is a list
     --> job.yaml:7:7
      |
    7 |       LIST: [ a ]
      |       ^^^^
      |
      = hint: quote a value that is itself YAML or JSON

    error: `A B` is not the name of a variable
     --> job.yaml:8:7
      |
    8 |       "A B": c
      |       ^^^^^
      |
      = hint: names hold no `=` and no spaces
    "#);
}

#[test]
fn env_list() {
    let text = r"job: hello
tasks:
  web:
    image: nginx
    env:
      - FROM_SHELL
      - A=1
      - A=2
      - =x
      - KEY: value
";
    insta::assert_snapshot!(shown(text), @r#"
    error: the variable `FROM_SHELL` has no value
     --> job.yaml:6:9
      |
    6 |       - FROM_SHELL
      |         ^^^^^^^^^^
      |
      = hint: a job does not depend on your shell: give the value, or `FROM_SHELL=` for an empty one

    error: the variable `A` is set twice
     --> job.yaml:8:9
      |
    8 |       - A=2
      |         ^^^
      |
      = hint: keep one of them

    error: a variable has no name
     --> job.yaml:9:9
      |
    9 |       - =x
      |         ^^

    error: the items of `env` are single values; this is a mapping
      --> job.yaml:10:9
       |
    10 |       - KEY: value
       |         ^^^^^^^^^^
       |
       = hint: write each item as one value, in quotes if it holds `: `
    "#);
}

#[test]
fn user() {
    let text = r#"job: hello
tasks:
  a: { image: x, user: "www data" }
  b: { image: x, user: "1000:" }
  c: { image: x, user: 4294967295 }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `www data` is not a user
     --> job.yaml:3:24
      |
    3 |   a: { image: x, user: "www data" }
      |                        ^^^^^^^^^^
      |
      = hint: write a name or number, and a group after a colon: `www-data`, `1000:1000`

    error: `1000:` is not a user
     --> job.yaml:4:24
      |
    4 |   b: { image: x, user: "1000:" }
      |                        ^^^^^^^
      |
      = hint: write a name or number, and a group after a colon: `www-data`, `1000:1000`

    error: `4294967295` is not a user
     --> job.yaml:5:24
      |
    5 |   c: { image: x, user: 4294967295 }
      |                        ^^^^^^^^^^
      |
      = hint: numbers of users and groups are 0 to 4294967294
    "#);
}

#[test]
fn working_dir() {
    let text = r#"job: hello
tasks:
  a: { image: x, working_dir: srv }
  b: { image: x, working_dir: "" }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `srv` is not an absolute path
     --> job.yaml:3:31
      |
    3 |   a: { image: x, working_dir: srv }
      |                               ^^^
      |
      = hint: start it with `/`

    error: `""` is not an absolute path
     --> job.yaml:4:31
      |
    4 |   b: { image: x, working_dir: "" }
      |                               ^^
    "#);
}

#[test]
fn stop_signal() {
    let text = r"job: hello
tasks:
  a: { image: x, stop_signal: SIGTREM }
  b: { image: x, stop_signal: 65 }
  c: { image: x, stop_signal: SIGRTMIN+31 }
  d: { image: x, stop_signal: kindly }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `SIGTREM` is not a signal
     --> job.yaml:3:31
      |
    3 |   a: { image: x, stop_signal: SIGTREM }
      |                               ^^^^^^^
      |
      = hint: did you mean `SIGTERM`?

    error: `65` is not a signal
     --> job.yaml:4:31
      |
    4 |   b: { image: x, stop_signal: 65 }
      |                               ^^
      |
      = hint: signals are 1 to 64

    error: `SIGRTMIN+31` is not a signal
     --> job.yaml:5:31
      |
    5 |   c: { image: x, stop_signal: SIGRTMIN+31 }
      |                               ^^^^^^^^^^^
      |
      = hint: write a name such as `SIGTERM` or `SIGRTMIN+3`, or a number

    error: `kindly` is not a signal
     --> job.yaml:6:31
      |
    6 |   d: { image: x, stop_signal: kindly }
      |                               ^^^^^^
      |
      = hint: write a name such as `SIGTERM` or `SIGRTMIN+3`, or a number
    "#);
}

#[test]
fn restart() {
    let text = r"job: hello
tasks:
  a: { image: x, restart: false }
  b: { image: x, restart: on-failure:0 }
  c: { image: x, restart: on-failure:x }
  d: { image: x, restart: sometimes }
  e: { image: x, restart: on_failure }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `false` is not a restart policy
     --> job.yaml:3:27
      |
    3 |   a: { image: x, restart: false }
      |                           ^^^^^
      |
      = hint: did you mean `no`?

    error: `on-failure:0` is not a restart policy
     --> job.yaml:4:27
      |
    4 |   b: { image: x, restart: on-failure:0 }
      |                           ^^^^^^^^^^^^
      |
      = hint: write `no` for no restart, `on-failure` for no limit

    error: `on-failure:x` is not a restart policy
     --> job.yaml:5:27
      |
    5 |   c: { image: x, restart: on-failure:x }
      |                           ^^^^^^^^^^^^
      |
      = hint: write the number of restarts after the colon, such as `on-failure:3`

    error: `sometimes` is not a restart policy
     --> job.yaml:6:27
      |
    6 |   d: { image: x, restart: sometimes }
      |                           ^^^^^^^^^
      |
      = hint: write `always`, `on-failure`, `on-failure:3` or `no`

    error: `on_failure` is not a restart policy
     --> job.yaml:7:27
      |
    7 |   e: { image: x, restart: on_failure }
      |                           ^^^^^^^^^^
      |
      = hint: did you mean `on-failure`?
    "#);
}

#[test]
fn image() {
    let text = r#"job: hello
tasks:
  a: { image: https://registry.example/app }
  b: { image: Nginx:1.27 }
  c: { image: "nginx:" }
  d: { image: nginx@sha256:12 }
  e: { image: "nginx latest" }
  f: { image: "a//b" }
  g: { image: "" }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `https://registry.example/app` is not an image reference: it names a protocol
     --> job.yaml:3:15
      |
    3 |   a: { image: https://registry.example/app }
      |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: write `registry.example/app`

    error: `Nginx:1.27` is not an image reference: names are in lower case
     --> job.yaml:4:15
      |
    4 |   b: { image: Nginx:1.27 }
      |               ^^^^^^^^^^
      |
      = hint: did you mean `nginx:1.27`?

    error: `nginx:` is not an image reference: what follows the last `:` is no tag
     --> job.yaml:5:15
      |
    5 |   c: { image: "nginx:" }
      |               ^^^^^^^^
      |
      = hint: tags hold letters, digits, `_`, `.` and `-`

    error: `nginx@sha256:12` is not an image reference: what follows `@` is no digest
     --> job.yaml:6:15
      |
    6 |   d: { image: nginx@sha256:12 }
      |               ^^^^^^^^^^^^^^^
      |
      = hint: a digest is `sha256:` and 64 digits 0-9, a-f

    error: `nginx latest` is not an image reference: it holds a space
     --> job.yaml:7:15
      |
    7 |   e: { image: "nginx latest" }
      |               ^^^^^^^^^^^^^^

    error: `a//b` is not an image reference: parts of a name hold a-z, 0-9, and single `.`, `_`, `-` between them
     --> job.yaml:8:15
      |
    8 |   f: { image: "a//b" }
      |               ^^^^^^

    error: `""` is not an image reference: the name is missing or too long
     --> job.yaml:9:15
      |
    9 |   g: { image: "" }
      |               ^^
      |
      = hint: names are 1 to 255 characters long, such as `nginx` or `registry.example/team/app`
    "#);
}

/// What no system call takes: a C string ends with it.
#[test]
fn nul_characters() {
    let text = r#"job: hello
tasks:
  a: { image: x, working_dir: "/a\0" }
  b: { image: x, command: [ "a\0" ] }
  c: { image: x, env: { A: "\0" } }
  d: { image: x, sysctls: { a.b: "\0" } }
  e: { image: x, env_file: [ "a\0", "" ] }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `/a\0` is not a path
     --> job.yaml:3:31
      |
    3 |   a: { image: x, working_dir: "/a\0" }
      |                               ^^^^^^

    error: `a\0` holds a NUL character, which no process can be given
     --> job.yaml:4:29
      |
    4 |   b: { image: x, command: [ "a\0" ] }
      |                             ^^^^^

    error: the value of `A` holds a NUL character, which no process can be given
     --> job.yaml:5:28
      |
    5 |   c: { image: x, env: { A: "\0" } }
      |                            ^^^^

    error: `\0` holds a NUL character, which no process can be given
     --> job.yaml:6:34
      |
    6 |   d: { image: x, sysctls: { a.b: "\0" } }
      |                                  ^^^^

    error: `a\0` is not a path
     --> job.yaml:7:30
      |
    7 |   e: { image: x, env_file: [ "a\0", "" ] }
      |                              ^^^^^

    error: `""` is not a path
     --> job.yaml:7:37
      |
    7 |   e: { image: x, env_file: [ "a\0", "" ] }
      |                                     ^^
    "#);
}

#[test]
fn switches_and_restarts_in_other_words() {
    let text = r"job: hello
tasks:
  a: { image: x, read_only: no, restart: yes }
  b: { image: x, read_only: yes, restart: false }
  c: { image: x, read_only: maybe, restart: failure }
";
    insta::assert_snapshot!(shown(text), @"
    error: `no` is neither `true` nor `false`
     --> job.yaml:3:29
      |
    3 |   a: { image: x, read_only: no, restart: yes }
      |                             ^^
      |
      = hint: write `false`

    error: `yes` is not a restart policy
     --> job.yaml:3:42
      |
    3 |   a: { image: x, read_only: no, restart: yes }
      |                                          ^^^
      |
      = hint: did you mean `always`?

    error: `yes` is neither `true` nor `false`
     --> job.yaml:4:29
      |
    4 |   b: { image: x, read_only: yes, restart: false }
      |                             ^^^
      |
      = hint: write `true`

    error: `false` is not a restart policy
     --> job.yaml:4:43
      |
    4 |   b: { image: x, read_only: yes, restart: false }
      |                                           ^^^^^
      |
      = hint: did you mean `no`?

    error: `maybe` is neither `true` nor `false`
     --> job.yaml:5:29
      |
    5 |   c: { image: x, read_only: maybe, restart: failure }
      |                             ^^^^^

    error: `failure` is not a restart policy
     --> job.yaml:5:45
      |
    5 |   c: { image: x, read_only: maybe, restart: failure }
      |                                             ^^^^^^^
      |
      = hint: did you mean `on-failure`?
    ");
}

#[test]
fn a_double_quote_that_is_never_closed() {
    let text = "job: hello\ntasks: { t: { image: x, command: 'echo \"a b' } }\n";
    insta::assert_snapshot!(shown(text), @r#"
    error: the command cannot be split into words: a `"` is never closed
     --> job.yaml:2:34
      |
    2 | tasks: { t: { image: x, command: 'echo "a b' } }
      |                                  ^^^^^^^^^^^
      |
      = hint: write it as a list of words, such as `[ echo, "it's" ]`
    "#);
}
