//! Secrets and configs: where their content comes from, and where tasks find them.
//!
//! Owns both ends. Contents are read while the file is read, so that a missing one is a mistake with a place.

use std::collections::BTreeMap;

use lith_core::job::MEMBERS_MAX;
use lith_core::job::file::{FileMount, FileSource, SECRETS_FOLDER};
use lith_core::name::FileName;
use lith_core::value::{mount, quoted};

use super::fields::{self, Fields, accepted};
use super::outside::Outside;
use super::{mapping, members, name};
use crate::diagnostic::{Code, Reporter};
use crate::document::{Entry, Kind, Node, Span};
use crate::keys::Level;
use crate::value::{self, coded, number};

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Secret,
    Config,
}

impl FileKind {
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    /// The key that declares and uses them.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Config => "configs",
        }
    }

    fn level(self) -> Level {
        match self {
            Self::Secret => Level::Secret,
            Self::Config => Level::Config,
        }
    }

    /// Where a task finds one that does not say.
    fn target(self, name: &FileName) -> String {
        match self {
            Self::Secret => format!("{SECRETS_FOLDER}/{name}"),
            Self::Config => format!("/{name}"),
        }
    }
}

/// What the job declares, by name; those that are wrong in themselves are left out.
pub(super) fn sources(
    kind: FileKind,
    entry: &Entry,
    outside: &mut Outside<'_>,
    reporter: &mut Reporter,
) -> BTreeMap<FileName, FileSource> {
    let mut sources = BTreeMap::new();
    if let (FileKind::Secret, Kind::List(items)) = (kind, &entry.value.kind) {
        for item in items.iter().take(MEMBERS_MAX) {
            let Some(text) = fields::item_text(entry, item, reporter) else { continue };
            let Some(name) = name(text, item.span, reporter) else { continue };
            if sources.insert(name, FileSource::Store).is_some() {
                reporter.warning(Code::Repeated, item.span, "this stands in `secrets` already", None);
            }
        }
        if let Some(beyond) = items.get(MEMBERS_MAX) {
            let message = format!("there are {} secrets; the limit is {MEMBERS_MAX}", items.len());
            reporter.error(Code::TooMany, beyond.span, message, "split them into several jobs");
        }
        return sources;
    }
    if let (FileKind::Config, Kind::List(_)) = (kind, &entry.value.kind) {
        let message = "`configs` of a job says of each where it comes from; this is a list";
        let hint = "write `configs: { app.conf: { file: ./app.conf } }`";
        reporter.error(Code::WrongType, entry.key.span, message, hint);
        return sources;
    }
    for entry in members(entry, kind.noun(), MEMBERS_MAX, reporter).unwrap_or(&[]) {
        let name = name(&entry.key.text, entry.key.span, reporter);
        let source = source(kind, entry, outside, reporter);
        sources.extend(name.zip(source));
    }
    sources
}

fn source(
    kind: FileKind,
    entry: &Entry,
    outside: &mut Outside<'_>,
    reporter: &mut Reporter,
) -> Option<FileSource> {
    if matches!((kind, &entry.value.kind), (FileKind::Secret, Kind::Null)) {
        return Some(FileSource::Store);
    }
    let noun = kind.noun();
    let want = format!("a {noun} is a mapping with `file`, `variable` or `content`");
    let entries = mapping(&entry.key, &entry.value, &want, reporter)?;
    let mut fields = Fields::new(kind.level(), entries, reporter);
    let given = ["file", "variable", "content"].map(|key| fields.take(key));
    let mut given = given.into_iter().flatten();
    let Some(from) = given.next() else {
        if entries.is_empty() || entries.iter().all(|entry| kind.level().has(&entry.key.text)) {
            let message = format!("the {noun} {} has no content", quoted(&entry.key.text));
            let hint = "give it `file: ./path`, `variable: NAME` or `content: text`";
            reporter.error(Code::MissingKey, entry.key.span, message, hint);
        }
        return None;
    };
    if let Some(second) = given.next() {
        let message = format!("a {noun} comes from one place; `{}` names another", second.key.text);
        let hint = format!("keep `{}` or `{}`", from.key.text, second.key.text);
        reporter.error(Code::ConflictingKeys, second.key.span, message, hint);
        return None;
    }
    let text = fields::text(from, reporter)?;
    let source = match &*from.key.text {
        "file" => outside.content(text).map(|content| FileSource::File { path: text.to_owned(), content }),
        "variable" => {
            outside.variable(text).map(|content| FileSource::Variable { name: text.to_owned(), content })
        }
        _ => outside.inline(text).map(FileSource::Inline),
    };
    accepted(source, &from.value, reporter)
}

/// Secrets or configs that a task uses, in order of target, each with its place.
pub(super) fn uses(
    kind: FileKind,
    fields: &mut Fields<'_>,
    reporter: &mut Reporter,
) -> Vec<(FileMount, Span)> {
    let Some(entry) = fields.take(kind.key()) else { return Vec::new() };
    let items = match &entry.value.kind {
        Kind::List(items) => items.as_slice(),
        Kind::Text(_) => std::slice::from_ref(&entry.value),
        Kind::Null | Kind::Map(_) => {
            let message = format!("`{}` of a task takes a list; this is a mapping", entry.key.text);
            let hint = format!("list what it uses, as in `{}: [ name ]`", entry.key.text);
            reporter.error(Code::WrongType, entry.key.span, message, hint);
            return Vec::new();
        }
    };
    let mut uses = Vec::with_capacity(items.len());
    for item in items {
        let used = match &item.kind {
            Kind::Map(entries) => long_use(kind, item, entries, reporter),
            Kind::Text(text) => short_use(kind, text, item.span, reporter),
            Kind::Null | Kind::List(_) => {
                fields::item_text(entry, item, reporter);
                None
            }
        };
        if let Some(used) = used {
            uses.push((used, &**item));
        }
    }
    let uses = fields::limited(kind.key(), uses, MEMBERS_MAX, reporter);
    let mut uses: Vec<(FileMount, Span)> = uses.into_iter().map(|(used, node)| (used, node.span)).collect();
    uses.sort_by(|a, b| a.0.target.cmp(&b.0.target));
    uses
}

/// `name`, `name:/path`.
fn short_use(kind: FileKind, text: &str, span: Span, reporter: &mut Reporter) -> Option<FileMount> {
    let (source, target) = match text.split_once(':') {
        Some((source, target)) => (source, Some(target)),
        None => (text, None),
    };
    let source: FileName = name(source, span, reporter)?;
    let target = match target.map(coded(Code::BadPath, mount::place)) {
        None => kind.target(&source),
        Some(Ok(target)) => target,
        Some(Err(refusal)) => {
            reporter.error(refusal.code, span, refusal.message, refusal.hint);
            return None;
        }
    };
    Some(FileMount { source, target, uid: None, gid: None, mode: None, is_writable: false })
}

fn long_use(kind: FileKind, item: &Node, entries: &[Entry], reporter: &mut Reporter) -> Option<FileMount> {
    let mut fields = Fields::new(Level::FileUse, entries, reporter);
    let id = |text: &str| number::whole(text, 0, u32::MAX - 1);
    let target = fields.parse("target", reporter, coded(Code::BadPath, mount::place));
    let uid = fields.parse("uid", reporter, id);
    let gid = fields.parse("gid", reporter, id);
    let mode = fields.parse("mode", reporter, coded(Code::BadMode, mount::mode));
    let is_writable = fields.parse("writable", reporter, value::switch).unwrap_or(false);
    let Some(source) = fields.take("source") else {
        let message = format!("this names no {}", kind.noun());
        let hint = format!("add `source:` with the name of a {} of the job", kind.noun());
        reporter.error(Code::MissingKey, item.span, message, hint);
        return None;
    };
    let source: FileName = name(fields::text(source, reporter)?, source.value.span, reporter)?;
    let target = target.unwrap_or_else(|| kind.target(&source));
    Some(FileMount { source, target, uid, gid, mode, is_writable })
}
