//! Files written to hurt: every bound holds, nothing takes long, and no text makes loading panic.

use std::fmt::Write;
use std::time::{Duration, Instant};

use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::super::interpolate::{self, Source, VALUE_BYTES_MAX, Variable};
use super::{Case, Memory};
use crate::diagnostic::{Code, Severity};
use crate::dotenv::{self, Setting};
use crate::source::FILES_MAX;

/// Longest that any of these may take, on a machine that does much else beside.
const TIME_MAX: Duration = Duration::from_secs(20);

/// The files are refused, for this reason among others.
fn check_refused(texts: &[&str], files: Memory, code: Code) {
    let mut case = Case::of(texts);
    case.files = files;
    let start = Instant::now();
    let (_, diagnostics) = case.load();
    assert!(start.elapsed() < TIME_MAX, "{:?}", start.elapsed());
    let codes: Vec<Code> = diagnostics
        .list
        .iter()
        .filter(|found| found.severity == Severity::Error)
        .map(|found| found.code)
        .collect();
    assert!(codes.contains(&code), "{codes:?}");
}

#[test]
fn large_files() {
    check_refused(&[&"#".repeat(100 << 20)], Memory::default(), Code::TooLarge);
    let other = Memory::of(&[("big.yaml", &"#".repeat(2 << 20))]);
    let text = "services: { a: { extends: { file: big.yaml, service: a } } }";
    check_refused(&[text], other, Code::BadFile);
}

#[test]
fn aliases_that_multiply() {
    let mut text = String::from("x0: &a0 { k: $A }\n");
    for index in 1..20 {
        let pairs: Vec<String> = (0..9).map(|key| format!("k{key}: *a{}", index - 1)).collect();
        writeln!(text, "x{index}: &a{index} {{ {} }}", pairs.join(", ")).unwrap();
    }
    check_refused(&[&text], Memory::default(), Code::TooLarge);
}

#[test]
fn extending_that_multiplies() {
    let mut text = String::from("services:\n  base:\n    image: x\n    environment:\n");
    (0..10_000).for_each(|name| writeln!(text, "      V{name}: 1").unwrap());
    (0..1_000).for_each(|name| writeln!(text, "  s{name}: {{ extends: base }}").unwrap());
    check_refused(&[&text], Memory::default(), Code::TooLarge);
}

#[test]
fn a_long_chain_of_extends() {
    let mut text = String::from("services:\n  s20000: { image: x }\n");
    (0..20_000).for_each(|at| writeln!(text, "  s{at}: {{ extends: s{} }}", at + 1).unwrap());
    check_refused(&[&text], Memory::default(), Code::TooDeep);
}

#[test]
fn variables_that_multiply() {
    let mut case = Case::of(&["services: { a: { image: x, command: [ \"$H\" ] } }"]);
    let mut values = format!("A={}\n", "x".repeat(100));
    for (name, before) in ["B", "C", "D", "E", "F", "G", "H"].iter().zip(["A", "B", "C", "D", "E", "F", "G"])
    {
        writeln!(values, "{name}={}", format!("${{{before}}}").repeat(100)).unwrap();
    }
    case.files = Memory::of(&[(".env", &values)]);
    let (loaded, diagnostics) = case.load();
    assert!(loaded.is_none());
    assert!(diagnostics.list.iter().any(|found| found.code == Code::TooLarge));
}

#[test]
fn many_uses_of_a_long_variable() {
    let mut text = String::from("services:\n  a:\n    image: x\n    command:\n");
    (0..50_000).for_each(|_| text.push_str("      - $A\n"));
    let values = format!("A={}\n", "x".repeat(100_000));
    check_refused(&[&text], Memory::of(&[(".env", &values)]), Code::TooLarge);
    let mut text = String::from("services:\n");
    (0..30_000).for_each(|at| writeln!(text, "  s{at}: {{ image: x, environment: [ A ] }}").unwrap());
    check_refused(&[&text], Memory::of(&[(".env", &values)]), Code::TooLarge);
    let mut text = String::from("services:\n");
    (0..30_000).for_each(|at| writeln!(text, "  s{at}: {{ image: x, env_file: a.env }}").unwrap());
    check_refused(&[&text], Memory::of(&[("a.env", &"# nothing\n".repeat(100_000))]), Code::TooLarge);
}

#[test]
fn files_without_end() {
    let mut files: Vec<(String, String)> = Vec::new();
    for at in 0..2 * FILES_MAX {
        files.push((format!("f{at}.yaml"), format!("include: [ f{}.yaml ]\n", at + 1)));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    check_refused(&["include: [ f0.yaml ]\n"], Memory::of(&files), Code::TooMany);
}

#[test]
fn many_mistakes() {
    let mut text = String::from("services:\n");
    (0..12_000).for_each(|at| {
        writeln!(text, "  service{at}: {{ image: x, depends_on: [ servicee{at} ], imagee: x }}").unwrap();
    });
    check_refused(&[&text, &text], Memory::default(), Code::UnknownKey);
    let mut text = String::from("services:\n  s0: { image: x, depends_on: [ s19999 ] }\n");
    (1..20_000)
        .for_each(|at| writeln!(text, "  s{at}: {{ image: x, depends_on: [ s{} ] }}", at - 1).unwrap());
    check_refused(&[&text], Memory::default(), Code::Circle);
}

/// Variables that are given: `A` is empty, `B` is not.
struct Given;

impl Source for Given {
    fn value(&mut self, variable: &Variable<'_>) -> Option<std::rc::Rc<str>> {
        value_of(variable.name).map(std::rc::Rc::from)
    }

    fn passed_over(&mut self, _: &Variable<'_>) {}

    fn missing(&mut self, _: &Variable<'_>, _: &str) {}
}

fn value_of(name: &str) -> Option<&'static str> {
    match name {
        "A" => Some(""),
        "B" => Some("value}${B}"),
        _ => None,
    }
}

/// A template as a person thinks of it.
#[derive(Debug, Clone)]
enum Thought {
    Text(String),
    Dollar,
    Bare(&'static str),
    Braced(&'static str),
    With(&'static str, &'static str, Vec<Thought>),
}

impl Thought {
    fn written(all: &[Self]) -> String {
        let written = all.iter().map(|thought| match thought {
            Self::Text(text) => text.clone(),
            Self::Dollar => String::from("$$"),
            Self::Bare(name) => format!("${name} "),
            Self::Braced(name) => format!("${{{name}}}"),
            Self::With(name, operator, word) => format!("${{{name}{operator}{}}}", Self::written(word)),
        });
        written.collect()
    }

    fn meant(all: &[Self]) -> String {
        let meant = all.iter().map(|thought| match thought {
            Self::Text(text) => text.clone(),
            Self::Dollar => String::from("$"),
            Self::Bare(name) => format!("{} ", value_of(name).unwrap_or_default()),
            Self::Braced(name) => value_of(name).unwrap_or_default().to_owned(),
            Self::With(name, operator, word) => {
                let value = value_of(name);
                let is_there = value.is_some_and(|value| !operator.starts_with(':') || !value.is_empty());
                if is_there == operator.ends_with('+') {
                    Self::meant(word)
                } else if is_there {
                    value.unwrap_or_default().to_owned()
                } else {
                    String::new()
                }
            }
        });
        meant.collect()
    }
}

fn thoughts() -> impl Strategy<Value = Vec<Thought>> {
    let name = prop_oneof![
        proptest::strategy::Just("A"),
        proptest::strategy::Just("B"),
        proptest::strategy::Just("_c9")
    ];
    let leaf = prop_oneof![
        "[a-z .:?+=-]{1,6}".prop_map(Thought::Text),
        proptest::strategy::Just(Thought::Dollar),
        name.clone().prop_map(Thought::Bare),
        name.clone().prop_map(Thought::Braced),
    ];
    let operator = prop::sample::select(vec![":-", "-", ":+", "+"]);
    let tree = leaf.prop_recursive(4, 40, 4, move |inner| {
        (name.clone(), operator.clone(), prop::collection::vec(inner, 0..4))
            .prop_map(|(name, operator, word)| Thought::With(name, operator, word))
    });
    prop::collection::vec(tree, 0..5)
}

proptest! {
    #[test]
    fn templates_mean_what_they_say(thoughts in thoughts()) {
        let text = Thought::written(&thoughts);
        let parts = interpolate::parse(&text);
        prop_assert!(parts.is_ok(), "{text}");
        let filled = parts.map(|parts| interpolate::fill(&parts, &mut Given));
        prop_assert_eq!(filled, Ok(Ok(Thought::meant(&thoughts))), "{}", text);
    }

    #[test]
    fn any_text_as_a_template(text in "[${}:?+AB\\-a-c \n\u{e9}]{0,200}") {
        match interpolate::parse(&text) {
            Ok(parts) => {
                let filled = interpolate::fill(&parts, &mut Given);
                prop_assert!(filled.is_ok_and(|filled| filled.len() <= VALUE_BYTES_MAX));
            }
            Err(malformed) => prop_assert_eq!(text[malformed.at..].get(..2), Some("${")),
        }
    }

    #[test]
    fn any_text_as_variables(text in "[A-C=:#'\"\\\\ \n\t$x\u{e9}\u{a0}\u{feff}0-9]{0,120}") {
        match dotenv::parse(&text) {
            Ok(entries) => {
                for entry in entries {
                    prop_assert_eq!(&text[entry.at..entry.at + entry.name.len()], entry.name);
                }
            }
            Err(malformed) => prop_assert!(text.is_char_boundary(malformed.at)),
        }
    }

    #[test]
    fn quoted_values_come_back(values in prop::collection::vec("[a-z#= \n\\\\\"$é]{0,12}", 0..6)) {
        let mut text = String::new();
        for value in &values {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            write!(text, "export K=\"{escaped}\" # comment\n\n").unwrap();
        }
        let entries = dotenv::parse(&text);
        let found: Result<Vec<Setting>, _> =
            entries.map(|entries| entries.into_iter().map(|entry| entry.value).collect());
        prop_assert_eq!(found, Ok(values.into_iter().map(Setting::Template).collect::<Vec<_>>()));
    }

    #[test]
    fn any_bytes_as_a_file(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut case = Case::of(&[""]);
        case.named[0].bytes = bytes;
        case.load();
    }

    #[test]
    fn pieces_of_files(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..24)) {
        let text: String = pieces.concat();
        let case = Case::of(&[&text, &text]);
        case.load();
    }
}

/// What files are made of.
const PIECES: &[&str] = &[
    "services:\n",
    "  a:\n",
    "  b: ",
    "    image: x\n",
    "    ports:\n",
    "      - ",
    "\"80:80\"\n",
    "80-90\n",
    "    environment:\n",
    "      A: ",
    "$A\n",
    "${A:-",
    "}\n",
    "    depends_on: ",
    "[ a, b ]\n",
    "{ a: { condition: ",
    "service_healthy } }\n",
    "    extends: ",
    "a\n",
    "b\n",
    "!reset ",
    "!override ",
    "null\n",
    "[]\n",
    "{}\n",
    "    volumes:\n",
    "./a:/b:ro\n",
    "a:\n",
    "include: ",
    "[ x.yaml ]\n",
    "networks:\n",
    "secrets:\n",
    "volumes:\n",
    "&x ",
    "*x\n",
    "<<: *x\n",
    "---\n",
    "    command: ",
    "sh -c 'a\n",
    "'b'\n",
    "    deploy: ",
    "{ replicas: ",
    "3 }\n",
    "    healthcheck: ",
    "{ test: [ CMD, a ] }\n",
    "    networks: ",
    "    env_file: ",
    "x.env\n",
    "5\n",
    "0x1F\n",
];
