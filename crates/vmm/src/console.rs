//! The guest's console and the VMM's complaints on disk, for the day a guest does not boot. Owns a bound: a hostile
//! guest writes as much as it likes and fills two small files, never the disk.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Size at which the file is replaced; two are kept. A kernel's boot messages and its panic fit many times.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// The file being written, and the one before it.
const FILE: &str = "console.log";
const FILE_BEFORE: &str = "console.log.1";
/// How much of the end is kept in memory, to say why a machine died: a kernel's panic is followed by traces and
/// registers of every processor.
const END_BYTES_MAX: usize = 16 << 10;
/// Longest sentence made of it.
const SENTENCE_CHARS_MAX: usize = 300;

/// A bounded recording.
#[derive(Debug)]
pub(crate) struct Console {
    folder: PathBuf,
    file: Option<File>,
    file_bytes: u64,
    end: Vec<u8>,
}

impl Console {
    /// Starts a new recording; that of the boot before stays as the older file. A recording that cannot be made is no
    /// reason not to run a task.
    pub(crate) fn start(folder: &Path) -> Console {
        let mut console = Console { folder: folder.to_owned(), file: None, file_bytes: 0, end: Vec::new() };
        console.replace_file();
        console
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.end.extend_from_slice(bytes);
        self.end.drain(..self.end.len().saturating_sub(END_BYTES_MAX));
        if self.file_bytes >= FILE_BYTES_MAX {
            self.replace_file();
        }
        if let Some(file) = &mut self.file {
            // Counted also when it fails, so that a full disk is not asked without end.
            let _ = file.write_all(bytes);
            self.file_bytes += bytes.len() as u64;
        }
    }

    /// The last line that says something, printable and short.
    pub(crate) fn last_words(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.end);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        // What a panicking kernel says last is a trailer that names no cause.
        let panic = lines
            .iter()
            .rev()
            .find(|line| line.contains("Kernel panic - not syncing") && !line.contains("end "));
        let line = panic.or(lines.last())?;
        Some(lith_guest::messages::clean(line).chars().take(SENTENCE_CHARS_MAX).collect())
    }

    fn replace_file(&mut self) {
        let path = self.folder.join(FILE);
        // No older file on the very first start.
        let _ = std::fs::rename(&path, self.folder.join(FILE_BEFORE));
        self.file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).ok();
        self.file_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_stays_within_two_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut console = Console::start(folder.path());
        for _ in 0..2000 {
            console.write(&[b'x'; 1024]);
        }
        let sizes: u64 =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(sizes <= 2 * (FILE_BYTES_MAX + 1024), "{sizes}");
        assert!(console.end.len() <= END_BYTES_MAX);
    }

    #[test]
    fn last_words_name_the_cause() {
        let check = |text: &str, expect: Option<&str>| {
            let folder = tempfile::tempdir().unwrap();
            let mut console = Console::start(folder.path());
            console.write(text.as_bytes());
            assert_eq!(console.last_words().as_deref(), expect);
        };
        check("", None);
        check("a\nb\n\n", Some("b"));
        check(
            "[1] Kernel panic - not syncing: no init\n[1] trace\n",
            Some("[1] Kernel panic - not syncing: no init"),
        );
        check("\x1b[31mred\n", Some("\u{fffd}[31mred"));
    }
}
