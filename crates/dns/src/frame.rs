//! Frames between the two halves: four bytes of length, then JSON. Owns their sizes; pure.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest frame to the child, and largest line of the agent: the policy of as many guests as there are slots, each with
/// a hundred names.
pub(crate) const POLICY_BYTES_MAX: usize = 64 << 20;
/// Largest frame of the child, which may be in the hands of a guest: what is refused in a moment, or one answer's addresses.
pub(crate) const CHILD_BYTES_MAX: usize = 256 << 10;
/// Length of what comes before each.
const LENGTH_BYTES: usize = 4;

/// A frame that is too long, or is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Longer than is allowed.
    #[error("a message of {0} bytes is too long")]
    TooLong(usize),
    /// Not what it should be.
    #[error("a message makes no sense")]
    Malformed,
}

/// Packs a value.
pub(crate) fn pack(value: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let json = serde_json::to_vec(value).map_err(|_| FrameError::Malformed)?;
    let length = u32::try_from(json.len()).map_err(|_| FrameError::TooLong(json.len()))?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(json);
    Ok(frame)
}

/// Takes the first whole frame out of what has come so far.
pub(crate) fn take<T: DeserializeOwned>(
    received: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<Option<T>, FrameError> {
    let Some(length) = received.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(FrameError::TooLong(length));
    }
    let Some(json) = received.get(LENGTH_BYTES..LENGTH_BYTES + length) else {
        return Ok(None);
    };
    let value = serde_json::from_slice(json).map_err(|_| FrameError::Malformed)?;
    received.drain(..LENGTH_BYTES + length);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_come_in_pieces(values in proptest::collection::vec(".{0,20}", 0..6), size in 1_usize..9) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| pack(value).unwrap()).collect();
            let (mut received, mut taken) = (Vec::new(), Vec::new());
            for piece in bytes.chunks(size) {
                received.extend(piece);
                while let Some(value) = take::<String>(&mut received, 100).unwrap() {
                    taken.push(value);
                }
            }
            prop_assert_eq!(taken, values);
            prop_assert!(received.is_empty());
        }

        #[test]
        fn nothing_is_too_strange(mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = take::<crate::form::ToParent>(&mut bytes, 64);
        }
    }

    #[test]
    fn long_ones_are_refused_at_once() {
        let mut bytes = 101_u32.to_be_bytes().to_vec();
        assert_eq!(take::<String>(&mut bytes, 100), Err(FrameError::TooLong(101)));
    }
}
