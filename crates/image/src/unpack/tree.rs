//! The merged tree of names and metadata, and the rules of OCI layers: whiteouts, opaque folders, replacement, links.
//!
//! Must not hold contents of files, only where they were put. A stranger's layers act on it, so no symbolic link leads
//! out of it and no path is followed on the host.
//!
//! Every name remembers the layer that last wrote it: a whiteout hides only what lower layers wrote, in whatever order
//! its own layer lists things (OCI image spec, "layer.md", Whiteouts).

use std::collections::BTreeMap;

use super::error::{UnpackError, shown};
use super::pax::Xattr;
use crate::limits::{Limits, NAME_BYTES_MAX, NODE_OVERHEAD_BYTES, SYMLINK_FOLLOWS_MAX};

/// Index of an inode in [`Tree::nodes`].
pub(crate) type NodeId = u32;
/// The root folder's inode.
pub(crate) const ROOT: NodeId = 0;

/// Owner, permissions and time of an inode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: i64,
    pub(crate) mtime_nanos: u32,
}

/// What a folder is that no layer lists.
const IMPLIED_FOLDER: Meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 0, mtime_nanos: 0 };

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) size: u64,
    /// First block in the image; meaningless when no block is used.
    pub(crate) block: u32,
    /// Offset in the spool of tails, when the bytes after the last whole block are there.
    pub(crate) tail: Option<u64>,
}

/// What an inode is.
#[derive(Debug)]
pub(crate) enum Kind {
    Folder(BTreeMap<Box<[u8]>, Child>),
    File(Body),
    Symlink(Box<[u8]>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

/// One name in a folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Child {
    pub(crate) node: NodeId,
    layer: u16,
}

/// One inode.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) meta: Meta,
    pub(crate) kind: Kind,
    pub(crate) xattrs: Box<[Xattr]>,
}

/// All layers so far as one tree. Inodes that lost their last name stay in `nodes` until the end.
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    layer: u16,
    depth_max: usize,
    nodes_max: u64,
    /// Memory taken by names, targets and attributes, also of what was replaced: that stays until the end.
    metadata_bytes: u64,
    metadata_bytes_max: u64,
}

/// Splits a path into its names; `.` and empty names vanish, `..` is an attempt to escape.
fn names(path: &[u8]) -> Result<Vec<&[u8]>, UnpackError> {
    let mut names = Vec::new();
    for name in path.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(UnpackError::Escapes { path: shown(path) }),
            name if name.len() > NAME_BYTES_MAX => {
                return Err(UnpackError::TooMuch {
                    what: "a name is too long",
                    limit: NAME_BYTES_MAX as u64,
                });
            }
            name if name.contains(&0) => {
                return Err(UnpackError::BadEntry {
                    path: shown(path),
                    why: "its name holds a NUL byte".into(),
                });
            }
            name => names.push(name),
        }
    }
    Ok(names)
}

fn xattrs_bytes(xattrs: &[Xattr]) -> usize {
    let overhead = NODE_OVERHEAD_BYTES as usize;
    xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len() + overhead).sum()
}

impl Tree {
    pub(crate) fn new(limits: &Limits) -> Tree {
        let root = Node { meta: IMPLIED_FOLDER, kind: Kind::Folder(BTreeMap::new()), xattrs: Box::default() };
        Tree {
            nodes: vec![root],
            layer: 0,
            depth_max: limits.depth_max,
            nodes_max: limits.entries_max,
            metadata_bytes: 0,
            metadata_bytes_max: limits.metadata_bytes_max,
        }
    }

    /// Counts memory before it is taken.
    fn charge(&mut self, bytes: usize) -> Result<(), UnpackError> {
        self.metadata_bytes = self.metadata_bytes.saturating_add(bytes as u64 + NODE_OVERHEAD_BYTES);
        if self.metadata_bytes <= self.metadata_bytes_max {
            return Ok(());
        }
        let limit = self.metadata_bytes_max;
        Err(UnpackError::TooMuch { what: "too many bytes of names, links and attributes", limit })
    }

    /// Everything from now on belongs to the next layer.
    pub(crate) fn begin_layer(&mut self) {
        self.layer += 1;
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    /// The children of a folder; `None` for anything else.
    pub(crate) fn children(&self, id: NodeId) -> Option<&BTreeMap<Box<[u8]>, Child>> {
        match &self.nodes[id as usize].kind {
            Kind::Folder(children) => Some(children),
            _ => None,
        }
    }

    fn children_mut(&mut self, id: NodeId) -> &mut BTreeMap<Box<[u8]>, Child> {
        match &mut self.nodes[id as usize].kind {
            Kind::Folder(children) => children,
            _ => unreachable!("only folders are resolved as parents"),
        }
    }

    /// Applies one entry: a whiteout, or a new inode under its name.
    pub(crate) fn insert(&mut self, path: &[u8], node: Node) -> Result<(), UnpackError> {
        let mut names = names(path)?;
        let Some(name) = names.pop() else {
            return self.set_root(path, node);
        };
        let parent = self.walk(path, &names, Missing::Create)?.expect("missing folders are created");
        self.put(parent, name, node)
    }

    /// Hides what lower layers have at `path`, whose last name is the marker itself.
    pub(crate) fn whiteout(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let mut names = names(path)?;
        let marker = names.pop().unwrap_or_default();
        if marker == OPAQUE_MARKER {
            let folder = self.walk(path, &names, Missing::Create)?.expect("missing folders are created");
            self.clear_lower(folder);
            return Ok(());
        }
        let name = marker.strip_prefix(WHITEOUT_PREFIX).unwrap_or_default();
        if matches!(name, b"" | b"." | b"..") {
            return Err(UnpackError::BadEntry {
                path: shown(path),
                why: "a whiteout that names nothing".into(),
            });
        }
        let Some(parent) = self.walk(path, &names, Missing::Stop)? else { return Ok(()) };
        let layer = self.layer;
        match self.children_mut(parent).get(name).copied() {
            None => {}
            Some(child) if child.layer < layer => {
                self.children_mut(parent).remove(name);
            }
            Some(child) if self.children(child.node).is_some() => self.clear_lower(child.node),
            Some(_) => {}
        }
        Ok(())
    }

    /// Gives the inode at `target` another name.
    pub(crate) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), UnpackError> {
        let bad = |why| UnpackError::BadLink { path: shown(path), target: shown(target), why };
        let mut target_names = names(target).map_err(|e| match e {
            UnpackError::Escapes { .. } => bad("its target escapes the root"),
            other => other,
        })?;
        let target_name = target_names.pop().ok_or_else(|| bad("its target is the root"))?;
        let folder = self.walk(target, &target_names, Missing::Stop)?;
        let node = folder.and_then(|f| self.children(f)).and_then(|c| c.get(target_name)).map(|c| c.node);
        let node = node.ok_or_else(|| bad("its target does not exist"))?;
        if self.children(node).is_some() {
            return Err(bad("its target is a folder"));
        }
        let mut link_names = names(path)?;
        let name = link_names.pop().ok_or_else(|| bad("its own name is the root"))?;
        let parent = self.walk(path, &link_names, Missing::Create)?.expect("missing folders are created");
        let layer = self.layer;
        self.charge(name.len())?;
        self.children_mut(parent).insert(name.into(), Child { node, layer });
        Ok(())
    }

    fn set_root(&mut self, path: &[u8], node: Node) -> Result<(), UnpackError> {
        if !matches!(node.kind, Kind::Folder(_)) {
            return Err(UnpackError::BadEntry { path: shown(path), why: "the root must be a folder".into() });
        }
        self.charge(xattrs_bytes(&node.xattrs))?;
        let root = &mut self.nodes[ROOT as usize];
        (root.meta, root.xattrs) = (node.meta, node.xattrs);
        Ok(())
    }

    fn put(&mut self, parent: NodeId, name: &[u8], node: Node) -> Result<(), UnpackError> {
        let layer = self.layer;
        let existing = self.children_mut(parent).get_mut(name);
        if let Some(child) = existing {
            let id = child.node;
            let is_folder_over_folder = matches!(node.kind, Kind::Folder(_)) && {
                child.layer = layer;
                self.children(id).is_some()
            };
            if is_folder_over_folder {
                self.charge(xattrs_bytes(&node.xattrs))?;
                let folder = &mut self.nodes[id as usize];
                (folder.meta, folder.xattrs) = (node.meta, node.xattrs);
                return Ok(());
            }
        }
        let id = self.add(name, node)?;
        self.children_mut(parent).insert(name.into(), Child { node: id, layer });
        Ok(())
    }

    /// Adds an inode that gets this name.
    fn add(&mut self, name: &[u8], node: Node) -> Result<NodeId, UnpackError> {
        let target = if let Kind::Symlink(target) = &node.kind { target.len() } else { 0 };
        self.charge(name.len() + target + xattrs_bytes(&node.xattrs))?;
        let too_many = |limit| UnpackError::TooMuch { what: "too many entries", limit };
        if self.nodes.len() as u64 > self.nodes_max {
            return Err(too_many(self.nodes_max));
        }
        let id = NodeId::try_from(self.nodes.len()).map_err(|_| too_many(u64::from(NodeId::MAX)))?;
        self.nodes.push(node);
        Ok(id)
    }

    /// Removes all that lower layers left in a folder, at any depth, and keeps what this layer wrote.
    fn clear_lower(&mut self, folder: NodeId) {
        let layer = self.layer;
        let mut pending = vec![folder];
        while let Some(folder) = pending.pop() {
            let children = self.children_mut(folder);
            children.retain(|_, child| child.layer >= layer);
            let kept: Vec<NodeId> = children.values().map(|c| c.node).collect();
            pending.extend(kept.into_iter().filter(|&id| self.children(id).is_some()));
        }
    }

    /// Follows `names` from the root to a folder, symbolic links included, never leaving the root.
    fn walk(
        &mut self,
        path: &[u8],
        names: &[&[u8]],
        missing: Missing,
    ) -> Result<Option<NodeId>, UnpackError> {
        let mut stack = vec![ROOT];
        let mut follows = 0;
        // Names still to follow, last one first: a link's target is pushed in front of the rest.
        let mut pending: Vec<Box<[u8]>> = names.iter().rev().map(|&n| n.into()).collect();
        while let Some(name) = pending.pop() {
            if &*name == b".." {
                stack.pop();
                if stack.is_empty() {
                    return Err(UnpackError::Escapes { path: shown(path) });
                }
                continue;
            }
            let here = *stack.last().expect("the root stays on the stack");
            let next = match self.step(path, here, &name, missing)? {
                Step::Into(folder) => folder,
                Step::Nowhere => return Ok(None),
                Step::Follow(target) => {
                    follows += 1;
                    if follows > SYMLINK_FOLLOWS_MAX {
                        let why = "its folder is a loop of symbolic links".into();
                        return Err(UnpackError::BadEntry { path: shown(path), why });
                    }
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    let parts = target.split(|&b| b == b'/').filter(|p| !p.is_empty() && *p != b".");
                    pending.extend(parts.rev().map(Box::from));
                    continue;
                }
            };
            stack.push(next);
            if stack.len() > self.depth_max {
                return Err(UnpackError::TooMuch {
                    what: "folders are nested too deep",
                    limit: self.depth_max as u64,
                });
            }
        }
        Ok(stack.last().copied())
    }

    /// One name on the way to a folder; creates or replaces it where the layer implies a folder there.
    fn step(
        &mut self,
        path: &[u8],
        here: NodeId,
        name: &[u8],
        missing: Missing,
    ) -> Result<Step, UnpackError> {
        let layer = self.layer;
        let found = self.children_mut(here).get_mut(name).map(|child| {
            let was = *child;
            if missing == Missing::Create {
                child.layer = layer;
            }
            was
        });
        if let Some(child) = found {
            match &self.node(child.node).kind {
                Kind::Folder(_) => return Ok(Step::Into(child.node)),
                Kind::Symlink(target) => {
                    let target = target.clone();
                    if let Some(own) = self.children_mut(here).get_mut(name) {
                        own.layer = child.layer;
                    }
                    return Ok(Step::Follow(target));
                }
                _ if missing == Missing::Stop => return Ok(Step::Nowhere),
                _ if child.layer >= layer => {
                    let why = format!("{:?} on its way is not a folder", shown(name));
                    return Err(UnpackError::BadEntry { path: shown(path), why });
                }
                _ => {}
            }
        } else if missing == Missing::Stop {
            return Ok(Step::Nowhere);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(UnpackError::TooMuch { what: "a name is too long", limit: NAME_BYTES_MAX as u64 });
        }
        let folder =
            Node { meta: IMPLIED_FOLDER, kind: Kind::Folder(BTreeMap::new()), xattrs: Box::default() };
        let node = self.add(name, folder)?;
        self.children_mut(here).insert(name.into(), Child { node, layer });
        Ok(Step::Into(node))
    }
}

/// What to do where a folder on the way is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Create,
    Stop,
}

enum Step {
    Into(NodeId),
    Follow(Box<[u8]>),
    Nowhere,
}

/// Names with this prefix are markers, never files (OCI image spec, "layer.md").
pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The marker that hides all of a folder's lower contents.
pub(crate) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
