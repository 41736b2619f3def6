//! The keeper: what has time. Marks of regions that are idle, folding, and the space that is left.

use std::sync::Arc;
use std::time::Duration;

use lith_core::chain::chain;

use super::cutter::now_ns;
use super::run::{Duty, ServedVolume, Service};
use crate::error::VolumeError;
use crate::volume::{Folded, Retention};

/// Between two looks at the space that is left: a fast disk fills a gigabyte meanwhile, of which the reserve is several.
const SPACE_INTERVAL: Duration = Duration::from_secs(1);
/// Looks between two rounds of the rest.
const ROUND_LOOKS: u32 = 10;
/// Looks between two folds of a volume: what one gives up must have had an effect before more is given up.
const FOLD_LOOKS: u32 = 60;
/// Bytes a second that folding may read and write: a tenth of a slow disk's.
const FOLD_BYTES_PER_S: u64 = 16 << 20;
/// A fold that failed is tried again after twice as many of these, up to eight minutes.
const FOLD_DOUBLINGS_MAX: u32 = 3;
/// How much of its history a volume gives up at a time when there is no space, as a part of what it has.
const SHRINK_DIVISOR: u64 = 2;

/// Works until the service ends.
pub(super) fn run(service: &Arc<Service>) {
    let mut looks: u32 = 0;
    let mut folds = vec![Tries::default(); service.volumes.len()];
    while !service.waits_for_end(SPACE_INTERVAL) {
        looks = looks.wrapping_add(1);
        look_at_space(service);
        for (served, tries) in service.volumes.iter().zip(&mut folds) {
            if looks.is_multiple_of(ROUND_LOOKS) {
                let result = served.volume.unmark();
                served.note(Duty::Unmark, result.err().map(|error| chain(&error)));
            }
            if looks.is_multiple_of(FOLD_LOOKS) && tries.is_due() {
                let result = fold(service, served);
                tries.note(matches!(result, Ok(Folded::Nothing | Folded::Done)));
                served.note(Duty::Fold, problem(&result, served.history_bytes_max));
            }
        }
    }
}

/// When what went wrong is tried again: each time after twice as long.
#[derive(Debug, Clone, Default)]
struct Tries {
    failed: u32,
    skips: u32,
}

impl Tries {
    fn is_due(&mut self) -> bool {
        let is_due = self.skips == 0;
        self.skips = self.skips.saturating_sub(1);
        is_due
    }

    fn note(&mut self, went_well: bool) {
        self.failed = if went_well { 0 } else { (self.failed + 1).min(FOLD_DOUBLINGS_MAX) };
        self.skips = (1 << self.failed) - 1;
    }
}

/// What a person should know of how folding went.
fn problem(result: &Result<Folded, VolumeError>, bytes_max: u64) -> Option<String> {
    match result {
        Ok(Folded::Nothing | Folded::Done) => None,
        Ok(Folded::IsRead) => {
            Some("its history is being read for long, and cannot be made smaller meanwhile".to_owned())
        }
        Ok(Folded::IsPinned { bytes }) => Some(format!(
            "snapshots take {}, more than the history's {}: remove some, or give it more",
            size(*bytes),
            size(bytes_max)
        )),
        Err(error) => Some(chain(error)),
    }
}

/// Rounded so that a person sees what it is about.
fn size(bytes: u64) -> String {
    let (unit, name) = if bytes < 10 << 30 { (1 << 20, "MiB") } else { (1 << 30, "GiB") };
    format!("{} {name}", bytes.div_ceil(unit))
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

fn fold(service: &Service, served: &ServedVolume) -> Result<Folded, VolumeError> {
    let mut retention = Retention { window_ns: served.window_ns, bytes_max: served.history_bytes_max };
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
    served.volume.fold(retention, now_ns(), &pace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_less_and_less_often() {
        let mut tries = Tries::default();
        let mut rounds_until_due = |went_well| {
            let rounds = (1..).find(|_| tries.is_due());
            tries.note(went_well);
            rounds
        };
        let rounds: Vec<_> =
            [false, false, false, false, false, true, true].map(&mut rounds_until_due).into();
        assert_eq!(rounds, [1, 2, 4, 8, 8, 8, 1].map(Some));
    }

    #[test]
    fn a_person_is_told_what_snapshots_take() {
        let told = |result| problem(&result, 20 << 30);
        assert_eq!(told(Ok(Folded::Done)), None);
        assert_eq!(
            told(Ok(Folded::IsPinned { bytes: 31 << 30 })).unwrap(),
            "snapshots take 31 GiB, more than the history's 20 GiB: remove some, or give it more"
        );
    }
}
