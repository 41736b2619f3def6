//! Every kind of entry and every rule of layers, compared entry by entry with what `umoci unpack` makes of the image.
//!
//! Needs root, loop devices and `umoci`. Must not skip anything silently.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use lith_image::{Image, ImageStore, NoProgress};
use support::{
    Entry, Fact, Layer, Mounted, architecture, entry, facts, file, folder, gzipped, hardlink, plain, run,
    symlink, tar, write_layout, zstded,
};

struct Unpacked {
    image: Image,
    mounted: Mounted,
    folder: tempfile::TempDir,
}

fn unpack(layers: &[Layer]) -> Unpacked {
    let folder = tempfile::tempdir().unwrap();
    write_layout(&folder.path().join("layout"), layers, architecture());
    let store = ImageStore::open(folder.path().join("store")).unwrap();
    let image = store.load_blocking(&folder.path().join("layout"), None, &NoProgress).unwrap().remove(0);
    store.verify(&image.digest.to_string()).unwrap();
    let mounted = Mounted::erofs(&image.erofs, &folder.path().join("mnt"));
    Unpacked { image, mounted, folder }
}

/// Both unpackers must see the same; `no_times` are folders that no layer lists, whose time umoci invents.
fn check_layers(layers: &[Layer], no_times: &[&str]) {
    let ours = unpack(layers);
    let layout = format!("{}:t", ours.folder.path().join("layout").display());
    let rootfs = ours.folder.path().join("rootfs");
    run("umoci", &["raw", "unpack", "--image", &layout, rootfs.to_str().unwrap()].map(std::ffi::OsStr::new));
    let mut expected = facts(&rootfs);
    let mut actual = facts(&ours.mounted.0);
    for name in no_times {
        for facts in [&mut expected, &mut actual] {
            facts.get_mut(name.as_bytes()).unwrap_or_else(|| panic!("{name} is missing")).mtime = (0, 0);
        }
    }
    let names: Vec<_> = expected.keys().collect();
    assert_eq!(actual.keys().collect::<Vec<_>>(), names);
    for (name, expected) in &expected {
        assert_eq!(&actual[name], expected, "{:?}", String::from_utf8_lossy(name));
    }
}

fn check(layers: &[&[Entry]], no_times: &[&str]) {
    let with_root = |entries: &&[Entry]| tar(&[&[folder("./")][..], entries].concat());
    let layers: Vec<Layer> = layers.iter().map(|entries| gzipped(&with_root(entries))).collect();
    check_layers(&layers, no_times);
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[test]
fn every_kind_of_entry() {
    let entries = [
        folder("d").mode(0o1777).ids(7, 8),
        file("d/plain", "hello"),
        file("empty", ""),
        file("setuid", "x").mode(0o6755),
        file("big-ids", "x").ids(3_000_000_000, 70_000),
        file("pax-ids", "x").pax("uid", "4000000000").pax("gid", "65536"),
        file("nanoseconds", "x").pax("mtime", "1234567890.123456789"),
        file("before-1970", "x").pax("mtime", "-5.5"),
        symlink("link", "d/plain"),
        symlink("dangling", "/no/such/place"),
        entry(b'3', "char").device(1, 3).mode(0o666),
        entry(b'4', "block").device(259, 300),
        entry(b'6', "fifo"),
        hardlink("again", "d/plain"),
        hardlink("link-again", "link"),
        file("capable", "x").pax(
            "SCHILY.xattr.security.capability",
            [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        file("attributes", "x").pax("SCHILY.xattr.user.one", "1").pax("SCHILY.xattr.user.two", [b'v'; 300]),
        folder("attributed").pax("SCHILY.xattr.trusted.t", "yes"),
    ];
    check(&[&entries], &[]);
}

#[test]
fn names_of_all_kinds() {
    let long = format!("{}/{}", "n".repeat(200), "m".repeat(255));
    let entries = [
        file(b"not-utf8-\xff\xfe", "x"),
        file("with\nnewline", "x"),
        file(long.as_bytes(), "pax"),
        file(format!("g{long}"), "gnu").gnu(),
        symlink("long-link", "t".repeat(1000)),
        symlink("longest-link", "t/".repeat(2047)).gnu(),
        file("./dotted", "x"),
        file("!before-dot", "x"),
        file("-before-dot", "x"),
    ];
    // The root's own time moves in umoci when it makes a folder below that no layer lists.
    let implied = [String::new(), "n".repeat(200), format!("g{}", "n".repeat(200))];
    check(&[&entries], &implied.each_ref().map(String::as_str));
}

#[test]
fn sizes_around_blocks() {
    let sizes =
        [1, 100, 2047, 2048, 2049, 4095, 4096, 4097, 6144, 6145, 8191, 8192, 8193, 1_000_000, 3_145_729];
    let entries: Vec<Entry> = sizes.iter().map(|&size| file(format!("f{size}"), pattern(size))).collect();
    check(&[&entries], &[]);
}

#[test]
fn folders_of_many_names() {
    for count in [1usize, 60, 170, 171, 400, 3000] {
        let names = (0..count).map(|i| file(format!("many/{}-{i}", "x".repeat(i % 40)), ""));
        let entries: Vec<Entry> = std::iter::once(folder("many")).chain(names).collect();
        check(&[&entries], &[]);
    }
}

#[test]
fn whiteouts_and_opaque_folders() {
    let bottom = [
        file("gone", "x"),
        file("stays", "x"),
        folder("dir"),
        file("dir/old", "x"),
        folder("dir/sub"),
        file("dir/sub/deep", "x"),
        folder("whole"),
        file("whole/inner", "x"),
        folder("back"),
        file("back/old", "x"),
    ];
    let middle = [
        file(".wh.gone", ""),
        folder("dir"),
        file("dir/.wh..wh..opq", ""),
        file("dir/new", "y"),
        file(".wh.whole", ""),
        file("missing/.wh.nothing", ""),
        file(".wh.back", ""),
    ];
    let top = [folder("back"), file("back/new", "z"), file("gone", "again")];
    check(&[&bottom, &middle[..5], &middle[6..], &top], &[]);
    let ours = unpack(&[plain(tar(&bottom)), plain(tar(&middle)), plain(tar(&top))]);
    assert!(!ours.mounted.0.join("missing").exists());
    assert!(!ours.mounted.0.join("back/old").exists());
}

#[test]
fn a_whiteout_hides_lower_layers_only() {
    let bottom = [folder("d"), file("d/old", "1"), file("f", "1")];
    let orders = [
        [file("d/new", "2"), file("d/.wh..wh..opq", ""), file("f", "2"), file(".wh.f", "")],
        [file(".wh.f", ""), file("f", "2"), file("d/.wh..wh..opq", ""), file("d/new", "2")],
        [file("d/new", "2"), file(".wh.d", ""), file(".wh.f", ""), file("f", "2")],
    ];
    for top in orders {
        let ours = unpack(&[plain(tar(&bottom)), plain(tar(&top))]);
        let names: Vec<_> =
            facts(&ours.mounted.0).into_keys().map(|k| String::from_utf8(k).unwrap()).collect();
        assert_eq!(names, ["", "d", "d/new", "f"]);
        assert_eq!(fs::read(ours.mounted.0.join("f")).unwrap(), b"2");
    }
}

#[test]
fn hard_links_across_layers() {
    let bottom = [file("target", pattern(9000)), file("other", "x")];
    let middle = [hardlink("second", "target"), folder("d"), hardlink("d/third", "/second")];
    let top = [file(".wh.target", ""), file("other", "y"), hardlink("other-link", "other")];
    check(&[&bottom, &middle, &top], &[]);
}

#[test]
fn replacements() {
    let bottom = [
        folder("to-file"),
        file("to-file/inner", "x"),
        file("to-folder", "x"),
        symlink("to-plain", "nowhere"),
        file("to-link", "x"),
        folder("kept").mode(0o700).pax("SCHILY.xattr.user.a", "1"),
        file("kept/inner", "x"),
    ];
    let middle = [
        file("to-file", "now a file"),
        folder("to-folder"),
        file("to-folder/inner", "y"),
        file("to-plain", "plain"),
        symlink("to-link", "to-file"),
        folder("kept").mode(0o711).pax("SCHILY.xattr.user.b", "2"),
    ];
    let top = [folder("to-file"), file("to-file/other", "z"), file("to-folder", "file again")];
    check(&[&bottom, &middle, &top], &[]);
}

#[test]
fn folders_that_no_layer_lists() {
    check(&[&[file("a/b/c/file", "x")], &[file("a/b/other", "y")]], &["a", "a/b", "a/b/c"]);
}

#[test]
fn symbolic_links_on_the_way_stay_inside() {
    let bottom = [folder("usr"), folder("usr/lib"), symlink("lib", "usr/lib"), symlink("abs", "/usr")];
    let top = [file("lib/inside", "x"), file("abs/also", "y"), hardlink("hard", "lib/inside")];
    check(&[&bottom, &top], &[]);
}

#[test]
fn sparse_files_in_every_form() {
    let work = tempfile::tempdir().unwrap();
    let hole = fs::File::create(work.path().join("sparse")).unwrap();
    hole.set_len(3_000_000).unwrap();
    for offset in [0u64, 500_000, 500_600, 1_000_000, 1_500_000, 2_000_000, 2_500_000] {
        hole.write_all_at(b"data", offset).unwrap();
    }
    fs::File::create(work.path().join("all-hole")).unwrap().set_len(1_000_001).unwrap();
    for form in ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"] {
        let archive = work.path().join("sparse.tar");
        let posix = if form.starts_with("--sparse") { "--format=posix" } else { form };
        let options =
            ["-C", work.path().to_str().unwrap(), "-S", posix, form, "-cf", archive.to_str().unwrap()];
        run(
            "tar",
            &[&options[..], &["sparse", "all-hole"]]
                .concat()
                .iter()
                .map(std::ffi::OsStr::new)
                .collect::<Vec<_>>(),
        );
        let layer = fs::read(&archive).unwrap();
        assert!(layer.len() < 500_000, "{form}: tar made no sparse entries");
        let ours = unpack(&[gzipped(&layer)]);
        for name in ["sparse", "all-hole"] {
            let expected = fs::read(work.path().join(name)).unwrap();
            assert_eq!(fs::read(ours.mounted.0.join(name)).unwrap(), expected, "{form} {name}");
        }
        assert!(ours.image.size_bytes < 500_000, "{form}: holes are stored");
    }
}

#[test]
fn hidden_bodies_take_no_space() {
    let ours = unpack(&[
        plain(tar(&[file("big", pattern(4_000_000))])),
        plain(tar(&[file(".wh.big", ""), file("small", "x")])),
    ]);
    assert!(ours.image.size_bytes < 100_000, "{} bytes", ours.image.size_bytes);
    assert!(ours.image.erofs.metadata().unwrap().len() > 4_000_000);
}

#[test]
fn overlay_markers_do_not_come_through() {
    let ours = unpack(&[plain(tar(&[
        folder("d").pax("SCHILY.xattr.trusted.overlay.opaque", "y").pax("SCHILY.xattr.user.kept", "1"),
        file("odd", "x").pax("SCHILY.xattr.com.apple.x", "1"),
    ]))]);
    let facts = facts(&ours.mounted.0);
    let names =
        |fact: &Fact| fact.xattrs.keys().map(|k| String::from_utf8(k.clone()).unwrap()).collect::<Vec<_>>();
    assert_eq!(names(&facts[&b"d"[..]]), ["user.kept"]);
    assert_eq!(names(&facts[&b"odd"[..]]), [""; 0]);
}

#[test]
fn compressions_give_the_same_image() {
    let bytes = tar(&[folder("./"), file("f", pattern(300_000)), folder("d"), file("d/g", "x")]);
    let members = bytes.chunks(100_000).flat_map(support::gzip).collect();
    let multi = Layer { blob: members, ..gzipped(&bytes) };
    let layers = [plain(bytes.clone()), gzipped(&bytes), zstded(&bytes), multi];
    let images: Vec<Vec<u8>> = layers.map(|l| fs::read(&unpack(&[l]).image.erofs).unwrap()).into();
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn the_config_comes_through() {
    let ours = unpack(&[gzipped(&tar(&[file("f", "x")]))]);
    let config = &ours.image.config;
    assert_eq!(config.entrypoint, ["/bin/server"]);
    assert_eq!(config.cmd, ["--port", "80"]);
    assert_eq!(config.env, ["PATH=/bin"]);
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("www:www", "/srv"));
    assert_eq!((config.stop_signal.as_str(), &config.exposed_ports[0][..]), ("SIGQUIT", "80/tcp"));
    assert_eq!((&config.volumes[0][..], &config.labels["a"][..]), ("/data", "b"));
    assert_eq!(ours.image.created.as_deref(), Some("2024-01-02T03:04:05Z"));
}

#[test]
fn the_checker_of_erofs_agrees() {
    let entries: Vec<Entry> = (0..500).map(|i| file(format!("d{}/f{i}", i % 7), pattern(i * 97))).collect();
    let ours = unpack(&[gzipped(&tar(&entries))]);
    run("fsck.erofs", &[ours.image.erofs.as_os_str()]);
    assert_eq!(Path::new(&ours.mounted.0).metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn more_links_than_other_file_systems_hold() {
    const LINKS: usize = 66_000;
    let links = (0..LINKS).map(|i| hardlink(format!("l{i}"), "target"));
    let entries: Vec<Entry> = std::iter::once(file("target", "x")).chain(links).collect();
    let ours = unpack(&[gzipped(&tar(&entries))]);
    assert_eq!(ours.mounted.0.join("target").metadata().unwrap().nlink(), LINKS as u64 + 1);
    assert_eq!(fs::read(ours.mounted.0.join("l65999")).unwrap(), b"x");
}

#[test]
fn a_file_beyond_four_gibibytes() {
    const FAR: u64 = 4 << 30;
    let sparse = file("far", b"neardata")
        .pax("GNU.sparse.size", (FAR + 4).to_string())
        .pax("GNU.sparse.numblocks", "2")
        .pax("GNU.sparse.map", format!("0,4,{FAR},4"));
    // Not verified afterwards, as the others are: hashing so many zeros once is enough.
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    write_layout(&layout, &[gzipped(&tar(&[sparse]))], architecture());
    let store = ImageStore::open(folder.path().join("store")).unwrap();
    let image = store.load_blocking(&layout, None, &NoProgress).unwrap().remove(0);
    let mounted = Mounted::erofs(&image.erofs, &folder.path().join("mnt"));
    let far = fs::File::open(mounted.0.join("far")).unwrap();
    assert_eq!(far.metadata().unwrap().len(), FAR + 4);
    let mut word = [0u8; 4];
    for (offset, expected) in [(0, b"near"), (4, b"\0\0\0\0"), (FAR - 4, b"\0\0\0\0"), (FAR, b"data")] {
        far.read_exact_at(&mut word, offset).unwrap();
        assert_eq!(&word, expected, "at {offset}");
    }
    assert!(image.size_bytes < 100_000, "holes are stored");
}

#[test]
fn attributes_beyond_a_block() {
    let many = (0..500).fold(file("many", "x"), |entry, i| {
        entry.pax(&format!("SCHILY.xattr.user.a{i}"), format!("value {i}"))
    });
    // A user more, as `setfacl -m u:1000:r` writes it.
    let acl: Vec<u8> = [(0x01u16, 6u16, u32::MAX), (0x02, 4, 1000), (0x04, 4, u32::MAX), (0x10, 4, u32::MAX)]
        .into_iter()
        .chain([(0x20, 4, u32::MAX)])
        .fold(2u32.to_le_bytes().to_vec(), |acl, (tag, permission, id)| {
            [&acl[..], &tag.to_le_bytes(), &permission.to_le_bytes(), &id.to_le_bytes()].concat()
        });
    let ours = unpack(&[gzipped(&tar(&[
        many,
        file("big", "x").pax("SCHILY.xattr.user.big", vec![b'v'; 30_000]),
        file("listed", "x").pax("SCHILY.xattr.system.posix_acl_access", &acl),
    ]))]);
    let facts = facts(&ours.mounted.0);
    assert_eq!(facts[&b"many"[..]].xattrs.len(), 500);
    assert_eq!(facts[&b"many"[..]].xattrs[&b"user.a499"[..]], b"value 499");
    assert_eq!(facts[&b"big"[..]].xattrs[&b"user.big"[..]], vec![b'v'; 30_000]);
    assert_eq!(facts[&b"listed"[..]].xattrs[&b"system.posix_acl_access"[..]], acl);
}

/// What a Debian system with a server in it looks like, entry by entry.
#[test]
fn a_real_image() {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().nth(3).unwrap();
    let archive = target.join("test-assets/images/nginx.tar");
    assert!(archive.exists(), "run `cargo xtask images nginx` first");
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    fs::create_dir(&layout).unwrap();
    let arguments = ["-C".as_ref(), layout.as_os_str(), "-xf".as_ref(), archive.as_os_str()];
    run("tar", &arguments);
    let store = ImageStore::open(folder.path().join("store")).unwrap();
    let image = store.load_blocking(&archive, None, &NoProgress).unwrap().remove(0);
    let mounted = Mounted::erofs(&image.erofs, &folder.path().join("mnt"));
    let rootfs = folder.path().join("rootfs");
    let name = format!("{}:nginx:1", layout.display());
    run("umoci", &["raw", "unpack", "--image", &name, rootfs.to_str().unwrap()].map(std::ffi::OsStr::new));
    let (expected, actual) = (facts(&rootfs), facts(&mounted.0));
    assert_eq!(actual.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, expected) in &expected {
        assert_eq!(&actual[name], expected, "{:?}", String::from_utf8_lossy(name));
    }
}
