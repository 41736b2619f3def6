//! The reading layer: from the tree to the job.
//!
//! Owns which key stands where, what is required, and what holds across the whole job. Goes on after a mistake, so that
//! one reading finds them all; a job results only when there was none.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::str::FromStr;

use lith_core::job::{COUNT_MAX, GroupSpec, JobSpec, MEMBERS_MAX, RestartPolicy, TaskSpec};
use lith_core::name::{GroupName, NameError, TaskName, check_label, nearest_label};
use lith_core::value::{quoted, restart};

use crate::diagnostic::{Code, Diagnostics, Reporter};
use crate::document::load::load;
use crate::document::{Entry, Key, Kind, Node, Span};
use crate::value::coded;

mod collision;
mod fields;
mod keys;
mod task;

use collision::Published;
use fields::Fields;
use keys::Level;

/// Name of the group that a job has when its tasks stand directly under it.
pub(crate) const ONLY_GROUP: &str = "main";

const EXAMPLE: &str = "the smallest job file is `{ job: hello, tasks: { web: { image: nginx } } }`";

/// What reading a file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The job, exactly when there is no error.
    pub job: Option<JobSpec>,
    /// Errors and warnings, in order of position.
    pub diagnostics: Diagnostics,
}

/// Reads a job file; `file_name` is only repeated in diagnostics.
///
/// # Errors
/// Everything that is wrong with it, warnings included.
pub fn read(file_name: &str, text: &str) -> Result<JobSpec, Diagnostics> {
    let reading = check(file_name, text);
    reading.job.ok_or(reading.diagnostics)
}

/// Reads a job file and keeps the warnings of one that is accepted; `file_name` is only repeated in diagnostics.
#[must_use]
pub fn check(file_name: &str, text: &str) -> Reading {
    let mut reporter = Reporter::default();
    let job = load_root(text, &mut reporter).and_then(|root| job(&root, &mut reporter));
    let job = job.filter(|_| !reporter.has_errors());
    let diagnostics = reporter.finish(file_name, text);
    assert!(job.is_some() || diagnostics.has_errors(), "a file is refused only with a reason");
    Reading { job, diagnostics }
}

/// Reads a job file that may not be text at all; else as [`check`].
#[must_use]
pub fn check_bytes(file_name: &str, bytes: &[u8]) -> Reading {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => return check(file_name, text),
        Err(error) => error.valid_up_to(),
    };
    let mut reporter = Reporter::default();
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let hint = if is_utf16 {
        "it looks like UTF-16: save the file as UTF-8"
    } else {
        "save the file as UTF-8; an editor shows its encoding when it is opened"
    };
    let message = format!("the file is not UTF-8 text: byte {:#04x} cannot stand here", bytes[valid]);
    // What is before the place is the same in both; the place itself is one replacement character.
    let shown = String::from_utf8_lossy(bytes);
    let span = Span { start: valid, end: valid + char::REPLACEMENT_CHARACTER.len_utf8() };
    reporter.error(Code::Encoding, span, message, hint);
    Reading { job: None, diagnostics: reporter.finish(file_name, &shown) }
}

fn load_root(text: &str, reporter: &mut Reporter) -> Option<Rc<Node>> {
    let root = load(text, reporter);
    let is_empty = match &root {
        None => !reporter.has_errors(),
        Some(root) => matches!(root.kind, Kind::Null),
    };
    if is_empty {
        reporter.error(Code::Empty, Span::default(), "the file declares nothing", EXAMPLE);
        return None;
    }
    root
}

fn job(root: &Node, reporter: &mut Reporter) -> Option<JobSpec> {
    let Kind::Map(entries) = &root.kind else {
        let message = format!("a job file is a mapping of keys; this is {}", root.kind.noun());
        reporter.error(Code::WrongType, root.span, message, EXAMPLE);
        return None;
    };
    if let Some(services) = entries.iter().find(|entry| &*entry.key.text == "services") {
        reporter.error(
            Code::UnsupportedKey,
            services.key.span,
            "Compose files are not supported yet",
            "in a job file, `services` is called `tasks`, and `job` gives the whole a name",
        );
        return None;
    }
    let mut fields = Fields::new(Level::Job, entries, reporter);
    let place = entries.first().map_or(root.span, |entry| entry.key.span);
    let name = match fields.take("job") {
        Some(entry) => job_name(entry, reporter),
        None => {
            let message = "the job has no name";
            reporter.error(Code::MissingKey, place, message, "add a line such as `job: hello` at the top");
            None
        }
    };
    let mut published = Published::default();
    let groups = match (fields.take("groups"), fields.take("tasks")) {
        (Some(groups), None) => self::groups(groups, &mut published, reporter),
        (None, Some(tasks)) => only_group(tasks, &mut published, reporter),
        (Some(groups), Some(tasks)) => {
            let second = groups.key.span.max(tasks.key.span);
            let hint = "`tasks` is short for one group: move these tasks into a group of their own";
            reporter.error(Code::ConflictingKeys, second, "a job has either `groups` or `tasks`", hint);
            None
        }
        (None, None) => {
            let hint = "add `tasks:` with a name and an `image` for each, such as `tasks: { web: { image: nginx } }`";
            reporter.error(Code::MissingKey, place, "the job has no tasks", hint);
            None
        }
    };
    Some(JobSpec { name: name?, groups: groups? })
}

fn job_name<N: FromStr<Err = NameError>>(entry: &Entry, reporter: &mut Reporter) -> Option<N> {
    let text = fields::text(entry, reporter)?;
    name(text, entry.value.span, reporter)
}

fn name<N: FromStr<Err = NameError>>(text: &str, span: Span, reporter: &mut Reporter) -> Option<N> {
    let error = match text.parse() {
        Ok(name) => return Some(name),
        Err(error) => error,
    };
    let message = match error {
        NameError::BadCharacter { .. } | NameError::BadIdentifier { .. } => format!(
            "{} is not a name: use a-z, 0-9 and `-`, starting and ending with a letter or digit",
            quoted(text)
        ),
        NameError::Empty | NameError::TooLong { .. } => error.to_string(),
    };
    let hint = nearest_label(text).map(|label| format!("`{label}` would do"));
    reporter.error(Code::BadName, span, message, hint);
    None
}

fn only_group(
    tasks: &Entry,
    published: &mut Published,
    reporter: &mut Reporter,
) -> Option<BTreeMap<GroupName, GroupSpec>> {
    let name: GroupName = ONLY_GROUP.parse().expect("the constant is a label");
    let tasks = self::tasks(tasks, RestartPolicy::default(), 1, published, reporter)?;
    Some(BTreeMap::from([(name, GroupSpec { count: 1, tasks })]))
}

fn groups(
    groups: &Entry,
    published: &mut Published,
    reporter: &mut Reporter,
) -> Option<BTreeMap<GroupName, GroupSpec>> {
    let mut read = BTreeMap::new();
    for entry in members(groups, "group", reporter)? {
        let name = name(&entry.key.text, entry.key.span, reporter);
        if let (Some(name), Some(group)) = (name, group(entry, published, reporter)) {
            read.insert(name, group);
        }
    }
    Some(read)
}

fn group(entry: &Entry, published: &mut Published, reporter: &mut Reporter) -> Option<GroupSpec> {
    let entries = mapping(&entry.key, &entry.value, "a group is a mapping with `tasks`", reporter)?;
    let mut fields = Fields::new(Level::Group, entries, reporter);
    let count =
        fields.parse("count", reporter, |text| crate::value::number::count(text, COUNT_MAX)).unwrap_or(1);
    let restart =
        fields.parse("restart", reporter, coded(Code::BadRestart, restart::parse)).unwrap_or_default();
    let Some(tasks) = fields.take("tasks") else {
        let message = format!("the group {} has no tasks", quoted(&entry.key.text));
        let hint = "add `tasks:` with a name and an `image` for each";
        reporter.error(Code::MissingKey, entry.key.span, message, hint);
        return None;
    };
    Some(GroupSpec { count, tasks: self::tasks(tasks, restart, count, published, reporter)? })
}

fn tasks(
    tasks: &Entry,
    restart: RestartPolicy,
    count: u32,
    published: &mut Published,
    reporter: &mut Reporter,
) -> Option<BTreeMap<TaskName, TaskSpec>> {
    let mut read = BTreeMap::new();
    for entry in members(tasks, "task", reporter)? {
        let name: Option<TaskName> = name(&entry.key.text, entry.key.span, reporter);
        let task = task::task(entry, restart, reporter);
        let Some(task) = task else { continue };
        for (publish, span) in task.published {
            published.add(&entry.key.text, count, publish, span, reporter);
        }
        if let Some(name) = name {
            read.insert(name, task.spec);
        }
    }
    Some(read)
}

/// The groups of a job, or the tasks of a group.
fn members<'a>(entry: &'a Entry, noun: &str, reporter: &mut Reporter) -> Option<&'a [Entry]> {
    let want = format!("`{noun}s` is a mapping: the name of each {noun}, and below it what it is");
    let entries = mapping(&entry.key, &entry.value, &want, reporter)?;
    if entries.is_empty() {
        let message = format!("`{noun}s` names no {noun}");
        reporter.error(Code::MissingKey, entry.key.span, message, format!("declare at least one {noun}"));
        return None;
    }
    if let Some(first_beyond) = entries.get(MEMBERS_MAX) {
        let message = format!("there are {} {noun}s; the limit is {MEMBERS_MAX}", entries.len());
        reporter.error(Code::TooMany, first_beyond.key.span, message, "split them into several jobs");
        return None;
    }
    Some(entries)
}

/// The entries of a value that must be a mapping; nothing at all is an empty one.
fn mapping<'a>(key: &Key, value: &'a Node, want: &str, reporter: &mut Reporter) -> Option<&'a [Entry]> {
    match &value.kind {
        Kind::Map(entries) => Some(entries),
        Kind::Null => Some(&[]),
        Kind::Text(_) | Kind::List(_) => {
            let span = if matches!(value.kind, Kind::List(_)) { key.span } else { value.span };
            let message = format!("{want}; this is {}", value.kind.noun());
            let hint =
                format!("write the keys below `{}`, each in its own line and indented further", key.text);
            reporter.error(Code::WrongType, span, message, check_label(&key.text).is_ok().then_some(hint));
            None
        }
    }
}
