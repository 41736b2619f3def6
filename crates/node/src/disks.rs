//! `lith disks`: the process that serves the volumes of an alloc, and its log.
//!
//! Comes before everything else in `main`, as a supervisor does: it must stay small. All that it does is `lith-volume`'s.
//! A guest can make it complain about each of its requests, in a file that lies in memory: the log has a size and a pace,
//! and the last words stay.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The name of the subcommand.
pub const SUBCOMMAND: &str = "disks";

/// Size of the log at which its older part goes: hours of a busy disk that works.
const BYTES_MAX: u64 = 256 << 10;
/// What stays of it then.
const BYTES_KEPT: u64 = 64 << 10;
/// Lines at once: a start and its trouble.
const LINES_AT_ONCE: u32 = 100;
/// Time after which one more may be written.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest line: names of files and what the system said.
const LINE_BYTES_MAX: usize = 4096;

/// Begins the log, on standard error.
///
/// # Errors
/// Standard error is none.
pub fn start_log() -> io::Result<()> {
    let file = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let log = Mutex::new(Log::new(file, Instant::now()));
    let lines = tracing_subscriber::fmt().with_writer(move || Line { log: &LOG }).with_ansi(false);
    let _ = LOG.set(log);
    lines.with_max_level(tracing_subscriber::filter::LevelFilter::INFO).init();
    Ok(())
}

static LOG: std::sync::OnceLock<Mutex<Log>> = std::sync::OnceLock::new();

/// Writes the lines of one event, which the formatter hands over at once.
struct Line {
    log: &'static std::sync::OnceLock<Mutex<Log>>,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(log) = self.log.get() {
            log.lock().unwrap_or_else(PoisonError::into_inner).write(line, Instant::now())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of lines that stays small.
#[derive(Debug)]
struct Log {
    /// Opened for reading and appending.
    file: File,
    /// Lines that may be written now.
    allowed: u32,
    /// Until when they were counted.
    counted: Instant,
    /// Lines that were left out since the last one.
    left_out: u64,
}

impl Log {
    fn new(file: File, now: Instant) -> Self {
        Self { file, allowed: LINES_AT_ONCE, counted: now, left_out: 0 }
    }

    fn write(&mut self, line: &[u8], now: Instant) -> io::Result<()> {
        while self.allowed < LINES_AT_ONCE && now.duration_since(self.counted) >= LINE_INTERVAL {
            self.allowed += 1;
            self.counted += LINE_INTERVAL;
        }
        if self.allowed == LINES_AT_ONCE {
            self.counted = now;
        }
        if self.allowed == 0 {
            self.left_out += 1;
            return Ok(());
        }
        self.allowed -= 1;
        if self.left_out > 0 {
            let left_out = std::mem::take(&mut self.left_out);
            self.append(format!("{left_out} lines were left out: there were too many\n").as_bytes())?;
        }
        match line.get(..LINE_BYTES_MAX) {
            Some(start) => self.append(&[start, b"...\n"].concat()),
            None => self.append(line),
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.file.metadata()?.len() + line.len() as u64 > BYTES_MAX {
            self.shorten()?;
        }
        self.file.write_all(line)
    }

    /// Leaves the last lines.
    fn shorten(&mut self) -> io::Result<()> {
        let bytes = self.file.metadata()?.len();
        let kept_bytes = bytes.min(BYTES_KEPT);
        let mut kept = vec![0; usize::try_from(kept_bytes).unwrap_or_default()];
        self.file.read_exact_at(&mut kept, bytes - kept_bytes)?;
        let first = kept.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.file.set_len(0)?;
        // It is opened for appending.
        self.file.write_all(b"what came before is gone: the log was too long\n")?;
        self.file.write_all(&kept[first..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(now: Instant) -> (tempfile::TempDir, Log) {
        let folder = tempfile::tempdir().unwrap();
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(folder.path().join("log")).unwrap();
        (folder, Log::new(file, now))
    }

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let now = Instant::now();
        let (folder, mut log) = log(now);
        for number in 0..100_000 {
            log.write(format!("request {number} failed\n").as_bytes(), now).unwrap();
        }
        log.write(b"later\n", now + LINE_INTERVAL).unwrap();
        let text = std::fs::read_to_string(folder.path().join("log")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), LINES_AT_ONCE as usize + 2);
        assert_eq!(lines[lines.len() - 2..], ["99900 lines were left out: there were too many", "later"]);
        // After a quiet time as many at once as in the beginning, and no more.
        for _ in 0..1000 {
            log.write(b"again\n", now + 10_000 * LINE_INTERVAL).unwrap();
        }
        let text = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(text.matches("again").count(), LINES_AT_ONCE as usize);
    }

    #[test]
    fn a_log_keeps_its_size_and_its_last_words() {
        let mut now = Instant::now();
        let (folder, mut log) = log(now);
        let long = "x".repeat(10_000);
        for number in 0..1000 {
            now += LINE_INTERVAL;
            log.write(format!("{number} {long}\n").as_bytes(), now).unwrap();
            assert!(log.file.metadata().unwrap().len() <= BYTES_MAX);
        }
        now += LINE_INTERVAL;
        log.write(b"the last word\n", now).unwrap();
        let text = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(text.lines().last(), Some("the last word"));
        assert!(text.starts_with("what came before is gone"));
        assert!(text.lines().skip(1).all(|line| line.len() <= LINE_BYTES_MAX + 3), "no line is cut in two");
        assert!(text.lines().nth(1).unwrap().starts_with(|first: char| first.is_ascii_digit()));
    }
}
