//! Memory that is shared with the device. Safe code will not do: the driver's functions take addresses.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rustix::fs::{MemfdFlags, memfd_create};
use virtio_driver::VirtioBlkQueue;
use vm_memory::{FileOffset, MmapRegion};

/// Shared memory.
pub(crate) struct Memory {
    region: MmapRegion,
    file: File,
}

#[allow(dead_code, reason = "tests and the benchmark need different ones")]
impl Memory {
    /// So much of it, zeroes.
    pub(crate) fn new(bytes: usize) -> io::Result<Self> {
        let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC)?);
        file.set_len(bytes as u64)?;
        let region = MmapRegion::from_file(FileOffset::new(file.try_clone()?, 0), bytes);
        Ok(Self { region: region.map_err(io::Error::other)?, file })
    }

    /// Where it is in this process.
    pub(crate) fn address(&self) -> usize {
        self.region.as_ptr() as usize
    }

    /// What the device maps.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// A part of it, while no request is about it.
    pub(crate) fn bytes(&mut self, at: usize, bytes: usize) -> &mut [u8] {
        self.check(at, bytes);
        // SAFETY: the part lies in the mapping, which `self` owns; the callers of tests wait for answers first.
        unsafe { std::slice::from_raw_parts_mut(self.region.as_ptr().wrapping_add(at), bytes) }
    }

    pub(super) fn read(
        &self,
        queue: &mut VirtioBlkQueue<'static, u64>,
        offset: u64,
        at: usize,
        bytes: usize,
        tag: u64,
    ) -> io::Result<()> {
        self.check(at, bytes);
        // SAFETY: the part lies in the mapping, which lives as long as the driver.
        unsafe { queue.read_raw(offset, self.region.as_ptr().wrapping_add(at), bytes, tag) }
    }

    pub(super) fn write(
        &self,
        queue: &mut VirtioBlkQueue<'static, u64>,
        offset: u64,
        at: usize,
        bytes: usize,
        tag: u64,
    ) -> io::Result<()> {
        self.check(at, bytes);
        // SAFETY: as in `read`.
        unsafe { queue.write_raw(offset, self.region.as_ptr().wrapping_add(at), bytes, tag) }
    }

    fn check(&self, at: usize, bytes: usize) {
        assert!(at.checked_add(bytes).is_some_and(|end| end <= self.region.size()), "outside of the memory");
    }
}
