//! What is wrong with a file, where, and what to do about it.
//!
//! Owns the public form of diagnostics, their codes and their collection. Rendering for a terminal is in `render`.
//! Must not know any key of the job file.

use std::collections::HashSet;
use std::fmt;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::document::{FileId, Lines, Span};

mod render;

/// Most diagnostics of one file: nobody reads more, and a hostile file must not make a report larger than itself.
pub const DIAGNOSTICS_MAX: usize = 50;

/// Longest part of a line kept on either side of a mark, in characters: any line written by hand is kept whole.
const EXCERPT_CHARS_MAX: usize = 1000;

/// How much a diagnostic matters; what matters most is least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted; the person probably meant something else.
    Warning,
    /// The file is accepted; something of it was decided, or has no effect.
    Note,
}

impl Severity {
    /// The word shown to people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What kind of mistake it is. The text of a code is stable: programs may depend on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its stable text.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// The file is not UTF-8.
    Encoding = "encoding",
    /// The text is not YAML.
    Syntax = "syntax",
    /// The file, or what its aliases expand to, is too large.
    TooLarge = "too-large",
    /// Values are nested too deep.
    TooDeep = "too-deep",
    /// The file holds nothing.
    Empty = "empty",
    /// The file holds more than one document.
    SeveralDocuments = "several-documents",
    /// A YAML tag that means nothing here.
    Tag = "tag",
    /// A key that is empty or not text.
    BadKey = "bad-key",
    /// A key that stands twice in one mapping.
    DuplicateKey = "duplicate-key",
    /// A key that lith does not know.
    UnknownKey = "unknown-key",
    /// A key of something that lith does not do.
    UnsupportedKey = "unsupported-key",
    /// A key that belongs to another level.
    MisplacedKey = "misplaced-key",
    /// A key that must be there.
    MissingKey = "missing-key",
    /// Two keys that exclude each other.
    ConflictingKeys = "conflicting-keys",
    /// A list where text is wanted, and the like.
    WrongType = "wrong-type",
    /// A name that is no DNS label.
    BadName = "bad-name",
    /// More groups, tasks or ports than allowed.
    TooMany = "too-many",
    /// A quantity out of its range.
    OutOfRange = "out-of-range",
    /// Text that is not a number.
    BadNumber = "bad-number",
    /// Text that is not a size.
    BadSize = "bad-size",
    /// Text that is not a bandwidth, or one out of its range.
    BadBandwidth = "bad-bandwidth",
    /// Text that is not a duration.
    BadDuration = "bad-duration",
    /// Text that is not a port.
    BadPort = "bad-port",
    /// Text that does not publish a port.
    BadPublish = "bad-publish",
    /// Two published ports that exclude each other.
    PortCollision = "port-collision",
    /// A command that cannot be split into words, or that no process can be given.
    BadCommand = "bad-command",
    /// An environment variable that no process can be given.
    BadEnv = "bad-env",
    /// Text that is not a user.
    BadUser = "bad-user",
    /// A path that is not absolute, or not a path.
    BadPath = "bad-path",
    /// Text that is not a signal.
    BadSignal = "bad-signal",
    /// Text that is not a restart policy.
    BadRestart = "bad-restart",
    /// Text that is not an image reference.
    BadImage = "bad-image",
    /// A word that is none of those that may stand there.
    BadWord = "bad-word",
    /// Text that no program can be given.
    BadText = "bad-text",
    /// Text that mounts nothing, or is no file system in memory.
    BadMount = "bad-mount",
    /// Text that is not a device.
    BadDevice = "bad-device",
    /// Text that grants no access, or names no host or address.
    BadAccess = "bad-access",
    /// Text that asks for nobody's health.
    BadHealth = "bad-health",
    /// Text that is not a limit of a process, or not a setting of a kernel.
    BadLimit = "bad-limit",
    /// Text that is not a schedule.
    BadSchedule = "bad-schedule",
    /// Text that is not a time zone.
    BadTimezone = "bad-timezone",
    /// Text that is not permissions.
    BadMode = "bad-mode",
    /// A variable that has no value, or a `${…}` that is not one.
    BadVariable = "bad-variable",
    /// A line of a file of variables that is none.
    BadEnvFile = "bad-env-file",
    /// A file or folder that the job needs, and that cannot be read or is too large.
    BadFile = "bad-file",
    /// A name of something that the job does not have.
    UnknownReference = "unknown-reference",
    /// Two things in one place of a task's file system.
    MountCollision = "mount-collision",
    /// A disk that several tasks write to, and that is not shared.
    SharedDisk = "shared-disk",
    /// Tasks that wait for each other.
    Circle = "circle",
    /// The same thing said twice.
    Repeated = "repeated",
    /// Shell syntax in a command that no shell reads.
    ShellSyntax = "shell-syntax",
    /// A service of a Compose file that is built, and names no image.
    BuildWithoutImage = "build-without-image",
    /// The network of the node itself, with no port listed that is to be reached.
    HostNetwork = "host-network",
    /// The network of another container.
    SharedNetwork = "shared-network",
    /// Processes or memory of the node, or of another container.
    SharedNamespace = "shared-namespace",
    /// Mounts that travel between the node and a container.
    MountPropagation = "mount-propagation",
    /// The socket of a container engine.
    EngineSocket = "engine-socket",
    /// The node's own system: `/`, `/proc`, `/sys`, `/dev`, `/run`.
    HostSystem = "host-system",
    /// A device of the node.
    HostDevice = "host-device",
    /// All mounts of another container.
    VolumesFrom = "volumes-from",
    /// A mount of a kind that lith does not have.
    MountKind = "mount-kind",
    /// A volume that the file does not declare.
    UndeclaredVolume = "undeclared-volume",
    /// A volume that was made outside of the file.
    ExternalVolume = "external-volume",
    /// A config that was made outside of the file.
    ExternalConfig = "external-config",
    /// A driver of volumes that lith does not have.
    VolumeDriver = "volume-driver",
    /// A driver of networks that lith does not have.
    NetworkDriver = "network-driver",
    /// A volume of several services, one of which has no or several instances.
    SharedVolume = "shared-volume",
    /// A variable that is needed, and not given.
    MissingVariable = "missing-variable",
    /// Text that is not a host name or an address.
    BadHost = "bad-host",
    /// A `$` that starts no variable.
    BadTemplate = "bad-template",
    /// A variable without a value, for which nothing is put in.
    UnsetVariable = "unset-variable",
    /// Something that the file leaves open was decided.
    Decided = "decided",
    /// Something has no effect.
    NoEffect = "no-effect",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong, and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Whether the file is refused because of it.
    pub severity: Severity,
    /// What kind of mistake it is.
    pub code: Code,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// Name of the file, as the reader was given it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters concerned in this line, at least 1.
    pub length: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Everything found in one file, in order of position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// What was found.
    pub list: Vec<Diagnostic>,
    /// How many more there are than the list may hold.
    pub omitted: usize,
    /// For each diagnostic what is shown of its line.
    excerpts: Vec<Excerpt>,
}

/// The part of a line around a mark: all of a line written by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Excerpt {
    text: String,
    /// Characters of `text` before the mark.
    mark: usize,
}

impl Diagnostics {
    /// Whether the file is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// What to do about the first error.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.list.iter().find(|diagnostic| diagnostic.severity == Severity::Error)?.hint.clone()
    }

    /// For a terminal: each diagnostic with its line and a caret below it. Without colour it reads as well.
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        render::render(self, colour, render::Notes::Whole)
    }

    /// The same with a line for each note, for whoever has read them before.
    #[must_use]
    pub fn render_brief(&self, colour: Colour) -> String {
        render::render(self, colour, render::Notes::Brief)
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.list.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
        match (errors.clone().next(), errors.count() + self.omitted) {
            (None, _) => f.write_str("nothing is wrong"),
            (Some(first), 1) => first.fmt(f),
            (Some(first), count) => write!(f, "{first} (and {} more)", count - 1),
        }
    }
}

/// Whether rendered text carries terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// ANSI escape sequences, for a terminal.
    Ansi,
    /// Text alone, for files and pipes.
    None,
}

/// Collects what is found, in any order.
#[derive(Default)]
pub(crate) struct Reporter {
    /// Each file.
    sources: Vec<Source>,
    found: Vec<Finding>,
    seen: HashSet<(Code, Span)>,
    /// Values about which nothing more is said.
    muted: HashSet<Span>,
    /// How many of those found are no errors.
    others: usize,
    omitted: usize,
    has_errors: bool,
}

struct Source {
    name: String,
    text: Rc<str>,
    lines: Lines,
}

struct Finding {
    severity: Severity,
    code: Code,
    span: Span,
    message: String,
    hint: Option<String>,
}

impl Reporter {
    /// Makes a file known, by the name that diagnostics repeat.
    pub(crate) fn add_file(&mut self, name: &str, text: &str) -> FileId {
        let id = u16::try_from(self.sources.len()).expect("files are bounded long before");
        self.sources.push(Source { name: name.to_owned(), text: Rc::from(text), lines: Lines::of(text) });
        FileId(id)
    }

    /// What a file holds.
    pub(crate) fn text(&self, file: FileId) -> Rc<str> {
        Rc::clone(&self.sources[usize::from(file.0)].text)
    }

    /// The name of a file.
    pub(crate) fn file_name(&self, file: FileId) -> &str {
        &self.sources[usize::from(file.0)].name
    }

    /// Line and column of the start of a place, from 1.
    pub(crate) fn line_and_column(&self, span: Span) -> (usize, usize) {
        let source = &self.sources[usize::from(span.file.0)];
        let place = Place::of(span, &source.text, &source.lines);
        (place.line, place.column)
    }

    /// How many files are known.
    pub(crate) fn files(&self) -> usize {
        self.sources.len()
    }

    /// Notes a mistake for which the file is refused. The same mistake at the same place, met again through an alias, is
    /// noted once.
    pub(crate) fn error(&mut self, code: Code, span: Span, message: impl Into<String>, hint: impl Hint) {
        self.note(Finding {
            severity: Severity::Error,
            code,
            span,
            message: message.into(),
            hint: hint.text(),
        });
    }

    /// Notes something that is probably not meant.
    pub(crate) fn warning(&mut self, code: Code, span: Span, message: impl Into<String>, hint: impl Hint) {
        self.note(Finding {
            severity: Severity::Warning,
            code,
            span,
            message: message.into(),
            hint: hint.text(),
        });
    }

    /// Notes something that was decided, or has no effect.
    pub(crate) fn remark(&mut self, code: Code, span: Span, message: impl Into<String>, hint: impl Hint) {
        self.note(Finding {
            severity: Severity::Note,
            code,
            span,
            message: message.into(),
            hint: hint.text(),
        });
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.has_errors
    }

    /// What is wrong with a value has been told: nothing more is said about it, for it would be about what the value is not.
    pub(crate) fn mute(&mut self, span: Span) {
        self.muted.insert(span);
    }

    /// Whether nothing more is kept: what only words a further mistake can be left undone.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= COLLECTED_MAX
    }

    /// Where something stands, for a hint about something else that stands at `from`: `line 3`, with the file's name when
    /// it is another one.
    pub(crate) fn place(&self, span: Span, from: Span) -> String {
        let source = &self.sources[usize::from(span.file.0)];
        let (line, _) = source.lines.locate(span.start.min(source.text.len()));
        if span.file == from.file {
            format!("line {line}")
        } else {
            format!("line {line} of {}", source.name)
        }
    }

    fn note(&mut self, finding: Finding) {
        let is_error = finding.severity == Severity::Error;
        self.has_errors |= is_error;
        if self.muted.contains(&finding.span) {
            return;
        }
        if self.found.len() >= COLLECTED_MAX {
            self.omitted += 1;
            // A file is refused only with a reason: an error takes the place of what is none.
            if is_error && self.others > 0 {
                let place = self.found.iter().rposition(|other| other.severity != Severity::Error);
                self.found[place.expect("the others were counted")] = finding;
                self.others -= 1;
            }
        } else if self.seen.insert((finding.code, finding.span)) {
            self.others += usize::from(!is_error);
            self.found.push(finding);
        }
    }

    /// Everything found, with lines and columns.
    pub(crate) fn finish(mut self) -> Diagnostics {
        let kept = self.found.len().min(DIAGNOSTICS_MAX);
        // Where there is more than anyone reads, what matters most is shown.
        self.found.sort_by_key(|finding| (finding.severity, finding.span));
        self.found[..kept].sort_by_key(|finding| finding.span);
        let omitted = self.omitted + self.found.len() - kept;
        let mut diagnostics =
            Diagnostics { list: Vec::with_capacity(kept), omitted, excerpts: Vec::with_capacity(kept) };
        for finding in self.found.drain(..kept) {
            let source = &self.sources[usize::from(finding.span.file.0)];
            let place = Place::of(finding.span, &source.text, &source.lines);
            diagnostics.list.push(Diagnostic {
                severity: finding.severity,
                code: finding.code,
                message: finding.message,
                hint: finding.hint,
                file: source.name.clone(),
                line: place.line,
                column: place.column,
                length: place.length,
            });
            diagnostics.excerpts.push(place.excerpt);
        }
        diagnostics
    }
}

/// Most findings held before they are sorted: enough that the first ones of the file are among them, whatever the order
/// in which the layers look at it.
const COLLECTED_MAX: usize = 20 * DIAGNOSTICS_MAX;

/// A hint, or none.
pub(crate) trait Hint {
    fn text(self) -> Option<String>;
}

impl Hint for Option<String> {
    fn text(self) -> Option<String> {
        self
    }
}

impl Hint for String {
    fn text(self) -> Option<String> {
        Some(self)
    }
}

impl Hint for &str {
    fn text(self) -> Option<String> {
        Some(self.to_owned())
    }
}

/// A span as a person counts it.
struct Place {
    line: usize,
    column: usize,
    length: usize,
    excerpt: Excerpt,
}

impl Place {
    fn of(span: Span, text: &str, lines: &Lines) -> Self {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.floor_char_boundary(span.end.clamp(start, text.len()));
        let (line, line_start) = lines.locate(start);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let shown = text[line_start..line_end].trim_end_matches('\r');
        let start = start.min(line_start + shown.len());
        let end = end.clamp(start, line_start + shown.len());
        Self {
            line,
            column: text[line_start..start].chars().count() + 1,
            length: text[start..end].chars().count().max(1),
            excerpt: Excerpt::around(&text[line_start..start], &text[start..line_start + shown.len()]),
        }
    }
}

impl Excerpt {
    /// Cuts what stands before and after the start of a mark: fifty whole copies of a file that is one long line would
    /// be a large report.
    fn around(before: &str, after: &str) -> Self {
        let head: Vec<char> = before.chars().rev().take(EXCERPT_CHARS_MAX).collect();
        let mark = head.len();
        let text = head.into_iter().rev().chain(after.chars().take(EXCERPT_CHARS_MAX)).collect();
        Self { text, mark }
    }
}
