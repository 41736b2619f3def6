//! Reads a task's log back: from a time on, the last entries, and on while it grows, across rotations. Owns no file:
//! it opens what is there, holds it open so that a rotation loses nothing, and never writes.

use super::{ENTRY_BYTES_MAX, Entry, LogError, parse_entry, path_of};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Older files than this are not looked for: no configuration keeps more.
const GENERATIONS_MAX: u32 = 100;

/// Which entries are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query {
    /// Only entries at or after this time.
    pub since: Option<Timestamp>,
    /// Only the last so many of them.
    pub tail: Option<usize>,
}

/// A log being read. [`Reader::next_entry`] gives what is there; a caller that follows asks again later.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    since: Option<Timestamp>,
    /// Files still to read, the oldest first; the last may still grow.
    files: VecDeque<LogFile>,
    /// Entries to leave out before the first that is given.
    skip: usize,
}

#[derive(Debug)]
struct LogFile {
    reader: BufReader<File>,
    inode: u64,
    /// The entry whose line end has not been read yet.
    line: Vec<u8>,
}

impl Reader {
    /// Opens the log in `folder`. A log that does not exist yet is an empty one.
    ///
    /// # Errors
    /// A file exists but cannot be read.
    pub fn open(folder: &Path, query: Query) -> Result<Reader, LogError> {
        let mut reader =
            Reader { folder: folder.to_owned(), since: query.since, files: VecDeque::new(), skip: 0 };
        reader.files = open_newer_than(folder, None)?;
        if let Some(tail) = query.tail {
            let mut count: usize = 0;
            while reader.next_entry()?.is_some() {
                count += 1;
            }
            // Read again from the start; what was appended meanwhile is given too. The files are opened anew, since
            // those already read were closed.
            reader.files = open_newer_than(folder, None)?;
            reader.skip = count.saturating_sub(tail);
        }
        Ok(reader)
    }

    /// The next entry, or none when there is none now.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LogError> {
        loop {
            let Some(file) = self.files.front_mut() else {
                self.files = open_newer_than(&self.folder, None)?;
                if self.files.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            let line = file.next_line().map_err(LogError::new("read", &self.folder))?;
            let Some(line) = line else {
                if !self.advance()? {
                    return Ok(None);
                }
                continue;
            };
            let Some(entry) = parse_entry(&line) else { continue };
            if self.since.is_some_and(|since| entry.time < since) {
                continue;
            }
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            return Ok(Some(entry));
        }
    }

    /// Leaves a file that is read to its end and was rotated away. False when it is the current one.
    fn advance(&mut self) -> Result<bool, LogError> {
        if self.files.len() == 1 {
            let inode = self.files[0].inode;
            let current = path_of(&self.folder, 0);
            if std::fs::metadata(&current).is_ok_and(|metadata| metadata.ino() == inode) {
                return Ok(false);
            }
            let newer = open_newer_than(&self.folder, Some(inode))?;
            if newer.is_empty() {
                // Between two renames of a rotation.
                return Ok(false);
            }
            // It may have grown between the last read and the rotation.
            let file = &mut self.files[0];
            let position = file.reader.stream_position().map_err(LogError::new("read", &self.folder))?;
            let length = file.reader.get_ref().metadata().map_err(LogError::new("read", &self.folder))?.len();
            self.files.extend(newer);
            if position < length {
                return Ok(true);
            }
        }
        self.files.pop_front();
        Ok(true)
    }
}

impl LogFile {
    fn open(path: &Path) -> Result<Option<LogFile>, LogError> {
        match File::open(path) {
            Ok(file) => {
                let inode = file.metadata().map_err(LogError::new("read", path))?.ino();
                Ok(Some(LogFile { reader: BufReader::new(file), inode, line: Vec::new() }))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LogError::new("open", path)(error)),
        }
    }

    /// A whole line, or none while its end is not there. Lines longer than any entry are damage and come cut.
    fn next_line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let room = (ENTRY_BYTES_MAX + 1).saturating_sub(self.line.len()) as u64;
        self.reader.by_ref().take(room).read_until(b'\n', &mut self.line)?;
        if self.line.last() == Some(&b'\n') {
            self.line.pop();
            return Ok(Some(std::mem::take(&mut self.line)));
        }
        if self.line.len() > ENTRY_BYTES_MAX {
            return Ok(Some(std::mem::take(&mut self.line)));
        }
        // A buffered reader at the end of a growing file must ask the file again next time.
        let position = self.reader.stream_position()?;
        self.reader.seek(SeekFrom::Start(position))?;
        Ok(None)
    }
}

/// The log's files, the oldest first, that are newer than the one with this inode; all when it is gone or none.
fn open_newer_than(folder: &Path, inode: Option<u64>) -> Result<VecDeque<LogFile>, LogError> {
    let mut files = VecDeque::new();
    for generation in 0..GENERATIONS_MAX {
        let Some(file) = LogFile::open(&path_of(folder, generation))? else {
            // A rotation leaves the current name free for a moment.
            if generation == 0 { continue } else { break }
        };
        // A rotation while this looks can show a file under two names.
        if files.iter().any(|other: &LogFile| other.inode == file.inode) {
            continue;
        }
        if Some(file.inode) == inode {
            break;
        }
        files.push_front(file);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::{LogStream, Rotation, Writer};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn small() -> Rotation {
        Rotation { file_bytes_max: 400, files_max: 3 }
    }

    fn texts(reader: &mut Reader) -> Vec<String> {
        std::iter::from_fn(|| reader.next_entry().unwrap())
            .map(|entry| String::from_utf8(entry.text).unwrap())
            .collect()
    }

    fn check(query: Query, expect: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(folder.path(), Rotation::default()).unwrap();
        for second in 0..5 {
            writer.write(LogStream::Stdout, format!("line {second}\n").as_bytes(), at(second));
        }
        assert_eq!(texts(&mut Reader::open(folder.path(), query).unwrap()), expect);
    }

    #[test]
    fn since_and_tail() {
        check(Query::default(), &["line 0", "line 1", "line 2", "line 3", "line 4"]);
        check(Query { since: Some(at(3)), tail: None }, &["line 3", "line 4"]);
        check(Query { since: None, tail: Some(1) }, &["line 4"]);
        check(Query { since: Some(at(1)), tail: Some(2) }, &["line 3", "line 4"]);
        check(Query { since: None, tail: Some(0) }, &[]);
        check(Query { since: None, tail: Some(99) }, &["line 0", "line 1", "line 2", "line 3", "line 4"]);
    }

    #[test]
    fn following_loses_nothing_across_rotations() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = Reader::open(folder.path(), Query::default()).unwrap();
        assert_eq!(texts(&mut reader), Vec::<String>::new());
        let mut writer = Writer::open(folder.path(), small()).unwrap();
        let mut read = Vec::new();
        for number in 0..200 {
            writer.write(LogStream::Stdout, format!("{number}\n").as_bytes(), at(number));
            if number % 7 == 0 {
                read.extend(texts(&mut reader));
            }
        }
        read.extend(texts(&mut reader));
        assert_eq!(read, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn a_line_being_written_is_given_once_complete() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log"), "1970-01-01T00:00:00Z std").unwrap();
        let mut reader = Reader::open(folder.path(), Query::default()).unwrap();
        assert_eq!(reader.next_entry().unwrap(), None);
        std::fs::write(folder.path().join("log"), "1970-01-01T00:00:00Z stdout F whole\n").unwrap();
        assert_eq!(texts(&mut reader), ["whole"]);
    }

    #[test]
    fn damage_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let mut content = vec![b'x'; 3 * ENTRY_BYTES_MAX];
        content.extend_from_slice(b"\n\xff\n1970-01-01T00:00:00Z stdout F whole\n");
        std::fs::write(folder.path().join("log"), content).unwrap();
        assert_eq!(texts(&mut Reader::open(folder.path(), Query::default()).unwrap()), ["whole"]);
    }
}
