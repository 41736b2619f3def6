//! The EROFS on-disk format: everything but the files' bodies, written after them.
//!
//! Must not change the tree. Format: the Linux kernel's `fs/erofs/erofs_fs.h` and
//! `Documentation/filesystems/erofs.rst`; only what Linux 5.4 already reads: uncompressed, 4 KiB blocks, extended
//! inodes, inline extended attributes, inline tails.
//!
//! ```text
//! block 0: superblock | bodies of files, in the order of the layers | blocks of large folders | inodes
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::area::{Area, BLOCK};
use super::error::{UnpackError, shown};
use super::pax::Xattr;
use super::tree::{Body, Kind, Node, NodeId, ROOT, Tree};

const SUPERBLOCK_OFFSET: u64 = 1024;
const SUPERBLOCK_BYTES: usize = 128;
const MAGIC: u32 = 0xE0F5_E1E2;
/// Compatible feature: the inodes' times are modification times.
const FEATURE_MTIME: u32 = 0x2;
const INODE_BYTES: usize = 64;
/// Inode numbers count 32-byte slots.
const SLOT_BYTES: u64 = 32;
/// The first inode's offset: slot 0 would be inode number 0, which some readers take for "none".
const FIRST_INODE_OFFSET: u64 = INODE_BYTES as u64;
const DIRENT_BYTES: usize = 12;
const XATTR_HEADER_BYTES: usize = 12;
const NO_BLOCK: u32 = u32::MAX;
const LAYOUT_PLAIN: u16 = 0;
const LAYOUT_INLINE: u16 = 2;
/// Longest tail stored beside its inode. Inode and tail must share a block, so longer ones would waste more of the
/// inodes' blocks than they save elsewhere.
pub(crate) const INLINE_BYTES_MAX: usize = 2048;
/// Linux's device numbers: 12 bits of major, 20 of minor.
pub(crate) const DEVICE_MAJOR_MAX: u32 = (1 << 12) - 1;
pub(crate) const DEVICE_MINOR_MAX: u32 = (1 << 20) - 1;

/// Name prefixes that EROFS stores as an index.
const XATTR_PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// Splits an attribute's name into its prefix's index and the rest; `None` when EROFS cannot hold it.
pub(crate) fn xattr_index(name: &[u8]) -> Option<(u8, &[u8])> {
    let (index, rest) = XATTR_PREFIXES
        .iter()
        .find_map(|(index, prefix)| name.strip_prefix(*prefix).map(|rest| (*index, rest)))?;
    let is_whole_name = matches!(index, 2 | 3);
    (is_whole_name == rest.is_empty() && rest.len() <= usize::from(u8::MAX)).then_some((index, rest))
}

/// Bytes of an inode's attributes on disk.
pub(crate) fn xattr_bytes(xattrs: &[Xattr]) -> usize {
    let entries = xattrs.iter().filter_map(|x| {
        let (_, rest) = xattr_index(&x.name)?;
        Some((4 + rest.len() + x.value.len()).next_multiple_of(4))
    });
    if xattrs.is_empty() { 0 } else { XATTR_HEADER_BYTES + entries.sum::<usize>() }
}

/// Blocks of the image that a file's body takes.
pub(crate) fn body_blocks(body: &Body) -> u64 {
    if body.tail.is_some() { body.size / BLOCK as u64 } else { body.size.div_ceil(BLOCK as u64) }
}

/// Where things will be.
struct Plan {
    /// Visible inodes in the order they are written.
    order: Vec<NodeId>,
    /// By inode: offset in the area of inodes, number of names.
    offsets: Vec<u64>,
    links: Vec<u32>,
    /// By position in `order`: first block of a folder or long link that does not fit inline.
    blocks: Vec<u32>,
    /// By inode: the folder that holds a folder.
    parents: Vec<NodeId>,
    inodes_bytes: u64,
}

/// Writes folders, inodes and the superblock after the bodies; gives back the complete file.
pub(crate) fn finish(
    tree: &Tree,
    mut area: Area,
    tails: &File,
    uuid: [u8; 16],
) -> Result<(File, u64), UnpackError> {
    area.pad().map_err(UnpackError::Write)?;
    let mut plan = plan(tree);
    write_outside(tree, &mut plan, &mut area)?;
    let inodes_block = block_number(area.position())?;
    let mut position = 0;
    for at in 0..plan.order.len() {
        let id = plan.order[at];
        let offset = plan.offsets[id as usize];
        area.append_zeros(offset - position).map_err(UnpackError::Write)?;
        let bytes = inode(tree, &plan, at, tails)?;
        area.append(&bytes).map_err(UnpackError::Write)?;
        position = offset + bytes.len() as u64;
    }
    area.pad().map_err(UnpackError::Write)?;
    let blocks = block_number(area.position())?;
    let file = area.finish().map_err(UnpackError::Write)?;
    let superblock = superblock(plan.order.len() as u64, blocks, inodes_block, uuid);
    file.write_all_at(&superblock, SUPERBLOCK_OFFSET).map_err(UnpackError::Write)?;
    Ok((file, plan.order.len() as u64))
}

fn block_number(offset: u64) -> Result<u32, UnpackError> {
    u32::try_from(offset / BLOCK as u64)
        .map_err(|_| UnpackError::TooMuch { what: "too many blocks", limit: u64::from(u32::MAX) })
}

/// Numbers all visible inodes: the root first, for its number has 16 bits only, then depth first as listings read.
fn plan(tree: &Tree) -> Plan {
    let count = tree.nodes.len();
    let mut plan = Plan {
        order: Vec::new(),
        offsets: vec![0; count],
        links: vec![0; count],
        blocks: Vec::new(),
        parents: vec![ROOT; count],
        inodes_bytes: FIRST_INODE_OFFSET,
    };
    let mut pending = vec![ROOT];
    plan.links[ROOT as usize] = 2;
    while let Some(id) = pending.pop() {
        let (inline, _) = outside_or_inline(tree, id);
        let head = INODE_BYTES + xattr_bytes(&tree.node(id).xattrs);
        let bytes = (head + inline) as u64;
        let room = BLOCK as u64 - plan.inodes_bytes % BLOCK as u64;
        if bytes > room && (inline > 0 || bytes <= BLOCK as u64) {
            plan.inodes_bytes += room;
        }
        plan.offsets[id as usize] = plan.inodes_bytes;
        plan.inodes_bytes = (plan.inodes_bytes + bytes).next_multiple_of(INODE_BYTES as u64);
        plan.order.push(id);
        plan.blocks.push(NO_BLOCK);
        for child in tree.children(id).into_iter().flat_map(|c| c.values().rev()) {
            let links = &mut plan.links[child.node as usize];
            let is_new = *links == 0;
            *links += 1;
            if tree.children(child.node).is_some() {
                plan.links[child.node as usize] = 2;
                plan.links[id as usize] += 1;
                plan.parents[child.node as usize] = id;
            }
            if is_new {
                pending.push(child.node);
            }
        }
    }
    plan
}

/// Bytes an inode keeps beside itself, and whether its content needs blocks written by this module.
fn outside_or_inline(tree: &Tree, id: NodeId) -> (usize, bool) {
    let node = tree.node(id);
    let length = match &node.kind {
        Kind::File(body) => {
            let tail = if body.tail.is_some() { (body.size % BLOCK as u64) as usize } else { 0 };
            return (tail, false);
        }
        Kind::Folder(_) => folder_bytes(tree, id),
        Kind::Symlink(target) => target.len(),
        Kind::CharDevice(..) | Kind::BlockDevice(..) | Kind::Fifo => return (0, false),
    };
    if can_inline(length, &node.xattrs) { (length, false) } else { (0, true) }
}

/// Whether `length` bytes may stand beside an inode with these attributes.
pub(crate) fn can_inline(length: usize, xattrs: &[Xattr]) -> bool {
    length <= INLINE_BYTES_MAX && INODE_BYTES + xattr_bytes(xattrs) + length <= BLOCK
}

/// Names of a folder with `.` and `..`, in the byte order that look-ups rely on.
fn folder_names(tree: &Tree, id: NodeId) -> Vec<&[u8]> {
    let children = tree.children(id).expect("only folders have names");
    let mut names: Vec<&[u8]> = Vec::with_capacity(children.len() + 2);
    names.extend([&b"."[..], b".."]);
    names.extend(children.keys().map(|name| &**name));
    names.sort_unstable();
    names
}

/// How many of `names` fit into one block, and the bytes they take.
fn folder_block(names: &[&[u8]]) -> (usize, usize) {
    let mut bytes = 0;
    for (count, name) in names.iter().enumerate() {
        let next = bytes + DIRENT_BYTES + name.len();
        if next > BLOCK {
            return (count, bytes);
        }
        bytes = next;
    }
    (names.len(), bytes)
}

fn folder_bytes(tree: &Tree, id: NodeId) -> usize {
    let names = folder_names(tree, id);
    let mut rest = &names[..];
    let mut total = 0;
    loop {
        let (count, bytes) = folder_block(rest);
        rest = &rest[count..];
        if rest.is_empty() {
            return total + bytes;
        }
        total += BLOCK;
    }
}

/// Writes the contents that do not fit beside their inodes: large folders, long symbolic links.
fn write_outside(tree: &Tree, plan: &mut Plan, area: &mut Area) -> Result<(), UnpackError> {
    for at in 0..plan.order.len() {
        let id = plan.order[at];
        if !outside_or_inline(tree, id).1 {
            continue;
        }
        plan.blocks[at] = block_number(area.position())?;
        match &tree.node(id).kind {
            Kind::Symlink(target) => area.append(target),
            _ => area.append(&folder_content(tree, plan, id)),
        }
        .and_then(|()| area.pad())
        .map_err(UnpackError::Write)?;
    }
    Ok(())
}

/// A folder's blocks: entries of (inode number, offset of the name, type), then the names.
fn folder_content(tree: &Tree, plan: &Plan, id: NodeId) -> Vec<u8> {
    let children = tree.children(id).expect("only folders have entries");
    let names = folder_names(tree, id);
    let mut rest = &names[..];
    let mut content: Vec<u8> = Vec::new();
    while !rest.is_empty() {
        content.resize(content.len().next_multiple_of(BLOCK), 0);
        let (count, _) = folder_block(rest);
        let mut name_offset = count * DIRENT_BYTES;
        for &name in &rest[..count] {
            let node = match name {
                b"." => id,
                b".." => plan.parents[id as usize],
                name => children[name].node,
            };
            let number = plan.offsets[node as usize] / SLOT_BYTES;
            content.extend_from_slice(&number.to_le_bytes());
            content.extend_from_slice(&(name_offset as u16).to_le_bytes());
            content.extend_from_slice(&[dirent_type(&tree.node(node).kind), 0]);
            name_offset += name.len();
        }
        for name in &rest[..count] {
            content.extend_from_slice(name);
        }
        rest = &rest[count..];
    }
    content
}

fn dirent_type(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Folder(_) => 2,
        Kind::CharDevice(..) => 3,
        Kind::BlockDevice(..) => 4,
        Kind::Fifo => 5,
        Kind::Symlink(_) => 7,
    }
}

fn type_bits(kind: &Kind) -> u16 {
    match kind {
        Kind::Fifo => 0o010_000,
        Kind::CharDevice(..) => 0o020_000,
        Kind::Folder(_) => 0o040_000,
        Kind::BlockDevice(..) => 0o060_000,
        Kind::File(_) => 0o100_000,
        Kind::Symlink(_) => 0o120_000,
    }
}

fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// One inode with its attributes and inline content.
fn inode(tree: &Tree, plan: &Plan, at: usize, tails: &File) -> Result<Vec<u8>, UnpackError> {
    let id = plan.order[at];
    let node = tree.node(id);
    let (inline, _) = outside_or_inline(tree, id);
    let (size, place) = match &node.kind {
        Kind::File(body) => (body.size, if body_blocks(body) > 0 { body.block } else { NO_BLOCK }),
        Kind::Folder(_) => (folder_bytes(tree, id) as u64, plan.blocks[at]),
        Kind::Symlink(target) => (target.len() as u64, plan.blocks[at]),
        Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
            (0, device_number(*major, *minor))
        }
        Kind::Fifo => (0, 0),
    };
    let layout = if inline > 0 { LAYOUT_INLINE } else { LAYOUT_PLAIN };
    let xattr_bytes = xattr_bytes(&node.xattrs);
    let xattr_count = if xattr_bytes == 0 { 0 } else { (xattr_bytes - XATTR_HEADER_BYTES) / 4 + 1 };
    let mut bytes = Vec::with_capacity(INODE_BYTES + xattr_bytes + inline);
    bytes.extend_from_slice(&(layout << 1 | 1).to_le_bytes());
    bytes.extend_from_slice(&(xattr_count as u16).to_le_bytes());
    bytes.extend_from_slice(&(type_bits(&node.kind) | node.meta.mode).to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&place.to_le_bytes());
    bytes.extend_from_slice(&(at as u32 + 1).to_le_bytes());
    bytes.extend_from_slice(&node.meta.uid.to_le_bytes());
    bytes.extend_from_slice(&node.meta.gid.to_le_bytes());
    bytes.extend_from_slice(&node.meta.mtime.to_le_bytes());
    bytes.extend_from_slice(&node.meta.mtime_nanos.to_le_bytes());
    bytes.extend_from_slice(&plan.links[id as usize].to_le_bytes());
    bytes.extend_from_slice(&[0; 16]);
    put_xattrs(&mut bytes, &node.xattrs);
    debug_assert_eq!(bytes.len(), INODE_BYTES + xattr_bytes);
    if inline > 0 {
        put_inline(&mut bytes, tree, plan, id, node, tails).map_err(UnpackError::Write)?;
    }
    Ok(bytes)
}

fn put_xattrs(bytes: &mut Vec<u8>, xattrs: &[Xattr]) {
    if xattrs.is_empty() {
        return;
    }
    bytes.extend_from_slice(&[0; XATTR_HEADER_BYTES]);
    for xattr in xattrs {
        let Some((index, rest)) = xattr_index(&xattr.name) else { continue };
        bytes.extend_from_slice(&[rest.len() as u8, index]);
        bytes.extend_from_slice(&(xattr.value.len() as u16).to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(&xattr.value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
}

fn put_inline(
    bytes: &mut Vec<u8>,
    tree: &Tree,
    plan: &Plan,
    id: NodeId,
    node: &Node,
    tails: &File,
) -> io::Result<()> {
    match &node.kind {
        Kind::File(body) => {
            let start = bytes.len();
            bytes.resize(start + (body.size % BLOCK as u64) as usize, 0);
            tails.read_exact_at(&mut bytes[start..], body.tail.unwrap_or_default())?;
        }
        Kind::Symlink(target) => bytes.extend_from_slice(target),
        Kind::Folder(_) => bytes.extend_from_slice(&folder_content(tree, plan, id)),
        Kind::CharDevice(..) | Kind::BlockDevice(..) | Kind::Fifo => {}
    }
    Ok(())
}

fn superblock(inodes: u64, blocks: u32, inodes_block: u32, uuid: [u8; 16]) -> [u8; SUPERBLOCK_BYTES] {
    let mut bytes = [0u8; SUPERBLOCK_BYTES];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, &MAGIC.to_le_bytes());
    put(8, &FEATURE_MTIME.to_le_bytes());
    put(12, &[BLOCK.ilog2() as u8]);
    put(14, &((FIRST_INODE_OFFSET / SLOT_BYTES) as u16).to_le_bytes());
    put(16, &inodes.to_le_bytes());
    put(36, &blocks.to_le_bytes());
    put(40, &inodes_block.to_le_bytes());
    put(48, &uuid);
    bytes
}

/// Refuses what the format cannot hold, before anything is written.
pub(crate) fn check_device(path: &[u8], (major, minor): (u32, u32)) -> Result<(), UnpackError> {
    if major <= DEVICE_MAJOR_MAX && minor <= DEVICE_MINOR_MAX {
        return Ok(());
    }
    let why = format!("its device number {major}:{minor} does not exist");
    Err(UnpackError::BadEntry { path: shown(path), why })
}
