//! From a path to an inode, within the folder that tasks are shown: neither `..` nor a symbolic link leads out of it.

use super::entry::Kind;
use super::error::{InspectError, shown};
use super::filesystem::FileSystem;
use super::folder;
use super::inode::Inode;
use super::limits::{LINK_HOPS_MAX, PATH_BYTES_MAX};

/// The file system's own root.
const ROOT_INODE: u32 = 2;

/// What a symbolic link at the end of a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// What it leads to.
    Followed,
    /// Itself.
    Kept,
}

/// Finds the folder that tasks are shown. Links are not followed: nothing of lith's makes one there.
pub(super) fn root(filesystem: &FileSystem, root: &str) -> Result<u32, InspectError> {
    let missing = || InspectError::NoRoot { root: root.to_owned() };
    let mut inode = filesystem.inode(ROOT_INODE)?;
    for part in root.split('/').filter(|part| !part.is_empty()) {
        let child = folder::find(filesystem, &inode, part.as_bytes())?.ok_or_else(missing)?;
        inode = filesystem.inode(child)?;
        if inode.kind != Kind::Folder {
            return Err(missing());
        }
    }
    Ok(inode.number)
}

/// Finds what `path` leads to from the folder `root`.
pub(super) fn resolve(
    filesystem: &FileSystem,
    root: u32,
    path: &[u8],
    last: Last,
) -> Result<Inode, InspectError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(InspectError::TooMuch { what: "the path is too long", limit: PATH_BYTES_MAX as u64 });
    }
    let not_found = || InspectError::NotFound { path: shown(path) };
    let mut pending: Vec<Vec<u8>> = Vec::new();
    push(&mut pending, path);
    // The folders down to where we are: what the disk says of `..` is not asked.
    let mut trail = vec![root];
    let mut current = filesystem.inode(root)?;
    let mut hops = 0;
    while let Some(part) = pending.pop() {
        if current.kind != Kind::Folder {
            return Err(InspectError::NotAFolder { path: shown(path) });
        }
        match &part[..] {
            b"" | b"." => continue,
            b".." => {
                if trail.len() > 1 {
                    trail.pop();
                }
                current = filesystem.inode(*trail.last().unwrap_or(&root))?;
                continue;
            }
            _ => {}
        }
        let child = folder::find(filesystem, &current, &part)?.ok_or_else(not_found)?;
        let child = filesystem.inode(child)?;
        if child.kind == Kind::Symlink && (last == Last::Followed || !pending.is_empty()) {
            hops += 1;
            if hops > LINK_HOPS_MAX {
                return Err(InspectError::TooManyLinks { path: shown(path) });
            }
            let target = filesystem.target(&child)?;
            if target.starts_with(b"/") {
                trail.truncate(1);
                current = filesystem.inode(root)?;
            }
            push(&mut pending, &target);
            continue;
        }
        if child.kind == Kind::Folder {
            trail.push(child.number);
        }
        current = child;
    }
    Ok(current)
}

/// Puts the parts of `path` before what is left to do. A slash at the end leaves an empty part, which wants a folder.
fn push(pending: &mut Vec<Vec<u8>>, path: &[u8]) {
    pending.extend(path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
}
