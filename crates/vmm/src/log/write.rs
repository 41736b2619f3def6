//! Writes a task's output: cuts it into lines, stamps them, rotates files. Owns the files of a log folder while the
//! supervisor runs. A full disk loses output and says how much; it never stops the task.

use super::{ENTRY_BYTES_MAX, LINE_BYTES_MAX, LogError, LogStream, Rotation, format_entry, path_of};
use jiff::Timestamp;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long text waits for its line end: programs that write a line in several goes need milliseconds.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The log of one task, being written.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    rotation: Rotation,
    file: File,
    file_bytes: u64,
    /// Text without its line end yet, per stream.
    open_lines: [OpenLine; 2],
    /// Output that could not be written since the last success, bytes.
    lost_bytes: u64,
}

/// A line whose end has not come.
#[derive(Debug, Default)]
struct OpenLine {
    /// What is not on the file.
    text: Vec<u8>,
    /// When the oldest of it came.
    since: Timestamp,
    /// Pieces of it are on the file.
    is_begun: bool,
}

impl OpenLine {
    fn put(&mut self, into: &mut Vec<u8>, time: &str, stream: LogStream, is_partial: bool) {
        format_entry(into, time, stream, is_partial, &self.text);
        self.text.clear();
        self.is_begun = is_partial;
    }
}

impl Writer {
    /// Opens the log in `folder`, after what an earlier run of the task left there.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(folder: &Path, rotation: Rotation) -> Result<Writer, LogError> {
        let mut file = open(folder)?;
        let path = path_of(folder, 0);
        let mut file_bytes = file.metadata().map_err(LogError::new("open", &path))?.len();
        if ends_inside_a_line(&path, file_bytes).map_err(LogError::new("read", &path))? {
            // A power cut, or a supervisor that was killed while it wrote: what follows starts a line of its own.
            file.write_all(b"\n").map_err(LogError::new("write", &path))?;
            file_bytes += 1;
        }
        Ok(Writer {
            folder: folder.to_owned(),
            rotation,
            file,
            file_bytes,
            open_lines: Default::default(),
            lost_bytes: 0,
        })
    }

    /// Takes output of the task. Whole lines are on the file when this returns, the rest when its line is complete or has
    /// waited for its end: see [`Writer::write_waiting`].
    pub fn write(&mut self, stream: LogStream, bytes: &[u8], now: Timestamp) {
        let time = format_time(now);
        let mut entries = Vec::with_capacity(bytes.len() + ENTRY_BYTES_MAX - LINE_BYTES_MAX);
        let line = &mut self.open_lines[index(stream)];
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if *first == b'\n' {
                line.put(&mut entries, &time, stream, false);
                rest = &rest[1..];
                continue;
            }
            if line.text.len() == LINE_BYTES_MAX {
                line.put(&mut entries, &time, stream, true);
            }
            if line.text.is_empty() {
                line.since = now;
            }
            let room = LINE_BYTES_MAX - line.text.len();
            let end = rest.iter().take(room).position(|byte| *byte == b'\n').unwrap_or(room.min(rest.len()));
            line.text.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        self.append(&entries, &time);
    }

    /// How long after `now` [`Writer::write_waiting`] has something to do, if ever.
    pub fn due_in(&self, now: Timestamp) -> Option<Duration> {
        let due = |line: &OpenLine| {
            // A clock that was set back would make a line wait for ever.
            let waited = Duration::try_from(now.duration_since(line.since)).unwrap_or(WAIT_MAX);
            (!line.text.is_empty()).then(|| WAIT_MAX.saturating_sub(waited))
        };
        self.open_lines.iter().filter_map(due).min()
    }

    /// Writes what has waited long enough for its line end, as a piece: somebody may wait for just this prompt, and it
    /// must not be lost with this process.
    pub fn write_waiting(&mut self, now: Timestamp) {
        if self.due_in(now).is_some_and(|due| due.is_zero()) {
            let time = format_time(now);
            let mut entries = Vec::new();
            for stream in [LogStream::Stdout, LogStream::Stderr] {
                let line = &mut self.open_lines[index(stream)];
                if !line.text.is_empty() {
                    line.put(&mut entries, &time, stream, true);
                }
            }
            self.append(&entries, &time);
        }
    }

    /// Writes what has no line end: the task is over. Also makes the log durable.
    ///
    /// # Errors
    /// The file cannot be synced.
    pub fn finish(&mut self, now: Timestamp) -> Result<(), LogError> {
        let time = format_time(now);
        let mut entries = Vec::new();
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let line = &mut self.open_lines[index(stream)];
            if !line.text.is_empty() || line.is_begun {
                line.put(&mut entries, &time, stream, false);
            }
        }
        self.append(&entries, &time);
        self.file.sync_all().map_err(LogError::new("write", &path_of(&self.folder, 0)))
    }

    fn append(&mut self, entries: &[u8], time: &str) {
        if entries.is_empty() {
            return;
        }
        match self.try_append(entries, time) {
            Ok(()) => self.lost_bytes = 0,
            Err(_) => {
                // Half an entry may be on the file; readers skip what does not parse. The cause is nearly always a full
                // disk, and there is no better place to say so than this file, later.
                self.lost_bytes += entries.len() as u64;
            }
        }
    }

    fn try_append(&mut self, entries: &[u8], time: &str) -> io::Result<()> {
        if self.lost_bytes > 0 {
            let mut notice = vec![b'\n'];
            let text = format!("[lith: {} bytes of output lost, the disk was full]", self.lost_bytes);
            format_entry(&mut notice, time, LogStream::Stderr, false, text.as_bytes());
            self.write_counted(&notice)?;
        }
        // Cut at entries, so that one large piece of output does not make a file much larger than it may be.
        let mut rest = entries;
        while !rest.is_empty() {
            if self.file_bytes >= self.rotation.file_bytes_max {
                self.rotate()?;
            }
            let room = usize::try_from(self.rotation.file_bytes_max - self.file_bytes).unwrap_or(usize::MAX);
            let cut =
                rest.iter().skip(room).position(|byte| *byte == b'\n').map(|position| room + position + 1);
            let (now, later) = rest.split_at(cut.unwrap_or(rest.len()));
            self.write_counted(now)?;
            rest = later;
        }
        Ok(())
    }

    fn write_counted(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file_bytes += bytes.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let generations = self.rotation.files_max.max(1);
        for generation in (0..generations - 1).rev() {
            match std::fs::rename(path_of(&self.folder, generation), path_of(&self.folder, generation + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        if generations == 1 {
            std::fs::remove_file(path_of(&self.folder, 0))?;
        }
        self.file = open(&self.folder).map_err(|error| error.source)?;
        self.file_bytes = 0;
        Ok(())
    }
}

fn index(stream: LogStream) -> usize {
    match stream {
        LogStream::Stdout => 0,
        LogStream::Stderr => 1,
    }
}

fn open(folder: &Path) -> Result<File, LogError> {
    let path = path_of(folder, 0);
    OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(LogError::new("open", &path))
}

fn ends_inside_a_line(path: &Path, file_bytes: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let Some(last) = file_bytes.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    File::open(path)?.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// Always nine digits, so that times sort as text.
fn format_time(time: Timestamp) -> String {
    format!("{time:.9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_all(rotation: Rotation, pieces: &[(LogStream, &[u8])]) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(folder.path(), rotation).unwrap();
        for (stream, bytes) in pieces {
            writer.write(*stream, bytes, Timestamp::UNIX_EPOCH);
        }
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
        let text = std::fs::read(folder.path().join("log")).unwrap();
        let text = String::from_utf8_lossy(&text).replace("1970-01-01T00:00:00.000000000Z ", "");
        (folder, text)
    }

    fn check(pieces: &[(LogStream, &[u8])], expect: &str) {
        assert_eq!(write_all(Rotation::default(), pieces).1, expect);
    }

    #[test]
    fn lines_of_both_streams_are_kept_apart() {
        use LogStream::{Stderr, Stdout};
        check(&[(Stdout, b"one\ntwo\n")], "stdout F one\nstdout F two\n");
        check(&[(Stdout, b"he"), (Stderr, b"oops\n"), (Stdout, b"llo\n")], "stderr F oops\nstdout F hello\n");
        check(&[(Stdout, b"no line end")], "stdout F no line end\n");
        check(&[(Stdout, b"\n\n")], "stdout F \nstdout F \n");
        check(&[(Stdout, b"")], "");
    }

    #[test]
    fn text_without_a_line_end_does_not_wait_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(folder.path(), Rotation::default()).unwrap();
        let at = |milliseconds| Timestamp::from_millisecond(milliseconds).unwrap();
        let text = || {
            let text = std::fs::read_to_string(folder.path().join("log")).unwrap();
            text.lines().map(|line| line[31..].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(writer.due_in(at(0)), None);
        writer.write(LogStream::Stdout, b"name: ", at(0));
        assert_eq!(writer.due_in(at(400)), Some(Duration::from_millis(600)));
        writer.write_waiting(at(999));
        assert_eq!(text(), Vec::<String>::new());
        writer.write_waiting(at(1000));
        assert_eq!(text(), ["stdout P name: "]);
        assert_eq!(writer.due_in(at(1000)), None);
        writer.write(LogStream::Stdout, b"x\npass: ", at(2000));
        // Also when the clock was set back meanwhile.
        assert_eq!(writer.due_in(at(0)), Some(Duration::ZERO));
        writer.write_waiting(at(3000));
        writer.finish(at(4000)).unwrap();
        assert_eq!(text(), ["stdout P name: ", "stdout F x", "stdout P pass: ", "stdout F "]);
    }

    #[test]
    fn a_line_without_end_is_split() {
        let check_length = |length: usize, expect: &[(&str, usize)]| {
            let bytes = [vec![b'x'; length], b"\n".to_vec()].concat();
            let (_folder, text) = write_all(Rotation::default(), &[(LogStream::Stdout, &bytes)]);
            let lengths: Vec<_> = text.lines().map(|line| (&line[7..8], line.len() - 9)).collect();
            assert_eq!(lengths, expect, "{length}");
        };
        check_length(LINE_BYTES_MAX, &[("F", LINE_BYTES_MAX)]);
        check_length(LINE_BYTES_MAX + 1, &[("P", LINE_BYTES_MAX), ("F", 1)]);
        check_length(2 * LINE_BYTES_MAX, &[("P", LINE_BYTES_MAX), ("F", LINE_BYTES_MAX)]);
    }

    #[test]
    fn files_rotate_and_old_ones_go() {
        let rotation = Rotation { file_bytes_max: 200, files_max: 3 };
        let line = b"0123456789012345678901234567890123456789\n";
        let (folder, _) = write_all(rotation, &[(LogStream::Stdout, line.repeat(30).as_slice())]);
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        for name in names {
            assert!(std::fs::metadata(folder.path().join(name)).unwrap().len() < 200 + 100);
        }
    }

    #[test]
    fn a_torn_line_of_an_earlier_run_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log"), "2026-01-02T03:04").unwrap();
        let mut writer = Writer::open(folder.path(), Rotation::default()).unwrap();
        writer.write(LogStream::Stdout, b"next\n", Timestamp::UNIX_EPOCH);
        let text = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(text, "2026-01-02T03:04\n1970-01-01T00:00:00.000000000Z stdout F next\n");
    }

    #[test]
    fn a_full_disk_loses_output_and_says_so_later() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(folder.path(), Rotation::default()).unwrap();
        let good =
            std::mem::replace(&mut writer.file, OpenOptions::new().write(true).open("/dev/full").unwrap());
        writer.write(LogStream::Stdout, b"lost\n", Timestamp::UNIX_EPOCH);
        writer.file = good;
        writer.write(LogStream::Stdout, b"kept\n", Timestamp::UNIX_EPOCH);
        let text = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(text.contains("bytes of output lost") && text.ends_with("stdout F kept\n"), "{text}");
    }
}
