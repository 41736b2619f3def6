//! What reading needs from the outside: other files, and variables.
//!
//! Owns the seam. Nothing in this crate opens a file or looks at an environment; whoever calls it says what is there, so
//! that a test, a server and a person's machine are all the same.

use std::collections::BTreeMap;

/// Most files that one reading takes: those named, and those that they include, extend or read variables from.
pub const FILES_MAX: usize = 200;

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// Nothing.
    Absent,
    /// A file, or anything else that can be read as one.
    File,
    /// A folder.
    Folder,
}

/// Files beside the one that is read. Paths are as the file writes them once `.` and `..` are resolved textually against
/// the folder of the file that names them: relative ones are relative to the folder of the first file.
pub trait Files {
    /// What stands at the path.
    fn kind(&self, path: &str) -> PathKind;

    /// The content of a file.
    ///
    /// # Errors
    /// Why it cannot be read, as a sentence without its path; also when it is longer than `bytes_max`.
    fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, String>;
}

/// A person's machine on which nothing stands beside the file: for texts that come alone, as from standard input.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl Files for NoFiles {
    fn kind(&self, _path: &str) -> PathKind {
        PathKind::Absent
    }

    fn read(&self, _path: &str, _bytes_max: usize) -> Result<Vec<u8>, String> {
        Err(String::from("there is no such file"))
    }
}

/// A file that a person named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its path, which diagnostics repeat.
    pub path: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Where the values of `${NAME}` come from: first what was set on the command line, then the files of variables, later ones
/// winning. Never the environment of whoever types the command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Variables {
    /// `--set NAME=value`.
    pub set: BTreeMap<String, String>,
    /// `--env-file`; the `.env` beside the first file when none is named.
    pub env_files: Vec<Named>,
}

/// A path without `.`, without doubled `/`, and with `..` only at its start, as far as the text goes; `.` for a folder
/// itself.
pub(crate) fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            // Above the root there is only the root.
            ".." if path.starts_with('/') => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (path.starts_with('/'), joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => String::from("."),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn paths() {
        for (path, expected) in [
            ("./pw", "pw"),
            ("a/../b", "b"),
            ("../x", "../x"),
            ("../../x/./y", "../../x/y"),
            ("/a//b/../c", "/a/c"),
            ("/../a", "/a"),
            ("a/..", "."),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }
}
