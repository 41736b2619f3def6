//! A task's output on disk: one line per entry, `<time> stdout|stderr F|P <text>`, as the Kubernetes container runtime
//! interface has it, so that existing tools read it. Owns the format; `write` owns files and rotation, `read` finding
//! entries again. It must not interpret the text, which is the task's and may be any bytes.

mod read;
mod write;

use jiff::Timestamp;
use std::io;
use std::path::{Path, PathBuf};

pub use read::{Query, Reader};
pub use write::Writer;

/// Longest text of an entry, bytes. A longer line is split, all parts but the last marked `P`. It bounds what a task
/// without line ends can make the supervisor hold.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// Longest entry on disk, with its time, stream and mark.
const ENTRY_BYTES_MAX: usize = LINE_BYTES_MAX + 64;
/// The file being written; older ones have `.1`, `.2`, … appended.
const FILE: &str = "log";

/// Which output of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of a task's output, or a part of a very long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When the supervisor received it.
    pub time: Timestamp,
    /// Which output.
    pub stream: LogStream,
    /// Whether the line goes on in the next entry of this stream.
    pub is_partial: bool,
    /// The text, without a line end. Any bytes.
    pub text: Vec<u8>,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rotation {
    /// Size at which a file is rotated, bytes.
    pub file_bytes_max: u64,
    /// Files kept, the current one included; at least 1.
    pub files_max: u32,
}

impl Default for Rotation {
    /// 10 MiB in each of 3 files: days of a web server's log, and nothing against the smallest disk.
    fn default() -> Rotation {
        Rotation { file_bytes_max: 10 << 20, files_max: 3 }
    }
}

/// A log file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} log {}", path.display())]
pub struct LogError {
    /// What was tried: `open`, `read`, `write`, `rotate`.
    pub operation: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl LogError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        (self.source.kind() == io::ErrorKind::StorageFull)
            .then(|| "free space on the disk of lith's data".to_owned())
    }

    fn new(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_owned();
        move |source| LogError { operation, path, source }
    }
}

/// The file of a generation: 0 is being written, higher ones are older.
fn path_of(folder: &Path, generation: u32) -> PathBuf {
    if generation == 0 { folder.join(FILE) } else { folder.join(format!("{FILE}.{generation}")) }
}

/// Appends an entry to `out`.
fn format_entry(out: &mut Vec<u8>, time: &str, stream: LogStream, is_partial: bool, text: &[u8]) {
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(match stream {
        LogStream::Stdout => b" stdout ",
        LogStream::Stderr => b" stderr ",
    });
    out.extend_from_slice(if is_partial { b"P " } else { b"F " });
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// Reads an entry, without its line end. Damaged ones (a power cut leaves such) are none.
fn parse_entry(line: &[u8]) -> Option<Entry> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let stream = match parts.next()? {
        b"stdout" => LogStream::Stdout,
        b"stderr" => LogStream::Stderr,
        _ => return None,
    };
    let is_partial = match parts.next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    Some(Entry { time, stream, is_partial, text: parts.next()?.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_round_trip_whatever_their_bytes() {
        for text in [b"hello world".as_slice(), b"", b" two  spaces ", b"\xff\x00\x1b[0m"] {
            let mut line = Vec::new();
            format_entry(&mut line, "2026-01-02T03:04:05.000000006Z", LogStream::Stderr, true, text);
            let entry = parse_entry(line.strip_suffix(b"\n").unwrap()).unwrap();
            assert_eq!(
                (entry.stream, entry.is_partial, entry.text.as_slice()),
                (LogStream::Stderr, true, text)
            );
            assert_eq!(entry.time.to_string(), "2026-01-02T03:04:05.000000006Z");
        }
    }

    #[test]
    fn damaged_lines_are_none() {
        for line in [
            b"".as_slice(),
            b"x stdout F a",
            b"2026-01-02T03:04:05Z stdin F a",
            b"2026-01-02T03:04:05Z stdout",
        ] {
            assert_eq!(parse_entry(line), None);
        }
    }
}
