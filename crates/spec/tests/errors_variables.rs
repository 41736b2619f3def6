//! Variables, files of variables and jobs of several files: what they mean, and the words a person gets for mistakes in
//! them, which are product, so every change to them shows here.

#![expect(clippy::too_many_lines, reason = "a test is as long as what is said in it")]

use std::collections::BTreeMap;

use lith_core::job::{JobSpec, TaskSpec};
use lith_spec::{Colour, Files, Named, NoFiles, PathKind, Reading, Variables, check_job};

/// Files beside the job file.
struct Beside(&'static [(&'static str, &'static str)]);

impl Files for Beside {
    fn kind(&self, path: &str) -> PathKind {
        match self.0.iter().find(|(name, _)| *name == path) {
            Some((_, "a folder")) => PathKind::Folder,
            Some(_) => PathKind::File,
            None => PathKind::Absent,
        }
    }

    fn read(&self, path: &str, _bytes_max: usize) -> Result<Vec<u8>, String> {
        let found = self.0.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| String::from("there is no such file"))
    }
}

fn named(path: &str, text: &str) -> Named {
    Named { path: path.to_owned(), bytes: text.as_bytes().to_vec() }
}

fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn shown(reading: &Reading) -> String {
    assert_eq!(reading.job.is_some(), !reading.diagnostics.has_errors());
    reading.diagnostics.render(Colour::None)
}

fn accepted(reading: Reading) -> JobSpec {
    assert_eq!(shown(&reading), "");
    reading.job.expect("what is not refused is accepted")
}

/// The task of a job that has one.
fn task(job: &JobSpec) -> TaskSpec {
    job.tasks().next().expect("one task is written").2.clone()
}

#[test]
fn values_come_from_set_then_later_files_then_earlier_ones() {
    let text = "job: j\ntasks: { t: { image: \"x:${TAG}\", env: { A: \"${A}\", B: \"${B}\", C: \"${C:-c}\", D: $$A $E }, memory: \"${M:-1G}\" } }\n";
    let variables = Variables {
        set: set(&[("A", "set")]),
        env_files: vec![named("a.env", "A=1\nB=1\nTAG=7\n"), named("b.env", "B=2\n")],
    };
    let task = task(&accepted(check_job(&[named("job.yaml", text)], &variables, &NoFiles)));
    assert_eq!(task.image, "x:7");
    assert_eq!(task.env, set(&[("A", "set"), ("B", "2"), ("C", "c"), ("D", "$A $E")]));
    assert_eq!(task.memory.to_string(), "1G");
}

#[test]
fn the_file_beside_the_job_counts_when_none_is_named() {
    let text = "job: j\ntasks: { t: { image: \"x:${TAG}\" } }\n";
    let files = Beside(&[(".env", "TAG=beside\n")]);
    let read = |variables: &Variables| check_job(&[named("job.yaml", text)], variables, &files);
    assert_eq!(task(&accepted(read(&Variables::default()))).image, "x:beside");
    let other = Variables { set: BTreeMap::new(), env_files: vec![named("a.env", "TAG=named\n")] };
    assert_eq!(task(&accepted(read(&other))).image, "x:named");
}

#[test]
fn env_files_of_a_task() {
    let text = "job: j\ntasks: { t: { image: x, env: { C: own }, env_file: [ ./a.env, sub/../b.env ] } }\n";
    let files = Beside(&[
        ("a.env", "# words\nA=1\nexport B='${A}'\nC=file\nD=\"x\\ny $HOME\"\n"),
        ("b.env", "A=2\nE=${A}${F:-f}\nG\n"),
    ]);
    let variables = Variables { set: set(&[("G", "given")]), env_files: Vec::new() };
    let task = task(&accepted(check_job(&[named("job.yaml", text)], &variables, &files)));
    let expected =
        [("A", "2"), ("B", "${A}"), ("C", "own"), ("D", "x\ny $HOME"), ("E", "2f"), ("G", "given")];
    assert_eq!(task.env, set(&expected));
}

#[test]
fn mistakes_in_variables() {
    let text = r#"job: ${JOB}
tasks:
  web:
    image: nginx:${TAG:?which release}
    memory: ${MEMORY:-lots}
    env:
      A: "${A-x}"
      B: ${}
      C: before ${MISSING} after
      D: "${never closed"
      E: "${A:-${B:-${C:-${D:-${E:-${F:-${G:-${H:-${I}}}}}}}}}"
      F: ${EMPTY:?}
"#;
    let variables = Variables { set: set(&[("EMPTY", "")]), env_files: Vec::new() };
    insta::assert_snapshot!(shown(&check_job(&[named("job.yaml", text)], &variables, &NoFiles)), @r#"
    error: the variable `JOB` has no value
     --> job.yaml:1:6
      |
    1 | job: ${JOB}
      |      ^^^^^^
      |
      = hint: give one: `--set JOB=…`, or a line `JOB=…` in `.env` beside the job file

    error: the variable `TAG` must have a value: `which release`
     --> job.yaml:4:18
      |
    4 |     image: nginx:${TAG:?which release}
      |                  ^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: give one: `--set TAG=…`, or a line `TAG=…` in `.env` beside the job file

    error: `lots` is not a size
     --> job.yaml:5:13
      |
    5 |     memory: ${MEMORY:-lots}
      |             ^^^^^^^^^^^^^^^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`

    error: `${A-x}` has no form that a job file knows
     --> job.yaml:7:11
      |
    7 |       A: "${A-x}"
      |           ^^^^^^
      |
      = hint: write `${A}`, `${A:-default}` or `${A:?why it must be given}`

    error: `${}` names no variable
     --> job.yaml:8:10
      |
    8 |       B: ${}
      |          ^^^
      |
      = hint: write `$${` for a `${` that starts no variable

    error: the variable `MISSING` has no value
     --> job.yaml:9:17
      |
    9 |       C: before ${MISSING} after
      |                 ^^^^^^^^^^
      |
      = hint: give one: `--set MISSING=…`, or a line `MISSING=…` in `.env` beside the job file

    error: the `${` in `${never closed` is never closed
      --> job.yaml:10:11
       |
    10 |       D: "${never closed"
       |           ^^^^^^^^^^^^^^
       |
       = hint: write `$${` for a `${` that starts no variable

    error: variables are nested more than 8 deep here
      --> job.yaml:11:51
       |
    11 |       E: "${A:-${B:-${C:-${D:-${E:-${F:-${G:-${H:-${I}}}}}}}}}"
       |                                                   ^^^^
       |
       = hint: give the inner ones values of their own

    error: the variable `EMPTY` must have a value
      --> job.yaml:12:10
       |
    12 |       F: ${EMPTY:?}
       |          ^^^^^^^^^^
       |
       = hint: give one: `--set EMPTY=…`, or a line `EMPTY=…` in `.env` beside the job file
    "#);
}

#[test]
fn mistakes_in_files_of_variables() {
    let text = "job: j\ntasks:\n  t: { image: x, env_file: [ gone.env, a.env, b.env, folder ] }\n  u: { image: x, env_file: { a: b } }\n";
    let files =
        Beside(&[("a.env", "A=1\nB C=2\n"), ("b.env", "A=${B}\n"), (".env", "A='x\n"), ("folder", "=1")]);
    insta::assert_snapshot!(shown(&check_job(&[named("job.yaml", text)], &Variables::default(), &files)), @r#"
    error: the file `gone.env` cannot be read: there is no such file
     --> job.yaml:3:30
      |
    3 |   t: { image: x, env_file: [ gone.env, a.env, b.env, folder ] }
      |                              ^^^^^^^^
      |
      = hint: the path starts at the folder of the job file

    error: `env_file` takes one value or a list; this is a mapping
     --> job.yaml:4:18
      |
    4 |   u: { image: x, env_file: { a: b } }
      |                  ^^^^^^^^

    error: a quoted value starts here and never ends
     --> .env:1:3
      |
    1 | A='x
      |   ^
      |
      = hint: close the quote; one inside the value is written with a backslash before it

    error: the name of a variable holds a space here
     --> a.env:2:1
      |
    2 | B C=2
      | ^
      |
      = hint: write each variable in a line of its own, as in `NAME=value`

    error: the variable `B` has no value
     --> b.env:1:1
      |
    1 | A=${B}
      | ^
      |
      = hint: give one: `--set B=…`, or a line `B=…` in `.env` beside the job file

    error: a variable has no name here
     --> folder:1:1
      |
    1 | =1
      | ^
      |
      = hint: write each variable in a line of its own, as in `NAME=value`
    "#);
}

#[test]
fn a_value_that_grows_too_long() {
    let text = "job: j\ntasks: { t: { image: x, env: { A: \"${A}${A}\" } } }\n";
    let variables = Variables { set: set(&[("A", &"x".repeat(100_000))]), env_files: Vec::new() };
    insta::assert_snapshot!(shown(&check_job(&[named("job.yaml", text)], &variables, &NoFiles)), @r#"
    error: the value, with its variables, is longer than 131072 bytes
     --> job.yaml:2:36
      |
    2 | tasks: { t: { image: x, env: { A: "${A}${A}" } } }
      |                                    ^^^^^^^^
    "#);
}

#[test]
fn values_that_grow_too_many() {
    let items = "\"${A}\", ".repeat(1_000);
    let text = format!("job: j\ntasks: {{ t: {{ image: x, command: [ {items} ] }} }}\n");
    let variables = Variables { set: set(&[("A", &"x".repeat(100_000))]), env_files: Vec::new() };
    let report = shown(&check_job(&[named("job.yaml", &text)], &variables, &NoFiles));
    let message = report.lines().next().unwrap_or_default();
    insta::assert_snapshot!(message, @"error: the values with variables take more than 4194304 bytes");
}

#[test]
fn parts_of_one_job() {
    let files = [
        named(
            "job.yaml",
            "job: shop\nvolumes: { data: }\nsecrets: [ pw ]\ntasks: { web: { image: x, connects: [ db ] } }\n",
        ),
        named(
            "db.yaml",
            "volumes: { db: { size: 1G } }\nsecrets: { key: }\ntasks: { db: { image: y, ports: [ 1 ], volumes: [ \"db:/db\" ], secrets: [ pw, key ] } }\n",
        ),
        named("more.yaml", "job: shop\nconfigs: { app: { content: x } }\n"),
    ];
    let job = accepted(check_job(&files, &Variables::default(), &NoFiles));
    assert_eq!(job.name.as_str(), "shop");
    assert_eq!(job.tasks().map(|(_, name, _)| name.to_string()).collect::<Vec<_>>(), ["db", "web"]);
    assert_eq!((job.volumes.len(), job.secrets.len(), job.configs.len()), (2, 2, 1));
}

#[test]
fn parts_that_do_not_fit_together() {
    let files = [
        named(
            "job.yaml",
            "job: shop\nsecrets: [ pw ]\nimage: x\ntasks:\n  web: { image: x, connects: [ bd ] }\n",
        ),
        named(
            "more.yaml",
            "job: shoppe\nsecrets: { pw: }\nimage: x\ntasks:\n  web: { image: y }\n  db: { image: z, memory: 1 }\n",
        ),
        named("groups.yaml", "groups: { g: { tasks: { web: { image: x } } } }\n"),
    ];
    insta::assert_snapshot!(shown(&check_job(&files, &Variables::default(), &NoFiles)), @r#"
    error: `image` is a key of a task, not of a job
     --> job.yaml:3:1
      |
    3 | image: x
      | ^^^^^
      |
      = hint: write `tasks:`, a name for the task, and below it `image`

    error: these files are parts of two jobs, `shop` and `shoppe`
     --> more.yaml:1:1
      |
    1 | job: shoppe
      | ^^^
      |
      = hint: the other name stands in line 1 of job.yaml; parts of one job name the same one, or none

    error: the secret `pw` stands in two files
     --> more.yaml:2:12
      |
    2 | secrets: { pw: }
      |            ^^
      |
      = hint: the other stands in line 2 of job.yaml; keep one of them, or give one another name

    error: the task `web` stands in two files
     --> more.yaml:5:3
      |
    5 |   web: { image: y }
      |   ^^^
      |
      = hint: the other stands in line 5 of job.yaml; keep one of them, or give one another name

    error: a job has either `groups` or `tasks`
     --> groups.yaml:1:1
      |
    1 | groups: { g: { tasks: { web: { image: x } } } }
      | ^^^^^^
      |
      = hint: `tasks` is short for one group: move these tasks into a group of their own
    "#);
}

#[test]
fn a_part_that_cannot_be_read() {
    let files = [
        named("job.yaml", "job: shop\ntasks: { web: { image: x } }\n"),
        named("empty.yaml", "# nothing\n"),
        named("list.yaml", "[ a ]\n"),
    ];
    insta::assert_snapshot!(shown(&check_job(&files, &Variables::default(), &NoFiles)), @r#"
    error: the file declares nothing
     --> empty.yaml:1:1
      |
    1 | # nothing
      | ^
      |
      = hint: the smallest job file is `{ job: hello, tasks: { web: { image: nginx } } }`
    "#);
    insta::assert_snapshot!(shown(&check_job(&files[..1].iter().chain(&files[2..]).cloned().collect::<Vec<_>>(), &Variables::default(), &NoFiles)), @r#"
    error: a job file is a mapping of keys; this is a list
     --> list.yaml:1:1
      |
    1 | [ a ]
      | ^^^^^
      |
      = hint: the smallest job file is `{ job: hello, tasks: { web: { image: nginx } } }`
    "#);
    insta::assert_snapshot!(shown(&check_job(&[], &Variables::default(), &NoFiles)), @r#"
    error: a job is read from 1 to 200 files; these are 0
     --> job:1:1
      |
    1 |
      | ^
    "#);
}

#[test]
fn files_of_secrets() {
    let text = "job: j\nsecrets: { a: { file: ./pw }, b: { variable: PW }, c: { file: folder } }\ntasks: { t: { image: x } }\n";
    let files = Beside(&[("pw", "s3cret"), ("folder", "a folder")]);
    let variables = Variables { set: set(&[("PW", "other")]), env_files: Vec::new() };
    insta::assert_snapshot!(shown(&check_job(&[named("job.yaml", text)], &variables, &files)), @r#"
    error: the file `folder` cannot be read: it is a folder
     --> job.yaml:2:63
      |
    2 | secrets: { a: { file: ./pw }, b: { variable: PW }, c: { file: folder } }
      |                                                               ^^^^^^
    "#);
}

/// Message, place and hint: the files are too large to stand here.
fn words(reading: &Reading) -> String {
    let line = |found: &lith_spec::Diagnostic| {
        let hint = found.hint.as_ref().map(|hint| format!(" => {hint}")).unwrap_or_default();
        format!("{found}{hint}")
    };
    reading.diagnostics.list.iter().map(line).collect::<Vec<String>>().join("\n")
}

/// Any number of files, each of this text.
struct Many(String);

impl Files for Many {
    fn kind(&self, path: &str) -> PathKind {
        if path == ".env" { PathKind::Absent } else { PathKind::File }
    }

    fn read(&self, _path: &str, _bytes_max: usize) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }
}

#[test]
fn more_than_is_read() {
    let check = |text: &str, variables: &Variables, files: &dyn Files| {
        words(&check_job(&[named("job.yaml", text)], variables, files))
    };
    let none = Variables::default();
    let empty = Many(String::new());
    let list = |count: usize, item: fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let task = "tasks: { t: { image: x } }\n";

    let configs = |count| list(count, |index| format!("c{index}: {{ file: f }}"));
    let text = format!("job: j\nconfigs: {{ {} }}\n{task}", configs(9));
    insta::assert_snapshot!(check(&text, &none, &Many("x".repeat(500_000))), @"job.yaml:2:160: the secrets and configs of the job hold more than 4194304 bytes => what is larger belongs on a volume");
    let text = format!("job: j\nconfigs: {{ c: {{ file: f }}, d: {{ variable: V }} }}\n{task}");
    let long = Variables { set: set(&[("V", &"x".repeat(600_000))]), ..Variables::default() };
    insta::assert_snapshot!(check(&text, &long, &Many("x".repeat(600_000))), @"
    job.yaml:2:23: the file `f` holds 600000 bytes; the limit is 524288 => what is larger belongs on a volume
    job.yaml:2:43: the variable `V` holds 600000 bytes; the limit is 524288 => what is larger belongs on a volume
    ");

    let env_files = |count| list(count, |index| format!("f{index}"));
    let text =
        |count| format!("job: j\ntasks: {{ t: {{ image: x, env_file: [ {} ] }} }}\n", env_files(count));
    insta::assert_snapshot!(check(&text(200), &none, &empty), @"job.yaml:2:1121: the job needs more than 200 files");
    insta::assert_snapshot!(check(&text(201), &none, &empty), @"
    job.yaml:2:1121: the job needs more than 200 files
    job.yaml:2:1127: `env_file` holds 201 entries; the limit is 200
    ");
    insta::assert_snapshot!(check(&text(5), &none, &Many(format!("A={}\n", "x".repeat(1_000_000)))), @"job.yaml:2:53: files of variables give the tasks more than 4194304 bytes => what is large belongs into a config");
    insta::assert_snapshot!(check(&text(1), &none, &Many("#".repeat(3 << 20))), @"f0:1:1: the file holds 3145728 bytes; the limit is 2097152");
    let grows = format!("A={}\n{}", "x".repeat(100_000), "B=${A}\n".repeat(50));
    insta::assert_snapshot!(check(&text(1), &none, &Many(grows)), @"f0:42:1: the values of this file take more than 4194304 bytes");

    let many = Variables { env_files: vec![named("a.env", ""); 200], ..Variables::default() };
    insta::assert_snapshot!(check(&format!("job: j\n{task}"), &many, &NoFiles), @"job.yaml:1:1: the job needs more than 200 files");
    insta::assert_snapshot!(words(&check_job(&[], &none, &NoFiles)), @"job:1:1: a job is read from 1 to 200 files; these are 0");
}

#[test]
fn paths_that_are_none() {
    let text = r#"job: j
volumes: { v: { import: "" }, w: { import: pw }, x: { import: gone } }
configs: { a: { file: "" }, b: { file: "\0" } }
tasks: { t: { image: x } }
"#;
    let files = Beside(&[("pw", "s3cret")]);
    insta::assert_snapshot!(shown(&check_job(&[named("job.yaml", text)], &Variables::default(), &files)), @r#"
    error: the folder `""` cannot be imported: this is not a path
     --> job.yaml:2:25
      |
    2 | volumes: { v: { import: "" }, w: { import: pw }, x: { import: gone } }
      |                         ^^

    error: the folder `pw` cannot be imported: it is a file
     --> job.yaml:2:44
      |
    2 | volumes: { v: { import: "" }, w: { import: pw }, x: { import: gone } }
      |                                            ^^
      |
      = hint: a file alone is a config: `configs: { name: { file: … } }`

    error: the folder `gone` cannot be imported: it is not there
     --> job.yaml:2:63
      |
    2 | volumes: { v: { import: "" }, w: { import: pw }, x: { import: gone } }
      |                                                               ^^^^
      |
      = hint: the path starts at the folder of the job file; once the volume is made, `import` can be removed

    error: the file `""` cannot be read: this is not a path
     --> job.yaml:3:23
      |
    3 | configs: { a: { file: "" }, b: { file: "\0" } }
      |                       ^^

    error: the file `\0` cannot be read: this is not a path
     --> job.yaml:3:40
      |
    3 | configs: { a: { file: "" }, b: { file: "\0" } }
      |                                        ^^^^
    "#);
}

#[test]
fn keys_that_stand_in_two_files() {
    let files = [named("a.yaml", "job: j\nx: 1\ntasks: { t: { image: x } }\n"), named("b.yaml", "x: 2\n")];
    insta::assert_snapshot!(shown(&check_job(&files, &Variables::default(), &NoFiles)), @"
    error: a job has no key `x`
     --> a.yaml:2:1
      |
    2 | x: 1
      | ^
      |
      = hint: its keys are job, volumes, secrets, configs, groups, tasks

    error: the key `x` stands in two files
     --> b.yaml:1:1
      |
    1 | x: 2
      | ^
      |
      = hint: the other stands in line 2 of a.yaml; keep one of them
    ");
}

#[test]
fn a_file_of_variables_that_is_no_text() {
    let text = "job: j\ntasks: { t: { image: x } }\n";
    let variables = Variables {
        env_files: vec![Named { path: String::from("a.env"), bytes: b"A=caf\xe9\n".to_vec() }],
        ..Variables::default()
    };
    insta::assert_snapshot!(shown(&check_job(&[named("job.yaml", text)], &variables, &NoFiles)), @"
    error: the file is not UTF-8 text: byte 0xe9 cannot stand here
     --> a.env:1:6
      |
    1 | A=caf�
      |      ^
      |
      = hint: save the file as UTF-8; an editor shows its encoding when it is opened
    ");
}

/// A file that is there and cannot be read.
struct Unreadable;

impl Files for Unreadable {
    fn kind(&self, _path: &str) -> PathKind {
        PathKind::File
    }

    fn read(&self, _path: &str, _bytes_max: usize) -> Result<Vec<u8>, String> {
        Err(String::from("permission denied"))
    }
}

#[test]
fn a_file_beside_the_job_that_cannot_be_read() {
    let text = "job: j\ntasks: { t: { image: x } }\n";
    insta::assert_snapshot!(shown(&check_job(&[named("job.yaml", text)], &Variables::default(), &Unreadable)), @"
    error: the file `.env` cannot be read: permission denied
     --> .env:1:1
      |
    1 |
      | ^
    ");
}
