//! The file systems of volumes: each grows with its disk, and gives the node back what is free in it.
//!
//! Owns a thread that sleeps until the kernel tells of a disk, a trim is due, or the machine goes down. It opens a file
//! system only for as long as it works on it, by its place in the initramfs, which the task does not see: what is held
//! open cannot be unmounted. Nothing here stops a task; what does not work is said in the log.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::boot::complain;
use crate::ext4::{SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, Size};
use crate::failure::reason;
use crate::sys;
use crate::uevent::{Told, Uevents};

/// When free space is given back for the first time: late enough not to slow down the start of the task, soon enough
/// for what the last boot could not give back before it was cut off.
const TRIM_FIRST_AFTER: Duration = Duration::from_secs(10 * 60);
/// How often from then on. What is deleted goes back at once where the disk takes pieces of that size; this is for the
/// smaller ones that have become larger ones since, and costs a look at every block group.
const TRIM_EVERY: Duration = Duration::from_secs(6 * 60 * 60);
/// How much is trimmed at once: so long may a disk that grows, or the machine's end, have to wait. Two block groups of
/// blocks of 4 KiB, for the kernel remembers only of whole ones that they are trimmed.
const TRIM_BYTES: u64 = 256 << 20;
/// The thread's stack: a message of the kernel (8 KiB) is the largest thing on it.
const STACK_BYTES: usize = 64 << 10;

/// A mounted volume.
pub(crate) struct Volume {
    /// Its disk's path.
    pub(crate) device: String,
    /// Its disk, open for reading: the path is the task's too, and this one stays what it is.
    pub(crate) disk: File,
    /// Where all of its file system is mounted, writable.
    pub(crate) top: PathBuf,
    /// Where the task has it, for a person.
    pub(crate) target: String,
}

impl Volume {
    /// Makes the file system as large as its disk.
    pub(crate) fn grow(&self) {
        if let Err(error) = self.try_grow() {
            let reason = reason(&error);
            complain(&format!("the volume at {} does not grow with its disk: {reason}", self.target));
        }
    }

    fn try_grow(&self) -> io::Result<()> {
        let disk_bytes = (&self.disk).seek(SeekFrom::End(0))?;
        match self.size()?.growth(disk_bytes) {
            Some(blocks) => sys::resize_ext4(&File::open(&self.top)?, blocks),
            None => Ok(()),
        }
    }

    /// The size of the file system, which the kernel keeps up to date in the disk's cache while it is mounted.
    fn size(&self) -> io::Result<Size> {
        let mut superblock = [0; SUPERBLOCK_BYTES];
        self.disk.read_exact_at(&mut superblock, SUPERBLOCK_OFFSET)?;
        Size::parse(&superblock).ok_or_else(|| io::Error::other("its disk has no superblock of ext4"))
    }

    /// Gives back what is free. `pause` is called before each piece and may end it.
    fn trim(&self, mut pause: impl FnMut() -> ControlFlow<()>) -> io::Result<ControlFlow<()>> {
        let bytes = self.size()?.bytes();
        let mut start = 0;
        while start < bytes {
            if pause().is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let folder = File::open(&self.top)?;
            // The kernel does this to one with errors: what it believes to be free may not be.
            if fstatvfs(&folder)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
                break;
            }
            match sys::trim(&folder, start, TRIM_BYTES) {
                Ok(()) => {}
                // A disk that takes nothing back.
                Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => break,
                Err(error) => return Err(error),
            }
            start = start.saturating_add(TRIM_BYTES);
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The running thread.
pub(crate) struct Keeper {
    thread: JoinHandle<()>,
    stop: OwnedFd,
}

impl Keeper {
    /// Looks after these volumes; there is no thread when there are none.
    pub(crate) fn start(volumes: Vec<Volume>) -> io::Result<Option<Keeper>> {
        if volumes.is_empty() {
            return Ok(None);
        }
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let watch = Watch { volumes, uevents: Uevents::listen()?, stopped };
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || watch.run())?;
        Ok(Some(Keeper { thread, stop }))
    }

    /// Ends it, so that nothing here holds a file system any more. Waits for what it is doing, as unmounting would.
    pub(crate) fn stop(self) {
        drop(self.stop);
        // A panic has ended the program.
        let _ = self.thread.join();
    }
}

struct Watch {
    volumes: Vec<Volume>,
    uevents: Uevents,
    /// Its other end is closed when the machine goes down.
    stopped: OwnedFd,
}

impl Watch {
    fn run(self) {
        let mut trim_due = Instant::now() + TRIM_FIRST_AFTER;
        // What grew after it was mounted and before somebody listened.
        self.volumes.iter().for_each(Volume::grow);
        while self.attend(trim_due).is_continue() && self.trim().is_continue() {
            trim_due = Instant::now() + TRIM_EVERY;
        }
    }

    /// Lets file systems grow until then; breaks when the machine goes down.
    fn attend(&self, until: Instant) -> ControlFlow<()> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).expect("hours, not ages");
            let mut waiting =
                [PollFd::new(&self.stopped, PollFlags::IN), PollFd::new(&self.uevents, PollFlags::IN)];
            match poll(&mut waiting, Some(&left)) {
                Ok(0) => return ControlFlow::Continue(()),
                Ok(_) => {}
                Err(_) => continue,
            }
            if !waiting[0].revents().is_empty() {
                return ControlFlow::Break(());
            }
            match self.uevents.take() {
                Ok(told) => self.hear(&told),
                Err(error) => {
                    complain(&format!("nobody looks after the volumes any more: {}", reason(&error)));
                    return ControlFlow::Break(());
                }
            }
        }
    }

    fn hear(&self, told: &Told) {
        for volume in &self.volumes {
            let is_told = match told {
                Told::Resized(name) => volume.device.strip_prefix("/dev/") == Some(name),
                // It may have been any.
                Told::Lost => true,
                Told::Other => false,
            };
            if is_told {
                volume.grow();
            }
        }
    }

    fn trim(&self) -> ControlFlow<()> {
        for volume in &self.volumes {
            // Between two pieces, as attentive as ever.
            match volume.trim(|| self.attend(Instant::now())) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => return ControlFlow::Break(()),
                Err(error) => {
                    let reason = reason(&error);
                    complain(&format!(
                        "the volume at {} does not give back what is free: {reason}",
                        volume.target
                    ));
                }
            }
        }
        ControlFlow::Continue(())
    }
}
