//! Random layers against a simple model, and random bytes against the readers.
//!
//! Must not mount anything: the tree is looked at as it is; mounted images are the integration tests' matter.

use std::collections::BTreeMap;
use std::io::{BufReader, Cursor};

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};

use super::layer::{LayerSource, Unpacker};
use super::pax::Overrides;
use super::tar::{EntryKind, TarReader};
use super::tree::{Body, Kind, Meta, Node, ROOT, Tree};
use crate::limits::Limits;

/// One line of a layer, over a handful of names so that layers collide often.
#[derive(Debug, Clone)]
enum Line {
    File(Vec<u8>),
    Folder(Vec<u8>),
    Whiteout(Vec<u8>),
    Opaque(Vec<u8>),
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 1..4)
        .prop_map(|p| p.join("/").into_bytes())
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        4 => path().prop_map(Line::File),
        2 => path().prop_map(Line::Folder),
        2 => path().prop_map(Line::Whiteout),
        1 => path().prop_map(Line::Opaque),
    ]
}

/// Paths to whether they are folders.
type Model = BTreeMap<Vec<u8>, bool>;

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.len() > folder.len() && path.starts_with(folder) && path[folder.len()] == b'/'
}

fn parents(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i);
    ends.map(|end| path[..end].to_vec()).collect::<Vec<_>>().into_iter()
}

/// Applies a layer by the letter of the specification: first everything it hides, then everything it has.
fn apply_to_model(model: &mut Model, lines: &[Line]) {
    for line in lines {
        match line {
            Line::Whiteout(path) => model.retain(|p, _| p != path && !is_below(p, path)),
            Line::Opaque(folder) => model.retain(|p, _| !is_below(p, folder)),
            Line::File(_) | Line::Folder(_) => {}
        }
    }
    for line in lines {
        let (path, is_folder) = match line {
            Line::File(path) => (path.clone(), false),
            Line::Folder(path) => (path.clone(), true),
            // An opaque marker lies in its folder, so the folder exists.
            Line::Opaque(path) => ([path, &b"/x"[..]].concat(), true),
            Line::Whiteout(_) => continue,
        };
        for parent in parents(&path) {
            model.insert(parent, true);
        }
        if !matches!(line, Line::Opaque(_)) {
            if !is_folder {
                model.retain(|p, _| !is_below(p, &path));
            }
            model.insert(path, is_folder);
        }
    }
}

/// Keeps of a layer what a tool would write: one line per path, no file with something below it.
fn tidy(lines: Vec<Line>) -> Vec<Line> {
    let mut kept: Vec<Line> = Vec::new();
    let path = |line: &Line| match line {
        Line::File(p) | Line::Folder(p) | Line::Whiteout(p) => p.clone(),
        Line::Opaque(p) => [p, &b"/.opaque"[..]].concat(),
    };
    for line in lines {
        let own = path(&line);
        let clashes = kept.iter().any(|other| {
            let their = path(other);
            let is_leaf = |l: &Line| matches!(l, Line::File(_) | Line::Whiteout(_));
            their == own
                || (is_leaf(other) && is_below(&own, &their))
                || (is_leaf(&line) && is_below(&their, &own))
        });
        if !clashes {
            kept.push(line);
        }
    }
    kept
}

fn node(kind: Kind) -> Node {
    let meta = Meta { mode: 0o644, uid: 0, gid: 0, mtime: 0, mtime_nanos: 0 };
    Node { meta, kind, xattrs: Box::default() }
}

fn marker(path: &[u8], prefix: &[u8]) -> Vec<u8> {
    let start = path.iter().rposition(|&b| b == b'/').map_or(0, |i| i + 1);
    [&path[..start], prefix, &path[start..]].concat()
}

fn apply_to_tree(tree: &mut Tree, lines: &[Line]) {
    tree.begin_layer();
    for line in lines {
        match line {
            Line::File(path) => tree.insert(path, node(Kind::File(Body { size: 0, block: 0, tail: None }))),
            Line::Folder(path) => tree.insert(path, node(Kind::Folder(BTreeMap::new()))),
            Line::Whiteout(path) => tree.whiteout(&marker(path, b".wh.")),
            Line::Opaque(path) => tree.whiteout(&[path, &b"/.wh..wh..opq"[..]].concat()),
        }
        .unwrap();
    }
}

fn seen(tree: &Tree) -> Model {
    let mut model = Model::new();
    let mut pending = vec![(Vec::new(), ROOT)];
    while let Some((path, id)) = pending.pop() {
        for (name, child) in tree.children(id).into_iter().flatten() {
            let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
            let path = [&path, separator, name].concat();
            model.insert(path.clone(), tree.children(child.node).is_some());
            pending.push((path, child.node));
        }
    }
    model
}

fn read_all(bytes: &[u8]) {
    let mut tar = TarReader::new(BufReader::new(bytes));
    while let Ok(Some(entry)) = tar.next_entry() {
        if entry.kind == EntryKind::File && tar.body(&mut |_| Ok(())).is_err() {
            break;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layers_follow_the_model(layers in prop::collection::vec(prop::collection::vec(line(), 0..12), 1..5)) {
        let mut tree = Tree::new(&Limits::default());
        let mut model = Model::new();
        for lines in layers {
            let lines = tidy(lines);
            apply_to_tree(&mut tree, &lines);
            apply_to_model(&mut model, &lines);
            proptest::prop_assert_eq!(seen(&tree), model.clone(), "{:?}", lines);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000), kind in any::<u8>(), start in 0usize..4) {
        read_all(&bytes);
        let _ = Overrides::default().parse(&bytes);
        let _ = crate::manifest::parse_document(&bytes, "");
        let _ = crate::config::parse_config(&bytes, 1, &crate::Platform::host());
        // A sealed header lets the bytes through to what stands behind the checksum.
        let mut sealed = bytes;
        sealed.resize(sealed.len().max(2048), b'0');
        sealed[156] = kind;
        sealed[148..156].fill(b' ');
        let sum: u32 = sealed[..512].iter().map(|&b| u32::from(b)).sum();
        sealed[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        read_all(&sealed);
        let folder = tempfile::tempdir().unwrap();
        let mut unpacker = Unpacker::create(&folder.path().join("image"), Limits::default()).unwrap();
        let magic: [&[u8]; 4] = [b"", &[0x1f, 0x8b, 8, 0], &[0x28, 0xb5, 0x2f, 0xfd], b""];
        let blob = Cursor::new([magic[start], &sealed].concat());
        let _ = unpacker.apply(LayerSource { blob, digest: None, diff_id: None });
    }

    #[test]
    fn damaged_archives_never_panic(flips in prop::collection::vec((0usize..4096, any::<u8>()), 1..8), cut in 0usize..4096) {
        let mut bytes = vec![0u8; 4096];
        for (at, name) in [(0, b"xattr.tar"), (1024, b"linkpath."), (2048, b"././@Long")] {
            bytes[at..at + 9].copy_from_slice(name);
            bytes[at + 124..at + 136].copy_from_slice(b"00000000700\0");
            bytes[at + 156] = [b'x', b'S', b'L'][at / 1024];
        }
        for (at, value) in flips {
            bytes[at] = value;
        }
        for at in [0, 1024, 2048] {
            bytes[at + 148..at + 156].fill(b' ');
            let sum: u32 = bytes[at..at + 512].iter().map(|&b| u32::from(b)).sum();
            bytes[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        read_all(&bytes[..cut]);
        read_all(&bytes);
    }
}
