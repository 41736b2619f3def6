//! Checks of one text file by itself: headers, lengths, banned words, markers, repository hygiene.

use super::Finding;

/// Above this a file asks for a reason.
const LINES_WARNED: usize = 800;
/// Above this a file is refused.
const LINES_MAX: usize = 1500;

/// Words that must not stand in the code below a folder, and why.
const BANNED: &[(&str, &[&str], &str)] = &[(
    "crates/core/src/",
    &[
        "Instant::now",
        "SystemTime::now",
        "rand::",
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::process",
        "std::thread",
        "tokio",
        "serde",
    ],
    "core decides and never acts: time, randomness and the world are arguments",
)];

/// Where `unsafe` may never be allowed, whatever a module is called.
const SAFE_ONLY: &[&str] = &["crates/core/", "crates/api/", "crates/store/", "crates/spec/", "crates/cli/"];

/// Spelled in pieces so that this file passes its own check.
const MARKERS: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("HA", "CK:")];

/// Paths of one person's machine.
const PRIVATE_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/.")];

/// Hosts of public registries: a test or an example that names one sends people's traffic there.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("ghcr", ".io"),
    concat!("quay", ".io"),
    concat!("gcr", ".io"),
    concat!("mcr.micro", "soft.com"),
    concat!("public.ecr", ".aws"),
    concat!("registry.k8s", ".io"),
    concat!("registry.git", "lab.com"),
    concat!("registry-1.docker", ".io"),
    concat!("index.docker", ".io"),
    concat!("auth.docker", ".io"),
];

/// The one place that knows the registry of unqualified names.
const REGISTRY_HOME: &str = "crates/image/";

/// All checks of one file.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if path.ends_with(".rs") {
        findings.extend(header(path, text));
        findings.extend(length(path, text));
        findings.extend(banned(path, text));
        findings.extend(unsafe_allowed(path, text));
    }
    // The lock file and the licence are nobody's prose.
    if path != "Cargo.lock" && path != "LICENSE" {
        findings.extend(markers(path, text));
        findings.extend(hygiene(path, text));
    }
    findings
}

fn header(path: &str, text: &str) -> Option<Finding> {
    let message = "starts without a `//!` header: say what the file owns and what it must not do";
    (!text.starts_with("//!")).then(|| Finding::failure(path, message))
}

fn length(path: &str, text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        return Some(Finding::failure(path, format!("{lines} lines; {LINES_MAX} is the most: split it")));
    }
    (lines > LINES_WARNED)
        .then(|| Finding::warning(path, format!("{lines} lines; above {LINES_WARNED} asks for a reason")))
}

fn banned(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (folder, words, reason) in BANNED.iter().filter(|(folder, ..)| path.starts_with(folder)) {
        for (number, line) in numbered(text) {
            let code = line.split("//").next().unwrap_or_default();
            let hits = words.iter().filter(|word| contains_word(code, word));
            findings.extend(hits.map(|word| {
                Finding::failure(
                    format!("{path}:{number}"),
                    format!("`{word}` is banned in {folder}: {reason}"),
                )
            }));
        }
    }
    findings
}

fn unsafe_allowed(path: &str, text: &str) -> Option<Finding> {
    let needle = concat!("allow(unsafe", "_code");
    let (number, _) = numbered(text).find(|(_, line)| line.contains(needle))?;
    let is_sys = path.ends_with("/sys.rs") || path.contains("/sys/");
    let is_safe_only = SAFE_ONLY.iter().any(|folder| path.starts_with(folder));
    let message = "unsafe code belongs in a module named `sys`, and never in this crate if it is core, api, store, spec or cli";
    (!is_sys || is_safe_only).then(|| Finding::failure(format!("{path}:{number}"), message))
}

/// A marker is fine with the number of an issue on its line: `marker(#12)`.
fn markers(path: &str, text: &str) -> Vec<Finding> {
    let has_issue = |line: &str| {
        line.split('#').skip(1).any(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let hits = numbered(text).filter(|(_, line)| {
        MARKERS
            .iter()
            .any(|marker| contains_word(line, marker.trim_end_matches(':')) && line.contains(marker))
            && !has_issue(line)
    });
    hits.map(|(number, _)| {
        Finding::failure(
            format!("{path}:{number}"),
            "a marker without an issue: name the issue (#12) or do the work",
        )
    })
    .collect()
}

fn hygiene(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in numbered(text) {
        let place = || format!("{path}:{number}");
        if let Some(found) = PRIVATE_PATHS.iter().find(|private| starts_path(line, private)) {
            findings.push(Finding::failure(place(), format!("`{found}` is a path of one machine")));
        }
        if path.starts_with(REGISTRY_HOME) {
            continue;
        }
        if let Some(found) = REGISTRY_HOSTS.iter().find(|host| line.contains(*host)) {
            findings.push(Finding::failure(
                place(),
                format!("`{found}` is a real registry: use 127.0.0.1 or registry.example"),
            ));
        }
    }
    findings
}

/// Whether `path` stands in the line as the start of an absolute path.
fn starts_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|character| character.is_ascii_alphanumeric() || "._-}/*)$".contains(character))
    })
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Whether `word` stands in `line` and is not the middle of a longer name.
pub(crate) fn contains_word(line: &str, word: &str) -> bool {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let ends_open = word.ends_with(':');
        !before.is_some_and(is_name) && (ends_open || !after.is_some_and(is_name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(path: &str, text: &str, expected: &[(&str, &str)]) {
        let found = check(path, text);
        assert_eq!(found.len(), expected.len(), "{path}: {found:#?}");
        for (finding, (place, part)) in found.iter().zip(expected) {
            assert_eq!(&finding.place, place);
            assert!(finding.message.contains(part), "{finding:?} does not say {part:?}");
        }
    }

    #[test]
    fn a_clean_file_passes() {
        check_file("crates/core/src/plan.rs", "//! Plans.\nuse std::time::Duration;\n", &[]);
    }

    #[test]
    fn headers_and_lengths() {
        check_file("crates/net/src/a.rs", "use std::io;\n", &[("crates/net/src/a.rs", "header")]);
        let long = format!("//! x\n{}", "\n".repeat(900));
        check_file("crates/net/src/a.rs", &long, &[("crates/net/src/a.rs", "asks for a reason")]);
        let longer = format!("//! x\n{}", "\n".repeat(1600));
        check_file("crates/net/src/a.rs", &longer, &[("crates/net/src/a.rs", "split it")]);
    }

    #[test]
    fn core_reads_no_clock_and_no_file() {
        let path = "crates/core/src/plan.rs";
        check_file(
            path,
            "//! x\nlet now = Instant::now();\n",
            &[("crates/core/src/plan.rs:2", "Instant::now")],
        );
        check_file(path, "//! x\nuse serde::Serialize;\n", &[("crates/core/src/plan.rs:2", "serde")]);
        check_file(path, "//! x\nlet x = rand::random();\n", &[("crates/core/src/plan.rs:2", "rand::")]);
        check_file(path, "//! no tokio and no serde here\n// nor std::fs\nlet deserde = 1;\n", &[]);
        check_file("crates/node/src/a.rs", "//! x\nlet now = Instant::now();\n", &[]);
    }

    #[test]
    fn unsafe_stays_in_sys() {
        let text = concat!("//! x\n#![allow(unsafe", "_code)]\n");
        check_file("crates/vmm/src/jail/sys.rs", text, &[]);
        check_file("crates/vmm/src/jail.rs", text, &[("crates/vmm/src/jail.rs:2", "sys")]);
        check_file("crates/core/src/sys.rs", text, &[("crates/core/src/sys.rs:2", "never")]);
    }

    #[test]
    fn markers_name_an_issue() {
        let bare = concat!("# x\nTO", "DO: later\n");
        check_file("docs/a.md", bare, &[("docs/a.md:2", "issue")]);
        check_file("docs/a.md", concat!("TO", "DO(#12): later\n"), &[]);
        check_file("docs/a.md", concat!("TO", "DONE and mktemp XX", "XXXX\n"), &[]);
    }

    #[test]
    fn hygiene_of_paths_and_hosts() {
        check_file("docs/a.md", concat!("see /wo", "rk/main\n"), &[("docs/a.md:1", "one machine")]);
        check_file("docs/a.md", concat!("see the net", "wo", "rk/main and frame", "/wo", "rk/\n"), &[]);
        let host = concat!("ghcr", ".io/a/b");
        check_file("examples/a.yaml", host, &[("examples/a.yaml:1", "real registry")]);
        check_file("crates/image/src/reference.rs", &format!("//! {host}"), &[]);
    }
}
