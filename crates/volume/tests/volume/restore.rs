//! Restores that meet damage.

use lith_volume::error::VolumeError;

use crate::fixture::{Fixture, SECOND, holds, write};

const BLOCKS: u64 = 1024;

/// Checkpoint 1 fills all blocks with 1, and 2 all with 2.
fn filled() -> (Fixture, lith_volume::volume::Volume<lith_volume::storage::Folder>) {
    let fixture = Fixture::new(BLOCKS);
    let volume = fixture.open().unwrap();
    for value in 1..3 {
        (0..BLOCKS).for_each(|block| write(&volume, block, value));
        let point = volume.cut_at_rest(i64::try_from(value).unwrap() * SECOND).unwrap();
        assert_eq!(point.id.seq, value);
    }
    (fixture, volume)
}

fn log(fixture: &Fixture) -> String {
    format!("log/{}", fixture.list("log")[0])
}

#[test]
fn damage_is_found_before_anything_is_changed() {
    let (fixture, volume) = filled();
    // In the middle of what the first checkpoint holds.
    fixture.flip(&log(&fixture), BLOCKS * 4096 / 2);
    match volume.restore(1, "before", 3 * SECOND) {
        Err(VolumeError::Damaged { name, .. }) => assert_eq!(name, log(&fixture)),
        other => panic!("{other:?}"),
    }
    assert!((0..BLOCKS).all(|block| holds(&volume, block, 2)), "the disk was changed");
    assert_eq!(volume.manifest().restore, None);
    assert!(volume.manifest().snapshots.is_empty());
    // What the restore does not need may be damaged.
    volume.restore(2, "before", 3 * SECOND).unwrap();
    volume.restore(0, "before that", 4 * SECOND).unwrap();
    assert!((0..BLOCKS).all(|block| holds(&volume, block, 0)));
}

#[test]
fn there_is_a_way_back_from_damage_in_the_middle() {
    let (fixture, volume) = filled();
    // As a crash leaves it that comes upon a restore, with a file that is damaged afterwards.
    volume.snapshot("before").unwrap();
    (0..2).for_each(|_| volume.unmark().unwrap());
    drop(volume);
    let path = fixture.path("volume.json");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let begun = r#""restore": { "target": 1, "replaced": 2 }"#;
    std::fs::write(&path, manifest.replace(r#""restore": null"#, begun)).unwrap();
    fixture.flip(&log(&fixture), BLOCKS * 4096 / 2);
    let volume = fixture.open().unwrap();
    match volume.end_restore(3 * SECOND) {
        Err(VolumeError::RestoreUnfinished { seq: 1, source }) => match *source {
            VolumeError::Damaged { name, .. } => assert_eq!(name, log(&fixture)),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    assert!(holds(&volume, 0, 1), "the first half was restored");
    // To the same one again: it is refused, and nothing is forgotten.
    assert!(matches!(volume.restore(1, "again", 4 * SECOND), Err(VolumeError::Damaged { .. })));
    drop(volume);
    let volume = fixture.open().unwrap();
    assert_eq!(volume.manifest().restore.map(|restore| restore.target), Some(1));
    // And back.
    volume.restore(2, "before", 5 * SECOND).unwrap();
    assert!((0..BLOCKS).all(|block| holds(&volume, block, 2)));
    assert_eq!(volume.manifest().restore, None);
    assert_eq!(volume.manifest().snapshots.len(), 1);
}

#[test]
fn what_another_segment_follows_is_not_taken_for_torn() {
    let (fixture, volume) = filled();
    drop(volume);
    fixture.flip(&log(&fixture), BLOCKS * 4096 / 2);
    let size = std::fs::metadata(fixture.path(&log(&fixture))).unwrap().len();
    // Nobody has noted yet that it is durable. The one behind it says so.
    match fixture.open() {
        Err(VolumeError::Damaged { name, .. }) => assert_eq!(name, log(&fixture)),
        other => panic!("{other:?}"),
    }
    assert_eq!(std::fs::metadata(fixture.path(&log(&fixture))).unwrap().len(), size, "a checkpoint is lost");
    fixture.flip(&log(&fixture), BLOCKS * 4096 / 2);
    assert_eq!(fixture.open().unwrap().status().tip.id.seq, 2);
}
