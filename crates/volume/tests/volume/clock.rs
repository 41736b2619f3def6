//! A clock that was a year ahead.

use lith_volume::volume::{Folded, Retention};

use crate::fixture::{Fixture, SECOND, write};

const NOW: i64 = 1_800_000_000 * SECOND;
const HOUR: i64 = 3600 * SECOND;
const YEAR: i64 = 365 * 24 * HOUR;

#[test]
fn a_clock_that_was_ahead_stops_neither_retention_nor_the_choice_of_a_time() {
    let fixture = Fixture::new(16);
    let volume = fixture.open().unwrap();
    let cut = |value: u64, time_ns: i64| {
        write(&volume, 0, value);
        volume.cut_at_rest(time_ns).unwrap()
    };
    cut(1, NOW);
    cut(2, NOW + YEAR);
    cut(3, NOW + YEAR + HOUR);
    // It is put right; and a little later it is set back by a second.
    let right = cut(4, NOW + 2 * HOUR);
    assert_eq!(right.time_ns, NOW + 2 * HOUR);
    assert_eq!(cut(5, NOW + 2 * HOUR - SECOND).time_ns, NOW + 2 * HOUR + 1);
    cut(6, NOW + 20 * HOUR);
    // As a time is looked up: the newest that is not later.
    let list = fixture.history().unwrap().checkpoints().unwrap();
    let at = |time_ns: i64| list.iter().rfind(|one| one.time_ns <= time_ns).map(|one| one.id.seq);
    assert_eq!([at(NOW + HOUR), at(NOW + 3 * HOUR), at(NOW + 21 * HOUR)], [1, 5, 6].map(Some));
    // What was cut by the wrong clock is as old as what came next, and goes with it.
    let retention = Retention { window_ns: 24 * HOUR, bytes_max: u64::MAX };
    assert_eq!(volume.fold(retention, NOW + 26 * HOUR, &|_| {}).unwrap(), Folded::Nothing);
    assert_eq!(volume.fold(retention, NOW + 31 * HOUR, &|_| {}).unwrap(), Folded::Done);
    assert_eq!(volume.status().base.id.seq, 5);
}
