//! Writes entries as a tar stream: ustar with PAX records for what does not fit. Must not read the volume.
//!
//! The `tar` crate makes the headers. Its builder is not used: it ends an archive when it is dropped, so that one that
//! broke off would look whole.

use std::io::{self, Write};

use tar::{EntryType, Header};

use super::attributes::Attribute;
use super::entry::{Device, Entry, Kind, Time};

const RECORD: u64 = 512;
/// Room for a name, and for a target, in the header.
const NAME_BYTES: usize = 100;
/// Largest numbers in seven and in eleven octal digits.
const ID_MAX: u32 = 0o7_777_777;
const SIZE_MAX: u64 = 0o77_777_777_777;

/// What an entry is stored as.
pub(super) enum Stored<'a> {
    /// Itself; content follows if it is a file.
    Whole,
    /// Another name of the entry with this path.
    Link(&'a [u8]),
}

/// Writes what precedes an entry's content. `path` is its name in the archive.
pub(super) fn header(
    writer: &mut dyn Write,
    path: &[u8],
    entry: &Entry,
    stored: &Stored<'_>,
    attributes: &[Attribute],
) -> io::Result<()> {
    let (kind, size) = match (stored, entry.kind) {
        (Stored::Link(_), _) => (EntryType::Link, 0),
        (Stored::Whole, Kind::File) => (EntryType::Regular, entry.size),
        (Stored::Whole, Kind::Folder) => (EntryType::Directory, 0),
        (Stored::Whole, Kind::Symlink) => (EntryType::Symlink, 0),
        (Stored::Whole, Kind::Fifo) => (EntryType::Fifo, 0),
        (Stored::Whole, Kind::CharDevice(_)) => (EntryType::Char, 0),
        (Stored::Whole, Kind::BlockDevice(_)) => (EntryType::Block, 0),
        (Stored::Whole, Kind::Socket) => return Err(io::Error::other("an archive cannot hold a socket")),
    };
    let target = match stored {
        Stored::Link(first) => first,
        Stored::Whole => entry.target.as_deref().unwrap_or_default(),
    };
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(u32::from(entry.mode));
    header.set_uid(entry.uid.min(ID_MAX).into());
    header.set_gid(entry.gid.min(ID_MAX).into());
    header.set_size(size.min(SIZE_MAX));
    header.set_mtime(u64::try_from(entry.modified.seconds).unwrap_or(0).min(SIZE_MAX));
    let device = match entry.kind {
        Kind::CharDevice(device) | Kind::BlockDevice(device) => device,
        Kind::File | Kind::Folder | Kind::Symlink | Kind::Fifo | Kind::Socket => {
            Device { major: 0, minor: 0 }
        }
    };
    header.set_device_major(device.major)?;
    header.set_device_minor(device.minor)?;
    let fields = header.as_old_mut();
    put(&mut fields.name, path);
    put(&mut fields.linkname, target);
    let mut records = records(path, target, entry, size);
    for Attribute { name, value } in attributes {
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    if !records.is_empty() {
        extension(writer, &records)?;
    }
    header.set_cksum();
    writer.write_all(header.as_bytes())
}

/// Writes what follows content of this size.
pub(super) fn padding(writer: &mut dyn Write, size: u64) -> io::Result<()> {
    let count = (RECORD - size % RECORD) % RECORD;
    writer.write_all(&[0; RECORD as usize][..count as usize])
}

/// Ends the archive.
pub(super) fn end(writer: &mut dyn Write) -> io::Result<()> {
    writer.write_all(&[0; 2 * RECORD as usize])?;
    writer.flush()
}

fn put(field: &mut [u8; NAME_BYTES], bytes: &[u8]) {
    let count = bytes.len().min(NAME_BYTES);
    field[..count].copy_from_slice(&bytes[..count]);
}

/// What the header has no room for.
fn records(path: &[u8], target: &[u8], entry: &Entry, size: u64) -> Vec<u8> {
    let mut records = Vec::new();
    if path.len() > NAME_BYTES {
        record(&mut records, b"path", path);
    }
    if target.len() > NAME_BYTES {
        record(&mut records, b"linkpath", target);
    }
    for (name, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if id > ID_MAX {
            record(&mut records, name.as_bytes(), id.to_string().as_bytes());
        }
    }
    if size > SIZE_MAX {
        record(&mut records, b"size", size.to_string().as_bytes());
    }
    let Time { seconds, nanoseconds } = entry.modified;
    if nanoseconds != 0 || u64::try_from(seconds).is_ok_and(|seconds| seconds > SIZE_MAX) || seconds < 0 {
        record(&mut records, b"mtime", decimal(entry.modified).as_bytes());
    }
    records
}

/// The nanoseconds count forward from the second, the digits away from zero.
fn decimal(time: Time) -> String {
    let all = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let sign = if all < 0 { "-" } else { "" };
    let (seconds, rest) = (all.unsigned_abs() / 1_000_000_000, all.unsigned_abs() % 1_000_000_000);
    format!("{sign}{seconds}.{rest:09}")
}

/// A record is `length name=value` and a line end; the length counts its own digits.
fn record(records: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let rest = name.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() > length {
        length += 1;
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", name, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

fn extension(writer: &mut dyn Write, records: &[u8]) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    put(&mut header.as_old_mut().name, b"PaxHeader");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(records.len() as u64);
    header.set_cksum();
    writer.write_all(header.as_bytes())?;
    writer.write_all(records)?;
    padding(writer, records.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        let check = |value_bytes: usize, length: usize| {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; value_bytes]);
            assert_eq!(records.len(), length, "{value_bytes}");
            assert!(records.starts_with(format!("{length} path=").as_bytes()), "{value_bytes}");
        };
        check(1, 9);
        check(2, 11);
        check(90, 99);
        check(91, 101);
        check(100, 110);
    }

    #[test]
    fn times_before_1970() {
        let check = |seconds, nanoseconds, text| assert_eq!(decimal(Time { seconds, nanoseconds }), text);
        check(-2, 500_000_000, "-1.500000000");
        check(-1, 999_999_999, "-0.000000001");
        check(3, 7, "3.000000007");
    }
}
