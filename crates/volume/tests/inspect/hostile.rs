//! Images that no kernel has made: no end of the program, no endless work.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lith_volume::inspect::View;
use lith_volume::inspect::entry::Kind;
use lith_volume::inspect::error::InspectError;
use lith_volume::inspect::limits::Limits;
use lith_volume::inspect::walk::Depth;

use crate::image::{Image, Memory, archived, export, list, paths, run};

/// Numbers that repeat with their seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A small image with everything that has a form of its own.
fn small(options: &[&str], has_journal: bool) -> (Vec<u8>, Vec<u64>) {
    let image = Image::new();
    for number in 0..60 {
        image.write(&format!("d/folder/{number:060}"), format!("{number}"));
    }
    let sparse = File::create(image.data("sparse")).unwrap();
    for number in (1..120).step_by(2) {
        sparse.write_all_at(&[7; 1024], number * 4096).unwrap();
    }
    image.write("plain", vec![1; 9000]);
    fs::hard_link(image.data("plain"), image.data("d/plain")).unwrap();
    symlink("d/folder", image.data("short")).unwrap();
    symlink("d/".repeat(100), image.data("long")).unwrap();
    image.make(4, &[&["-b", "1024", "-N", "128", "-O", "^resize_inode"], options].concat());
    run("e2fsck", &["-fyD", &image.path_text()]);
    image.debugfs(&[
        &format!("ea_set /data/plain user.long {}", "v".repeat(400)),
        "ea_set /data/plain user.short v",
        "mknod /data/null c 1 3",
    ]);
    if has_journal {
        let copies = image.folder.path().join("copies");
        let root = image.blocks("/data")[0];
        let bytes = image.bytes();
        fs::write(&copies, &bytes[root as usize * 1024..][..1024]).unwrap();
        let write = format!("jw -b {root} {}", copies.display());
        image.debugfs(&["jo -c", &write, "jw -r 4000 /dev/null", &write, "jc"]);
    }
    // Everything but the content of files.
    let mut metadata: Vec<u64> = vec![1, 2];
    let text = run("debugfs", &["-R", "stats", &image.path_text()]).stdout;
    let text = String::from_utf8(text).unwrap();
    let table = text.split("inode table at ").nth(1).unwrap().split_whitespace().next().unwrap();
    let table: u64 = table.trim_end_matches(',').parse().unwrap();
    metadata.extend(table..table + 128 * 256 / 1024);
    for folder in ["/", "/data", "/data/d", "/data/d/folder", "/data/long"] {
        metadata.extend(image.blocks(folder));
    }
    if has_journal {
        metadata.extend(image.blocks("<8>").into_iter().take(10));
    }
    let bytes = image.bytes();
    let nodes = bytes.chunks(1024).enumerate();
    metadata.extend(
        nodes
            .filter(|(_, block)| block.starts_with(&[0x0a, 0xf3]) || block.starts_with(&[0, 0, 2, 0xea]))
            .map(|(block, _)| block as u64),
    );
    (bytes, metadata)
}

fn mutate(bytes: &mut [u8], metadata: &[u64], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let block = metadata[random.below(metadata.len() as u64) as usize] as usize * 1024;
        let at = block + random.below(1024) as usize;
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes[at & !3..][..4].copy_from_slice(&(random.below(4200) as u32).to_le_bytes()),
            3 => {
                let value = [0, 1, 0x7fff, 0x8000, 0xffff, 0xf30a][random.below(6) as usize] as u16;
                bytes[at & !1..][..2].copy_from_slice(&value.to_le_bytes());
            }
            _ => {
                // A whole structure from elsewhere: what is valid in itself goes further.
                let other = metadata[random.below(metadata.len() as u64) as usize] as usize * 1024;
                let length: usize = [12, 60, 256, 1024][random.below(4) as usize];
                let start = at & !(length.next_power_of_two().min(1024) - 1);
                let source = bytes[other..][..length].to_vec();
                bytes[start..][..length].copy_from_slice(&source);
            }
        }
    }
}

/// Does everything there is to do; gives how many entries were found.
fn exercise(bytes: Vec<u8>) -> Result<u64, InspectError> {
    let limits = Limits { entries_max: 10_000, bytes_max: 8 << 20 };
    let view = View::open(Box::new(Memory(Arc::new(bytes))), "/data", limits)?;
    let _ = view.read(b"short/../../sparse", &mut io::sink());
    let _ = view.list(b"long", Depth::Folder, &mut |_| Ok(()));
    let listed = view.list(b"", Depth::Tree, &mut |_| Ok(()))?;
    let exported = view.export(b"", &mut io::sink())?;
    Ok(listed.entries.min(exported.entries))
}

fn check_mutations(options: &[&str], has_journal: bool, count: u64) {
    let (bytes, metadata) = small(options, has_journal);
    let sound = exercise(bytes.clone()).unwrap();
    assert_eq!(sound, 67);
    let (mut whole, mut partial, mut failed) = (0, 0, 0);
    let mut slowest = (Duration::ZERO, 0);
    for seed in 1..=count {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut mutated = bytes.clone();
        mutate(&mut mutated, &metadata, &mut random);
        let start = Instant::now();
        match exercise(mutated) {
            Ok(entries) if entries >= sound => whole += 1,
            Ok(_) => partial += 1,
            Err(_) => failed += 1,
        }
        slowest = slowest.max((start.elapsed(), seed));
    }
    println!("{options:?}: {whole} whole, {partial} partial, {failed} failed, slowest {slowest:?}");
    assert!(slowest.0 < Duration::from_secs(5), "{slowest:?}");
    // The damage reaches beyond the first check.
    assert!(whole > 0 && partial > 0 && failed > 0);
}

#[test]
fn damage_at_random() {
    check_mutations(&["-O", "^metadata_csum,^has_journal"], false, 4000);
    check_mutations(&["-O", "^metadata_csum"], true, 3000);
    check_mutations(&[], true, 1000);
}

#[test]
fn noise_behind_a_sound_superblock() {
    let (bytes, _) = small(&["-O", "^metadata_csum,^has_journal"], false);
    for seed in 1..200 {
        let mut random = Random(seed);
        let mut noisy = bytes.clone();
        for chunk in noisy[2048..].chunks_exact_mut(8) {
            chunk.copy_from_slice(&random.next().to_le_bytes());
        }
        assert!(exercise(noisy).is_err());
    }
    for length in (0..bytes.len()).step_by(7919) {
        assert!(exercise(bytes[..length].to_vec()).is_err());
    }
}

#[test]
fn a_folder_within_itself() {
    let image = Image::new();
    image.write("a/b/file", "x");
    image.write("other/file", "x");
    image.make(16, &[]);
    image.debugfs(&["ln /data /data/a/b/loop", "ln /data/a /data/other/again"]);
    let view = image.view();
    let (_, summary) = list(&view, "", Depth::Tree);
    assert_eq!(paths(&view, "", Depth::Tree), ["a", "a/b", "a/b/file", "other", "other/file"]);
    let skipped: Vec<_> = summary.first_skipped.iter().map(|skipped| skipped.path.as_slice()).collect();
    assert_eq!((summary.skipped, &skipped[..]), (2, &[&b"a/b/loop"[..], b"other/again"][..]));
    assert!(summary.first_skipped[0].why.ends_with("is in two places"));
    assert_eq!(export(&view, "").1.skipped, 2);
    // A path is as long as whoever asks makes it.
    assert_eq!(paths(&view, &"a/b/loop/".repeat(1000), Depth::Folder), ["a", "other"]);
}

#[test]
fn a_name_that_is_there_twice() {
    let image = Image::new();
    image.write("name-1/passwd", "x");
    symlink("/etc", image.data("name-2")).unwrap();
    image.make(16, &["-O", "^metadata_csum"]);
    let mut bytes = image.bytes();
    let at = bytes.windows(6).position(|window| window == b"name-2").unwrap();
    bytes[at + 5] = b'1';
    fs::write(image.path(), bytes).unwrap();
    let view = image.view();
    let (bytes, summary) = export(&view, "");
    assert_eq!(summary.skipped, 1, "{summary:?}");
    let entries = archived(&bytes);
    let is_folder = view.entry(b"name-1").unwrap().kind == Kind::Folder;
    assert_eq!(entries.contains_key(Path::new("name-1/passwd")), is_folder);
    assert_eq!(entries.len(), if is_folder { 3 } else { 2 });
}

#[test]
fn sizes_that_cannot_be() {
    let image = Image::new();
    image.write("sparse", "x");
    image.write("beyond", "x");
    symlink("t".repeat(100), image.data("link")).unwrap();
    image.write("sub/file", "x");
    image.make(16, &["-b", "4096"]);
    image.debugfs(&[
        "sif /data/sparse size 17592186044415",
        "sif /data/beyond size 0x7fffffffffffffff",
        "sif /data/link size 0xfffff000",
        "sif /data/sub size 0xfffff000",
    ]);
    let view = image.view();
    assert_eq!(view.entry(b"sparse").unwrap().size, 17_592_186_044_415);
    let error = view.read(b"sparse", &mut io::sink()).unwrap_err();
    assert!(matches!(error, InspectError::TooMuch { .. }), "{error}");
    let unbounded = Limits { entries_max: 100, bytes_max: u64::MAX };
    let view = View::open(Box::new(File::open(image.path()).unwrap()), "/data", unbounded).unwrap();
    // Whoever takes the bytes has the last word.
    let mut room = vec![0; 1 << 20];
    assert!(matches!(view.read(b"sparse", &mut &mut room[..]), Err(InspectError::Write(_))));
    let error = view.read(b"beyond", &mut io::sink()).unwrap_err();
    assert!(error.to_string().ends_with("is impossible"), "{error}");
    assert!(view.read(b"link/x", &mut io::sink()).is_err());
    let (_, summary) = list(&view, "", Depth::Tree);
    assert_eq!(summary.skipped, 1, "{summary:?}");
    // A folder ends with its blocks, whatever it claims.
    assert_eq!(paths(&view, "sub", Depth::Tree), ["file"]);
}
