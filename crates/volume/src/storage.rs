//! Files of a volume, as the engine uses them: the seam at which tests put a disk that loses, tears and fails. Owns the
//! real one, a folder. What is written is durable only after a sync; a name only after its folder's.

mod ranges;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::disk::Patience;
use crate::names;
use crate::pieces::{Pieces, sys};

/// A folder of files. Names are relative, with at most one folder in front.
pub trait Storage: Debug + Send + Sync + 'static {
    /// An open file.
    type File: StoredFile;
    /// Ends a hold on the history when it is dropped.
    type Hold: Debug + Send + Sync;

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

/// A folder of the host.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    is_read_only: bool,
}

/// Files of volumes are nobody's but lith's.
const FILE_MODE: u32 = 0o600;

impl Folder {
    /// The folder at a path, which must be there.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), is_read_only: false }
    }

    /// The same for who only reads, and may not be allowed more.
    #[must_use]
    pub fn read_only(path: &Path) -> Self {
        Self { path: path.to_owned(), is_read_only: true }
    }
}

/// Whoever gets at the folder may open it.
const READERS_MODE: u32 = 0o644;

impl Folder {
    fn readers(&self) -> io::Result<File> {
        // Who only reads may not be allowed to make it, nor need to.
        if let Ok(file) = File::open(self.path.join(names::READERS)) {
            return Ok(file);
        }
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(READERS_MODE)
            .open(self.path.join(names::READERS))
    }
}

impl Storage for Folder {
    type File = File;
    /// A lock of flock(2), which ends with its file.
    type Hold = File;

    fn share(&self) -> io::Result<File> {
        let file = self.readers()?;
        rustix::fs::flock(&file, FlockOperation::LockShared)?;
        Ok(file)
    }

    fn try_own(&self) -> io::Result<Option<File>> {
        let file = self.readers()?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A lock on the byte of that number, which many may have.
    fn pin(&self, seq: u64) -> io::Result<File> {
        let file = self.readers()?;
        ranges::share(&file, seq)?;
        Ok(file)
    }

    fn pinned(&self) -> io::Result<BTreeSet<u64>> {
        ranges::shared(&self.readers()?)
    }

    fn mark(&self, name: &str) -> io::Result<Option<Mark>> {
        match rustix::fs::lstat(self.path.join(name)) {
            Ok(found) => {
                let nanoseconds = i64::try_from(found.st_ctime_nsec).unwrap_or_default();
                let changed = found.st_ctime.saturating_mul(1_000_000_000).saturating_add(nanoseconds);
                Ok(Some(Mark(found.st_ino, changed)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, name: &str) -> io::Result<Option<File>> {
        // A symbolic link in here is nobody's of ours.
        let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(!self.is_read_only).custom_flags(flags).open(self.path.join(name));
        match file {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, name: &str) -> io::Result<File> {
        // A new file, so that whoever still reads the one that had the name keeps what it reads.
        self.remove(name)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE).open(self.path.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let path = self.path.join(folder);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_read_only => return Ok(vec![]),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir(&path)?;
                self.sync_folder("")?;
                return Ok(vec![]);
            }
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            // What is named otherwise is not ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        File::open(self.path.join(folder))?.sync_all()
    }
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

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}

fn write_zeroes(file: &File, range: Range<u64>) -> io::Result<()> {
    let zeroes = [0; 64 << 10];
    let mut from = range.start;
    while from < range.end {
        let count = usize::try_from(range.end - from).unwrap_or(usize::MAX).min(zeroes.len());
        file.write_all_at(&zeroes[..count], from)?;
        from += count as u64;
    }
    Ok(())
}
