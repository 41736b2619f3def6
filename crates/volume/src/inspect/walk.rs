//! Through a tree, each folder's names sorted, each folder once. Must not know what is done with the entries.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::entry::{Entry, Kind, Summary};
use super::error::{InspectError, damaged};
use super::filesystem::FileSystem;
use super::folder;
use super::inode::Inode;
use super::limits::{FOLDERS_MAX, Limits, NAME_BYTES_EXTRA, NAMES_BYTES_MAX, PATH_BYTES_MAX};

/// How far down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The entries of the folder.
    Folder,
    /// Those and everything below.
    Tree,
}

type Name = (Box<[u8]>, u32);

/// A folder whose entries are not all handed out yet.
struct Open {
    /// Sorted, the last one first.
    names: Vec<Name>,
    bytes: u64,
    /// How much of the path is the folder's own.
    path_bytes: usize,
}

/// A walk under way.
pub(super) struct Walk<'f> {
    filesystem: &'f FileSystem,
    depth: Depth,
    limits: Limits,
    open: Vec<Open>,
    path: Vec<u8>,
    names_bytes: u64,
    visited: HashSet<u32>,
}

impl<'f> Walk<'f> {
    /// Begins at a folder, which is not handed out itself.
    pub(super) fn new(
        filesystem: &'f FileSystem,
        top: &Inode,
        depth: Depth,
        limits: Limits,
        summary: &mut Summary,
    ) -> Result<Walk<'f>, InspectError> {
        let (open, path, visited) = (Vec::new(), Vec::new(), HashSet::from([top.number]));
        let mut walk = Walk { filesystem, depth, limits, open, path, names_bytes: 0, visited };
        walk.enter(top, summary)?;
        Ok(walk)
    }

    /// The next entry; none at the end. What is damaged is noted and left out.
    pub(super) fn next(&mut self, summary: &mut Summary) -> Result<Option<(Entry, Inode)>, InspectError> {
        while let Some(open) = self.open.last_mut() {
            self.path.truncate(open.path_bytes);
            let Some((name, number)) = open.names.pop() else {
                self.names_bytes -= open.bytes;
                self.open.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            match self.entry(number) {
                Ok((entry, inode)) => {
                    if inode.kind == Kind::Folder && self.depth == Depth::Tree {
                        self.enter(&inode, summary)?;
                    }
                    count(summary, self.limits)?;
                    return Ok(Some((entry, inode)));
                }
                Err(error) => summary.skip_local(&self.path, error)?,
            }
        }
        Ok(None)
    }

    fn entry(&mut self, number: u32) -> Result<(Entry, Inode), InspectError> {
        if self.path.len() > PATH_BYTES_MAX {
            return Err(damaged("the path is too long"));
        }
        let inode = self.filesystem.inode(number)?;
        if inode.kind == Kind::Folder && !self.visited.insert(number) {
            return Err(damaged(format!("the folder in inode {number} is in two places")));
        }
        if self.visited.len() > FOLDERS_MAX {
            return Err(InspectError::TooMuch { what: "too many folders", limit: FOLDERS_MAX as u64 });
        }
        Ok((entry(self.filesystem, &inode, self.path.clone())?, inode))
    }

    fn enter(&mut self, folder: &Inode, summary: &mut Summary) -> Result<(), InspectError> {
        let mut names: Vec<Name> = Vec::new();
        let before = self.names_bytes;
        let read = folder::names(self.filesystem, folder, &mut |name| {
            self.names_bytes += name.bytes.len() as u64 + NAME_BYTES_EXTRA;
            if self.names_bytes > NAMES_BYTES_MAX {
                let what = "the names of open folders take too much memory";
                return Err(InspectError::TooMuch { what, limit: NAMES_BYTES_MAX });
            }
            names.push((name.bytes.into(), name.inode));
            Ok(ControlFlow::Continue(()))
        });
        match read {
            // Whoever asks for a folder of which nothing can be read is told so.
            Err(error) if self.open.is_empty() && names.is_empty() => return Err(error),
            Err(error) => summary.skip_local(&self.path, error)?,
            Ok(()) => {}
        }
        // Stable: of two equal names the first on the disk stays, which is the one that a path leads to.
        names.sort_by(|one, other| other.0.cmp(&one.0));
        // One name, one entry: whoever unpacks an archive must not be led through a link that a second entry replaces.
        names.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                summary.skip(&[&self.path[..], b"/", &later.0].concat(), "its name is there twice");
            }
            is_same
        });
        self.open.push(Open { names, bytes: self.names_bytes - before, path_bytes: self.path.len() });
        Ok(())
    }
}

/// Counts an entry.
pub(super) fn count(summary: &mut Summary, limits: Limits) -> Result<(), InspectError> {
    summary.entries += 1;
    if summary.entries > limits.entries_max {
        return Err(InspectError::TooMuch { what: "too many entries", limit: limits.entries_max });
    }
    Ok(())
}

/// Counts a file's content, before any of it is read.
pub(super) fn count_bytes(summary: &mut Summary, limits: Limits, bytes: u64) -> Result<(), InspectError> {
    summary.bytes = summary.bytes.saturating_add(bytes);
    if summary.bytes > limits.bytes_max {
        return Err(InspectError::TooMuch {
            what: "too much content, holes included",
            limit: limits.bytes_max,
        });
    }
    Ok(())
}

/// What is told of an inode.
pub(super) fn entry(filesystem: &FileSystem, inode: &Inode, path: Vec<u8>) -> Result<Entry, InspectError> {
    let target = if inode.kind == Kind::Symlink { Some(filesystem.target(inode)?) } else { None };
    Ok(Entry {
        path,
        kind: inode.kind,
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        size: if matches!(inode.kind, Kind::File | Kind::Symlink | Kind::Folder) { inode.size } else { 0 },
        modified: inode.modified,
        inode: inode.number,
        links: inode.links,
        target,
    })
}
