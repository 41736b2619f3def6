//! A streaming tar reader: ustar, GNU and PAX, sparse files in all four forms.
//!
//! Must not judge paths nor know layers. Every field is hostile: bounded, checked, never a panic. Own code because the
//! general readers hold what is not needed here (paths as host paths, seeking) and miss what is (PAX sparse files).

use std::io::{self, BufRead};

use super::error::{UnpackError, shown};
use super::pax::{Overrides, Run, SparseForm, Xattr, check_runs, decimal, too_many_runs};
use crate::limits::{EXTENSION_BYTES_MAX, PATH_BYTES_MAX, SPARSE_DIGITS_MAX, SPARSE_RUNS_MAX};

const RECORD: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Folder,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// One entry's header, all extensions applied. Its body must be read or skipped before the next entry.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// Target of a symbolic or hard link.
    pub(crate) link: Vec<u8>,
    /// Permission bits, with setuid, setgid and sticky.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) mtime_nanos: u32,
    pub(crate) device: (u32, u32),
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    pub(crate) xattrs: Vec<Xattr>,
}

/// A piece of a file's body, in order.
pub(crate) enum Piece<'a> {
    Bytes(&'a [u8]),
    Zeros(u64),
}

/// Reads entries from an uncompressed tar stream.
pub(crate) struct TarReader<R> {
    input: R,
    /// Stored bytes of the current body not read yet.
    body: u64,
    /// Bytes of padding after the body.
    padding: u64,
    /// Data runs and real size when the current file is sparse.
    sparse: Option<(Vec<Run>, u64)>,
}

fn damaged(what: impl Into<String>) -> UnpackError {
    UnpackError::Damaged { what: what.into() }
}

fn truncated(within: &str) -> UnpackError {
    UnpackError::Truncated { within: within.to_owned() }
}

fn padding_of(size: u64) -> u64 {
    (RECORD as u64 - size % RECORD as u64) % RECORD as u64
}

/// Bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&b| b == 0).unwrap_or(field.len())]
}

/// A numeric field: octal digits with blanks around, or GNU's base 256 when the high bit is set.
fn number(field: &[u8], what: &str) -> Result<i64, UnpackError> {
    let out_of_range = || damaged(format!("{what} is out of range"));
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let first = if negative { field[0] } else { field[0] & 0x7f };
        let mut value: i128 = i128::from(if negative { i64::from(first as i8) } else { i64::from(first) });
        for &byte in &field[1..] {
            value = (value << 8) | i128::from(byte);
            if value > i128::from(i64::MAX) || value < i128::from(i64::MIN) {
                return Err(out_of_range());
            }
        }
        return i64::try_from(value).map_err(|_| out_of_range());
    }
    let is_blank = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !is_blank(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    let mut value = 0i64;
    for &digit in &digits[..end] {
        if !(b'0'..=b'7').contains(&digit) {
            return Err(damaged(format!("{what} {:?} is not a number", shown(digits))));
        }
        value = value
            .checked_mul(8)
            .and_then(|v| v.checked_add(i64::from(digit - b'0')))
            .ok_or_else(out_of_range)?;
    }
    Ok(value)
}

fn unsigned(field: &[u8], what: &str) -> Result<u64, UnpackError> {
    u64::try_from(number(field, what)?).map_err(|_| damaged(format!("{what} is negative")))
}

fn small(field: &[u8], what: &str) -> Result<u32, UnpackError> {
    u32::try_from(unsigned(field, what)?).map_err(|_| damaged(format!("{what} is out of range")))
}

/// The header's checksum: the sum of its bytes with the field itself as blanks; old writers summed signed bytes.
fn has_good_checksum(header: &[u8; RECORD]) -> bool {
    let Ok(stored) = number(&header[148..156], "checksum") else { return false };
    let blanked = header.iter().enumerate().map(|(i, &b)| if (148..156).contains(&i) { b' ' } else { b });
    let plain: i64 = blanked.clone().map(i64::from).sum();
    let signed: i64 = blanked.map(|b| i64::from(b as i8)).sum();
    stored == plain || stored == signed
}

impl<R: BufRead> TarReader<R> {
    pub(crate) fn new(input: R) -> Self {
        TarReader { input, body: 0, padding: 0, sparse: None }
    }

    /// The input, to ask it where it is.
    pub(crate) fn input(&self) -> &R {
        &self.input
    }

    /// The next entry, `None` at the end of the archive. Skips what was left of the body before.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, UnpackError> {
        let left = self.body + self.padding;
        self.skip(left, "an entry's body")?;
        (self.body, self.padding, self.sparse) = (0, 0, None);
        let mut overrides = Overrides::default();
        let mut is_first = true;
        loop {
            let Some(header) = self.header()? else {
                return if is_first { Ok(None) } else { Err(truncated("an extended header")) };
            };
            is_first = false;
            let size = unsigned(&header[124..136], "size")?;
            match header[156] {
                b'x' => {
                    let bytes = self.extension(size)?;
                    overrides.parse(&bytes)?;
                }
                // Global headers: read past, as every container engine does.
                b'g' => drop(self.extension(size)?),
                b'L' => overrides.path = Some(text(&self.extension(size)?).to_vec()),
                b'K' => overrides.link = Some(text(&self.extension(size)?).to_vec()),
                _ => return self.entry(&header, size, overrides).map(Some),
            }
        }
    }

    /// One header block; `None` at the end marker or a clean end of the stream.
    fn header(&mut self) -> Result<Option<[u8; RECORD]>, UnpackError> {
        let mut header = [0u8; RECORD];
        let got = self.fill(&mut header)?;
        if got == 0 || (got == RECORD && header == [0; RECORD]) {
            return Ok(None);
        }
        if got < RECORD {
            return Err(truncated("a header"));
        }
        if !has_good_checksum(&header) {
            return Err(damaged("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn entry(&mut self, header: &[u8; RECORD], size: u64, mut o: Overrides) -> Result<Entry, UnpackError> {
        let sparse = o.take_sparse()?;
        let is_ustar = &header[257..263] == b"ustar\0";
        let path = match o.path {
            Some(path) => path,
            None => {
                let prefix = if is_ustar { text(&header[345..500]) } else { b"" };
                let separator: &[u8] = if prefix.is_empty() { b"" } else { b"/" };
                [prefix, separator, text(&header[0..100])].concat()
            }
        };
        let link = o.link.unwrap_or_else(|| text(&header[157..257]).to_vec());
        if path.len() > PATH_BYTES_MAX || link.len() > PATH_BYTES_MAX {
            return Err(UnpackError::TooMuch { what: "a path is too long", limit: PATH_BYTES_MAX as u64 });
        }
        let kind = entry_kind(header[156], &path)?;
        let (mtime, mtime_nanos) = match o.mtime {
            Some(mtime) => mtime,
            None => (number(&header[136..148], "mtime")?, 0),
        };
        let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let device = if is_device {
            (small(&header[329..337], "device major")?, small(&header[337..345], "device minor")?)
        } else {
            (0, 0)
        };
        let stored = if kind == EntryKind::File { o.size.unwrap_or(size) } else { 0 };
        if stored > i64::MAX as u64 {
            return Err(damaged("size is out of range"));
        }
        (self.body, self.padding) = (stored, padding_of(stored));
        let size = self.begin_sparse(header, sparse, stored)?;
        Ok(Entry {
            path,
            kind,
            link,
            mode: (unsigned(&header[100..108], "mode")? & 0o7777) as u16,
            uid: o.uid.map_or_else(|| small(&header[108..116], "uid"), Ok)?,
            gid: o.gid.map_or_else(|| small(&header[116..124], "gid"), Ok)?,
            mtime,
            mtime_nanos,
            device,
            size,
            xattrs: o.xattrs,
        })
    }

    /// Reads the map of a sparse file, in whichever form; gives the file's real size.
    fn begin_sparse(
        &mut self,
        header: &[u8; RECORD],
        form: SparseForm,
        stored: u64,
    ) -> Result<u64, UnpackError> {
        let (runs, real_size) = match form {
            SparseForm::Map { real_size, runs } => (runs, real_size),
            SparseForm::InBody { real_size } => (self.map_in_body()?, real_size),
            SparseForm::None if header[156] == b'S' => {
                (self.map_of_old_gnu(header)?, unsigned(&header[483..495], "sparse size")?)
            }
            SparseForm::None => return Ok(stored),
        };
        check_runs(&runs, real_size, self.body)?;
        self.sparse = Some((runs, real_size));
        Ok(real_size)
    }

    /// Old GNU form: four runs in the header, then blocks of 21.
    fn map_of_old_gnu(&mut self, header: &[u8; RECORD]) -> Result<Vec<Run>, UnpackError> {
        let mut runs = Vec::new();
        let add = |field: &[u8], runs: &mut Vec<Run>| -> Result<(), UnpackError> {
            if field[0] != 0 {
                runs.push((
                    unsigned(&field[..12], "sparse offset")?,
                    unsigned(&field[12..24], "sparse length")?,
                ));
            }
            Ok(())
        };
        for field in header[386..482].chunks(24) {
            add(field, &mut runs)?;
        }
        let mut is_extended = header[482] != 0;
        while is_extended {
            let mut block = [0u8; RECORD];
            if self.fill(&mut block)? < RECORD || runs.len() > SPARSE_RUNS_MAX {
                return Err(truncated("a sparse map"));
            }
            for field in block[..504].chunks(24) {
                add(field, &mut runs)?;
            }
            is_extended = block[504] != 0;
        }
        Ok(runs)
    }

    /// PAX form 1.0: the count and pairs as decimal lines at the start of the body, padded to a record.
    fn map_in_body(&mut self) -> Result<Vec<Run>, UnpackError> {
        let mut text = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        let mut wanted = None;
        while wanted.is_none_or(|w| numbers.len() < w) {
            let mut block = [0u8; RECORD];
            if self.body < RECORD as u64 || self.fill(&mut block)? < RECORD {
                return Err(truncated("a sparse map"));
            }
            self.body -= RECORD as u64;
            text.extend_from_slice(&block);
            let mut used = 0;
            while wanted.is_none_or(|w| numbers.len() < w) {
                let Some(end) = text[used..].iter().position(|&b| b == b'\n') else { break };
                let value = decimal(&text[used..used + end], "sparse map")?;
                used += end + 1;
                if wanted.is_some() {
                    numbers.push(value);
                } else if value > SPARSE_RUNS_MAX as u64 {
                    return Err(too_many_runs());
                } else {
                    wanted = Some(value as usize * 2);
                }
            }
            text.drain(..used);
            // Without this a map without line ends would be gathered, and searched again, for ever.
            if wanted.is_none_or(|w| numbers.len() < w) && text.len() > SPARSE_DIGITS_MAX {
                return Err(damaged("a sparse map has a line that is no number"));
            }
        }
        Ok(numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect())
    }

    /// Reads the current file's body in order, holes as zeros.
    pub(crate) fn body(
        &mut self,
        sink: &mut dyn FnMut(Piece<'_>) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        let Some((runs, real_size)) = self.sparse.take() else {
            return self.stored(self.body, sink);
        };
        let mut position = 0;
        for (offset, length) in runs {
            if offset > position {
                sink(Piece::Zeros(offset - position))?;
            }
            self.stored(length, sink)?;
            position = offset + length;
        }
        if real_size > position { sink(Piece::Zeros(real_size - position)) } else { Ok(()) }
    }

    fn stored(
        &mut self,
        mut count: u64,
        sink: &mut dyn FnMut(Piece<'_>) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        while count > 0 {
            let chunk = self.input.fill_buf().map_err(UnpackError::Read)?;
            if chunk.is_empty() {
                return Err(truncated("an entry's body"));
            }
            let n = chunk.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            sink(Piece::Bytes(&chunk[..n]))?;
            self.input.consume(n);
            count -= n as u64;
            self.body -= n as u64;
        }
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > EXTENSION_BYTES_MAX {
            return Err(UnpackError::TooMuch {
                what: "an extended header is too long",
                limit: EXTENSION_BYTES_MAX,
            });
        }
        let mut bytes = vec![0u8; size as usize];
        if self.fill(&mut bytes)? < bytes.len() {
            return Err(truncated("an extended header"));
        }
        self.skip(padding_of(size), "an extended header")?;
        Ok(bytes)
    }

    /// Reads until `buf` is full or the stream ends; gives the count read.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize, UnpackError> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.input.read(&mut buf[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(UnpackError::Read(e)),
            }
        }
        Ok(filled)
    }

    fn skip(&mut self, mut count: u64, within: &str) -> Result<(), UnpackError> {
        while count > 0 {
            let chunk = self.input.fill_buf().map_err(UnpackError::Read)?;
            if chunk.is_empty() {
                return Err(truncated(within));
            }
            let n = chunk.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            self.input.consume(n);
            count -= n as u64;
        }
        Ok(())
    }
}

fn entry_kind(flag: u8, path: &[u8]) -> Result<EntryKind, UnpackError> {
    match flag {
        // Before POSIX a folder was a file with a slash at its end.
        b'0' | 0 if path.ends_with(b"/") => Ok(EntryKind::Folder),
        b'0' | 0 | b'7' | b'S' => Ok(EntryKind::File),
        b'1' => Ok(EntryKind::HardLink),
        b'2' => Ok(EntryKind::Symlink),
        b'3' => Ok(EntryKind::CharDevice),
        b'4' => Ok(EntryKind::BlockDevice),
        b'5' => Ok(EntryKind::Folder),
        b'6' => Ok(EntryKind::Fifo),
        other => Err(UnpackError::BadEntry {
            path: shown(path),
            why: format!("unknown entry type {:?}", char::from(other)),
        }),
    }
}
