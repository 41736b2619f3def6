//! Files written to hurt: every bound holds, and no text makes the reader panic.

use std::fmt::Write;

use lith_spec::{Code, Colour, DIAGNOSTICS_MAX, check, format};
use proptest::prelude::*;

/// The file is refused, first of all for this reason.
fn check_refused(text: &str, code: Code) {
    let reading = check("job.yaml", text);
    assert!(reading.job.is_none());
    assert_eq!(reading.diagnostics.list.first().map(|first| first.code), Some(code));
    assert!(reading.diagnostics.list.len() <= DIAGNOSTICS_MAX);
    assert!(
        reading.diagnostics.render(Colour::Ansi).len() < 200_000,
        "a report is no larger than a person reads"
    );
}

#[test]
fn files_too_large() {
    check_refused(&"#".repeat((1 << 20) + 1), Code::TooLarge);
    check_refused(&format!("job: j\nx: [{}]\n", "0,".repeat(220_000)), Code::TooLarge);
}

#[test]
fn nesting_too_deep() {
    check_refused(&format!("job: {}", "[".repeat(100_000)), Code::TooDeep);
    check_refused(&format!("job: {}", "- ".repeat(100_000)), Code::Syntax);
    check_refused(&"- ".repeat(100_000), Code::TooDeep);
    let blocks: String = (0..200).map(|depth| format!("{:depth$}a:\n", "")).collect();
    check_refused(&blocks, Code::TooDeep);
}

#[test]
fn aliases_that_nest() {
    let mut text = String::from("a0: &a0 [ x ]\n");
    for index in 1..20_000 {
        writeln!(text, "a{index}: &a{index} [ *a{} ]", index - 1).unwrap();
    }
    check_refused(&text, Code::TooDeep);
}

/// Each level repeats the one before nine times; followed, the last would be billions of values.
#[test]
fn aliases_that_multiply() {
    let mut lists = String::from("a0: &a0 lol\n");
    let mut maps = String::from("a0: &a0 { k: lol }\n");
    for index in 1..20 {
        let before = format!("*a{}", index - 1);
        writeln!(lists, "a{index}: &a{index} [ {} ]", [before.as_str(); 9].join(", ")).unwrap();
        let pairs: Vec<String> = (0..9).map(|key| format!("k{key}: {before}")).collect();
        writeln!(maps, "a{index}: &a{index} {{ {} }}", pairs.join(", ")).unwrap();
    }
    check_refused(&lists, Code::TooLarge);
    check_refused(&maps, Code::TooLarge);
}

#[test]
fn aliases_of_a_long_text() {
    let text = format!("a: &a {}\nb: [ {} ]\n", "x".repeat(500_000), ["*a"; 10_000].join(", "));
    check_refused(&text, Code::TooLarge);
}

#[test]
fn merges_that_multiply() {
    let keys: Vec<String> = (0..10_000).map(|key| format!("k{key}: 1")).collect();
    let merges: String = (0..10_000).map(|index| format!("m{index}: {{ <<: *base }}\n")).collect();
    check_refused(&format!("base: &base {{ {} }}\n{merges}", keys.join(", ")), Code::TooLarge);
}

#[test]
fn many_mistakes() {
    let keys = "k: 1\n".repeat(200_000);
    check_refused(&keys, Code::DuplicateKey);
    let unknown: String = (0..90_000).map(|index| format!("k{index}: 1\n")).collect();
    check_refused(&unknown, Code::UnknownKey);
    let long = format!("{}: 1\n", "k".repeat(1_000));
    check_refused(&long, Code::UnknownKey);
    check_refused(&format!("job: [ {} ]\n", "{ a: b, a: c },".repeat(40_000)), Code::DuplicateKey);
    let line = format!("job: j\ntasks: {{ t: {{ image: x, memory: '{}' }} }}\n", "9".repeat(900_000));
    check_refused(&line, Code::BadSize);
}

#[test]
fn text_that_changes_direction_is_shown_as_it_is() {
    let reading = check("job.yaml", "job: \"a\u{202e}b\"\n");
    let shown = reading.diagnostics.render(Colour::None);
    assert!(!shown.contains('\u{202e}'), "{shown}");
}

/// A long chain of tasks that wait for each other: looking for a circle must not cost its length squared.
#[test]
fn many_tasks_that_wait() {
    let mut text = String::from("job: j\ngroups:\n");
    for group in 0..100 {
        writeln!(text, "  g{group}:\n    tasks:").unwrap();
        for task in 0..100 {
            let number = group * 100 + task;
            let before = 9_999 - number;
            writeln!(text, "      t{before}: {{ image: x, depends_on: [ t{} ] }}", before + 1).unwrap();
        }
    }
    check_refused(&text, Code::UnknownReference);
    let circle = text.replace("t10000", "t0");
    check_refused(&circle, Code::Circle);
}

#[test]
fn many_references_to_nothing() {
    let items = "a, ".repeat(90_000);
    let text = format!("job: j\ntasks: {{ t: {{ image: x, secrets: [ {items} ] }} }}\n");
    check_refused(&text, Code::UnknownReference);
    let tasks: String = (0..100)
        .map(|task| format!("  t{task}: {{ image: x, secrets: [ {} ] }}\n", "a:/x, ".repeat(100)))
        .collect();
    check_refused(&format!("job: j\ntasks:\n{tasks}"), Code::MountCollision);
}

#[test]
fn variables_that_nest() {
    let with = |value: &str| format!("job: j\ntasks: {{ t: {{ image: x, command: [ {value} ] }} }}\n");
    let deep = format!("\"{}{}\"", "${A:-".repeat(100_000), "}".repeat(100_000));
    check_refused(&with(&deep), Code::BadVariable);
    let open = format!("\"{}\"", "${A:-".repeat(100_000));
    check_refused(&with(&open), Code::BadVariable);
    let many = "\"${A}\", ".repeat(90_000);
    check_refused(&with(&many), Code::BadVariable);
}

/// Pieces of job files, so that random text gets past the grammar of YAML.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("job"),
        Just("tasks"),
        Just("groups"),
        Just("image"),
        Just("publish"),
        Just("command"),
        Just("env"),
        Just("memory"),
        Just("stop_grace"),
        Just("volumes"),
        Just("secrets"),
        Just("health"),
        Just("depends_on"),
        Just("connects"),
        Just("${A:-"),
        Just("${"),
        Just("}"),
        Just("$$"),
        Just("<<"),
        Just("&a "),
        Just("*a"),
        Just(": "),
        Just(":\n"),
        Just("\n"),
        Just("\n  "),
        Just("\n    "),
        Just("- "),
        Just("? "),
        Just("{ "),
        Just(" }"),
        Just("[ "),
        Just(" ]"),
        Just(", "),
        Just("'"),
        Just("\""),
        Just("\\"),
        Just("|\n"),
        Just("!!str "),
        Just("!x "),
        Just("---\n"),
        Just("#"),
        Just("\t"),
        Just("\r\n"),
        Just("1.5G"),
        Just("8080:80"),
        Just("1h2m"),
        Just("é\u{feff}東"),
        Just("~"),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn check_survives(text: &str) {
    let laid_out = |text: &str| format("job.yaml", text.as_bytes());
    if let Ok(Some(written)) = laid_out(text) {
        assert_eq!(laid_out(&written), Ok(Some(written.clone())), "{text:?}");
        assert_eq!(check("job.yaml", &written).job, check("job.yaml", text).job, "{text:?}");
    }
    let reading = check("job.yaml", text);
    assert_eq!(reading.job.is_none(), reading.diagnostics.has_errors());
    for colour in [Colour::None, Colour::Ansi] {
        assert_eq!(reading.diagnostics.render(colour).is_empty(), reading.diagnostics.list.is_empty());
    }
    let lines = text.split('\n').count();
    for diagnostic in &reading.diagnostics.list {
        assert!(
            diagnostic.line >= 1
                && diagnostic.line <= lines
                && diagnostic.column >= 1
                && diagnostic.length >= 1
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        check_survives(&text);
    }

    #[test]
    fn no_pieces_panic(text in pieces()) {
        check_survives(&text);
    }

    #[test]
    fn no_value_panics(key in prop_oneof![
        Just("image"), Just("command"), Just("user"), Just("working_dir"), Just("memory"), Just("cpus"),
        Just("restart"), Just("stop_signal"), Just("stop_grace"), Just("env"), Just("ports"), Just("publish"),
        Just("kind"), Just("schedule"), Just("env_file"), Just("groups"), Just("hostname"), Just("timezone"),
        Just("gpu"), Just("devices"), Just("volumes"), Just("tmpfs"), Just("shm_size"), Just("read_only"),
        Just("secrets"), Just("configs"), Just("expose"), Just("connects"), Just("egress"), Just("bandwidth"), Just("hosts"),
        Just("health"), Just("depends_on"), Just("update"), Just("logging"), Just("ulimits"), Just("sysctls"),
    ], value in "[0-9a-zA-Z:./+\\-_@=' \\\\*,$\\{\\}\\[\\]]{0,30}") {
        let quoted = value.replace('\'', "''");
        check_survives(&format!("job: j\ntasks: {{ t: {{ image: x, {key}: '{quoted}' }} }}\n"));
        check_survives(&format!("job: j\ntasks: {{ t: {{ {key}: [ '{quoted}' ] }} }}\n"));
        check_survives(&format!("job: j\ntasks: {{ t: {{ image: x, {key}: {{ '{quoted}': '{quoted}' }} }} }}\n"));
    }
}
