//! What services share: networks, volumes, secrets and configs of the project.
//!
//! Owns their forms, and reads the files of secrets and configs. Must not judge what lith can honour.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lith_core::job::file::{CONTENT_BYTES_MAX, CONTENTS_BYTES_MAX, Content};
use lith_core::value::quoted;

use super::reader::{Reader, text};
use super::tree::{Data, Member, Value};
use super::variables::Use;
use crate::compose::project::{At, FileObject, FileObjectSource, Network, Volume};
use crate::diagnostic::Code;
use crate::source::FILES_MAX;

/// Secrets, or configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Secret,
    Config,
}

impl FileKind {
    fn noun(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    /// Keys of which one says where the content is.
    fn sources(self) -> &'static [&'static str] {
        match self {
            Self::Secret => &["file", "environment"],
            Self::Config => &["file", "environment", "content"],
        }
    }
}

/// Contents of files that were read, by path.
#[derive(Debug, Default)]
pub(super) struct Contents {
    by_path: HashMap<String, Result<Content, String>>,
    bytes: usize,
}

impl Reader<'_, '_> {
    pub(super) fn networks(&mut self, root: &Value) -> BTreeMap<String, Network> {
        let mut found = BTreeMap::new();
        for Member { key, value } in root.given("networks").map(Value::members).unwrap_or_default() {
            // A network has no name of its own here, but two that differ are a mistake.
            self.name_of(value);
            let network = Network {
                span: key.span,
                is_internal: self.switch(value.given("internal")).is_some_and(|internal| internal.value),
                is_external: self.is_external(value),
                driver: text(value.given("driver")),
            };
            found.insert(key.text.to_string(), network);
        }
        found
    }

    pub(super) fn volumes_of_project(&mut self, root: &Value) -> BTreeMap<String, Volume> {
        let mut found = BTreeMap::new();
        for Member { key, value } in root.given("volumes").map(Value::members).unwrap_or_default() {
            let is_external = self.is_external(value);
            let beside = |member: &&Member| {
                !matches!(&*member.key.text, "name" | "external") && !member.key.text.starts_with("x-")
            };
            if is_external && let Some(other) = value.members().iter().find(beside) {
                let message = format!("a volume from outside cannot have {}", quoted(&other.key.text));
                let hint = "remove it, or remove `external`";
                self.loader.reporter.error(Code::ConflictingKeys, other.key.span, message, hint);
            }
            let options = value.given("driver_opts").map(Value::members).unwrap_or_default().iter();
            let options = options.filter_map(|option| {
                let text = option.value.text()?.to_owned();
                Some((option.key.text.to_string(), At::new(text, option.value.span)))
            });
            let volume = Volume {
                span: key.span,
                name: self.name_of(value),
                is_external,
                driver: text(value.given("driver")),
                driver_opts: options.collect(),
            };
            found.insert(key.text.to_string(), volume);
        }
        found
    }

    /// `external`, as a switch or as a mapping with a name.
    fn is_external(&mut self, value: &Value) -> bool {
        match value.given("external") {
            Some(external) if external.text().is_none() => !external.items().is_empty() || is_map(external),
            external => self.switch(external).is_some_and(|external| external.value),
        }
    }

    /// `name`, or that of `external`.
    fn name_of(&mut self, value: &Value) -> Option<String> {
        let name = text(value.given("name"));
        let outer = text(value.given("external").and_then(|external| external.given("name")));
        if let (Some(name), Some(outer)) = (&name, &outer)
            && name.value != outer.value
        {
            let message =
                format!("this is {} outside, and `name` says {}", quoted(&outer.value), quoted(&name.value));
            let hint = "keep `name` alone, and write `external: true`";
            self.loader.reporter.error(Code::ConflictingKeys, outer.span, message, hint);
        }
        name.or(outer).map(|name| name.value)
    }

    pub(super) fn file_objects(
        &mut self,
        root: &Value,
        kind: FileKind,
        contents: &mut Contents,
    ) -> BTreeMap<String, FileObject> {
        let section = match kind {
            FileKind::Secret => "secrets",
            FileKind::Config => "configs",
        };
        let mut found = BTreeMap::new();
        for member in root.given(section).map(Value::members).unwrap_or_default() {
            if let Some(source) = self.file_source(member, kind, contents) {
                found.insert(member.key.text.to_string(), FileObject { span: member.key.span, source });
            }
        }
        found
    }

    fn file_source(
        &mut self,
        member: &Member,
        kind: FileKind,
        contents: &mut Contents,
    ) -> Option<FileObjectSource> {
        let Member { key, value } = member;
        let given: Vec<&Member> = kind.sources().iter().filter_map(|source| value.member(source)).collect();
        let noun = kind.noun();
        if let [first, second, ..] = given[..] {
            let message =
                format!("`{}` and `{}` of a {noun} exclude each other", first.key.text, second.key.text);
            self.loader.reporter.error(Code::ConflictingKeys, second.key.span, message, "keep one of them");
            return None;
        }
        let is_external = self.is_external(value);
        let name = self.name_of(value);
        if is_external {
            return Some(FileObjectSource::External { name });
        }
        let Some(source) = given.first() else {
            let sources: Vec<String> = kind.sources().iter().map(|source| format!("`{source}`")).collect();
            let message = format!("the {noun} {} has no content", quoted(&key.text));
            let hint = format!("say where it is, with one of {}", sources.join(", "));
            self.loader.reporter.error(Code::MissingKey, key.span, message, hint);
            return None;
        };
        let text = source.value.text()?;
        Some(match &*source.key.text {
            "file" => {
                let path = self.loader.resolve(text, source.value.span);
                let content = self.content(&path, contents);
                FileObjectSource::File { path, content }
            }
            "environment" => {
                let value = self.scope.get(text);
                let value = value.filter(|value| self.loader.charge(value.len(), source.value.span));
                let content = value.map(|value| Content(Arc::from(value.as_bytes())));
                self.loader.used.note(text, source.value.span, Use::Required, content.is_some());
                FileObjectSource::Environment { name: text.to_owned(), content }
            }
            _ => FileObjectSource::Inline(Content(Arc::from(text.as_bytes()))),
        })
    }

    /// What a file holds, within the bounds on all contents of a job.
    fn content(&mut self, path: &str, contents: &mut Contents) -> Result<Content, String> {
        if let Some(known) = contents.by_path.get(path) {
            return known.clone();
        }
        let left = CONTENTS_BYTES_MAX.saturating_sub(contents.bytes);
        let content = if contents.by_path.len() >= FILES_MAX {
            Err(format!("more than {FILES_MAX} such files are read together"))
        } else if left == 0 {
            Err(format!("secrets and configs hold more than {CONTENTS_BYTES_MAX} bytes together"))
        } else {
            self.loader.files.read(path, CONTENT_BYTES_MAX.min(left)).map(|bytes| Content(Arc::from(bytes)))
        };
        contents.bytes += content.as_ref().map_or(0, |content| content.0.len());
        contents.by_path.insert(path.to_owned(), content.clone());
        content
    }
}

fn is_map(value: &Value) -> bool {
    matches!(value.data, Data::Map(_))
}
