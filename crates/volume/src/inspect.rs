//! Looking inside the ext4 file system of a volume: listing, reading, archiving, without mounting it and without the
//! guest. Nothing is written. Owns the bounds on what that may cost.
//!
//! The bytes are a guest's: every number may be a lie, every name may be anything. Must not know volumes, checkpoints or
//! tasks: it is given a [`source::Source`] and the folder of the file system that counts as the root of everything.
//!
//! Own code, because a reader that only serves file systems at rest is not enough: a checkpoint is the disk of a virtual
//! machine that runs, whose truth is partly in the journal, and whose databases allocate ahead of what they write.

mod archive;
mod attributes;
mod content;
mod disk;
pub mod entry;
pub mod error;
mod export;
mod extents;
mod fields;
mod filesystem;
mod folder;
mod inode;
mod journal;
mod layout;
pub mod limits;
mod path;
pub mod settled;
pub mod source;
pub mod walk;

use std::io::{self, Write};

use entry::{Entry, Kind, Summary};
use error::{InspectError, shown};
use export::Export;
use filesystem::FileSystem;
use inode::Inode;
use limits::Limits;
use path::Last;
use source::Source;
use walk::{Depth, Walk};

/// A volume that is looked into. Paths begin at its root folder and cannot leave it: `..` and the targets of symbolic
/// links are resolved within.
pub struct View {
    filesystem: FileSystem,
    root: u32,
    limits: Limits,
}

impl View {
    /// Opens the file system in `source`; `root` is the folder of it that tasks are shown, such as `/data`.
    ///
    /// # Errors
    /// There is no such file system or folder, or what describes the whole is damaged.
    pub fn open(source: Box<dyn Source>, root: &str, limits: Limits) -> Result<View, InspectError> {
        let filesystem = FileSystem::open(source)?;
        filesystem.disk.begin();
        let root = path::root(&filesystem, root)?;
        Ok(View { filesystem, root, limits })
    }

    /// What `path` leads to. A symbolic link at its end is told of itself.
    ///
    /// # Errors
    /// The path leads nowhere, or what is on its way is damaged.
    pub fn entry(&self, path: &[u8]) -> Result<Entry, InspectError> {
        walk::entry(&self.filesystem, &self.resolve(path, Last::Kept)?, Vec::new())
    }

    /// Hands out the entries of the folder at `path`, or, when no folder is there, that one entry. Sorted by the bytes of
    /// the names; a folder comes before what is in it. What is damaged is left out and noted.
    ///
    /// # Errors
    /// The path leads nowhere, a bound is passed, or `each` does not take an entry.
    pub fn list(
        &self,
        path: &[u8],
        depth: Depth,
        each: &mut dyn FnMut(&Entry) -> io::Result<()>,
    ) -> Result<Summary, InspectError> {
        let mut summary = Summary::default();
        let top = match self.resolve(path, Last::Followed) {
            Err(InspectError::NotFound { .. } | InspectError::TooManyLinks { .. }) => {
                // A link that leads nowhere is still there.
                self.resolve(path, Last::Kept)?
            }
            resolved => resolved?,
        };
        if top.kind != Kind::Folder {
            walk::count(&mut summary, self.limits)?;
            each(&self.entry(path)?).map_err(InspectError::Write)?;
            return Ok(summary);
        }
        let mut walk = Walk::new(&self.filesystem, &top, depth, self.limits, &mut summary)?;
        while let Some((entry, _)) = walk.next(&mut summary)? {
            each(&entry).map_err(InspectError::Write)?;
        }
        Ok(summary)
    }

    /// Writes the content of the file at `path`, holes as zeroes; gives its length.
    ///
    /// # Errors
    /// No file is there, it is damaged or longer than the bound, or `writer` does not take it.
    pub fn read(&self, path: &[u8], writer: &mut dyn Write) -> Result<u64, InspectError> {
        let inode = self.resolve(path, Last::Followed)?;
        if inode.kind != Kind::File {
            return Err(InspectError::NotAFile { path: shown(path) });
        }
        walk::count_bytes(&mut Summary::default(), self.limits, inode.size)?;
        content::write(&self.filesystem, &inode, writer)?;
        Ok(inode.size)
    }

    /// Writes what is at `path` as a tar stream. As with `docker cp`, the entry on top has the path's last name, and is
    /// `.` for a path that ends in `/.`; a symbolic link at the end is itself, unless `/` or `/.` follows it. After an
    /// error the stream is not ended, so that no reader takes it for whole.
    ///
    /// # Errors
    /// The path leads nowhere, a bound is passed, a file's content is damaged, or `writer` does not take it.
    pub fn export(&self, path: &[u8], writer: &mut dyn Write) -> Result<Summary, InspectError> {
        let top = self.resolve(path, Last::Kept)?;
        Export::new(&self.filesystem, self.limits, writer).run(&top, last_name(path))
    }

    fn resolve(&self, path: &[u8], last: Last) -> Result<Inode, InspectError> {
        self.filesystem.disk.begin();
        path::resolve(&self.filesystem, self.root, path, last)
    }
}

fn last_name(path: &[u8]) -> &[u8] {
    if path.ends_with(b"/.") {
        return b".";
    }
    let name = path.split(|byte| *byte == b'/').rfind(|name| !name.is_empty());
    name.filter(|name| *name != b"..").unwrap_or(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_may_go_to_another_thread() {
        fn check<T: Send>() {}
        check::<View>();
    }

    #[test]
    fn names_on_top() {
        let check =
            |path: &str, name: &str| assert_eq!(last_name(path.as_bytes()), name.as_bytes(), "{path}");
        check("", ".");
        check("/", ".");
        check("a", "a");
        check("/a/b/", "b");
        check("a/.", ".");
        check("a/..", ".");
    }
}
