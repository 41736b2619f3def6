//! Bounds on what an image may ask of this machine. Every input here was written by a stranger.
//!
//! Must not decide what happens at a bound: the parsers refuse with their own errors.

/// Bytes of one path inside an image: Linux's own `PATH_MAX`, so nothing longer could be used anyway.
pub(crate) const PATH_BYTES_MAX: usize = 4096;
/// Bytes of one name in a path: Linux's `NAME_MAX`.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// Bytes of a symbolic link's target: `PATH_MAX` less the final NUL.
pub(crate) const SYMLINK_BYTES_MAX: usize = 4095;
/// Symbolic links followed to reach one entry's folder: the kernel's own bound.
pub(crate) const SYMLINK_FOLLOWS_MAX: usize = 40;
/// Bytes of one PAX or GNU extension header. File capabilities and ACLs take hundreds of bytes, paths 4 KiB.
pub(crate) const EXTENSION_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a number in a sparse file's map: what 64 bits have in decimal.
pub(crate) const SPARSE_DIGITS_MAX: usize = 20;
/// Bytes of all extended attributes of one entry, as `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` in Linux.
pub(crate) const XATTR_BYTES_MAX: usize = 64 * 1024;
/// What an attribute counts for beside its name and value: its header on disk, about.
pub(crate) const XATTR_OVERHEAD_BYTES: usize = 8;
/// Data runs of one sparse file; its map stays in memory while the file is read.
pub(crate) const SPARSE_RUNS_MAX: usize = 65_536;
/// Layers of one image. Docker's own storage stops at 127.
pub(crate) const LAYERS_MAX: usize = 512;
/// Bytes of a manifest, index or config: what registries accept at most.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Memory that an inode or a name takes beside its own bytes: what a stranger's many tiny ones cost.
pub(crate) const NODE_OVERHEAD_BYTES: u64 = 64;
/// Bytes an image may unpack to before its compression ratio is looked at: small images of zeros are harmless.
pub(crate) const RATIO_FREE_BYTES: u64 = 1024 * 1024 * 1024;

/// Adjustable bounds for unpacking one image; the defaults fit every honest server image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Entries in all layers together, and inodes, those of folders that no layer lists included.
    pub entries_max: u64,
    /// Memory for names, link targets and extended attributes in all layers together, also of what upper layers replace.
    pub metadata_bytes_max: u64,
    /// Bytes of all file contents together, as the files claim them (holes count).
    pub content_bytes_max: u64,
    /// Bytes of all layers' uncompressed streams together.
    pub stream_bytes_max: u64,
    /// Folders above an entry.
    pub depth_max: usize,
    /// Uncompressed over compressed bytes of all layers so far, once they are past `ratio_free_bytes`.
    pub ratio_max: u64,
    /// Uncompressed bytes of an image below which the ratio does not matter.
    pub ratio_free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            entries_max: 2_000_000,
            metadata_bytes_max: 512 << 20,
            content_bytes_max: 128 << 30,
            stream_bytes_max: 128 << 30,
            depth_max: 256,
            ratio_max: 250,
            ratio_free_bytes: RATIO_FREE_BYTES,
        }
    }
}
