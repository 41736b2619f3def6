//! The device at a real socket, with the driver of another project at the other end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod front;

use std::io;
use std::ops::Range;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use lith_volume::blk::file::FileDisk;
use lith_volume::blk::{Access, Device, Error, Handle, Settings};
use lith_volume::disk::{Disk, Patience};
use lith_volume::pieces::Pieces;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use crate::front::{DEADLINE, EventIndex, Front, Operation};

const DISK_BYTES: u64 = 1 << 20;
const SLOT_BYTES: usize = 16 << 10;
const SLOTS: usize = DISK_BYTES as usize / SLOT_BYTES;
const QUEUES: u16 = 3;

/// A device that accepts one front end after the other.
struct World {
    path: PathBuf,
    handles: Receiver<Handle>,
    ends: Receiver<Result<(), Error>>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(disk: Arc<dyn Disk>, access: Access) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blk");
        let listener = UnixListener::bind(&path).unwrap();
        let settings = Settings { serial: "serial".to_owned(), queues: QUEUES, access };
        let device = Device::new(disk, settings).unwrap();
        let (handle, handles) = channel();
        let (end, ends) = channel();
        thread::spawn(move || serve(&listener, &device, &handle, &end));
        Self { path, handles, ends, _folder: folder }
    }

    fn connect(&self, event_index: EventIndex) -> Front {
        Front::connect(&self.path, event_index, usize::from(QUEUES), 2 * DISK_BYTES as usize).unwrap()
    }
}

/// Until the test is over.
fn serve(listener: &UnixListener, device: &Device, handle: &Sender<Handle>, end: &Sender<Result<(), Error>>) {
    while let Ok((stream, _)) = listener.accept() {
        let connection = device.connect(stream).unwrap();
        let is_over = handle.send(connection.handle()).is_err();
        if is_over || end.send(connection.serve()).is_err() {
            return;
        }
    }
}

fn file_disk() -> FileDisk {
    let file = tempfile::tempfile().unwrap();
    file.set_len(DISK_BYTES).unwrap();
    FileDisk::new(file).unwrap()
}

/// What is done with one slot of the disk.
#[derive(Debug, Clone, Copy)]
enum Step {
    Read,
    Write(u8),
    Flush,
    Discard,
    WriteZeroes(bool),
}

/// Sectors of a slot: first and count.
fn part() -> impl Strategy<Value = Range<usize>> {
    (0_usize..32, 1_usize..=32).prop_map(|(first, count)| first * 512..(first + count).min(32) * 512)
}

fn step() -> impl Strategy<Value = (Step, Range<usize>)> {
    let step = prop_oneof![
        3 => any::<u8>().prop_map(Step::Write),
        3 => proptest::strategy::Just(Step::Read),
        1 => proptest::strategy::Just(Step::Flush),
        1 => proptest::strategy::Just(Step::Discard),
        1 => any::<bool>().prop_map(Step::WriteZeroes),
    ];
    (step, part())
}

/// Requests on different slots are in flight together; the disk is at the front of the memory, the model behind it.
fn play(front: &mut Front, model: &mut [u8], round: &[(usize, usize, Step, Range<usize>)]) {
    let mut in_flight = vec![0; usize::from(QUEUES)];
    for (tag, (queue, slot, step, part)) in round.iter().enumerate() {
        let at = slot * SLOT_BYTES + part.start;
        let (offset, bytes) = (at as u64, part.len());
        let operation = match *step {
            Step::Read => Operation::Read { offset, at, bytes },
            Step::Write(byte) => {
                front.memory().bytes(at, bytes).fill(byte);
                model[at..at + bytes].fill(byte);
                Operation::Write { offset, at, bytes }
            }
            Step::Flush => Operation::Flush,
            Step::Discard => Operation::Discard { offset, bytes: bytes as u64 },
            Step::WriteZeroes(may_unmap) => Operation::WriteZeroes { offset, bytes: bytes as u64, may_unmap },
        };
        if matches!(step, Step::Discard | Step::WriteZeroes(_)) {
            model[at..at + bytes].fill(0);
        }
        front.submit(*queue, operation, tag as u64).unwrap();
        in_flight[*queue] += 1;
    }
    (0..in_flight.len()).for_each(|queue| front.kick(queue).unwrap());
    for (queue, mut left) in in_flight.into_iter().enumerate() {
        while left > 0 {
            let mut answers = Vec::new();
            front.answers(queue, &mut answers).unwrap();
            for (tag, error) in answers {
                assert_eq!(error, 0);
                let (_, slot, step, part) = &round[usize::try_from(tag).unwrap()];
                if let Step::Read = step {
                    let at = slot * SLOT_BYTES + part.start;
                    assert!(front.memory().bytes(at, part.len()) == &model[at..at + part.len()]);
                }
                left -= 1;
            }
        }
    }
}

/// Reads all of the disk and compares.
fn compare(front: &mut Front, model: &[u8]) {
    for slot in 0..SLOTS {
        let at = slot * SLOT_BYTES;
        let read = Operation::Read { offset: at as u64, at, bytes: SLOT_BYTES };
        assert_eq!(front.run(slot % usize::from(QUEUES), read).unwrap(), 0);
        assert!(front.memory().bytes(at, SLOT_BYTES) == &model[at..at + SLOT_BYTES]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_read_is_what_was_written(
        has_event_index in any::<bool>(),
        rounds in proptest::collection::vec(proptest::collection::btree_map(
            0_usize..SLOTS, (0_usize..usize::from(QUEUES), step()), 1..30), 1..20),
    ) {
        let event_index = if has_event_index { EventIndex::With } else { EventIndex::Without };
        let world = World::new(Arc::new(file_disk()), Access::ReadWrite);
        let mut model = vec![0; DISK_BYTES as usize];
        // One front end after the other: nothing is lost between them.
        for rounds in rounds.chunks(10) {
            let mut front = world.connect(event_index);
            for round in rounds {
                let round: Vec<_> = round
                    .iter()
                    .map(|(slot, (queue, (step, part)))| (*queue, *slot, *step, part.clone()))
                    .collect();
                play(&mut front, &mut model, &round);
            }
            compare(&mut front, &model);
            drop(front);
            world.ends.recv_timeout(DEADLINE).unwrap().unwrap();
        }
    }
}

#[test]
fn a_device_says_what_it_is() {
    let world = World::new(Arc::new(file_disk()), Access::ReadWrite);
    let front = world.connect(EventIndex::With);
    assert_eq!(front.disk_bytes().unwrap(), DISK_BYTES);
    assert_eq!(front.queues().unwrap(), QUEUES);
}

#[test]
fn what_lies_outside_or_may_not_be_written_is_an_error_and_no_more() {
    let world = World::new(Arc::new(file_disk()), Access::ReadOnly);
    let mut front = world.connect(EventIndex::With);
    let outside = Operation::Read { offset: DISK_BYTES, at: 0, bytes: 512 };
    assert_eq!(front.run(0, outside).unwrap(), -libc::EIO);
    let write = Operation::Write { offset: 0, at: 0, bytes: 512 };
    assert_eq!(front.run(0, write).unwrap(), -libc::EIO);
    assert_eq!(front.run(0, Operation::Discard { offset: 0, bytes: 512 }).unwrap(), -libc::EIO);
    assert_eq!(front.run(0, Operation::Read { offset: 0, at: 0, bytes: 512 }).unwrap(), 0);
}

/// A disk whose reads never have anything in memory, and whose flushes wait for a gate.
struct Slow {
    file: FileDisk,
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Default)]
struct Gate {
    is_open: bool,
    waiting: u32,
    flushed: u32,
}

impl Slow {
    fn wait_for_flushes(&self, waiting: u32) {
        let gate = self.gate.lock().unwrap();
        let (_gate, wait) =
            self.changed.wait_timeout_while(gate, DEADLINE, |gate| gate.waiting < waiting).unwrap();
        assert!(!wait.timed_out());
    }

    fn open(&self) {
        self.gate.lock().unwrap().is_open = true;
        self.changed.notify_all();
    }
}

impl Disk for Slow {
    fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    fn read(&self, offset: u64, into: &Pieces<'_>, patience: Patience) -> io::Result<()> {
        match patience {
            Patience::Now => Err(io::ErrorKind::WouldBlock.into()),
            Patience::Waits => self.file.read(offset, into, patience),
        }
    }

    fn write(&self, offset: u64, from: &Pieces<'_>) -> io::Result<()> {
        self.file.write(offset, from)
    }

    fn flush(&self) -> io::Result<()> {
        let mut gate = self.gate.lock().unwrap();
        gate.waiting += 1;
        self.changed.notify_all();
        let mut gate = self.changed.wait_while(gate, |gate| !gate.is_open).unwrap();
        gate.flushed += 1;
        Ok(())
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.file.discard(range)
    }

    fn write_zeroes(&self, range: Range<u64>, may_unmap: bool) -> io::Result<()> {
        self.file.write_zeroes(range, may_unmap)
    }
}

fn slow_disk() -> Arc<Slow> {
    Arc::new(Slow { file: file_disk(), gate: Mutex::default(), changed: Condvar::new() })
}

#[test]
fn what_waits_holds_nothing_up() {
    let disk = slow_disk();
    let world = World::new(disk.clone(), Access::ReadWrite);
    let mut front = world.connect(EventIndex::With);
    front.memory().bytes(0, 512).fill(7);
    // Twice a flush in company, then all else passes them.
    front.submit(0, Operation::Flush, 1).unwrap();
    front.submit(0, Operation::Flush, 2).unwrap();
    front.kick(0).unwrap();
    disk.wait_for_flushes(2);
    assert_eq!(front.run(0, Operation::Write { offset: 0, at: 0, bytes: 512 }).unwrap(), 0);
    assert_eq!(front.run(0, Operation::Read { offset: 0, at: 1024, bytes: 512 }).unwrap(), 0);
    assert_eq!(front.run(0, Operation::Discard { offset: 512, bytes: 512 }).unwrap(), 0);
    assert_eq!(front.memory().bytes(1024, 512), [7; 512]);
    disk.open();
    let mut tags = Vec::new();
    while tags.len() < 2 {
        let mut answers = Vec::new();
        front.answers(0, &mut answers).unwrap();
        tags.extend(answers);
    }
    tags.sort_unstable();
    assert_eq!(tags, [(1, 0), (2, 0)]);
}

#[test]
fn when_it_is_over_nothing_is_in_flight() {
    for is_asked in [false, true] {
        let disk = slow_disk();
        let world = World::new(disk.clone(), Access::ReadWrite);
        let mut front = world.connect(EventIndex::With);
        let handle = world.handles.recv_timeout(DEADLINE).unwrap();
        for (queue, flushes) in [(0, 1), (1, 3)] {
            (0..flushes).for_each(|tag| front.submit(queue, Operation::Flush, tag).unwrap());
            front.kick(queue).unwrap();
        }
        disk.wait_for_flushes(4);
        // The front end dies, or is left.
        let front = Some(front).filter(|_| is_asked);
        if is_asked {
            handle.end();
        }
        assert!(world.ends.try_recv().is_err(), "it has not waited");
        disk.open();
        world.ends.recv_timeout(DEADLINE).unwrap().unwrap();
        assert_eq!(disk.gate.lock().unwrap().flushed, 4);
        drop(front);
        // And it serves the next.
        let mut front = world.connect(EventIndex::Without);
        assert_eq!(front.run(2, Operation::Flush).unwrap(), 0);
    }
}
