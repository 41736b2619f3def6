//! Why a volume cannot be opened, read or written: each with what it is about, so that a person knows which file to look
//! at. What to do about it is in [`VolumeError::hint`].

use std::io;

use crate::segment::Damage;

/// What went wrong with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A file cannot be used.
    #[error("cannot {operation} {name}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// The file, within the volume's folder.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk itself is not there.
    #[error("its disk {name} is missing")]
    NoDisk {
        /// The file, within the volume's folder.
        name: &'static str,
    },
    /// The description is not what it should be.
    #[error("{name} is damaged: {problem}")]
    Manifest {
        /// The file.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A file of the history is damaged.
    #[error("{name} is damaged at byte {offset}")]
    Damaged {
        /// The file.
        name: String,
        /// Where the segment begins.
        offset: u64,
        /// What is wrong.
        #[source]
        source: Damage,
    },
    /// No such checkpoint.
    #[error("there is no checkpoint {seq}: the history begins at {first} and ends at {last}")]
    NoCheckpoint {
        /// The one that was asked for.
        seq: u64,
        /// The oldest one.
        first: u64,
        /// The newest one.
        last: u64,
    },
    /// No such snapshot.
    #[error("there is no snapshot {name:?}")]
    NoSnapshot {
        /// The one that was asked for.
        name: String,
    },
    /// The name is taken.
    #[error("there is a snapshot {name:?} already")]
    SnapshotExists {
        /// Its name.
        name: String,
    },
    /// The disk would lose what lies behind its new end.
    #[error("a volume cannot be made smaller: it has {has} bytes, not {wanted}")]
    Shrinks {
        /// Its size, bytes.
        has: u64,
        /// The size that was asked for, bytes.
        wanted: u64,
    },
    /// A restore was begun and cannot be ended: what it needs has become damaged.
    #[error("a restore to checkpoint {seq} has not ended, and cannot be")]
    RestoreUnfinished {
        /// The target.
        seq: u64,
        /// What is damaged.
        #[source]
        source: Box<VolumeError>,
    },
}

impl VolumeError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            VolumeError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free space in the pool; `lith pool ls` shows it")
            }
            VolumeError::Damaged { .. } | VolumeError::Manifest { .. } => {
                Some("`lith volume forget-history` goes on without its history; the files are kept aside")
            }
            VolumeError::NoDisk { .. } => Some("is the pool mounted? `lith pool ls` shows what is expected"),
            VolumeError::NoCheckpoint { .. } => Some("`lith volume checkpoints` lists them"),
            VolumeError::NoSnapshot { .. } => Some("`lith volume snapshots` lists them"),
            VolumeError::SnapshotExists { .. } => Some("choose another name"),
            VolumeError::File { .. }
            | VolumeError::Shrinks { .. }
            | VolumeError::RestoreUnfinished { .. } => None,
        }
    }

    pub(crate) fn file(operation: &'static str, name: &str) -> impl FnOnce(io::Error) -> VolumeError {
        let name = name.to_owned();
        move |source| VolumeError::File { operation, name, source }
    }
}
