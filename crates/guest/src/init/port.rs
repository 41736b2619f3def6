//! The byte stream to the host: finding it, reading frames, writing frames in order, waiting for credit.
//!
//! One thread writes, so that a frame is never torn and the reader never waits for a write (host and guest waiting for
//! each other to read would be for ever). Must not know what messages mean.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lith_guest::messages::{BootStep, GuestMessage, Outcome};
use lith_guest::mux::{Event, MESSAGES, Mux, MuxError};
use lith_guest::wire::{Decoder, Frame, Role, Stream, WireError};

use crate::failure::{During, Failure};
use crate::lock;

/// Name of the virtio-serial port.
const NAME: &str = "lith";

/// How long the port may take to appear once its driver is loaded.
const APPEARS_WITHIN: Duration = Duration::from_secs(10);

/// Pause between looks for a device.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Bytes of data frames that may wait for the writer: one more would only take memory.
const QUEUE_BYTES_MAX: usize = 128 * 1024;

/// Bytes read at a time.
const READ_BYTES: usize = 32 * 1024;

/// Pause while the host's end is closed; it happens only when the host's supervisor is gone, and then the machine
/// ends soon.
const CLOSED_PAUSE: Duration = Duration::from_millis(10);

/// The channel is over: ended, or given up by the host.
#[derive(Debug)]
pub(crate) struct Gone;

struct State {
    mux: Mux,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    is_writing: bool,
}

/// The sending side, shared by all threads.
pub(crate) struct Port {
    state: Mutex<State>,
    changed: Condvar,
}

/// Opens the port's device and starts the thread that writes. Gives the device, to be read with [`Port::read`].
pub(crate) fn connect() -> Result<(Arc<Port>, File), Failure> {
    let path = find()?;
    let device = File::options().read(true).write(true).open(&path);
    let device = device.during(BootStep::Mounts, format_args!("open the host's port {path}"))?;
    let writing_end = device.try_clone().during(BootStep::Mounts, "duplicate the host's port")?;
    let mux = Mux::new(Role::Guest);
    let state = State { mux, queue: VecDeque::new(), queued_bytes: 0, is_writing: false };
    let port = Arc::new(Port { state: Mutex::new(state), changed: Condvar::new() });
    let writer = Arc::clone(&port);
    std::thread::spawn(move || writer.write(writing_end));
    Ok((port, device))
}

fn find() -> Result<String, Failure> {
    let deadline = Instant::now() + APPEARS_WITHIN;
    loop {
        for entry in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            let device = format!("/dev/{}", entry.file_name().to_string_lossy());
            if name.trim_end() == NAME && fs::exists(&device).unwrap_or(false) {
                return Ok(device);
            }
        }
        if Instant::now() > deadline {
            return Err(Failure::new(
                BootStep::Mounts,
                "the machine has no virtio-serial port named \"lith\"",
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Port {
    /// Sends a message.
    pub(crate) fn message(&self, message: &GuestMessage) {
        match Frame::control(Role::Guest, MESSAGES, message) {
            Ok(frame) => self.enqueue(&mut lock(&self.state), &frame),
            Err(error) => crate::boot::complain(&error.to_string()),
        }
    }

    /// Waits until some bytes may be sent on the channel, and says how many.
    pub(crate) fn room(&self, channel: u32) -> Result<usize, Gone> {
        let mut state = lock(&self.state);
        loop {
            if !state.mux.is_open(channel) || state.mux.is_cancelled(channel) {
                return Err(Gone);
            }
            let sendable = state.mux.sendable(channel);
            if sendable > 0 && state.queued_bytes < QUEUE_BYTES_MAX {
                return Ok(sendable);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends bytes, at most what [`Port::room`] said. One thread at a time per channel, or the room may be taken.
    fn send_once(&self, channel: u32, stream: Stream, bytes: &[u8]) -> Result<usize, Gone> {
        self.room(channel)?;
        let mut state = lock(&self.state);
        // Another stream of the same channel may have taken the room meanwhile.
        let count = state.mux.sendable(channel).min(bytes.len());
        if count == 0 {
            return Ok(0);
        }
        let frame = state.mux.data(channel, stream, bytes[..count].to_vec()).map_err(|_| Gone)?;
        self.enqueue(&mut state, &frame);
        Ok(count)
    }

    /// Sends all bytes, waiting for the host to take them.
    pub(crate) fn send(&self, channel: u32, stream: Stream, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let count = self.send_once(channel, stream, bytes)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Ends a stream.
    pub(crate) fn eof(&self, channel: u32, stream: Stream) {
        let mut state = lock(&self.state);
        // A channel that has ended needs no end of its streams.
        if let Ok(frame) = state.mux.eof(channel, stream) {
            self.enqueue(&mut state, &frame);
        }
    }

    /// Ends a channel.
    pub(crate) fn close(&self, channel: u32, outcome: &Outcome) {
        let mut state = lock(&self.state);
        match state.mux.close(channel, outcome) {
            Ok(frame) => self.enqueue(&mut state, &frame),
            Err(error) => crate::boot::complain(&error.to_string()),
        }
        self.changed.notify_all();
    }

    /// Says that bytes from the host have been passed on.
    pub(crate) fn consumed(&self, channel: u32, bytes: usize) {
        let mut state = lock(&self.state);
        if let Some(frame) = state.mux.consumed(channel, bytes) {
            self.enqueue(&mut state, &frame);
        }
    }

    /// Waits until everything has been handed to the kernel, at most until the deadline.
    pub(crate) fn flush(&self, within: Duration) {
        let is_busy = |state: &mut State| !state.queue.is_empty() || state.is_writing;
        drop(self.changed.wait_timeout_while(lock(&self.state), within, is_busy));
    }

    /// Reads the host's frames for ever and hands over what they mean.
    pub(crate) fn read(&self, mut device: File, mut handle: impl FnMut(Event)) -> ProtocolError {
        let mut decoder = Decoder::new(Role::Guest);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = match device.read(&mut buffer) {
                Ok(0) | Err(_) => {
                    std::thread::sleep(CLOSED_PAUSE);
                    continue;
                }
                Ok(count) => count,
            };
            let mut bytes = &buffer[..count];
            loop {
                let frame = match decoder.next_frame(&mut bytes) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(error) => return ProtocolError::Wire(error),
                };
                let event = lock(&self.state).mux.receive(frame);
                match event {
                    Ok(event) => {
                        self.changed.notify_all();
                        handle(event);
                    }
                    Err(error) => return ProtocolError::Mux(error),
                }
            }
        }
    }

    fn enqueue(&self, state: &mut State, frame: &Frame) {
        let bytes = frame.encode();
        state.queued_bytes += bytes.len();
        state.queue.push_back(bytes);
        self.changed.notify_all();
    }

    fn write(&self, mut device: File) {
        let mut state = lock(&self.state);
        loop {
            let Some(bytes) = state.queue.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.queued_bytes -= bytes.len();
            state.is_writing = true;
            drop(state);
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                match device.write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(_) => std::thread::sleep(CLOSED_PAUSE),
                }
            }
            state = lock(&self.state);
            state.is_writing = false;
            self.changed.notify_all();
        }
    }
}

/// The host broke the protocol: the two programs are not of one build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProtocolError {
    /// A frame.
    #[error("bad frame from the host: {0}")]
    Wire(WireError),
    /// The order of frames.
    #[error("unexpected frame from the host: {0}")]
    Mux(MuxError),
}
