//! Who may write a volume: one process at a time, which holds its lock for as long as it has it open.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::protocol::Failure;
use crate::storage::Folder;

/// The file whose lock it is, and whose content says who has it.
const NAME: &str = "lock";
/// Longest word about who has it.
const HOLDER_BYTES_MAX: u64 = 256;

/// Held while this lives; the kernel drops it with the process, however that ends.
#[derive(Debug)]
pub struct VolumeLock {
    _file: File,
}

impl VolumeLock {
    /// Takes the volume in a folder for this process alone.
    ///
    /// # Errors
    /// Somebody else has it, who is named; or the file cannot be used.
    pub fn take(folder: &Path, id: &str, holder: &str) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure { message: format!("volume {id}: {error}"), hint: None };
        let mut file = Folder::new(folder).open_or_make(NAME).map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut by = String::new();
            // It is for the sentence only.
            let _ = (&mut file).take(HOLDER_BYTES_MAX).read_to_string(&mut by);
            let message = format!("volume {id} is being written by {}", by.trim().escape_debug());
            return Err(Failure { message, hint: Some("one alloc at a time may write a volume".to_owned()) });
        }
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(failed)?;
        Ok(Self { _file: file })
    }
}
