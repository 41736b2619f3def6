//! What can be wrong with an image's layers, in words for people.
//!
//! Must not hold network or store failures.

use std::io;

use crate::digest::Digest;
use crate::error::FREE_SPACE;

/// A failure to turn layers into a root file system.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The layer's bytes ended or could not be read.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// The compressed stream is damaged or ends early.
    #[error("cannot decompress the layer")]
    Decompress(#[source] io::Error),
    /// The root file system cannot be written.
    #[error("cannot write the root file system")]
    Write(#[source] io::Error),
    /// The archive ends within an entry.
    #[error("the archive is truncated within {within}")]
    Truncated {
        /// Which part the archive ends in.
        within: String,
    },
    /// A header does not follow the tar format.
    #[error("the archive is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: String,
    },
    /// An entry would land outside the image's root.
    #[error("entry {path:?} escapes the root")]
    Escapes {
        /// The entry's path.
        path: String,
    },
    /// A hard link that leads nowhere, to a folder, or out of the root.
    #[error("hard link {path:?} to {target:?} is refused: {why}")]
    BadLink {
        /// The link's path.
        path: String,
        /// What it points to.
        target: String,
        /// Why it cannot be.
        why: &'static str,
    },
    /// An entry that cannot be put into a file system.
    #[error("entry {path:?} is refused: {why}")]
    BadEntry {
        /// The entry's path.
        path: String,
        /// Why it cannot be.
        why: String,
    },
    /// A bound of [`crate::Limits`] or a format constant is passed.
    #[error("the image is refused: {what} (limit {limit})")]
    TooMuch {
        /// Which quantity.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The uncompressed stream is not what the config declares.
    #[error("the layer's content does not match its diff_id: expected {expected}, got {actual}")]
    WrongDiffId {
        /// What the config declares.
        expected: Digest,
        /// What the stream hashes to.
        actual: Digest,
    },
    /// The compressed blob is not what the manifest names.
    #[error("the layer does not match its digest: expected {expected}, got {actual}")]
    WrongDigest {
        /// What the manifest names.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
}

impl UnpackError {
    /// What a person may do next.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            UnpackError::Write(e) if is_disk_full(e) => FREE_SPACE,
            UnpackError::Write(_) => "look at the disk and the permissions of the data folder",
            UnpackError::Read(_) | UnpackError::Decompress(_) | UnpackError::Truncated { .. } => {
                "the image was cut short or damaged on its way: fetch or save it again"
            }
            UnpackError::WrongDiffId { .. } | UnpackError::WrongDigest { .. } => {
                "the image was changed or damaged after it was built: fetch it again, and do not trust its source if it stays so"
            }
            UnpackError::Damaged { .. } | UnpackError::BadEntry { .. } | UnpackError::BadLink { .. } => {
                "the image was built by a faulty tool: build it again with another one"
            }
            UnpackError::Escapes { .. } => "the image tries to write outside itself: do not trust its source",
            UnpackError::TooMuch { .. } => {
                "it looks like a decompression bomb; if it is honest, make the image smaller"
            }
        };
        Some(text.to_owned())
    }
}

/// Whether an I/O error says that no space is left, by disk or by quota.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// A path for an error message: readable, bounded.
pub(crate) fn shown(path: &[u8]) -> String {
    cut(String::from_utf8_lossy(path).chars())
}

/// A stranger's text for an error message that shows it without quotes: one line, bounded, nothing that a terminal
/// would obey.
pub(crate) fn clean(text: &str) -> String {
    cut(text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }))
}

fn cut(text: impl Iterator<Item = char>) -> String {
    /// Enough to recognise a text by.
    const CHARS_MAX: usize = 200;
    let mut text = text;
    let mut start: String = text.by_ref().take(CHARS_MAX).collect();
    if text.next().is_some() {
        start.push('…');
    }
    start
}
