//! A volume in a folder of its own, and short words for what is done to it.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use lith_volume::block::BLOCK_BYTES;
use lith_volume::disk::{Disk, Patience};
use lith_volume::error::VolumeError;
use lith_volume::history::History;
use lith_volume::pieces::Pieces;
use lith_volume::segment::VolumeUuid;
use lith_volume::storage::Folder;
use lith_volume::volume::Volume;

pub(crate) const UUID: VolumeUuid = VolumeUuid([7; 16]);
pub(crate) const SECOND: i64 = 1_000_000_000;

pub(crate) struct Fixture {
    folder: tempfile::TempDir,
}

/// What a block is filled with: nothing that packs well, and different for each value and block.
pub(crate) fn content(block: u64, value: u64) -> Vec<u8> {
    let mut state = (block << 32 | value).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..BLOCK_BYTES / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

impl Fixture {
    pub(crate) fn new(blocks: u64) -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::File::create(fixture.path("disk.img")).unwrap().set_len(blocks * BLOCK_BYTES).unwrap();
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn storage(&self) -> Folder {
        Folder::new(self.folder.path())
    }

    pub(crate) fn open(&self) -> Result<Volume<Folder>, VolumeError> {
        self.open_as(UUID)
    }

    /// The same, with another identity should it have none.
    pub(crate) fn open_as(&self, uuid: VolumeUuid) -> Result<Volume<Folder>, VolumeError> {
        Volume::open_or_begin(self.storage(), uuid, 1)
    }

    pub(crate) fn history(&self) -> Result<History<Folder>, VolumeError> {
        History::open(Folder::read_only(self.folder.path()))
    }

    /// The names of files in a folder, in order.
    pub(crate) fn list(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Changes a byte of a file behind everybody's back.
    pub(crate) fn flip(&self, name: &str, offset: u64) {
        let file = std::fs::File::options().read(true).write(true).open(self.path(name)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x40], offset).unwrap();
    }
}

pub(crate) fn write(volume: &Volume<Folder>, block: u64, value: u64) {
    volume.write(block * BLOCK_BYTES, &Pieces::of(&content(block, value))).unwrap();
}

/// Whether a block of the disk was filled with a value; zero is an empty one.
pub(crate) fn holds(volume: &Volume<Folder>, block: u64, value: u64) -> bool {
    let mut found = vec![1; BLOCK_BYTES as usize];
    volume.read(block * BLOCK_BYTES, &Pieces::of_mut(&mut found), Patience::Waits).unwrap();
    found == if value == 0 { vec![0; found.len()] } else { content(block, value) }
}
