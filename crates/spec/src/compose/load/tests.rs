//! Loading, case by case: a text, and what becomes of it.

use std::collections::BTreeMap;

use super::{LoadInput, Loaded, load};
use crate::diagnostic::{Diagnostics, Reporter};
use crate::source::{Files, Named, PathKind, Variables};

mod cases;
mod corpus;
mod hostile;
mod messages;
mod oracle;
mod summary;

/// Files in memory.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// Whether what is not there is an empty file.
    pub(super) is_lenient: bool,
}

impl Memory {
    fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
        Self { files: files.collect(), is_lenient: false }
    }
}

impl Files for Memory {
    fn kind(&self, path: &str) -> PathKind {
        if self.files.contains_key(path) {
            return PathKind::File;
        }
        let folder = format!("{path}/");
        let is_folder = self.files.keys().any(|file| file.starts_with(&folder));
        if is_folder { PathKind::Folder } else { PathKind::Absent }
    }

    fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
        if self.is_lenient && !self.files.contains_key(path) {
            return Ok(Vec::new());
        }
        let bytes = self.files.get(path).ok_or_else(|| String::from("there is no such file"))?;
        if bytes.len() > bytes_max {
            return Err(format!("it is longer than {bytes_max} bytes"));
        }
        Ok(bytes.clone())
    }
}

/// A loading to be made.
#[derive(Default)]
pub(super) struct Case {
    pub(super) named: Vec<Named>,
    pub(super) files: Memory,
    pub(super) variables: Variables,
    pub(super) profiles: Vec<String>,
}

impl Case {
    fn of(texts: &[&str]) -> Self {
        let names = ["compose.yaml", "second.yaml", "third.yaml"];
        let named = texts
            .iter()
            .zip(names)
            .map(|(text, name)| Named { path: name.to_owned(), bytes: text.as_bytes().to_vec() });
        Self { named: named.collect(), ..Self::default() }
    }

    pub(super) fn load(&self) -> (Option<Loaded>, Diagnostics) {
        let mut reporter = Reporter::default();
        let input = LoadInput {
            named: &self.named,
            variables: &self.variables,
            profiles: &self.profiles,
            project_name: "folder",
        };
        let loaded = load(&input, &self.files, &mut reporter);
        let has_errors = reporter.has_errors();
        let diagnostics = reporter.finish();
        let first = self.named.first().map(|named| String::from_utf8_lossy(&named.bytes));
        assert_eq!(
            loaded.is_none(),
            has_errors,
            "a project results exactly when there is no error: {first:?}"
        );
        (loaded, diagnostics)
    }
}
