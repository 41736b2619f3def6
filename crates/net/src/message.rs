//! Messages of netlink: splitting what the kernel sends (netlink(7)).
//!
//! Pure. Must not know what the messages mean.

/// Length of a message's header.
pub(crate) const HEADER_BYTES: usize = 16;
/// Attributes: the upper two bits of a type are flags.
const TYPE_MASK: u16 = 0x3fff;

/// One message.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// What follows the header.
    pub(crate) body: &'a [u8],
}

/// Splits a datagram. What is cut short is left out.
pub(crate) fn messages(mut bytes: &[u8]) -> Vec<Message<'_>> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (native_u32(bytes, 0), native_u16(bytes, 4)) {
        let Some(body) = usize::try_from(length).ok().and_then(|length| bytes.get(HEADER_BYTES..length))
        else {
            break;
        };
        found.push(Message { kind, body });
        bytes = bytes.get((HEADER_BYTES + body.len()).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// One attribute.
#[derive(Debug)]
pub(crate) struct Attribute<'a> {
    /// Its type without flags.
    pub(crate) kind: u16,
    /// What follows its header.
    pub(crate) value: &'a [u8],
    /// With its header, without padding.
    pub(crate) whole: &'a [u8],
}

/// Splits attributes. What is cut short is left out.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(native_u16(bytes, 0)?), native_u16(bytes, 2)? & TYPE_MASK);
        let (whole, value) = (bytes.get(..length)?, bytes.get(4..length)?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value, whole })
    })
}

fn native_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// The number at a position, in this machine's byte order.
pub(crate) fn native_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// An attribute as the kernel writes it.
#[cfg(test)]
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
