//! The host's end of the guest channel: decoder, channels and pending output on one descriptor. Owns the rule that
//! whatever the guest sends is bounded: a frame by the decoder, bytes in flight by the credit of each channel.

use super::output::Output;
use lith_guest::messages::HostMessage;
use lith_guest::mux::{Event, MESSAGES, Mux};
use lith_guest::wire::{Decoder, Frame, Role};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// No more is taken from the agent while so much waits for the guest.
const PENDING_BYTES_MAX: usize = 256 << 10;

/// The channel to one guest.
#[derive(Debug)]
pub(super) struct GuestLink {
    fd: OwnedFd,
    decoder: Decoder,
    pub(super) mux: Mux,
    output: Output,
    /// The VMM takes no more; what it left to read is still read.
    is_output_closed: bool,
    is_closed: bool,
}

impl GuestLink {
    pub(super) fn new(fd: OwnedFd) -> GuestLink {
        GuestLink {
            fd,
            decoder: Decoder::new(Role::Host),
            mux: Mux::new(Role::Host),
            output: Output::default(),
            is_output_closed: false,
            is_closed: false,
        }
    }

    /// The descriptor, while something may come from it.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.is_closed).then(|| self.fd.as_fd())
    }

    pub(super) fn has_output(&self) -> bool {
        self.output.pending() > 0
    }

    pub(super) fn is_congested(&self) -> bool {
        self.output.pending() > PENDING_BYTES_MAX
    }

    /// Reads once; the events of what was read, or none when there is nothing. Errors are sentences: the guest broke
    /// the protocol.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<Vec<Event>, String> {
        let count = match rustix::io::read(&self.fd, &mut *buffer) {
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(Vec::new()),
            // The VMM is going: its end says more.
            Err(_) => 0,
        };
        if count == 0 {
            self.is_closed = true;
            return Ok(Vec::new());
        }
        let broken = |error: &dyn std::fmt::Display| format!("the guest broke its protocol: {error}");
        let mut events = Vec::new();
        let mut input = &buffer[..count];
        while let Some(frame) = self.decoder.next_frame(&mut input).map_err(|error| broken(&error))? {
            events.push(self.mux.receive(frame).map_err(|error| broken(&error))?);
        }
        Ok(events)
    }

    pub(super) fn send(&mut self, frame: &Frame) {
        if !self.is_output_closed {
            frame.encode_into(self.output.buffer());
        }
    }

    /// Sends a message on channel 0. The error is a sentence.
    pub(super) fn say(&mut self, message: &HostMessage) -> Result<(), String> {
        let frame = Frame::control(Role::Host, MESSAGES, message).map_err(|error| error.to_string())?;
        self.send(&frame);
        Ok(())
    }

    pub(super) fn consumed(&mut self, channel: u32, bytes: usize) {
        if let Some(frame) = self.mux.consumed(channel, bytes) {
            self.send(&frame);
        }
    }

    /// Writes what the guest takes now. That the VMM is gone shows elsewhere.
    pub(super) fn flush(&mut self) {
        let result: io::Result<()> = self.output.flush(self.fd.as_fd());
        if result.is_err() {
            self.is_output_closed = true;
            self.output = Output::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lith_guest::wire::{Body, Stream};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn check(bytes: &[u8], expect: Result<usize, &str>) {
        let (guest, host) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        rustix::io::write(&guest, bytes).unwrap();
        let mut link = GuestLink::new(host);
        let mut buffer = vec![0; 64 << 10];
        let result = link.receive(&mut buffer);
        match (result, expect) {
            (Ok(events), Ok(count)) => assert_eq!(events.len(), count),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (result, expect) => panic!("{result:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn hostile_frames_end_in_a_sentence() {
        check(b"", Ok(0));
        check(&[0xff; 9], Err("the guest broke its protocol: frame of 4294967295 bytes"));
        check(&[1, 0, 0, 0, 1, 0, 0, 0, 99], Err("unknown kind 99"));
        let data =
            |channel, bytes: Vec<u8>| Frame { channel, body: Body::Data { stream: Stream::Out, bytes } };
        check(&data(1, vec![0; 100]).encode(), Ok(1));
        check(&data(77, vec![0; 100]).encode(), Err("channel 77, which is not open"));
        check(&Frame { channel: 1, body: Body::Credit(u32::MAX) }.encode(), Err("credit too many"));
        check(&Frame { channel: 16, body: Body::Open(b"{}".to_vec()) }.encode(), Err("not allowed"));
        check(&Frame { channel: 1, body: Body::Close(b"{}".to_vec()) }.encode(), Err("not allowed"));
    }

    #[test]
    fn what_a_vmm_left_behind_is_read_though_it_takes_no_more() {
        let (guest, host) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        let last = Frame { channel: 1, body: Body::Data { stream: Stream::Out, bytes: vec![7; 100] } };
        rustix::io::write(&guest, &last.encode()).unwrap();
        drop(guest);
        let mut link = GuestLink::new(host);
        for _ in 0..2 {
            link.say(&HostMessage::Stats).unwrap();
            link.flush();
            assert!(!link.has_output());
        }
        assert_eq!(link.receive(&mut vec![0; 64 << 10]).unwrap().len(), 1);
        assert!(link.receive(&mut vec![0; 64 << 10]).unwrap().is_empty());
        assert!(link.fd().is_none());
    }

    #[test]
    fn a_guest_that_ignores_its_window_is_caught() {
        let (guest, host) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        let mut link = GuestLink::new(host);
        let mut buffer = vec![0; 64 << 10];
        let frame =
            Frame { channel: 1, body: Body::Data { stream: Stream::Out, bytes: vec![0; 32 << 10] } }.encode();
        let caught = (0..100).any(|_| {
            assert_eq!(rustix::io::write(&guest, &frame).unwrap(), frame.len());
            link.receive(&mut buffer).is_err()
        });
        assert!(caught);
    }
}
