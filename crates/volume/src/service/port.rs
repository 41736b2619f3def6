//! Where a guest's VMM finds a disk: one at a time. Owns what it is given, and who has it.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use lith_core::chain::chain;

use crate::blk::{self, Access, Device, Handle, Settings};
use crate::disk::Disk;
use crate::lock;
use crate::reader::Reader;
use crate::storage::Folder;

/// A disk that a VMM may ask for.
pub(super) struct Port {
    pub(super) id: String,
    settings: Settings,
    source: Source,
    handle: Mutex<Option<Handle>>,
    is_attached: AtomicBool,
}

enum Source {
    /// The volume itself.
    Volume(Arc<dyn Disk>),
    /// Its newest checkpoint when a guest comes.
    Checkpoints(Folder),
}

impl std::fmt::Debug for Port {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Port").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Port {
    /// The port of a volume.
    pub(super) fn of_volume(id: &str, disk: Arc<dyn Disk>, settings: Settings) -> Result<Self, blk::Error> {
        // Settings that are out of bounds are to be told at the start.
        Device::new(Arc::clone(&disk), settings.clone())?;
        Ok(Self::new(id, settings, Source::Volume(disk)))
    }

    /// The port of a volume's checkpoints.
    pub(super) fn of_checkpoints(id: &str, folder: Folder, settings: Settings) -> Self {
        Self::new(id, Settings { access: Access::ReadOnly, ..settings }, Source::Checkpoints(folder))
    }

    fn new(id: &str, settings: Settings, source: Source) -> Self {
        let (handle, is_attached) = (Mutex::new(None), AtomicBool::new(false));
        Self { id: id.to_owned(), settings, source, handle, is_attached }
    }

    pub(super) fn is_attached(&self) -> bool {
        self.is_attached.load(Ordering::Acquire)
    }

    /// Whether nobody had it; from now on somebody has.
    pub(super) fn take(&self) -> bool {
        !self.is_attached.swap(true, Ordering::AcqRel)
    }

    /// Nobody has it any more.
    pub(super) fn let_go(&self) {
        self.is_attached.store(false, Ordering::Release);
    }

    /// Tells the guest of another size, if there is one. One that starts later asks by itself.
    pub(super) fn announce_size(&self) {
        if let Some(handle) = &*lock(&self.handle)
            && let Err(error) = handle.announce_size()
        {
            tracing::warn!(volume = %self.id, error = %chain(&error), "the guest was not told of a larger disk");
        }
    }

    /// Serves who has taken it, until that is gone.
    pub(super) fn serve(&self, stream: UnixStream) {
        if let Err(why) = self.try_serve(stream) {
            tracing::error!(volume = %self.id, error = %why, "a guest was refused");
        }
    }

    fn try_serve(&self, stream: UnixStream) -> Result<(), String> {
        let disk: Arc<dyn Disk> = match &self.source {
            Source::Volume(disk) => Arc::clone(disk),
            Source::Checkpoints(folder) => {
                let reader = Reader::open(folder).map_err(|error| chain(&error))?;
                tracing::info!(volume = %self.id, checkpoint = reader.seq(), "a guest reads a checkpoint");
                Arc::new(reader)
            }
        };
        let device = Device::new(disk, self.settings.clone()).map_err(|error| chain(&error))?;
        let connection = device.connect(stream).map_err(|error| chain(&error))?;
        *lock(&self.handle) = Some(connection.handle());
        if let Err(error) = connection.serve() {
            tracing::warn!(volume = %self.id, error = %chain(&error), "a guest was cut off");
        }
        *lock(&self.handle) = None;
        Ok(())
    }
}
