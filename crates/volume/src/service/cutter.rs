//! The cutter: a checkpoint of all volumes each interval while something changes.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::protocol::CutPoint;
use super::run::Service;
use crate::error::VolumeError;
use crate::storage::Folder;
use crate::volume::{Cut, CutTime, Volume, begin_cuts};

/// Between the end of a cut and the next one: what the guest writes has its turn at the disk.
const REST_MIN: Duration = Duration::from_millis(100);

/// Nanoseconds since 1970 UTC.
pub(super) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Cuts until the service ends.
pub(super) fn run(service: &Arc<Service>) {
    let interval = service.interval;
    let mut wait = interval;
    while !service.waits_for_end(wait) {
        let started = Instant::now();
        if service.volumes.iter().any(|served| served.volume.is_dirty()) {
            for error in cut(service, false).1 {
                service.note(&error);
            }
        }
        wait = interval.saturating_sub(started.elapsed()).max(REST_MIN);
    }
}

/// A checkpoint of all that has changed, at one instant; those that came of it, and what went wrong.
pub(super) fn cut(service: &Service, is_at_rest: bool) -> (Vec<CutPoint>, Vec<(usize, VolumeError)>) {
    // One after the other: a person who asks for one waits for the one under way.
    let _turn = service.cutting.lock();
    let volumes: Vec<&Volume<Folder>> = service.volumes.iter().map(|served| &*served.volume).collect();
    let cuts = begin_cuts(&volumes, CutTime { now_ns: now_ns(), is_at_rest });
    let (mut points, mut errors) = (Vec::new(), Vec::new());
    for (position, cut) in cuts.into_iter().enumerate() {
        match cut.and_then(|cut| cut.map(finish).transpose()) {
            Ok(Some((epoch, seq, time_ns))) => {
                let volume = service.volumes[position].id.clone();
                points.push(CutPoint { volume, epoch, seq, time_ns });
            }
            Ok(None) => {}
            Err(error) => errors.push((position, error)),
        }
    }
    (points, errors)
}

fn finish(cut: Cut<'_, Folder>) -> Result<(u64, u64, i64), VolumeError> {
    // A failure is remembered, and told at the end.
    while cut.copy().unwrap_or(false) {}
    let point = cut.finish()?;
    Ok((point.id.epoch, point.id.seq, point.time_ns))
}
