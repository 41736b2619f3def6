//! What is found in a volume: entries, and how a call went. Only values.

use super::error::InspectError;
use super::limits::SKIPPED_TOLD_MAX;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file with content.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket, which no archive can hold.
    Socket,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
}

/// A device's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds after that second, less than a thousand million.
    pub nanoseconds: u32,
}

/// Something with a name. Names and targets are bytes as the guest has written them: they are cleaned before they are
/// shown, and they mean nothing on this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Names from the folder that was listed down to this one, joined with `/`. Empty for what a path itself leads to.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u16,
    /// The owner, a number of the guest's.
    pub uid: u32,
    /// The group, a number of the guest's.
    pub gid: u32,
    /// Bytes, as the entry claims: a file with holes takes less.
    pub size: u64,
    /// When its content was last written.
    pub modified: Time,
    /// The number of the inode: entries with the same one are the same file.
    pub inode: u32,
    /// How many names the file has.
    pub links: u16,
    /// Where a symbolic link leads.
    pub target: Option<Vec<u8>>,
}

/// An entry that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path as in [`Entry::path`].
    pub path: Vec<u8>,
    /// Why, in words.
    pub why: String,
}

/// How a call went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries that were handed out.
    pub entries: u64,
    /// Bytes of files that were handed out, holes included.
    pub bytes: u64,
    /// Entries that were left out.
    pub skipped: u64,
    /// The first of them.
    pub first_skipped: Vec<Skipped>,
    /// Extended attributes that were left out of an archive: lists of access rights, values with an inode of their
    /// own, and what is damaged.
    pub attributes_skipped: u64,
}

impl Summary {
    pub(super) fn skip(&mut self, path: &[u8], why: impl Into<String>) {
        self.skipped += 1;
        if self.first_skipped.len() < SKIPPED_TOLD_MAX {
            self.first_skipped.push(Skipped { path: path.to_vec(), why: why.into() });
        }
    }

    /// Notes what concerns one entry; what concerns all goes on as an error.
    pub(super) fn skip_local(&mut self, path: &[u8], error: InspectError) -> Result<(), InspectError> {
        if !error.is_local() {
            return Err(error);
        }
        self.skip(path, error.to_string());
        Ok(())
    }
}
