//! The names of a volume's files, within its folder.
//!
//! ```text
//! disk.img        the disk as it is now
//! volume.json     what the volume is: its identity, its base, its snapshots
//! readers         nothing; locks on it are holds on the history, and pins of checkpoints
//! intents         regions that may hold what no checkpoint has, and how far the history certainly goes
//! log/N.merged    segments that stand for many, before all others
//! log/N.log       segments from checkpoint N on, in order
//! base/N.folded   blocks as they were at the base, which a fold has put together, before all others
//! base/N.base     blocks as they were at the base, for the disk has changed there; lower numbers first
//! ```

/// The disk.
pub const DISK: &str = "disk.img";
/// The description.
pub const MANIFEST: &str = "volume.json";
/// The write-intent map.
pub const INTENTS: &str = "intents";
/// The file whose locks say what of the history must stay.
pub const READERS: &str = "readers";
/// The folder of segments.
pub const LOG: &str = "log";
/// The folder of the base's blocks.
pub const BASE: &str = "base";

const LOG_ENDING: &str = ".log";
const MERGED_ENDING: &str = ".merged";
const FOLDED_ENDING: &str = ".folded";
const BASE_ENDING: &str = ".base";

/// The file of segments from a checkpoint on.
#[must_use]
pub fn log_file(seq: u64) -> String {
    format!("{LOG}/{seq:020}{LOG_ENDING}")
}

/// A file of base blocks.
#[must_use]
pub fn base_file(number: u64) -> String {
    format!("{BASE}/{number:020}{BASE_ENDING}")
}

/// A file of merged segments.
#[must_use]
pub fn merged_file(number: u64) -> String {
    format!("{LOG}/{number:020}{MERGED_ENDING}")
}

/// A file of base blocks that a fold has put together.
#[must_use]
pub fn folded_file(number: u64) -> String {
    format!("{BASE}/{number:020}{FOLDED_ENDING}")
}

/// The numbers of such files among the names in [`BASE`], in order.
#[must_use]
pub fn folded_numbers(names: &[String]) -> Vec<u64> {
    numbers(names, FOLDED_ENDING)
}

/// The numbers of merged files among the names in [`LOG`], in order.
#[must_use]
pub fn merged_numbers(names: &[String]) -> Vec<u64> {
    numbers(names, MERGED_ENDING)
}

/// The numbers among the names in [`LOG`], in order.
#[must_use]
pub fn log_numbers(names: &[String]) -> Vec<u64> {
    numbers(names, LOG_ENDING)
}

/// The numbers among the names in [`BASE`], in order.
#[must_use]
pub fn base_numbers(names: &[String]) -> Vec<u64> {
    numbers(names, BASE_ENDING)
}

fn numbers(names: &[String], ending: &str) -> Vec<u64> {
    let number = |name: &String| name.strip_suffix(ending)?.parse().ok();
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}
