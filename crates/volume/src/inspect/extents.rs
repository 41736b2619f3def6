//! Where a file's content lies: its tree of extents, in order. Must not read the content.
//!
//! Every step leads forward in the file, and every node has something in it: a tree that a guest has made up is left
//! after as many steps as the file has blocks, however its nodes point to each other.

use std::sync::Arc;

use super::disk::Disk;
use super::error::{InspectError, damaged};
use super::fields::{checksum, le16, le32};
use super::inode::{Inode, PLACE_BYTES};

const MAGIC: u16 = 0xf30a;
/// Length of a node's header, and of each of its entries, bytes.
const ENTRY_BYTES: usize = 12;
/// Levels below the root: the kernel's number, enough for 2³² blocks in nodes of 1 KiB.
const DEPTH_MAX: u16 = 5;
/// Lengths beyond are those of extents that are allocated but not written, which read as zeroes.
const WRITTEN_BLOCKS_MAX: u16 = 32768;

/// Consecutive blocks. What lies between two runs is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// First block within the file.
    pub(super) logical: u64,
    /// First block on the disk.
    pub(super) physical: u64,
    pub(super) blocks: u64,
}

enum Bytes {
    Root([u8; PLACE_BYTES]),
    Block(Arc<[u8]>),
}

struct Node {
    bytes: Bytes,
    /// Entries read, and all there are.
    done: usize,
    entries: usize,
    depth: u16,
}

/// Gives the runs of one file.
pub(super) struct Runs<'d> {
    disk: &'d Disk,
    inode: u32,
    seed: Option<u32>,
    nodes: Vec<Node>,
    /// First block within the file that may come next.
    logical: u64,
}

impl Node {
    fn parse(bytes: Bytes, inode: u32) -> Result<Node, InspectError> {
        let node = match &bytes {
            Bytes::Root(root) => &root[..],
            Bytes::Block(block) => block,
        };
        let (entries, room) = (usize::from(le16(node, 2)), usize::from(le16(node, 4)));
        let depth = le16(node, 6);
        if le16(node, 0) != MAGIC
            || entries > room
            || (room + 1) * ENTRY_BYTES > node.len()
            || depth > DEPTH_MAX
        {
            return Err(broken(inode));
        }
        Ok(Node { bytes, done: 0, entries, depth })
    }

    fn next(&mut self) -> Option<[u8; ENTRY_BYTES]> {
        if self.done == self.entries {
            return None;
        }
        self.done += 1;
        let node = match &self.bytes {
            Bytes::Root(root) => &root[..],
            Bytes::Block(block) => block,
        };
        node.get(self.done * ENTRY_BYTES..)?.first_chunk().copied()
    }
}

fn broken(inode: u32) -> InspectError {
    damaged(format!("the list of blocks of inode {inode} contradicts itself"))
}

impl<'d> Runs<'d> {
    /// The runs of `inode`; `has_checksums` is what the superblock says.
    pub(super) fn new(disk: &'d Disk, inode: &Inode, has_checksums: bool) -> Result<Runs<'d>, InspectError> {
        let seed = has_checksums.then_some(inode.seed);
        let nodes = match (inode.has_extents()?, inode.size) {
            (true, _) => vec![Node::parse(Bytes::Root(inode.place), inode.number)?],
            (false, 0) => Vec::new(),
            (false, _) => return Err(InspectError::Unsupported { what: "a file in the manner of ext3" }),
        };
        Ok(Runs { disk, inode: inode.number, seed, nodes, logical: 0 })
    }

    /// The next run; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Run>, InspectError> {
        while let Some(node) = self.nodes.last_mut() {
            let depth = node.depth;
            let Some(entry) = node.next() else {
                self.nodes.pop();
                continue;
            };
            if depth > 0 {
                let child = self.child(&entry, depth)?;
                self.nodes.push(child);
            } else if let Some(run) = self.extent(&entry)? {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    fn child(&self, entry: &[u8; ENTRY_BYTES], depth: u16) -> Result<Node, InspectError> {
        let number = u64::from(le16(entry, 8)) << 32 | u64::from(le32(entry, 4));
        let bytes = self.disk.block(number)?;
        let node = Node::parse(Bytes::Block(Arc::clone(&bytes)), self.inode)?;
        // An empty node would lead nowhere, as often as somebody points to it.
        if node.depth + 1 != depth || node.entries == 0 {
            return Err(broken(self.inode));
        }
        if let Some(seed) = self.seed {
            let end = (usize::from(le16(&bytes, 4)) + 1) * ENTRY_BYTES;
            if checksum(seed, &bytes[..end]) != le32(&bytes, end) {
                return Err(damaged(format!(
                    "the checksum of a list of blocks of inode {} is wrong",
                    self.inode
                )));
            }
        }
        Ok(node)
    }

    /// A run, or none for an extent that is not written.
    fn extent(&mut self, entry: &[u8; ENTRY_BYTES]) -> Result<Option<Run>, InspectError> {
        let (logical, length) = (u64::from(le32(entry, 0)), le16(entry, 4));
        let physical = u64::from(le16(entry, 6)) << 32 | u64::from(le32(entry, 8));
        let is_written = length <= WRITTEN_BLOCKS_MAX;
        let blocks = u64::from(if is_written { length } else { length - WRITTEN_BLOCKS_MAX });
        let is_inside = physical > 0 && physical + blocks <= self.disk.blocks;
        if blocks == 0 || logical < self.logical || !is_inside {
            return Err(broken(self.inode));
        }
        self.logical = logical + blocks;
        Ok(is_written.then_some(Run { logical, physical, blocks }))
    }
}
