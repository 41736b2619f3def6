//! What a volume takes of the machine.

use std::io;
use std::path::Path;

use lith_volume::block::BLOCK_BYTES;
use lith_volume::disk::Disk;
use lith_volume::pieces::Pieces;

use crate::fixture::{Fixture, SECOND, content, holds, write};

#[test]
fn where_there_is_no_space_no_hole_is_filled() {
    let fixture = Fixture::new(64);
    let volume = fixture.open().unwrap();
    for block in (0..16).filter(|block| *block != 10) {
        write(&volume, block, 1);
    }
    volume.flush().unwrap();
    volume.set_full(true);
    let try_write = |start: u64, count: u64| {
        let bytes = content(start, 2).repeat(usize::try_from(count).unwrap());
        volume.write(start * BLOCK_BYTES, &Pieces::of(&bytes)).map_err(|error| error.kind())
    };
    // What has space already may be written, also in parts of blocks.
    assert_eq!(try_write(0, 10), Ok(()));
    assert_eq!(try_write(11, 5), Ok(()));
    volume.write(3 * BLOCK_BYTES + 512, &Pieces::of(&[1; 512])).unwrap();
    // A hole at the start, in the middle, at the end, and beside one.
    for (start, count) in [(10, 1), (10, 3), (0, 16), (4, 7), (15, 2), (40, 1)] {
        assert_eq!(try_write(start, count), Err(io::ErrorKind::StorageFull), "{count} from {start}");
    }
    assert!(holds(&volume, 10, 0) && holds(&volume, 16, 0));
    // Giving space back is always allowed.
    volume.discard(0..16 * BLOCK_BYTES).unwrap();
    volume.set_full(false);
    assert_eq!(try_write(0, 64), Ok(()));
}

/// Descriptors of this process on files within a folder: other tests may run in it at the same time.
fn open_files(folder: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    links
        .filter_map(|link| std::fs::read_link(link.path()).ok())
        .filter(|path| path.starts_with(folder))
        .count()
}

#[test]
fn a_long_history_does_not_take_all_descriptors() {
    const FILES: u64 = 200;
    let fixture = Fixture::new(16);
    let volume = fixture.open().unwrap();
    let folder = std::fs::canonicalize(fixture.path("")).unwrap();
    for value in 1..=FILES {
        write(&volume, value % 4, value);
        // A file is not continued after a quarter of an hour.
        volume.cut_at_rest(i64::try_from(value).unwrap() * 3600 * SECOND).unwrap();
    }
    assert_eq!(fixture.list("log").len() as u64, FILES);
    // The folder itself, the disk, the map of intents, the base's file, the last file of segments.
    assert!(open_files(&folder) <= 5, "{} are open", open_files(&folder));
    drop(volume);
    let volume = fixture.open().unwrap();
    assert!(open_files(&folder) <= 5, "{} are open after opening it", open_files(&folder));
    for seq in [1, FILES / 2, FILES] {
        let view = fixture.history().unwrap().view(seq).unwrap();
        let mut found = vec![0; BLOCK_BYTES as usize];
        view.read_at(seq % 4 * BLOCK_BYTES, &mut found).unwrap();
        assert_eq!(found, content(seq % 4, seq));
        assert!(open_files(&folder) < 60, "{} are open to read it", open_files(&folder));
    }
    drop(volume);
}
