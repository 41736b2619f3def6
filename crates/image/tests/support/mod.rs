//! Makes hand-made images and looks at what became of them.
//!
//! Must not use the crate's own tar or EROFS code: the two sides of a test must not share a mistake.
#![allow(dead_code, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lith_image::Digest;

/// One entry of a hand-made layer.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) ids: (u64, u64),
    pub(crate) mtime: u64,
    pub(crate) device: (u32, u32),
    pub(crate) pax: Vec<(String, Vec<u8>)>,
    pub(crate) is_gnu: bool,
}

pub(crate) fn entry(kind: u8, path: impl AsRef<[u8]>) -> Entry {
    let mode = if kind == b'5' { 0o755 } else { 0o644 };
    Entry {
        path: path.as_ref().to_vec(),
        kind,
        link: Vec::new(),
        body: Vec::new(),
        mode,
        ids: (0, 0),
        mtime: 1_700_000_000,
        device: (0, 0),
        pax: Vec::new(),
        is_gnu: false,
    }
}

pub(crate) fn file(path: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Entry {
    Entry { body: body.as_ref().to_vec(), ..entry(b'0', path) }
}

pub(crate) fn folder(path: impl AsRef<[u8]>) -> Entry {
    entry(b'5', path)
}

pub(crate) fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { link: target.as_ref().to_vec(), mode: 0o777, ..entry(b'2', path) }
}

pub(crate) fn hardlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { link: target.as_ref().to_vec(), ..entry(b'1', path) }
}

impl Entry {
    pub(crate) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Entry {
        self.pax.push((key.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn mode(self, mode: u32) -> Entry {
        Entry { mode, ..self }
    }

    pub(crate) fn ids(self, uid: u64, gid: u64) -> Entry {
        Entry { ids: (uid, gid), ..self }
    }

    pub(crate) fn mtime(self, mtime: u64) -> Entry {
        Entry { mtime, ..self }
    }

    pub(crate) fn gnu(self) -> Entry {
        Entry { is_gnu: true, ..self }
    }

    pub(crate) fn device(self, major: u32, minor: u32) -> Entry {
        Entry { device: (major, minor), ..self }
    }
}

fn put_number(field: &mut [u8], value: u64) {
    let octal = format!("{value:0width$o}\0", width = field.len() - 1);
    if octal.len() <= field.len() {
        field.copy_from_slice(octal.as_bytes());
    } else {
        let width = field.len();
        field.fill(0);
        field[width - 8..].copy_from_slice(&value.to_be_bytes());
        field[0] |= 0x80;
    }
}

/// A raw header block with a good checksum.
pub(crate) fn header(entry: &Entry, size: u64) -> [u8; 512] {
    let mut h = [0u8; 512];
    let path = &entry.path[..entry.path.len().min(100)];
    h[..path.len()].copy_from_slice(path);
    put_number(&mut h[100..108], u64::from(entry.mode));
    put_number(&mut h[108..116], entry.ids.0);
    put_number(&mut h[116..124], entry.ids.1);
    put_number(&mut h[124..136], size);
    put_number(&mut h[136..148], entry.mtime);
    h[156] = entry.kind;
    let link = &entry.link[..entry.link.len().min(100)];
    h[157..157 + link.len()].copy_from_slice(link);
    h[257..265].copy_from_slice(if entry.is_gnu { b"ustar  \0" } else { b"ustar\x0000" });
    put_number(&mut h[329..337], u64::from(entry.device.0));
    put_number(&mut h[337..345], u64::from(entry.device.1));
    seal(&mut h);
    h
}

/// Writes the checksum of a header.
pub(crate) fn seal(h: &mut [u8; 512]) {
    h[148..156].fill(b' ');
    let sum: u64 = h.iter().map(|&b| u64::from(b)).sum();
    h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn append(out: &mut Vec<u8>, header: &[u8; 512], body: &[u8]) {
    out.extend_from_slice(header);
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(512), 0);
}

fn pax_records(records: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        out.extend_from_slice(format!("{length} {key}=").as_bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

/// A whole archive.
pub(crate) fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for e in entries {
        let mut pax = e.pax.clone();
        for (long, kind, key) in [(&e.path, b'L', "path"), (&e.link, b'K', "linkpath")] {
            if long.len() <= 100 {
                continue;
            }
            if e.is_gnu {
                let body = [long.as_slice(), b"\0"].concat();
                append(&mut out, &header(&entry(kind, "././@LongLink").gnu(), body.len() as u64), &body);
            } else {
                pax.push((key.to_owned(), long.clone()));
            }
        }
        if !pax.is_empty() {
            let body = pax_records(&pax);
            append(&mut out, &header(&entry(b'x', "pax"), body.len() as u64), &body);
        }
        append(&mut out, &header(e, e.body.len() as u64), &e.body);
    }
    out.extend_from_slice(&[0; 1024]);
    out
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer as it stands in an image: blob, media type, diff_id.
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    pub(crate) media_type: &'static str,
    pub(crate) diff_id: Digest,
}

pub(crate) fn plain(tar: Vec<u8>) -> Layer {
    let diff_id = Digest::of(&tar);
    Layer { blob: tar, media_type: "application/vnd.oci.image.layer.v1.tar", diff_id }
}

pub(crate) fn gzipped(tar: &[u8]) -> Layer {
    Layer {
        blob: gzip(tar),
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip",
        diff_id: Digest::of(tar),
    }
}

pub(crate) fn zstded(tar: &[u8]) -> Layer {
    let blob = zstd::encode_all(tar, 3).unwrap();
    Layer { blob, media_type: "application/vnd.oci.image.layer.v1.tar+zstd", diff_id: Digest::of(tar) }
}

/// The documents of an image around its layers.
pub(crate) struct Documents {
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

pub(crate) fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

pub(crate) fn documents(layers: &[Layer], architecture: &str) -> Documents {
    let diff_ids: Vec<String> = layers.iter().map(|l| l.diff_id.to_string()).collect();
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "created": "2024-01-02T03:04:05Z",
        "config": {
            "Entrypoint": ["/bin/server"], "Cmd": ["--port", "80"], "Env": ["PATH=/bin"], "User": "www:www",
            "WorkingDir": "/srv", "StopSignal": "SIGQUIT", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
            "Labels": {"a": "b"}
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [],
    });
    let config = serde_json::to_vec(&config).unwrap();
    let descriptors: Vec<_> = layers
        .iter()
        .map(|l| {
            serde_json::json!({
                "mediaType": l.media_type, "digest": Digest::of(&l.blob).to_string(), "size": l.blob.len()
            })
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config).to_string(), "size": config.len()
        },
        "layers": descriptors,
    });
    Documents { config, manifest: serde_json::to_vec(&manifest).unwrap() }
}

pub(crate) fn put_blob(layout: &Path, blob: &[u8]) {
    let folder = layout.join("blobs/sha256");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(Digest::of(blob).hex()), blob).unwrap();
}

/// Writes an OCI layout with one image, tagged `t`.
pub(crate) fn write_layout(layout: &Path, layers: &[Layer], architecture: &str) -> Digest {
    let documents = documents(layers, architecture);
    layers.iter().for_each(|layer| put_blob(layout, &layer.blob));
    put_blob(layout, &documents.config);
    put_blob(layout, &documents.manifest);
    let digest = Digest::of(&documents.manifest);
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.to_string(),
        "size": documents.manifest.len(), "annotations": {"org.opencontainers.image.ref.name": "t"}
    }]});
    fs::write(layout.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    fs::write(layout.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    digest
}

pub(crate) fn run(program: &str, arguments: &[&OsStr]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A mounted file system, unmounted when dropped.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    pub(crate) fn erofs(image: &Path, at: &Path) -> Mounted {
        fs::create_dir_all(at).unwrap();
        let options = ["-t", "erofs", "-o", "loop,ro"].map(OsStr::new);
        run("mount", &[&options[..], &[image.as_os_str(), at.as_os_str()]].concat());
        Mounted(at.to_owned())
    }

    pub(crate) fn tmpfs(at: &Path, bytes: u64) -> Mounted {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={bytes}");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", at.to_str().unwrap()].map(OsStr::new));
        Mounted(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let output = Command::new("umount").arg(&self.0).output();
        let is_done = output.as_ref().is_ok_and(|output| output.status.success());
        // A second panic would end the program, and with it the other tests.
        assert!(is_done || std::thread::panicking(), "umount {}: {output:?}", self.0.display());
    }
}

/// Everything that can be seen of one entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, i64),
    pub(crate) size: u64,
    pub(crate) content: String,
    pub(crate) device: u64,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of its group of hard links, and their number.
    pub(crate) links: (Vec<u8>, u64),
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0u8; 65_536];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let names = names[..length].split(|&b| b == 0).filter(|n| !n.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0u8; 65_536];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value).unwrap();
        value[..length].to_vec()
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Looks at a whole tree.
pub(crate) fn facts(root: &Path) -> BTreeMap<Vec<u8>, Fact> {
    let mut facts = BTreeMap::new();
    let mut groups: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut paths = vec![root.to_owned()];
    let mut seen = Vec::new();
    while let Some(path) = paths.pop() {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        seen.push(path);
    }
    seen.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    for path in seen {
        let m = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let content = if m.is_file() {
            Digest::of(&fs::read(&path).unwrap()).to_string()
        } else if m.is_symlink() {
            format!("{:?}", fs::read_link(&path).unwrap().into_os_string().into_vec())
        } else {
            String::new()
        };
        let group = groups.entry(m.ino()).or_insert_with(|| name.clone()).clone();
        let fact = Fact {
            mode: m.mode(),
            uid: m.uid(),
            gid: m.gid(),
            mtime: (m.mtime(), m.mtime_nsec()),
            size: if m.is_dir() { 0 } else { m.size() },
            content,
            device: m.rdev(),
            xattrs: xattrs(&path),
            links: (group, if m.is_dir() { 0 } else { m.nlink() }),
        };
        facts.insert(name, fact);
    }
    facts
}

/// Every file below a folder, for "nothing is left behind".
pub(crate) fn files_below(root: &Path) -> Vec<String> {
    facts_paths(root).into_iter().filter(|p| !p.ends_with("lock") && !p.starts_with("locks/")).collect()
}

fn facts_paths(root: &Path) -> Vec<String> {
    let mut paths = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            // A folder may vanish while it is read: that is what some tests wait for.
            paths.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()));
        } else {
            found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

/// An error with all its causes, as a person would read it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
