//! What is in an image is what was put there.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use lith_volume::inspect::View;
use lith_volume::inspect::entry::{Device, Kind};
use lith_volume::inspect::error::InspectError;
use lith_volume::inspect::limits::Limits;
use lith_volume::inspect::walk::Depth;

use crate::image::{Image, archived, export, list, paths, read, run, unpack};

/// Bytes that repeat in no block.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A bit of everything.
fn fill(image: &Image) {
    image.write("empty", "");
    image.write("small", "hello\n");
    image.write("large", noise(3_000_001, 1));
    image.write("ünïcödé/☃", "snow");
    for number in 0..300 {
        image.write(&format!("many/file-{number:04}"), format!("{number}"));
    }
    fs::write(image.data("").join(OsStr::from_bytes(b"not-utf8-\xff\xfe")), "bytes").unwrap();
    image.write(&"x".repeat(255), "long name");
    image.write(&format!("{}/{}/deep", "d".repeat(200), "e".repeat(200)), "long path");
    image.write(&format!("{}bottom", "n/".repeat(120)), "down there");
    symlink("small", image.data("link")).unwrap();
    symlink("y".repeat(300), image.data("long-link")).unwrap();
    fs::hard_link(image.data("small"), image.data("many/again")).unwrap();
    fs::set_permissions(image.data("small"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(image.data("many"), Permissions::from_mode(0o1777)).unwrap();
    // Holes before, between and after; so many runs that the tree of extents has two levels.
    let mut sparse = File::create(image.data("sparse")).unwrap();
    for number in 1..700u64 {
        sparse.seek(SeekFrom::Start(number * 16384)).unwrap();
        sparse.write_all(&noise(4096, number)).unwrap();
    }
    sparse.set_len(12_345_678).unwrap();
}

fn same(ours: &Path, theirs: &Path) {
    let metadata =
        |path: &Path| fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let (one, other) = (metadata(ours), metadata(theirs));
    let facts = |found: &Metadata| (found.mode(), found.uid(), found.gid(), found.nlink());
    assert_eq!(facts(&one), facts(&other), "{ours:?}");
    // `mkfs.ext4 -d` takes no more than the seconds along.
    assert_eq!(one.mtime(), other.mtime(), "{ours:?}");
    if one.is_symlink() {
        assert_eq!(fs::read_link(ours).unwrap(), fs::read_link(theirs).unwrap());
    } else if one.is_file() {
        assert!(fs::read(ours).unwrap() == fs::read(theirs).unwrap(), "{ours:?} has other content");
    } else {
        let names = |path: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(ours), names(theirs), "{ours:?}");
        for name in names(ours) {
            same(&ours.join(&name), &theirs.join(&name));
        }
    }
}

fn check_round_trip(options: &[&str], prepare: &dyn Fn(&Image)) {
    let image = Image::new();
    fill(&image);
    image.make(96, options);
    prepare(&image);
    let view = image.view();
    let (bytes, summary) = export(&view, "/");
    assert_eq!((summary.skipped, summary.attributes_skipped), (0, 0), "{options:?} {summary:?}");
    let unpacked = image.folder.path().join("unpacked");
    unpack(&bytes, &unpacked);
    same(&image.data(""), &unpacked);
    assert_eq!(export(&view, "/").0, bytes, "the same again");

    let (entries, summary) = list(&view, "", Depth::Tree);
    assert_eq!(summary.entries, entries.len() as u64);
    for entry in &entries {
        let path = image.data("").join(OsStr::from_bytes(&entry.path));
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!(u32::from(entry.mode), found.mode() & 0o7777, "{path:?}");
        assert_eq!(entry.modified.seconds, found.mtime());
        assert_eq!(entry.kind == Kind::Folder, found.is_dir());
        if !found.is_dir() {
            assert_eq!((entry.size, u64::from(entry.links)), (found.len(), found.nlink()), "{path:?}");
        }
    }
    assert!(entries.iter().any(|entry| entry.path == b"not-utf8-\xff\xfe"));
    assert_eq!(read(&view, "sparse"), fs::read(image.data("sparse")).unwrap());
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    check_round_trip(&[], &|_| {});
    check_round_trip(&["-b", "1024", "-I", "128"], &|_| {});
}

#[test]
fn other_forms_of_the_same() {
    check_round_trip(&["-b", "4096"], &|_| {});
    check_round_trip(&["-b", "2048", "-O", "^has_journal,^64bit,^metadata_csum"], &|_| {});
    check_round_trip(
        &["-b", "1024", "-O", "meta_bg,^resize_inode,metadata_csum_seed,sparse_super2"],
        &|_| {},
    );
    check_round_trip(&["-b", "4096", "-O", "bigalloc,ea_inode,large_dir"], &|_| {});
    // Grown: the added groups have their descriptors elsewhere.
    check_round_trip(&["-b", "1024", "-O", "meta_bg,^resize_inode"], &|image| {
        File::options().write(true).open(image.path()).unwrap().set_len(300 << 20).unwrap();
        let output = run("resize2fs", &[&image.path_text()]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}

#[test]
fn content_within_inodes_is_refused_by_name() {
    let image = Image::new();
    image.write("tiny", "tiny");
    image.write("large", noise(100_000, 3));
    image.make(16, &["-O", "inline_data"]);
    let view = image.view();
    // The folder itself is within its inode.
    let errors = [
        view.list(b"", Depth::Tree, &mut |_| Ok(())).unwrap_err(),
        view.read(b"large", &mut Vec::new()).unwrap_err(),
        view.export(b"", &mut Vec::new()).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, InspectError::Unsupported { .. }), "{error}");
        assert!(error.hint().is_some());
    }
}

const ENTRIES: usize = 65_536;
/// Files that share these names: one cannot have so many.
const LINKED: usize = 16;

fn folder_block(names: &[(u32, String)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (index, (inode, name)) in names.iter().enumerate() {
        let is_last = index + 1 == names.len();
        let length = if is_last { 4096 - block.len() } else { (8 + name.len()).next_multiple_of(4) };
        let end = block.len() + length;
        block.extend_from_slice(&inode.to_le_bytes());
        block.extend_from_slice(&(length as u16).to_le_bytes());
        let kind = if name.starts_with('.') { 2 } else { 1 };
        block.extend_from_slice(&[name.len() as u8, kind]);
        block.extend_from_slice(name.as_bytes());
        block.resize(end, 0);
    }
    if names.is_empty() {
        block.resize(4096, 0);
        block[5] = 0x10;
    }
    block
}

#[test]
fn a_folder_with_an_index() {
    // The tools need minutes for so many names: the blocks of the folder begin as those of a file.
    let image = Image::new();
    image.write("big", vec![1; (ENTRIES / 128 + 1) * 4096]);
    for number in 0..LINKED {
        image.write(&format!("content-{number}"), format!("content {number}"));
    }
    image.make(16, &["-b", "4096", "-O", "^metadata_csum"]);
    let view = image.view();
    let inode = |path: &str| view.entry(path.as_bytes()).unwrap().inode;
    let mut names = vec![(inode("big"), ".".to_owned()), (inode(""), "..".to_owned())];
    for number in 0..ENTRIES {
        names.push((inode(&format!("content-{}", number % LINKED)), format!("entry-{number:05}")));
    }
    let blocks = image.blocks("/data/big");
    let mut bytes = image.bytes();
    for (block, names) in blocks.iter().zip(names.chunks(128).chain(std::iter::repeat(&[][..]))) {
        bytes[*block as usize * 4096..][..4096].copy_from_slice(&folder_block(names));
    }
    fs::write(image.path(), bytes).unwrap();
    image.debugfs(&["sif /data/big mode 040755"]);
    // The index is made when folders are optimised.
    run("e2fsck", &["-fyD", &image.path_text()]);
    let index = run("debugfs", &["-R", "htree /data/big", &image.path_text()]);
    assert!(String::from_utf8_lossy(&index.stdout).contains("Indirect levels"), "{index:?}");
    let view = image.view();
    let names = paths(&view, "big", Depth::Folder);
    assert_eq!(names.len(), ENTRIES);
    assert!(names.iter().enumerate().all(|(number, name)| *name == format!("entry-{number:05}")));
    assert_eq!(read(&view, "big/entry-40003"), b"content 3");
    let entries = archived(&export(&view, "big").0);
    assert_eq!(entries.len(), ENTRIES + 1);
    assert_eq!(entries[Path::new("big/entry-00007")].content, b"content 7");
    assert_eq!(entries[Path::new("big/entry-40007")].link.as_deref(), Some(Path::new("big/entry-00007")));
}

#[test]
fn owners_devices_and_times_that_are_rare() {
    let image = Image::new();
    for name in ["old", "late", "large-ids"] {
        image.write(name, name);
    }
    let set = |name: &str, seconds: i64| {
        let time = std::time::UNIX_EPOCH;
        let time = if seconds < 0 {
            time - std::time::Duration::from_secs(seconds.unsigned_abs())
        } else {
            time + std::time::Duration::from_secs(seconds.unsigned_abs())
        };
        File::options().write(true).open(image.data(name)).unwrap().set_modified(time).unwrap();
    };
    set("old", -315_619_200);
    set("late", 2_208_988_800);
    image.make(16, &[]);
    image.debugfs(&[
        "cd /data",
        "mknod pipe p",
        "mknod null c 1 3",
        "mknod disk b 259 60000",
        "sif large-ids uid 3000000000",
        "sif large-ids gid 70000",
        // The tools know no year after 2037 either; and a fraction.
        "sif late mtime_extra 1",
        "sif large-ids mtime_extra 2000000000",
    ]);
    let view = image.view();
    let seconds = |path: &str| view.entry(path.as_bytes()).unwrap().modified.seconds;
    assert_eq!((seconds("old"), seconds("late")), (-315_619_200, 2_208_988_800));
    assert_eq!(view.entry(b"large-ids").unwrap().modified.nanoseconds, 500_000_000);
    let kind = |path: &str| view.entry(path.as_bytes()).unwrap().kind;
    assert_eq!(kind("pipe"), Kind::Fifo);
    assert_eq!(kind("null"), Kind::CharDevice(Device { major: 1, minor: 3 }));
    assert_eq!(kind("disk"), Kind::BlockDevice(Device { major: 259, minor: 60000 }));
    let entries = archived(&export(&view, "/").0);
    let entry = |path: &str| &entries[Path::new(path)];
    assert_eq!(entry("null").device, (1, 3));
    assert_eq!(entry("disk").device, (259, 60000));
    assert_eq!(entry("pipe").kind, tar::EntryType::Fifo);
    assert_eq!((entry("large-ids").uid, entry("large-ids").gid), (3_000_000_000, 70000));
    let record = |path: &str, key: &str| {
        let found = entry(path).records.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| String::from_utf8(value.clone()).unwrap())
    };
    assert_eq!(record("old", "mtime").as_deref(), Some("-315619200.000000000"));
    assert_eq!(record("large-ids", "uid").as_deref(), Some("3000000000"));
}

#[test]
fn attributes_are_archived_where_they_can_be() {
    let image = Image::new();
    image.write("file", "content");
    image.make(16, &[]);
    let long = "v".repeat(700);
    image.debugfs(&[
        "ea_set /data/file user.short value",
        &format!("ea_set /data/file user.long {long}"),
        "ea_set /data/file security.capability cap",
    ]);
    let entries = archived(&export(&image.view(), "file").0);
    let records: Vec<(&str, &[u8])> =
        entries[Path::new("file")].records.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    for expected in [
        ("SCHILY.xattr.user.short", &b"value"[..]),
        ("SCHILY.xattr.user.long", long.as_bytes()),
        ("SCHILY.xattr.security.capability", b"cap"),
    ] {
        assert!(records.contains(&expected), "{expected:?} {records:?}");
    }
}

#[test]
fn allocated_but_not_written_is_zeroes() {
    let image = Image::new();
    image.write("file", noise(20_000, 5));
    image.make(16, &["-b", "1024"]);
    image.debugfs(&["fallocate /data/file 20 40", "sif /data/file size 35000"]);
    let (first, last) = (20_000_usize, 35_000_usize);
    let blocks = image.blocks("/data/file");
    // What another file has left there must not come out.
    let mut bytes = image.bytes();
    for block in &blocks[20..] {
        bytes[*block as usize * 1024..][..1024].fill(b'S');
    }
    fs::write(image.path(), bytes).unwrap();
    let content = read(&image.view(), "file");
    assert_eq!(content.len(), last);
    assert_eq!(content[..first], noise(20_000, 5));
    assert!(content[20 * 1024..].iter().all(|byte| *byte == 0));
}

#[test]
fn paths_stay_inside() {
    let image = Image::new();
    fs::write(image.folder.path().join("tree/secret"), "outside").unwrap();
    image.write("a/b/file", "inside");
    image.write("secret", "decoy");
    for (target, name) in [
        ("../../../../secret", "up"),
        ("/secret", "absolute"),
        ("/a/b", "folder"),
        ("b/file", "a/relative"),
        ("../../a/b/file", "a/b/back"),
        ("loop-b", "loop-a"),
        ("loop-a", "loop-b"),
        ("nowhere", "dangling"),
        (".", "self"),
    ] {
        symlink(target, image.data(name)).unwrap();
    }
    image.make(16, &[]);
    let view = image.view();
    let check = |path: &str, expected: &str| assert_eq!(read(&view, path), expected.as_bytes(), "{path}");
    check("secret", "decoy");
    check("../secret", "decoy");
    check("/../../secret", "decoy");
    check("up", "decoy");
    check("absolute", "decoy");
    check("folder/file", "inside");
    check("folder/../b/file", "inside");
    check("folder/../../../secret", "decoy");
    check("a/relative", "inside");
    check("self/self/./a//b/back", "inside");
    let wrong = |path: &str| view.read(path.as_bytes(), &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(wrong("loop-a"), "too many symbolic links: \"loop-a\"");
    assert_eq!(
        wrong(&format!("{}secret", "self/".repeat(41))).split(':').next(),
        Some("too many symbolic links")
    );
    assert_eq!(wrong("dangling"), "no such file or folder: \"dangling\"");
    assert_eq!(wrong("a"), "not a file: \"a\"");
    assert_eq!(wrong("secret/"), "not a folder: \"secret/\"");
    assert_eq!(wrong("secret/x"), "not a folder: \"secret/x\"");
    assert_eq!(wrong("\u{1b}[31m"), "no such file or folder: \"\\u{1b}[31m\"");
    assert!(wrong(&"x/".repeat(40_000)).starts_with("the volume is not read on: the path is too long"));

    assert_eq!(paths(&view, "folder", Depth::Folder), ["back", "file"]);
    assert_eq!(list(&view, "dangling", Depth::Folder).0[0].target.as_deref(), Some(&b"nowhere"[..]));
    assert_eq!(list(&view, "loop-a", Depth::Tree).0[0].kind, Kind::Symlink);
    let tops = |path: &str| {
        let entries = archived(&export(&view, path).0);
        entries.keys().map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(tops("a/b"), ["b/", "b/back", "b/file"]);
    assert_eq!(tops("folder"), ["folder"]);
    assert_eq!(tops("folder/"), ["folder/", "folder/back", "folder/file"]);
    assert_eq!(tops("a/b/."), ["./", "back", "file"]);
    assert_eq!(tops("a/b/file"), ["file"]);
}

#[test]
fn the_root_is_a_folder_of_the_file_system() {
    let image = Image::new();
    image.write("file", "x");
    symlink("data", image.folder.path().join("tree/link")).unwrap();
    image.make(16, &[]);
    let open =
        |root: &str| View::open(Box::new(File::open(image.path()).unwrap()), root, crate::image::LIMITS);
    assert_eq!(paths(&open("/").unwrap(), "/", Depth::Folder), ["data", "link", "lost+found"]);
    for root in ["/none", "/link", "/data/file"] {
        assert!(matches!(open(root), Err(InspectError::NoRoot { .. })), "{root}");
    }
    let empty = tempfile::tempfile().unwrap();
    assert!(matches!(View::open(Box::new(empty), "/data", crate::image::LIMITS), Err(InspectError::NotExt4)));
}

#[test]
fn bounds_are_errors() {
    let image = Image::new();
    for number in 0..10 {
        image.write(&format!("f{number}"), "12345678");
    }
    image.make(16, &[]);
    let open = |limits| View::open(Box::new(File::open(image.path()).unwrap()), "/data", limits).unwrap();
    let entries = open(Limits { entries_max: 5, bytes_max: 1000 });
    let error = entries.list(b"", Depth::Tree, &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "the volume is not read on: too many entries (limit 5)");
    let bytes = open(Limits { entries_max: 50, bytes_max: 79 });
    let mut written = Vec::new();
    let error = bytes.export(b"", &mut written).unwrap_err();
    assert_eq!(error.to_string(), "the volume is not read on: too much content, holes included (limit 79)");
    // What broke off does not look whole.
    assert!(tar::Archive::new(&written[..]).entries().unwrap().count() <= 10);
    assert!(!written.ends_with(&[0; 1024]));
    let mut room = [0; 1000];
    assert!(matches!(image.view().export(b"", &mut &mut room[..]), Err(InspectError::Write(_))));
}
