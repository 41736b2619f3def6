//! Channels over the one byte stream: which frames may come when, and how many bytes may be in flight.
//!
//! A pure state machine used by both ends. It does no I/O and holds no data: what it hands out as an [`Event`] the
//! caller keeps until consumed, and because credit is only given by [`Mux::consumed`], that is at most
//! [`WINDOW_BYTES`] per channel and [`CHANNELS_MAX`] channels. A peer that breaks a rule gets an error, never a panic
//! nor a larger buffer.
//!
//! ```text
//!  host                                   guest
//!  open ──────────── Open ──────────────▶ serving
//!  live ◀─── Data, Eof, Control, Credit ─▶ serving
//!  live ────────────  Close ────────────▶ serving (event Cancelled; it must still end)
//!  gone ◀─────────── Close ────────────── gone
//! ```
//! Only the guest's `Close` ends a channel, so the host never meets a frame for a channel that it has forgotten; the
//! guest may meet late ones and ignores them.

use std::collections::BTreeMap;

use crate::messages::{self, BadMessage, Outcome, Request};
use crate::wire::{Body, DATA_BYTES_MAX, Frame, Role, Stream, WireError, to_json};

/// The channel of messages; it carries control frames only and has no end.
pub const MESSAGES: u32 = 0;

/// The channel of the main process's output; open from the start, never closed.
pub const MAIN: u32 = 1;

/// First channel of a request.
pub const REQUEST_FIRST: u32 = 16;

/// Bytes in flight per channel and direction: enough to keep a transfer going over an emulated machine's latency, and
/// the most a hostile guest can make its host hold per channel.
pub const WINDOW_BYTES: u32 = 256 * 1024;

/// Requests open at a time: with the window it bounds the memory of the host end.
pub const CHANNELS_MAX: usize = 32;

/// Credit is returned when so much was consumed: less often would stall, more often would chatter.
const CREDIT_STEP_BYTES: u32 = WINDOW_BYTES / 4;

/// What the other end said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message on channel 0, still JSON: `HostMessage` at the guest, `GuestMessage` at the host.
    Message(Vec<u8>),
    /// At the guest: serve this request, and end it with [`Mux::close`].
    Opened {
        /// Its channel.
        channel: u32,
        /// What is asked.
        request: Request,
    },
    /// Bytes. Call [`Mux::consumed`] when they have left this process's memory.
    Data {
        /// The channel.
        channel: u32,
        /// The stream.
        stream: Stream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The stream has ended.
    Eof {
        /// The channel.
        channel: u32,
        /// The stream.
        stream: Stream,
    },
    /// At the guest: control of a channel, JSON of `ExecControl`.
    Control {
        /// The channel.
        channel: u32,
        /// The JSON.
        json: Vec<u8>,
    },
    /// More may be sent on this channel: see [`Mux::sendable`].
    Writable {
        /// The channel.
        channel: u32,
    },
    /// At the guest: the host gave up; stop serving and call [`Mux::close`].
    Cancelled {
        /// The channel.
        channel: u32,
    },
    /// At the host: the channel is over.
    Closed {
        /// The channel.
        channel: u32,
        /// How it ended.
        outcome: Outcome,
    },
    /// Nothing to do: a late frame for a channel that this end has done with.
    Ignored,
}

/// A rule broken, by the peer or by the caller.
#[derive(Debug, thiserror::Error)]
pub enum MuxError {
    /// The peer sent more than it had credit for.
    #[error("channel {channel} overran its window by {over_bytes} bytes")]
    Overrun {
        /// The channel.
        channel: u32,
        /// Bytes beyond the window.
        over_bytes: u32,
    },
    /// The peer gave back more credit than it can have consumed.
    #[error("channel {channel} was given {bytes} bytes of credit too many")]
    CreditOverflow {
        /// The channel.
        channel: u32,
        /// The credit given.
        bytes: u32,
    },
    /// A frame for a channel that is not open.
    #[error("{kind} frame for channel {channel}, which is not open")]
    NotOpen {
        /// The channel.
        channel: u32,
        /// The kind of frame.
        kind: &'static str,
    },
    /// A frame that may not come on this channel, in this direction or at this time.
    #[error("{kind} frame is not allowed on channel {channel} now")]
    NotAllowed {
        /// The channel.
        channel: u32,
        /// The kind of frame.
        kind: &'static str,
    },
    /// As many channels are open as may be.
    #[error("{CHANNELS_MAX} requests are open already")]
    TooManyChannels,
    /// The caller asked to send more than [`Mux::sendable`].
    #[error("{bytes} bytes do not fit the window of channel {channel}")]
    WindowFull {
        /// The channel.
        channel: u32,
        /// Bytes to be sent.
        bytes: usize,
    },
    /// A payload that is no message.
    #[error("bad message on channel {channel}")]
    Message {
        /// The channel.
        channel: u32,
        /// Why not.
        #[source]
        source: BadMessage,
    },
    /// A message that cannot be sent.
    #[error("cannot send a message on channel {channel}")]
    Wire {
        /// The channel.
        channel: u32,
        /// Why not.
        #[source]
        source: WireError,
    },
}

#[derive(Debug)]
struct Channel {
    send_credit: u32,
    receive_credit: u32,
    /// Consumed, not yet given back.
    owed: u32,
    /// Handed out, not yet consumed.
    held: u32,
    received_eof: [bool; 3],
    sent_eof: [bool; 3],
    cancelled: bool,
}

impl Channel {
    fn new() -> Channel {
        Channel {
            send_credit: WINDOW_BYTES,
            receive_credit: WINDOW_BYTES,
            owed: 0,
            held: 0,
            received_eof: [false; 3],
            sent_eof: [false; 3],
            cancelled: false,
        }
    }
}

/// One end's view of all channels.
#[derive(Debug)]
pub struct Mux {
    role: Role,
    channels: BTreeMap<u32, Channel>,
    /// The channel the next request gets; all requests below were opened once.
    next: u32,
}

impl Mux {
    /// The state before the first frame.
    pub fn new(role: Role) -> Mux {
        Mux { role, channels: BTreeMap::from([(MAIN, Channel::new())]), next: REQUEST_FIRST }
    }

    /// At the host: opens a channel for `request`.
    ///
    /// # Errors
    /// [`MuxError::TooManyChannels`], [`MuxError::Wire`] for a request that is too long.
    ///
    /// # Panics
    /// When called at the guest's end, which opens nothing.
    pub fn open(&mut self, request: &Request) -> Result<(u32, Frame), MuxError> {
        assert_eq!(self.role, Role::Host, "only the host opens channels");
        let channel = self.next;
        if self.channels.len() > CHANNELS_MAX || channel == u32::MAX {
            return Err(MuxError::TooManyChannels);
        }
        let json = to_json(self.role, request).map_err(|source| MuxError::Wire { channel, source })?;
        self.next += 1;
        self.channels.insert(channel, Channel::new());
        Ok((channel, Frame { channel, body: Body::Open(json) }))
    }

    /// Whether the channel is open.
    pub fn is_open(&self, channel: u32) -> bool {
        self.channels.contains_key(&channel)
    }

    /// Whether the host gave the channel up and it has not ended yet.
    pub fn is_cancelled(&self, channel: u32) -> bool {
        self.channels.get(&channel).is_some_and(|state| state.cancelled)
    }

    /// Bytes that may be sent on `channel` now, at most what fits one frame; 0 for a channel that is not open.
    pub fn sendable(&self, channel: u32) -> usize {
        self.channels
            .get(&channel)
            .filter(|state| !state.cancelled)
            .map_or(0, |state| (state.send_credit as usize).min(DATA_BYTES_MAX))
    }

    /// A frame with `bytes`, which must be at least one and at most [`Mux::sendable`].
    ///
    /// # Errors
    /// [`MuxError::NotOpen`] when the channel ended meanwhile; [`MuxError::NotAllowed`] after the stream's end or in the
    /// wrong direction; [`MuxError::WindowFull`].
    pub fn data(&mut self, channel: u32, stream: Stream, bytes: Vec<u8>) -> Result<Frame, MuxError> {
        let sendable = self.sendable(channel);
        let outgoing = outgoing(self.role, stream);
        let state = self.channels.get_mut(&channel).ok_or(MuxError::NotOpen { channel, kind: "data" })?;
        let ended = state.cancelled || state.sent_eof[usize::from(stream.number())];
        if !outgoing || ended {
            return Err(MuxError::NotAllowed { channel, kind: "data" });
        }
        if bytes.is_empty() || bytes.len() > sendable {
            return Err(MuxError::WindowFull { channel, bytes: bytes.len() });
        }
        let length = u32::try_from(bytes.len()).expect("a window fits 32 bits");
        state.send_credit -= length;
        Ok(Frame { channel, body: Body::Data { stream, bytes } })
    }

    /// A frame that ends a stream.
    ///
    /// # Errors
    /// [`MuxError::NotOpen`], [`MuxError::NotAllowed`] as for [`Mux::data`].
    pub fn eof(&mut self, channel: u32, stream: Stream) -> Result<Frame, MuxError> {
        let outgoing = outgoing(self.role, stream);
        let state = self.channels.get_mut(&channel).ok_or(MuxError::NotOpen { channel, kind: "eof" })?;
        let sent = &mut state.sent_eof[usize::from(stream.number())];
        if !outgoing || state.cancelled || *sent {
            return Err(MuxError::NotAllowed { channel, kind: "eof" });
        }
        *sent = true;
        Ok(Frame { channel, body: Body::Eof(stream) })
    }

    /// Ends a channel. At the guest it is gone at once; at the host it is cancelled, what still arrives is dropped,
    /// and [`Event::Closed`] follows when the guest agrees.
    ///
    /// # Errors
    /// [`MuxError::NotOpen`] when it ended already, [`MuxError::NotAllowed`] when it was cancelled already or is the main
    /// process's.
    pub fn close(&mut self, channel: u32, outcome: &Outcome) -> Result<Frame, MuxError> {
        let state = self.channels.get_mut(&channel).ok_or(MuxError::NotOpen { channel, kind: "close" })?;
        let json = to_json(self.role, outcome).map_err(|source| MuxError::Wire { channel, source })?;
        if channel < REQUEST_FIRST || (self.role == Role::Host && state.cancelled) {
            return Err(MuxError::NotAllowed { channel, kind: "close" });
        }
        match self.role {
            Role::Host => state.cancelled = true,
            Role::Guest => drop(self.channels.remove(&channel)),
        }
        Ok(Frame { channel, body: Body::Close(json) })
    }

    /// Says that `bytes` of an [`Event::Data`] have left this end's memory. Gives a credit frame when it is time for one.
    ///
    /// # Panics
    /// When more is consumed than was handed out.
    pub fn consumed(&mut self, channel: u32, bytes: usize) -> Option<Frame> {
        let state = self.channels.get_mut(&channel).filter(|state| !state.cancelled)?;
        let bytes = u32::try_from(bytes).ok().filter(|bytes| *bytes <= state.held);
        let bytes = bytes.expect("no more is consumed than was handed out");
        state.held -= bytes;
        state.owed += bytes;
        if state.owed < CREDIT_STEP_BYTES {
            return None;
        }
        let credit = std::mem::take(&mut state.owed);
        state.receive_credit += credit;
        Some(Frame { channel, body: Body::Credit(credit) })
    }

    /// Takes a frame of the peer.
    ///
    /// # Errors
    /// The rule it breaks. The connection is of no use from then on.
    pub fn receive(&mut self, frame: Frame) -> Result<Event, MuxError> {
        let Frame { channel, body } = frame;
        if channel == MESSAGES {
            return match body {
                Body::Control(json) => Ok(Event::Message(json)),
                body @ (Body::Open(_)
                | Body::Data { .. }
                | Body::Eof(_)
                | Body::Close(_)
                | Body::Credit(_)) => Err(MuxError::NotAllowed { channel, kind: kind(&body) }),
            };
        }
        let kind = kind(&body);
        if let Body::Open(json) = body {
            return self.opened(channel, &json);
        }
        let Some(state) = self.channels.get_mut(&channel) else {
            // The guest ends channels, so only the guest can meet a frame that was under way.
            let was_open = (REQUEST_FIRST..self.next).contains(&channel);
            return match self.role {
                Role::Guest if was_open => Ok(Event::Ignored),
                Role::Guest | Role::Host => Err(MuxError::NotOpen { channel, kind }),
            };
        };
        match body {
            Body::Data { stream, bytes } => receive_data(self.role, channel, state, stream, bytes),
            Body::Eof(stream) => receive_eof(self.role, channel, state, stream),
            Body::Credit(bytes) => receive_credit(channel, state, bytes),
            Body::Control(json) if self.role == Role::Guest && channel >= REQUEST_FIRST => {
                Ok(if state.cancelled { Event::Ignored } else { Event::Control { channel, json } })
            }
            Body::Close(json) if channel >= REQUEST_FIRST => self.received_close(channel, &json),
            Body::Open(_) | Body::Control(_) | Body::Close(_) => Err(MuxError::NotAllowed { channel, kind }),
        }
    }

    fn opened(&mut self, channel: u32, json: &[u8]) -> Result<Event, MuxError> {
        // Numbers rise, so that a late frame can be told from a wrong one.
        if self.role == Role::Host || channel < self.next || channel == u32::MAX {
            return Err(MuxError::NotAllowed { channel, kind: "open" });
        }
        if self.channels.len() > CHANNELS_MAX {
            return Err(MuxError::TooManyChannels);
        }
        let request = messages::from_json(json).map_err(|source| MuxError::Message { channel, source })?;
        self.next = channel + 1;
        self.channels.insert(channel, Channel::new());
        Ok(Event::Opened { channel, request })
    }

    fn received_close(&mut self, channel: u32, json: &[u8]) -> Result<Event, MuxError> {
        let outcome = messages::from_json(json).map_err(|source| MuxError::Message { channel, source })?;
        match self.role {
            Role::Host => {
                self.channels.remove(&channel);
                Ok(Event::Closed { channel, outcome })
            }
            Role::Guest => {
                let state = self.channels.get_mut(&channel);
                let state = state.ok_or(MuxError::NotOpen { channel, kind: "close" })?;
                if std::mem::replace(&mut state.cancelled, true) {
                    return Err(MuxError::NotAllowed { channel, kind: "close" });
                }
                Ok(Event::Cancelled { channel })
            }
        }
    }
}

fn receive_data(
    role: Role,
    channel: u32,
    state: &mut Channel,
    stream: Stream,
    bytes: Vec<u8>,
) -> Result<Event, MuxError> {
    if outgoing(role, stream) || state.received_eof[usize::from(stream.number())] {
        return Err(MuxError::NotAllowed { channel, kind: "data" });
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let Some(credit) = state.receive_credit.checked_sub(length) else {
        return Err(MuxError::Overrun { channel, over_bytes: length - state.receive_credit });
    };
    state.receive_credit = credit;
    if state.cancelled {
        return Ok(Event::Ignored);
    }
    state.held += length;
    Ok(Event::Data { channel, stream, bytes })
}

fn receive_eof(role: Role, channel: u32, state: &mut Channel, stream: Stream) -> Result<Event, MuxError> {
    let received = &mut state.received_eof[usize::from(stream.number())];
    if outgoing(role, stream) || std::mem::replace(received, true) {
        return Err(MuxError::NotAllowed { channel, kind: "eof" });
    }
    Ok(if state.cancelled { Event::Ignored } else { Event::Eof { channel, stream } })
}

fn receive_credit(channel: u32, state: &mut Channel, bytes: u32) -> Result<Event, MuxError> {
    let credit = state.send_credit.checked_add(bytes).filter(|credit| *credit <= WINDOW_BYTES);
    state.send_credit = credit.ok_or(MuxError::CreditOverflow { channel, bytes })?;
    Ok(if state.cancelled { Event::Ignored } else { Event::Writable { channel } })
}

fn outgoing(role: Role, stream: Stream) -> bool {
    match (role, stream) {
        (Role::Host, Stream::In) | (Role::Guest, Stream::Out | Stream::Err) => true,
        (Role::Host, Stream::Out | Stream::Err) | (Role::Guest, Stream::In) => false,
    }
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::Open(_) => "open",
        Body::Data { .. } => "data",
        Body::Eof(_) => "eof",
        Body::Control(_) => "control",
        Body::Close(_) => "close",
        Body::Credit(_) => "credit",
    }
}
