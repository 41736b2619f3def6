//! Damaged files of a history: found, named, and no harm to the disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use lith_testkit::World;

use super::{VOLUME, does_not_start, names, run, running, starts_again, stop, with_a_note};
use crate::load::checkpoints;

/// Bytes of a segment's header; see `docs/reference/volume-format.md`.
const HEADER_BYTES: u64 = 512;

/// A segment of a file.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    /// Where it begins.
    offset: u64,
    /// The checkpoint that it leads to.
    seq: u64,
    /// Bytes of content behind its header.
    content_bytes: u64,
}

impl Segment {
    /// What errors call its file.
    fn name(&self) -> String {
        let folder = self.path.parent().unwrap();
        format!("{}/{}", name_of(folder), name_of(&self.path))
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// The segments of the files in a folder that have content, in order.
fn segments(folder: &Path) -> Vec<Segment> {
    let mut found = Vec::new();
    for path in names(folder) {
        let bytes = std::fs::read(&path).unwrap();
        let number = |offset: u64| {
            let at = usize::try_from(offset).unwrap();
            u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
        };
        let mut offset = 0;
        while offset < bytes.len() as u64 {
            let (seq, table_offset) = (number(offset + 40), number(offset + 120));
            let table_bytes = number(offset + 116) & u64::from(u32::MAX);
            let content_bytes = table_offset - HEADER_BYTES;
            found.push(Segment { path: path.clone(), offset, seq, content_bytes });
            offset += (table_offset + table_bytes).next_multiple_of(HEADER_BYTES);
        }
    }
    found.retain(|segment| segment.content_bytes > 0);
    found
}

fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

/// A world whose volume has a history of several checkpoints, and whose task is stopped.
fn with_a_history() -> World {
    let world = World::start(&["hello"]);
    with_a_note(&world);
    for name in ["first", "second", "third"] {
        let _ = run(&world, "dd if=/dev/urandom of=/srv/changing bs=64k count=8 conv=notrunc; sync");
        let _ = world.lith(&["volume", "snapshot", VOLUME, "--name", name]).ok();
    }
    stop(&world);
    world
}

fn folder(world: &World) -> PathBuf {
    world.data_dir.join("volumes/notes.data.0")
}

/// `lith volume check` says which file is damaged, where, and what to do.
fn is_found(world: &World, segment: &Segment) {
    let checked = world.lith(&["volume", "check", VOLUME]);
    assert_eq!(checked.code, 1, "{checked}");
    let place = format!("{} is damaged at byte {}", segment.name(), segment.offset);
    assert!(checked.stderr.contains(&place), "{place}: {checked}");
    assert!(checked.stderr.contains("lith volume forget-history"), "{checked}");
}

/// A restore that cannot be carried to its end is not begun.
fn is_not_restored(world: &World, seq: u64, segment: &Segment) {
    let before = std::fs::read(folder(world).join("disk.img")).unwrap();
    let refused = world.lith(&["volume", "restore", VOLUME, "--checkpoint", &seq.to_string(), "--yes"]);
    assert_eq!(refused.code, 1, "{refused}");
    let place = format!("{} is damaged at byte {}", segment.name(), segment.offset);
    assert!(refused.stderr.contains(&place), "{place}: {refused}");
    let after = std::fs::read(folder(world).join("disk.img")).unwrap();
    assert!(before == after, "the disk was changed");
    assert!(!world.data_dir.join("node/restore.json").exists(), "it was begun");
}

/// Without its history the volume is whole.
fn goes_on_without(world: &World) {
    let _ = world.lith(&["volume", "forget-history", VOLUME, "--yes"]).ok();
    let _ = world.lith(&["volume", "check", VOLUME]).ok();
    let aside = names(&folder(world)).into_iter().find(|path| name_of(path).starts_with("aside."));
    assert!(aside.expect("its files are kept").join("volume.json").exists());
    starts_again(world);
    let _ = world.lith(&["volume", "snapshot", VOLUME, "--name", "again"]).ok();
    stop(world);
    let _ = world.lith(&["volume", "check", VOLUME]).ok();
    assert!(!checkpoints(world, VOLUME).is_empty());
}

#[test]
fn a_damaged_checkpoint_is_named_and_does_no_harm() {
    let world = with_a_history();
    let snapshots = world.lith(&["volume", "snapshots", VOLUME, "--json"]).json();
    let seq = snapshots.as_array().unwrap().iter().find(|snapshot| snapshot["name"] == "second");
    let seq = seq.unwrap()["seq"].as_u64().unwrap();
    let found = segments(&folder(&world).join("log"));
    // Half a megabyte of what nobody can pack.
    let damaged = found.iter().find(|segment| segment.seq == seq && segment.content_bytes > 256 << 10);
    let damaged = damaged.unwrap_or_else(|| panic!("{seq}: {found:?}"));
    flip(&damaged.path, damaged.offset + HEADER_BYTES + damaged.content_bytes / 2);

    is_found(&world, damaged);
    is_not_restored(&world, seq, damaged);
    // The disk does not need it.
    starts_again(&world);
    let refused = world.lith(&["volume", "cat", "notes.data:/changing", "--checkpoint", &seq.to_string()]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    // Other checkpoints can be read, and restored.
    let _ = world.lith(&["volume", "cat", "notes.data:/note", "--snapshot", "third"]).ok();
    let _ = world.lith(&["volume", "restore", VOLUME, "--snapshot", "third", "--yes"]).ok();
    running(&world);
    stop(&world);
    goes_on_without(&world);
}

#[test]
fn a_history_that_is_cut_in_two_is_named_before_anything_starts() {
    let world = with_a_history();
    let found = segments(&folder(&world).join("log"));
    let damaged = &found[found.len() / 2];
    flip(&damaged.path, damaged.offset + 60);

    is_found(&world, damaged);
    does_not_start(&world, "notes", &format!("{} is damaged at byte {}", damaged.name(), damaged.offset));
    let _ = world.lith(&["stop", "notes"]).ok();
    goes_on_without(&world);
}

#[test]
fn a_damaged_base_is_named_and_does_no_harm() {
    let world = with_a_history();
    let found = segments(&folder(&world).join("base"));
    let damaged = found.first().expect("what the disk was made with has changed");
    flip(&damaged.path, damaged.offset + HEADER_BYTES + damaged.content_bytes / 2);

    is_found(&world, damaged);
    let oldest = checkpoints(&world, VOLUME)[0].seq;
    is_not_restored(&world, oldest, damaged);
    starts_again(&world);
    stop(&world);
    goes_on_without(&world);
}
