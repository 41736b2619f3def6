//! Files of a volume, as the engine uses them: the seam at which tests put a disk that loses, tears and fails. Owns the
//! real one, a folder. What is written is durable only after a sync; a name only after its folder's.

mod folder;
mod ranges;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::disk::Patience;
use crate::pieces::{Pieces, sys};

pub use folder::Folder;

/// A folder of files. Names are relative, with at most one folder in front.
pub trait Storage: Debug + Send + Sync + 'static {
    /// An open file.
    type File: StoredFile;
    /// Ends a hold on the history when it is dropped.
    type Hold: Debug + Send + Sync;

    /// Bytes of a segment's table at which it is ended, and another one begun: a table is in memory, of who writes it and of
    /// who reads it. This is one of nearly a million blocks that were written anywhere. Tests have smaller ones.
    const TABLE_BYTES: usize = 32 << 20;

    /// Opens a file for reading and writing; none if it is not there.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &str) -> io::Result<Option<Self::File>>;

    /// Makes an empty file, in place of one that is there.
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Removes a file; one that is not there is removed.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of what has that.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// The names in a folder, which is made if it is not there; the empty name is the volume's own.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Holds the history for reading: what it consists of stays, though more may come. Waits for who changes it.
    ///
    /// # Errors
    /// What the system says.
    fn share(&self) -> io::Result<Self::Hold>;

    /// Holds the history alone, to change what it consists of; none while somebody reads.
    ///
    /// # Errors
    /// What the system says.
    fn try_own(&self) -> io::Result<Option<Self::Hold>>;

    /// Keeps a checkpoint in the history for as long as the hold lives. Waits for nobody: whether it is there, who pins it
    /// looks afterwards.
    ///
    /// # Errors
    /// What the system says.
    fn pin(&self, seq: u64) -> io::Result<Self::Hold>;

    /// The checkpoints that are kept by somebody.
    ///
    /// # Errors
    /// What the system says.
    fn pinned(&self) -> io::Result<BTreeSet<u64>>;

    /// What tells a file from another one that has taken its name; none if there is no file.
    ///
    /// # Errors
    /// What the system says.
    fn mark(&self, name: &str) -> io::Result<Option<Mark>>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}

/// Tells a file from another one that has taken its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub u64, pub i64);

/// A file that several threads use at once.
pub trait StoredFile: Debug + Send + Sync + 'static {
    /// Fills pieces; what lies beyond the end is zeroes.
    ///
    /// # Errors
    /// What the system says, also that the caller would have to wait.
    fn read(&self, offset: u64, into: &Pieces<'_>, patience: Patience) -> io::Result<()>;

    /// Writes pieces.
    ///
    /// # Errors
    /// What the system says.
    fn write(&self, offset: u64, from: &Pieces<'_>) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the system says. What was written before is in doubt then, and stays so.
    fn sync(&self) -> io::Result<()>;

    /// Makes a range zeroes, and gives its space back.
    ///
    /// # Errors
    /// What the system says.
    fn punch(&self, range: Range<u64>) -> io::Result<()>;

    /// Where something that may not be zeroes begins, from an offset on; the end of the file if nothing does.
    ///
    /// # Errors
    /// What the system says.
    fn next_content(&self, from: u64) -> io::Result<u64>;

    /// Where something begins that has no space of its own yet, from an offset on; the end of the file if nothing does.
    ///
    /// # Errors
    /// What the system says.
    fn next_hole(&self, from: u64) -> io::Result<u64>;

    /// Its size, bytes.
    ///
    /// # Errors
    /// What the system says.
    fn bytes(&self) -> io::Result<u64>;

    /// Changes its size.
    ///
    /// # Errors
    /// What the system says.
    fn resize(&self, bytes: u64) -> io::Result<()>;

    /// Fills a buffer.
    ///
    /// # Errors
    /// As [`StoredFile::read`].
    fn read_into(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read(offset, &Pieces::of_mut(into), Patience::Waits)
    }

    /// Writes a buffer.
    ///
    /// # Errors
    /// As [`StoredFile::write`].
    fn write_from(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.write(offset, &Pieces::of(from))
    }
}

/// Replaces a small file whole: its reader sees the old or the new content, also after a power cut.
///
/// # Errors
/// What the system says; the old content is there then.
pub fn replace<S: Storage>(storage: &S, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.new");
    let file = storage.create(&temporary)?;
    file.write_from(0, content)?;
    file.sync()?;
    storage.rename(&temporary, name)?;
    storage.sync_folder("")
}

impl StoredFile for File {
    fn read(&self, offset: u64, into: &Pieces<'_>, patience: Patience) -> io::Result<()> {
        sys::read_at(self, offset, into, patience)
    }

    fn write(&self, offset: u64, from: &Pieces<'_>) -> io::Result<()> {
        sys::write_at(self, offset, from)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(self, flags, range.start, range.end - range.start) {
            Ok(()) => Ok(()),
            // A file system that cannot give space back still holds zeroes.
            Err(Errno::OPNOTSUPP) => write_zeroes(self, range),
            Err(error) => Err(error.into()),
        }
    }

    fn next_content(&self, from: u64) -> io::Result<u64> {
        match seek(self, SeekFrom::Data(from)) {
            Ok(offset) => Ok(offset),
            // Nothing but a hole is left.
            Err(Errno::NXIO) => StoredFile::bytes(self),
            // A file system that does not know holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(from),
            Err(error) => Err(error.into()),
        }
    }

    fn next_hole(&self, from: u64) -> io::Result<u64> {
        match seek(self, SeekFrom::Hole(from)) {
            Ok(offset) => Ok(offset),
            // Behind the end, or on a file system that does not know holes.
            Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => StoredFile::bytes(self),
            Err(error) => Err(error.into()),
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}

/// Writes zeroes, where the file system has no other way.
pub(crate) fn write_zeroes(file: &File, range: Range<u64>) -> io::Result<()> {
    // A good size for one call.
    const ZEROES: &[u8] = &[0; 64 << 10];
    let mut from = range.start;
    while from < range.end {
        let rest = usize::try_from(range.end - from).unwrap_or(usize::MAX);
        let part = &ZEROES[..rest.min(ZEROES.len())];
        file.write_all_at(part, from)?;
        from += part.len() as u64;
    }
    Ok(())
}
