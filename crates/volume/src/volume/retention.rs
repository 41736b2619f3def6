//! How much of the history is kept: a pure choice.

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
    pub(super) is_merged: bool,
}

/// How many of the first files to fold. A merged file alone is not folded again: nothing would come of it.
pub(super) fn choose(files: &[Candidate], base_bytes: u64, retention: Retention, now_ns: i64) -> usize {
    let oldest = now_ns.saturating_sub(retention.window_ns);
    let mut count = files.iter().take_while(|file| file.last.time_ns < oldest).count();
    let mut bytes: u64 = base_bytes + files[count..].iter().map(|file| file.bytes).sum::<u64>();
    while bytes > retention.bytes_max && count < files.len() {
        bytes -= files[count].bytes;
        count += 1;
    }
    if files[..count].iter().all(|file| file.is_merged) { 0 } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(time_ns: i64, bytes: u64, is_merged: bool) -> Candidate {
        Candidate { last: Point { time_ns, ..Point::default() }, bytes, is_merged }
    }

    #[test]
    fn what_is_too_old_or_too_much_is_folded() {
        let files = [file(10, 100, true), file(20, 50, false), file(30, 60, false)];
        let check = |window_ns, bytes_max, wanted| {
            assert_eq!(choose(&files, 7, Retention { window_ns, bytes_max }, 35), wanted);
        };
        check(100, u64::MAX, 0);
        check(20, u64::MAX, 0);
        check(14, u64::MAX, 2);
        check(5, u64::MAX, 2);
        check(4, u64::MAX, 3);
        check(100, 217, 0);
        check(100, 216, 0);
        check(100, 116, 2);
        check(100, 66, 3);
        check(14, 0, 3);
    }
}
