//! PAX extended headers (POSIX.1-2001 `pax`) and the GNU sparse records in them.
//!
//! Must not read from the archive: it parses one header's bytes.

use super::error::{UnpackError, shown};
use crate::limits::{SPARSE_RUNS_MAX, XATTR_BYTES_MAX, XATTR_OVERHEAD_BYTES};

/// One extended attribute: full name with its prefix, and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Xattr {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// A run of data in a sparse file: offset in the file, length.
pub(crate) type Run = (u64, u64);

/// What extended headers say about the next entry.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mtime: Option<(i64, u32)>,
    /// In the order of the records: of two with one name the later counts.
    pub(crate) xattrs: Vec<Xattr>,
    xattr_bytes: usize,
    sparse: SparseRecords,
}

/// The `GNU.sparse.*` records, before it is known which of the three formats they are.
#[derive(Debug, Default)]
struct SparseRecords {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    map: Option<Vec<Run>>,
    pending_offset: Option<u64>,
}

/// How a sparse file's map is carried.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SparseForm {
    /// Not a sparse file.
    None,
    /// The map stood in the header (formats 0.0 and 0.1).
    Map { real_size: u64, runs: Vec<Run> },
    /// The map stands before the data (format 1.0).
    InBody { real_size: u64 },
}

fn damaged(what: impl Into<String>) -> UnpackError {
    UnpackError::Damaged { what: what.into() }
}

pub(crate) fn too_many_runs() -> UnpackError {
    UnpackError::TooMuch { what: "too many runs in a sparse file", limit: SPARSE_RUNS_MAX as u64 }
}

/// Parses a decimal number that fits.
pub(crate) fn decimal(text: &[u8], what: &str) -> Result<u64, UnpackError> {
    let parsed =
        std::str::from_utf8(text).ok().filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
    parsed
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| damaged(format!("{what} {:?} is not a number", shown(text))))
}

/// Parses a time in decimal seconds, with a fraction and a sign, into seconds rounded down and nanoseconds.
fn time(text: &[u8]) -> Result<(i64, u32), UnpackError> {
    let wrong = || damaged(format!("mtime {:?} is not a time", shown(text)));
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |&b| b == b'.');
    let whole = decimal(parts.next().unwrap_or_default(), "mtime")?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let mut nanos = 0u32;
    for place in 0..9 {
        nanos = nanos * 10 + fraction.get(place).map_or(0, |b| u32::from(b - b'0'));
    }
    let seconds = i64::try_from(whole).map_err(|_| wrong())?;
    match (negative, nanos) {
        (false, _) => Ok((seconds, nanos)),
        (true, 0) => Ok((-seconds, 0)),
        (true, _) => Ok((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

fn id(value: &[u8], what: &str) -> Result<u32, UnpackError> {
    u32::try_from(decimal(value, what)?)
        .map_err(|_| damaged(format!("{what} {:?} is out of range", shown(value))))
}

/// One record of an extended header, and what follows it.
struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
    rest: &'a [u8],
}

/// Splits `<length> <key>=<value>\n` off the front.
fn split_record(bytes: &[u8]) -> Result<Record<'_>, UnpackError> {
    let wrong = || damaged("an extended header's record has a wrong length");
    let space = bytes.iter().take(20).position(|&b| b == b' ').ok_or_else(wrong)?;
    let length = usize::try_from(decimal(&bytes[..space], "a record's length")?).map_err(|_| wrong())?;
    if length < space + 3 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return Err(wrong());
    }
    let record = &bytes[space + 1..length - 1];
    let equals = record.iter().position(|&b| b == b'=').ok_or_else(wrong)?;
    Ok(Record { key: &record[..equals], value: &record[equals + 1..], rest: &bytes[length..] })
}

impl Overrides {
    /// Adds the records of one extended header.
    pub(crate) fn parse(&mut self, mut bytes: &[u8]) -> Result<(), UnpackError> {
        while !bytes.is_empty() {
            // Some writers pad the body itself with NULs.
            if bytes.iter().all(|&b| b == 0) {
                break;
            }
            let Record { key, value, rest } = split_record(bytes)?;
            self.record(key, value)?;
            bytes = rest;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.xattr(name, value);
        }
        if let Some(sparse) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.record(sparse, value);
        }
        // An empty value means: as if this record were not there.
        let present = !value.is_empty();
        match key {
            b"path" => self.path = present.then(|| value.to_vec()),
            b"linkpath" => self.link = present.then(|| value.to_vec()),
            b"size" => self.size = present.then(|| decimal(value, "size")).transpose()?,
            b"uid" => self.uid = present.then(|| id(value, "uid")).transpose()?,
            b"gid" => self.gid = present.then(|| id(value, "gid")).transpose()?,
            b"mtime" => self.mtime = present.then(|| time(value)).transpose()?,
            _ => {}
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        // Each counts for more than its bytes: a thousand empty ones are none that a file system could hold.
        self.xattr_bytes += name.len() + value.len() + XATTR_OVERHEAD_BYTES;
        if self.xattr_bytes > XATTR_BYTES_MAX {
            return Err(UnpackError::TooMuch {
                what: "too many bytes of extended attributes on one entry",
                limit: XATTR_BYTES_MAX as u64,
            });
        }
        self.xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() });
        Ok(())
    }

    /// Takes what was said about a sparse file, and its real name if that was set aside.
    pub(crate) fn take_sparse(&mut self) -> Result<SparseForm, UnpackError> {
        let sparse = std::mem::take(&mut self.sparse);
        if let Some(name) = sparse.name {
            self.path = Some(name);
        }
        match (sparse.major, sparse.minor, sparse.real_size, sparse.map) {
            (Some(1), Some(0), Some(real_size), _) => Ok(SparseForm::InBody { real_size }),
            (None | Some(0), _, Some(real_size), Some(runs)) => Ok(SparseForm::Map { real_size, runs }),
            (None, None, None, None) => Ok(SparseForm::None),
            _ => Err(damaged("an unknown form of sparse file")),
        }
    }
}

impl SparseRecords {
    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), UnpackError> {
        match key {
            b"major" => self.major = Some(decimal(value, "sparse major")?),
            b"minor" => self.minor = Some(decimal(value, "sparse minor")?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.real_size = Some(decimal(value, "sparse size")?),
            b"numblocks" => {
                self.map.get_or_insert_default();
            }
            b"map" => {
                let numbers: Vec<u64> = value
                    .split(|&b| b == b',')
                    .filter(|part| !part.is_empty())
                    .map(|part| decimal(part, "sparse map"))
                    .collect::<Result<_, _>>()?;
                if !numbers.len().is_multiple_of(2) {
                    return Err(damaged("a sparse map has an odd count of numbers"));
                }
                self.map = Some(numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect());
            }
            b"offset" => self.pending_offset = Some(decimal(value, "sparse offset")?),
            b"numbytes" => {
                let offset =
                    self.pending_offset.take().ok_or_else(|| damaged("a sparse run has no offset"))?;
                let map = self.map.get_or_insert_default();
                // Headers may follow each other without end.
                if map.len() >= SPARSE_RUNS_MAX {
                    return Err(too_many_runs());
                }
                map.push((offset, decimal(value, "sparse length")?));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Checks that runs are in order, apart, within the file, and hold exactly the stored bytes.
pub(crate) fn check_runs(runs: &[Run], real_size: u64, stored: u64) -> Result<(), UnpackError> {
    if runs.len() > SPARSE_RUNS_MAX {
        return Err(too_many_runs());
    }
    let mut end = 0u64;
    let mut sum = 0u64;
    for &(offset, length) in runs {
        let next = offset.checked_add(length).filter(|&next| offset >= end && next <= real_size);
        end = next.ok_or_else(|| damaged("a sparse map is out of order or beyond the file's end"))?;
        sum += length;
    }
    if sum == stored { Ok(()) } else { Err(damaged("a sparse map does not match the bytes stored")) }
}

#[cfg(test)]
mod tests {
    use super::{Overrides, SparseForm, check_runs, time};

    fn record(key: &str, value: &str) -> Vec<u8> {
        let body = format!(" {key}={value}\n");
        let mut length = body.len() + 1;
        while length != length.to_string().len() + body.len() {
            length = length.to_string().len() + body.len();
        }
        format!("{length}{body}").into_bytes()
    }

    #[test]
    fn times_keep_sign_and_nanoseconds() {
        for (text, expect) in [
            ("5", (5, 0)),
            ("5.25", (5, 250_000_000)),
            ("-1.5", (-2, 500_000_000)),
            ("-3", (-3, 0)),
            ("7.1234567899", (7, 123_456_789)),
        ] {
            assert_eq!(time(text.as_bytes()).unwrap(), expect, "{text}");
        }
        for bad in ["", "x", "1.x", "--1", "99999999999999999999"] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn records_override_and_vanish() {
        let mut o = Overrides::default();
        let bytes = [
            record("path", "long\nname"),
            record("uid", "3000000000"),
            record("SCHILY.xattr.user.a", "1=2"),
            record("linkpath", ""),
        ]
        .concat();
        o.parse(&bytes).unwrap();
        assert_eq!(o.path.as_deref(), Some(&b"long\nname"[..]));
        assert_eq!(o.uid, Some(3_000_000_000));
        assert_eq!(
            (o.xattrs[0].name.as_slice(), o.xattrs[0].value.as_slice()),
            (&b"user.a"[..], &b"1=2"[..])
        );
        assert_eq!(o.link, None);
        for bad in [&b"5 a=b"[..], b"99 a=b\n", b"3 =\n", b"x a=b\n", b"99999999999999999999 a=b\n"] {
            assert!(Overrides::default().parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_three_sparse_forms() {
        let parse = |records: &[(&str, &str)]| {
            let mut o = Overrides::default();
            o.parse(&records.iter().flat_map(|(k, v)| record(k, v)).collect::<Vec<u8>>()).unwrap();
            o.take_sparse().unwrap()
        };
        assert_eq!(parse(&[]), SparseForm::None);
        let runs = vec![(0, 2), (8, 1)];
        let zero = [
            ("GNU.sparse.size", "10"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.numbytes", "2"),
            ("GNU.sparse.offset", "8"),
            ("GNU.sparse.numbytes", "1"),
        ];
        assert_eq!(parse(&zero), SparseForm::Map { real_size: 10, runs: runs.clone() });
        let one = [("GNU.sparse.size", "10"), ("GNU.sparse.map", "0,2,8,1")];
        assert_eq!(parse(&one), SparseForm::Map { real_size: 10, runs });
        let v1 = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "10")];
        assert_eq!(parse(&v1), SparseForm::InBody { real_size: 10 });
        assert!(check_runs(&[(0, 2), (1, 1)], 10, 3).is_err());
        assert!(check_runs(&[(u64::MAX, 2)], 10, 2).is_err());
        assert!(check_runs(&[(9, 2)], 10, 2).is_err());
        assert!(check_runs(&[(0, 2)], 10, 3).is_err());
    }
}
