//! A tar archive that came out of a task or a volume, taken apart entry by entry. The archive is hostile: what is held of
//! it is bounded, what lith never sends is refused, and an archive without its end is no archive.
//!
//! Owns the format. Must not touch files: what becomes of an entry is `unpack`'s.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use tar::{EntryType, Header};

/// Everything in an archive comes in blocks of this size.
const BLOCK_BYTES: usize = 512;
/// Longest name or link target: far more than a system takes, and all that an archive can make us hold.
const NAME_BYTES_MAX: u64 = 64 << 10;
/// Most that may stand before an entry beside its header: two names, and all attributes that ext4 can keep of a file,
/// whose values are 64 KiB at most each.
const RECORDS_BYTES_MAX: u64 = 4 << 20;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file; its content is read with [`Archive::content`].
    File,
    /// A folder.
    Folder,
    /// A symbolic link to this target.
    Symlink(PathBuf),
    /// Another name of the entry with this path.
    Link(PathBuf),
    /// A device or a pipe, which means nothing outside of its task.
    Special,
}

/// An entry without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As the archive has it, whatever that is.
    pub(crate) path: PathBuf,
    /// What it is.
    pub(crate) kind: Kind,
    /// Bytes of content.
    pub(crate) size: u64,
    /// Permissions, special bits included.
    pub(crate) mode: u32,
    /// Time of the last change, seconds since 1970.
    pub(crate) modified: u64,
}

/// An archive being read.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    source: R,
    /// Content of the current entry that was not read yet.
    content_left: u64,
    /// What fills the content's last block.
    padding: u64,
}

impl<R: Read> Archive<R> {
    /// An archive at its beginning.
    pub(crate) fn new(source: R) -> Self {
        Self { source, content_left: 0, padding: 0 }
    }

    /// The next entry; none at the archive's own end.
    pub(crate) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut records = Records::default();
        loop {
            let rest = self.content_left + self.padding;
            skip(&mut self.source, rest)?;
            (self.content_left, self.padding) = (0, 0);
            let block = self.block()?;
            if is_empty(&block) {
                self.end()?;
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            check_sum(header)?;
            let size = header.entry_size()?;
            let kind = match header.entry_type() {
                EntryType::GNULongName => {
                    records.path = Some(self.long_name(size)?);
                    continue;
                }
                EntryType::GNULongLink => {
                    records.link = Some(self.long_name(size)?);
                    continue;
                }
                EntryType::XHeader => {
                    records.read(&self.extension(size)?)?;
                    continue;
                }
                kind => kind,
            };
            return self.entry(header, kind, records).map(Some);
        }
    }

    fn entry(&mut self, header: &Header, kind: EntryType, records: Records) -> io::Result<Entry> {
        let link = records.link.or_else(|| header.link_name_bytes().map(|name| path(name.into_owned())));
        let kind = kind_of(kind, link)?;
        let size = records.size.map_or_else(|| header.entry_size(), Ok)?;
        let size = if kind == Kind::File { size } else { 0 };
        self.set_content(size);
        Ok(Entry {
            path: records.path.unwrap_or_else(|| path(header.path_bytes().into_owned())),
            kind,
            size,
            mode: header.mode()?,
            modified: records.modified.map_or_else(|| header.mtime(), Ok)?,
        })
    }

    /// Copies the content of the current entry.
    pub(crate) fn content(&mut self, into: &mut impl io::Write) -> io::Result<()> {
        let copied = io::copy(&mut self.source.by_ref().take(self.content_left), into)?;
        self.content_left -= copied;
        if self.content_left > 0 { Err(ended_early()) } else { Ok(()) }
    }

    fn set_content(&mut self, size: u64) {
        let over = size % BLOCK_BYTES as u64;
        self.content_left = size;
        self.padding = if over == 0 { 0 } else { BLOCK_BYTES as u64 - over };
    }

    fn block(&mut self) -> io::Result<[u8; BLOCK_BYTES]> {
        let mut block = [0; BLOCK_BYTES];
        self.source.read_exact(&mut block).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ended_early(),
            _ => error,
        })?;
        Ok(block)
    }

    fn long_name(&mut self, size: u64) -> io::Result<PathBuf> {
        if size > NAME_BYTES_MAX {
            return Err(io::Error::other(format!("the archive holds a name of {size} bytes")));
        }
        self.set_content(size);
        let mut name = Vec::new();
        self.content(&mut name)?;
        while name.last() == Some(&0) {
            name.pop();
        }
        Ok(path(name))
    }

    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > RECORDS_BYTES_MAX {
            return Err(io::Error::other(format!("the archive holds attributes of {size} bytes")));
        }
        self.set_content(size);
        let mut bytes = Vec::new();
        self.content(&mut bytes)?;
        Ok(bytes)
    }

    /// Two empty blocks, and nothing after them.
    fn end(&mut self) -> io::Result<()> {
        let second = self.block()?;
        if !is_empty(&second) || self.source.read(&mut [0])? > 0 {
            return Err(io::Error::other("the archive goes on after its end"));
        }
        Ok(())
    }
}

/// What stands before an entry because its header has no room for it.
#[derive(Debug, Default)]
struct Records {
    path: Option<PathBuf>,
    link: Option<PathBuf>,
    size: Option<u64>,
    modified: Option<u64>,
}

impl Records {
    /// Reads PAX records: `LENGTH NAME=VALUE` and a line end, the length being that of all this. Owners and attributes are
    /// not taken over, and what a name says that is not known here is no matter of files.
    fn read(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let bad = || io::Error::other("the archive is damaged");
        while !bytes.is_empty() {
            let blank = bytes.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
            let length =
                number(&bytes[..blank]).and_then(|length| usize::try_from(length).ok()).ok_or_else(bad)?;
            let record =
                bytes.get(blank + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(bad)?;
            bytes = &bytes[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
            let (name, value) = (&record[..equals], &record[equals + 1..]);
            let name_or_target = || match value.len() as u64 {
                1..=NAME_BYTES_MAX if !value.contains(&0) => Ok(path(value.to_vec())),
                _ => Err(bad()),
            };
            match name {
                b"path" => self.path = Some(name_or_target()?),
                b"linkpath" => self.link = Some(name_or_target()?),
                b"size" => self.size = Some(number(value).ok_or_else(bad)?),
                b"mtime" => self.modified = Some(seconds(value).ok_or_else(bad)?),
                // Such a file's content is not what it looks like.
                name if name.starts_with(b"GNU.sparse.") => {
                    return Err(io::Error::other("the archive holds a file with holes"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Whole seconds since 1970 of a decimal number; before that there is no time for a file here.
fn seconds(decimal: &[u8]) -> Option<u64> {
    let (is_before, digits) = match decimal.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, decimal),
    };
    let whole = number(digits.split(|byte| *byte == b'.').next()?)?;
    Some(if is_before { 0 } else { whole })
}

fn kind_of(kind: EntryType, link: Option<PathBuf>) -> io::Result<Kind> {
    let target = || link.ok_or_else(|| io::Error::other("the archive holds a link that leads nowhere"));
    Ok(match kind {
        EntryType::Regular => Kind::File,
        EntryType::Directory => Kind::Folder,
        EntryType::Symlink => Kind::Symlink(target()?),
        EntryType::Link => Kind::Link(target()?),
        EntryType::Char | EntryType::Block | EntryType::Fifo => Kind::Special,
        // Other extensions and sparse files: lith has no need of them, and their readers have had many faults.
        other => {
            let kind = char::from(other.as_byte()).escape_default();
            return Err(io::Error::other(format!("the archive holds an entry of kind `{kind}`")));
        }
    })
}

fn check_sum(header: &Header) -> io::Result<()> {
    // The sum's own field counts as eight spaces.
    let sum: u32 = header.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = header.as_bytes()[148..156].iter().map(|byte| u32::from(*byte)).sum();
    if sum - own + 8 * u32::from(b' ') != header.cksum()? {
        return Err(io::Error::other("the archive is damaged"));
    }
    Ok(())
}

fn skip(source: &mut impl Read, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut source.take(count), &mut io::sink())?;
    if skipped < count { Err(ended_early()) } else { Ok(()) }
}

fn is_empty(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

fn ended_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ended early")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<(Entry, String)>> {
        let mut archive = Archive::new(bytes);
        let mut entries = Vec::new();
        while let Some(entry) = archive.next_entry()? {
            let mut content = Vec::new();
            archive.content(&mut content)?;
            entries.push((entry, String::from_utf8_lossy(&content).into_owned()));
        }
        Ok(entries)
    }

    fn refused(bytes: &[u8], expect: &str) {
        assert_eq!(read(bytes).unwrap_err().to_string(), expect);
    }

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o640);
        header.set_mtime(7);
        header.set_cksum();
        header
    }

    /// What the guest sends: the same crate, the same calls.
    fn honest() -> Vec<u8> {
        let long = format!("x/{}", "n".repeat(300));
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header(EntryType::Directory, 0), "x", io::empty()).unwrap();
        builder.append_data(&mut header(EntryType::Regular, 5), &long, &b"hello"[..]).unwrap();
        builder.append_link(&mut header(EntryType::Symlink, 0), "x/link", &long).unwrap();
        builder.append_data(&mut header(EntryType::Fifo, 0), "x/pipe", io::empty()).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn what_the_guest_sends_is_read() {
        let long = PathBuf::from(format!("x/{}", "n".repeat(300)));
        let entry =
            |path: &str, kind, size| Entry { path: path.into(), kind, size, mode: 0o640, modified: 7 };
        let file = Entry { path: long.clone(), ..entry("", Kind::File, 5) };
        let expected = [
            (entry("x", Kind::Folder, 0), String::new()),
            (file, "hello".to_owned()),
            (entry("x/link", Kind::Symlink(long), 0), String::new()),
            (entry("x/pipe", Kind::Special, 0), String::new()),
        ];
        assert_eq!(read(&honest()).unwrap(), expected);
    }

    #[test]
    fn an_archive_without_its_end_is_refused() {
        let whole = honest();
        for length in [0, 100, 512, whole.len() - 1024, whole.len() - 512, whole.len() - 1] {
            refused(&whole[..length], "the archive ended early");
        }
        refused(&[whole.as_slice(), &[0]].concat(), "the archive goes on after its end");
    }

    #[test]
    fn names_without_limit_and_extensions_are_refused() {
        let with = |kind: u8, size: u64| header(EntryType::new(kind), size).as_bytes().to_vec();
        refused(&with(b'L', 1 << 40), "the archive holds a name of 1099511627776 bytes");
        refused(&with(b'K', NAME_BYTES_MAX + 1), "the archive holds a name of 65537 bytes");
        refused(&with(b'x', 1 << 40), "the archive holds attributes of 1099511627776 bytes");
        for kind in [b'g', b'S', b'V'] {
            let expect = format!("the archive holds an entry of kind `{}`", char::from(kind));
            refused(&with(kind, 1 << 40), &expect);
        }
        let mut damaged = with(b'0', 0);
        damaged[0] ^= 1;
        refused(&damaged, "the archive is damaged");
    }

    /// As the archives of volumes have what does not fit into a header.
    fn extended(records: &[u8], kind: EntryType, content: &[u8]) -> Vec<u8> {
        let pad = |bytes: &mut Vec<u8>| bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let mut bytes = header(EntryType::XHeader, records.len() as u64).as_bytes().to_vec();
        bytes.extend_from_slice(records);
        pad(&mut bytes);
        bytes.extend_from_slice(header(kind, content.len() as u64).as_bytes());
        bytes.extend_from_slice(content);
        pad(&mut bytes);
        bytes.resize(bytes.len() + 2 * BLOCK_BYTES, 0);
        bytes
    }

    fn record(name: &str, value: &str) -> Vec<u8> {
        let rest = name.len() + value.len() + 3;
        let length = (rest..).find(|length| rest + length.to_string().len() == *length).unwrap();
        format!("{length} {name}={value}\n").into_bytes()
    }

    #[test]
    fn what_headers_have_no_room_for_is_read() {
        let long = "n".repeat(300);
        let records = [
            record("path", &long),
            record("uid", "3000000"),
            record("SCHILY.xattr.user.note", "a=b\nc"),
            record("mtime", "8589934592.5"),
        ];
        let file = extended(&records.concat(), EntryType::Regular, b"hello");
        let entry = Entry {
            path: long.clone().into(),
            kind: Kind::File,
            size: 5,
            mode: 0o640,
            modified: 8_589_934_592,
        };
        assert_eq!(read(&file).unwrap(), [(entry.clone(), "hello".to_owned())]);
        let link =
            extended(&[record("linkpath", &long), record("mtime", "-1.5")].concat(), EntryType::Symlink, b"");
        let entry =
            Entry { path: "x".into(), kind: Kind::Symlink(long.into()), size: 0, modified: 0, ..entry };
        assert_eq!(read(&link).unwrap(), [(entry, String::new())]);
        // The size of a file beyond the header's digits is that of the record.
        refused(
            &extended(&record("size", "99999999999999"), EntryType::Regular, b"hello"),
            "the archive ended early",
        );
        let wrong =
            ["x", "5 a\n", "99 a=b\n", "-1 a=b\n", "0 \n", "12 path=a\0b\n", "8 path=\n", "9 size=x\n"];
        for wrong in wrong {
            refused(&extended(wrong.as_bytes(), EntryType::Regular, b""), "the archive is damaged");
        }
        let sparse = record("GNU.sparse.major", "1");
        refused(&extended(&sparse, EntryType::Regular, b""), "the archive holds a file with holes");
    }

    #[test]
    fn any_bytes_are_read_or_refused() {
        // Every byte of an honest archive's headers, changed: no panic, no endless reading.
        let extended =
            extended(&[record("path", "abc"), record("mtime", "1.5")].concat(), EntryType::Regular, b"x");
        for place in 0..extended.len() {
            let mut changed = extended.clone();
            changed[place] = changed[place].wrapping_add(0x41);
            drop(read(&changed));
        }
        let whole = honest();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] = changed[place].wrapping_add(0x41);
            drop(read(&changed));
        }
    }
}
