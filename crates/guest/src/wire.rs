//! Frames on the byte stream of a microVM: how they are laid out, decoded and encoded.
//!
//! Layout: `u32` little-endian payload length, `u32` little-endian channel, `u8` kind, payload. Owns the bounds on a
//! single frame. Must not know what a payload means (that is `messages`) nor which frames may follow which (`mux`).

use serde::Serialize;

/// Bytes before the payload of a frame.
pub const HEADER_BYTES: usize = 9;

/// Largest payload that a guest may send. Small, for the host decodes one frame per hostile guest in memory.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Largest payload that the host may send: a boot message must hold an environment as large as images really have, and
/// in base64 all the secrets and configs of a job, 4 MiB. The guest trusts its host, and takes the memory as the bytes
/// come.
pub const HOST_PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Most bytes of a stream in one data frame: a fair share, so that no channel holds up the others for long.
pub const DATA_BYTES_MAX: usize = 32 * 1024;

/// One end of the byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The supervisor on the host: opens channels, trusts nothing that it receives.
    Host,
    /// `lith-init` in the virtual machine: serves channels.
    Guest,
}

impl Role {
    /// Largest payload that this end accepts from the other, in bytes.
    pub fn accepts_bytes_max(self) -> usize {
        match self {
            Role::Host => PAYLOAD_BYTES_MAX,
            Role::Guest => HOST_PAYLOAD_BYTES_MAX,
        }
    }
}

/// A byte stream within a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Towards the guest: standard input of a process, or an archive to unpack.
    In,
    /// Towards the host: standard output, the terminal, or an archive.
    Out,
    /// Towards the host: standard error.
    Err,
}

impl Stream {
    /// The number that stands for this stream in a frame.
    pub fn number(self) -> u8 {
        match self {
            Stream::In => 0,
            Stream::Out => 1,
            Stream::Err => 2,
        }
    }

    fn from_number(number: u8) -> Result<Stream, WireError> {
        match number {
            0 => Ok(Stream::In),
            1 => Ok(Stream::Out),
            2 => Ok(Stream::Err),
            _ => Err(WireError::UnknownStream { number }),
        }
    }
}

/// What a frame carries. JSON payloads are still bytes here: see [`crate::messages`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Opens a channel (host to guest): JSON of a request.
    Open(Vec<u8>),
    /// Bytes of a stream, at least one and at most [`DATA_BYTES_MAX`].
    Data {
        /// Which stream of the channel.
        stream: Stream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// No more bytes on this stream.
    Eof(Stream),
    /// JSON of a message; on channel 0 the conversation of host and guest, elsewhere control of that channel.
    Control(Vec<u8>),
    /// Ends a channel: JSON of an outcome.
    Close(Vec<u8>),
    /// The sender has consumed so many bytes of this channel and will take as many more.
    Credit(u32),
}

const KIND_OPEN: u8 = 1;
const KIND_DATA: u8 = 2;
const KIND_EOF: u8 = 3;
const KIND_CONTROL: u8 = 4;
const KIND_CLOSE: u8 = 5;
const KIND_CREDIT: u8 = 6;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The channel it belongs to: 0 for messages, 1 for the main process, from 16 on for requests.
    pub channel: u32,
    /// What it carries.
    pub body: Body,
}

impl Frame {
    /// A control frame with `message` as JSON.
    ///
    /// # Errors
    /// [`WireError::TooLong`] when it exceeds what an end that speaks as `from` may send.
    pub fn control(from: Role, channel: u32, message: &impl Serialize) -> Result<Frame, WireError> {
        Ok(Frame { channel, body: Body::Control(to_json(from, message)?) })
    }

    /// Encodes the frame. A frame made by [`crate::mux`] or [`Frame::control`] is within bounds.
    ///
    /// # Panics
    /// When the payload does not fit the length field, which no constructor of this crate allows.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Appends the encoded frame to `out`.
    ///
    /// # Panics
    /// As [`Frame::encode`].
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let credit;
        let (kind, stream, payload): (u8, Option<Stream>, &[u8]) = match &self.body {
            Body::Open(json) => (KIND_OPEN, None, json),
            Body::Data { stream, bytes } => (KIND_DATA, Some(*stream), bytes),
            Body::Eof(stream) => (KIND_EOF, Some(*stream), &[]),
            Body::Control(json) => (KIND_CONTROL, None, json),
            Body::Close(json) => (KIND_CLOSE, None, json),
            Body::Credit(bytes) => {
                credit = bytes.to_le_bytes();
                (KIND_CREDIT, None, &credit)
            }
        };
        let length = payload.len() + usize::from(stream.is_some());
        assert!(length <= HOST_PAYLOAD_BYTES_MAX, "payload of {length} bytes exceeds every limit");
        let length = u32::try_from(length).expect("the limit fits 32 bits");
        out.reserve(HEADER_BYTES + length as usize);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.channel.to_le_bytes());
        out.push(kind);
        out.extend(stream.map(Stream::number));
        out.extend_from_slice(payload);
    }
}

/// JSON of `message`, refused when an end that speaks as `from` may not send so much.
///
/// # Errors
/// [`WireError::TooLong`].
pub fn to_json(from: Role, message: &impl Serialize) -> Result<Vec<u8>, WireError> {
    let json = serde_json::to_vec(message)
        .map_err(|source| WireError::Json { source: std::sync::Arc::new(source) })?;
    let limit = match from {
        Role::Host => HOST_PAYLOAD_BYTES_MAX,
        Role::Guest => PAYLOAD_BYTES_MAX,
    };
    if json.len() > limit {
        return Err(WireError::TooLong { length: json.len(), limit });
    }
    Ok(json)
}

/// A frame that breaks the layout, or a message that does not fit one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WireError {
    /// The payload is longer than the receiving end takes.
    #[error("frame of {length} bytes, more than the {limit} allowed")]
    TooLong {
        /// Announced or real length, bytes.
        length: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// No such kind of frame.
    #[error("frame of unknown kind {kind}")]
    UnknownKind {
        /// The kind's number.
        kind: u8,
    },
    /// No such stream.
    #[error("frame for unknown stream {number}")]
    UnknownStream {
        /// The stream's number.
        number: u8,
    },
    /// The payload's length does not suit the kind.
    #[error("frame of kind {kind} with a payload of {length} bytes")]
    BadLength {
        /// The kind's number.
        kind: u8,
        /// Payload length, bytes.
        length: usize,
    },
    /// A message could not be written as JSON.
    #[error("cannot encode a message")]
    Json {
        /// Why not.
        #[source]
        source: std::sync::Arc<serde_json::Error>,
    },
}

/// Cuts a byte stream into frames. Holds at most one frame; after an error it gives the same error for ever.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    payload: Vec<u8>,
    failed: Option<WireError>,
}

struct Header {
    length: usize,
    channel: u32,
    kind: u8,
}

impl Decoder {
    /// A decoder for what arrives at the end `role`.
    pub fn new(role: Role) -> Decoder {
        Decoder {
            limit: role.accepts_bytes_max(),
            header: [0; HEADER_BYTES],
            header_filled: 0,
            payload: Vec::new(),
            failed: None,
        }
    }

    /// Takes bytes off the front of `input` until a frame is complete or `input` is empty. Call it until it gives
    /// `None`, then read more.
    ///
    /// # Errors
    /// The first violation of the layout; the stream is unusable from then on.
    pub fn next_frame(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, WireError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.advance(input);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    /// Whether the stream stands between two frames, so that an end of file here is an orderly one.
    pub fn is_between_frames(&self) -> bool {
        self.header_filled == 0
    }

    fn advance(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, WireError> {
        if self.header_filled < HEADER_BYTES {
            let taken = take(input, HEADER_BYTES - self.header_filled);
            self.header[self.header_filled..self.header_filled + taken.len()].copy_from_slice(taken);
            self.header_filled += taken.len();
            if self.header_filled < HEADER_BYTES {
                return Ok(None);
            }
        }
        // Checked before a byte of payload is held: a bad announcement must not make this end wait or allocate.
        let header = self.parse_header()?;
        self.payload.extend_from_slice(take(input, header.length - self.payload.len()));
        if self.payload.len() < header.length {
            return Ok(None);
        }
        self.header_filled = 0;
        let payload = std::mem::take(&mut self.payload);
        Ok(Some(Frame { channel: header.channel, body: parse_body(header.kind, payload)? }))
    }

    fn parse_header(&self) -> Result<Header, WireError> {
        let [l0, l1, l2, l3, c0, c1, c2, c3, kind] = self.header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let channel = u32::from_le_bytes([c0, c1, c2, c3]);
        if length > self.limit {
            return Err(WireError::TooLong { length, limit: self.limit });
        }
        let suits = match kind {
            KIND_OPEN | KIND_CONTROL | KIND_CLOSE => true,
            KIND_DATA => (2..=DATA_BYTES_MAX + 1).contains(&length),
            KIND_EOF => length == 1,
            KIND_CREDIT => length == 4,
            _ => return Err(WireError::UnknownKind { kind }),
        };
        if !suits {
            return Err(WireError::BadLength { kind, length });
        }
        Ok(Header { length, channel, kind })
    }
}

fn take<'a>(input: &mut &'a [u8], count_max: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(count_max.min(input.len()));
    *input = rest;
    taken
}

fn parse_body(kind: u8, mut payload: Vec<u8>) -> Result<Body, WireError> {
    let length = payload.len();
    let bad_length = WireError::BadLength { kind, length };
    Ok(match kind {
        KIND_OPEN => Body::Open(payload),
        KIND_DATA => {
            let stream = Stream::from_number(*payload.first().ok_or(bad_length)?)?;
            payload.remove(0);
            Body::Data { stream, bytes: payload }
        }
        KIND_EOF => Body::Eof(Stream::from_number(*payload.first().ok_or(bad_length)?)?),
        KIND_CONTROL => Body::Control(payload),
        KIND_CLOSE => Body::Close(payload),
        KIND_CREDIT => Body::Credit(u32::from_le_bytes(payload.try_into().map_err(|_| bad_length)?)),
        _ => return Err(WireError::UnknownKind { kind }),
    })
}
