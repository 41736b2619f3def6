//! How much of the history is kept: a pure choice.
//!
//! Folding rewrites what it keeps, so it waits until there is something to gain: it begins when the oldest checkpoint is a
//! quarter of the window too old, or the history has more bytes than it may, and then folds down to the window, or to three
//! quarters of the bytes.
//!
//! A clock that was wrong must neither keep a history for ever nor end it at once: a time that has not come yet counts as that
//! of what came next, and one that is before an earlier one's as that.

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

/// How far the newest checkpoint may be ahead of the clock, nanoseconds, for the next one still to come behind it: a day.
/// Clocks are set back by seconds, and machines without one of their own begin some hours ago.
const AHEAD_NS_MAX: i64 = 24 * 3600 * 1_000_000_000;
/// No clock that is right shows less: 2025-01-01 UTC, nanoseconds since 1970.
const CLOCK_NS_MIN: i64 = 1_735_689_600 * 1_000_000_000;

/// The time of a checkpoint after another one. It comes behind that, unless the clock had been far ahead then.
pub(super) fn time_after(previous_ns: i64, now_ns: i64) -> i64 {
    let was_ahead = now_ns >= CLOCK_NS_MIN && previous_ns.saturating_sub(now_ns) > AHEAD_NS_MAX;
    if was_ahead { now_ns } else { now_ns.max(previous_ns.saturating_add(1)) }
}

/// The times of files as they can be believed now.
fn believed(files: &[Candidate], now_ns: i64) -> Vec<i64> {
    let mut next = now_ns;
    let mut times: Vec<i64> = files.iter().map(|file| file.last.time_ns).collect();
    for time in times.iter_mut().rev() {
        next = if *time <= now_ns { *time } else { next };
        *time = next;
    }
    for at in 1..times.len() {
        times[at] = times[at].max(times[at - 1]);
    }
    times
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
    let times = believed(files, now_ns);
    let is_before = |time_ns: i64, age_ns: i64| time_ns < now_ns.saturating_sub(age_ns);
    let slack_ns = window_ns.saturating_add(window_ns / SLACK_DIVISOR);
    let oldest = files.iter().position(|file| !file.is_settled);
    let is_old = oldest.is_some_and(|oldest| is_before(times[oldest], slack_ns));
    let bytes = |files: &[Candidate]| files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    let is_much = base_bytes.saturating_add(bytes(files)) > bytes_max;
    let is_pinned = is_much && pinned_bytes > bytes_max;
    let new_bytes: u64 = files.iter().filter(|file| !file.is_settled).map(|file| file.bytes).sum();
    let is_worth = is_much && !is_pinned && (pinned_bytes == 0 || new_bytes >= bytes_max / WORTH_DIVISOR);
    if !is_old && !is_worth {
        return if is_pinned { Choice::IsPinned } else { Choice::Nothing };
    }
    let mut count = times.iter().take_while(|time_ns| is_before(**time_ns, window_ns)).count();
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

    #[test]
    fn a_wrong_clock_neither_keeps_nor_ends_a_history() {
        let times = |times: &[i64], now_ns| {
            let files: Vec<_> = times.iter().map(|time_ns| file(*time_ns, 1, false)).collect();
            believed(&files, now_ns)
        };
        assert_eq!(times(&[10, 20, 30], 35), [10, 20, 30]);
        // It was ahead, and is right again.
        assert_eq!(times(&[10, 900, 901, 30], 35), [10, 30, 30, 30]);
        assert_eq!(times(&[900, 901], 35), [35, 35]);
        // It began at nothing, and is right again; and while it is wrong nothing is old.
        assert_eq!(times(&[20, 1, 30], 35), [20, 20, 30]);
        assert_eq!(times(&[20, 30, 1], 2), [1, 1, 1]);
        // What was cut while it was ahead goes with its time.
        let files = [file(10, 50, false), file(900, 50, false), file(30, 50, false), file(134, 50, false)];
        check(&files, 0, 80, u64::MAX, Choice::Fold(3));
    }

    #[test]
    fn times_go_on_unless_the_clock_was_far_ahead() {
        const NOW: i64 = 1_800_000_000 * 1_000_000_000;
        assert_eq!(time_after(NOW - 5, NOW), NOW);
        assert_eq!(time_after(NOW, NOW), NOW + 1);
        assert_eq!(time_after(NOW + AHEAD_NS_MAX, NOW), NOW + AHEAD_NS_MAX + 1);
        assert_eq!(time_after(NOW + AHEAD_NS_MAX + 1, NOW), NOW);
        // A machine that has no clock begins in 1970.
        assert_eq!(time_after(NOW, 60), NOW + 1);
    }
}
