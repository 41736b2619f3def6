//! The variables of a service: `environment`, and the files of `env_file` below it.
//!
//! Owns their order: what stands in `environment` wins over files, and later files over earlier ones. Must not decide what
//! a variable means to a program.

use std::collections::BTreeMap;

use lith_core::value::{env, quoted};

use super::reader::{Reader, pairs, texts};
use super::tree::{Data, Value};
use super::units;
use super::variables::{Scope, Use};
use crate::compose::project::At;
use crate::diagnostic::Code;
use crate::document::{FileId, Span};
use crate::source::PathKind;
use crate::value::Refusal;

/// One file of `env_file`.
struct EnvFile<'v> {
    path: &'v str,
    span: Span,
    is_required: bool,
    is_raw: bool,
}

impl Reader<'_, '_> {
    /// All variables of a service.
    pub(super) fn environment(&mut self, service: &Value) -> BTreeMap<String, At<String>> {
        let mut own = BTreeMap::new();
        let mut missing = Vec::new();
        if let Some(value) = service.given("environment") {
            for (name, span, value) in pairs(value) {
                self.check_name(&name, span);
                let value = value.or_else(|| self.given_outside(&name, span));
                if let Some(value) = value {
                    own.insert(name, value);
                } else {
                    own.remove(&name);
                    missing.push((name, span));
                }
            }
        }
        let mut all = self.of_files(service, &own);
        all.extend(own);
        let without = missing.into_iter().filter(|(name, _)| !all.contains_key(name));
        self.loader.unset.extend(without.map(|(name, span)| At::new(name, span)));
        all
    }

    /// A variable that the file only names.
    fn given_outside(&mut self, name: &str, span: Span) -> Option<At<String>> {
        let given = self.scope.get(name);
        self.loader.used.note(name, span, Use::Optional, given.is_some());
        let given = given.filter(|value| self.loader.charge(value.len(), span))?;
        Some(At::new(given.to_string(), span))
    }

    fn check_name(&mut self, name: &str, span: Span) {
        if let Err(refusal) = env::name(name) {
            self.refuse(Refusal::of(Code::BadEnv, refusal), span);
        }
    }

    fn of_files(
        &mut self,
        service: &Value,
        own: &BTreeMap<String, At<String>>,
    ) -> BTreeMap<String, At<String>> {
        let mut all = BTreeMap::new();
        let Some(value) = service.given("env_file") else { return all };
        // The project's variables win over the service's own, and these over those of the files.
        let mut of_service = Scope::default();
        for (name, value) in own {
            of_service.set(name, &value.value);
        }
        let outer = [self.scope, &of_service];
        let mut earlier = Scope::default();
        for item in value.items_or_self() {
            let Some(file) = self.env_file(item) else { continue };
            let Some(id) = self.open_env_file(&file) else { continue };
            let names = if file.is_raw {
                self.raw_variables(id, &outer, &mut earlier)
            } else {
                self.loader.variables(id, &outer, &mut earlier)
            };
            for (name, span) in names {
                self.check_name(&name, span);
                let value = earlier.get(&name).map(|value| value.to_string()).unwrap_or_default();
                all.insert(name, At::new(value, span));
            }
        }
        all
    }

    fn env_file<'v>(&mut self, item: &'v Value) -> Option<EnvFile<'v>> {
        if let Data::Scalar(scalar) = &item.data {
            return Some(EnvFile { path: &scalar.text, span: item.span, is_required: true, is_raw: false });
        }
        let path = item.get("path")?;
        let required = self.parsed(item.get("required"), units::switch);
        let format = item.get("format").filter(|format| !matches!(format.text(), None | Some("" | "raw")));
        if let Some(format) = format {
            let message =
                format!("{} is not a format of `env_file`", quoted(format.text().unwrap_or_default()));
            let hint = "remove it for the usual format, or write `raw`";
            self.loader.reporter.error(Code::BadEnvFile, format.span, message, hint);
        }
        Some(EnvFile {
            path: path.text()?,
            span: path.span,
            is_required: required.is_none_or(|required| required.value),
            is_raw: item.get("format").and_then(Value::text) == Some("raw"),
        })
    }

    fn open_env_file(&mut self, file: &EnvFile<'_>) -> Option<FileId> {
        let path = self.loader.resolve(file.path, file.span);
        if !file.is_required && self.loader.files.kind(&path) == PathKind::Absent {
            return None;
        }
        self.loader.open_variables(&path, file.span)
    }

    /// A file of the format `raw`: no quotes, nothing is put in.
    fn raw_variables(&mut self, file: FileId, outer: &[&Scope], earlier: &mut Scope) -> Vec<(String, Span)> {
        let text = self.loader.reporter.text(file);
        if !self.loader.spend_text(&text, file) {
            return Vec::new();
        }
        let mut names = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let span = Span { file, start, end: start + line.trim_end().len() };
            start += line.len();
            let line = line.trim_end_matches(['\n', '\r']);
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let (name, value) = match line.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.to_owned())),
                None => (
                    line.trim(),
                    outer.iter().find_map(|scope| scope.get(line.trim())).map(|value| value.to_string()),
                ),
            };
            if let Some(value) = value {
                earlier.set(name, &value);
                names.push((name.to_owned(), span));
            }
        }
        names
    }

    /// Refuses files of labels that are not there; what they say has no effect.
    pub(super) fn check_label_files(&mut self, service: &Value) {
        for file in texts(service.given("label_file")) {
            let path = self.loader.resolve(&file.value, file.span);
            if self.loader.files.kind(&path) == PathKind::Absent {
                let message = format!("the file {} cannot be read: there is no such file", quoted(&path));
                let hint = "paths are relative to the folder of the file that names them";
                self.loader.reporter.error(Code::BadFile, file.span, message, hint);
            }
        }
    }
}
