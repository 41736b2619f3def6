//! Everything at once, on real files: writers, cuts, folds, snapshots, readers, growth. What a block holds says which write it
//! is of, so that each checkpoint can be held against what the writers did.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use lith_volume::block::BLOCK_BYTES;
use lith_volume::disk::{Disk, Patience};
use lith_volume::pieces::Pieces;
use lith_volume::storage::Folder;
use lith_volume::volume::{CutTime, Folded, Retention, Volume, begin_cuts};

use crate::fixture::Fixture;

const TIME: Duration = Duration::from_secs(6);
/// Beyond that, for what each thread must have done.
const DEADLINE: Duration = Duration::from_secs(60);
/// Sizes of the disk, blocks: it grows from one to the next.
const SIZES: [u64; 3] = [512, 768, 1024];
const BLOCKS: usize = SIZES[2] as usize;
/// Blocks that one writer has at a time; those of a request lie within two such stretches.
const STRETCH: usize = 16;
/// History that folding leaves, so that it always has something to do.
const HISTORY_BYTES: u64 = 2 << 20;
/// What each thread must have done, however slow the machine is.
const TURNS_MIN: u64 = 3;

/// What a block may hold: a number of a write between these, and zeroes if it was ever discarded and they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    low: u64,
    high: u64,
    may_be_zero: bool,
}

#[derive(Default)]
struct Block {
    /// What it holds, and what is being written there. Both grow, but for a discard.
    holds: AtomicU64,
    coming: AtomicU64,
    /// The last number it was written with.
    last: AtomicU64,
    was_discarded: AtomicBool,
}

struct World {
    volume: Volume<Folder>,
    fixture: Fixture,
    blocks: Vec<Block>,
    stretches: Vec<Mutex<()>>,
    /// Held for reading by who writes, and alone by a cut that wants to know exactly.
    writing: RwLock<()>,
    number: AtomicU64,
    checkpoints: Mutex<BTreeMap<u64, Vec<Expected>>>,
    snapshots: Mutex<BTreeMap<String, u64>>,
    /// Held by who reads: a fold waits for that, and not for some time.
    reading: Mutex<()>,
    /// What cuts, folds, readers and snapshots have done.
    turns: [AtomicU64; 4],
    until: Instant,
}

fn content(block: u64, number: u64) -> Vec<u8> {
    if number == 0 {
        return vec![0; BLOCK_BYTES as usize];
    }
    // Half of them pack well.
    let factor = if number.is_multiple_of(2) { 0 } else { 0x9e37_79b9_7f4a_7c15 };
    let words = (2..BLOCK_BYTES / 8).map(|at| (at ^ number).wrapping_mul(factor));
    [number, block].into_iter().chain(words).flat_map(u64::to_le_bytes).collect()
}

fn random(state: &mut u64, bound: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) % bound
}

impl World {
    fn new() -> Self {
        let fixture = Fixture::new(SIZES[0]);
        Self {
            volume: fixture.open().unwrap(),
            fixture,
            blocks: (0..BLOCKS).map(|_| Block::default()).collect(),
            stretches: (0..=BLOCKS / STRETCH).map(|_| Mutex::default()).collect(),
            writing: RwLock::default(),
            number: AtomicU64::new(0),
            checkpoints: Mutex::default(),
            snapshots: Mutex::default(),
            reading: Mutex::default(),
            turns: Default::default(),
            until: Instant::now() + TIME,
        }
    }

    /// All go on until each has done enough: a fold has something to do only while others write.
    fn goes_on(&self) -> bool {
        assert!(Instant::now() < self.until + DEADLINE, "a thread has failed, or does nothing");
        Instant::now() < self.until
            || self.turns.iter().any(|turns| turns.load(Ordering::Relaxed) < TURNS_MIN)
    }

    fn write(&self, state: &mut u64) {
        let _writing = self.writing.read().unwrap();
        let blocks = self.volume.bytes() / BLOCK_BYTES;
        let start = random(state, blocks);
        let end = blocks.min(start + 1 + random(state, STRETCH as u64));
        let (first, last) = (start as usize / STRETCH, (end as usize - 1) / STRETCH);
        let _stretches: Vec<_> = self.stretches[first..=last].iter().map(|one| one.lock().unwrap()).collect();
        let number = self.number.fetch_add(1, Ordering::SeqCst) + 1;
        let mine = &self.blocks[start as usize..end as usize];
        if random(state, 8) == 0 {
            mine.iter().for_each(|block| block.was_discarded.store(true, Ordering::SeqCst));
            self.volume.discard(start * BLOCK_BYTES..end * BLOCK_BYTES).unwrap();
            mine.iter().for_each(|block| block.holds.store(0, Ordering::SeqCst));
        } else {
            let bytes: Vec<u8> = (start..end).flat_map(|block| content(block, number)).collect();
            mine.iter().for_each(|block| block.coming.store(number, Ordering::SeqCst));
            self.volume.write(start * BLOCK_BYTES, &Pieces::of(&bytes)).unwrap();
            for block in mine {
                block.last.store(number, Ordering::SeqCst);
                block.holds.store(number, Ordering::SeqCst);
            }
        }
        if random(state, 32) == 0 {
            self.volume.flush().unwrap();
        }
    }

    /// A cut, of which is known exactly or nearly what it has to hold.
    fn cut(&self, is_exact: bool) {
        let alone = is_exact.then(|| self.writing.write().unwrap());
        let low: Vec<u64> = self.blocks.iter().map(|block| block.last.load(Ordering::SeqCst)).collect();
        let time = CutTime { now_ns: self.number.load(Ordering::SeqCst).cast_signed(), is_at_rest: false };
        let cut = begin_cuts(&[&self.volume], time).remove(0).unwrap();
        let expected = self.blocks.iter().zip(low).map(|(block, low)| match is_exact {
            true => {
                let holds = block.holds.load(Ordering::SeqCst);
                Expected { low: holds, high: holds, may_be_zero: holds == 0 }
            }
            false => Expected {
                low,
                high: block.coming.load(Ordering::SeqCst).max(low),
                may_be_zero: low == 0 || block.was_discarded.load(Ordering::SeqCst),
            },
        });
        let expected = expected.collect();
        drop(alone);
        let Some(cut) = cut else { return };
        // Before it can be seen.
        self.checkpoints.lock().unwrap().insert(cut.id().seq, expected);
        while cut.copy().unwrap() {}
        cut.finish().unwrap();
    }

    fn verify(&self, seq: u64, found: &[u8]) {
        let expected = self.checkpoints.lock().unwrap()[&seq].clone();
        for (block, (found, expected)) in found.chunks(BLOCK_BYTES as usize).zip(expected).enumerate() {
            let number = u64::from_le_bytes(found[..8].try_into().unwrap());
            assert!(found == content(block as u64, number), "block {block} of checkpoint {seq} is torn");
            let is_right = if number == 0 {
                expected.may_be_zero
            } else {
                (expected.low..=expected.high).contains(&number)
            };
            assert!(is_right, "block {block} of checkpoint {seq} holds {number}: {expected:?}");
        }
    }

    /// Reads checkpoints that are known; how many there were.
    fn read(&self, choose: impl Fn(&[u64]) -> Vec<u64>) -> usize {
        let history = self.fixture.history().unwrap();
        let listed: Vec<u64> = history.checkpoints().unwrap().iter().map(|one| one.id.seq).collect();
        for (name, seq) in &*self.snapshots.lock().unwrap() {
            let is_newer = history.manifest().snapshots.iter().all(|snapshot| snapshot.name != *name);
            assert!(is_newer || listed.contains(seq), "snapshot {name} is gone");
        }
        drop(history);
        let mut count = 0;
        for seq in choose(&listed) {
            // A fold may have come between.
            let Ok(view) = self.fixture.history().unwrap().view(seq) else { continue };
            if !self.checkpoints.lock().unwrap().contains_key(&seq) {
                continue;
            }
            let mut found = vec![0; usize::try_from(view.bytes()).unwrap()];
            view.read_at(0, &mut found).unwrap();
            self.verify(seq, &found);
            count += 1;
        }
        count
    }

    fn snapshot(&self, turn: u64) {
        let mut snapshots = self.snapshots.lock().unwrap();
        if let Some(oldest) = snapshots.keys().next().cloned().filter(|_| snapshots.len() > 2) {
            self.volume.forget_snapshot(&oldest).unwrap();
            snapshots.remove(&oldest);
        }
        let name = format!("s{turn:09}");
        let made = self.volume.snapshot(&name).unwrap();
        snapshots.insert(name, made.seq);
    }
}

#[test]
fn everything_at_once() {
    let world = World::new();
    let repeat = |which: usize, work: &dyn Fn(u64) -> bool| {
        let mut tries = 0;
        while world.goes_on() {
            world.turns[which].fetch_add(u64::from(work(tries)), Ordering::Relaxed);
            tries += 1;
        }
    };
    let retention = Retention { window_ns: i64::MAX, bytes_max: HISTORY_BYTES };
    std::thread::scope(|scope| {
        for writer in 1..5_u64 {
            let world = &world;
            scope.spawn(move || {
                let mut state = writer.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                while world.goes_on() {
                    world.write(&mut state);
                }
            });
        }
        scope.spawn(|| {
            repeat(0, &|turn| {
                world.cut(turn % 2 == 0);
                true
            });
        });
        scope.spawn(|| {
            repeat(1, &|_| {
                world.volume.unmark().unwrap();
                let wait = |_| drop(world.reading.lock().unwrap());
                world.volume.fold(retention, i64::MAX, &wait).unwrap() == Folded::Done
            });
        });
        scope.spawn(|| {
            repeat(2, &|turn| {
                let _reading = world.reading.lock().unwrap();
                world.read(|listed| vec![listed[turn as usize % listed.len()]]) > 0
            });
        });
        scope.spawn(|| {
            repeat(3, &|turn| {
                world.snapshot(turn);
                let size = SIZES[(turn as usize).min(SIZES.len() - 1)];
                world.volume.grow(size * BLOCK_BYTES).unwrap();
                true
            });
        });
    });
    // What was flushed or cut last is on the disk, and everything that can be read is what it was.
    world.cut(true);
    let World { volume, fixture, .. } = &world;
    volume.flush().unwrap();
    assert_eq!(volume.bytes(), SIZES[2] * BLOCK_BYTES);
    let all = |listed: &[u64]| listed.to_vec();
    assert!(world.read(all) > 0);
    fixture.history().unwrap().verify(&|_| {}).unwrap();
    let tip = volume.status().tip.id.seq;
    let mut found = vec![1; BLOCKS * BLOCK_BYTES as usize];
    volume.read(0, &Pieces::of_mut(&mut found), Patience::Waits).unwrap();
    world.verify(tip, &found);
    let World { volume, fixture, checkpoints, snapshots, .. } = world;
    drop(volume);
    let volume = fixture.open().unwrap();
    assert_eq!(volume.status().tip.id.seq, tip);
    let mut again = vec![1; found.len()];
    volume.read(0, &Pieces::of_mut(&mut again), Patience::Waits).unwrap();
    assert!(found == again, "the disk is another one after it was opened again");
    for seq in snapshots.into_inner().unwrap().into_values().filter(|seq| *seq > 0) {
        assert!(checkpoints.lock().unwrap().contains_key(&seq));
        fixture.history().unwrap().view(seq).unwrap();
    }
}
