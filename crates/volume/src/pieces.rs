//! Memory in pieces, as a request of a guest scatters it. Owns the arithmetic on the list; what is in the memory may be
//! changed by the guest at any moment, so nobody ever has a reference to it: it is handed to system calls, or copied.

pub mod sys;

use std::marker::PhantomData;

/// Pieces of memory that stay mapped for `'memory`.
#[derive(Debug)]
pub struct Pieces<'memory> {
    list: Vec<libc::iovec>,
    bytes: usize,
    memory: PhantomData<&'memory ()>,
}

impl<'memory> Pieces<'memory> {
    /// One piece, to be read from.
    #[must_use]
    pub fn of(memory: &'memory [u8]) -> Self {
        // The pointer is never written through: who writes into pieces made them from memory that may be written.
        Self::new(vec![libc::iovec { iov_base: memory.as_ptr().cast_mut().cast(), iov_len: memory.len() }])
    }

    /// One piece, to be written to.
    #[must_use]
    pub fn of_mut(memory: &'memory mut [u8]) -> Self {
        Self::new(vec![libc::iovec { iov_base: memory.as_mut_ptr().cast(), iov_len: memory.len() }])
    }

    fn new(mut list: Vec<libc::iovec>) -> Self {
        list.retain(|piece| piece.iov_len > 0);
        let bytes = list.iter().map(|piece| piece.iov_len).sum();
        Self { list, bytes, memory: PhantomData }
    }

    /// All bytes of all pieces.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pieces that hold `count` bytes from `from` on, counted over all pieces.
    #[must_use]
    pub fn part(&self, from: usize, count: usize) -> Pieces<'memory> {
        let (mut skip, mut left) = (from, count);
        let mut list = Vec::new();
        for piece in &self.list {
            if left == 0 {
                break;
            }
            if skip >= piece.iov_len {
                skip -= piece.iov_len;
                continue;
            }
            let length = (piece.iov_len - skip).min(left);
            let iov_base = piece.iov_base.wrapping_byte_add(skip);
            list.push(libc::iovec { iov_base, iov_len: length });
            (skip, left) = (0, left - length);
        }
        Self::new(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Patience;

    #[test]
    fn a_part_is_cut_out_of_the_pieces() {
        let memory: Vec<u8> = (0..30).collect();
        let list = [0..4, 10..20, 25..30].map(|range| &memory[range]);
        let list =
            list.map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
        let pieces = Pieces::new(list.to_vec());
        assert_eq!(pieces.bytes(), 19);
        let text = |pieces: &Pieces| {
            let mut bytes = vec![0; pieces.bytes()];
            pieces.copy_out(&mut bytes);
            bytes
        };
        assert_eq!(text(&pieces.part(2, 5)), [2, 3, 10, 11, 12]);
        assert_eq!(text(&pieces.part(13, 99)), [19, 25, 26, 27, 28, 29]);
        assert_eq!(pieces.part(19, 1).bytes(), 0);
    }

    #[test]
    fn a_file_system_that_always_waits_is_waited_for() {
        let create = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::empty());
        let file = std::fs::File::from(create.unwrap());
        sys::write_at(&file, 0, &Pieces::of(&[7; 100])).unwrap();
        let mut read = [0; 100];
        // Newer kernels may know what is in memory.
        if let Err(error) = sys::read_at(&file, 0, &Pieces::of_mut(&mut read), Patience::Now) {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            sys::read_at(&file, 0, &Pieces::of_mut(&mut read), Patience::Waits).unwrap();
        }
        assert_eq!(read, [7; 100]);
    }
}
