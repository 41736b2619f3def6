//! A front end made of the crate `virtio-driver`: what a virtual machine monitor and its guest are to a block device.

mod sys;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virtio_driver::{VhostUser, VirtioBlkQueue, VirtioBlkTransport, VirtioFeatureFlags};

pub(crate) use self::sys::Memory;

/// How long an answer may take before a test has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Everything that a block device may offer below the bits of the ring: it is masked by what it does offer.
const DEVICE_FEATURES: u64 = (1 << 24) - 1;

/// A request; `at` is where its data is in the shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "tests and the benchmark need different ones")]
pub(crate) enum Operation {
    Read { offset: u64, at: usize, bytes: usize },
    Write { offset: u64, at: usize, bytes: usize },
    Flush,
    Discard { offset: u64, bytes: u64 },
    WriteZeroes { offset: u64, bytes: u64, may_unmap: bool },
}

/// Whether the event index is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "tests and the benchmark need different ones")]
pub(crate) enum EventIndex {
    Without,
    With,
}

/// A connected driver.
pub(crate) struct Front {
    queues: Vec<VirtioBlkQueue<'static, u64>>,
    transport: Box<VirtioBlkTransport>,
    memory: Memory,
}

#[allow(dead_code, reason = "tests and the benchmark need different ones")]
impl Front {
    /// Connects to a socket.
    pub(crate) fn connect(
        path: &Path,
        event_index: EventIndex,
        queues: usize,
        bytes: usize,
    ) -> io::Result<Self> {
        let event_index = match event_index {
            EventIndex::Without => VirtioFeatureFlags::empty(),
            EventIndex::With => VirtioFeatureFlags::RING_EVENT_IDX,
        };
        let features = DEVICE_FEATURES | (VirtioFeatureFlags::VERSION_1 | event_index).bits();
        let path = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let mut transport: Box<VirtioBlkTransport> = Box::new(VhostUser::new(path, features)?);
        let mut queues = VirtioBlkQueue::setup_queues(&mut *transport, queues, 128)?;
        let memory = Memory::new(bytes)?;
        transport.map_mem_region(memory.address(), bytes, memory.descriptor(), 0)?;
        queues.iter_mut().for_each(|queue| queue.set_used_notif_enabled(true));
        Ok(Self { queues, transport, memory })
    }

    /// The shared memory.
    pub(crate) fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// Bytes of the disk.
    pub(crate) fn disk_bytes(&self) -> io::Result<u64> {
        Ok(u64::from(self.transport.get_config()?.capacity) * 512)
    }

    /// Queues that there may be.
    pub(crate) fn queues(&self) -> io::Result<u16> {
        Ok(u16::from(self.transport.get_config()?.num_queues))
    }

    /// Puts a request into a queue; `tag` comes back with its answer.
    pub(crate) fn submit(&mut self, queue: usize, operation: Operation, tag: u64) -> io::Result<()> {
        let queue = &mut self.queues[queue];
        match operation {
            Operation::Read { offset, at, bytes } => self.memory.read(queue, offset, at, bytes, tag),
            Operation::Write { offset, at, bytes } => self.memory.write(queue, offset, at, bytes, tag),
            Operation::Flush => queue.flush(tag),
            Operation::Discard { offset, bytes } => queue.discard(offset, bytes, tag),
            Operation::WriteZeroes { offset, bytes, may_unmap } => {
                queue.write_zeroes(offset, bytes, may_unmap, tag)
            }
        }
    }

    /// Tells the device of what was put into a queue, if it wants to know.
    pub(crate) fn kick(&mut self, queue: usize) -> io::Result<()> {
        if self.queues[queue].avail_notif_needed() {
            self.transport.get_submission_notifier(queue).notify()?;
        }
        Ok(())
    }

    /// Waits until there are answers, and takes them: tag and error number.
    pub(crate) fn answers(&mut self, queue: usize, answers: &mut Vec<(u64, i32)>) -> io::Result<()> {
        let descriptor = self.transport.get_completion_fd(queue);
        while answers.is_empty() {
            answers.extend(self.queues[queue].completions().map(|answer| (answer.context, answer.ret)));
            if answers.is_empty() {
                let mut events = [PollFd::from_borrowed_fd(descriptor.as_fd(), PollFlags::IN)];
                let deadline = Timespec::try_from(DEADLINE).map_err(io::Error::other)?;
                if poll(&mut events, Some(&deadline))? == 0 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                descriptor.read()?;
            }
        }
        Ok(())
    }

    /// Does one request and returns its error number.
    pub(crate) fn run(&mut self, queue: usize, operation: Operation) -> io::Result<i32> {
        self.submit(queue, operation, 0)?;
        self.kick(queue)?;
        let mut answers = Vec::new();
        self.answers(queue, &mut answers)?;
        Ok(answers[0].1)
    }
}
