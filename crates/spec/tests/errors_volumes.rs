//! The words a person gets for mistakes in volumes, secrets and configs, and where tasks find them: they are product, so
//! every change to them shows here.

#![expect(clippy::too_many_lines, reason = "a test is as long as what is said in it")]

mod support;

use support::shown;

#[test]
fn volumes() {
    let text = r"job: hello
volumes:
  data: { size: 1M, pool: Fast, max_lag: 9000h, shared: yes }
  more: { sise: 1G }
  text: 20G
  My Data:
tasks:
  web: { image: x }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `1M` of disk is not between 16M and 16T
     --> job.yaml:3:17
      |
    3 |   data: { size: 1M, pool: Fast, max_lag: 9000h, shared: yes }
      |                 ^^

    error: `Fast` is not a name: use a-z, 0-9 and `-`, starting and ending with a letter or digit
     --> job.yaml:3:27
      |
    3 |   data: { size: 1M, pool: Fast, max_lag: 9000h, shared: yes }
      |                           ^^^^
      |
      = hint: `fast` would do

    error: `9000h` is longer than 168h
     --> job.yaml:3:42
      |
    3 |   data: { size: 1M, pool: Fast, max_lag: 9000h, shared: yes }
      |                                          ^^^^^

    error: `yes` is neither `true` nor `false`
     --> job.yaml:3:57
      |
    3 |   data: { size: 1M, pool: Fast, max_lag: 9000h, shared: yes }
      |                                                         ^^^
      |
      = hint: write `true`

    error: a volume has no key `sise`
     --> job.yaml:4:11
      |
    4 |   more: { sise: 1G }
      |           ^^^^
      |
      = hint: did you mean `size`?

    error: a volume is a mapping, or nothing; this is a single value
     --> job.yaml:5:9
      |
    5 |   text: 20G
      |         ^^^
      |
      = hint: write the keys below `text`, each in its own line and indented further

    error: `My Data` is not a name: use a-z, 0-9 and `-`, starting and ending with a letter or digit
     --> job.yaml:6:3
      |
    6 |   My Data:
      |   ^^^^^^^
      |
      = hint: `my-data` would do
    "#);
}

#[test]
fn volume_that_is_not_declared() {
    let text = r#"job: hello
volumes: { data: }
tasks:
  web: { image: x, volumes: [ "dta:/a", "other:/b", "data:/c" ] }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: the job has no volume `dta`
     --> job.yaml:4:31
      |
    4 |   web: { image: x, volumes: [ "dta:/a", "other:/b", "data:/c" ] }
      |                               ^^^^^^^^
      |
      = hint: did you mean `data`?

    error: the job has no volume `other`
     --> job.yaml:4:41
      |
    4 |   web: { image: x, volumes: [ "dta:/a", "other:/b", "data:/c" ] }
      |                                         ^^^^^^^^^^
      |
      = hint: add `other:` below `volumes:` of the job
    "#);
}

#[test]
fn imported_folder_that_is_not_there() {
    let text = r"job: hello
volumes: { data: { import: ./site } }
tasks: { web: { image: x } }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: the folder `./site` cannot be imported: it is not there
     --> job.yaml:2:28
      |
    2 | volumes: { data: { import: ./site } }
      |                            ^^^^^^
      |
      = hint: the path starts at the folder of the job file; once the volume is made, `import` can be removed
    "#);
}

#[test]
fn mounts() {
    let text = r#"job: hello
tasks:
  web:
    image: x
    volumes: [ data, /srv, "./x:/srv", "data:srv", "data:/", "data:/srv:rw,z", "Data:/x", "data:/a/../b" ]
    tmpfs: [ tmp, "/tmp:size=lots", "/run:size=0", "/x:mode=9", "/y:colour=red" ]
    devices: [ ttyUSB0, /etc/passwd, "/dev/../etc" ]
    shm_size: 0
    read_only: on
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `data` mounts nothing
     --> job.yaml:5:16
      |
    5 |     volumes: [ data, /srv, "./x:/srv", "data:srv", "data:/", "data:/srv:rw,z", "Data:/x", "data:/a/../b" ]
      |                ^^^^
      |
      = hint: write VOLUME:PATH, such as `data:/var/lib/app`, with `:ro` behind it for reading alone

    error: `/srv` mounts nothing
     --> job.yaml:5:22
      |
    5 |     volumes: [ data, /srv, "./x:/srv", "data:srv", "data:/", "data:/srv:rw,z", "Data:/x", "data:/a/../b" ]
      |                      ^^^^
      |
      = hint: give the volume a name: `data:/srv`

    error: `./x:/srv` mounts nothing
     --> job.yaml:5:28
      |
    5 |     volumes: [ data, /srv, "./x:/srv", "data:srv", "data:/", "data:/srv:rw,z", "Data:/x", "data:/a/../b" ]
      |                            ^^^^^^^^^^
      |
      = hint: a path of the node is absolute; for a disk of its own, give it a name such as `data`

    error: `srv` is not an absolute path
     --> job.yaml:5:40
      |
    5 |     volumes: [ data, /srv, "./x:/srv", "data:srv", "data:/", "data:/srv:rw,z", "Data:/x", "data:/a/../b" ]
      |                                        ^^^^^^^^^^
      |
      = hint: start it with `/`

    error: nothing can be mounted over `/`
     --> job.yaml:5:52
      |
    5 |     volumes: [ data, /srv, "./x:/srv", "data:srv", "data:/", "data:/srv:rw,z", "Data:/x", "data:/a/../b" ]
      |                                                    ^^^^^^^^
      |
      = hint: name a folder below it

    error: `data:/srv:rw,z` mounts nothing
     --> job.yaml:5:62
      |
    5 |     volumes: [ data, /srv, "./x:/srv", "data:srv", "data:/", "data:/srv:rw,z", "Data:/x", "data:/a/../b" ]
      |                                                              ^^^^^^^^^^^^^^^^
      |
      = hint: the only option is `ro`; `rw,z` is none

    error: `Data:/x` mounts nothing
     --> job.yaml:5:80
      |
    5 |     volumes: [ data, /srv, "./x:/srv", "data:srv", "data:/", "data:/srv:rw,z", "Data:/x", "data:/a/../b" ]
      |                                                                                ^^^^^^^^^
      |
      = hint: `data` would do as the volume's name

    error: `/a/../b` leads out of itself
     --> job.yaml:5:91
      |
    5 |     volumes: [ data, /srv, "./x:/srv", "data:srv", "data:/", "data:/srv:rw,z", "Data:/x", "data:/a/../b" ]
      |                                                                                           ^^^^^^^^^^^^^^
      |
      = hint: write the path without `..`

    error: `tmp` is not an absolute path
     --> job.yaml:6:14
      |
    6 |     tmpfs: [ tmp, "/tmp:size=lots", "/run:size=0", "/x:mode=9", "/y:colour=red" ]
      |              ^^^
      |
      = hint: start it with `/`

    error: `lots` is not a size
     --> job.yaml:6:19
      |
    6 |     tmpfs: [ tmp, "/tmp:size=lots", "/run:size=0", "/x:mode=9", "/y:colour=red" ]
      |                   ^^^^^^^^^^^^^^^^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`

    error: `0` of a file system in memory is not between 1B and 4T
     --> job.yaml:6:37
      |
    6 |     tmpfs: [ tmp, "/tmp:size=lots", "/run:size=0", "/x:mode=9", "/y:colour=red" ]
      |                                     ^^^^^^^^^^^^^

    error: `9` are not permissions
     --> job.yaml:6:52
      |
    6 |     tmpfs: [ tmp, "/tmp:size=lots", "/run:size=0", "/x:mode=9", "/y:colour=red" ]
      |                                                    ^^^^^^^^^^^
      |
      = hint: write three or four digits from 0 to 7, such as `0400`

    error: `/y:colour=red` is not a file system in memory
     --> job.yaml:6:65
      |
    6 |     tmpfs: [ tmp, "/tmp:size=lots", "/run:size=0", "/x:mode=9", "/y:colour=red" ]
      |                                                                 ^^^^^^^^^^^^^^^
      |
      = hint: its options are `size=` and `mode=`, such as `/tmp:size=64M,mode=1777`

    error: `ttyUSB0` is not a device
     --> job.yaml:7:16
      |
    7 |     devices: [ ttyUSB0, /etc/passwd, "/dev/../etc" ]
      |                ^^^^^^^
      |
      = hint: write its path, such as `/dev/fuse` or `/dev/ttyUSB0`

    error: `/etc/passwd` is not a device
     --> job.yaml:7:25
      |
    7 |     devices: [ ttyUSB0, /etc/passwd, "/dev/../etc" ]
      |                         ^^^^^^^^^^^
      |
      = hint: write its path, such as `/dev/fuse` or `/dev/ttyUSB0`

    error: `/dev/../etc` is not a device
     --> job.yaml:7:38
      |
    7 |     devices: [ ttyUSB0, /etc/passwd, "/dev/../etc" ]
      |                                      ^^^^^^^^^^^^^
      |
      = hint: write its path, such as `/dev/fuse` or `/dev/ttyUSB0`

    error: `0` of /dev/shm is not between 1B and 4T
     --> job.yaml:8:15
      |
    8 |     shm_size: 0
      |               ^

    error: `on` is neither `true` nor `false`
     --> job.yaml:9:16
      |
    9 |     read_only: on
      |                ^^
      |
      = hint: write `true`
    "#);
}

#[test]
fn one_place_taken_twice() {
    let text = r#"job: hello
secrets: [ pw ]
configs: { app: { content: x } }
tasks:
  web:
    image: x
    volumes: [ "data:/srv", "more:/srv/" ]
    tmpfs: [ /srv ]
    secrets: [ "pw:/srv" ]
    configs: [ app, "app:/app" ]
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: `/srv` is mounted over twice
     --> job.yaml:7:29
      |
    7 |     volumes: [ "data:/srv", "more:/srv/" ]
      |                             ^^^^^^^^^^^^
      |
      = hint: the first is in line 7; give one of them another path

    error: `/srv` is mounted over twice
     --> job.yaml:8:14
      |
    8 |     tmpfs: [ /srv ]
      |              ^^^^
      |
      = hint: the first is in line 7; give one of them another path

    error: `/srv` is mounted over twice
     --> job.yaml:9:16
      |
    9 |     secrets: [ "pw:/srv" ]
      |                ^^^^^^^^^
      |
      = hint: the first is in line 7; give one of them another path

    error: `/app` is mounted over twice
      --> job.yaml:10:21
       |
    10 |     configs: [ app, "app:/app" ]
       |                     ^^^^^^^^^^
       |
       = hint: the first is in line 10; give one of them another path
    "#);
}

#[test]
fn a_disk_that_two_tasks_write_to() {
    let text = r#"job: hello
volumes: { data: , pool: { shared: true } }
tasks:
  a: { image: x, volumes: [ "data:/srv", "pool:/pool" ] }
  b: { image: x, volumes: [ "data:/srv:ro", "pool:/pool" ] }
  c: { image: x, volumes: [ "data:/srv", "data:/more" ] }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: the disk `data` is written by `a` already
     --> job.yaml:6:42
      |
    6 |   c: { image: x, volumes: [ "data:/srv", "data:/more" ] }
      |                                          ^^^^^^^^^^^^
      |
      = hint: write `volumes: { data: { shared: true } }` in the job, or use two disks
    "#);
}

#[test]
fn sources() {
    let text = r"job: hello
secrets:
  store:
  gone: { file: ./pw }
  unset: { variable: PW }
  both: { file: ./pw, content: x }
  none: {}
  text: x
  typo: { flie: ./pw }
  bad name: { content: x }
configs:
  empty:
tasks: { web: { image: x } }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: the file `./pw` cannot be read: there is no such file
     --> job.yaml:4:17
      |
    4 |   gone: { file: ./pw }
      |                 ^^^^

    error: the variable `PW` has no value
     --> job.yaml:5:22
      |
    5 |   unset: { variable: PW }
      |                      ^^
      |
      = hint: give one: `--set PW=…`, or a line `PW=…` in `.env` beside the job file

    error: a secret comes from one place; `content` names another
     --> job.yaml:6:23
      |
    6 |   both: { file: ./pw, content: x }
      |                       ^^^^^^^
      |
      = hint: keep `file` or `content`

    error: the secret `none` has no content
     --> job.yaml:7:3
      |
    7 |   none: {}
      |   ^^^^
      |
      = hint: give it `file: ./path`, `variable: NAME` or `content: text`

    error: a secret is a mapping with `file`, `variable` or `content`; this is a single value
     --> job.yaml:8:9
      |
    8 |   text: x
      |         ^
      |
      = hint: write the keys below `text`, each in its own line and indented further

    error: a secret has no key `flie`
     --> job.yaml:9:11
      |
    9 |   typo: { flie: ./pw }
      |           ^^^^
      |
      = hint: did you mean `file`?

    error: `bad name` is not a name: use letters, digits, `_`, `.` and `-`, starting with a letter, a digit or `_`
      --> job.yaml:10:3
       |
    10 |   bad name: { content: x }
       |   ^^^^^^^^

    error: the config `empty` has no content
      --> job.yaml:12:3
       |
    12 |   empty:
       |   ^^^^^
       |
       = hint: give it `file: ./path`, `variable: NAME` or `content: text`
    "#);
}

#[test]
fn configs_have_no_store() {
    let text = r"job: hello
configs: [ app ]
tasks: { web: { image: x } }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `configs` of a job says of each where it comes from; this is a list
     --> job.yaml:2:1
      |
    2 | configs: [ app ]
      | ^^^^^^^
      |
      = hint: write `configs: { app.conf: { file: ./app.conf } }`
    "#);
}

#[test]
fn uses() {
    let text = r#"job: hello
secrets: [ pw, key ]
tasks:
  web:
    image: x
    secrets:
      - pww
      - key:pw
      - other
      - bad name
      - { source: pw, target: x, uid: -1, mode: 999, writable: maybe }
      - { target: /x }
      - { source: pw, path: /x }
      - [ pw ]
    configs: { app: /x }
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: the job has no secret `pww`
     --> job.yaml:7:9
      |
    7 |       - pww
      |         ^^^
      |
      = hint: did you mean `pw`?

    error: `pw` is not an absolute path
     --> job.yaml:8:9
      |
    8 |       - key:pw
      |         ^^^^^^
      |
      = hint: start it with `/`

    error: the job has no secret `other`
     --> job.yaml:9:9
      |
    9 |       - other
      |         ^^^^^
      |
      = hint: add `secrets: [ other ]` to the job, or below it where its content comes from

    error: `bad name` is not a name: use letters, digits, `_`, `.` and `-`, starting with a letter, a digit or `_`
      --> job.yaml:10:9
       |
    10 |       - bad name
       |         ^^^^^^^^

    error: `x` is not an absolute path
      --> job.yaml:11:31
       |
    11 |       - { source: pw, target: x, uid: -1, mode: 999, writable: maybe }
       |                               ^
       |
       = hint: start it with `/`

    error: `-1` is not a whole number
      --> job.yaml:11:39
       |
    11 |       - { source: pw, target: x, uid: -1, mode: 999, writable: maybe }
       |                                       ^^
       |
       = hint: write a number from 0 to 4294967294

    error: `999` are not permissions
      --> job.yaml:11:49
       |
    11 |       - { source: pw, target: x, uid: -1, mode: 999, writable: maybe }
       |                                                 ^^^
       |
       = hint: write three or four digits from 0 to 7, such as `0400`

    error: `maybe` is neither `true` nor `false`
      --> job.yaml:11:64
       |
    11 |       - { source: pw, target: x, uid: -1, mode: 999, writable: maybe }
       |                                                                ^^^^^

    error: this names no secret
      --> job.yaml:12:9
       |
    12 |       - { target: /x }
       |         ^^^^^^^^^^^^^^
       |
       = hint: add `source:` with the name of a secret of the job

    error: `/run/secrets/pw` is mounted over twice
      --> job.yaml:13:9
       |
    13 |       - { source: pw, path: /x }
       |         ^^^^^^^^^^^^^^^^^^^^^^^^
       |
       = hint: the first is in line 11; give one of them another path

    error: a secret or config of a task has no key `path`
      --> job.yaml:13:23
       |
    13 |       - { source: pw, path: /x }
       |                       ^^^^
       |
       = hint: did you mean `target`?

    error: the items of `secrets` are single values; this is a list
      --> job.yaml:14:9
       |
    14 |       - [ pw ]
       |         ^^^^^^

    error: `configs` of a task takes a list; this is a mapping
      --> job.yaml:15:5
       |
    15 |     configs: { app: /x }
       |     ^^^^^^^
       |
       = hint: list what it uses, as in `configs: [ name ]`
    "#);
}

#[test]
fn contents_too_large() {
    let text = format!(
        "job: j\nconfigs: {{ app: {{ content: {} }} }}\ntasks: {{ t: {{ image: x }} }}\n",
        "x".repeat(600_000)
    );
    insta::assert_snapshot!(words(&text), @"
    error: the content holds 600000 bytes; the limit is 524288
    = hint: what is larger belongs on a volume
    ");
}

/// The message and the hint alone: what is around them is too large to stand here.
fn words(text: &str) -> String {
    let report = shown(text);
    let lines = report.lines().filter(|line| line.starts_with("error") || line.contains("= hint"));
    lines.map(str::trim).collect::<Vec<&str>>().join("\n")
}

#[test]
fn more_than_a_job_holds() {
    let list = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<String>();
    let secrets = list(101, |index| format!("  - s{index}\n"));
    insta::assert_snapshot!(shown(&format!("job: j\ntasks: {{ t: {{ image: x }} }}\nsecrets:\n{secrets}")), @"
    error: there are 101 secrets; the limit is 100
       --> job.yaml:104:5
        |
    104 |   - s100
        |     ^^^^
        |
        = hint: split them into several jobs
    ");
    let tasks = list(11, |task| {
        let mounts: String =
            (0..10).map(|index| format!("    - v{}:/v{index}\n", task * 10 + index)).collect();
        format!("  t{task:02}:\n    image: x\n    volumes:\n{mounts}")
    });
    insta::assert_snapshot!(shown(&format!("job: j\ntasks:\n{tasks}")), @"
    error: the tasks mount more than 100 volumes
       --> job.yaml:136:7
        |
    136 |     - v100:/v0
        |       ^^^^^^^^
        |
        = hint: split them into several jobs
    ");
}

#[test]
fn a_secret_that_stands_twice() {
    insta::assert_snapshot!(shown("job: j\nsecrets: [ key, key ]\ntasks: { t: { image: x, memory: x } }\n"), @"
    warning: this stands in `secrets` already
     --> job.yaml:2:17
      |
    2 | secrets: [ key, key ]
      |                 ^^^

    error: `x` is not a size
     --> job.yaml:3:33
      |
    3 | tasks: { t: { image: x, memory: x } }
      |                                 ^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`
    ");
}
