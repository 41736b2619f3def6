//! How much of the history is kept: a pure choice.
//!
//! Folding rewrites what it keeps, so it waits until there is something to gain: it begins when the oldest checkpoint is a
//! quarter of the window too old, or the history has more bytes than it may, and then folds down to the window, or to three
//! quarters of the bytes.

use crate::manifest::Point;

/// How much of the history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Checkpoints of this last stretch of time, nanoseconds.
    pub window_ns: i64,
    /// As long as all of it takes no more bytes.
    pub bytes_max: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { window_ns: 24 * 3600 * 1_000_000_000, bytes_max: u64::MAX }
    }
}

/// A file of segments, as the choice sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) last: Point,
    pub(super) bytes: u64,
    /// It was merged before, and snapshots need all of it: to fold it alone would change nothing.
    pub(super) is_settled: bool,
}

/// All of a history, as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stock<'files> {
    /// In order.
    pub(super) files: &'files [Candidate],
    pub(super) base_bytes: u64,
    /// What no fold can take away, for snapshots need it.
    pub(super) pinned_bytes: u64,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Nothing,
    /// How many of the first files go.
    Fold(usize),
    /// It has too many bytes, and no fold would change that.
    IsPinned,
}

/// A part of the window by which the oldest checkpoint may be too old.
const SLACK_DIVISOR: i64 = 4;
/// A part of the bytes that a fold makes free for what comes.
const FREED_DIVISOR: u64 = 4;
/// A part of the bytes that must have come since, for another fold to be worth its while where snapshots hold most.
const WORTH_DIVISOR: u64 = 8;

/// How many of the first files to fold.
pub(super) fn choose(stock: Stock<'_>, retention: Retention, now_ns: i64) -> Choice {
    let Stock { files, base_bytes, pinned_bytes } = stock;
    let Retention { window_ns, bytes_max } = retention;
    let is_before = |file: &Candidate, age_ns: i64| file.last.time_ns < now_ns.saturating_sub(age_ns);
    let slack_ns = window_ns.saturating_add(window_ns / SLACK_DIVISOR);
    let is_old = files.iter().find(|file| !file.is_settled).is_some_and(|file| is_before(file, slack_ns));
    let bytes = |files: &[Candidate]| files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    let is_much = base_bytes.saturating_add(bytes(files)) > bytes_max;
    let is_pinned = is_much && pinned_bytes > bytes_max;
    let new_bytes: u64 = files.iter().filter(|file| !file.is_settled).map(|file| file.bytes).sum();
    let is_worth = is_much && !is_pinned && (pinned_bytes == 0 || new_bytes >= bytes_max / WORTH_DIVISOR);
    if !is_old && !is_worth {
        return if is_pinned { Choice::IsPinned } else { Choice::Nothing };
    }
    let mut count = files.iter().take_while(|file| is_before(file, window_ns)).count();
    let wanted = bytes_max - bytes_max / FREED_DIVISOR;
    let settled_bytes: u64 = files.iter().filter(|file| file.is_settled).map(|file| file.bytes).sum();
    let stay =
        |count: usize| files[count..].iter().filter(|file| !file.is_settled).map(|file| file.bytes).sum();
    let left = |count| base_bytes.saturating_add(settled_bytes).saturating_add(stay(count));
    while is_worth && count < files.len() && left(count) > wanted {
        count += 1;
    }
    if files[..count].iter().all(|file| file.is_settled) { Choice::Nothing } else { Choice::Fold(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(time_ns: i64, bytes: u64, is_settled: bool) -> Candidate {
        Candidate { last: Point { time_ns, ..Point::default() }, bytes, is_settled }
    }

    fn check(files: &[Candidate], pinned_bytes: u64, window_ns: i64, bytes_max: u64, wanted: Choice) {
        let stock = Stock { files, base_bytes: 7, pinned_bytes };
        assert_eq!(choose(stock, Retention { window_ns, bytes_max }, 135), wanted, "{window_ns} {bytes_max}");
    }

    #[test]
    fn what_is_too_old_or_too_much_is_folded() {
        let files = [file(10, 100, true), file(20, 60, false), file(60, 50, false)];
        let check = |window_ns, bytes_max, wanted| check(&files, 0, window_ns, bytes_max, wanted);
        check(200, u64::MAX, Choice::Nothing);
        // The edge of the window is passed by a quarter before anything is done, and then all that is behind it goes.
        check(92, u64::MAX, Choice::Nothing);
        check(91, u64::MAX, Choice::Fold(2));
        check(60, u64::MAX, Choice::Fold(3));
        check(i64::MAX, 217, Choice::Nothing);
        check(i64::MAX, 216, Choice::Fold(2));
        check(i64::MAX, 80, Choice::Fold(3));
        check(91, 0, Choice::Fold(3));
    }

    #[test]
    fn what_snapshots_hold_is_not_folded_in_vain() {
        let files = [file(10, 100, true), file(20, 6, false), file(60, 6, false)];
        check(&files, 107, 200, 106, Choice::IsPinned);
        // What is too old goes all the same.
        check(&files, 107, 91, 106, Choice::Fold(2));
        // Little has come since: it would be rewritten for nothing.
        check(&files, 107, 200, 112, Choice::Nothing);
        let files = [file(10, 100, true), file(20, 14, false), file(60, 6, false)];
        check(&files, 107, 200, 112, Choice::Fold(3));
        // With the snapshots gone, it is as before.
        check(&files, 0, 200, 106, Choice::Fold(3));
        check(&[file(10, 100, true)], 0, 200, 10, Choice::Nothing);
    }
}
