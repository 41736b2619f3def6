//! The vocabulary of the job file: which key stands at which level.
//!
//! Owns the lists of keys, today's and those that a later version brings, and what to say about any other. Must not read
//! values.

use lith_core::value::quoted;

use crate::diagnostic::{Code, Reporter};
use crate::document::Key;

/// Longest word compared with known ones: twice the longest key.
const WORD_BYTES_MAX: usize = 32;

/// A level of the job file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Job,
    Group,
    Task,
}

const LEVELS: [Level; 3] = [Level::Job, Level::Group, Level::Task];

impl Level {
    /// Keys that may stand here, in the order of the reference page.
    pub(super) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Job => &["job", "groups", "tasks"],
            Self::Group => &["count", "restart", "tasks"],
            Self::Task => &[
                "image",
                "entrypoint",
                "command",
                "env",
                "user",
                "working_dir",
                "memory",
                "cpus",
                "ports",
                "publish",
                "restart",
                "stop_signal",
                "stop_grace",
            ],
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Group => "group",
            Self::Task => "task",
        }
    }

    /// Words of other tools for keys of this level.
    fn synonyms(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Job => &[("name", "job"), ("group", "groups"), ("task", "tasks"), ("containers", "tasks")],
            Self::Group => {
                &[("replicas", "count"), ("scale", "count"), ("instances", "count"), ("services", "tasks")]
            }
            Self::Task => &[
                ("args", "command"),
                ("cmd", "command"),
                ("container_image", "image"),
                ("cpu", "cpus"),
                ("environment", "env"),
                ("expose", "ports"),
                ("mem", "memory"),
                ("mem_limit", "memory"),
                ("ram", "memory"),
                ("restart_policy", "restart"),
                ("stop_grace_period", "stop_grace"),
                ("stop_timeout", "stop_grace"),
                ("workdir", "working_dir"),
            ],
        }
    }

    /// Keys of this level that a later version brings.
    fn later(self) -> &'static [&'static str] {
        match self {
            Self::Job => &["configs", "secrets", "variables", "volumes"],
            Self::Group => &["failover_after", "place", "update", "volumes"],
            Self::Task => &[
                "configs",
                "connects",
                "depends_on",
                "devices",
                "egress",
                "env_file",
                "gpu",
                "groups",
                "health",
                "healthcheck",
                "hostname",
                "kind",
                "logging",
                "read_only",
                "schedule",
                "secrets",
                "shm_size",
                "sysctls",
                "timezone",
                "tmpfs",
                "ulimits",
                "update",
                "volumes",
            ],
        }
    }
}

/// Says what is wrong with a key that may not stand at this level.
pub(super) fn refuse(level: Level, key: &Key, reporter: &mut Reporter) {
    let name = &*key.text;
    let noun = level.noun();
    if level.later().contains(&name) {
        let message = format!("{} is not supported yet", quoted(name));
        return reporter.error(Code::UnsupportedKey, key.span, message, without(name));
    }
    if let Some(home) = LEVELS.into_iter().find(|other| other.keys().contains(&name)) {
        let message = format!("{} is a key of a {}, not of a {noun}", quoted(name), home.noun());
        return reporter.error(Code::MisplacedKey, key.span, message, home_hint(home, name));
    }
    let message = format!("a {noun} has no key {}", quoted(name));
    let hint = match meant(level, name) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("its keys are {}", level.keys().join(", ")),
    };
    reporter.error(Code::UnknownKey, key.span, message, hint);
}

/// What the person does without a key of a later version.
fn without(key: &str) -> &'static str {
    match key {
        "volumes" | "tmpfs" => {
            "remove it; what a task writes lasts as long as its allocation, restarts included"
        }
        "connects" => "remove it; in this version tasks cannot reach each other",
        "egress" => "remove it; in this version a task reaches nothing outside",
        "health" | "healthcheck" | "depends_on" => {
            "remove it; tasks start together, and restart until they can work"
        }
        "secrets" | "configs" | "env_file" | "variables" => "remove it; values can be given in `env`",
        _ => "remove it",
    }
}

fn home_hint(home: Level, key: &str) -> String {
    match home {
        Level::Job => format!("move `{key}` to the top of the file"),
        Level::Group => format!("write `groups:`, a name for the group, and below it `{key}` beside `tasks`"),
        Level::Task => format!("write `tasks:`, a name for the task, and below it `{key}`"),
    }
}

/// The known key that was probably meant.
fn meant(level: Level, key: &str) -> Option<&'static str> {
    let folded = key.to_ascii_lowercase().replace('-', "_");
    if let Some((_, known)) = level.synonyms().iter().find(|(synonym, _)| *synonym == folded) {
        return Some(known);
    }
    nearest(&folded, level.keys())
}

/// The word of `known` that is at most a third of its letters away, if any.
pub(super) fn nearest(word: &str, known: &[&'static str]) -> Option<&'static str> {
    // The distance costs the product of both lengths; no slip of the finger makes a word this long.
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), *known))
        .filter(|(distance, known)| *distance <= known.len().max(3) / 3)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::{LEVELS, Level, nearest};

    #[test]
    fn the_reference_has_a_heading_for_each_key_and_names_those_to_come() {
        let page = include_str!("../../../../docs/reference/job-file.md");
        for level in LEVELS {
            let chapter = format!(
                "\n## {}\n",
                match level {
                    Level::Job => "Job",
                    Level::Group => "Group",
                    Level::Task => "Task",
                }
            );
            let (_, after) = page.split_once(&chapter).expect("each level has a chapter");
            let chapter = after.split("\n## ").next().unwrap_or(after);
            let headings: Vec<&str> =
                chapter.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
            let mut keys = level.keys().to_vec();
            let mut found = headings.clone();
            keys.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, keys);
            let (_, to_come) = page.split_once("\n## Not yet\n").expect("the page has this chapter");
            for key in level.later().iter().filter(|key| **key != "healthcheck") {
                assert!(to_come.contains(&format!("`{key}`")), "{key}");
            }
        }
    }

    #[test]
    fn a_key_stands_in_one_list_of_its_level() {
        for level in LEVELS {
            for key in level.later() {
                assert!(!level.keys().contains(key), "{key}");
            }
            for (synonym, key) in level.synonyms() {
                assert!(level.keys().contains(key) && !level.keys().contains(synonym), "{synonym}");
                assert!(!level.later().contains(synonym), "{synonym}");
            }
        }
    }

    #[test]
    fn nearest_words() {
        for (word, known) in [
            ("imge", Some("image")),
            ("comand", Some("command")),
            ("entry_point", Some("entrypoint")),
            ("port", Some("ports")),
            ("evn", Some("env")),
            ("usr", Some("user")),
            ("colour", None),
            ("x", None),
            (&"x".repeat(1 << 20), None),
        ] {
            assert_eq!(nearest(word, Level::Task.keys()), known, "{word}");
        }
    }
}
