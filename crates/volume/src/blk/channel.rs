//! The way back: telling the front end that the configuration has changed. Owns the socket for it.
//!
//! The crate `vhost` 0.18 receives that socket, but can send neither this message nor give the socket away. So the message
//! that brings it is looked at before the crate takes it (`MSG_PEEK`): Linux hands out the descriptors of a message that is
//! only looked at too, each a new one.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recv, recvmsg, send};
use vhost::vhost_user::message::{BackendReq, FrontendReq};

use crate::lock;

/// Bytes of a message's header: request, flags, bytes of the payload.
const HEADER_BYTES: usize = 12;

/// The flags of a message of version 1 that wants no reply.
const FLAGS: u32 = 1;

/// Descriptors that may come with one message, the protocol's limit for a table of memory.
const DESCRIPTORS_MAX: usize = 32;

/// The way back, once the front end has opened it.
#[derive(Default)]
pub(super) struct Channel {
    socket: Mutex<Option<OwnedFd>>,
}

/// What comes next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Message,
    End,
}

impl Channel {
    /// Waits for the next message, leaves it where it is, and keeps the way back if it is in it.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn look(&self, stream: &UnixStream) -> io::Result<Next> {
        let mut header = [0; HEADER_BYTES];
        let (_, count) = match recv(stream, &mut header, RecvFlags::PEEK) {
            Ok(received) => received,
            Err(rustix::io::Errno::INTR) => return self.look(stream),
            Err(rustix::io::Errno::CONNRESET) => return Ok(Next::End),
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            return Ok(Next::End);
        }
        let request = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        if count == HEADER_BYTES && request == FrontendReq::SET_BACKEND_REQ_FD as u32 {
            self.keep(stream)?;
        }
        Ok(Next::Message)
    }

    fn keep(&self, stream: &UnixStream) -> io::Result<()> {
        let mut header = [0; HEADER_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC;
        recvmsg(stream, &mut [IoSliceMut::new(&mut header)], &mut control, flags)?;
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let socket = descriptors.flatten().next();
        *lock(&self.socket) = socket;
        Ok(())
    }

    /// Tells that the configuration has changed; a front end that has opened no way back learns it when it asks.
    ///
    /// # Errors
    /// The front end does not read.
    pub(super) fn announce_config(&self) -> io::Result<()> {
        let socket = lock(&self.socket);
        let Some(socket) = &*socket else { return Ok(()) };
        let header = [BackendReq::CONFIG_CHANGE_MSG as u32, FLAGS, 0];
        let header: Vec<u8> = header.iter().flat_map(|field| field.to_ne_bytes()).collect();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = send(socket, &header, flags)?;
        if sent < HEADER_BYTES { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }
}
