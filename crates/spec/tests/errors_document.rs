//! The words a person gets for mistakes in the file as YAML: they are product, so every change to them shows here.

mod support;

use support::shown;

#[test]
fn tab() {
    let text = r"job: hello
tasks:
	web:
		image: nginx
";
    insta::assert_snapshot!(shown(text), @r#"
    error: a tab indents this line
     --> job.yaml:3:2
      |
    3 |     web:
      |     ^
      |
      = hint: YAML is indented with spaces
    "#);
}

#[test]
fn bad_indentation() {
    let text = r"job: hello
tasks:
    web:
      image: nginx
   db:
      image: redis
";
    insta::assert_snapshot!(shown(text), @r#"
    error: this line is indented as no line before it
     --> job.yaml:5:4
      |
    5 |    db:
      |    ^
      |
      = hint: keys of one mapping start in the same column
    "#);
}

#[test]
fn unclosed_quote() {
    let text = r#"job: hello
tasks:
  web:
    image: "nginx
"#;
    insta::assert_snapshot!(shown(text), @r#"
    error: a quoted text starts here and never ends
     --> job.yaml:4:12
      |
    4 |     image: "nginx
      |            ^
    "#);
}

#[test]
fn unclosed_bracket() {
    let text = r"job: hello
tasks:
  web:
    image: nginx
    ports: [ 80, 81
    memory: 1G
";
    insta::assert_snapshot!(shown(text), @r#"
    error: a `:` stands where no key can end
     --> job.yaml:6:11
      |
    6 |     memory: 1G
      |           ^
      |
      = hint: the `[` of line 5 is still open here
    "#);
}

#[test]
fn colon_in_value() {
    let text = r"job: hello
tasks:
  web:
    image: nginx
    command: echo a: b
";
    insta::assert_snapshot!(shown(text), @r#"
    error: a `:` stands where no key can end
     --> job.yaml:5:20
      |
    5 |     command: echo a: b
      |                    ^
      |
      = hint: quote a value that holds `: `, and give each key its own line
    "#);
}

#[test]
fn unquoted_star() {
    let text = r"job: hello
tasks:
  web:
    image: nginx
    env: { HOSTS: *all }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: no anchor of this name stands before this alias
     --> job.yaml:5:19
      |
    5 |     env: { HOSTS: *all }
      |                   ^
      |
      = hint: quote text that starts with `*`
    "#);
}

#[test]
fn unquoted_percent() {
    let text = r"job: hello
tasks:
  web:
    image: nginx
    command: %x
";
    insta::assert_snapshot!(shown(text), @r#"
    error: text without quotes cannot start with `%`
     --> job.yaml:5:14
      |
    5 |     command: %x
      |              ^
      |
      = hint: put the value in quotes
    "#);
}

#[test]
fn unquoted_at_sign() {
    let text = "job: hello\ntasks:\n  web:\n    image: @nginx\n";
    insta::assert_snapshot!(shown(text), @r#"
    error: text without quotes cannot start with `@`
     --> job.yaml:4:12
      |
    4 |     image: @nginx
      |            ^
      |
      = hint: put the value in quotes
    "#);
}

#[test]
fn empty_file() {
    let text = "";
    insta::assert_snapshot!(shown(text), @r#"
    error: the file declares nothing
     --> job.yaml:1:1
      |
    1 |
      | ^
      |
      = hint: the smallest job file is `{ job: hello, tasks: { web: { image: nginx } } }`
    "#);
}

#[test]
fn only_comments() {
    let text = "# nothing here\n";
    insta::assert_snapshot!(shown(text), @r#"
    error: the file declares nothing
     --> job.yaml:1:1
      |
    1 | # nothing here
      | ^
      |
      = hint: the smallest job file is `{ job: hello, tasks: { web: { image: nginx } } }`
    "#);
}

#[test]
fn not_a_mapping() {
    let text = "- job: hello\n";
    insta::assert_snapshot!(shown(text), @r#"
    error: a job file is a mapping of keys; this is a list
     --> job.yaml:1:1
      |
    1 | - job: hello
      | ^^^^^^^^^^^^
      |
      = hint: the smallest job file is `{ job: hello, tasks: { web: { image: nginx } } }`
    "#);
}

#[test]
fn two_documents() {
    let text = r"job: hello
tasks: { web: { image: nginx } }
---
job: second
";
    insta::assert_snapshot!(shown(text), @r#"
    error: a second document starts here; a file declares one job
     --> job.yaml:3:1
      |
    3 | ---
      | ^^^
      |
      = hint: put the other job into its own file
    "#);
}

#[test]
fn tag() {
    let text = r"job: hello
tasks:
  web:
    image: !reset nginx
";
    insta::assert_snapshot!(shown(text), @r#"
    error: the tag `!reset` means nothing in a job file
     --> job.yaml:4:12
      |
    4 |     image: !reset nginx
      |            ^^^^^^
      |
      = hint: remove the tag
    "#);
}

#[test]
fn complex_key() {
    let text = r"job: hello
? [ a, b ]
: 1
: 2
tasks: { web: { image: nginx } }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: a key must be text; this is a list
     --> job.yaml:2:3
      |
    2 | ? [ a, b ]
      |   ^^^^^^^^
      |
      = hint: quote text that starts with `{` or `[`

    error: a key is empty here
     --> job.yaml:4:1
      |
    4 | : 2
      | ^
    "#);
}

#[test]
fn duplicate_key() {
    let text = r"job: hello
tasks:
  web:
    image: nginx
    memory: 1G
    image: redis
";
    insta::assert_snapshot!(shown(text), @r#"
    error: the key `image` stands twice in this mapping
     --> job.yaml:6:5
      |
    6 |     image: redis
      |     ^^^^^
      |
      = hint: the first is in line 4; keep one of them
    "#);
}

#[test]
fn merge_of_a_text() {
    let text = r"job: hello
tasks:
  web:
    <<: nginx
    image: nginx
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `<<` takes a mapping to merge, or a list of mappings
     --> job.yaml:4:5
      |
    4 |     <<: nginx
      |     ^^
      |
      = hint: name an anchored mapping, as in `<<: *defaults`
    "#);
}

#[test]
fn mistake_behind_an_alias_is_told_once() {
    let text = r"job: hello
tasks:
  a: &a { image: x, memory: lots }
  b: *a
  c: { <<: *a, cpus: 1 }
";
    insta::assert_snapshot!(shown(text), @r#"
    error: `lots` is not a size
     --> job.yaml:3:29
      |
    3 |   a: &a { image: x, memory: lots }
      |                             ^^^^
      |
      = hint: write a number and a unit, such as `64M`, `1.5G` or `512MiB`
    "#);
}

#[test]
fn alias_within_itself() {
    let text = r"job: hello
tasks: &t
  web: *t
";
    insta::assert_snapshot!(shown(text), @r#"
    error: this alias stands inside the value that it repeats
     --> job.yaml:3:8
      |
    3 |   web: *t
      |        ^^
    "#);
}

/// The first line of what is shown: the file itself is too large to stand here.
fn headline(text: &str) -> String {
    shown(text).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn limits() {
    let large = shown(&"#".repeat(1_048_577));
    insta::assert_snapshot!(large, @"
    error: the file holds 1048577 bytes; the limit is 1048576
     --> job.yaml:1:1
      |
    1 | #######################################################################################################...
      | ^
      |
      = hint: a job file describes a job; keep data out of it
    ");
    insta::assert_snapshot!(headline(&"[".repeat(33)), @"error: values are nested more than 32 deep here");
    insta::assert_snapshot!(headline(&format!("job: [{}]", "0,".repeat(200_000))), @"error: the file holds more than 200000 values, aliases included");
    insta::assert_snapshot!(headline(&format!("a: &a {}\nb: [ *a, *a, *a, *a, *a ]\n", "x".repeat(900_000))), @"error: the values take more than 4194304 bytes, aliases included");
}

#[test]
fn alias_of_a_later_anchor() {
    let text = "job: hello\ntasks:\n  a: *b\n  b: &b { image: x }\n";
    insta::assert_snapshot!(shown(text), @r#"
    error: no anchor of this name stands before this alias
     --> job.yaml:3:6
      |
    3 |   a: *b
      |      ^
      |
      = hint: quote text that starts with `*`
    "#);
}

#[test]
fn unknown_escape() {
    let text = "job: \"\\q\"\n";
    insta::assert_snapshot!(shown(text), @r#"
    error: this is not YAML: while parsing a quoted scalar, found unknown escape character
     --> job.yaml:1:6
      |
    1 | job: "\q"
      |      ^
    "#);
}

#[test]
fn a_file_that_is_no_utf8_is_refused_at_its_place() {
    let refused = |bytes: &[u8]| {
        let reading = lith_spec::check_bytes("job.yaml", bytes);
        assert_eq!(reading.job, None);
        reading.diagnostics.render(lith_spec::Colour::None)
    };
    insta::assert_snapshot!(refused(b"job: hello\ntasks:\n  web: { image: caf\xe9 }\n"), @r"
    error: the file is not UTF-8 text: byte 0xe9 cannot stand here
     --> job.yaml:3:20
      |
    3 |   web: { image: caf� }
      |                    ^
      |
      = hint: save the file as UTF-8; an editor shows its encoding when it is opened
    ");
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain("job: x".encode_utf16().flat_map(u16::to_le_bytes)).collect();
    insta::assert_snapshot!(refused(&utf16), @"
    error: the file is not UTF-8 text: byte 0xff cannot stand here
     --> job.yaml:1:1
      |
    1 | ��j␀o␀b␀:␀ ␀x␀
      | ^
      |
      = hint: it looks like UTF-16: save the file as UTF-8
    ");
    assert!(lith_spec::check_bytes("job.yaml", b"job: x\ntasks: { t: { image: x } }\n").job.is_some());
}

#[test]
fn a_bracket_that_is_never_closed() {
    insta::assert_snapshot!(shown("job: j\ntasks: { t: { image: x, ports: [ 80, 81 }\n"), @"
    error: this is not YAML: mismatched bracket '[' closed by '}'
     --> job.yaml:2:32
      |
    2 | tasks: { t: { image: x, ports: [ 80, 81 }
      |                                ^
    ");
    insta::assert_snapshot!(shown("job: j\ntasks:\n  t: {\n"), @"
    error: a `{` stands here and is never closed
     --> job.yaml:3:6
      |
    3 |   t: {
      |      ^
    ");
    insta::assert_snapshot!(shown("job: j ]\ntasks: ]\n"), @"
    error: this is not YAML: misplaced bracket
     --> job.yaml:2:8
      |
    2 | tasks: ]
      |        ^
    ");
}
