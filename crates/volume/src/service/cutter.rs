//! The cutter: a checkpoint of all volumes each interval while something changes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lith_core::chain::chain;

use super::run::{Duty, Service};
use crate::error::VolumeError;
use crate::storage::Folder;
use crate::volume::{Cut, CutTime, Volume, begin_cuts};

/// Between the end of a cut and the next one: what the guest writes has its turn at the disk.
const REST_MIN: Duration = Duration::from_millis(100);

/// What an ordinary disk writes in a moment, beside what the guest writes. For each more of it there is one interval more.
const BULK_BYTES: u64 = 64 << 20;
/// But never more than this lies between two cuts.
const INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Nanoseconds since 1970 UTC.
pub(super) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Cuts until the service ends.
pub(super) fn run(service: &Arc<Service>) {
    let mut wait = service.interval;
    let mut cut_at = Instant::now();
    while !service.waits_for_end(wait) {
        let looked_at = Instant::now();
        let dirty_bytes: u64 = service.volumes.iter().map(|served| served.volume.dirty_bytes()).sum();
        if dirty_bytes > 0 && cut_at.elapsed() >= due_after(service.interval, dirty_bytes) {
            cut_at = looked_at;
            // Its status tells what went wrong.
            let _ = cut(service, false);
        }
        wait = service.interval.saturating_sub(looked_at.elapsed()).max(REST_MIN);
    }
}

/// How long after the last cut the next one is due. A guest that writes in bulk is not held up by copies of what it
/// overwrites a moment later: the more there is to copy, the rarer it is copied.
fn due_after(interval: Duration, dirty_bytes: u64) -> Duration {
    let factor = u32::try_from(dirty_bytes / BULK_BYTES).unwrap_or(u32::MAX).max(1);
    // A look that comes a little early is not put off to the next one.
    (interval.saturating_mul(factor)).min(INTERVAL_MAX.max(interval)) - interval / 8
}

/// A checkpoint of all that has changed, at one instant. Each volume's status tells how it went; the first thing that went
/// wrong is told here, too.
pub(super) fn cut(service: &Service, is_at_rest: bool) -> Result<(), VolumeError> {
    // One after the other: a person who asks for one waits for the one under way.
    let _turn = service.cutting.lock();
    cut_in_turn(service, is_at_rest)
}

/// The same for who has the turn.
pub(super) fn cut_in_turn(service: &Service, is_at_rest: bool) -> Result<(), VolumeError> {
    let volumes: Vec<&Volume<Folder>> = service.volumes.iter().map(|served| &*served.volume).collect();
    let cuts = begin_cuts(&volumes, CutTime { now_ns: now_ns(), is_at_rest });
    let mut all = Ok(());
    for (served, cut) in service.volumes.iter().zip(cuts) {
        let result = cut.and_then(|cut| cut.map_or(Ok(()), finish));
        served.note(Duty::Cut, result.as_ref().err().map(|error| chain(error)));
        all = all.and(result);
    }
    all
}

fn finish(cut: Cut<'_, Folder>) -> Result<(), VolumeError> {
    // A failure is remembered, and told at the end.
    while cut.copy().unwrap_or(false) {}
    cut.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_is_cut_less_often() {
        let second = Duration::from_secs(1);
        let due = |dirty_bytes| due_after(second, dirty_bytes).as_millis();
        assert_eq!([due(1), due(BULK_BYTES), due(2 * BULK_BYTES), due(u64::MAX)], [875, 875, 1875, 29_875]);
    }
}
