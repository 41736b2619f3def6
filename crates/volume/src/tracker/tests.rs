//! Random schedules of the machine against a model that knows what every block holds.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};

use super::*;

const BLOCKS: u64 = 12;

#[derive(Debug, Clone)]
enum Move {
    /// A writer asks for these blocks, or goes on with what it does.
    Writer(usize, Range<u64>),
    /// The copier goes on.
    Copier,
    Cut,
    FailCut,
    Base,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let range = (0..BLOCKS, 1_u64..4).prop_map(|(start, count)| start..(start + count).min(BLOCKS));
    let one = prop_oneof![
        8 => (0_usize..4, range).prop_map(|(writer, range)| Move::Writer(writer, range)),
        6 => any::<bool>().prop_map(|_| Move::Copier),
        3 => any::<bool>().prop_map(|_| Move::Cut),
        1 => any::<bool>().prop_map(|_| Move::FailCut),
        1 => any::<bool>().prop_map(|_| Move::Base),
    ];
    vec(one, 0..80)
}

#[derive(Debug, Default)]
enum Writer {
    #[default]
    Idle,
    Asks(Range<u64>),
    /// Its chores are under way; what it read before is in hand.
    Works(Range<u64>, Chores, BTreeMap<u64, u64>),
    Writes(Range<u64>, Ticket),
}

/// What a machine around the tracker would hold. Each write gives its blocks a new number as their content.
#[derive(Default)]
struct World {
    tracker: Tracker,
    disk: BTreeMap<u64, u64>,
    next: u64,
    writers: [Writer; 4],
    reading: Option<Reading>,
    /// What blocks may hold in the cut: several, when a write was under way.
    cut: Option<BTreeMap<u64, Vec<u64>>>,
    copied: BTreeMap<u64, u64>,
    /// The last checkpoint, whole, and which blocks any has had since the base.
    checkpoint: BTreeMap<u64, Vec<u64>>,
    since_base: BlockSet,
    base: BTreeMap<u64, Vec<u64>>,
    kept: BTreeMap<u64, u64>,
}

impl World {
    fn content(&self, block: u64) -> u64 {
        self.disk.get(&block).copied().unwrap_or(0)
    }

    fn now(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut state: BTreeMap<u64, Vec<u64>> =
            (0..BLOCKS).map(|block| (block, vec![self.content(block)])).collect();
        for writer in &self.writers {
            if let Writer::Writes(blocks, _) = writer {
                // It has not arrived yet, and may before the cut is read.
                blocks.clone().for_each(|block| state.get_mut(&block).unwrap().push(u64::MAX));
            }
        }
        state
    }

    fn writer(&mut self, number: usize, wanted: Range<u64>) {
        let state = std::mem::take(&mut self.writers[number]);
        self.writers[number] = match state {
            Writer::Idle => Writer::Asks(wanted),
            Writer::Asks(blocks) => match self.tracker.admit(&blocks) {
                Admission::Wait => Writer::Asks(blocks),
                Admission::Go(ticket) => Writer::Writes(blocks, ticket),
                Admission::First(chores) => {
                    let read = chores.keep.iter().chain(&chores.rescue).cloned().flatten();
                    let read = read.map(|block| (block, self.content(block))).collect();
                    Writer::Works(blocks, chores, read)
                }
            },
            Writer::Works(blocks, chores, read) => {
                for block in chores.keep.iter().cloned().flatten() {
                    assert_eq!(read[&block], self.content(block), "written while it was being kept");
                    self.kept.entry(block).or_insert(read[&block]);
                }
                // What is rescued for a cut that has failed is nobody's.
                let is_wanted = self.cut.is_some() && chores.generation == self.tracker.generation;
                for block in chores.rescue.iter().cloned().flatten() {
                    assert_eq!(read[&block], self.content(block), "written while it was being rescued");
                    if is_wanted {
                        assert!(self.copied.insert(block, read[&block]).is_none(), "copied twice");
                    }
                }
                chores.keep.iter().for_each(|run| self.tracker.kept(run.clone()));
                chores.regions.iter().for_each(|run| self.tracker.has_marked(run.clone()));
                self.tracker.done(chores);
                Writer::Asks(blocks)
            }
            Writer::Writes(blocks, ticket) => {
                self.next += 1;
                for block in blocks {
                    if let Some(cut) = &mut self.cut
                        && ticket.generation != self.tracker.generation
                        && let Some(allowed) = cut.get_mut(&block)
                    {
                        allowed.push(self.next);
                    }
                    let reads = self.reading.as_ref().is_some_and(|one| one.blocks.contains(&block));
                    assert!(!reads, "written while it was being read");
                    self.disk.insert(block, self.next);
                }
                self.tracker.written(ticket);
                Writer::Idle
            }
        };
    }

    fn copier(&mut self) {
        if let Some(reading) = self.reading.take() {
            for block in reading.blocks.clone() {
                assert!(self.copied.insert(block, self.content(block)).is_none(), "copied twice");
            }
            self.tracker.copied(reading);
            return;
        }
        if self.cut.is_none() {
            return;
        }
        match self.tracker.next_copy(3) {
            Copy::Wait => {}
            Copy::Read(reading) => self.reading = Some(reading),
            Copy::Complete => {
                let wanted = self.cut.take().unwrap();
                let copied = std::mem::take(&mut self.copied);
                for (block, allowed) in wanted {
                    let last = self.checkpoint.get(&block).cloned().unwrap_or_else(|| vec![0]);
                    match copied.get(&block) {
                        Some(content) => {
                            assert!(allowed.contains(content), "block {block}: {content} of {allowed:?}");
                            self.checkpoint.insert(block, vec![*content]);
                            self.since_base.insert(block..block + 1);
                        }
                        None => assert!(allowed.iter().any(|content| last.contains(content))),
                    }
                }
                self.tracker.end_cut();
            }
        }
    }

    fn step(&mut self, one: Move) {
        match one {
            Move::Writer(number, blocks) => self.writer(number, blocks),
            Move::Copier => self.copier(),
            Move::Cut if self.cut.is_none() => {
                self.cut = Some(self.now());
                self.tracker.begin_cut();
            }
            Move::FailCut if self.cut.is_some() => {
                if self.reading.is_none() {
                    self.cut = None;
                    self.copied.clear();
                    self.tracker.fail_cut();
                }
            }
            Move::Base => {
                // The newest checkpoint becomes the base: nothing has changed since but what is dirty.
                let stays = self.tracker.move_base(&BlockSet::new());
                self.base = self.checkpoint.clone();
                self.since_base = BlockSet::new();
                let at_base = |block: u64| self.base.get(&block).map_or(0, |values| values[0]);
                self.kept = stays.runs().flatten().map(|block| (block, at_base(block))).collect();
            }
            Move::Cut | Move::FailCut => {}
        }
        // The base can be read at any time.
        for block in 0..BLOCKS {
            let wanted = self.base.get(&block).cloned().unwrap_or_else(|| vec![0]);
            let found = self.kept.get(&block).copied().unwrap_or_else(|| self.content(block));
            assert!(wanted.contains(&found), "the base at block {block}: {found} of {wanted:?}");
        }
    }
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]
    #[test]
    fn a_cut_holds_what_the_disk_held(moves in moves()) {
        let mut world = World::default();
        moves.into_iter().for_each(|one| world.step(one));
    }
}

#[test]
fn what_is_idle_is_unmarked() {
    let mut tracker = Tracker::new(BlockSet::new(), BlockSet::new());
    let write = |tracker: &mut Tracker, blocks: Range<u64>| loop {
        match tracker.admit(&blocks) {
            Admission::Go(ticket) => return tracker.written(ticket),
            Admission::First(chores) => {
                chores.keep.iter().for_each(|run| tracker.kept(run.clone()));
                chores.regions.iter().for_each(|run| tracker.has_marked(run.clone()));
                tracker.done(chores);
            }
            Admission::Wait => unreachable!("nobody else works"),
        }
    };
    write(&mut tracker, 0..1);
    write(&mut tracker, 1000..1001);
    assert!(tracker.idle().is_empty());
    assert!(tracker.idle().is_empty(), "dirty");
    tracker.begin_cut();
    assert!(tracker.idle().is_empty(), "of the cut");
    while let Copy::Read(reading) = tracker.next_copy(8) {
        tracker.copied(reading);
    }
    tracker.end_cut();
    write(&mut tracker, 1..2);
    let idle = tracker.idle();
    assert_eq!(idle.iter().cloned().flatten().collect::<Vec<_>>(), [3]);
    write(&mut tracker, 1001..1002);
    assert!(tracker.unmark(&idle).is_empty(), "written meanwhile");
    tracker.begin_cut();
    while let Copy::Read(reading) = tracker.next_copy(8) {
        tracker.copied(reading);
    }
    tracker.end_cut();
    write(&mut tracker, 1..2);
    assert!(tracker.idle().is_empty(), "both have been written to since the last look");
    let idle = tracker.idle();
    assert_eq!(tracker.unmark(&idle).into_iter().flatten().collect::<Vec<_>>(), [3]);
    // What a crash leaves in doubt is what was touched in regions that are marked.
    let reopened = Tracker::new(tracker.touched.clone(), tracker.marked.clone());
    assert_eq!(reopened.dirty.runs().flatten().collect::<Vec<_>>(), [0, 1]);
}
