//! A tree of a volume as an archive. Must not know the form of the archive, nor of the file system.

use std::collections::HashMap;
use std::io::Write;

use super::archive::{self, Stored};
use super::attributes::{self, Attribute};
use super::content;
use super::entry::{Entry, Kind, Summary};
use super::error::InspectError;
use super::filesystem::FileSystem;
use super::inode::Inode;
use super::limits::{LINKED_BYTES_MAX, Limits};
use super::walk::{Depth, Walk, count, count_bytes, entry};

/// An archive under way.
pub(super) struct Export<'f> {
    filesystem: &'f FileSystem,
    limits: Limits,
    writer: &'f mut dyn Write,
    /// First paths of files with several names.
    linked: HashMap<u32, Vec<u8>>,
    linked_bytes: usize,
    summary: Summary,
}

impl<'f> Export<'f> {
    pub(super) fn new(filesystem: &'f FileSystem, limits: Limits, writer: &'f mut dyn Write) -> Export<'f> {
        let (linked, summary) = (HashMap::new(), Summary::default());
        Export { filesystem, limits, writer, linked, linked_bytes: 0, summary }
    }

    /// Archives `top` under `name`, and what is below; the name `.` is left out of those paths.
    pub(super) fn run(mut self, top: &Inode, name: &[u8]) -> Result<Summary, InspectError> {
        let its = entry(self.filesystem, top, Vec::new())?;
        count(&mut self.summary, self.limits)?;
        self.add(name, &its, top)?;
        if top.kind == Kind::Folder {
            let mut walk = Walk::new(self.filesystem, top, Depth::Tree, self.limits, &mut self.summary)?;
            while let Some((entry, inode)) = walk.next(&mut self.summary)? {
                let path = match name {
                    b"." => entry.path.clone(),
                    name => [name, &entry.path[..]].join(&b'/'),
                };
                self.add(&path, &entry, &inode)?;
            }
        }
        archive::end(self.writer).map_err(InspectError::Write)?;
        Ok(self.summary)
    }

    fn add(&mut self, path: &[u8], entry: &Entry, inode: &Inode) -> Result<(), InspectError> {
        if entry.kind == Kind::Socket {
            self.summary.entries -= 1;
            self.summary.skip(path, "an archive cannot hold a socket");
            return Ok(());
        }
        let is_file = entry.kind == Kind::File;
        let is_linked = entry.kind != Kind::Folder && entry.links > 1;
        if is_linked && let Some(first) = self.linked.get(&inode.number) {
            return archive::header(self.writer, path, entry, &Stored::Link(first), &[])
                .map_err(InspectError::Write);
        }
        // Before the header: it promises the content.
        if is_file && let Err(error) = self.filesystem.runs(inode) {
            self.summary.entries -= 1;
            return self.summary.skip_local(path, error);
        }
        if is_file {
            count_bytes(&mut self.summary, self.limits, entry.size)?;
        }
        let attributes = self.attributes(inode)?;
        let name = if entry.kind == Kind::Folder { [path, b"/"].concat() } else { path.to_vec() };
        archive::header(self.writer, &name, entry, &Stored::Whole, &attributes)
            .map_err(InspectError::Write)?;
        if is_file {
            content::write(self.filesystem, inode, self.writer)?;
            archive::padding(self.writer, entry.size).map_err(InspectError::Write)?;
        }
        if is_linked && self.linked_bytes + path.len() <= LINKED_BYTES_MAX {
            self.linked_bytes += path.len();
            self.linked.insert(inode.number, path.to_vec());
        }
        Ok(())
    }

    /// Damaged attributes are no reason to leave out the file.
    fn attributes(&mut self, inode: &Inode) -> Result<Vec<Attribute>, InspectError> {
        match attributes::read(self.filesystem, inode) {
            Ok(attributes) => {
                self.summary.attributes_skipped += attributes.skipped;
                Ok(attributes.found)
            }
            Err(error) if error.is_local() => {
                self.summary.attributes_skipped += 1;
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }
}
