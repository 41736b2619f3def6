//! The vocabulary of the job file: which key stands at which level, and what it takes.
//!
//! Owns the one table from which come the hints for unknown keys, the JSON schema and the test that the reference page
//! has a heading for each key; and what to say about a key that may not stand where it does. Must not read values.

use lith_core::value::quoted;

use crate::diagnostic::{Code, Reporter};
use crate::document::Key as Written;

mod table;

/// Longest word compared with known ones: twice the longest key.
const WORD_BYTES_MAX: usize = 40;

/// A mapping whose keys are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Job,
    Group,
    Task,
    Volume,
    Secret,
    Config,
    FileUse,
    Health,
    Update,
    Logging,
    Ulimit,
}

/// Every level.
pub(crate) const LEVELS: [Level; 11] = [
    Level::Job,
    Level::Group,
    Level::Task,
    Level::Volume,
    Level::Secret,
    Level::Config,
    Level::FileUse,
    Level::Health,
    Level::Update,
    Level::Logging,
    Level::Ulimit,
];

/// A key of a level.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// Whether its level is nothing without it.
    pub(crate) is_required: bool,
    pub(crate) takes: Takes,
    /// One sentence: what an editor shows.
    pub(crate) doc: &'static str,
    /// A value that is accepted, as it is written behind the key.
    pub(crate) example: &'static str,
    /// Whether this version does it, or only keeps it.
    pub(crate) force: Force,
}

/// Whether this version does what a key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Force {
    /// It does.
    Now,
    /// It reads, checks and keeps it; a later version does it.
    Later,
}

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Takes {
    /// A DNS label.
    Name,
    /// Any single value.
    Text,
    /// A single value of a form.
    Form(Form),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number within these bounds.
    Number(u32, u32),
    /// `true` or `false`.
    Switch,
    /// A command line: text, or a list of words.
    Words,
    /// A list of single values.
    List(&'static Takes),
    /// One value, or a list of them.
    OneOrList(&'static Takes),
    /// A mapping of names to values.
    Mapping(&'static Takes),
    /// A mapping whose keys are those of the level.
    Section(Level),
    /// A mapping of names to mappings of the level.
    Members(Level),
    /// Any of these.
    Any(&'static [Takes]),
}

/// A form of a single value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Size,
    Duration,
    Cpus,
    Bandwidth,
    Port,
    Publish,
    Path,
    Mount,
}

impl Level {
    /// Keys that may stand here, in the order of the reference page and of a written file.
    pub(crate) fn keys(self) -> &'static [Key] {
        match self {
            Self::Job => table::JOB,
            Self::Group => table::GROUP,
            Self::Task => table::TASK,
            Self::Volume => table::VOLUME,
            Self::Secret => table::SECRET,
            Self::Config => table::CONFIG,
            Self::FileUse => table::FILE_USE,
            Self::Health => table::HEALTH,
            Self::Update => table::UPDATE,
            Self::Logging => table::LOGGING,
            Self::Ulimit => table::ULIMIT,
        }
    }

    /// Whether the key may stand here.
    pub(crate) fn has(self, name: &str) -> bool {
        self.keys().iter().any(|key| key.name == name)
    }

    /// Names of the keys.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        self.keys().iter().map(|key| key.name)
    }

    /// How a message calls it, with its article.
    fn noun(self) -> &'static str {
        match self {
            Self::Job => "a job",
            Self::Group => "a group",
            Self::Task => "a task",
            Self::Volume => "a volume",
            Self::Secret => "a secret",
            Self::Config => "a config",
            Self::FileUse => "a secret or config of a task",
            Self::Health => "`health`",
            Self::Update => "`update`",
            Self::Logging => "`logging`",
            Self::Ulimit => "a limit",
        }
    }

    /// Words of other tools for keys of this level.
    fn synonyms(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Job => table::JOB_SYNONYMS,
            Self::Group => table::GROUP_SYNONYMS,
            Self::Task => table::TASK_SYNONYMS,
            Self::Health => table::HEALTH_SYNONYMS,
            Self::Update => table::UPDATE_SYNONYMS,
            Self::Logging => table::LOGGING_SYNONYMS,
            Self::Secret | Self::Config => table::FILE_SYNONYMS,
            Self::Volume => &[("limit", "size"), ("capacity", "size"), ("from", "import")],
            Self::FileUse => &[("path", "target"), ("name", "source"), ("permissions", "mode")],
            Self::Ulimit => &[],
        }
    }
}

/// Says what is wrong with a key that may not stand at this level.
pub(crate) fn refuse(level: Level, key: &Written, reporter: &mut Reporter) {
    if reporter.is_full() {
        return;
    }
    let name = &*key.text;
    let noun = level.noun();
    if let Some(known) = synonym(level, name) {
        let message = format!("{noun} has no key {}", quoted(name));
        return reporter.error(Code::UnknownKey, key.span, message, format!("did you mean `{known}`?"));
    }
    if let Some((home, hint)) = home(level, name) {
        let message = format!("{} is a key of {}, not of {noun}", quoted(name), home.noun());
        return reporter.error(Code::MisplacedKey, key.span, message, hint.replace("KEY", name));
    }
    let message = format!("{noun} has no key {}", quoted(name));
    let hint = match nearest(&folded(name), level.names()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("its keys are {}", level.names().collect::<Vec<_>>().join(", ")),
    };
    reporter.error(Code::UnknownKey, key.span, message, hint);
}

/// Levels whose keys are known at others, with what to do about one of them.
const HOMES: [(Level, &str); 4] = [
    (Level::Job, "move `KEY` to the top of the file"),
    (Level::Group, "write `groups:`, a name for the group, and below it `KEY` beside `tasks`"),
    (Level::Task, "write `tasks:`, a name for the task, and below it `KEY`"),
    (Level::Volume, "write `volumes:`, a name for the volume, and below it `KEY`"),
];

/// The level that a misplaced key belongs to. The keys of small sections are everyday words, which mean little elsewhere.
fn home(level: Level, name: &str) -> Option<(Level, &'static str)> {
    match level {
        Level::Job | Level::Group | Level::Task => {}
        Level::Volume
        | Level::Secret
        | Level::Config
        | Level::FileUse
        | Level::Health
        | Level::Update
        | Level::Logging
        | Level::Ulimit => return None,
    }
    HOMES.into_iter().find(|(home, _)| *home != level && home.has(name))
}

fn folded(key: &str) -> String {
    key.chars().take(WORD_BYTES_MAX + 1).collect::<String>().to_ascii_lowercase().replace('-', "_")
}

fn synonym(level: Level, name: &str) -> Option<&'static str> {
    let folded = folded(name);
    level.synonyms().iter().find(|(synonym, _)| *synonym == folded).map(|(_, known)| *known)
}

/// The word of `known` that is at most a third of its letters away, if any.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // The distance costs the product of both lengths; no slip of the finger makes a word this long.
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    known
        .take(NEAREST_MAX)
        .filter(|known| known.len() <= WORD_BYTES_MAX)
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, known)| *distance <= known.len().max(3) / 3)
        .min()
        .map(|(_, known)| known)
}

/// Most words that one is compared with: names of a hostile job are many.
const NEAREST_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::{Force, LEVELS, Level, nearest};
    use crate::{Colour, Files, Named, PathKind, Variables, check_job};

    #[test]
    fn a_key_stands_in_one_list_of_its_level() {
        for level in LEVELS {
            for (synonym, key) in level.synonyms() {
                assert!(level.has(key) && !level.has(synonym), "{synonym}");
            }
            for (index, key) in level.names().enumerate() {
                assert!(!level.names().skip(index + 1).any(|other| other == key), "{key}");
            }
        }
    }

    /// A key of the level with a value, in a whole file.
    fn file(level: Level, key: &super::Key) -> String {
        let line = format!("{}: {}", key.name, key.example);
        let source = if key.name == "source" { "" } else { "source: db-password, " };
        let beside = match key.name {
            "schedule" => "kind: periodic, ",
            "soft" => "hard: 65536, ",
            "hard" => "soft: 1024, ",
            "expose" => "ports: [ 8080 ], ",
            _ => "",
        };
        let image = if key.name == "image" { "" } else { "image: nginx, " };
        let task = match level {
            Level::Task => format!("{image}{beside}{line}"),
            Level::FileUse => format!("{image}secrets: [ {{ {source}{line} }} ]"),
            Level::Health => format!("{image}health: {{ {line} }}"),
            Level::Update => format!("{image}update: {{ {line} }}"),
            Level::Logging => format!("{image}logging: {{ {line} }}"),
            Level::Ulimit => format!("{image}ulimits: {{ nofile: {{ {beside}{line} }} }}"),
            Level::Job | Level::Group | Level::Volume | Level::Secret | Level::Config => {
                String::from("image: nginx")
            }
        };
        let top = match level {
            Level::Job => line.clone(),
            Level::Volume => format!("volumes: {{ data: {{ {line} }} }}"),
            Level::Secret => format!("secrets: {{ db-password: {{ {line} }} }}"),
            Level::Config => format!("configs: {{ app.conf: {{ {line} }} }}"),
            Level::Group
            | Level::Task
            | Level::FileUse
            | Level::Health
            | Level::Update
            | Level::Logging
            | Level::Ulimit => String::new(),
        };
        let has = |name: &str| top.starts_with(&format!("{name}: "));
        let mut text = format!("{top}\n");
        if !has("job") {
            text.push_str("job: j\n");
        }
        if !has("secrets") {
            text.push_str("secrets: [ db-password ]\n");
        }
        if !has("configs") {
            text.push_str("configs: { app.conf: { content: x } }\n");
        }
        if level == Level::Group {
            let tasks = if key.name == "tasks" { "" } else { "tasks: { t: { image: nginx } }, " };
            text.push_str(&format!("groups: {{ g: {{ {tasks}{line} }} }}\n"));
        } else if !has("groups") && !has("tasks") {
            text.push_str(&format!("tasks: {{ t: {{ {task} }}, db: {{ image: x }} }}\n"));
        }
        text
    }

    #[test]
    fn every_example_is_accepted() {
        for level in LEVELS {
            for key in level.keys() {
                let text = file(level, key);
                let named = Named { path: String::from("job.yaml"), bytes: text.as_bytes().to_vec() };
                let set = [(String::from("DB_PASSWORD"), String::from("x"))].into();
                let variables = Variables { set, env_files: Vec::new() };
                let reading = check_job(&[named], &variables, &Beside);
                assert!(
                    reading.diagnostics.list.is_empty(),
                    "{text}{}",
                    reading.diagnostics.render(Colour::None)
                );
            }
        }
    }

    /// What the examples name stands beside the file.
    struct Beside;

    impl Files for Beside {
        fn kind(&self, path: &str) -> PathKind {
            match path {
                "site" => PathKind::Folder,
                "app.env" | "password" => PathKind::File,
                _ => PathKind::Absent,
            }
        }

        fn read(&self, _path: &str, _bytes_max: usize) -> Result<Vec<u8>, String> {
            Ok(b"A=b\n".to_vec())
        }
    }

    #[test]
    fn the_reference_has_a_heading_for_each_key_and_marks_those_to_come() {
        let page = include_str!("../../../docs/reference/job.md");
        for (level, chapter) in [
            (Level::Job, "Job"),
            (Level::Volume, "Volume"),
            (Level::Secret, "Secret and config"),
            (Level::Group, "Group"),
            (Level::Task, "Task"),
            (Level::FileUse, "Secret or config of a task"),
            (Level::Health, "Health"),
            (Level::Update, "Update"),
            (Level::Logging, "Logging"),
            (Level::Ulimit, "Limit"),
        ] {
            let (_, after) = page.split_once(&format!("\n## {chapter}\n")).expect("each level has a chapter");
            let text = after.split("\n## ").next().unwrap_or(after);
            let parts: Vec<&str> = text.split("\n### ").skip(1).collect();
            let found: Vec<&str> = parts
                .iter()
                .filter_map(|part| part.lines().next()?.strip_prefix('`')?.strip_suffix('`'))
                .collect();
            assert_eq!(found, level.names().collect::<Vec<_>>(), "headings of {chapter}");
            for (part, key) in parts.iter().zip(level.keys()) {
                let is_marked = part.contains("*Not in force yet");
                assert_eq!(is_marked, key.force == Force::Later, "{chapter}: {}", key.name);
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
            assert_eq!(nearest(word, Level::Task.names()), known, "{word}");
        }
    }
}
