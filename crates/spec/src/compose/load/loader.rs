//! What every step of loading shares: the files that are open, the variables, and the bounds on all of it.
//!
//! Owns opening a file within the bounds, and the expansion of one text. Must not know any key of Compose.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use lith_core::value::quoted;

use super::interpolate::{self, Form, Source, VALUE_BYTES_MAX, Variable};
use super::paths;
use super::variables::{Scope, Use, Used};
use crate::compose::project::{At, Needed};
use crate::diagnostic::{Code, Reporter};
use crate::document::load::{FILE_BYTES_MAX, load_all};
use crate::document::{Dialect, FileId, Node, Span};
use crate::dotenv::{self, Setting};
use crate::read::add_text;
use crate::source::{FILES_MAX, Files};

/// Most bytes that variables put into all values together: as much as all contents of a job.
const EXPANDED_BYTES_MAX: usize = 4 << 20;
/// Most values that merging makes, each copy of a service that is extended counted: twenty files of the largest kind.
const VALUES_MAX: usize = 2_000_000;

/// Text of a file of variables that costs as much as one value.
const BYTES_PER_VALUE: usize = 16;

/// What a file that says nothing could say.
pub(super) const EXAMPLE: &str = "the smallest Compose file is `services: { web: { image: nginx } }`";

/// The state of one loading.
pub(super) struct Loader<'a> {
    pub(super) files: &'a dyn Files,
    pub(super) reporter: &'a mut Reporter,
    pub(super) used: Used,
    /// Variables that services only name, and that have no value.
    pub(super) unset: Vec<At<String>>,
    /// Variables already warned of.
    warned: HashSet<String>,
    /// Folder that paths in a file are relative to.
    folders: HashMap<FileId, Rc<str>>,
    /// Files of variables that are open, by path.
    variable_files: HashMap<String, FileId>,
    expanded_bytes: usize,
    values: usize,
}

impl<'a> Loader<'a> {
    pub(super) fn new(files: &'a dyn Files, reporter: &'a mut Reporter) -> Self {
        Self {
            files,
            reporter,
            used: Used::default(),
            unset: Vec::new(),
            warned: HashSet::new(),
            folders: HashMap::new(),
            variable_files: HashMap::new(),
            expanded_bytes: 0,
            values: 0,
        }
    }

    /// The variables that were used.
    pub(super) fn take_needed(&mut self) -> Vec<Needed> {
        std::mem::take(&mut self.used).list
    }

    /// Folder that a path written at this place is relative to.
    pub(super) fn folder_of(&self, span: Span) -> Rc<str> {
        self.folders.get(&span.file).cloned().unwrap_or_else(|| Rc::from(""))
    }

    /// The path that is written at a place, resolved.
    pub(super) fn resolve(&self, path: &str, span: Span) -> String {
        paths::join(&self.folder_of(span), path)
    }

    /// Makes a text known under its name, with the folder of its paths.
    pub(super) fn add(&mut self, name: &str, bytes: &[u8], folder: &str) -> Option<FileId> {
        if bytes.len() > FILE_BYTES_MAX {
            let id = self.reporter.add_file(name, "");
            let message = format!("the file holds {} bytes; the limit is {FILE_BYTES_MAX}", bytes.len());
            let hint = "a Compose file describes services; keep data out of it";
            self.reporter.error(Code::TooLarge, Span { file: id, ..Span::default() }, message, hint);
            return None;
        }
        let id = add_text(name, bytes, self.reporter)?;
        self.folders.insert(id, Rc::from(folder));
        Some(id)
    }

    /// Opens a file that is named at a place.
    pub(super) fn open(&mut self, path: &str, folder: &str, span: Span) -> Option<FileId> {
        if paths::is_remote(path) {
            let message = format!("{} is not a file of this machine", quoted(path));
            let hint = "fetch it, and name the copy by its path";
            self.reporter.error(Code::BadFile, span, message, hint);
            return None;
        }
        if self.reporter.files() >= FILES_MAX {
            let message = format!("more than {FILES_MAX} files are read together");
            self.reporter.error(Code::TooMany, span, message, None);
            return None;
        }
        match self.files.read(path, FILE_BYTES_MAX) {
            Ok(bytes) => self.add(path, &bytes, folder),
            Err(reason) => {
                let message = format!("the file {} cannot be read: {reason}", quoted(path));
                let hint = "paths are relative to the folder of the file that names them";
                self.reporter.error(Code::BadFile, span, message, hint);
                None
            }
        }
    }

    /// The documents of a file that is open; none when it cannot be read.
    pub(super) fn documents(&mut self, file: FileId) -> Vec<Rc<Node>> {
        let documents = load_all(file, Dialect::Compose, self.reporter);
        if documents.as_ref().is_some_and(Vec::is_empty) {
            let span = Span { file, ..Span::default() };
            self.reporter.error(Code::Empty, span, "the file holds nothing", EXAMPLE);
        }
        documents.unwrap_or_default()
    }

    /// Opens a file of variables that is named at a place, once for all that name it.
    pub(super) fn open_variables(&mut self, path: &str, span: Span) -> Option<FileId> {
        if let Some(id) = self.variable_files.get(path) {
            return Some(*id);
        }
        let id = self.open(path, "", span)?;
        self.variable_files.insert(path.to_owned(), id);
        Some(id)
    }

    /// Counts values that a merge made; the reporter learns where it became too many.
    pub(super) fn spend(&mut self, values: usize, span: Span) -> bool {
        self.values = self.values.saturating_add(values);
        if self.values <= VALUES_MAX {
            return true;
        }
        let message =
            format!("the files make more than {VALUES_MAX} values, counting again what is extended");
        self.reporter.error(Code::TooLarge, span, message, None);
        false
    }

    /// Counts a file of variables that is read once more.
    pub(super) fn spend_text(&mut self, text: &str, file: FileId) -> bool {
        self.spend(1 + text.len() / BYTES_PER_VALUE, Span { file, ..Span::default() })
    }

    /// Puts variables into a text, which stands at `span`; `text_start` is its own offset, where each byte of it is one of
    /// the file.
    pub(super) fn expand(
        &mut self,
        text: &str,
        span: Span,
        text_start: Option<usize>,
        scopes: &[&Scope],
    ) -> Option<String> {
        if self.expanded_bytes > EXPANDED_BYTES_MAX {
            return None;
        }
        let place = Place { span, text_start };
        let parts = match interpolate::parse(text) {
            Ok(parts) => parts,
            Err(malformed) => {
                let message = format!("this is no variable: {}", malformed.reason);
                let hint = interpolate::advice(malformed.reason);
                self.reporter.error(Code::BadTemplate, place.of(malformed.at, 2), message, hint);
                return None;
            }
        };
        let filled = interpolate::fill(&parts, &mut Expansion { loader: self, scopes, place });
        let Ok(filled) = filled else {
            let message =
                format!("the value is longer than {VALUE_BYTES_MAX} bytes once its variables are put in");
            self.reporter.error(Code::TooLarge, span, message, None);
            self.charge(VALUE_BYTES_MAX, span);
            return None;
        };
        self.charge(filled.len(), span).then_some(filled)
    }

    /// Counts bytes that variables put into values; the reporter learns where they became too many.
    pub(super) fn charge(&mut self, bytes: usize, span: Span) -> bool {
        let was_within = self.expanded_bytes <= EXPANDED_BYTES_MAX;
        self.expanded_bytes = self.expanded_bytes.saturating_add(bytes);
        if self.expanded_bytes <= EXPANDED_BYTES_MAX {
            return true;
        }
        if was_within {
            let message = format!("variables make the values longer than {EXPANDED_BYTES_MAX} bytes in all");
            self.reporter.error(Code::TooLarge, span, message, None);
        }
        false
    }

    /// Reads a file of variables: each is handed on in order, with its place, and with its value filled in from `scopes`,
    /// then from `earlier`, then from the lines before.
    pub(super) fn variables(
        &mut self,
        file: FileId,
        scopes: &[&Scope],
        earlier: &mut Scope,
    ) -> Vec<(String, Span)> {
        let text = self.reporter.text(file);
        if !self.spend_text(&text, file) {
            return Vec::new();
        }
        let entries = match dotenv::parse(&text) {
            Ok(entries) => entries,
            Err(malformed) => {
                let span = Span { file, start: malformed.at, end: malformed.at + 1 };
                self.reporter.error(Code::BadEnvFile, span, malformed.message, malformed.hint);
                return Vec::new();
            }
        };
        let mut names = Vec::with_capacity(entries.len());
        for entry in entries {
            let span = Span { file, start: entry.at, end: entry.at + entry.name.len() };
            let value = match entry.value {
                Setting::Verbatim(value) => Some(value),
                Setting::Inherited => {
                    let outer = scopes.iter().find_map(|scope| scope.get(entry.name));
                    let value = outer.or_else(|| earlier.get(entry.name)).cloned();
                    self.used.note(entry.name, span, Use::Optional, value.is_some());
                    value.map(|value| value.to_string())
                }
                Setting::Template(text) if !text.contains('$') => Some(text),
                Setting::Template(text) => {
                    // What is set outside wins within the file too, as it does for the project.
                    let all: Vec<&Scope> = scopes.iter().copied().chain([&*earlier]).collect();
                    self.expand(&text, span, None, &all)
                }
            };
            if let Some(value) = value {
                earlier.set(entry.name, &value);
                names.push((entry.name.to_owned(), span));
            }
        }
        names
    }
}

/// Where a text stands in its file.
#[derive(Clone, Copy)]
struct Place {
    span: Span,
    text_start: Option<usize>,
}

impl Place {
    /// The place of some bytes of the text; the whole where it is not written byte for byte.
    fn of(self, at: usize, length: usize) -> Span {
        match self.text_start {
            Some(start) => Span { start: start + at, end: start + at + length, ..self.span },
            None => self.span,
        }
    }
}

/// One text that is being filled in.
struct Expansion<'e, 'a> {
    loader: &'e mut Loader<'a>,
    /// The first that has a variable wins.
    scopes: &'e [&'e Scope],
    place: Place,
}

impl Expansion<'_, '_> {
    fn look_up(&self, name: &str) -> Option<&Rc<str>> {
        self.scopes.iter().find_map(|scope| scope.get(name))
    }
}

impl Source for Expansion<'_, '_> {
    fn value(&mut self, variable: &Variable<'_>) -> Option<Rc<str>> {
        let value = self.look_up(variable.name).cloned();
        let span = self.place.of(variable.at, variable.length);
        self.loader.used.note(variable.name, span, how(variable), value.is_some());
        let is_plain = matches!(variable.form, Form::Plain);
        if value.is_none() && is_plain && self.loader.warned.insert(variable.name.to_owned()) {
            let message = format!("the variable {} has no value; nothing is put in", quoted(variable.name));
            let hint = format!("give it with `--set {}=value`, or in a `.env` file", variable.name);
            self.loader.reporter.warning(Code::UnsetVariable, span, message, hint);
        }
        value
    }

    fn passed_over(&mut self, variable: &Variable<'_>) {
        let is_given = self.look_up(variable.name).is_some();
        let span = self.place.of(variable.at, variable.length);
        let how = match how(variable) {
            Use::Required => Use::Optional,
            other => other,
        };
        self.loader.used.note(variable.name, span, how, is_given);
    }

    fn missing(&mut self, variable: &Variable<'_>, message: &str) {
        let span = self.place.of(variable.at, variable.length);
        let mut text = format!("the variable {} has no value", quoted(variable.name));
        if !message.is_empty() {
            text.push_str(&format!(": {}", quoted(message)));
        }
        let hint = format!("give it with `--set {}=value`, or in a `.env` file", variable.name);
        self.loader.reporter.error(Code::MissingVariable, span, text, hint);
    }
}

/// How a place uses its variable.
fn how<'t>(variable: &Variable<'t>) -> Use<'t> {
    match &variable.form {
        Form::Plain | Form::Required(_) => Use::Required,
        Form::Default(word) => Use::Default(word.text),
        Form::Alternative(_) => Use::Optional,
    }
}
