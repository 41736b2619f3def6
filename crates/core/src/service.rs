//! The number that the cluster gives to each task of each job, from which the task's virtual address follows.
//!
//! An address that belongs to a task and not to one of its instances: whoever connects to it reaches an instance that is
//! well, wherever that is. It stays the same for as long as the job is known, so that what clients remember of it does not
//! go stale.

use std::collections::BTreeSet;
use std::fmt;

/// Highest number. Numbers are the lower 15 bits of the virtual address; the bound leaves the last address unused.
pub const SERVICE_MAX: u16 = 32_766;

/// A task's number in its cluster, in `1..=SERVICE_MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceNumber(u16);

impl ServiceNumber {
    /// The service with this number, if it is in range.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (1..=SERVICE_MAX).contains(&number).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The number to give out next: the first free one after `last`, wrapping round, so that a number is reused as late as
    /// possible, when nobody remembers its former owner any more.
    #[must_use]
    pub fn next_free(taken: &BTreeSet<Self>, last: Option<Self>) -> Option<Self> {
        let start = u32::from(last.map_or(0, Self::number));
        let max = u32::from(SERVICE_MAX);
        let mut candidates = (0..max).filter_map(|offset| u16::try_from((start + offset) % max + 1).ok());
        candidates.find(|number| !taken.contains(&Self(*number))).map(Self)
    }
}

impl fmt::Display for ServiceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_free_goes_round() {
        let number = |number| ServiceNumber::new(number).unwrap();
        let taken = BTreeSet::from([number(1), number(3)]);
        assert_eq!(ServiceNumber::next_free(&taken, None), Some(number(2)));
        assert_eq!(ServiceNumber::next_free(&taken, Some(number(2))), Some(number(4)));
        assert_eq!(ServiceNumber::next_free(&taken, Some(number(SERVICE_MAX))), Some(number(2)));
        let all = (1..=SERVICE_MAX).map(number).collect();
        assert_eq!(ServiceNumber::next_free(&all, None), None);
        assert_eq!(ServiceNumber::new(0), None);
        assert_eq!(ServiceNumber::new(SERVICE_MAX + 1), None);
    }
}
