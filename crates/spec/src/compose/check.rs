//! From Compose files to a job, with all that a person is told about it.
//!
//! Owns the public form of a reading of Compose files. What the files mean is the matter of `load` and `convert`.

use lith_core::job::JobSpec;
use serde::Serialize;

use super::convert::{self, Connection as Right, ConvertOptions, Converted, Decision, DecisionPlace};
use super::load::{LoadInput, load};
use super::project::Needed;
use crate::diagnostic::{Diagnostics, Reporter};
use crate::document::load::load as load_document;
use crate::document::{Dialect, Kind};
use crate::source::{Files, Named, Variables};
use crate::write::Comments;

/// What whoever hands over Compose files decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComposeOptions {
    /// Name of the job, whatever the files say.
    pub name: Option<String>,
    /// The folder of the first file, absolute: its name is the job's when nothing else names it.
    pub folder: String,
    /// Profiles that are on; `*` is all.
    pub profiles: Vec<String>,
    /// Whether only those connections are kept that something in the files speaks for.
    pub narrow: bool,
    /// Whether volumes that the files do not declare are made.
    pub create_missing_volumes: bool,
    /// What becomes of folders beside the file.
    pub binds: Binds,
    /// The time zone of services that mount the node's.
    pub timezone: Option<String>,
}

/// What becomes of a folder beside the file that a service mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Binds {
    /// A disk that starts with its content.
    #[default]
    Import,
    /// The folder itself, shared by the node.
    Host,
}

/// What reading Compose files gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeReading {
    /// The job, exactly when there is no error.
    pub job: Option<JobSpec>,
    /// Errors, warnings and notes, in order of position.
    pub diagnostics: Diagnostics,
    /// What was decided, where it shows in the job file.
    pub comments: Comments,
    /// Who may connect to whom, in order of names.
    pub connections: Vec<Connection>,
    /// Variables that the files use, in order of their first use.
    pub variables: Vec<Variable>,
}

/// The right of a task to reach another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// The task that may.
    pub from: String,
    /// The other one.
    pub to: String,
    /// Its ports; none when it is all of them.
    pub ports: Vec<String>,
    /// What in the files speaks for it; nothing but a common network when there is none.
    pub evidence: Vec<String>,
}

/// A variable that files use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// The file of its first use.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is put in when nothing gives it a value.
    pub default: Option<String>,
    /// Whether something gives it a value.
    pub is_given: bool,
}

/// Whether a file is a Compose file rather than a job file: by its keys, and by its name when they do not tell.
#[must_use]
pub fn is_compose(file: &Named) -> bool {
    let by_name = file.path.contains("compose");
    let Ok(text) = std::str::from_utf8(&file.bytes) else { return by_name };
    let mut reporter = Reporter::default();
    let id = reporter.add_file(&file.path, text);
    let Some(root) = load_document(id, Dialect::Compose, &mut reporter) else { return by_name };
    let Kind::Map(entries) = &root.kind else { return by_name };
    let has = |key: &str| entries.iter().any(|entry| &*entry.key.text == key);
    if has("job") || has("tasks") || has("groups") {
        false
    } else {
        has("services") || has("include") || by_name
    }
}

/// Reads Compose files, each laid over those before it, and converts them to a job.
#[must_use]
pub fn check_compose(
    files: &[Named],
    options: &ComposeOptions,
    variables: &Variables,
    outside: &dyn Files,
) -> ComposeReading {
    let folder_name = options.folder.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let input = LoadInput {
        named: files,
        variables,
        profiles: &options.profiles,
        project_name: options.name.as_deref().unwrap_or(folder_name),
    };
    let how = ConvertOptions {
        name: options.name.clone(),
        folder_name: folder_name.to_owned(),
        narrow: options.narrow,
        create_missing_volumes: options.create_missing_volumes,
        binds: match options.binds {
            Binds::Import => convert::Binds::Import,
            Binds::Host => convert::Binds::Host { folder: options.folder.clone() },
        },
        timezone: options.timezone.clone(),
    };
    let mut reporter = Reporter::default();
    let loaded = load(&input, outside, &mut reporter);
    let needed = loaded.as_ref().map(|loaded| loaded.needed.clone()).unwrap_or_default();
    let converted = loaded.and_then(|loaded| convert::convert(&loaded.project, &how, outside, &mut reporter));
    let converted = converted.filter(|_| !reporter.has_errors());
    let variables = needed.iter().map(|needed| variable(needed, &reporter)).collect();
    let diagnostics = reporter.finish();
    assert!(converted.is_some() || diagnostics.has_errors(), "a file is refused only with a reason");
    let (job, decisions, connections) = match converted {
        Some(Converted { job, decisions, connections }) => (Some(job), decisions, connections),
        None => (None, Vec::new(), Vec::new()),
    };
    ComposeReading {
        job,
        diagnostics,
        comments: comments(decisions),
        connections: connections.iter().map(connection).collect(),
        variables,
    }
}

fn variable(needed: &Needed, reporter: &Reporter) -> Variable {
    let (line, column) = reporter.line_and_column(needed.span);
    Variable {
        name: needed.name.clone(),
        file: reporter.file_name(needed.span.file).to_owned(),
        line,
        column,
        default: needed.default.clone(),
        is_given: needed.is_given,
    }
}

fn connection(right: &Right) -> Connection {
    Connection {
        from: right.from.to_string(),
        to: right.to.to_string(),
        ports: right.ports.iter().map(ToString::to_string).collect(),
        evidence: right.evidence.iter().map(ToString::to_string).collect(),
    }
}

fn comments(decisions: Vec<Decision>) -> Comments {
    let mut comments = Comments::default();
    for Decision { place, comment } in decisions {
        match place {
            DecisionPlace::Job => comments.job.push(comment),
            DecisionPlace::Volume(name) => comments.volumes.entry(name).or_default().push(comment),
            DecisionPlace::Task { task, key } => {
                comments.keys.entry((task, key.to_owned())).or_default().push(comment);
            }
        }
    }
    comments
}
