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

/// Names that may be free while there are older files: a rotation leaves one free for a moment, and while this looks
/// from name to name the gap can be met twice.
const GAPS_MAX: u32 = 2;

/// Which entries are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Query {
    /// Only entries at or after this time.
    pub since: Option<Timestamp>,
    /// Only the last so many lines of them; the pieces of a long one count as one.
    pub tail: Option<usize>,
}

/// A log being read. [`Reader::next_entry`] gives what is there; a caller that follows asks again later.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    since: Option<Timestamp>,
    /// Files still to read, the oldest first; the last may still grow.
    files: VecDeque<LogFile>,
    /// Lines to leave out before the first entry that is given.
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
            // Counted in the very files that are read afterwards: a rotation meanwhile changes their names only, and
            // what is appended meanwhile is given too.
            let mut count: usize = 0;
            for file in &mut reader.files {
                count += file.count_lines(query.since).map_err(LogError::new("read", folder))?;
            }
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
                self.skip -= usize::from(!entry.is_partial);
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

    /// Counts the lines from `since` on, and goes back to the beginning.
    fn count_lines(&mut self, since: Option<Timestamp>) -> std::io::Result<usize> {
        let mut count = 0;
        while let Some(line) = self.next_line()? {
            let is_counted =
                |entry: &Entry| !entry.is_partial && since.is_none_or(|since| entry.time >= since);
            count += usize::from(parse_entry(&line).as_ref().is_some_and(is_counted));
        }
        self.line.clear();
        self.reader.seek(SeekFrom::Start(0))?;
        Ok(count)
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
    let mut gaps = 0;
    for generation in 0..GENERATIONS_MAX {
        let Some(file) = LogFile::open(&path_of(folder, generation))? else {
            gaps += 1;
            if gaps > GAPS_MAX { break } else { continue }
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
    fn a_rotation_while_the_end_is_looked_for_swallows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(folder.path(), Rotation { file_bytes_max: 100, files_max: 2 }).unwrap();
        let mut write = |number: i64| {
            writer.write(LogStream::Stdout, format!("{number} {}\n", "x".repeat(100)).as_bytes(), at(number));
        };
        // Each line is a file, and two are kept.
        (0..3).for_each(&mut write);
        let mut reader = Reader::open(folder.path(), Query { since: None, tail: Some(1) }).unwrap();
        (3..5).for_each(&mut write);
        let numbers: Vec<_> = texts(&mut reader).into_iter().map(|text| text[..1].to_owned()).collect();
        assert_eq!(numbers, ["2", "3", "4"]);
    }

    #[test]
    fn pieces_of_a_line_count_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(folder.path(), Rotation::default()).unwrap();
        let long = "x".repeat(super::super::LINE_BYTES_MAX + 1);
        writer.write(LogStream::Stdout, format!("first\n{long}\nlast\n").as_bytes(), at(0));
        let lengths = |tail| {
            let mut reader = Reader::open(folder.path(), Query { since: None, tail: Some(tail) }).unwrap();
            texts(&mut reader).iter().map(String::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(1), [4]);
        assert_eq!(lengths(2), [long.len() - 1, 1, 4]);
        assert_eq!(lengths(3), [5, long.len() - 1, 1, 4]);
    }

    #[test]
    fn older_files_are_found_between_two_renames() {
        let folder = tempfile::tempdir().unwrap();
        let write = |generation: u32| {
            let text = format!("1970-01-01T00:00:00Z stdout F {generation}\n");
            std::fs::write(path_of(folder.path(), generation), text).unwrap();
        };
        for gap in 0..3 {
            (0..4).for_each(write);
            std::fs::remove_file(path_of(folder.path(), gap)).unwrap();
            let there: Vec<_> = (0..4).rev().filter(|number| *number != gap).map(|n| n.to_string()).collect();
            assert_eq!(texts(&mut Reader::open(folder.path(), Query::default()).unwrap()), there, "{gap}");
        }
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
