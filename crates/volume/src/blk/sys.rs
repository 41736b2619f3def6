//! Guest memory as pieces for system calls. Safe code will not do: pieces are addresses, as a reference to memory that a
//! guest changes at the same moment must not exist.
#![allow(unsafe_code)]

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::request::Segment;
use crate::pieces::Pieces;

/// The pieces that segments are; `None` if any of them is not the guest's memory.
pub(super) fn pieces<'memory>(
    memory: &'memory GuestMemoryMmap,
    segments: &[Segment],
) -> Option<Pieces<'memory>> {
    let mut list = Vec::with_capacity(segments.len());
    for segment in segments {
        for slice in memory.get_slices(GuestAddress(segment.address), segment.bytes as usize) {
            let slice = slice.ok()?;
            let iov_base = slice.ptr_guard_mut().as_ptr().cast();
            list.push(libc::iovec { iov_base, iov_len: slice.len() });
        }
    }
    // SAFETY: every slice lies within a mapping that `memory` owns, so it stays mapped while `memory` is borrowed, which is
    // the lifetime of the pieces; all mappings of guest memory are made to be read and written.
    Some(unsafe { Pieces::from_raw(list) })
}
