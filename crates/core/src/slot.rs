//! The small number that a node gives to each of its tasks, from which the task's user id, TAP and address follow.

use std::collections::BTreeSet;
use std::fmt;

/// Highest slot. Slots are also the offset of the guest's address in a /16, so the bound leaves room there; no home
/// server runs more virtual machines than this.
pub const SLOT_MAX: u16 = 4000;

/// A task's number on its node, in `1..=SLOT_MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, if it is in range.
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (1..=SLOT_MAX).contains(&number).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The slot to give out next: the first free one after `last`, wrapping round, so that a slot is reused as late as
    /// possible and what lingers about its former owner (connection tracking, neighbours' caches) has expired.
    #[must_use]
    pub fn next_free(taken: &BTreeSet<Self>, last: Option<Self>) -> Option<Self> {
        let start = last.map_or(0, Self::number);
        (0..SLOT_MAX).map(|offset| Self((start + offset) % SLOT_MAX + 1)).find(|slot| !taken.contains(slot))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u16) -> Slot {
        Slot::new(number).unwrap()
    }

    #[test]
    fn range() {
        assert_eq!(Slot::new(0), None);
        assert_eq!(Slot::new(SLOT_MAX + 1), None);
        assert_eq!(slot(SLOT_MAX).number(), SLOT_MAX);
    }

    #[test]
    fn next_free_goes_round() {
        let taken = BTreeSet::from([slot(1), slot(3)]);
        assert_eq!(Slot::next_free(&taken, None), Some(slot(2)));
        assert_eq!(Slot::next_free(&taken, Some(slot(2))), Some(slot(4)));
        assert_eq!(Slot::next_free(&taken, Some(slot(SLOT_MAX))), Some(slot(2)));
        let all = (1..=SLOT_MAX).map(slot).collect();
        assert_eq!(Slot::next_free(&all, None), None);
    }
}
