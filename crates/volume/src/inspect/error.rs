//! What can go wrong when one looks inside a volume, in words for people.

use std::io;

/// A failure to look inside a volume.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The disk itself gives no answer.
    #[error("cannot read the volume's disk")]
    Read(#[source] io::Error),
    /// Who asked does not take the answer.
    #[error("cannot hand on what was read")]
    Write(#[source] io::Error),
    /// There is no file system of the kind.
    #[error("the volume holds no ext4 file system")]
    NotExt4,
    /// The file system contradicts itself.
    #[error("the file system is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// The file system has what this reader does not know.
    #[error("the file system has what cannot be read without its kernel: {what}")]
    Unsupported {
        /// Which feature.
        what: &'static str,
    },
    /// The folder that tasks are shown is not there.
    #[error("the file system has no folder {root:?}")]
    NoRoot {
        /// The folder.
        root: String,
    },
    /// The path leads nowhere.
    #[error("no such file or folder: {path:?}")]
    NotFound {
        /// What was asked for.
        path: String,
    },
    /// The path goes on where no folder is, or a folder was wanted.
    #[error("not a folder: {path:?}")]
    NotAFolder {
        /// What was asked for.
        path: String,
    },
    /// The path leads to something without content.
    #[error("not a file: {path:?}")]
    NotAFile {
        /// What was asked for.
        path: String,
    },
    /// The path does not end.
    #[error("too many symbolic links: {path:?}")]
    TooManyLinks {
        /// What was asked for.
        path: String,
    },
    /// A bound is passed.
    #[error("the volume is not read on: {what} (limit {limit})")]
    TooMuch {
        /// Which quantity.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
}

impl InspectError {
    /// The next thing to do for whoever sees this.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            InspectError::NotExt4 | InspectError::NoRoot { .. } => {
                Some("a volume gets its file system when a task with it starts for the first time")
            }
            InspectError::Damaged { .. } => {
                Some("start a task with the volume: its kernel replays and checks what it can")
            }
            InspectError::Unsupported { .. } => {
                Some("start a task with the volume, and copy out of the task")
            }
            InspectError::TooMuch { .. } => Some("ask for a part of it"),
            InspectError::NotFound { .. } => Some("paths begin at the volume's own root, not at the task's"),
            InspectError::Read(_)
            | InspectError::Write(_)
            | InspectError::NotAFolder { .. }
            | InspectError::NotAFile { .. }
            | InspectError::TooManyLinks { .. } => None,
        }
    }

    /// Whether it concerns one entry, and the ones beside it can be read all the same.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, InspectError::Damaged { .. } | InspectError::Unsupported { .. })
    }
}

pub(super) fn damaged(what: impl Into<String>) -> InspectError {
    InspectError::Damaged { what: what.into() }
}

/// A path as text: what is no text shows as such, `{:?}` in the message escapes the rest.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
