//! What the journal holds and its place does not yet: as the kernel would have it, which `e2fsck` does as well.

use std::fs;
use std::sync::Arc;

use crate::image::{Image, Memory, paths, read, run};
use lith_volume::inspect::settled::Settled;
use lith_volume::inspect::walk::Depth;

const BLOCK: usize = 1024;
const CONTENT: &[u8] = b"as it lies on the disk";

/// An image whose journal is written by hand, with files of one block each.
struct Journaled {
    image: Image,
    commands: Vec<String>,
    copies: usize,
}

impl Journaled {
    fn new(options: &[&str]) -> Journaled {
        let image = Image::new();
        for name in ["a", "b", "c"] {
            image.write(name, [CONTENT, &[b'.'; BLOCK]].concat().get(..BLOCK).unwrap());
        }
        let options = [&["-b", "1024", "-J", "size=1"], options].concat();
        image.make(16, &options);
        Journaled { image, commands: vec!["jo -c".to_owned()], copies: 0 }
    }

    fn block(&self, path: &str) -> u64 {
        self.image.blocks(&format!("/data/{path}"))[0]
    }

    /// A transaction that writes blocks.
    fn write(&mut self, writes: &[(u64, Vec<u8>)], option: &str) {
        let blocks: Vec<String> = writes.iter().map(|(block, _)| block.to_string()).collect();
        self.copies += 1;
        let copies = self.image.folder.path().join(format!("copies-{}", self.copies));
        let bytes: Vec<u8> = writes.iter().flat_map(|(_, bytes)| filled(bytes)).collect();
        fs::write(&copies, bytes).unwrap();
        self.commands.push(format!("jw -b {} {option} {}", blocks.join(","), copies.display()));
    }

    fn revoke(&mut self, block: u64) {
        self.commands.push(format!("jw -r {block} /dev/null"));
    }

    fn done(&mut self) {
        self.commands.push("jc".to_owned());
        let commands: Vec<&str> = self.commands.iter().map(String::as_str).collect();
        let said = self.image.debugfs(&commands);
        assert!(!said.contains("usage"), "{said}");
    }

    /// Compares with an image in which everything is in its place.
    fn check(&self, path: &str, expected: &[u8]) {
        let replayed = self.image.folder.path().join("replayed");
        fs::copy(self.image.path(), &replayed).unwrap();
        let replayed = replayed.to_str().unwrap();
        run("e2fsck", &["-fy", "-E", "journal_only", replayed]);
        let theirs = run("debugfs", &["-R", &format!("cat /data/{path}"), replayed]).stdout;
        assert!(theirs.starts_with(expected), "{path}: {:?}", &theirs[..expected.len().min(theirs.len())]);
        assert!(read(&self.image.view(), path) == theirs, "{path}");
        self.check_settled(&fs::read(replayed).unwrap());
    }

    /// The disk as a kernel is shown it that may not write: each block as after the journal. Where the journal itself is,
    /// and in the superblock, is noted that it was replayed.
    fn check_settled(&self, replayed: &[u8]) {
        let settled = Settled::open(Box::new(Memory(Arc::new(self.image.bytes()))), "/data").unwrap();
        let mut content = vec![0; usize::try_from(settled.bytes()).unwrap()];
        // In pieces that begin and end anywhere.
        for (index, piece) in content.chunks_mut(5 * 512).enumerate() {
            settled.read_at(index as u64 * 5 * 512, piece).unwrap();
        }
        let mut noted = self.image.blocks("<8>");
        noted.push(1);
        for (number, (ours, theirs)) in content.chunks(BLOCK).zip(replayed.chunks(BLOCK)).enumerate() {
            assert!(ours == theirs || noted.contains(&(number as u64)), "block {number}");
        }
        let beyond = settled.bytes();
        settled.read_at(beyond, &mut [0; 512]).unwrap_err();
    }
}

fn filled(bytes: &[u8]) -> Vec<u8> {
    let mut block = bytes.to_vec();
    block.resize(BLOCK, b'_');
    block
}

#[test]
fn the_newest_copy_counts() {
    // Without checksums of metadata, the journal has none either, and shorter tags.
    for options in [&[][..], &["-O", "^metadata_csum"], &["-O", "^metadata_csum,^64bit"]] {
        let mut journaled = Journaled::new(options);
        let (a, b) = (journaled.block("a"), journaled.block("b"));
        journaled.write(&[(a, b"one".to_vec()), (b, b"other".to_vec())], "");
        journaled.write(&[(a, b"two".to_vec())], "");
        journaled.done();
        journaled.check("a", b"two");
        journaled.check("b", b"other");
        journaled.check("c", CONTENT);
    }
}

#[test]
fn what_is_not_committed_does_not_count() {
    let mut journaled = Journaled::new(&[]);
    let a = journaled.block("a");
    journaled.write(&[(a, b"one".to_vec())], "");
    journaled.write(&[(a, b"two".to_vec())], "-c");
    journaled.done();
    journaled.check("a", b"one");
}

#[test]
fn what_is_freed_is_not_taken_from_before() {
    let mut journaled = Journaled::new(&[]);
    let (a, b) = (journaled.block("a"), journaled.block("b"));
    journaled.write(&[(a, b"one".to_vec()), (b, b"one".to_vec())], "");
    journaled.revoke(a);
    journaled.revoke(b);
    journaled.write(&[(b, b"two".to_vec())], "");
    journaled.done();
    journaled.check("a", CONTENT);
    journaled.check("b", b"two");
}

#[test]
fn a_block_that_looks_like_the_journals_own() {
    let mut journaled = Journaled::new(&[]);
    let a = journaled.block("a");
    let content = b"\xc0\x3b\x39\x98 is where it begins";
    journaled.write(&[(a, content.to_vec())], "");
    journaled.done();
    journaled.check("a", content);
}

#[test]
fn the_log_is_a_ring() {
    let mut journaled = Journaled::new(&["-O", "^metadata_csum"]);
    let (a, b) = (journaled.block("a"), journaled.block("b"));
    journaled.write(&[(a, b"one".to_vec()), (b, b"two".to_vec())], "");
    journaled.write(&[(a, b"three".to_vec())], "");
    journaled.done();
    // Descriptor, two copies, commit; descriptor, copy, commit. Turned so that the end lies within.
    let places = journaled.image.blocks("<8>");
    for before_end in 1..7 {
        let mut bytes = journaled.image.bytes();
        let original = bytes.clone();
        let place = |logical: usize| places[logical] as usize * BLOCK..(places[logical] as usize + 1) * BLOCK;
        let start = 1024 - before_end;
        for offset in 0..7 {
            let logical = if start + offset < 1024 { start + offset } else { start + offset - 1023 };
            bytes[place(logical)].copy_from_slice(&original[place(1 + offset)]);
        }
        for offset in 0..7 {
            let logical = 1 + offset;
            // What is not overwritten is old.
            if logical >= 1 + 7 - before_end {
                bytes[place(logical)].fill(0);
            }
        }
        let superblock = place(0).start;
        assert_eq!(bytes[superblock + 16..superblock + 24], [0, 0, 4, 0, 0, 0, 0, 1]);
        bytes[superblock + 28..superblock + 32].copy_from_slice(&(start as u32).to_be_bytes());
        fs::write(journaled.image.path(), &bytes).unwrap();
        journaled.check("a", b"three");
        journaled.check("b", b"two");
        fs::write(journaled.image.path(), &original).unwrap();
    }
}

#[test]
fn metadata_is_taken_from_the_journal() {
    let mut journaled = Journaled::new(&[]);
    // A copy in which the folder has another file: what differs is what a kernel would have logged.
    let before = journaled.image.bytes();
    journaled.image.write("later", "later");
    let source = journaled.image.data("later");
    journaled.image.debugfs(&["cd /data", &format!("write {} later", source.display()), "rm a"]);
    let after = journaled.image.bytes();
    fs::write(journaled.image.path(), &before).unwrap();
    let blocks = before.chunks(BLOCK).zip(after.chunks(BLOCK)).enumerate();
    let changed: Vec<(u64, Vec<u8>)> = blocks
        .filter(|(_, (one, other))| one != other)
        .map(|(block, (_, other))| (block as u64, other.to_vec()))
        .collect();
    // The superblock is among them: the kernel's own copy says that the journal is in use.
    let changed: Vec<_> = changed.into_iter().filter(|(block, _)| *block != 1).collect();
    journaled.write(&changed, "");
    journaled.done();
    let view = journaled.image.view();
    assert_eq!(paths(&view, "/", Depth::Folder), ["b", "c", "later"]);
    assert_eq!(read(&view, "later"), b"later");
    journaled.check("later", b"later");
}

#[test]
fn a_damaged_copy_is_no_content() {
    let mut journaled = Journaled::new(&[]);
    let a = journaled.block("a");
    journaled.write(&[(a, b"one".to_vec())], "");
    journaled.done();
    let places = journaled.image.blocks("<8>");
    let mut bytes = journaled.image.bytes();
    let flip = |bytes: &mut Vec<u8>, logical: usize| bytes[places[logical] as usize * BLOCK + 500] ^= 1;
    // The copy: the transaction is committed, and cannot be had.
    flip(&mut bytes, 2);
    let open = |bytes: &[u8]| {
        let memory = crate::image::Memory(std::sync::Arc::new(bytes.to_vec()));
        lith_volume::inspect::View::open(Box::new(memory), "/data", crate::image::LIMITS)
    };
    let text = open(&bytes).err().unwrap().to_string();
    assert!(text.contains("the journal's copy of block"), "{text}");
    flip(&mut bytes, 2);
    // The commit: it has never happened.
    flip(&mut bytes, 3);
    assert!(read(&open(&bytes).unwrap(), "a").starts_with(CONTENT));
}
