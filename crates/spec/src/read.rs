//! The reading layer: from the tree to the job.
//!
//! Owns the entry points and how a text becomes a tree that can be read. Goes on after a mistake, so that one reading
//! finds them all; a job results only when there was none.

use std::rc::Rc;
use std::str::FromStr;

use lith_core::job::JobSpec;
use lith_core::name::{NameError, check_label, nearest_label};
use lith_core::value::quoted;

use crate::diagnostic::{Code, Diagnostics, Reporter};
use crate::document::load::load;
use crate::document::{Dialect, Entry, FileId, Key, Kind, Node, Span};
use crate::source::{FILES_MAX, Files, Named, NoFiles, Variables};
use crate::variables::{Scope, fill_tree};

pub(crate) mod collision;
mod fields;
mod file;
mod group;
mod job;
mod outside;
mod parts;
mod references;
mod task;
mod update;
mod volume;

use outside::Outside;
pub(crate) use update::{FAILURES, ORDERS};

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

/// Reads a job file that needs no other; `file_name` is only repeated in diagnostics.
///
/// # Errors
/// Everything that is wrong with it, warnings included.
pub fn read(file_name: &str, text: &str) -> Result<JobSpec, Diagnostics> {
    let reading = check(file_name, text);
    reading.job.ok_or(reading.diagnostics)
}

/// Reads a job file that needs no other and keeps the warnings of one that is accepted; `file_name` is only repeated in
/// diagnostics.
#[must_use]
pub fn check(file_name: &str, text: &str) -> Reading {
    check_bytes(file_name, text.as_bytes())
}

/// Reads a job file that may not be text at all; else as [`check`].
#[must_use]
pub fn check_bytes(file_name: &str, bytes: &[u8]) -> Reading {
    let file = Named { path: file_name.to_owned(), bytes: bytes.to_vec() };
    check_job(&[file], &Variables::default(), &NoFiles)
}

/// Reads the files of one job, in the order in which they were named: each holds a part of it.
#[must_use]
pub fn check_job(files: &[Named], variables: &Variables, outside: &dyn Files) -> Reading {
    let mut reporter = Reporter::default();
    let job = job_of(files, variables, outside, &mut reporter).filter(|_| !reporter.has_errors());
    let diagnostics = reporter.finish();
    assert!(job.is_some() || diagnostics.has_errors(), "a file is refused only with a reason");
    Reading { job, diagnostics }
}

fn job_of(
    files: &[Named],
    variables: &Variables,
    outside: &dyn Files,
    reporter: &mut Reporter,
) -> Option<JobSpec> {
    if files.is_empty() || files.len() > FILES_MAX {
        let file = reporter.add_file("job", "");
        let message = format!("a job is read from 1 to {FILES_MAX} files; these are {}", files.len());
        reporter.error(Code::TooMany, Span { file, ..Span::default() }, message, None);
        return None;
    }
    let ids: Vec<Option<FileId>> =
        files.iter().map(|file| add_text(&file.path, &file.bytes, reporter)).collect();
    let mut outside = Outside::new(outside, variables, files.len(), reporter);
    let mut roots = Vec::with_capacity(ids.len());
    for id in ids {
        roots.push(
            id.and_then(|id| load_root(id, reporter)).map(|root| filled(&root, outside.scope(), reporter)),
        );
    }
    // A part that could not be read may hold what the others name: nothing true could be said about them.
    let roots: Vec<Rc<Node>> = roots.into_iter().collect::<Option<_>>()?;
    let entries = parts::joined(&roots, reporter)?;
    job::job(&entries, &mut outside, reporter)
}

/// Makes a file known; `None`, with its reason, when it is not text.
pub(crate) fn add_text(name: &str, bytes: &[u8], reporter: &mut Reporter) -> Option<FileId> {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => return Some(reporter.add_file(name, text)),
        Err(error) => error.valid_up_to(),
    };
    let is_utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let hint = if is_utf16 {
        "it looks like UTF-16: save the file as UTF-8"
    } else {
        "save the file as UTF-8; an editor shows its encoding when it is opened"
    };
    let message = format!("the file is not UTF-8 text: byte {:#04x} cannot stand here", bytes[valid]);
    // What is before the place is the same in both; the place itself is one replacement character.
    let shown = String::from_utf8_lossy(bytes);
    let id = reporter.add_file(name, &shown);
    let span = Span { file: id, start: valid, end: valid + char::REPLACEMENT_CHARACTER.len_utf8() };
    reporter.error(Code::Encoding, span, message, hint);
    None
}

fn load_root(file: FileId, reporter: &mut Reporter) -> Option<Rc<Node>> {
    let had_errors = reporter.has_errors();
    let root = load(file, Dialect::Job, reporter);
    let is_empty = match &root {
        None => had_errors || !reporter.has_errors(),
        Some(root) => matches!(root.kind, Kind::Null),
    };
    if is_empty {
        reporter.error(Code::Empty, Span { file, ..Span::default() }, "the file declares nothing", EXAMPLE);
        return None;
    }
    root
}

/// The tree with its variables put in.
fn filled(root: &Rc<Node>, scope: &Scope, reporter: &mut Reporter) -> Rc<Node> {
    // A `$` that the text does not show can only come of an escape.
    if reporter.text(root.span.file).contains(['$', '\\']) {
        fill_tree(root, scope, reporter)
    } else {
        Rc::clone(root)
    }
}

/// A name; says what is wrong with it, and which one would do.
pub(crate) fn name<N: FromStr<Err = NameError>>(
    text: &str,
    span: Span,
    reporter: &mut Reporter,
) -> Option<N> {
    let error = match text.parse() {
        Ok(name) => return Some(name),
        Err(error) => error,
    };
    let (message, hint) = match error {
        NameError::BadCharacter { .. } | NameError::BadIdentifier { .. } => {
            let rule = "use a-z, 0-9 and `-`, starting and ending with a letter or digit";
            (format!("{} is not a name: {rule}", quoted(text)), nearest_label(text))
        }
        NameError::BadFileName { .. } => {
            let rule = "use letters, digits, `_`, `.` and `-`, starting with a letter, a digit or `_`";
            (format!("{} is not a name: {rule}", quoted(text)), None)
        }
        NameError::Empty | NameError::TooLong { .. } => (error.to_string(), nearest_label(text)),
    };
    reporter.error(Code::BadName, span, message, hint.map(|label| format!("`{label}` would do")));
    None
}

/// The members of a level, by name: at least one, and not too many.
fn members<'a>(entry: &'a Entry, noun: &str, most: usize, reporter: &mut Reporter) -> Option<&'a [Entry]> {
    let want = format!("`{noun}s` is a mapping: the name of each {noun}, and below it what it is");
    let entries = mapping(&entry.key, &entry.value, &want, reporter)?;
    if let Some(first_beyond) = entries.get(most) {
        let message = format!("there are {} {noun}s; the limit is {most}", entries.len());
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
