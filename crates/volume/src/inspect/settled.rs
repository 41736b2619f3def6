//! The disk of a file system as its kernel would leave it after the journal: for who mounts it without being allowed to
//! write, which replaying the journal in the usual way would take.

use super::error::InspectError;
use super::filesystem::FileSystem;
use super::path;
use super::source::Source;

/// The blocks of a file system, those of the journal in their places. A kernel mounts it with the option `noload`: the
/// superblock still says that there is a journal to be replayed.
pub struct Settled {
    filesystem: FileSystem,
}

impl Settled {
    /// Opens the file system in `source`, and reads its journal. `root` is the folder of it that tasks are shown.
    ///
    /// # Errors
    /// There is no such file system or folder, or what describes the whole is damaged.
    pub fn open(source: Box<dyn Source>, root: &str) -> Result<Self, InspectError> {
        let filesystem = FileSystem::open(source)?;
        filesystem.disk.begin();
        path::root(&filesystem, root)?;
        Ok(Self { filesystem })
    }

    /// Its size, bytes: that of the file system, whose disk may be larger.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.filesystem.layout.blocks * u64::from(self.filesystem.layout.block_bytes)
    }

    /// Fills `into` with what is at `offset`.
    ///
    /// # Errors
    /// It does not lie within, or the disk gives no answer.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), InspectError> {
        let block_bytes = self.filesystem.layout.block_bytes;
        let first = offset / u64::from(block_bytes);
        let skip = (offset % u64::from(block_bytes)) as usize;
        let whole = (skip + into.len()).next_multiple_of(block_bytes as usize);
        if skip == 0 && whole == into.len() {
            return self.filesystem.disk.content(first, into);
        }
        let mut content = vec![0; whole];
        self.filesystem.disk.content(first, &mut content)?;
        into.copy_from_slice(&content[skip..skip + into.len()]);
        Ok(())
    }
}
