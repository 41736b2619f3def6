//! A front end by hand: it writes into the ring whatever a test wants, right or wrong.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// How long an answer may take before a test has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// Where the guest's memory starts for the guest.
pub(crate) const GUEST: u64 = 0x10_0000;
/// Where it starts for the front end: nothing is mapped there, as only offsets count.
const USER: u64 = 0x7000_0000_0000;
/// How much there is.
pub(crate) const BYTES: u64 = 1 << 20;
pub(crate) const ENTRIES: u16 = 16;
const AVAILABLE: u64 = GUEST + 0x1000;
const USED: u64 = GUEST + 0x2000;
/// What tests may use; status bytes are at its end.
pub(crate) const FREE: u64 = GUEST + 0x4000;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// A descriptor: address, bytes, flags. The next is the next in the list.
pub(crate) type Entry = (u64, u32, u16);

/// A front end with one queue.
pub(crate) struct Raw {
    pub(crate) front: Frontend,
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) call: EventFd,
    kick: EventFd,
    offered: u16,
    answered: u16,
    features: u64,
}

impl Raw {
    /// Connects with all features that are offered, but those in `without`.
    pub(crate) fn connect(stream: UnixStream, without: u64) -> Self {
        let mut front = Frontend::from_stream(stream, 1);
        front.set_owner().unwrap();
        let features = front.get_features().unwrap() & !without;
        front.set_features(features).unwrap();
        let protocol = front.get_protocol_features().unwrap();
        front.set_protocol_features(protocol).unwrap();
        front.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(BYTES).unwrap();
        let size = usize::try_from(BYTES).unwrap();
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST,
            memory_size: BYTES,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: file.as_raw_fd(),
        };
        front.set_mem_table(&[region]).unwrap();
        let ranges = [(GuestAddress(GUEST), size, Some(FileOffset::new(file, 0)))];
        let memory = GuestMemoryMmap::from_ranges_with_files(ranges).unwrap();
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        let (call, kick) = (event(), event());
        let mut raw = Self { front, memory, call, kick, offered: 0, answered: 0, features };
        raw.start();
        raw
    }

    /// Describes the ring, from its first entry on.
    pub(crate) fn start(&mut self) {
        let zeroes = [0; 0x3000];
        self.memory.write_slice(&zeroes, GuestAddress(GUEST)).unwrap();
        (self.offered, self.answered) = (0, 0);
        let user = |guest: u64| guest - GUEST + USER;
        let ring = VringConfigData {
            queue_max_size: ENTRIES,
            queue_size: ENTRIES,
            flags: 0,
            desc_table_addr: user(GUEST),
            used_ring_addr: user(USED),
            avail_ring_addr: user(AVAILABLE),
            log_addr: None,
        };
        self.front.set_vring_num(0, ENTRIES).unwrap();
        self.front.set_vring_base(0, 0).unwrap();
        self.front.set_vring_addr(0, &ring).unwrap();
        self.front.set_vring_kick(0, &self.kick).unwrap();
        self.front.set_vring_call(0, &self.call).unwrap();
        if self.features >> 30 & 1 == 1 {
            self.front.set_vring_enable(0, true).unwrap();
        }
    }

    /// Stops the ring; returns how far the device has come.
    pub(crate) fn stop(&mut self) -> u32 {
        self.front.get_vring_base(0).unwrap()
    }

    /// Writes a table of descriptors.
    pub(crate) fn write_table(&self, address: u64, entries: &[Entry]) {
        for (index, (target, bytes, flags)) in (0_u16..).zip(entries) {
            self.write_entry(address, index, (*target, *bytes, *flags), index + 1);
        }
    }

    /// Writes one descriptor.
    pub(crate) fn write_entry(&self, table: u64, index: u16, (target, bytes, flags): Entry, next: u16) {
        let fields =
            [&target.to_le_bytes()[..], &bytes.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
        self.memory.write_slice(&fields.concat(), GuestAddress(table + u64::from(index) * 16)).unwrap();
    }

    /// Offers a chain and tells the device.
    pub(crate) fn offer(&mut self, head: u16) {
        let at = AVAILABLE + 4 + u64::from(self.offered % ENTRIES) * 2;
        self.memory.write_obj(head, GuestAddress(at)).unwrap();
        self.offered = self.offered.wrapping_add(1);
        self.tell(self.offered);
    }

    /// Says how many chains were offered, true or not.
    pub(crate) fn tell(&self, offered: u16) {
        self.memory.store(offered, GuestAddress(AVAILABLE + 2), Ordering::SeqCst).unwrap();
        self.kick.write(1).unwrap();
    }

    /// Asks not to be told of answers, or to be.
    pub(crate) fn set_flags(&self, flags: u16) {
        self.memory.store(flags, GuestAddress(AVAILABLE), Ordering::SeqCst).unwrap();
    }

    /// Waits for the next answer; returns its chain and length.
    pub(crate) fn wait(&mut self) -> (u32, u32) {
        let start = Instant::now();
        let used = || self.memory.load::<u16>(GuestAddress(USED + 2), Ordering::Acquire).unwrap();
        while used() == self.answered {
            assert!(start.elapsed() < DEADLINE, "no answer");
            thread::yield_now();
        }
        let at = USED + 4 + u64::from(self.answered % ENTRIES) * 8;
        self.answered = self.answered.wrapping_add(1);
        let field = |at| self.memory.read_obj::<u32>(GuestAddress(at)).unwrap();
        (field(at), field(at + 4))
    }

    /// Waits a while until all chains are answered, whatever the answers are.
    pub(crate) fn wait_for_all(&mut self, patience: u32) -> Option<()> {
        let used = || self.memory.load::<u16>(GuestAddress(USED + 2), Ordering::Acquire).unwrap();
        let is_done = (0..patience).any(|_| {
            thread::yield_now();
            used() == self.offered
        });
        is_done.then(|| self.answered = self.offered)
    }

    /// Offers what is in the first entries of the table, and waits: how long the answer is.
    pub(crate) fn run(&mut self, entries: &[Entry]) -> u32 {
        self.write_table(GUEST, entries);
        self.offer(0);
        let (head, bytes) = self.wait();
        assert_eq!(head, 0);
        bytes
    }

    /// Writes the header of a request to where tests may write.
    pub(crate) fn write_header(&self, kind: u32, sector: u64) {
        let fields = [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()];
        self.memory.write_slice(&fields.concat(), GuestAddress(FREE)).unwrap();
    }

    /// What is in memory.
    pub(crate) fn read(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        self.memory.read_slice(&mut read, GuestAddress(address)).unwrap();
        read
    }

    /// Bytes of the disk.
    pub(crate) fn disk_bytes(&mut self) -> u64 {
        let (_, capacity) = self.front.get_config(0, 8, VhostUserConfigFlags::empty(), &[0; 8]).unwrap();
        u64::from_le_bytes(capacity.try_into().unwrap()) * 512
    }
}
