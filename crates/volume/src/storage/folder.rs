//! A folder of the host as storage. It belongs to the process that serves the volume, which a guest may have taken over;
//! the daemon, which is root, works in it as well. So nothing in it is believed: every name is looked up below one open
//! folder, symbolic links are not followed, and what is not a regular file is no file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, ResolveFlags, flock, fstat, fsync, mkdirat,
    openat2, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::{Mark, Storage, ranges};
use crate::names::READERS;

/// A folder of the host.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    is_read_only: bool,
    /// Opened when it is used first.
    root: Arc<OnceLock<OwnedFd>>,
}

/// Files of volumes are nobody's but lith's.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Folders within a volume's, which itself is closed to all others.
const FOLDER_MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);
/// Whoever gets at the folder may open it.
const READERS_MODE: Mode = FILE_MODE.union(Mode::RGRP).union(Mode::ROTH);
/// No volume has more files in a folder: a history of 64 TiB.
const NAMES_MAX: usize = 1 << 20;
/// Who changes a history holds it for a moment. One that holds it for this long is no lith, or has gone mad.
const SHARE_DEADLINE: Duration = Duration::from_secs(30);
/// Between two tries to hold it.
const SHARE_PAUSE: Duration = Duration::from_millis(10);

impl Folder {
    /// The folder at a path, which must be there.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), is_read_only: false, root: Arc::default() }
    }

    /// The same for who only reads, and may not be allowed more.
    #[must_use]
    pub fn read_only(path: &Path) -> Self {
        Self { is_read_only: true, ..Self::new(path) }
    }

    /// Opens a file for reading and writing, and makes it if it is not there.
    pub(crate) fn open_or_make(&self, name: &str) -> io::Result<File> {
        Ok(self.open_file(name, OFlags::RDWR | OFlags::CREATE, FILE_MODE)?)
    }

    fn root(&self) -> Result<&OwnedFd, Errno> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        // Where the folder is says its caller, who is trusted; so links on the way to it are.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.path, flags, Mode::empty())?;
        Ok(self.root.get_or_init(|| root))
    }

    fn open_below(&self, name: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // A pipe or a file with a lease would hold up whoever opens it.
        let flags = flags | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(self.root()?, name, flags, mode, resolve)
    }

    fn open_file(&self, name: &str, flags: OFlags, mode: Mode) -> Result<File, Errno> {
        let file = self.open_below(name, flags, mode)?;
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file.into()),
            FileType::Directory => Err(Errno::ISDIR),
            // What opening a device that is not there says: nobody of lith's has put it there.
            _ => Err(Errno::NXIO),
        }
    }

    fn open_folder(&self, folder: &str) -> Result<OwnedFd, Errno> {
        let name = if folder.is_empty() { "." } else { folder };
        self.open_below(name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// The open folder in which a name is, and the name in it.
    fn place<'name>(&self, name: &'name str) -> Result<(OwnedFd, &'name str), Errno> {
        let (folder, name) = name.rsplit_once('/').unwrap_or(("", name));
        Ok((self.open_folder(folder)?, name))
    }

    fn readers(&self) -> Result<File, Errno> {
        match self.open_file(READERS, OFlags::RDONLY, Mode::empty()) {
            // Who only reads may not be allowed to make it, nor need to.
            Err(Errno::NOENT) => self.open_file(READERS, OFlags::RDWR | OFlags::CREATE, READERS_MODE),
            other => other,
        }
    }
}

impl Storage for Folder {
    type File = File;
    /// A lock of flock(2), which ends with its file.
    type Hold = File;

    fn share(&self) -> io::Result<File> {
        let file = self.readers()?;
        let started = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK) if started.elapsed() < SHARE_DEADLINE => thread::sleep(SHARE_PAUSE),
                Err(Errno::WOULDBLOCK) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn try_own(&self) -> io::Result<Option<File>> {
        let file = self.readers()?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
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
        let found =
            self.place(name).and_then(|(folder, name)| statat(folder, name, AtFlags::SYMLINK_NOFOLLOW));
        match found {
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
        let access = if self.is_read_only { OFlags::RDONLY } else { OFlags::RDWR };
        match self.open_file(name, access, Mode::empty()) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn create(&self, name: &str) -> io::Result<File> {
        // A new file, so that whoever still reads the one that had the name keeps what it reads.
        self.remove(name)?;
        Ok(self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, FILE_MODE)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.place(name).and_then(|(folder, name)| unlinkat(folder, name, AtFlags::empty()));
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_folder, from) = self.place(from)?;
        let (to_folder, to) = self.place(to)?;
        Ok(renameat(from_folder, from, to_folder, to)?)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let opened = match self.open_folder(folder) {
            Err(Errno::NOENT) if self.is_read_only => return Ok(vec![]),
            Err(Errno::NOENT) => {
                mkdirat(self.root()?, folder, FOLDER_MODE)?;
                self.sync_folder("")?;
                return Ok(vec![]);
            }
            opened => opened?,
        };
        let mut names = Vec::new();
        for entry in Dir::new(opened)? {
            // What is named otherwise is not ours.
            let entry = entry?;
            let name = entry.file_name().to_str().ok().filter(|name| !matches!(*name, "." | ".."));
            names.extend(name.map(str::to_owned));
            if names.len() > NAMES_MAX {
                return Err(io::Error::other("there are more files in it than lith makes"));
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        Ok(fsync(self.open_folder(folder)?.as_fd())?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, mknodat};

    use super::*;
    use crate::storage::replace;

    /// A volume's folder with everything planted in it that a hostile owner can make, and what must not be touched outside.
    struct Planted {
        _root: tempfile::TempDir,
        outside: PathBuf,
        folder: Folder,
    }

    const WORDS: &[u8] = b"not a volume's";

    fn plant() -> Planted {
        let root = tempfile::tempdir().unwrap();
        let (inside, outside) = (root.path().join("volume"), root.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), WORDS).unwrap();
        fs::write(inside.join("good"), WORDS).unwrap();
        symlink(outside.join("file"), inside.join("absolute")).unwrap();
        symlink("../outside/file", inside.join("relative")).unwrap();
        symlink("good", inside.join("near")).unwrap();
        symlink("/proc/self/fd/0", inside.join("magic")).unwrap();
        symlink(&outside, inside.join("log")).unwrap();
        fs::create_dir(inside.join("directory")).unwrap();
        let fifo = inside.join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let folder = Folder::new(&inside);
        Planted { _root: root, outside, folder }
    }

    #[test]
    fn nothing_but_a_regular_file_of_its_own_is_opened() {
        let Planted { _root, folder, .. } = plant();
        for access in [folder.clone(), Folder::read_only(&folder.path)] {
            assert!(access.open("good").unwrap().is_some());
            assert!(access.open("missing").unwrap().is_none());
            for name in [
                "absolute",
                "relative",
                "near",
                "magic",
                "log/file",
                "directory",
                "fifo",
                "../outside/file",
                "/etc/passwd",
                "..",
            ] {
                assert!(access.open(name).is_err(), "{name} was opened");
                assert!(access.open_or_make(name).is_err(), "{name} was opened or made");
            }
            assert!(access.list("log").is_err() && access.list("../outside").is_err());
            assert!(access.sync_folder("log").is_err());
        }
    }

    #[test]
    fn nothing_outside_is_changed() {
        let Planted { _root, outside, folder } = plant();
        for name in ["log/new", "log/file", "../outside/new", "../outside/file"] {
            assert!(folder.create(name).is_err() && folder.remove(name).is_err(), "{name}");
            assert!(folder.rename("good", name).is_err() && folder.rename(name, "stolen").is_err(), "{name}");
        }
        // A link or a pipe with a name that lith wants gives way; what it leads to stays.
        for name in ["absolute", "fifo", "magic"] {
            assert!(folder.create(name).unwrap().metadata().unwrap().is_file());
        }
        replace(&folder, "relative", b"new").unwrap();
        assert!(folder.create("directory").is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read(outside.join("file")).unwrap(), WORDS);
    }

    #[test]
    fn locks_are_of_its_own_files() {
        let Planted { _root, outside, folder } = plant();
        symlink(outside.join("file"), folder.path.join(READERS)).unwrap();
        assert!(folder.share().is_err() && folder.try_own().is_err());
        folder.remove(READERS).unwrap();
        let reads = folder.share().unwrap();
        assert!(folder.try_own().unwrap().is_none());
        drop(reads);
        assert!(folder.try_own().unwrap().is_some());
        mknodat(CWD, folder.path.join("lock"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(crate::service::VolumeLock::take(&folder.path, "v", "holder").is_err());
    }

    #[test]
    fn folders_are_made_and_listed() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        assert!(Folder::read_only(root.path()).list("base").unwrap().is_empty());
        assert!(folder.list("base").unwrap().is_empty());
        drop(folder.create("base/b").unwrap());
        drop(folder.create("base/a").unwrap());
        folder.rename("base/a", "base/c").unwrap();
        folder.sync_folder("base").unwrap();
        assert_eq!(folder.list("base").unwrap(), ["b", "c"]);
        assert_eq!(folder.list("").unwrap(), ["base"]);
    }
}
