//! The keeper: what has time. Marks of regions that are idle, folding, and the space that is left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::cutter::now_ns;
use super::run::{ServedVolume, Service};
use crate::volume::Retention;

/// Between two looks at the space that is left: a fast disk fills a gigabyte meanwhile, of which the reserve is several.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// Looks between two rounds of the rest.
const ROUND_LOOKS: u32 = 10;
/// Looks between two folds of a volume: what one gives up must have had an effect before more is given up.
const FOLD_LOOKS: u32 = 60;
/// Bytes a second that folding may read and write: a tenth of a slow disk's.
const FOLD_BYTES_PER_S: u64 = 16 << 20;
/// How much of its history a volume gives up at a time when there is no space, as a part of what it has.
const SHRINK_DIVISOR: u64 = 2;

/// Works until the service ends.
pub(super) fn run(service: &Arc<Service>) {
    let mut looks: u32 = 0;
    while !service.waits_for_end(SPACE_INTERVAL) {
        looks = looks.wrapping_add(1);
        look_at_space(service);
        for (position, served) in service.volumes.iter().enumerate() {
            if looks.is_multiple_of(ROUND_LOOKS)
                && let Err(error) = served.volume.unmark()
            {
                service.note(&(position, error));
            }
            if looks.is_multiple_of(FOLD_LOOKS) {
                fold(service, position);
            }
        }
    }
}

fn look_at_space(service: &Service) {
    for served in &service.volumes {
        served.volume.set_full(is_full(served));
    }
}

fn is_full(served: &ServedVolume) -> bool {
    match rustix::fs::statvfs(&served.folder) {
        Ok(space) => space.f_bavail.saturating_mul(space.f_frsize) < served.reserve_bytes,
        Err(_) => false,
    }
}

fn fold(service: &Service, position: usize) {
    let served = &service.volumes[position];
    let mut retention = Retention {
        window_ns: i64::try_from(service.window_ns.load(Ordering::Acquire)).unwrap_or(i64::MAX),
        bytes_max: served.history_bytes_max.load(Ordering::Acquire),
    };
    if is_full(served) {
        // What is old goes before a guest is refused for long.
        retention.bytes_max = retention.bytes_max.min(served.volume.status().history_bytes / SHRINK_DIVISOR);
    }
    let pace = |bytes: u64| {
        let nanoseconds = bytes.saturating_mul(1_000_000_000) / FOLD_BYTES_PER_S;
        // To wait here is what makes it slow. Meanwhile nobody else looks.
        service.waits_for_end(Duration::from_nanos(nanoseconds));
        look_at_space(service);
    };
    if let Err(error) = served.volume.fold(retention, now_ns(), &pace) {
        service.note(&(position, error));
    }
}
