//! Ranges of blocks and what belongs to each. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// Values of ranges that do not overlap.
#[derive(Debug, Clone)]
pub(crate) struct RangeMap<T> {
    /// What lies outside is not taken in.
    window: Range<u64>,
    /// By start: end and value.
    ranges: BTreeMap<u64, (u64, T)>,
}

impl<T: Clone> RangeMap<T> {
    /// No values, and room for those of a window.
    pub(crate) fn new(window: Range<u64>) -> Self {
        Self { window, ranges: BTreeMap::new() }
    }

    /// All ranges in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Range<u64>, &T)> {
        self.ranges.iter().map(|(start, (end, value))| (*start..*end, value))
    }

    fn clip(&self, range: &Range<u64>) -> Range<u64> {
        range.start.max(self.window.start)..range.end.min(self.window.end)
    }

    /// Gives a range a value, whatever it had.
    pub(crate) fn replace(&mut self, range: Range<u64>, value: T) {
        let range = self.clip(&range);
        if range.is_empty() {
            return;
        }
        self.split(range.start);
        self.split(range.end);
        let gone: Vec<u64> = self.ranges.range(range.clone()).map(|(start, _)| *start).collect();
        gone.iter().for_each(|start| drop(self.ranges.remove(start)));
        self.ranges.insert(range.start, (range.end, value));
    }

    /// Gives a value to what of a range has none.
    pub(crate) fn fill(&mut self, range: Range<u64>, value: &T) {
        let range = self.clip(&range);
        let mut from = range.start;
        while from < range.end {
            from = match self.at(from) {
                Some((part, _)) => part.end,
                None => {
                    let gap = self.gap(from, range.end);
                    self.ranges.insert(gap.start, (gap.end, value.clone()));
                    gap.end
                }
            };
        }
    }

    /// The range that a block belongs to, with its value.
    pub(crate) fn at(&self, block: u64) -> Option<(Range<u64>, &T)> {
        let (start, (end, value)) = self.ranges.range(..=block).next_back()?;
        (block < *end).then_some((*start..*end, value))
    }

    /// The stretch without values that begins at `from`, up to `end`.
    pub(crate) fn gap(&self, from: u64, end: u64) -> Range<u64> {
        let next = self.ranges.range(from..end).next().map_or(end, |(start, _)| *start);
        from..next
    }

    /// The parts of a range that have values.
    pub(crate) fn parts_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut parts = Vec::new();
        let mut from = range.start;
        while from < range.end {
            match self.at(from) {
                Some((part, _)) => {
                    parts.push(from..part.end.min(range.end));
                    from = part.end;
                }
                None => from = self.gap(from, range.end).end,
            }
        }
        parts
    }

    fn split(&mut self, at: u64) {
        if let Some((range, value)) = self.at(at)
            && range.start < at
        {
            let value = value.clone();
            self.ranges.insert(at, (range.end, value));
            if let Some((end, _)) = self.ranges.get_mut(&range.start) {
                *end = at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn it_holds_what_was_put_there(puts in vec((any::<bool>(), 0_u64..50, 1_u64..12), 0..20)) {
            let (mut map, mut model) = (RangeMap::new(3..55), BTreeMap::new());
            for (value, (replaces, start, count)) in puts.into_iter().enumerate() {
                let range = start..start + count;
                if replaces {
                    map.replace(range.clone(), value);
                    model.extend(range.map(|block| (block, value)));
                } else {
                    map.fill(range.clone(), &value);
                    for block in range {
                        model.entry(block).or_insert(value);
                    }
                }
            }
            model.retain(|block, _| (3..55).contains(block));
            let listed = map.iter().flat_map(|(range, value)| range.map(move |block| (block, *value)));
            prop_assert_eq!(listed.collect::<BTreeMap<_, _>>(), model.clone());
            for block in 0..70 {
                prop_assert_eq!(map.at(block).map(|(_, value)| *value), model.get(&block).copied());
            }
            let parts: Vec<u64> = map.parts_in(&(10..40)).into_iter().flatten().collect();
            prop_assert_eq!(parts, model.range(10..40).map(|(block, _)| *block).collect::<Vec<_>>());
        }
    }
}
