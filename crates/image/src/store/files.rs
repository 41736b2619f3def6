//! Files of the store: durable writes, locks, sizes.
//!
//! Must not know what the files mean.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{ImageError, io_error};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const CONFIG: &str = "config.json";
pub(super) const RECORD: &str = "image.json";
pub(super) const ROOTFS: &str = "rootfs.erofs";
/// Locked by the maker of a temporary folder as long as it lives.
pub(super) const ALIVE: &str = "alive";

/// Opens (creating) and locks a file; waits for whoever holds it. The lock goes with the file, or its process.
pub(super) fn lock_file(path: &Path) -> Result<File, ImageError> {
    let file = File::options().create(true).append(true).open(path).map_err(io_error("open", path))?;
    file.lock().map_err(io_error("lock", path))?;
    Ok(file)
}

/// A lock whose file goes with it, for names of which there is no end.
#[derive(Debug)]
pub(super) struct PassingLock {
    path: PathBuf,
    _file: File,
}

impl PassingLock {
    /// Waits for whoever holds it.
    pub(super) fn take(path: PathBuf) -> Result<PassingLock, ImageError> {
        loop {
            let file = lock_file(&path)?;
            // Whoever held it before has removed the file: a lock on that is one that nobody else sees.
            let own = file.metadata().map_err(io_error("lock", &path))?;
            if fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
                return Ok(PassingLock { path, _file: file });
            }
        }
    }
}

impl Drop for PassingLock {
    fn drop(&mut self) {
        // Still locked, so that nobody else takes it before it is gone. What stays is swept at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the files of locks that nobody holds.
pub(super) fn sweep_locks(folder: &Path) -> Result<(), ImageError> {
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let path = entry.map_err(io_error("read", folder))?.path();
        if let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
        {
            // Whoever waits for it finds it gone, and makes it anew.
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Removes a folder with all that is in it; one that is gone already is as good.
pub(super) fn remove_folder(path: &Path) -> Result<(), ImageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Whether the maker of a temporary folder is gone.
pub(super) fn is_abandoned(folder: &Path) -> bool {
    match File::open(folder.join(ALIVE)) {
        Ok(file) => !matches!(file.try_lock(), Err(TryLockError::WouldBlock)),
        Err(_) => true,
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), ImageError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(io_error("sync", path))
}

/// Writes a new file and syncs it.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io_error("write", path))
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ImageError> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| ImageError::Damaged { path: path.to_owned(), source })
}

/// Replaces a file in one step. Callers hold the store's lock, so one temporary name is enough.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ImageError> {
    let temporary = path.with_extension("new");
    let bytes = serde_json::to_vec_pretty(value).expect("records of plain fields are always JSON");
    // Only a crash leaves one behind.
    let _ = fs::remove_file(&temporary);
    let result = write_new(&temporary, &bytes)
        .and_then(|()| fs::rename(&temporary, path).map_err(io_error("write", path)))
        .and_then(|()| sync_folder(path.parent().unwrap_or(Path::new("."))));
    if result.is_err() {
        // The write's own error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    result
}

/// Bytes that a file takes on the disk, which is less than its length where it has holes.
pub(super) fn disk_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.blocks() * 512)
}
