//! Layers to root file system: decompression, tar, the merge of layers, EROFS.
//!
//! Must not know where layers come from (registry, archive) nor where the result is kept.
//!
//! Layers are applied bottom up in one pass. Bodies of files go straight from the decompressor to their final place
//! in the output; memory holds names and metadata only. Bodies that an upper layer hides become holes at the end.

mod area;
mod erofs;
mod error;
mod layer;
mod pax;
mod tar;
#[cfg(test)]
mod tests;
mod tree;

pub use error::UnpackError;
pub(crate) use error::{clean, is_disk_full};
pub(crate) use layer::{LayerSource, Unpacker, decompressed, is_compressed};
pub(crate) use tar::{EntryKind, TarReader};
