//! How much a guest may ask. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// Questions of one guest in a second. A busy server with many short connections and no cache of its own asks a thousand.
pub(crate) const QUESTIONS_PER_S: u32 = 2_000;
/// At once, after a quiet second.
const QUESTIONS_AT_ONCE: u32 = QUESTIONS_PER_S;

/// What a guest may still ask.
#[derive(Debug)]
pub(crate) struct Bucket {
    left: u32,
    counted: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: QUESTIONS_AT_ONCE, counted: now }
    }

    /// Takes one question out, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        const EACH: Duration = Duration::from_nanos(1_000_000_000 / QUESTIONS_PER_S as u64);
        let passed = now.saturating_duration_since(self.counted);
        let new = u32::try_from(passed.as_nanos() / EACH.as_nanos()).unwrap_or(QUESTIONS_AT_ONCE);
        if new >= QUESTIONS_AT_ONCE {
            (self.left, self.counted) = (QUESTIONS_AT_ONCE, now);
        } else {
            self.left = self.left.saturating_add(new).min(QUESTIONS_AT_ONCE);
            self.counted += EACH * new;
        }
        let has_one = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_its_rate_and_no_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let mut taken = 0_u32;
        for microseconds in 0..1_000_000_u64 {
            taken += u32::from(bucket.take(start + Duration::from_micros(microseconds)));
        }
        assert!((2 * QUESTIONS_PER_S - 1..=2 * QUESTIONS_PER_S).contains(&taken), "{taken}");
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10_000).filter(|_| bucket.take(later)).count(), QUESTIONS_AT_ONCE as usize);
    }
}
