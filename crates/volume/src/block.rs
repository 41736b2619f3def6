//! Blocks, the unit in which a volume's history counts, and sets of them. Sets stay small: what is whole or empty costs
//! nothing, what is sparse costs two bytes a block, and the rest a bit a block.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of a block: the page of the host's cache, and the block of every file system in a guest of more than 512 MiB.
pub const BLOCK_BYTES: u64 = 4096;

/// Blocks of one chunk: 16 MiB of the disk.
const CHUNK_BLOCKS: u64 = 4096;
/// Words of a chunk's bitmap.
const WORDS: usize = (CHUNK_BLOCKS / 64) as usize;
/// More single blocks than this take more memory as numbers than as bits.
const FEW_MAX: usize = 192;

/// The blocks that a range of bytes touches.
#[must_use]
pub fn touched_by(bytes: &Range<u64>) -> Range<u64> {
    if bytes.is_empty() {
        return 0..0;
    }
    bytes.start / BLOCK_BYTES..bytes.end.div_ceil(BLOCK_BYTES)
}

/// The blocks that lie whole within a range of bytes.
#[must_use]
pub fn whole_within(bytes: &Range<u64>) -> Range<u64> {
    let range = bytes.start.div_ceil(BLOCK_BYTES)..bytes.end / BLOCK_BYTES;
    if range.is_empty() { 0..0 } else { range }
}

/// The bytes of a range of blocks.
#[must_use]
pub fn bytes_of(blocks: &Range<u64>) -> Range<u64> {
    blocks.start * BLOCK_BYTES..blocks.end * BLOCK_BYTES
}

/// A set of blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockSet {
    chunks: BTreeMap<u64, Chunk>,
}

#[derive(Debug, Clone)]
enum Chunk {
    Full,
    /// In order.
    Few(Vec<u16>),
    Bits(Box<[u64; WORDS]>),
}

impl PartialEq for Chunk {
    fn eq(&self, other: &Self) -> bool {
        *self.bits() == *other.bits()
    }
}

impl Eq for Chunk {}

impl BlockSet {
    /// No block.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds blocks.
    pub fn insert(&mut self, range: Range<u64>) {
        for (number, part) in parts(&range) {
            self.chunks.entry(number).or_insert_with(|| Chunk::Few(Vec::new())).insert(part);
        }
    }

    /// Takes blocks away.
    pub fn remove(&mut self, range: Range<u64>) {
        for (number, part) in parts(&range) {
            let Some(chunk) = self.chunks.get_mut(&number) else { continue };
            chunk.remove(part);
            if chunk.next(0, true).is_none() {
                self.chunks.remove(&number);
            }
        }
    }

    /// Adds all of another set.
    pub fn extend(&mut self, other: &BlockSet) {
        for (number, chunk) in &other.chunks {
            match self.chunks.get_mut(number) {
                Some(mine) => mine.extend(chunk),
                None => {
                    self.chunks.insert(*number, chunk.clone());
                }
            }
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.chunks.values().map(Chunk::len).sum()
    }

    /// Whether a block is in it.
    #[must_use]
    pub fn contains(&self, block: u64) -> bool {
        self.overlaps(&(block..block + 1))
    }

    /// Whether any of the range is in it.
    #[must_use]
    pub fn overlaps(&self, range: &Range<u64>) -> bool {
        self.next(range.start, true).is_some_and(|block| block < range.end)
    }

    /// Whether all of the range is in it.
    #[must_use]
    pub fn covers(&self, range: &Range<u64>) -> bool {
        range.is_empty() || self.next(range.start, false).is_none_or(|block| block >= range.end)
    }

    /// The runs of blocks of the range that are in it.
    #[must_use]
    pub fn runs_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        self.alternate(range, true).collect()
    }

    /// The runs of blocks of the range that are not.
    #[must_use]
    pub fn gaps_in(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        self.alternate(range, false).collect()
    }

    /// All runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.alternate(&(0..u64::MAX), true)
    }

    /// The first run from a block on, of at most `count_max` blocks.
    #[must_use]
    pub fn run_from(&self, from: u64, count_max: u64) -> Option<Range<u64>> {
        let start = self.next(from, true)?;
        let end = self.next(start, false).unwrap_or(u64::MAX);
        Some(start..end.min(start.saturating_add(count_max)))
    }

    fn alternate(&self, range: &Range<u64>, wanted: bool) -> impl Iterator<Item = Range<u64>> + '_ {
        let (mut from, end) = (range.start, range.end);
        std::iter::from_fn(move || {
            let start = self.next(from, wanted).filter(|block| *block < end)?;
            from = self.next(start, !wanted).unwrap_or(end).min(end);
            Some(start..from)
        })
    }

    /// The first block from `from` on that is in the set, or is not.
    fn next(&self, from: u64, is_in: bool) -> Option<u64> {
        let (mut number, mut offset) = (from / CHUNK_BLOCKS, low(from));
        loop {
            let chunk = if is_in {
                let (found, chunk) = self.chunks.range(number..).next()?;
                if *found != number {
                    (number, offset) = (*found, 0);
                }
                chunk
            } else {
                match self.chunks.get(&number) {
                    Some(chunk) => chunk,
                    None => return Some(number * CHUNK_BLOCKS + u64::from(offset)),
                }
            };
            if let Some(found) = chunk.next(offset, is_in) {
                return Some(number * CHUNK_BLOCKS + u64::from(found));
            }
            (number, offset) = (number + 1, 0);
        }
    }
}

impl FromIterator<Range<u64>> for BlockSet {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(ranges: T) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

fn low(block: u64) -> u16 {
    u16::try_from(block % CHUNK_BLOCKS).expect("a chunk has fewer blocks than u16 has numbers")
}

/// A range cut at the borders of chunks.
fn parts(range: &Range<u64>) -> impl Iterator<Item = (u64, Range<u16>)> + use<> {
    let (mut from, end) = (range.start, range.end);
    std::iter::from_fn(move || {
        if from >= end {
            return None;
        }
        let number = from / CHUNK_BLOCKS;
        let until = end.min((number + 1) * CHUNK_BLOCKS);
        let start = low(from);
        let count = u16::try_from(until - from).expect("at most a chunk");
        from = until;
        Some((number, start..start + count))
    })
}

impl Chunk {
    fn insert(&mut self, range: Range<u16>) {
        if u64::from(range.end - range.start) == CHUNK_BLOCKS {
            *self = Chunk::Full;
            return;
        }
        match self {
            Chunk::Full => return,
            Chunk::Few(list) if list.len() + range.len() <= FEW_MAX => {
                for block in range {
                    if let Err(position) = list.binary_search(&block) {
                        list.insert(position, block);
                    }
                }
                return;
            }
            Chunk::Few(_) | Chunk::Bits(_) => {}
        }
        let bits = self.as_bits();
        change(bits, range, |word, mask| *word |= mask);
        if bits.iter().all(|word| *word == u64::MAX) {
            *self = Chunk::Full;
        }
    }

    fn remove(&mut self, range: Range<u16>) {
        if let Chunk::Few(list) = self {
            list.retain(|block| !range.contains(block));
            return;
        }
        change(self.as_bits(), range, |word, mask| *word &= !mask);
    }

    fn extend(&mut self, other: &Chunk) {
        let bits = self.as_bits();
        for (word, more) in bits.iter_mut().zip(other.bits().iter()) {
            *word |= more;
        }
        if bits.iter().all(|word| *word == u64::MAX) {
            *self = Chunk::Full;
        }
    }

    fn as_bits(&mut self) -> &mut [u64; WORDS] {
        if !matches!(self, Chunk::Bits(_)) {
            *self = Chunk::Bits(self.bits());
        }
        match self {
            Chunk::Bits(bits) => bits,
            Chunk::Full | Chunk::Few(_) => unreachable!("it was made of bits a moment ago"),
        }
    }

    fn bits(&self) -> Box<[u64; WORDS]> {
        match self {
            Chunk::Full => Box::new([u64::MAX; WORDS]),
            Chunk::Bits(bits) => bits.clone(),
            Chunk::Few(list) => {
                let mut bits = Box::new([0; WORDS]);
                for block in list {
                    bits[usize::from(block / 64)] |= 1 << (block % 64);
                }
                bits
            }
        }
    }

    fn len(&self) -> u64 {
        match self {
            Chunk::Full => CHUNK_BLOCKS,
            Chunk::Few(list) => list.len() as u64,
            Chunk::Bits(bits) => bits.iter().map(|word| u64::from(word.count_ones())).sum(),
        }
    }

    /// The first block from `from` on that is in the chunk, or is not.
    fn next(&self, from: u16, is_in: bool) -> Option<u16> {
        match self {
            Chunk::Full => is_in.then_some(from),
            Chunk::Few(list) => {
                let position = list.partition_point(|block| *block < from);
                if is_in {
                    return list.get(position).copied();
                }
                let taken =
                    list[position..].iter().zip(from..).take_while(|(block, wanted)| **block == *wanted);
                let free = from + u16::try_from(taken.count()).expect("a chunk's blocks are few");
                (u64::from(free) < CHUNK_BLOCKS).then_some(free)
            }
            Chunk::Bits(bits) => {
                let turned = |word: u64| if is_in { word } else { !word };
                let first = usize::from(from / 64);
                let mut word = turned(bits[first]) & (u64::MAX << (from % 64));
                for index in first..WORDS {
                    if index > first {
                        word = turned(bits[index]);
                    }
                    if word != 0 {
                        let bit = index * 64 + word.trailing_zeros() as usize;
                        return Some(u16::try_from(bit).expect("within a chunk"));
                    }
                }
                None
            }
        }
    }
}

fn change(bits: &mut [u64; WORDS], range: Range<u16>, change: impl Fn(&mut u64, u64)) {
    let mut from = range.start;
    while from < range.end {
        let until = range.end.min((from / 64 + 1) * 64);
        let mask = (u64::MAX >> (64 - u32::from(until - from))) << (from % 64);
        change(&mut bits[usize::from(from / 64)], mask);
        from = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
    use std::collections::BTreeSet;

    fn ranges() -> impl Strategy<Value = Vec<(bool, Range<u64>)>> {
        let range = (0_u64..12_500, proptest::prop_oneof![1_u64..4, 1_u64..9_000])
            .prop_map(|(start, count)| start..start + count);
        proptest::collection::vec((any::<bool>(), range), 0..12)
    }

    proptest! {
        #[test]
        fn it_is_a_set(changes in ranges(), other in ranges(), window in (0_u64..13_000, 0_u64..5_000)) {
            let build = |changes: &[(bool, Range<u64>)]| {
                let (mut set, mut model) = (BlockSet::new(), BTreeSet::new());
                for (adds, range) in changes {
                    if *adds {
                        set.insert(range.clone());
                        model.extend(range.clone());
                    } else {
                        set.remove(range.clone());
                        model.retain(|block| !range.contains(block));
                    }
                }
                (set, model)
            };
            let (mut set, mut model) = build(&changes);
            let (more, more_model) = build(&other);
            set.extend(&more);
            model.extend(more_model);
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert_eq!(set.is_empty(), model.is_empty());
            prop_assert_eq!(&set.runs().collect::<BlockSet>(), &set);
            let listed: Vec<u64> = set.runs().flatten().collect();
            prop_assert_eq!(&listed, &model.iter().copied().collect::<Vec<_>>());
            let window = window.0..window.0 + window.1;
            let (inside, outside): (Vec<u64>, Vec<u64>) = window.clone().partition(|block| model.contains(block));
            prop_assert_eq!(set.runs_in(&window).into_iter().flatten().collect::<Vec<_>>(), inside.clone());
            prop_assert_eq!(set.gaps_in(&window).into_iter().flatten().collect::<Vec<_>>(), outside.clone());
            prop_assert_eq!(set.overlaps(&window), !inside.is_empty());
            prop_assert_eq!(set.covers(&window), outside.is_empty());
            prop_assert_eq!(set.contains(window.start), model.contains(&window.start));
            let run = set.run_from(window.start, 7);
            prop_assert_eq!(run.clone().map(|run| run.start), model.range(window.start..).next().copied());
            prop_assert_eq!(run.is_none_or(|run| run.clone().count() <= 7 && set.covers(&run)), true);
        }
    }

    #[test]
    fn bytes_and_blocks() {
        assert_eq!(touched_by(&(4095..4097)), 0..2);
        assert_eq!(touched_by(&(4096..8192)), 1..2);
        assert_eq!(touched_by(&(512..512)), 0..0);
        assert_eq!(whole_within(&(512..12_800)), 1..3);
        assert_eq!(whole_within(&(512..4096)), 0..0);
        assert_eq!(bytes_of(&(1..3)), 4096..12_288);
    }
}
