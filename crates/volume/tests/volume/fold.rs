//! Folds that come to nothing.

use lith_volume::storage::Folder;
use lith_volume::volume::{Folded, Retention, Volume};

use crate::fixture::{Fixture, SECOND, holds, write};

const BLOCKS: u64 = 64;

fn fill(volume: &Volume<Folder>, value: u64) {
    (0..BLOCKS).for_each(|block| write(volume, block, value));
    volume.cut_at_rest(i64::try_from(value).unwrap() * SECOND).unwrap();
}

fn fold(volume: &Volume<Folder>, bytes_max: u64) -> Folded {
    let retention = Retention { window_ns: i64::MAX, bytes_max };
    volume.fold(retention, 1000 * SECOND, &|_| {}).unwrap()
}

fn files(fixture: &Fixture) -> Vec<String> {
    [fixture.list("log"), fixture.list("base")].concat()
}

#[test]
fn a_fold_that_waits_for_a_reader_in_vain_leaves_nothing() {
    let fixture = Fixture::new(BLOCKS);
    let volume = fixture.open().unwrap();
    (1..4).for_each(|value| fill(&volume, value));
    let reader = fixture.history().unwrap();
    assert_eq!(fold(&volume, 0), Folded::IsRead);
    let left = files(&fixture);
    assert!(left.iter().all(|name| !name.ends_with(".folded") && !name.ends_with(".merged")), "{left:?}");
    assert_eq!(fold(&volume, 0), Folded::IsRead);
    assert_eq!(files(&fixture), left, "each try leaves a file");
    drop(reader.view(2).unwrap());
    assert_eq!(fold(&volume, 0), Folded::Done);
    assert_eq!(volume.status().base.id.seq, 3);
    assert!((0..BLOCKS).all(|block| holds(&volume, block, 3)));
    // The files of the tries are gone with the first fold that is done.
    assert_eq!(files(&fixture).len(), 2, "{:?}", files(&fixture));
}

#[test]
fn what_snapshots_need_is_not_folded_over_and_over() {
    let fixture = Fixture::new(BLOCKS);
    let volume = fixture.open().unwrap();
    fill(&volume, 1);
    volume.snapshot("one").unwrap();
    fill(&volume, 2);
    // Less than the snapshot's own blocks take.
    let bytes_max = BLOCKS * 4096 / 2;
    assert_eq!(fold(&volume, bytes_max), Folded::Done);
    fill(&volume, 3);
    let before = files(&fixture);
    for _ in 0..2 {
        match fold(&volume, bytes_max) {
            Folded::IsPinned { bytes } => assert!(bytes > 2 * BLOCKS * 4096, "{bytes}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(files(&fixture), before);
    // Without the snapshot it can be folded.
    volume.forget_snapshot("one").unwrap();
    assert_eq!(fold(&volume, bytes_max), Folded::Done);
    assert!(volume.status().history_bytes <= bytes_max, "{:?}", volume.status());
}
