//! Writes the `newc` cpio format that the kernel unpacks as initramfs (kernel documentation,
//! `driver-api/early-userspace/buffer-format`). Owns the byte layout; what goes in is the caller's.

/// An archive being built in memory: an initramfs of lith is a few MB.
pub(super) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

/// File type and permission bits, as in `st_mode`.
const MODE_FOLDER: u32 = 0o040_755;
const MODE_PROGRAM: u32 = 0o100_755;
const MODE_FILE: u32 = 0o100_644;
/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

impl Archive {
    pub(super) fn new() -> Archive {
        Archive { bytes: Vec::new(), inode: 0 }
    }

    pub(super) fn folder(&mut self, name: &str) {
        self.entry(name, MODE_FOLDER, &[]);
    }

    pub(super) fn program(&mut self, name: &str, content: &[u8]) {
        self.entry(name, MODE_PROGRAM, content);
    }

    pub(super) fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, MODE_FILE, content);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let links = 1;
        let size = u32::try_from(content.len())
            .expect("contents are bounded far below 4 GiB by the module size limit");
        let name_size = u32::try_from(name.len() + 1).expect("names are made here and short");
        self.bytes.extend_from_slice(b"070701");
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check.
        // Time zero keeps the archive a pure function of its content.
        for field in [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That the kernel reads it is shown by every test that boots a guest.
    #[test]
    fn the_layout_is_newc() {
        let mut archive = Archive::new();
        archive.program("init", b"abcde");
        let bytes = archive.finish();
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[14..22], b"000081ED");
        assert_eq!(&bytes[110..115], b"init\0");
        assert_eq!(&bytes[116..121], b"abcde");
        assert_eq!(bytes.len() % 4, 0);
    }
}
