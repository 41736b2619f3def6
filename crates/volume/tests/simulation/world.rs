//! One volume, its disk, and the model.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use lith_volume::disk::{Disk, Patience};
use lith_volume::error::VolumeError;
use lith_volume::history::History;
use lith_volume::pieces::Pieces;
use lith_volume::segment::VolumeUuid;
use lith_volume::storage::{Storage, StoredFile};
use lith_volume::volume::{CutTime, Retention, Volume, begin_cuts, clone_into};

use crate::disk::{Fault, SimDisk};
use crate::random::Random;

const SECTOR: u64 = 512;
const BLOCKS: u64 = 48;
const SECTORS: u64 = BLOCKS * 8;
const UUID: VolumeUuid = VolumeUuid([9; 16]);

/// What each sector holds: the number that it was filled with.
type State = Vec<u64>;

pub(crate) struct World {
    random: Random,
    disk: SimDisk,
    volume: Option<Arc<Volume<SimDisk>>>,
    now_ns: i64,
    next: u64,
    /// What the guest sees.
    state: State,
    /// What it saw at its last flush that was answered well.
    flushed: State,
    /// What was written to each sector since then.
    since: BTreeMap<u64, Vec<u64>>,
    /// What the disk held at each checkpoint that was told to be durable.
    checkpoints: BTreeMap<u64, State>,
    /// And at those that may have become so: more than one, when it was tried more than once.
    doubtful: BTreeMap<u64, Vec<State>>,
    snapshots: BTreeMap<String, u64>,
    /// Targets of restores that were begun and may not have ended.
    restoring: Vec<u64>,
    trace: bool,
}

fn sector(number: u64) -> [u8; SECTOR as usize] {
    let mut bytes = [0; SECTOR as usize];
    if number != 0 {
        bytes.chunks_mut(8).for_each(|part| part.copy_from_slice(&number.to_le_bytes()));
    }
    bytes
}

fn numbers(content: &[u8]) -> State {
    let number = |sector: &[u8]| {
        let first = &sector[..8];
        assert!(sector.chunks(8).all(|part| part == first), "a sector is torn within");
        u64::from_le_bytes(first.try_into().unwrap())
    };
    content.chunks(SECTOR as usize).map(number).collect()
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let disk = SimDisk::new(random.next());
        let file = disk.create("disk.img").unwrap();
        file.resize(BLOCKS * 4096).unwrap();
        let mut state = vec![0; SECTORS as usize];
        for block in 0..BLOCKS {
            if random.one_in(2) {
                for index in block * 8..block * 8 + 8 {
                    state[index as usize] = 1_000_000 + index;
                    file.write_from(index * SECTOR, &sector(1_000_000 + index)).unwrap();
                }
            }
        }
        file.sync().unwrap();
        disk.sync_folder("").unwrap();
        let volume = Volume::open_or_begin(disk.clone(), UUID, 1).unwrap();
        Self {
            random,
            disk,
            volume: Some(Arc::new(volume)),
            now_ns: 1,
            next: 0,
            flushed: state.clone(),
            since: BTreeMap::new(),
            checkpoints: BTreeMap::from([(0, state.clone())]),
            doubtful: BTreeMap::new(),
            state,
            snapshots: BTreeMap::new(),
            restoring: vec![],
            trace: std::env::var_os("LITH_SIMULATION_TRACE").is_some(),
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{}", what());
        }
    }

    pub(crate) fn step(&mut self) {
        self.now_ns += 1 + self.random.below(400_000_000_000) as i64;
        match self.random.below(34) {
            0..=11 => self.write(),
            12..=15 => self.flush(),
            16..=17 => self.discard(),
            18..=22 => self.cut(),
            23 => self.volume().unmark().unwrap_or(()),
            24 => self.snapshot(),
            25..=26 => self.fold(),
            27 => self.restore(),
            28 => self.crash(),
            29 => self.reopen(),
            30..=31 => self.order_fault(),
            32 => self.verify(),
            _ => self.clone_one(),
        }
    }

    /// Segments that are parts of checkpoints: the only ones of version 2.
    pub(crate) fn parts(&self) -> u64 {
        self.disk.count(b"lithseg\n\x02") as u64
    }

    pub(crate) fn finish(&mut self) {
        self.disk.heal();
        self.crash();
        self.verify();
        self.damage();
    }

    fn volume(&self) -> Arc<Volume<SimDisk>> {
        Arc::clone(self.volume.as_ref().expect("it is open between steps"))
    }

    fn range(&mut self) -> Range<u64> {
        let start = self.random.below(SECTORS);
        let longest = if self.random.one_in(4) { 80 } else { 12 };
        start..(start + 1 + self.random.below(longest)).min(SECTORS)
    }

    fn has_changed(&mut self, sectors: Range<u64>, number: u64, is_certain: bool) {
        for index in sectors {
            self.since.entry(index).or_default().push(number);
            if is_certain {
                self.state[index as usize] = number;
            }
        }
    }

    /// What the disk shows after a change that failed: any mixture by sectors.
    fn look_again(&mut self) {
        let mut content = vec![0; (BLOCKS * 4096) as usize];
        if self.volume().read(0, &Pieces::of_mut(&mut content), Patience::Waits).is_err() {
            return self.crash();
        }
        self.state = numbers(&content);
    }

    fn write(&mut self) {
        let sectors = self.range();
        self.next += 1;
        let number = self.next;
        self.say(|| format!("write {sectors:?} = {number}"));
        let content = sector(number).repeat((sectors.end - sectors.start) as usize);
        if self.random.one_in(3) {
            let other = self.range();
            let bytes = |range: &Range<u64>| range.start * SECTOR..range.end * SECTOR;
            self.volume().prepare(&[bytes(&sectors), bytes(&other)]);
        }
        let result = self.volume().write(sectors.start * SECTOR, &Pieces::of(&content));
        self.has_changed(sectors, number, result.is_ok());
        if result.is_err() {
            self.look_again();
        }
    }

    fn discard(&mut self) {
        let sectors = self.range();
        let range = sectors.start * SECTOR..sectors.end * SECTOR;
        self.say(|| format!("discard {sectors:?}"));
        if self.random.one_in(2) {
            let result = self.volume().write_zeroes(range, true);
            self.has_changed(sectors, 0, result.is_ok());
            if result.is_err() {
                self.look_again();
            }
            return;
        }
        let whole = sectors.start.div_ceil(8) * 8..sectors.end / 8 * 8;
        let result = self.volume().discard(range);
        if !whole.is_empty() {
            self.has_changed(whole, 0, result.is_ok());
        }
        if result.is_err() {
            self.look_again();
        }
    }

    fn flush(&mut self) {
        self.say(|| "flush".to_owned());
        if self.volume().flush().is_ok() {
            self.flushed = self.state.clone();
            self.since.clear();
        } else {
            // The disk takes no more: the machine is started again.
            assert!(self.volume().flush().is_err(), "a disk that has failed answers well");
            self.crash();
        }
    }

    fn cut(&mut self) {
        let time = CutTime { now_ns: self.now_ns, is_at_rest: false };
        let volume = self.volume();
        let Ok(Some(cut)) = begin_cuts(&[&*volume], time).remove(0) else { return };
        let seq = cut.id().seq;
        let state = self.state.clone();
        self.say(|| format!("cut {seq}"));
        self.doubtful.entry(seq).or_default().push(state.clone());
        loop {
            // The guest goes on while it is copied.
            match self.random.below(24) {
                0..=7 => self.write(),
                8 => self.discard(),
                9 => self.flush(),
                10 => self.crash(),
                _ => {}
            }
            if !self.is_same(&volume) {
                return;
            }
            if !matches!(cut.copy(), Ok(true)) {
                break;
            }
        }
        let result = cut.finish();
        self.say(|| format!("finished: {:?}", result.as_ref().map(|point| point.id)));
        if result.is_ok() {
            self.doubtful.remove(&seq);
            self.checkpoints.insert(seq, state);
        }
    }

    /// Whether there was no crash since.
    fn is_same(&self, volume: &Arc<Volume<SimDisk>>) -> bool {
        self.volume.as_ref().is_some_and(|current| Arc::ptr_eq(current, volume))
    }

    fn snapshot(&mut self) {
        let volume = self.volume();
        self.cut();
        if !self.is_same(&volume) {
            return;
        }
        if !self.snapshots.is_empty() && self.random.one_in(2) {
            let name = self.snapshots.keys().next().unwrap().clone();
            let result = volume.forget_snapshot(&name);
            self.say(|| format!("forget {name}: {result:?}"));
            // It may be gone all the same: it is not asked for any more.
            self.snapshots.remove(&name);
            return;
        }
        let name = format!("s{}", self.now_ns);
        let result = volume.snapshot(&name);
        self.say(|| format!("snapshot {result:?}"));
        if let Ok(snapshot) = result {
            self.snapshots.insert(name, snapshot.seq);
        }
    }

    fn fold(&mut self) {
        let window_ns = self.random.below(3_000_000_000_000) as i64;
        let bytes_max = if self.random.one_in(2) { u64::MAX } else { self.random.below(400_000) };
        let volume = self.volume();
        let faults = self.disk.faults();
        let result = volume.fold(Retention { window_ns, bytes_max }, self.now_ns, &|_| {});
        self.say(|| format!("fold {window_ns} {bytes_max}: {result:?}, base {:?}", volume.status().base));
        if result.is_err() {
            assert!(self.disk.faults() > 0, "{result:?}");
        }
        if self.disk.faults() == faults {
            let manifest = volume.manifest();
            let made = |folder, ending: &str| {
                let listed = self.disk.list(folder).unwrap().into_iter();
                listed.filter(|name| name.ends_with(ending)).count()
            };
            assert_eq!(made("base", ".folded"), usize::from(manifest.folded.is_some()), "after {result:?}");
            assert_eq!(made("log", ".merged"), usize::from(manifest.merged.is_some()), "after {result:?}");
        }
    }

    fn restore(&mut self) {
        let volume = self.volume();
        self.flush();
        if !self.is_same(&volume) {
            return;
        }
        let base = volume.status().base.id.seq;
        let targets: Vec<u64> = self.checkpoints.range(base..).map(|(seq, _)| *seq).collect();
        let target = targets[self.random.below(targets.len() as u64) as usize];
        let wanted = self.checkpoints[&target].clone();
        let before = volume.status().tip.id.seq;
        let name = format!("r{}", self.now_ns);
        // What is replaced becomes a checkpoint, and so does what comes of it.
        let is_dirty = volume.status().dirty_blocks > 0;
        let mut outcomes = vec![wanted.clone()];
        outcomes.splice(..0, is_dirty.then(|| self.state.clone()));
        for (seq, state) in (before + 1..).zip(outcomes) {
            self.doubtful.entry(seq).or_default().push(state);
        }
        self.restoring = vec![target];
        if self.random.one_in(2) {
            self.disk.fail_after(self.random.below(120) as u32, Fault::Io);
        }
        let result = volume.restore(target, &name, self.now_ns);
        self.say(|| format!("restore {target}: {result:?}"));
        match result {
            Ok(point) => {
                let manifest = volume.manifest();
                let kept = manifest.snapshots.iter().find(|snapshot| snapshot.name == name).unwrap().seq;
                self.checkpoints.insert(kept, self.state.clone());
                self.checkpoints.insert(point.id.seq, wanted.clone());
                self.snapshots.insert(name, kept);
                self.doubtful.clear();
                self.restoring.clear();
                self.since.clear();
                (self.state, self.flushed) = (wanted.clone(), wanted);
                self.check_disk();
            }
            // Who restores has the disk alone: a failure is ended at the next opening.
            Err(_) => self.crash(),
        }
    }

    fn order_fault(&mut self) {
        let fault = if self.random.one_in(2) { Fault::Io } else { Fault::Full };
        self.say(|| format!("a fault is ordered: {fault:?}"));
        self.disk.fail_after(self.random.below(40) as u32, fault);
    }

    fn clone_one(&mut self) {
        self.disk.heal();
        let Some(seq) = self.pick() else { return };
        let view = History::open(self.disk.clone()).unwrap().view(seq).unwrap();
        let target = SimDisk::new(self.random.next());
        clone_into(&view, &target, VolumeUuid([8; 16]), self.now_ns, &|_| {}).unwrap();
        target.crash();
        let volume = Volume::open(target).unwrap();
        assert!(content(&volume) == self.checkpoints[&seq], "a clone of checkpoint {seq}");
    }

    /// A checkpoint that can be read.
    fn pick(&mut self) -> Option<u64> {
        let base = self.volume().status().base.id.seq;
        let readable: Vec<u64> = self.readable(base);
        if readable.is_empty() {
            return None;
        }
        Some(readable[self.random.below(readable.len() as u64) as usize])
    }

    fn readable(&self, base: u64) -> Vec<u64> {
        let listed = History::open(self.disk.clone()).unwrap().checkpoints().unwrap();
        assert_eq!(listed[0].id.seq, base);
        listed
            .iter()
            .map(|checkpoint| checkpoint.id.seq)
            .filter(|seq| self.checkpoints.contains_key(seq))
            .collect()
    }

    fn reopen(&mut self) {
        self.disk.heal();
        let volume = self.volume();
        self.flush();
        if !self.is_same(&volume) {
            return;
        }
        self.cut();
        if !self.is_same(&volume) {
            return;
        }
        self.say(|| "close".to_owned());
        drop(volume);
        self.volume = None;
        self.open();
        self.check_disk();
    }

    fn crash(&mut self) {
        self.say(|| "crash".to_owned());
        self.volume = None;
        self.disk.crash();
        self.open();
    }

    fn open(&mut self) {
        let volume = match Volume::open(self.disk.clone()) {
            Ok(volume) => volume,
            Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
        };
        let tip = volume.status().tip.id.seq;
        self.say(|| format!("opened at {tip}"));
        self.volume = Some(Arc::new(volume));
        // What was told to be durable is there; what was not, may be, and is what it should be then.
        let newest = self.checkpoints.keys().next_back().copied().unwrap_or(0);
        assert!(tip >= newest, "checkpoint {newest} is lost: the newest is {tip}");
        for (seq, states) in std::mem::take(&mut self.doubtful) {
            if seq <= tip && !self.checkpoints.contains_key(&seq) {
                let found = self.read(seq).unwrap();
                assert!(states.contains(&found), "checkpoint {seq} never was: {found:?}");
                self.checkpoints.insert(seq, found);
            }
        }
        let targets = std::mem::take(&mut self.restoring);
        if !targets.is_empty() && !self.end_restore(targets) {
            return;
        }
        self.check_disk();
    }

    /// Ends a restore, or begins another one in its place; whether that was done, and there was no crash.
    fn end_restore(&mut self, mut targets: Vec<u64>) -> bool {
        let volume = self.volume();
        let Some(restore) = volume.manifest().restore else {
            // It had not begun, or its end was just not told.
            let content = content(&volume);
            let ended =
                targets.iter().map(|target| &self.checkpoints[target]).find(|state| **state == content);
            if let Some(wanted) = ended.cloned() {
                self.is_restored(volume.status().tip.id.seq, wanted);
            }
            return true;
        };
        let mut target = restore.target;
        let result = if self.random.one_in(3) {
            self.disk.heal();
            let readable = self.readable(volume.status().base.id.seq);
            target = readable[self.random.below(readable.len() as u64) as usize];
            self.say(|| format!("instead of {} it is restored to {target}", restore.target));
            targets.push(target);
            if self.random.one_in(2) {
                self.disk.fail_after(self.random.below(120) as u32, Fault::Io);
            }
            let name = format!("t{}", self.now_ns + self.random.below(1000) as i64);
            let result = volume.restore(target, &name, self.now_ns);
            if result.is_ok() {
                let manifest = volume.manifest();
                let kept = manifest.snapshots.iter().find(|snapshot| snapshot.name == name).unwrap().seq;
                assert_eq!(kept, restore.replaced, "what was there before is kept");
                self.snapshots.insert(name, kept);
            }
            result
        } else {
            self.say(|| format!("the restore to {target} is ended"));
            Ok(volume.end_restore(self.now_ns).unwrap())
        };
        self.say(|| format!("restored to {target}: {result:?}"));
        let Ok(point) = result else {
            self.restoring = targets;
            self.crash();
            return false;
        };
        // A failure that was ordered and did not come is not for who looks.
        self.disk.heal();
        let wanted = self.checkpoints[&target].clone();
        assert_eq!(content(&volume), wanted, "restored to checkpoint {target}");
        self.is_restored(point.id.seq, wanted);
        true
    }

    fn is_restored(&mut self, seq: u64, wanted: State) {
        self.checkpoints.entry(seq).or_insert_with(|| wanted.clone());
        (self.state, self.flushed) = (wanted.clone(), wanted);
        self.since.clear();
    }

    /// What the disk holds is what may be there.
    fn check_disk(&mut self) {
        self.disk.heal();
        let found = content(&self.volume());
        for (index, found) in found.iter().enumerate() {
            let is_allowed = self.flushed[index] == *found
                || self.since.get(&(index as u64)).is_some_and(|written| written.contains(found));
            assert!(is_allowed, "sector {index} holds {found}, which it may not: {:?}", self.flushed[index]);
        }
        self.state = found.clone();
        // What is there now may still be lost, as long as nothing was flushed: all of it stays allowed.
        for (index, found) in found.into_iter().enumerate() {
            self.since.entry(index as u64).or_default().push(found);
        }
    }

    fn verify(&mut self) {
        self.disk.heal();
        let base = self.volume().status().base.id.seq;
        let readable = self.readable(base);
        for (name, seq) in &self.snapshots {
            assert!(readable.contains(seq), "snapshot {name} of checkpoint {seq} cannot be read");
        }
        for seq in readable {
            let found = self.read(seq).unwrap();
            let wanted = &self.checkpoints[&seq];
            let different = (0..SECTORS as usize).find(|index| found[*index] != wanted[*index]);
            if let Some(index) = different {
                panic!(
                    "checkpoint {seq} holds {} at sector {index}, and held {}; the disk holds {}",
                    found[index], wanted[index], self.state[index]
                );
            }
        }
    }

    fn read(&self, seq: u64) -> Result<State, VolumeError> {
        let view = History::open(self.disk.clone())?.view(seq)?;
        let mut content = vec![0; (BLOCKS * 4096) as usize];
        view.read_at(0, &mut content)?;
        Ok(numbers(&content))
    }

    /// A changed byte in the history is found and named.
    fn damage(&mut self) {
        let listed = self.disk.list("log").unwrap();
        let Some(name) = listed.first().map(|name| format!("log/{name}")) else { return };
        let size = self.disk.size(&name).unwrap_or(0);
        if size == 0 {
            return;
        }
        let tip = self.volume().status().tip.id.seq;
        let readable = self.readable(self.volume().status().base.id.seq);
        self.disk.damage(&name, self.random.below(size as u64) as usize);
        for seq in readable {
            match self.read(seq) {
                Ok(found) => {
                    assert_eq!(found, self.checkpoints[&seq], "damage was not found: {seq} of {tip}")
                }
                Err(VolumeError::Damaged { name: found, .. }) => assert_eq!(found, name),
                Err(VolumeError::NoCheckpoint { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn content(volume: &Volume<SimDisk>) -> State {
    let mut content = vec![0; (BLOCKS * 4096) as usize];
    volume.read(0, &Pieces::of_mut(&mut content), Patience::Waits).unwrap();
    numbers(&content)
}
