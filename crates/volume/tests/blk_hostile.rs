//! The device with a driver that writes its ring by hand: what the driver of another project does not do, and what no driver
//! should do. Whatever is in the ring, the device goes on, or waits to be set up again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod raw;

use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use lith_volume::blk::file::FileDisk;
use lith_volume::blk::{Device, Error, Handle, Settings};
use lith_volume::disk::{Disk, Patience};
use lith_volume::pieces::Pieces;
use vhost::vhost_user::VhostUserFrontend;
use vm_memory::{Bytes, GuestAddress};

use crate::raw::{BYTES, DEADLINE, ENTRIES, Entry, FREE, GUEST, INDIRECT, NEXT, Raw, WRITE};

const DISK_BYTES: u64 = 1 << 20;
const SERIAL: &str = "twenty-bytes-serial!";
const EVENT_INDEX: u64 = 1 << 29;
const FLUSH: u64 = 1 << 9;
const DATA: u64 = FREE + 0x1000;
const STATUS: u64 = FREE + 0x3000;
const OUTSIDE: u64 = GUEST + BYTES;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;
const UNTOUCHED: u8 = 0x55;

/// A file that counts how often it is flushed.
struct Counting {
    file: FileDisk,
    flushes: AtomicU32,
}

impl Disk for Counting {
    fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    fn read(&self, offset: u64, into: &Pieces<'_>, patience: Patience) -> io::Result<()> {
        self.file.read(offset, into, patience)
    }

    fn write(&self, offset: u64, from: &Pieces<'_>) -> io::Result<()> {
        self.file.write(offset, from)
    }

    fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.file.flush()
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.file.discard(range)
    }

    fn write_zeroes(&self, range: Range<u64>, may_unmap: bool) -> io::Result<()> {
        self.file.write_zeroes(range, may_unmap)
    }
}

struct World {
    raw: Raw,
    disk: Arc<Counting>,
    handle: Handle,
    served: JoinHandle<Result<(), Error>>,
}

impl World {
    fn disk() -> Arc<Counting> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(DISK_BYTES).unwrap();
        let file = FileDisk::new(file).unwrap();
        file.write(512, &Pieces::of(&[7; 512])).unwrap();
        Arc::new(Counting { file, flushes: AtomicU32::new(0) })
    }

    fn device(disk: &Arc<Counting>) -> Device {
        let settings = Settings { serial: SERIAL.to_owned(), ..Settings::default() };
        Device::new(disk.clone(), settings).unwrap()
    }

    fn new(without: u64) -> Self {
        let disk = Self::disk();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let connection = Self::device(&disk).connect(theirs).unwrap();
        let handle = connection.handle();
        let served = thread::spawn(move || connection.serve());
        Self { raw: Raw::connect(ours, without), disk, handle, served }
    }

    /// Runs a chain behind a header of a kind at sector 1; returns the answer's length and status.
    fn run(&mut self, kind: u32, entries: &[Entry]) -> (u32, u8) {
        self.raw.write_header(kind, 1);
        self.raw.memory.write_obj(UNTOUCHED, GuestAddress(STATUS)).unwrap();
        let bytes = self.raw.run(entries);
        (bytes, self.raw.read(STATUS, 1)[0])
    }

    /// The device still does what it is for.
    fn check_it_serves(&mut self) {
        self.raw.memory.write_slice(&[0; 512], GuestAddress(DATA)).unwrap();
        assert_eq!(self.run(0, &[HEADER, (DATA, 512, WRITE | NEXT), (STATUS, 1, WRITE)]), (513, OK));
        assert_eq!(self.raw.read(DATA, 512), [7; 512]);
    }

    /// The front end goes, and the device notices.
    fn end(self) {
        drop(self.raw);
        self.served.join().unwrap().unwrap();
    }
}

const HEADER: Entry = (FREE, 16, NEXT);

#[test]
fn a_serial_number_is_told_whole_or_as_far_as_it_fits() {
    let mut world = World::new(0);
    assert_eq!(world.run(8, &[HEADER, (DATA, 20, WRITE | NEXT), (STATUS, 1, WRITE)]), (21, OK));
    assert_eq!(world.raw.read(DATA, 21), [SERIAL.as_bytes(), &[0]].concat());
    assert_eq!(world.run(8, &[HEADER, (DATA + 64, 6, WRITE | NEXT), (STATUS, 1, WRITE)]), (7, OK));
    assert_eq!(world.raw.read(DATA + 64, 7), b"twenty\0");
    world.end();
}

#[test]
fn a_chain_may_be_indirect_and_a_header_in_pieces() {
    let mut world = World::new(EVENT_INDEX);
    let table = FREE + 0x2000;
    let chain = [
        (FREE, 3, NEXT),
        (FREE + 3, 13, NEXT),
        (DATA, 100, WRITE | NEXT),
        (DATA + 100, 412, WRITE | NEXT),
        (STATUS, 1, WRITE),
    ];
    world.raw.write_table(table, &chain);
    assert_eq!(world.run(0, &[(table, 80, INDIRECT)]), (513, OK));
    assert_eq!(world.raw.read(DATA, 512), [7; 512]);
    world.end();
}

#[test]
fn what_no_driver_should_do_is_answered_if_it_can_be() {
    let mut world = World::new(0);
    let status = (STATUS, 1, WRITE);
    let (read, write) = (WRITE | NEXT, NEXT);
    let cases: &[(u32, &[Entry], (u32, u8))] = &[
        // Lengths, addresses, directions.
        (0, &[HEADER, (DATA, u32::MAX, read), status], (0, IOERR)),
        (0, &[HEADER, (DATA, 1 << 20, read), status], (0, IOERR)),
        (0, &[HEADER, (OUTSIDE, 512, read), status], (0, IOERR)),
        (0, &[HEADER, (OUTSIDE - 256, 512, read), status], (0, IOERR)),
        (0, &[HEADER, (u64::MAX - 255, 512, read), status], (0, IOERR)),
        (0, &[HEADER, (DATA, 512, write), status], (1, IOERR)),
        (1, &[HEADER, (DATA, 512, read), status], (0, IOERR)),
        (1, &[HEADER, (0, 512, write), status], (1, IOERR)),
        (0, &[(FREE, 15, NEXT), (DATA, 512, read), status], (0, IOERR)),
        (0, &[(0, 16, NEXT), (DATA, 512, read), status], (0, IOERR)),
        (0, &[HEADER, status], (1, IOERR)),
        (0, &[status], (1, IOERR)),
        (99, &[HEADER, status], (1, UNSUPP)),
        (11, &[HEADER, (DATA, 15, write), status], (1, IOERR)),
        // Lengths of zero do no harm.
        (0, &[HEADER, (0, 0, read), (DATA, 512, read), status, (0, 0, 0)], (513, OK)),
        // Nowhere to answer to.
        (0, &[HEADER, (DATA, 512, read), (OUTSIDE, 1, WRITE)], (0, UNTOUCHED)),
        (1, &[HEADER, (DATA, 512, 0)], (0, UNTOUCHED)),
        (0, &[(0, 0, 0)], (0, UNTOUCHED)),
        // Tables in tables, of no length, of a broken one, outside; a chain that goes on after one.
        (0, &[(GUEST, 64, INDIRECT)], (0, UNTOUCHED)),
        (0, &[(GUEST, 0, INDIRECT)], (0, UNTOUCHED)),
        (0, &[(GUEST + 16, 17, INDIRECT), status], (0, UNTOUCHED)),
        (0, &[(GUEST + 16, u32::MAX - 15, INDIRECT), status], (0, UNTOUCHED)),
        (0, &[(OUTSIDE, 64, INDIRECT)], (0, UNTOUCHED)),
        (0, &[(GUEST + 16, 16, INDIRECT | NEXT), status], (0, UNTOUCHED)),
    ];
    for (kind, entries, expect) in cases {
        assert_eq!(world.run(*kind, entries), *expect, "{kind}: {entries:x?}");
    }
    // A loop, and an entry outside of the table.
    for next in [0, ENTRIES, u16::MAX] {
        world.raw.write_entry(GUEST, 0, HEADER, 1);
        world.raw.write_entry(GUEST, 1, (DATA, 512, read), next);
        world.raw.offer(0);
        assert_eq!(world.raw.wait(), (0, 0));
    }
    world.check_it_serves();
    world.end();
}

#[test]
fn a_broken_ring_is_served_again_when_it_is_set_up_again() {
    let mut world = World::new(0);
    world.check_it_serves();
    // More than there can be, then a chain that is none.
    world.raw.tell(1000);
    world.raw.stop();
    world.raw.start();
    world.check_it_serves();
    world.raw.offer(ENTRIES);
    world.raw.stop();
    world.raw.start();
    world.check_it_serves();
    world.end();
}

/// How often chains are offered, and how many together.
const ROUNDS: u32 = 2000;
const BATCH: u32 = 8;

/// How often the ring is looked at before it is taken to be broken.
const PATIENCE: u32 = 2000;

/// Numbers that are as often nearly right as not.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.next()).unwrap() % from.len()]
    }

    fn entry(&mut self) -> Entry {
        let address = self.pick(&[FREE, FREE, DATA, STATUS, GUEST, GUEST + 0x2000, OUTSIDE - 1, 0, u64::MAX]);
        let bytes = self.pick(&[0, 1, 16, 16, 512, 513, 528, 1024, 4096, u32::MAX]);
        (address, bytes, self.pick(&[NEXT, NEXT, NEXT | WRITE, NEXT | WRITE, WRITE, WRITE, 0, INDIRECT, 7]))
    }
}

#[test]
fn a_guest_that_changes_everything_all_the_time_harms_only_itself() {
    let mut world = World::new(0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let raw = &mut world.raw;
        let memory = raw.memory.clone();
        let is_over = &is_over;
        // Headers and descriptors change while they are read.
        scope.spawn(move || {
            let mut random = Random(3);
            while !is_over.load(Ordering::Relaxed) {
                let (address, bytes, flags) = random.entry();
                let fields =
                    [&address.to_le_bytes()[..], &bytes.to_le_bytes(), &flags.to_le_bytes()].concat();
                let at = GUEST + random.next() % u64::from(ENTRIES) * 16;
                memory.write_slice(&fields, GuestAddress(at)).unwrap();
                let kind = random.pick(&[0_u32, 1, 4, 8, 11, 13, 99]);
                memory.write_obj(kind, GuestAddress(FREE)).unwrap();
            }
        });
        let mut random = Random(5);
        let mut answered = 0;
        for _ in 0..ROUNDS {
            (0..BATCH).for_each(|_| raw.offer(u16::try_from(random.next()).unwrap_or(0) % ENTRIES));
            match raw.wait_for_all(PATIENCE) {
                Some(()) => answered += BATCH,
                // It has written over its own ring.
                None => {
                    raw.stop();
                    raw.start();
                }
            }
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(answered > ROUNDS, "only {answered} answers: the ring was always broken");
    });
    world.raw.stop();
    world.raw.start();
    let sector = vec![7; 512];
    world.disk.write(512, &Pieces::of(&sector)).unwrap();
    world.check_it_serves();
    world.end();
}

#[test]
fn a_guest_that_does_not_want_to_be_told_is_not() {
    let mut world = World::new(EVENT_INDEX);
    world.check_it_serves();
    // The thread is over when it has stopped, so nothing comes later.
    world.raw.stop();
    assert!(world.raw.call.read().is_ok());
    world.raw.start();
    world.raw.set_flags(1);
    world.check_it_serves();
    world.raw.stop();
    assert!(world.raw.call.read().is_err(), "it was told");
    world.end();
}

#[test]
fn a_new_size_is_told_to_the_front_end() {
    let mut world = World::new(0);
    // Nobody listens yet.
    world.handle.announce_size().unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    world.raw.front.set_backend_request_fd(&theirs).unwrap();
    drop(theirs);
    world.disk.file.grow(2 * DISK_BYTES).unwrap();
    world.handle.announce_size().unwrap();
    let mut message = [0; 12];
    ours.read_exact(&mut message).unwrap();
    assert_eq!(message, [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(world.raw.disk_bytes(), 2 * DISK_BYTES);
    world.check_it_serves();
    world.end();
}

#[test]
fn what_a_driver_that_does_not_flush_writes_is_durable_at_once() {
    for (without, flushes) in [(0, 0), (FLUSH, 1)] {
        let mut world = World::new(without);
        assert_eq!(world.run(1, &[HEADER, (DATA, 512, NEXT), (STATUS, 1, WRITE)]), (1, OK));
        assert_eq!(world.disk.flushes.load(Ordering::Relaxed), flushes);
        world.end();
    }
}

#[test]
fn a_front_end_that_breaks_the_protocol_is_left() {
    let device = |stream| World::device(&World::disk()).connect(stream).unwrap();
    let header = |request: u32, bytes: u32| [request, 1, bytes].map(u32::to_ne_bytes).concat();
    let cases = [
        // None, none whole, none known, a length that is not the request's, a queue that is none.
        (vec![], true),
        (header(1, 0)[..7].to_vec(), true),
        (header(200, 0), false),
        (header(2, 3), false),
        ([header(10, 8), vec![9; 8]].concat(), false),
    ];
    for (bytes, is_end) in cases {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&bytes).unwrap();
        drop(ours);
        match device(theirs).serve() {
            Ok(()) => assert!(is_end, "{bytes:?}"),
            Err(error) => assert!(!is_end && matches!(error, Error::Protocol(_)), "{bytes:?}: {error:?}"),
        }
    }
}
