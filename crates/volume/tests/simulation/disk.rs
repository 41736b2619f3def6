//! A disk that loses power and fails on order. What was not synced may be there or not after a crash, sector by sector and
//! in any order; names that were not synced come and go in the order in which they were changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use lith_volume::disk::Patience;
use lith_volume::pieces::Pieces;
use lith_volume::storage::{Mark, Storage, StoredFile};

use crate::random::Random;

const SECTOR: usize = 512;

/// Which operation is to fail, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The medium.
    Io,
    /// No space.
    Full,
}

#[derive(Debug, Clone)]
struct Node {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Changes since the last sync: what each sector held after each of them.
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Sector(usize, Box<[u8; SECTOR]>),
    Size(usize),
}

#[derive(Debug, Clone)]
enum NameChange {
    Put(String, usize),
    Remove(String),
}

#[derive(Debug)]
struct World {
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameChange>,
    random: Random,
    /// Operations until one fails.
    fault_in: Option<(u32, Fault)>,
    faults: u32,
    is_read: bool,
    /// Checkpoints that somebody reads for long; by number, how many do.
    pins: BTreeMap<u64, usize>,
    /// Grows with each crash: files that were open before are gone.
    boot: u32,
}

/// The disk.
#[derive(Debug, Clone)]
pub(crate) struct SimDisk {
    world: Arc<Mutex<World>>,
}

/// A hold on the history, or on one checkpoint of it.
#[derive(Debug)]
pub(crate) struct SimHold {
    pin: Option<(Arc<Mutex<World>>, u64)>,
}

impl Drop for SimHold {
    fn drop(&mut self) {
        if let Some((world, seq)) = &self.pin {
            let pins = &mut lock(world).pins;
            let count = pins.get_mut(seq).expect("it was pinned");
            *count -= 1;
            if *count == 0 {
                pins.remove(seq);
            }
        }
    }
}

/// An open file of it.
#[derive(Debug)]
pub(crate) struct SimFile {
    world: Arc<Mutex<World>>,
    node: usize,
    boot: u32,
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl SimDisk {
    pub(crate) fn new(seed: u64) -> Self {
        let world = World {
            nodes: vec![],
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: vec![],
            random: Random::new(seed),
            fault_in: None,
            faults: 0,
            is_read: false,
            pins: BTreeMap::new(),
            boot: 0,
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// The operation after so many fails.
    pub(crate) fn fail_after(&self, operations: u32, fault: Fault) {
        lock(&self.world).fault_in = Some((operations, fault));
    }

    /// No more failure is ordered.
    pub(crate) fn heal(&self) {
        lock(&self.world).fault_in = None;
    }

    /// Operations that have failed.
    pub(crate) fn faults(&self) -> u32 {
        lock(&self.world).faults
    }

    /// The power goes, and comes back.
    pub(crate) fn crash(&self) {
        let world = &mut *lock(&self.world);
        let random = &mut world.random;
        for node in &mut world.nodes {
            node.lose(random);
            node.current = node.durable.clone();
        }
        let kept = random.below(world.pending_names.len() as u64 + 1) as usize;
        for change in world.pending_names.drain(..).take(kept) {
            change.apply(&mut world.durable_names);
        }
        world.names = world.durable_names.clone();
        world.boot += 1;
        world.fault_in = None;
    }

    /// Changes a byte of a file behind everybody's back.
    pub(crate) fn damage(&self, name: &str, offset: usize) {
        let world = &mut *lock(&self.world);
        let node = &mut world.nodes[world.names[name]];
        node.durable[offset] ^= 0x40;
        node.current[offset] ^= 0x40;
    }

    /// Sectors of files that begin so.
    pub(crate) fn count(&self, begin: &[u8]) -> usize {
        let world = lock(&self.world);
        let files = world.names.values().map(|node| &world.nodes[*node].current);
        files.map(|file| file.chunks(SECTOR).filter(|sector| sector.starts_with(begin)).count()).sum()
    }

    pub(crate) fn size(&self, name: &str) -> Option<usize> {
        let world = lock(&self.world);
        Some(world.nodes[*world.names.get(name)?].current.len())
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Put(name, node) => names.insert(name, node),
            NameChange::Remove(name) => names.remove(&name),
        };
    }
}

impl Node {
    fn sector(content: &[u8], sector: usize) -> Box<[u8; SECTOR]> {
        let mut bytes = Box::new([0; SECTOR]);
        if let Some(from) = content.get(sector * SECTOR..) {
            let count = from.len().min(SECTOR);
            bytes[..count].copy_from_slice(&from[..count]);
        }
        bytes
    }

    fn put(content: &mut [u8], sector: usize, bytes: &[u8; SECTOR]) {
        // What lies behind the end is not there, whatever was written.
        let Some(into) = content.get_mut(sector * SECTOR..) else { return };
        let count = into.len().min(SECTOR);
        into[..count].copy_from_slice(&bytes[..count]);
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.current.len() {
            self.resize(end);
        }
        self.current[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            self.pending.push(Change::Sector(sector, Self::sector(&self.current, sector)));
        }
    }

    fn resize(&mut self, bytes: usize) {
        self.current.resize(bytes, 0);
        self.pending.push(Change::Size(bytes));
        if let Some(last) = bytes.checked_sub(1) {
            let sector = last / SECTOR;
            self.pending.push(Change::Sector(sector, Self::sector(&self.current, sector)));
        }
    }

    fn sync(&mut self) {
        self.durable = self.current.clone();
        self.pending.clear();
    }

    /// Some of what was not synced becomes durable, the rest never does.
    fn lose(&mut self, random: &mut Random) {
        let sizes: Vec<usize> = self
            .pending
            .iter()
            .filter_map(|change| match change {
                Change::Size(size) => Some(*size),
                Change::Sector(..) => None,
            })
            .collect();
        let chosen = random.below(sizes.len() as u64 + 1) as usize;
        let size = if chosen == 0 { self.durable.len() } else { sizes[chosen - 1] };
        let mut versions: BTreeMap<usize, Vec<Box<[u8; SECTOR]>>> = BTreeMap::new();
        for change in self.pending.drain(..) {
            if let Change::Sector(sector, bytes) = change {
                versions.entry(sector).or_default().push(bytes);
            }
        }
        self.durable.resize(size, 0);
        for (sector, versions) in versions {
            let chosen = random.below(versions.len() as u64 + 1) as usize;
            if chosen > 0 {
                Self::put(&mut self.durable, sector, &versions[chosen - 1]);
            }
        }
    }
}

impl World {
    fn operation(&mut self) -> io::Result<()> {
        match &mut self.fault_in {
            Some((0, fault)) => {
                let error = match fault {
                    Fault::Io => io::Error::from_raw_os_error(5),
                    Fault::Full => io::ErrorKind::StorageFull.into(),
                };
                self.fault_in = None;
                self.faults += 1;
                Err(error)
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn rename(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.pending_names.push(change);
    }
}

impl Storage for SimDisk {
    type File = SimFile;
    type Hold = SimHold;
    /// So small that checkpoints of a few extents have parts.
    const TABLE_BYTES: usize = 200;

    fn share(&self) -> io::Result<SimHold> {
        Ok(SimHold { pin: None })
    }

    fn pin(&self, seq: u64) -> io::Result<SimHold> {
        *lock(&self.world).pins.entry(seq).or_default() += 1;
        Ok(SimHold { pin: Some((Arc::clone(&self.world), seq)) })
    }

    fn pinned(&self) -> io::Result<BTreeSet<u64>> {
        Ok(lock(&self.world).pins.keys().copied().collect())
    }

    fn mark(&self, name: &str) -> io::Result<Option<Mark>> {
        Ok(lock(&self.world).names.get(name).map(|node| Mark(*node as u64, 0)))
    }

    /// Now and then somebody reads, and does not end.
    fn try_own(&self) -> io::Result<Option<SimHold>> {
        let mut world = lock(&self.world);
        world.is_read = if world.is_read { !world.random.one_in(700) } else { world.random.one_in(8) };
        Ok((!world.is_read).then_some(SimHold { pin: None }))
    }

    fn open(&self, name: &str) -> io::Result<Option<SimFile>> {
        let world = lock(&self.world);
        let node = world.names.get(name).copied();
        Ok(node.map(|node| SimFile { world: Arc::clone(&self.world), node, boot: world.boot }))
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut world = lock(&self.world);
        world.operation()?;
        let node = world.nodes.len();
        world.nodes.push(Node { durable: vec![], current: vec![], pending: vec![] });
        world.rename(NameChange::Put(name.to_owned(), node));
        Ok(SimFile { world: Arc::clone(&self.world), node, boot: world.boot })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = lock(&self.world);
        world.operation()?;
        if world.names.contains_key(name) {
            world.rename(NameChange::Remove(name.to_owned()));
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = lock(&self.world);
        world.operation()?;
        let node = *world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        world.rename(NameChange::Put(to.to_owned(), node));
        world.rename(NameChange::Remove(from.to_owned()));
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let world = lock(&self.world);
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let names = world.names.keys().filter_map(|name| name.strip_prefix(&prefix));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let world = &mut *lock(&self.world);
        world.operation()?;
        // Changes of one folder keep their order; those of others are not concerned.
        let is_here = |change: &NameChange| {
            let (NameChange::Put(name, _) | NameChange::Remove(name)) = change;
            name.rsplit_once('/').map_or("", |(folder, _)| folder) == folder
        };
        let (here, elsewhere) = world.pending_names.drain(..).partition(is_here);
        world.pending_names = elsewhere;
        here.into_iter().for_each(|change| change.apply(&mut world.durable_names));
        Ok(())
    }
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut Node) -> T) -> io::Result<T> {
        let mut world = lock(&self.world);
        assert_eq!(self.boot, world.boot, "a file that was open before the crash is used");
        world.operation()?;
        Ok(work(&mut world.nodes[self.node]))
    }
}

impl StoredFile for SimFile {
    fn read(&self, offset: u64, into: &Pieces<'_>, _patience: Patience) -> io::Result<()> {
        let mut bytes = vec![0; into.bytes()];
        self.with(|node| {
            if let Some(from) = node.current.get(offset as usize..) {
                let count = from.len().min(bytes.len());
                bytes[..count].copy_from_slice(&from[..count]);
            }
        })?;
        into.copy_in(&bytes);
        Ok(())
    }

    fn write(&self, offset: u64, from: &Pieces<'_>) -> io::Result<()> {
        let mut bytes = vec![0; from.bytes()];
        from.copy_out(&mut bytes);
        self.with(|node| node.write(offset as usize, &bytes))
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = lock(&self.world);
        assert_eq!(self.boot, world.boot, "a file that was open before the crash is used");
        match world.operation() {
            Ok(()) => {
                world.nodes[self.node].sync();
                Ok(())
            }
            Err(error) => {
                // The kernel forgets what it could not write, and goes on to show it.
                let World { nodes, random, .. } = &mut *world;
                nodes[self.node].lose(random);
                Err(error)
            }
        }
    }

    fn punch(&self, range: Range<u64>) -> io::Result<()> {
        self.with(|node| {
            let end = (range.end as usize).min(node.current.len());
            let zeroes = vec![0; end.saturating_sub(range.start as usize)];
            node.write(range.start as usize, &zeroes);
        })
    }

    fn next_content(&self, from: u64) -> io::Result<u64> {
        self.with(|node| {
            let rest = node.current.get(from as usize..).unwrap_or_default();
            let found = rest.iter().position(|byte| *byte != 0);
            // As real ones, by whole blocks.
            found.map_or(node.current.len() as u64, |at| ((from + at as u64) / 4096 * 4096).max(from))
        })
    }

    fn next_hole(&self, from: u64) -> io::Result<u64> {
        self.with(|node| {
            let blocks = node.current.chunks(4096).enumerate().skip(from as usize / 4096);
            let found = blocks.into_iter().find(|(_, block)| block.iter().all(|byte| *byte == 0));
            found.map_or(node.current.len() as u64, |(block, _)| (block as u64 * 4096).max(from))
        })
    }

    fn bytes(&self) -> io::Result<u64> {
        self.with(|node| node.current.len() as u64)
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        self.with(|node| node.resize(bytes as usize))
    }
}
