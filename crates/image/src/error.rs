//! What can go wrong with images, in words for people.
//!
//! Must not repeat the causes: they are sources.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::reference::ReferenceParseError;
use crate::registry::RegistryError;
use crate::unpack::{UnpackError, is_disk_full};

/// A failed operation on images.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A name that is none.
    #[error("cannot read the image name")]
    Reference(#[source] ReferenceParseError),
    /// The registry did not give the image.
    #[error("cannot fetch {image}")]
    Fetch {
        /// What was asked for: `image NAME`.
        image: String,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// The image's documents are unusable.
    #[error("cannot use {image}")]
    Manifest {
        /// `image NAME`, or the archive that it is in.
        image: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// A layer is unusable or could not be written.
    #[error("cannot unpack layer {layer} of {image}")]
    Unpack {
        /// `image NAME`, or the archive that it is in.
        image: String,
        /// Position of the layer, the bottom one is 1.
        layer: usize,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// The end of the root file system could not be written.
    #[error("cannot complete the root file system of {image}")]
    Finish {
        /// `image NAME`, or the archive that it is in.
        image: String,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// A file to load that holds no image.
    #[error("cannot load an image from {archive}: {why}")]
    Archive {
        /// The archive, as the person who gave it knows it.
        archive: String,
        /// What is wrong with it.
        why: String,
    },
    /// An archive that cannot be read as one.
    #[error("cannot read {archive}")]
    ArchiveDamaged {
        /// The archive, as the person who gave it knows it.
        archive: String,
        /// What is wrong with it.
        #[source]
        source: UnpackError,
    },
    /// An archive that could not be kept while it is read.
    #[error("cannot keep {archive} in the data folder")]
    Spool {
        /// The archive, as the person who gave it knows it.
        archive: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An image or archive that says itself that it is larger than what is accepted.
    #[error("{image} is refused: it has {bytes} bytes, and {limit} are accepted at most")]
    TooLarge {
        /// `image NAME`, or the archive.
        image: String,
        /// Its bytes, as announced.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// An image or archive that is larger than what is free.
    #[error(
        "there is no room for {image}: it takes {} MiB at least, and {} MiB are free beside the reserve",
        needed_bytes.div_ceil(1 << 20),
        free_bytes >> 20
    )]
    NoRoom {
        /// `image NAME`, or the archive.
        image: String,
        /// Bytes that are needed at least.
        needed_bytes: u64,
        /// Bytes that may be taken.
        free_bytes: u64,
    },
    /// The store's files cannot be read or written.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the store has a form that this version cannot read.
    #[error("the image store's file {path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The file of names has a form that this version cannot read.
    #[error("the image store's file {path} is damaged")]
    NamesDamaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A stored file is not what was written.
    #[error("image {digest} is damaged: its {what} is {actual}, not {expected}")]
    Corrupt {
        /// The image.
        digest: Digest,
        /// Which file.
        what: &'static str,
        /// What was recorded.
        expected: Digest,
        /// What is there now.
        actual: Digest,
    },
    /// No such image.
    #[error("no image {name:?} is stored here")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// An abbreviated digest that fits several images.
    #[error("{name:?} means more than one image")]
    Ambiguous {
        /// What was asked for.
        name: String,
    },
    /// An image that a task still runs from.
    #[error("image {name} is in use")]
    InUse {
        /// The image.
        name: String,
    },
    /// Work on another thread ended without an answer.
    #[error("the work on {image} was given up")]
    Interrupted {
        /// `image NAME`, or the archive.
        image: String,
    },
}

/// What to do when the disk is full.
pub(crate) const FREE_SPACE: &str =
    "free some space on the disk of the data folder, for example with `lith image gc --all`, and try again";

impl ImageError {
    /// Whether no space is left on the disk.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, ImageError::Io { source, .. } if is_disk_full(source))
    }

    /// Whether a stored image is not whole, in contrast to one that cannot be read at the moment.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            ImageError::Damaged { .. } | ImageError::Manifest { .. } => true,
            ImageError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
            ImageError::Reference(_)
            | ImageError::Fetch { .. }
            | ImageError::Unpack { .. }
            | ImageError::Finish { .. }
            | ImageError::Archive { .. }
            | ImageError::ArchiveDamaged { .. }
            | ImageError::Spool { .. }
            | ImageError::TooLarge { .. }
            | ImageError::NoRoom { .. }
            | ImageError::NamesDamaged { .. }
            | ImageError::Corrupt { .. }
            | ImageError::NotFound { .. }
            | ImageError::Ambiguous { .. }
            | ImageError::InUse { .. }
            | ImageError::Interrupted { .. } => false,
        }
    }

    /// What a person may do next.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            ImageError::Fetch { source, .. } => return source.hint(),
            ImageError::Manifest { source, .. } => return source.hint(),
            ImageError::Unpack { source, .. }
            | ImageError::Finish { source, .. }
            | ImageError::ArchiveDamaged { source, .. } => return source.hint(),
            ImageError::Reference(_) => "write it like nginx:1.27, or registry.example/team/app:1.0",
            ImageError::Archive { .. } => {
                "give an OCI layout (a folder or a tar of one) or the output of `docker save`"
            }
            ImageError::Io { source, .. } | ImageError::Spool { source, .. } if is_disk_full(source) => {
                FREE_SPACE
            }
            ImageError::NoRoom { .. } => FREE_SPACE,
            ImageError::TooLarge { .. } => "such a size is hardly honest; if it is, make the image smaller",
            ImageError::NamesDamaged { path, .. } => {
                return Some(format!(
                    "move {} away: the images stay, and get their names again when they are pulled or loaded; then look at the disk's health",
                    path.display()
                ));
            }
            ImageError::Io { .. } | ImageError::Spool { .. } => {
                "look at the disk and the permissions of the data folder"
            }
            ImageError::Damaged { .. } | ImageError::Corrupt { .. } => {
                "remove the image with `lith image rm` and pull it again; then look at the disk's health"
            }
            ImageError::NotFound { .. } => {
                "`lith image ls` shows what is stored, `lith image pull` fetches more"
            }
            ImageError::Ambiguous { .. } => "give more digits, or the name",
            ImageError::InUse { .. } => {
                "remove the jobs that use it first, or deploy them with another image; `lith ps` shows them"
            }
            ImageError::Interrupted { .. } => "try again",
        };
        Some(text.to_owned())
    }

    /// Whether the same attempt may succeed later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        match self {
            ImageError::Fetch { source, .. } => source.is_retryable(),
            ImageError::Interrupted { .. } => true,
            ImageError::Reference(_)
            | ImageError::Manifest { .. }
            | ImageError::Unpack { .. }
            | ImageError::Finish { .. }
            | ImageError::Archive { .. }
            | ImageError::ArchiveDamaged { .. }
            | ImageError::Spool { .. }
            | ImageError::TooLarge { .. }
            | ImageError::NoRoom { .. }
            | ImageError::Io { .. }
            | ImageError::NamesDamaged { .. }
            | ImageError::Damaged { .. }
            | ImageError::Corrupt { .. }
            | ImageError::NotFound { .. }
            | ImageError::Ambiguous { .. }
            | ImageError::InUse { .. } => false,
        }
    }
}

/// Names the file in an I/O error.
pub(crate) fn io_error(
    operation: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io { operation, path, source }
}
