//! Disks that guests write: the scratch disk of an alloc, which is the upper layer of its task's root, and volumes. Each is
//! a sparse file with an empty ext4. Owns their making; it must never mount one, for a guest has written it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the program is; root runs it, so the environment's PATH is not asked.
const PROGRAMS: [&str; 3] = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4"];
/// Smaller ones do not hold a journal and lith's folders.
const BYTES_MIN: u64 = 16 << 20;
/// ext4 without 64-bit block numbers ends here.
const BYTES_MAX: u64 = 16 << 40;

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// The program that formats is not installed.
    #[error("cannot find mkfs.ext4")]
    NoProgram,
    /// No such size.
    #[error("cannot make a disk of {bytes} bytes")]
    Size {
        /// The size asked for.
        bytes: u64,
    },
    /// The file cannot be made.
    #[error("cannot make disk {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Formatting failed.
    #[error("cannot format disk {}: {complaint}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the program said.
        complaint: String,
    },
}

impl ScratchError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            ScratchError::NoProgram => Some("install it (Debian: apt-get install e2fsprogs)".to_owned()),
            ScratchError::Size { .. } => {
                Some(format!("choose a size from {} MiB to {} TiB", BYTES_MIN >> 20, BYTES_MAX >> 40))
            }
            ScratchError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free space on the disk of lith's data".to_owned())
            }
            ScratchError::File { .. } | ScratchError::Format { .. } => None,
        }
    }
}

/// The installed `mkfs.ext4`.
///
/// # Errors
/// [`ScratchError::NoProgram`].
pub fn find_mkfs() -> Result<PathBuf, ScratchError> {
    PROGRAMS.iter().map(PathBuf::from).find(|path| path.is_file()).ok_or(ScratchError::NoProgram)
}

/// What a disk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// What a task writes into its root.
    Scratch,
    /// A volume.
    Volume,
}

impl Purpose {
    /// The label of its file system, for a person who looks at it.
    fn label(self) -> &'static str {
        match self {
            Purpose::Scratch => "scratch",
            Purpose::Volume => "volume",
        }
    }
}

/// Makes an empty disk at `path`, unless one is there: it lives across restarts. `bytes` is its size; blocks are taken as
/// they are written. Only root can open it; the VMM gets it open.
///
/// # Errors
/// See [`ScratchError`]; nothing is left at `path` then.
pub fn create(path: &Path, purpose: Purpose, bytes: u64) -> Result<(), ScratchError> {
    // A disk that cannot be looked at is no disk that is not there: it would be replaced by an empty one.
    let is_there = path.try_exists();
    if is_there.map_err(|source| ScratchError::File { path: path.to_owned(), source })? {
        return Ok(());
    }
    if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
        return Err(ScratchError::Size { bytes });
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let building = PathBuf::from(name);
    let result = format(&building, purpose, bytes).and_then(|()| publish(&building, path));
    if result.is_err() {
        // The cause is what is reported.
        let _ = std::fs::remove_file(&building);
    }
    result
}

fn format(path: &Path, purpose: Purpose, bytes: u64) -> Result<(), ScratchError> {
    let file_error = |source| ScratchError::File { path: path.to_owned(), source };
    // What has the name is replaced, not followed: the folder of a volume is not root's alone.
    let removed = match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    };
    let file = removed.and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path));
    file.and_then(|file| file.set_len(bytes)).map_err(file_error)?;
    let mut command = Command::new(find_mkfs()?);
    // No blocks reserved for root: the guest's root is the task. Inode tables are written by the guest as it needs
    // them, which keeps the file sparse. One inode in 16 KiB is what package trees need.
    // Small file systems would get blocks of 1 KiB, of which four change where one would.
    command.args(["-q", "-F", "-b", "4096", "-m", "0", "-i", "16384", "-L", purpose.label()]);
    command.args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", "-O", "^metadata_csum_seed"]);
    let output = command.arg(path).env_clear().output().map_err(file_error)?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ScratchError::Format { path: path.to_owned(), complaint })
}

fn publish(building: &Path, path: &Path) -> Result<(), ScratchError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::File::open(building)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::rename(building, path))
        .and_then(|()| crate::durable::sync_folder(folder))
        .map_err(|source| ScratchError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            create(&folder.path().join("s"), Purpose::Scratch, 1),
            Err(ScratchError::Size { bytes: 1 })
        ));
        assert!(matches!(
            create(&folder.path().join("no/s"), Purpose::Scratch, 1 << 30),
            Err(ScratchError::File { .. })
        ));
        std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
        assert!(matches!(
            create(&folder.path().join("loop"), Purpose::Scratch, 1 << 30),
            Err(ScratchError::File { .. })
        ));
        std::fs::remove_file(folder.path().join("loop")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
