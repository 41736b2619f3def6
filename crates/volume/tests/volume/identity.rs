//! Files of two histories in one folder, as a crash leaves them that comes upon one being put aside.

use std::fs;

use lith_volume::error::VolumeError;
use lith_volume::segment::{Damage, VolumeUuid};

use crate::fixture::{Fixture, SECOND, UUID, write};

const OTHER: VolumeUuid = VolumeUuid([8; 16]);
const BLOCKS: u64 = 16;
const PARTS: [&str; 4] = ["volume.json", "intents", "log", "base"];

/// A volume with two checkpoints and a disk that has changed since.
fn used(uuid: VolumeUuid, is_noted: bool) -> Fixture {
    let fixture = Fixture::new(BLOCKS);
    let volume = fixture.open_as(uuid).unwrap();
    for value in 1..3 {
        (0..BLOCKS / 2).for_each(|block| write(&volume, block, value));
        volume.cut_at_rest(i64::try_from(value).unwrap() * SECOND).unwrap();
    }
    if is_noted {
        volume.snapshot("kept").unwrap();
        (0..2).for_each(|_| volume.unmark().unwrap());
    }
    fixture
}

/// All files that have content.
fn files(fixture: &Fixture) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for folder in ["", "log", "base"] {
        let names = fs::read_dir(fixture.path(folder)).into_iter().flatten();
        let paths = names
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file() && !path.ends_with("readers"));
        files.extend(paths.map(|path| (path.display().to_string(), fs::read(&path).unwrap())));
    }
    // An empty map of what is marked says nothing.
    files.retain(|(_, content)| !content.is_empty());
    files.sort();
    files
}

#[test]
fn a_history_that_is_half_put_aside_is_neither_gone_on_with_nor_lost() {
    for is_noted in [true, false] {
        for parts in 1..1 << PARTS.len() {
            let fixture = used(UUID, is_noted);
            let gone =
                || PARTS.iter().enumerate().filter(|(bit, _)| parts & 1 << bit != 0).map(|(_, name)| name);
            fs::create_dir(fixture.path("aside")).unwrap();
            gone().for_each(|name| fs::rename(fixture.path(name), fixture.path("aside").join(name)).unwrap());
            let before = files(&fixture);
            let words = gone().copied().collect::<Vec<_>>().join(", ");
            let opened = fixture.open_as(OTHER);
            if parts + 1 == 1 << PARTS.len() {
                assert_eq!(opened.unwrap().uuid(), OTHER, "all of it is gone: another one begins");
            } else if words == "log" && !is_noted {
                // Nobody knows of these checkpoints, but what was touched counts as changed since the base.
                let status = opened.unwrap().status();
                assert_eq!((status.tip.id.seq, status.dirty_blocks), (0, BLOCKS));
            } else if words == "intents, log, base" && !is_noted {
                // As new as can be told, and the disk is what it was: nothing is mixed.
                assert_eq!(opened.unwrap().status().tip.id.seq, 0);
            } else {
                let error = opened.err().unwrap_or_else(|| panic!("{words} is not missed"));
                assert!(
                    error.hint().is_some_and(|hint| hint.contains("forget-history")),
                    "{words}: {error:?}"
                );
                assert!(files(&fixture) == before, "{words}: files were changed");
                // Back in its place, it is what it was.
                gone().for_each(|name| {
                    let path = fixture.path(name);
                    let _ = fs::remove_dir(&path);
                    fs::rename(fixture.path("aside").join(name), path).unwrap();
                });
                assert_eq!(fixture.open().unwrap().status().tip.id.seq, 2, "{words}");
            }
        }
    }
}

#[test]
fn a_reader_misses_no_base_blocks_in_silence() {
    let fixture = used(UUID, true);
    let base = format!("base/{}", fixture.list("base")[0]);
    fixture.history().unwrap().view(0).unwrap();
    // The header of its first segment; then all of the file.
    fixture.flip(&base, 40);
    let damaged = |error: Option<VolumeError>| match error {
        Some(VolumeError::Damaged { name, .. }) => assert_eq!(name, base),
        other => panic!("{other:?}"),
    };
    damaged(fixture.history().unwrap().view(0).err());
    fs::remove_file(fixture.path(&base)).unwrap();
    damaged(fixture.history().unwrap().view(0).err());
}

#[test]
fn segments_of_another_volume_are_never_mixed_in() {
    for folder in ["log", "base"] {
        let (fixture, other) = (used(UUID, false), used(OTHER, false));
        fs::remove_dir_all(fixture.path(folder)).unwrap();
        fs::rename(other.path(folder), fixture.path(folder)).unwrap();
        let check = |error: Option<VolumeError>, who: &str| match error {
            Some(VolumeError::Damaged { source: Damage::Foreign { volume }, name, .. }) => {
                assert_eq!(volume, OTHER, "{who}");
                assert!(name.starts_with(folder), "{who}: {name}");
            }
            other => panic!("{who} in {folder}: {other:?}"),
        };
        let before = files(&fixture);
        check(fixture.open().err(), "a writer");
        let view = fixture.history().unwrap().view(if folder == "log" { 2 } else { 0 });
        check(view.err(), "a reader");
        check(fixture.history().unwrap().verify(&|_| {}).err(), "a check");
        assert!(files(&fixture) == before, "files were changed in {folder}");
    }
}
