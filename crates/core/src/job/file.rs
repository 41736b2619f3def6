//! Secrets and configs: small files that a job brings along and tasks find in their file system.

use std::fmt;
use std::sync::Arc;

/// Most bytes of one secret or config: what Docker allows for a secret (`MaxSecretSize`, 500 KB), rounded up.
pub const CONTENT_BYTES_MAX: usize = 512 << 10;
/// Most bytes of all of a job: they travel with it in one request.
pub const CONTENTS_BYTES_MAX: usize = 4 << 20;
/// Where a secret is found that does not say.
pub const SECRETS_FOLDER: &str = "/run/secrets";
/// Permissions of a secret or config that does not say: Docker's.
pub const FILE_MODE_DEFAULT: u32 = 0o444;

/// What a file holds. `Debug` and equality alone look at it: it may be a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(pub Arc<[u8]>);

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Where the content of a secret or config comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// The cluster's store, under the same name; only for secrets.
    Store,
    /// A file of whoever deploys, read then; relative to the job file.
    File {
        /// Its path, as written.
        path: String,
        /// What it held.
        content: Content,
    },
    /// A variable of whoever deploys.
    Variable {
        /// Its name.
        name: String,
        /// What it held.
        content: Content,
    },
    /// It stands in the job file itself.
    Inline(Content),
}

impl FileSource {
    /// What it holds; `None` when the cluster's store knows.
    #[must_use]
    pub fn content(&self) -> Option<&Content> {
        match self {
            Self::Store => None,
            Self::File { content, .. } | Self::Variable { content, .. } | Self::Inline(content) => {
                Some(content)
            }
        }
    }
}

/// A secret or config in a task's file system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileMount {
    /// Its name in the job.
    pub source: crate::name::FileName,
    /// Where it is found; absolute.
    pub target: String,
    /// Number of its owner; root when `None`.
    pub uid: Option<u32>,
    /// Number of its group; root's when `None`.
    pub gid: Option<u32>,
    /// Permissions, as in `chmod`; [`FILE_MODE_DEFAULT`] when `None`.
    pub mode: Option<u32>,
    /// Whether the task may change it; what it changes is gone with its next start.
    pub is_writable: bool,
}
