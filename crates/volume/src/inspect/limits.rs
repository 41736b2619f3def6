//! How much of a volume is looked at: what a guest has written must not decide over this side's memory and time.

/// What a caller allows one call. What is beyond the bound is an error, never a shorter answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, folders and everything else with a name.
    pub entries_max: u64,
    /// Bytes of files. Holes count as the zeroes that are handed out for them: a file without any block may claim 16 TiB.
    pub bytes_max: u64,
}

/// Largest block, bytes: what the kernel accepts on a machine with pages of 64 KiB.
pub(super) const BLOCK_BYTES_MAX: u32 = 64 << 10;
/// Blocks of metadata one call may look at, for each block of the file system: a folder's block is read once, an inode's
/// and its group's block once for each name, and names cannot be more than about twenty for each block of all.
pub(super) const VISITS_PER_BLOCK: u64 = 64;
/// The same for a file system of any size: resolving a path costs something where there is little to read.
pub(super) const VISITS_MIN: u64 = 1 << 20;
/// Symbolic links on the way of one path: the kernel's number.
pub(super) const LINK_HOPS_MAX: u32 = 40;
/// Longest target of a symbolic link, bytes: the kernel's `PATH_MAX`.
pub(super) const LINK_BYTES_MAX: u64 = 4096;
/// Longest path, bytes. More than `PATH_MAX`: a program that goes down step by step makes longer ones.
pub(super) const PATH_BYTES_MAX: usize = 64 << 10;
/// Memory for names of folders that are open at once, bytes. A folder is read whole, to be sorted: this is about four
/// million names in one.
pub(super) const NAMES_BYTES_MAX: u64 = 256 << 20;
/// What a name costs beside its own bytes, at least.
pub(super) const NAME_BYTES_EXTRA: u64 = 32;
/// Folders of one walk: their numbers are remembered, so that none is entered twice. About 100 MiB.
pub(super) const FOLDERS_MAX: usize = 4 << 20;
/// Memory for the paths of files with several names, bytes. The files beyond are archived once for each name.
pub(super) const LINKED_BYTES_MAX: usize = 64 << 20;
/// Blocks of a journal: four times the most that `mkfs.ext4` makes by itself.
pub(super) const JOURNAL_BLOCKS_MAX: u32 = 1 << 20;
/// Blocks that a journal revokes. Each costs 16 bytes here; the kernel has one record for each block it has freed.
pub(super) const REVOKED_MAX: usize = 4 << 20;
/// Bytes of a file that are read at once.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// Entries of which a [`super::entry::Summary`] says why they were left out.
pub(super) const SKIPPED_TOLD_MAX: usize = 100;
