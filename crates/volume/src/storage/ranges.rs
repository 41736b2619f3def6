//! Locks on single bytes of a file (`F_OFD_SETLK`, fcntl(2)): they end with the open file, however its process ends, and
//! who may only read the file can have them.

mod sys;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use sys::call;

/// Locks that are looked for: who has the file open could have any number, to keep others busy.
const FOUND_MAX: usize = 256;

/// Locks the byte at `at`; others may do the same.
pub(super) fn share(file: &File, at: u64) -> io::Result<()> {
    call(file, libc::F_OFD_SETLK, &mut range(libc::F_RDLCK, offset(at)?, 1))
}

/// The bytes that somebody has locked, at most [`FOUND_MAX`].
pub(super) fn shared(file: &File) -> io::Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    // Which of several locks is told of is not said: what lies on both of its sides is looked at by itself.
    let mut open = vec![(0, libc::off_t::MAX)];
    while let Some((start, end)) = open.pop() {
        if start >= end || found.len() >= FOUND_MAX {
            continue;
        }
        let mut asked = range(libc::F_WRLCK, start, end - start);
        call(file, libc::F_OFD_GETLK, &mut asked)?;
        if libc::c_int::from(asked.l_type) == libc::F_UNLCK {
            continue;
        }
        // No more than a byte is believed of what others could have made as long as they like.
        let at = asked.l_start.clamp(start, end - 1);
        found.insert(u64::try_from(at).unwrap_or_default());
        open.push((start, at));
        open.push((at.saturating_add(1), end));
    }
    Ok(found)
}

fn offset(at: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(at).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn range(kind: libc::c_int, start: libc::off_t, length: libc::off_t) -> libc::flock {
    let l_type = libc::c_short::try_from(kind).unwrap_or_default();
    let l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default();
    libc::flock { l_type, l_whence, l_start: start, l_len: length, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_end_with_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("readers");
        let open = || File::options().read(true).open(&path).unwrap();
        File::create(&path).unwrap();
        let (look, first, second, third) = (open(), open(), open(), open());
        assert_eq!(shared(&look).unwrap(), BTreeSet::new());
        share(&first, 7).unwrap();
        share(&second, 7).unwrap();
        share(&second, 0).unwrap();
        share(&third, 1 << 40).unwrap();
        assert_eq!(shared(&look).unwrap(), BTreeSet::from([0, 7, 1 << 40]));
        drop(first);
        assert_eq!(shared(&look).unwrap(), BTreeSet::from([0, 7, 1 << 40]));
        drop(second);
        assert_eq!(shared(&look).unwrap(), BTreeSet::from([1 << 40]));
        share(&third, u64::MAX).unwrap_err();
        let many: Vec<File> = (0..2 * FOUND_MAX).map(|_| open()).collect();
        many.iter().zip(0..).for_each(|(file, at)| share(file, at).unwrap());
        assert_eq!(shared(&look).unwrap().len(), FOUND_MAX);
    }
}
