//! Frames of an upgraded connection (`Upgrade: lith-stream/1`), which carries an `exec` session, and of the answer that
//! carries an archive out of a task.
//!
//! A frame is one byte of kind, four bytes of payload length (little endian), and the payload. The client sends
//! `Input`, `InputEnd`, `Resize`; the server sends `Output`, `Error`, and at last `Exit` or `Failure`. An archive comes as
//! `Output`, and is complete only when `Exit` with code 0 has come.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Failure;

/// Value of the `Upgrade` header.
pub const UPGRADE: &str = "lith-stream/1";
/// Content type of an answer that is made of frames.
pub const CONTENT_TYPE: &str = "application/x-lith-stream";
/// Largest payload: what both sides read at once, and all that a peer can make the other hold.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;
const HEADER_BYTES: usize = 5;

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Body of `POST /v1/tasks/{id}/exec`; the connection is upgraded in answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Added to the task's environment, as `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Instead of the task's user.
    #[serde(default)]
    pub user: Option<String>,
    /// Instead of the task's working directory.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// Give it a terminal of this size.
    #[serde(default)]
    pub terminal: Option<Size>,
    /// Value of `TERM` for the terminal.
    #[serde(default)]
    pub term: Option<String>,
}

/// How an `exec` session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExit {
    /// Exit code as a shell sees it: 128 + signal when ended by one.
    pub code: i32,
}

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Bytes for standard input.
    Input(Bytes),
    /// Standard input ends.
    InputEnd,
    /// The terminal has a new size.
    Resize(Size),
    /// Bytes from standard output.
    Output(Bytes),
    /// Bytes from standard error.
    Error(Bytes),
    /// The process ended.
    Exit(ExecExit),
    /// The session failed.
    Failure(Failure),
}

/// Why bytes are not frames.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length above the limit.
    #[error("a frame of {length} bytes is larger than the limit of {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// The announced length.
        length: usize,
    },
    /// A kind that does not exist.
    #[error("frame kind {kind} is unknown")]
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// A payload that is not what its kind says.
    #[error("the payload of a frame of kind {kind} cannot be read")]
    BadPayload {
        /// The kind.
        kind: u8,
    },
}

impl Frame {
    /// Appends the frame. Payloads of data above the limit are split over several frames.
    pub fn encode(&self, into: &mut BytesMut) {
        let json = |value: Result<Vec<u8>, serde_json::Error>| {
            Bytes::from(value.expect("types of this module always encode"))
        };
        let (kind, payload) = match self {
            Self::Input(bytes) => (0, bytes.clone()),
            Self::Output(bytes) => (1, bytes.clone()),
            Self::Error(bytes) => (2, bytes.clone()),
            Self::InputEnd => (3, Bytes::new()),
            Self::Resize(size) => (4, json(serde_json::to_vec(size))),
            Self::Exit(exit) => (5, json(serde_json::to_vec(exit))),
            Self::Failure(failure) => (6, json(serde_json::to_vec(failure))),
        };
        let mut rest = payload;
        loop {
            let part = rest.split_to(rest.len().min(PAYLOAD_BYTES_MAX));
            into.put_u8(kind);
            into.put_u32_le(u32::try_from(part.len()).expect("bounded by the limit"));
            into.put_slice(&part);
            if rest.is_empty() {
                break;
            }
        }
    }

    /// Takes the first whole frame off `from`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes are not frames; the connection is of no use then.
    pub fn decode(from: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        if from.len() < HEADER_BYTES {
            return Ok(None);
        }
        let kind = from[0];
        let length = u32::from_le_bytes([from[1], from[2], from[3], from[4]]) as usize;
        if length > PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLarge { length });
        }
        if from.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        from.advance(HEADER_BYTES);
        let payload = from.split_to(length).freeze();
        let bad = |_| FrameError::BadPayload { kind };
        Ok(Some(match kind {
            0 => Self::Input(payload),
            1 => Self::Output(payload),
            2 => Self::Error(payload),
            3 => Self::InputEnd,
            4 => Self::Resize(serde_json::from_slice(&payload).map_err(bad)?),
            5 => Self::Exit(serde_json::from_slice(&payload).map_err(bad)?),
            6 => Self::Failure(serde_json::from_slice(&payload).map_err(bad)?),
            kind => return Err(FrameError::UnknownKind { kind }),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use proptest::prelude::*;

    #[test]
    fn frames_round_trip() {
        let size = Size { rows: 24, columns: 80 };
        let frames = [
            Frame::Input(Bytes::from_static(b"in")),
            Frame::InputEnd,
            Frame::Resize(size),
            Frame::Output(Bytes::from_static(b"out")),
            Frame::Error(Bytes::new()),
            Frame::Exit(ExecExit { code: 137 }),
            Frame::Failure(Failure::new(Code::NotRunning, "no")),
        ];
        let mut bytes = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut bytes);
        }
        for frame in frames {
            assert_eq!(Frame::decode(&mut bytes), Ok(Some(frame)));
        }
        assert_eq!(Frame::decode(&mut bytes), Ok(None));
    }

    #[test]
    fn large_data_is_split() {
        let mut bytes = BytesMut::new();
        Frame::Output(Bytes::from(vec![7; PAYLOAD_BYTES_MAX + 1])).encode(&mut bytes);
        let Ok(Some(Frame::Output(first))) = Frame::decode(&mut bytes) else { panic!() };
        let Ok(Some(Frame::Output(second))) = Frame::decode(&mut bytes) else { panic!() };
        assert_eq!((first.len(), second.len()), (PAYLOAD_BYTES_MAX, 1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::decode(&mut bytes) {}
        }
    }
}
