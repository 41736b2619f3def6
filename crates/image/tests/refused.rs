//! What is refused, in which words, and that nothing is left behind.
//!
//! Needs root for the full disk. Must not look inside the crate: a person sees the words and the store's folder.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lith_image::{Archive, Digest, GcScope, ImageError, ImageStore, Limits, NoProgress, Reference};
use support::{
    Entry, Layer, Mounted, architecture, chain, entry, file, files_below, folder, gzipped, hardlink, header,
    plain, put_blob, seal, symlink, tar, write_layout,
};

fn small_limits() -> Limits {
    Limits {
        entries_max: 50,
        metadata_bytes_max: 1 << 20,
        content_bytes_max: 8 << 20,
        stream_bytes_max: 16 << 20,
        depth_max: 20,
        ratio_max: 100,
        ratio_free_bytes: 1 << 20,
    }
}

fn check_limited(limits: &Limits, entries: &[Entry], words: &str) {
    let write = |layout: &Path| {
        write_layout(layout, &[plain(tar(entries))], architecture());
    };
    check_layout_limited(limits, write, words);
}

fn check_layout(prepare: impl FnOnce(&Path), words: &str) {
    check_layout_limited(&small_limits(), prepare, words);
}

fn check_layout_limited(limits: &Limits, prepare: impl FnOnce(&Path), words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    fs::create_dir(&layout).unwrap();
    prepare(&layout);
    let store = ImageStore::open_with_limits(folder.path().join("store"), limits.clone()).unwrap();
    let error = store.load_blocking(&layout, None, &NoProgress).unwrap_err();
    let told = chain(&error);
    assert!(told.contains(words), "told {told:?}, wanted {words:?}");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{told}");
    assert_eq!(files_below(&folder.path().join("store")), [""; 0]);
}

fn check_layer(layer: Layer, words: &str) {
    let write = |layout: &Path| {
        write_layout(layout, &[layer], architecture());
    };
    check_layout(write, words);
}

fn check(entries: &[Entry], words: &str) {
    check_layer(plain(tar(entries)), words);
}

#[test]
fn escapes() {
    check(&[file("../evil", "x")], "entry \"../evil\" escapes the root");
    check(&[file("a/../../evil", "x")], "escapes the root");
    check(&[symlink("up", "../.."), file("up/evil", "x")], "entry \"up/evil\" escapes the root");
    check(&[hardlink("h", "../../etc/passwd")], "its target escapes the root");
    check(
        &[hardlink("h", "/etc/passwd")],
        "hard link \"h\" to \"/etc/passwd\" is refused: its target does not exist",
    );
    check(&[folder("d"), hardlink("h", "d")], "its target is a folder");
    check(&[symlink("a", "b"), symlink("b", "a"), file("a/x", "x")], "a loop of symbolic links");
    check(&[file("f", "x"), file("f/x", "x")], "\"f\" on its way is not a folder");
    check(&[file("d/.wh...", "")], "a whiteout that names nothing");
}

#[test]
fn damage() {
    let good = tar(&[file("f", vec![7u8; 5000])]);
    check_layer(plain(good[..3000].to_vec()), "the archive is truncated within an entry's body");
    check_layer(plain(good[..300].to_vec()), "the archive is truncated within a header");
    let packed = gzipped(&good);
    let cut = Layer { blob: packed.blob[..packed.blob.len() / 2].to_vec(), ..packed };
    check_layer(cut, "cannot decompress the layer");
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    check_layer(plain(flipped), "a header's checksum is wrong");
    let wrong = Layer { diff_id: Digest::of(b"else"), ..gzipped(&good) };
    check_layer(wrong, "the layer's content does not match its diff_id");
    check(&[entry(b'Z', "odd")], "entry \"odd\" is refused: unknown entry type 'Z'");
    check(&[entry(b'3', "dev").device(5000, 1)], "its device number 5000:1 does not exist");
    check(&[symlink("s", "")], "a symbolic link that points to nothing");
    check(&[file("f", "x").pax("size", "-1")], "is not a number");
    check(&[file("f", "x").pax("GNU.sparse.major", "9")], "an unknown form of sparse file");
}

#[test]
fn bombs() {
    let many: Vec<Entry> = (0..51).map(|i| file(format!("f{i}"), "")).collect();
    check(&many, "too many entries (limit 50)");
    check(&[file("d/".repeat(30) + "f", "x")], "folders are nested too deep (limit 20)");
    check(&[file("n".repeat(256), "x")], "a name is too long (limit 255)");
    check(&[file("d/".repeat(3000) + "f", "x").gnu()], "a path is too long (limit 4096)");
    check_layer(
        gzipped(&tar(&[file("zeros", vec![0u8; 4 << 20])])),
        "the image's compression ratio is too high",
    );
    let noise: Vec<u8> =
        (0..9u32 << 18).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    check_layer(plain(tar(&[file("noise", noise)])), "too many bytes of file contents");
    let huge = file("huge", "").pax("GNU.sparse.size", "99999999999").pax("GNU.sparse.numblocks", "0");
    check(&[huge], "too many bytes of file contents");
    let mut long = header(&entry(b'x', "pax"), 1 << 30);
    seal(&mut long);
    check_layer(plain(long.to_vec()), "an extended header is too long");
    check(
        &[file("f", "x").pax("SCHILY.xattr.user.a", vec![b'v'; 70_000])],
        "too many bytes of extended attributes",
    );
}

#[test]
fn bombs_of_metadata() {
    // Headers alone do not tell: 12 entries imply 60 folders.
    let implied: Vec<Entry> = (0..12).map(|i| file(format!("{i}/a/b/c/d/f"), "")).collect();
    check(&implied, "too many entries (limit 50)");
    let refused = "too many bytes of names, links and attributes (limit 1048576)";
    let attributed = |i| file(format!("f{i}"), "").pax("SCHILY.xattr.user.a", [b'v'; 60_000]);
    check(&(0..20).map(attributed).collect::<Vec<_>>(), refused);
    // What is replaced stays in memory, and so do the attributes of one folder that is listed again and again.
    check(&(0..20).map(|_| attributed(0)).collect::<Vec<_>>(), refused);
    let listed = |_| folder("d").pax("SCHILY.xattr.user.a", [b'v'; 60_000]);
    check(&(0..20).map(listed).collect::<Vec<_>>(), refused);
    let links = |i| symlink(format!("l{i}"), "t".repeat(4000));
    let limits = Limits { entries_max: 1000, ..small_limits() };
    check_limited(&limits, &(0..300).map(links).collect::<Vec<_>>(), refused);
    let names = |i| hardlink(format!("{i}{}", "n".repeat(240)), "f");
    let names: Vec<Entry> = std::iter::once(file("f", "x")).chain((0..4000).map(names)).collect();
    check_limited(&Limits { entries_max: 10_000, ..small_limits() }, &names, refused);
}

#[test]
fn bombs_in_several_layers() {
    let zeros = |name: &str| gzipped(&tar(&[file(name, vec![0u8; 900_000])]));
    let write = |layout: &Path| {
        write_layout(layout, &[zeros("a"), zeros("b")], architecture());
    };
    check_layout(write, "layer 2 of");
    let write = |layout: &Path| {
        write_layout(layout, &[zeros("a"), zeros("b")], architecture());
    };
    check_layout(write, "the image's compression ratio is too high (limit 100)");
}

#[test]
fn bombs_in_sparse_maps() {
    let in_body = |map: Vec<u8>| {
        let versions = [("major", "1"), ("minor", "0"), ("realsize", "99"), ("name", "f")];
        versions
            .iter()
            .fold(file("x", map), |entry, (key, value)| entry.pax(&format!("GNU.sparse.{key}"), value))
    };
    check(&[in_body(vec![b'1'; 4 << 20])], "a sparse map has a line that is no number");
    check(&[in_body([&b"2\n"[..], &[b'0'; 4096]].concat())], "a sparse map has a line that is no number");
    check(&[in_body(b"70000\n".repeat(200))], "too many runs in a sparse file (limit 65536)");
    let run = "28 GNU.sparse.offset=000000\n28 GNU.sparse.numbytes=0000\n";
    let mut endless = Vec::new();
    for _ in 0..5 {
        let records = run.repeat(16_000).into_bytes();
        let mut block = header(&entry(b'x', "pax"), records.len() as u64);
        seal(&mut block);
        endless.extend_from_slice(&block);
        endless.extend_from_slice(&records);
        endless.resize(endless.len().next_multiple_of(512), 0);
    }
    check_layer(plain(endless), "too many runs in a sparse file (limit 65536)");
}

#[test]
fn bounds_of_streams_and_layers() {
    let limits = Limits { stream_bytes_max: 1 << 20, ..small_limits() };
    let block: Vec<u8> = (0..4000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    let packed = gzipped(&tar(&[file("large", block.repeat(130))]));
    let write = |layout: &Path| {
        write_layout(layout, &[packed], architecture());
    };
    check_layout_limited(&limits, write, "the layers unpack to too many bytes (limit 1048576)");
    let many = |layout: &Path| {
        let layers: Vec<Layer> = (0..513).map(|_| plain(tar(&[]))).collect();
        write_layout(layout, &layers, architecture());
    };
    check_layout(many, "it has more than 512 layers");
}

#[test]
fn documents() {
    let layer = || gzipped(&tar(&[file("f", "x")]));
    let other = if architecture() == "amd64" { "arm64" } else { "amd64" };
    let words = format!("the image is for linux/{other}, not for linux/{}", architecture());
    let foreign_machine = |layout: &Path| {
        write_layout(layout, &[layer()], other);
    };
    check_layout(foreign_machine, &words);
    let foreign = Layer { media_type: "application/x-strange", ..layer() };
    check_layer(foreign, "unknown media type \"application/x-strange\" of the layer");
    let wrong_blob = |layout: &Path| {
        let layer = layer();
        write_layout(layout, &[gzipped(&tar(&[file("f", "x")]))], architecture());
        let path = layout.join("blobs/sha256").join(Digest::of(&layer.blob).hex());
        fs::write(path, gzipped(&tar(&[file("f", "changed")])).blob).unwrap();
    };
    check_layout(wrong_blob, "the layer does not match its digest");
    let wrong_manifest = |layout: &Path| {
        let digest = write_layout(layout, &[layer()], architecture());
        fs::write(layout.join("blobs/sha256").join(digest.hex()), "{}").unwrap();
    };
    check_layout(wrong_manifest, "does not match its digest");
    let no_blob = |layout: &Path| {
        write_layout(layout, &[layer()], architecture());
        fs::remove_file(layout.join("blobs/sha256").join(Digest::of(&layer().blob).hex())).unwrap();
    };
    check_layout(no_blob, "is missing");
    check_layout(|_| (), "it holds neither an OCI layout nor a docker archive");
    let index_only = |layout: &Path| {
        put_blob(layout, b"x");
        fs::write(layout.join("oci-layout"), "{}").unwrap();
        fs::write(layout.join("index.json"), "{").unwrap();
    };
    check_layout(index_only, "the manifest is not valid");
}

#[test]
fn a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Mounted::tmpfs(&folder.path().join("disk"), 1 << 20);
    let layout = folder.path().join("layout");
    let noise: Vec<u8> =
        (0..1u32 << 19).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).collect();
    // Small as it comes, large on the disk: its size does not tell beforehand.
    let packed = gzipped(&tar(&[file("big", noise[..16_000].repeat(130))]));
    write_layout(&layout, &[packed], architecture());
    let store = ImageStore::open(disk.0.join("store")).unwrap();
    let error = store.load_blocking(&layout, None, &NoProgress).unwrap_err();
    assert!(chain(&error).contains("No space left on device"), "{}", chain(&error));
    assert!(error.hint().unwrap().contains("free some space"));
    assert_eq!(files_below(&disk.0.join("store")), [""; 0]);
    write_layout(&layout, &[plain(tar(&[file("big", noise)]))], architecture());
    let error = store.load_blocking(&layout, None, &NoProgress).unwrap_err();
    assert!(chain(&error).contains("it takes 3 MiB at least"), "{}", chain(&error));
    let archive = Archive { label: "the archive `my.tar`", bytes: Some(1 << 40) };
    let error = store.load_reader(&archive, &b""[..], None, &NoProgress).unwrap_err();
    assert!(
        chain(&error).starts_with("the archive `my.tar` is refused: it has 1099511627776 bytes"),
        "{error}"
    );
}

#[test]
fn a_full_disk_is_freed() {
    for by_gc in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let disk = Mounted::tmpfs(&folder.path().join("disk"), 1 << 20);
        let layout = folder.path().join("layout");
        let digest = write_layout(&layout, &[plain(tar(&[file("f", vec![7u8; 200_000])]))], architecture());
        let store = ImageStore::open(disk.0.join("store")).unwrap();
        let name: Reference = "registry.example/app:1".parse().unwrap();
        store.load_blocking(&layout, Some(&name), &NoProgress).unwrap();
        // Full to the last block.
        let mut filler = fs::File::create(disk.0.join("filler")).unwrap();
        let full = std::io::copy(&mut std::io::repeat(1), &mut filler).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        let removed = if by_gc {
            store.gc(&BTreeSet::new(), GcScope::Unused).unwrap()
        } else {
            Vec::from_iter(store.remove("registry.example/app:1", &BTreeSet::new()).unwrap())
        };
        assert_eq!((removed.len(), removed[0].digest), (1, digest));
        assert!(removed[0].freed_bytes >= 200_000);
        assert!(store.inspect("registry.example/app:1").is_err(), "a name of nothing is none");
        // What was freed can be used.
        fs::write(disk.0.join("other"), vec![1u8; 150_000]).unwrap();
    }
}

/// A store with one named image and its folder.
fn stored() -> (tempfile::TempDir, ImageStore, Digest) {
    let folder = tempfile::tempdir().unwrap();
    let digest =
        write_layout(&folder.path().join("layout"), &[plain(tar(&[file("f", "x")]))], architecture());
    let store = ImageStore::open(folder.path().join("store")).unwrap();
    let name: Reference = "registry.example/app:1".parse().unwrap();
    store.load_blocking(&folder.path().join("layout"), Some(&name), &NoProgress).unwrap();
    (folder, store, digest)
}

#[test]
fn names_find_images() {
    let (_folder, store, digest) = stored();
    for name in ["registry.example/app:1", &digest.to_string(), &digest.hex(), &digest.hex()[..8]] {
        assert_eq!(store.inspect(name).unwrap().digest, digest, "{name}");
    }
    assert_eq!(store.list().unwrap()[0].names, ["registry.example/app:1"]);
    let error = store.inspect("nginx").unwrap_err();
    assert_eq!(error.to_string(), "no image \"nginx\" is stored here");
    assert!(error.hint().unwrap().contains("lith image pull"));
}

#[test]
fn removal_respects_use() {
    let (folder, store, digest) = stored();
    let used = BTreeSet::from([digest]);
    let error = store.remove("registry.example/app:1", &used).unwrap_err();
    assert!(matches!(error, ImageError::InUse { .. }), "{error}");
    assert_eq!(store.gc(&used, GcScope::Unused).unwrap(), []);
    assert_eq!(store.gc(&BTreeSet::new(), GcScope::Unnamed).unwrap(), []);
    let removed = store.gc(&BTreeSet::new(), GcScope::Unused).unwrap();
    assert_eq!((removed.len(), removed[0].digest), (1, digest));
    assert_eq!(removed[0].names, ["registry.example/app:1"]);
    assert_eq!(files_below(&folder.path().join("store")), ["names.json"]);
    let (_folder, store, digest) = stored();
    let removed = store.remove("registry.example/app:1", &BTreeSet::new()).unwrap().unwrap();
    assert_eq!(removed.digest, digest);
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn damage_on_disk_is_found() {
    let (_folder, store, digest) = stored();
    let image = store.inspect(&digest.to_string()).unwrap();
    store.verify(&digest.to_string()).unwrap();
    let mut bytes = fs::read(&image.erofs).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&image.erofs, bytes).unwrap();
    let error = store.verify(&digest.to_string()).unwrap_err();
    assert!(error.to_string().contains("its root file system is"), "{error}");
    for (file, words) in [("config.json", "its config is"), ("manifest.json", "its manifest is")] {
        let path = image.erofs.with_file_name(file);
        let bytes = fs::read(&path).unwrap();
        // Still what it was for whoever only reads it.
        fs::write(&path, [&bytes[..], b"\n"].concat()).unwrap();
        store.inspect(&digest.to_string()).unwrap();
        let error = store.verify(&digest.to_string()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn a_damaged_image_can_be_repaired() {
    for file in ["image.json", "config.json"] {
        let (folder, store, digest) = stored();
        let layout = folder.path().join("layout");
        let path = folder.path().join("store/images").join(digest.hex()).join(file);
        // It is listed among the others, and goes by its hint.
        fs::write(&path, "{").unwrap();
        let list = store.list().unwrap();
        assert_eq!((list.len(), list[0].digest), (1, digest));
        let error = list[0].image.as_ref().unwrap_err();
        assert!(error.hint().is_some(), "{error}");
        assert!(store.verify("registry.example/app:1").is_err());
        assert_eq!(store.remove("registry.example/app:1", &BTreeSet::new()).unwrap().unwrap().digest, digest);
        assert!(store.list().unwrap().is_empty());
        // Or it is replaced when it comes again.
        store.load_blocking(&layout, None, &NoProgress).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(store.inspect(&digest.to_string()).is_err());
        store.load_blocking(&layout, None, &NoProgress).unwrap();
        store.verify(&digest.to_string()).unwrap();
    }
}

#[test]
fn damaged_names_say_what_to_do() {
    let (folder, store, digest) = stored();
    let path = folder.path().join("store/names.json");
    fs::write(&path, "{").unwrap();
    let error = store.list().unwrap_err();
    assert_eq!(error.to_string(), format!("the image store's file {} is damaged", path.display()));
    assert!(
        error.hint().unwrap().starts_with(&format!("move {} away", path.display())),
        "{:?}",
        error.hint()
    );
    fs::rename(&path, folder.path().join("away")).unwrap();
    assert_eq!(store.list().unwrap()[0].digest, digest);
}

#[test]
fn leftovers_of_a_crash_are_swept() {
    let (folder, store, digest) = stored();
    let left = folder.path().join("store/tmp/1234-0");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("alive"), "").unwrap();
    fs::write(left.join("layer-0"), "half").unwrap();
    drop(store);
    let store = ImageStore::open(folder.path().join("store")).unwrap();
    assert!(!left.exists());
    assert_eq!(store.list().unwrap()[0].digest, digest);
}

#[test]
fn two_loads_of_one_image_converge() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let digest = write_layout(&layout, &[gzipped(&tar(&[file("f", vec![3u8; 900_000])]))], architecture());
    let root = folder.path().join("store");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = ImageStore::open(&root).unwrap();
                assert_eq!(store.load_blocking(&layout, None, &NoProgress).unwrap()[0].digest, digest);
            });
        }
    });
    assert_eq!(ImageStore::open(&root).unwrap().list().unwrap().len(), 1);
    assert_eq!(fs::read_dir(root.join("locks")).unwrap().count(), 0, "a lock goes with its holder");
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
}

const MY_TAR: Archive<'static> = Archive { label: "the archive `my.tar`", bytes: None };

#[test]
fn of_several_images_those_for_this_machine_load() {
    let folder = tempfile::tempdir().unwrap();
    let layer = plain(tar(&[file("f", "x")]));
    let other = if architecture() == "amd64" { "arm64" } else { "amd64" };
    let entry = |documents: &support::Documents, name: &str| {
        serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": documents.manifest.len(),
            "digest": Digest::of(&documents.manifest).to_string(),
            "annotations": {"io.containerd.image.name": name}
        })
    };
    let layers = std::slice::from_ref(&layer);
    let (ours, theirs) = (support::documents(layers, architecture()), support::documents(layers, other));
    let archive = |entries: Vec<serde_json::Value>| {
        let index =
            serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": entries})).unwrap();
        let blobs = [&ours.manifest, &ours.config, &theirs.manifest, &theirs.config, &layer.blob];
        let blobs = blobs.map(|b| file(format!("blobs/sha256/{}", Digest::of(b).hex()), b));
        tar(&[&[file("oci-layout", "{}"), file("index.json", index)][..], &blobs].concat())
    };
    let store = ImageStore::open(folder.path().join("store")).unwrap();
    let (mine, foreign) = (entry(&ours, "docker.io/library/b:1"), entry(&theirs, "docker.io/library/a:1"));
    let both = archive(vec![foreign.clone(), mine]);
    let images = store.load_reader(&MY_TAR, &both[..], None, &NoProgress).unwrap();
    assert_eq!((images.len(), &images[0].names[..]), (1, &["docker.io/library/b:1".to_owned()][..]));
    let error = store.load_reader(&MY_TAR, &archive(vec![foreign])[..], None, &NoProgress).unwrap_err();
    let words = format!("cannot use the archive `my.tar`: the image is for linux/{other}");
    assert!(chain(&error).starts_with(&words), "{}", chain(&error));
}

#[test]
fn names_in_a_folder_stay_in_it() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    let config = support::documents(&[plain(tar(&[]))], architecture()).config;
    for layer in [secret.path().display().to_string(), "../secret".to_owned(), "link".to_owned()] {
        let prepare = |layout: &Path| {
            fs::write(layout.join("c.json"), &config).unwrap();
            fs::write(layout.join("../secret"), tar(&[])).unwrap();
            std::os::unix::fs::symlink(layout.join("../secret"), layout.join("link")).unwrap();
            let list = serde_json::json!([{"Config": "c.json", "RepoTags": [], "Layers": [layer]}]);
            fs::write(layout.join("manifest.json"), list.to_string()).unwrap();
        };
        check_layout(prepare, "is missing");
    }
}

#[test]
fn strangers_words_are_cleaned() {
    let shouting = format!("\u{1b}[2J{}", "x".repeat(5000));
    let write = |layout: &Path| {
        write_layout(layout, &[plain(tar(&[]))], &shouting);
    };
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    fs::create_dir(&layout).unwrap();
    write(&layout);
    let store = ImageStore::open(folder.path().join("store")).unwrap();
    let told = chain(&store.load_blocking(&layout, None, &NoProgress).unwrap_err());
    assert!(told.contains("the image is for linux/\u{fffd}[2Jxxx"), "{told}");
    assert!(told.len() < 600 && !told.contains(char::is_control), "{told}");
}

#[test]
fn archives_of_both_kinds_load() {
    let folder = tempfile::tempdir().unwrap();
    let layer = tar(&[file("f", "from an archive")]);
    let documents = support::documents(&[plain(layer.clone())], architecture());
    let list = br#"[{"Config":"c.json","RepoTags":["app:2"],"Layers":["one/layer.tar","two/layer.tar"]}]"#;
    let twice = support::documents(&[plain(layer.clone()), plain(layer.clone())], architecture());
    let docker = tar(&[
        file("c.json", &twice.config),
        file("one/layer.tar", &layer),
        symlink("two/layer.tar", "../one/layer.tar"),
        file("manifest.json", list),
    ]);
    let blob = |bytes: &[u8]| file(format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": documents.manifest.len(),
        "digest": Digest::of(&documents.manifest).to_string(),
        "annotations": {"io.containerd.image.name": "docker.io/library/app:3"}
    }]});
    let oci = tar(&[
        file("oci-layout", "{}"),
        file("index.json", serde_json::to_vec(&index).unwrap()),
        blob(&documents.manifest),
        blob(&documents.config),
        blob(&layer),
    ]);
    let store = ImageStore::open(folder.path().join("store")).unwrap();
    for (bytes, name) in
        [(docker.clone(), "app:2"), (support::gzip(&oci), "app:3"), (support::gzip(&docker), "app:2")]
    {
        let images = store.load_reader(&MY_TAR, &bytes[..], None, &NoProgress).unwrap();
        assert_eq!(images[0].names, [format!("docker.io/library/{name}")]);
        assert_eq!(store.inspect(name).unwrap().digest, images[0].digest);
    }
    let cut = &docker[..docker.len() - 3000];
    let error = store.load_reader(&MY_TAR, cut, None, &NoProgress).unwrap_err();
    let told = chain(&error);
    assert!(told.starts_with("cannot read the archive `my.tar`: the archive is truncated"), "{told}");
    assert_eq!(fs::read_dir(folder.path().join("store/tmp")).unwrap().count(), 0);
}
