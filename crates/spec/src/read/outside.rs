//! What a reading takes from outside its files: other files, and variables.
//!
//! Owns the bounds on it, and the words when something is not there. Must not open anything: it asks the caller's `Files`.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use lith_core::job::file::{CONTENT_BYTES_MAX, CONTENTS_BYTES_MAX, Content};
use lith_core::value::quoted;

use crate::diagnostic::{Code, Reporter};
use crate::document::{FileId, Span};
use crate::dotenv::{self, Setting};
use crate::read::add_text;
use crate::source::{FILES_MAX, Files, PathKind, Variables, normal};
use crate::value::Refusal;
use crate::variables::{self, Scope};

/// Longest file of variables: what Linux gives a process at most, all its variables and arguments together.
const ENV_FILE_BYTES_MAX: usize = 2 << 20;
/// Most bytes that files of variables add to all tasks together: several tasks may name one file.
const ENV_BYTES_MAX: usize = 4 << 20;
/// Name of the file of variables beside a job file.
const BESIDE: &str = ".env";

/// Names and values of a file of variables, in its order.
type Pairs = Vec<(String, String)>;

/// Other files and variables, and what of their bounds is used up.
pub(super) struct Outside<'a> {
    files: &'a dyn Files,
    scope: Scope,
    opened: usize,
    content_bytes: usize,
    env_bytes: usize,
    /// Files of variables that were read; `None` for one that could not be.
    env_files: HashMap<String, Option<Rc<Pairs>>>,
}

impl<'a> Outside<'a> {
    /// Reads the files of variables; `opened` files were named.
    pub(super) fn new(
        files: &'a dyn Files,
        variables: &Variables,
        opened: usize,
        reporter: &mut Reporter,
    ) -> Self {
        let mut outside = Self {
            files,
            scope: Scope::new(variables.set.clone()),
            opened: opened.saturating_add(variables.env_files.len()),
            content_bytes: 0,
            env_bytes: 0,
            env_files: HashMap::new(),
        };
        let mut values = BTreeMap::new();
        if outside.opened > FILES_MAX {
            let message = format!("the job needs more than {FILES_MAX} files");
            reporter.error(Code::TooMany, Span::default(), message, None);
        }
        for file in variables.env_files.iter().take(FILES_MAX) {
            values.extend(outside.variables_of(&file.path, &file.bytes, reporter).unwrap_or_default());
        }
        if variables.env_files.is_empty() && files.kind(BESIDE) == PathKind::File {
            match files.read(BESIDE, ENV_FILE_BYTES_MAX) {
                Ok(bytes) => {
                    values.extend(outside.variables_of(BESIDE, &bytes, reporter).unwrap_or_default());
                }
                Err(why) => {
                    let file = reporter.add_file(BESIDE, "");
                    let message = format!("the file {} cannot be read: {why}", quoted(BESIDE));
                    reporter.error(Code::BadFile, Span { file, ..Span::default() }, message, None);
                }
            }
        }
        outside.scope.add_defaults(values);
        outside
    }

    /// The variables that values are filled with.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The content of a secret or config that stands in a file.
    pub(super) fn content(&mut self, path: &str) -> Result<Content, Refusal> {
        let refusal = |why: &str| {
            Refusal::new(Code::BadFile, format!("the file {} cannot be read: {why}", quoted(path)))
        };
        if path.is_empty() || path.contains('\0') {
            return Err(refusal("this is not a path"));
        }
        if self.files.kind(&normal(path)) == PathKind::Folder {
            return Err(refusal("it is a folder"));
        }
        self.open()?;
        let bytes = self.files.read(&normal(path), CONTENT_BYTES_MAX).map_err(|why| refusal(&why))?;
        self.charged(&format!("the file {}", quoted(path)), bytes)
    }

    /// The content of a secret or config that stands in the job file.
    pub(super) fn inline(&mut self, text: &str) -> Result<Content, Refusal> {
        self.charged("the content", text.as_bytes().to_vec())
    }

    /// Counts a content, which stands in `place`.
    fn charged(&mut self, place: &str, bytes: Vec<u8>) -> Result<Content, Refusal> {
        if bytes.len() > CONTENT_BYTES_MAX {
            let message = format!("{place} holds {} bytes; the limit is {CONTENT_BYTES_MAX}", bytes.len());
            return Err(Refusal::new(Code::TooLarge, message).hint("what is larger belongs on a volume"));
        }
        self.content_bytes = self.content_bytes.saturating_add(bytes.len());
        if self.content_bytes > CONTENTS_BYTES_MAX {
            let message =
                format!("the secrets and configs of the job hold more than {CONTENTS_BYTES_MAX} bytes");
            return Err(Refusal::new(Code::TooLarge, message).hint("what is larger belongs on a volume"));
        }
        Ok(Content(bytes.into()))
    }

    /// The content of a secret or config that stands in a variable.
    pub(super) fn variable(&mut self, name: &str) -> Result<Content, Refusal> {
        match self.scope.get(name) {
            Some(value) => {
                let bytes = value.as_bytes().to_vec();
                self.charged(&format!("the variable {}", quoted(name)), bytes)
            }
            None => Err(variables::missing(name)),
        }
    }

    /// Whether a folder stands there that a volume can start with.
    pub(super) fn folder(&self, path: &str) -> Result<String, Refusal> {
        let refusal = |why: &str| {
            Refusal::new(Code::BadFile, format!("the folder {} cannot be imported: {why}", quoted(path)))
        };
        if path.is_empty() || path.contains('\0') {
            return Err(refusal("this is not a path"));
        }
        match self.files.kind(&normal(path)) {
            PathKind::Folder => Ok(path.to_owned()),
            PathKind::File => {
                Err(refusal("it is a file")
                    .hint("a file alone is a config: `configs: { name: { file: … } }`"))
            }
            PathKind::Absent => Err(refusal("it is not there").hint(
                "the path starts at the folder of the job file; once the volume is made, `import` can be removed",
            )),
        }
    }

    /// The variables of an `env_file` of a task; `None`, with its reason, when it cannot be read.
    pub(super) fn env_file(&mut self, path: &str, span: Span, reporter: &mut Reporter) -> Option<Rc<Pairs>> {
        let normal = normal(path);
        if !self.env_files.contains_key(&normal) {
            let read = self.read_env_file(path, &normal, span, reporter).map(Rc::new);
            self.env_files.insert(normal.clone(), read);
        }
        let variables = self.env_files.get(&normal).cloned().flatten()?;
        let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.env_bytes = self.env_bytes.saturating_add(bytes);
        if self.env_bytes > ENV_BYTES_MAX {
            let message = format!("files of variables give the tasks more than {ENV_BYTES_MAX} bytes");
            reporter.error(Code::TooLarge, span, message, "what is large belongs into a config");
            return None;
        }
        Some(variables)
    }

    fn read_env_file(
        &mut self,
        path: &str,
        normal: &str,
        span: Span,
        reporter: &mut Reporter,
    ) -> Option<Pairs> {
        let read = self.open().and_then(|()| {
            self.files.read(normal, ENV_FILE_BYTES_MAX).map_err(|why| {
                let message = format!("the file {} cannot be read: {why}", quoted(path));
                Refusal::new(Code::BadFile, message).hint("the path starts at the folder of the job file")
            })
        });
        match read {
            Ok(bytes) => self.variables_of(path, &bytes, reporter),
            Err(refusal) => {
                reporter.error(refusal.code, span, refusal.message, refusal.hint);
                None
            }
        }
    }

    /// Counts a file that is about to be read.
    fn open(&mut self) -> Result<(), Refusal> {
        self.opened = self.opened.saturating_add(1);
        if self.opened > FILES_MAX {
            return Err(Refusal::new(Code::TooMany, format!("the job needs more than {FILES_MAX} files")));
        }
        Ok(())
    }

    /// The variables of a file, in its order; one may use those before it. `None` when something is wrong with it.
    fn variables_of(&self, name: &str, bytes: &[u8], reporter: &mut Reporter) -> Option<Pairs> {
        let file = add_text(name, bytes, reporter)?;
        let text = reporter.text(file);
        let at = |start: usize, length: usize| Span { file, start, end: start.saturating_add(length) };
        if bytes.len() > ENV_FILE_BYTES_MAX {
            let message = format!("the file holds {} bytes; the limit is {ENV_FILE_BYTES_MAX}", bytes.len());
            reporter.error(Code::TooLarge, at(0, 0), message, None);
            return None;
        }
        let entries = match dotenv::parse(&text) {
            Ok(entries) => entries,
            Err(dotenv::Malformed { at: start, message, hint }) => {
                reporter.error(Code::BadEnvFile, at(start, 1), message, hint);
                return None;
            }
        };
        self.filled(entries, file, reporter)
    }

    fn filled(
        &self,
        entries: Vec<dotenv::Entry<'_>>,
        file: FileId,
        reporter: &mut Reporter,
    ) -> Option<Pairs> {
        let mut scope = self.scope.within();
        let mut variables = Vec::with_capacity(entries.len());
        let mut bytes = 0usize;
        // Names that start with a digit can be given to no process, and are passed over.
        let is_name = |entry: &dotenv::Entry<'_>| !entry.name.starts_with(|c: char| c.is_ascii_digit());
        for entry in entries.into_iter().filter(is_name) {
            let span = Span { file, start: entry.at, end: entry.at + entry.name.len() };
            let filled = match entry.value {
                Setting::Verbatim(text) => Ok(text),
                Setting::Template(text) => variables::fill(&text, &scope).map_err(|fault| fault.refusal),
                Setting::Inherited => match scope.get(entry.name) {
                    Some(value) => Ok(value.to_owned()),
                    None => Err(variables::missing(entry.name)),
                },
            };
            match filled {
                Ok(value) => {
                    bytes = bytes.saturating_add(value.len());
                    scope.set(entry.name, &value);
                    variables.push((entry.name.to_owned(), value));
                }
                Err(refusal) => {
                    reporter.error(refusal.code, span, refusal.message, refusal.hint);
                    return None;
                }
            }
            if bytes > ENV_BYTES_MAX {
                let message = format!("the values of this file take more than {ENV_BYTES_MAX} bytes");
                reporter.error(Code::TooLarge, span, message, None);
                return None;
            }
        }
        Some(variables)
    }
}
