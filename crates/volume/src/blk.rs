//! A virtio block device, served over vhost-user: one [`Connection`] to one front end, until that is gone. Owns the device's
//! side of both protocols (Virtual I/O Device specification 1.2, section 5.2; the vhost-user protocol as QEMU documents
//! it); what is stored is the business of a [`Disk`].
//!
//! ```text
//!   front end ──messages──▶ front_end (this thread) ── starts and stops ──▶ queue, worker (a thread each)
//!   guest ══ring══▶ worker: walk, parse ──▶ execute ──▶ Disk          │ what may take long
//!   guest ◀═ring══ ring: answer, announce ◀─────────────── pool ◀─────┘
//! ```
//!
//! All that a guest writes is hostile: `request` turns it into a closed set of requests or refuses it. The front end is
//! the virtual machine monitor, which is trusted not to cut off memory that it has shared.

mod channel;
mod execute;
mod features;
pub mod file;
mod front_end;
mod fuzz;
mod pool;
mod queue;
mod request;
mod ring;
mod sys;
mod worker;

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use vhost::vhost_user::BackendReqHandler;
use virtio_bindings::virtio_blk::VIRTIO_BLK_ID_BYTES;

use self::channel::{Channel, Next};
use self::execute::{Backing, Caching};
use self::front_end::FrontEnd;
use self::pool::Pool;
use crate::disk::Disk;
use crate::lock;

/// Bytes of a serial number, as the specification has it.
pub const SERIAL_BYTES_MAX: usize = VIRTIO_BLK_ID_BYTES as usize;

/// Queues of one device: more than machines that are worth it have processors for, few enough threads.
pub const QUEUES_MAX: u16 = 64;

/// The stack of a thread. A request needs a few kilobytes, and a disk may need some more; only what is touched costs.
const STACK_BYTES: usize = 256 << 10;

/// What a guest may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read it.
    ReadOnly,
    /// Read and write it.
    ReadWrite,
}

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// By which a guest finds the disk; at most [`SERIAL_BYTES_MAX`] bytes.
    pub serial: String,
    /// How many queues a guest may use, one to [`QUEUES_MAX`]. Each that it uses is a thread.
    pub queues: u16,
    /// What it may do.
    pub access: Access,
}

impl Default for Settings {
    fn default() -> Self {
        Self { serial: String::new(), queues: 1, access: Access::ReadWrite }
    }
}

/// Why a disk is not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings are none.
    #[error("serial number of a disk has {bytes} bytes: at most {SERIAL_BYTES_MAX}")]
    Serial {
        /// How long it is.
        bytes: usize,
    },
    /// The settings are none.
    #[error("disk with {queues} queues: 1 to {QUEUES_MAX}")]
    Queues {
        /// How many it would have.
        queues: u16,
    },
    /// The connection cannot be used.
    #[error("connection to the front end of a disk failed")]
    Socket(#[source] io::Error),
    /// The front end said what it must not say, or asked for what cannot be done.
    #[error("front end of a disk broke the protocol, or its request could not be done")]
    Protocol(#[source] vhost::vhost_user::Error),
}

/// A disk as a device.
#[derive(Clone)]
pub struct Device {
    disk: Arc<dyn Disk>,
    settings: Settings,
}

impl Device {
    /// A device that is `disk`.
    ///
    /// # Errors
    /// The settings are out of bounds.
    pub fn new(disk: Arc<dyn Disk>, settings: Settings) -> Result<Self, Error> {
        if settings.serial.len() > SERIAL_BYTES_MAX {
            return Err(Error::Serial { bytes: settings.serial.len() });
        }
        if !(1..=QUEUES_MAX).contains(&settings.queues) {
            return Err(Error::Queues { queues: settings.queues });
        }
        Ok(Self { disk, settings })
    }

    /// A connection to a front end, not served yet.
    ///
    /// # Errors
    /// The socket cannot be used.
    pub fn connect(&self, stream: UnixStream) -> Result<Connection, Error> {
        let ours = stream.try_clone().map_err(Error::Socket)?;
        let shared = Shared { stream: ours, channel: Channel::default() };
        Ok(Connection { device: self.clone(), stream, handle: Handle { shared: Arc::new(shared) } })
    }
}

/// A connection to one front end.
pub struct Connection {
    device: Device,
    stream: UnixStream,
    handle: Handle,
}

/// What other threads do with a connection.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    stream: UnixStream,
    channel: Channel,
}

impl Handle {
    /// Asks [`Connection::serve`] to return. It may be asked at any time, and again.
    pub fn end(&self) {
        // It fails when the front end is gone, which is what is wanted.
        let _ = self.shared.stream.shutdown(Shutdown::Both);
    }

    /// Tells the guest that [`Disk::bytes`] has changed.
    ///
    /// # Errors
    /// The front end is gone, or does not read what it is told.
    pub fn announce_size(&self) -> Result<(), Error> {
        self.shared.channel.announce_config().map_err(Error::Socket)
    }
}

impl Connection {
    /// For other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves the front end until it is gone or [`Handle::end`] is called. When it returns, all requests in flight are
    /// finished, and nobody writes to the disk any more.
    ///
    /// # Errors
    /// The front end broke the protocol. The requests in flight are finished then too.
    pub fn serve(self) -> Result<(), Error> {
        let Self { device: Device { disk, settings }, stream, handle: Handle { shared } } = self;
        let pool = Pool::new();
        let backing = Backing { disk, serial: settings.serial.clone(), caching: Caching::UntilFlush };
        let front_end = Arc::new(Mutex::new(FrontEnd::new(settings, backing, pool.clone())));
        let mut messages = BackendReqHandler::from_stream(stream, Arc::clone(&front_end));
        let result = loop {
            match shared.channel.look(&shared.stream) {
                Ok(Next::Message) => {}
                Ok(Next::End) => break Ok(()),
                Err(error) => break Err(Error::Socket(error)),
            }
            match messages.handle_request() {
                Ok(()) => {}
                Err(error) if is_end(&error) => break Ok(()),
                Err(error) => break Err(Error::Protocol(error)),
            }
        };
        lock(&front_end).pause();
        pool.end();
        let _ = shared.stream.shutdown(Shutdown::Both);
        result
    }
}

/// The door for fuzzers: reads a chain of descriptors out of any bytes; returns whether a request came out.
#[doc(hidden)]
#[must_use]
pub fn fuzz_descriptors(input: &[u8]) -> bool {
    fuzz::descriptors(input)
}

/// Whether it says no more than that the other side is gone, be it within a message.
fn is_end(error: &vhost::vhost_user::Error) -> bool {
    use vhost::vhost_user::Error;
    matches!(error, Error::Disconnected | Error::PartialMessage | Error::SocketBroken(_))
}
