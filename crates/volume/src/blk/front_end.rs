//! The front end's messages, one function each: it describes its memory and its queues, and they are served. Owns the state
//! of one connection. A message that is refused ends the connection, as the front end's picture of the device is wrong then.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::io::ioctl_fionbio;
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVirtioFeatures, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_bindings::virtio_blk::VIRTIO_BLK_F_FLUSH;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

use super::execute::{Backing, Caching};
use super::pool::Pool;
use super::queue::{Common, Queue};
use super::ring::{Addresses, ENTRIES_MAX};
use super::{Access, Settings, features};

/// Pieces of guest memory, as many as the kernel's own back end takes: a front end that plugs memory may need them.
const REGIONS_MAX: usize = 509;

/// One connection.
pub(super) struct FrontEnd {
    settings: Settings,
    features: u64,
    regions: Vec<Region>,
    common: Common,
    queues: Vec<Queue>,
}

/// Where the front end has a piece of guest memory: it describes rings by its own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Region {
    guest: u64,
    user: u64,
    bytes: u64,
}

impl FrontEnd {
    /// A connection on which nothing was said yet.
    pub(super) fn new(settings: Settings, backing: Backing, pool: Pool) -> Self {
        let common = Common {
            memory: Arc::new(GuestMemoryMmap::new()),
            backing: Arc::new(backing),
            pool,
            has_event_index: false,
            is_read_only: settings.access == Access::ReadOnly,
        };
        let queues = (0..settings.queues).map(|_| Queue::default()).collect();
        Self { settings, features: 0, regions: Vec::new(), common, queues }
    }

    /// Returns when no queue is served and all requests are answered.
    pub(super) fn pause(&mut self) {
        self.queues.iter_mut().for_each(Queue::pause);
    }

    fn resume(&mut self) -> Result<()> {
        let common = &self.common;
        self.queues.iter_mut().try_for_each(|queue| queue.resume(common)).map_err(refused)
    }

    /// Changes one queue while it is not served.
    fn change(&mut self, index: u32, change: impl FnOnce(&mut Queue)) -> Result<()> {
        let queue = usize::try_from(index).ok().and_then(|index| self.queues.get_mut(index));
        let queue = queue.ok_or(Error::InvalidParam)?;
        queue.pause();
        change(queue);
        queue.resume(&self.common).map_err(refused)
    }

    /// Changes the memory while no queue is served.
    fn set_memory(&mut self, memory: GuestMemoryMmap, regions: Vec<Region>) -> Result<()> {
        self.pause();
        (self.common.memory, self.regions) = (Arc::new(memory), regions);
        self.resume()
    }

    fn guest_address(&self, user: u64) -> Result<u64> {
        let offset = |region: &Region| user.checked_sub(region.user).filter(|offset| *offset < region.bytes);
        let found = self.regions.iter().find_map(|region| region.guest.checked_add(offset(region)?));
        found.ok_or(Error::InvalidParam)
    }
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::ReqHandlerError(io::Error::other(error))
}

fn unsupported<T>() -> Result<T> {
    Err(Error::InvalidOperation("not offered"))
}

fn map(region: &VhostUserMemoryRegion, file: File) -> Result<(GuestRegionMmap, Region)> {
    let mapped = GuestRegionMmap::new(region.mmap_region(file)?, GuestAddress(region.guest_phys_addr));
    Ok((mapped.ok_or(Error::InvalidParam)?, describe(region)))
}

fn describe(region: &VhostUserMemoryRegion) -> Region {
    let (guest, user) = (region.guest_phys_addr, region.user_addr);
    Region { guest, user, bytes: region.memory_size }
}

impl VhostUserBackendReqHandlerMut for FrontEnd {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.pause();
        self.queues.iter_mut().for_each(|queue| queue.is_enabled = false);
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        unsupported()
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(features::offered(&self.settings))
    }

    fn set_features(&mut self, agreed: u64) -> Result<()> {
        if agreed & !features::offered(&self.settings) != 0 {
            return Err(Error::InvalidParam);
        }
        self.pause();
        self.features = agreed;
        self.common.has_event_index = features::has(agreed, VIRTIO_RING_F_EVENT_IDX);
        let will_flush = features::has(agreed, VIRTIO_BLK_F_FLUSH);
        let caching = if will_flush { Caching::UntilFlush } else { Caching::Nothing };
        self.common.backing = Arc::new(Backing { caching, ..Backing::clone(&self.common.backing) });
        if agreed & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            // Such a front end has no message to enable a queue.
            self.queues.iter_mut().for_each(|queue| queue.is_enabled = true);
        }
        self.resume()
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let mapped = regions.iter().zip(files).map(|(region, file)| map(region, file));
        let (mapped, regions) =
            mapped.collect::<Result<Vec<_>>>()?.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        let memory = GuestMemoryMmap::from_regions(mapped).map_err(refused)?;
        self.set_memory(memory, regions).map(|()| None)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(REGIONS_MAX as u64)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        if self.regions.len() >= REGIONS_MAX {
            return Err(Error::InvalidParam);
        }
        let (mapped, region) = map(region, file)?;
        let memory = self.common.memory.insert_region(Arc::new(mapped)).map_err(refused)?;
        let regions = self.regions.iter().copied().chain([region]).collect();
        self.set_memory(memory, regions).map(|()| None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let removed = describe(region);
        let address = GuestAddress(removed.guest);
        let (memory, _) = self.common.memory.remove_region(address, removed.bytes).map_err(refused)?;
        let regions = self.regions.iter().copied().filter(|region| region.guest != removed.guest).collect();
        self.set_memory(memory, regions)
    }

    fn set_vring_num(&mut self, index: u32, entries: u32) -> Result<()> {
        let entries = u16::try_from(entries).ok().filter(|entries| *entries <= ENTRIES_MAX);
        let entries = entries.filter(|entries| entries.is_power_of_two()).ok_or(Error::InvalidParam)?;
        self.change(index, |queue| queue.entries = entries)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        flags: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        if !flags.is_empty() {
            return unsupported();
        }
        let addresses = Addresses {
            descriptors: self.guest_address(descriptors)?,
            available: self.guest_address(available)?,
            used: self.guest_address(used)?,
        };
        self.change(index, |queue| queue.addresses = Some(addresses))
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.change(index, |queue| queue.next_available = base)
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let mut base = 0;
        self.change(index, |queue| {
            (queue.kick, queue.call) = (None, None);
            base = queue.next_available;
        })?;
        Ok(VhostUserVringState::new(index, u32::from(base)))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        if let Some(file) = &file {
            // Only this side reads it, so the other does not notice.
            ioctl_fionbio(file, true).map_err(|error| refused(io::Error::from(error)))?;
        }
        self.change(u32::from(index), |queue| queue.kick = file.map(Arc::new))
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.change(u32::from(index), |queue| queue.call = file.map(Arc::new))
    }

    fn set_vring_err(&mut self, _index: u8, _file: Option<File>) -> Result<()> {
        // Whoever breaks a ring is told by it that nothing is answered any more.
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(features::protocol())
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(u64::from(self.settings.queues))
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.change(index, |queue| queue.is_enabled = enable)
    }

    fn get_config(&mut self, offset: u32, size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let disk_bytes = self.common.backing.disk.bytes();
        features::config(&self.settings, disk_bytes, offset, size).ok_or(Error::InvalidParam)
    }

    fn set_config(&mut self, _offset: u32, _bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        // No field may be written. A guest can try, which is no reason to end its disk.
        Ok(())
    }

    fn set_gpu_socket(&mut self, _socket: GpuBackend) -> Result<()> {
        unsupported()
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        unsupported()
    }

    fn get_inflight_fd(&mut self, _inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        unsupported()
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        unsupported()
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        unsupported()
    }

    fn check_device_state(&mut self) -> Result<()> {
        unsupported()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unsupported()
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        unsupported()
    }
}
