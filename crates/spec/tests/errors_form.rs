//! The words a person gets for mistakes, and the form of a report: it is product, so every change shows here.

mod support;

use lith_spec::{Colour, check};
use support::shown;

#[test]
fn letters_before_the_mark() {
    let text = r#"job: hello
tasks:
  web: { image: nginx, env: { "Grüße aus 東京": x }, memory: ßß }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `Grüße aus 東京` is not the name of a variable
     --> job.yaml:3:31
      |
    3 |   web: { image: nginx, env: { "Grüße aus 東京": x }, memory: ßß }
      |                               ^^^^^^^^^^^^^^^^
      |
      = hint: names hold no `=` and no spaces

    error: `ßß` is not a size
     --> job.yaml:3:60
      |
    3 |   web: { image: nginx, env: { "Grüße aus 東京": x }, memory: ßß }
      |                                                              ^^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`
    "#);
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let text = r#"job: "a\e[31mb"
tasks: { web: { image: nginx, "\x07": 1 } }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `a\u{1b}[31mb` is not a name: use a-z, 0-9 and `-`, starting and ending with a letter or digit
     --> job.yaml:1:6
      |
    1 | job: "a\e[31mb"
      |      ^^^^^^^^^^
      |
      = hint: `a--31mb` would do

    error: a task has no key `\u{7}`
     --> job.yaml:2:31
      |
    2 | tasks: { web: { image: nginx, "\x07": 1 } }
      |                               ^^^^^^
      |
      = hint: its keys are image, kind, schedule, entrypoint, command, env, env_file, user, groups, working_dir, hostname, timezone, memory, cpus, gpu, devices, volumes, tmpfs, shm_size, read_only, secrets, configs, ports, publish, expose, connects, egress, bandwidth, hosts, health, depends_on, restart, stop_signal, stop_grace, update, logging, ulimits, sysctls
    "#);
}

#[test]
fn long_line() {
    let text = r#"job: hello
tasks: { web: { image: nginx, env: { A: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" }, memory: lots, env2: "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy" } }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `lots` is not a size
     --> job.yaml:2:355
      |
    2 | ...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" }, memory: lots, env2: "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy...
      |                                                    ^^^^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`

    error: a task has no key `env2`
     --> job.yaml:2:361
      |
    2 | ...xxxxxxxxxxxxxxxxxxxxxxxxxxxxx" }, memory: lots, env2: "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy...
      |                                                    ^^^^
      |
      = hint: did you mean `env`?
    "#);
}

#[test]
fn carriage_returns() {
    let text = "job: hello\r\ntasks:\r\n  web:\r\n    image: nginx\r\n    memory: lots\r\n";
    insta::assert_snapshot!(shown(text), @r#"
    error: `lots` is not a size
     --> job.yaml:5:13
      |
    5 |     memory: lots
      |             ^^^^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`
    "#);
}

#[test]
fn byte_order_mark() {
    let text = "\u{feff}job: hello\ntasks: {}\n";
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
fn more_mistakes_than_anyone_reads() {
    let keys: String = (0..60).map(|index| format!("zz{index}: 1\n")).collect();
    let text = shown(&format!("job: hello\ntasks: {{ t: {{ image: x }} }}\n{keys}"));
    let last = text.lines().last().expect("something is shown");
    insta::assert_snapshot!(last, @"note: 10 more of this file are not shown");
}

#[test]
fn colours_change_nothing_but_colours() {
    let reading = check("job.yaml", "job: hello\ntask: { web: { image: nginx } }\n");
    let coloured = reading.diagnostics.render(Colour::Ansi);
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').expect("a colour ends with m").1;
    }
    plain.push_str(rest);
    assert_ne!(coloured, plain);
    assert_eq!(plain, reading.diagnostics.render(Colour::None));
}

#[test]
fn as_json() {
    let reading = check("job.yaml", "job: hello\ntasks: { web: { image: nginx, memry: 1G } }\n");
    let json = serde_json::to_string_pretty(&reading.diagnostics.list).expect("diagnostics are plain values");
    insta::assert_snapshot!(json, @r#"
    [
      {
        "severity": "error",
        "code": "unknown-key",
        "message": "a task has no key `memry`",
        "hint": "did you mean `memory`?",
        "file": "job.yaml",
        "line": 2,
        "column": 31,
        "length": 5
      }
    ]
    "#);
}

#[test]
fn as_an_error() {
    let fine = check("job.yaml", "job: j\ntasks: { t: { image: x } }\n").diagnostics;
    assert_eq!(fine.to_string(), "nothing is wrong");
    let reading = check("job.yaml", "job: hello\ntask: 1\nx: 1\n");
    insta::assert_snapshot!(reading.diagnostics, @"job.yaml:1:1: the job has no tasks (and 2 more)");
    insta::assert_snapshot!(reading.diagnostics.hint().expect("the first error has a hint"), @"add `tasks:` with a name and an `image` for each, such as `tasks: { web: { image: nginx } }`");
}

#[test]
fn very_long_line() {
    let text = format!(
        "job: hello\ntasks: {{ web: {{ image: nginx, env: {{ A: {} }}, memory: lots }} }}",
        "x".repeat(2000)
    );
    insta::assert_snapshot!(shown(&text), @r#"
    error: `lots` is not a size
     --> job.yaml:2:2053
      |
     ::: 
    2 | ...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx }, memory: lots } }
      |                                                    ^^^^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`
    "#);
}
