//! Where the bytes of a volume come from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The bytes of a volume, which do not change while they are read.
pub trait Source: Send {
    /// How many there are.
    fn bytes(&self) -> u64;

    /// Fills `into` with what is stored from `offset` on. Never asked for what lies beyond [`Source::bytes`].
    ///
    /// # Errors
    /// What the medium says.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

/// A plain image. One whose size cannot be told counts as empty.
impl Source for File {
    fn bytes(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }
}
