//! A checkpoint of a volume as a disk, for tasks that mount it read-only beside the one that writes it.

use std::io;
use std::ops::Range;
use std::sync::Mutex;

use crate::disk::{Disk, Patience};
use crate::error::VolumeError;
use crate::history::Pinned;
use crate::inspect::error::InspectError;
use crate::inspect::settled::Settled;
use crate::lock;
use crate::names;
use crate::pieces::Pieces;
use crate::storage::{Folder, Storage};

/// The folder of the file system that a task is shown: lith-init makes it when a volume is mounted for the first time.
pub const ROOT: &str = "/data";

/// The newest checkpoint of a volume when it was opened, its journal replayed.
pub struct Reader {
    seq: u64,
    bytes: u64,
    /// Whoever reads takes turns: what is looked up is kept for the next one.
    disk: Mutex<Settled>,
}

/// Why there is no reader.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    /// The history cannot be read.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The file system cannot be read.
    #[error("checkpoint {seq} cannot be read")]
    FileSystem {
        /// Which.
        seq: u64,
        /// Why.
        #[source]
        source: InspectError,
    },
    /// Nobody has mounted the volume yet, so that there is nothing in it.
    #[error("it holds nothing yet")]
    Empty,
}

impl ReaderError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ReaderError::Volume(error) => error.hint(),
            ReaderError::FileSystem { source, .. } => source.hint(),
            ReaderError::Empty => Some("it is filled when the task that writes it starts for the first time"),
        }
    }
}

impl Reader {
    /// Opens the newest checkpoint of the volume in a folder.
    ///
    /// # Errors
    /// [`ReaderError`].
    pub fn open(folder: &Folder) -> Result<Self, ReaderError> {
        // Whoever writes it makes these when it begins.
        for name in [names::MANIFEST, names::READERS] {
            if folder.mark(name).map_err(VolumeError::file("look at", name))?.is_none() {
                return Err(ReaderError::Empty);
            }
        }
        let pinned = Pinned::newest(folder)?;
        let seq = pinned.seq();
        match Settled::open(Box::new(pinned), ROOT) {
            Ok(disk) => Ok(Self { seq, bytes: disk.bytes(), disk: Mutex::new(disk) }),
            Err(InspectError::NoRoot { .. }) => Err(ReaderError::Empty),
            Err(source) => Err(ReaderError::FileSystem { seq, source }),
        }
    }

    /// Which checkpoint it is.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

fn refused() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

impl Disk for Reader {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, into: &Pieces<'_>, patience: Patience) -> io::Result<()> {
        if patience == Patience::Now {
            // Where it is must be looked up, which may take a look at the disk.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut content = vec![0; into.bytes()];
        let disk = lock(&self.disk);
        disk.read_at(offset, &mut content).map_err(io::Error::other)?;
        drop(disk);
        into.copy_in(&content);
        Ok(())
    }

    fn write(&self, _: u64, _: &Pieces<'_>) -> io::Result<()> {
        Err(refused())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, _: Range<u64>) -> io::Result<()> {
        Err(refused())
    }

    fn write_zeroes(&self, _: Range<u64>, _: bool) -> io::Result<()> {
        Err(refused())
    }
}
