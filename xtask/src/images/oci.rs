//! Packing folders into OCI layers and layers into an OCI layout archive (image-spec 1.1: `oci-layout`, `index.json`,
//! `blobs/sha256`). GNU tar writes the entries; this module owns digests, whiteouts and JSON. It must not be the code
//! that lith reads images with, for it is what that code is tested with.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::process;

/// A compressed layer on disk.
pub(crate) struct Layer {
    /// The gzip file.
    path: PathBuf,
    /// SHA-256 of the gzip file, hexadecimal.
    digest: String,
    /// SHA-256 of the tar stream inside, hexadecimal.
    diff_id: String,
    /// Of the gzip file.
    size_bytes: u64,
}

impl Layer {
    /// One line that [`Layer::parse`] reads back.
    pub(crate) fn to_line(&self) -> String {
        format!("{} {} {}", self.digest, self.diff_id, self.size_bytes)
    }

    /// Reads the line of a layer whose file is at `path`; `None` if they do not fit together.
    pub(crate) fn parse(line: &str, path: &Path) -> Option<Self> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (digest, diff_id, size) = (words.next()?, words.next()?, words.next()?);
        let size_bytes = size.parse().ok()?;
        let present = std::fs::metadata(path).ok()?.len();
        (present == size_bytes).then(|| Self { path: path.to_path_buf(), digest, diff_id, size_bytes })
    }
}

/// Packs a whole folder.
pub(crate) fn pack_tree(tree: &Path, blob: &Path) -> Result<Layer> {
    let mut names = BTreeSet::new();
    walk(tree, Path::new(""), &mut |path| {
        if !is_volatile(path) {
            names.insert(path.to_path_buf());
        }
        Ok(())
    })?;
    pack(tree, &names, &BTreeSet::new(), blob)
}

/// Packs what `upper` has and `lower` has not or has otherwise, and whiteouts for what only `lower` has.
pub(crate) fn pack_difference(lower: &Path, upper: &Path, blob: &Path) -> Result<Layer> {
    let mut names = BTreeSet::new();
    walk(upper, Path::new(""), &mut |path| {
        if !is_volatile(path) && differs(&lower.join(path), &upper.join(path))? {
            names.insert(path.to_path_buf());
        }
        Ok(())
    })?;
    let mut gone = BTreeSet::new();
    walk(lower, Path::new(""), &mut |path| {
        let parent_stays = path.parent().is_none_or(|parent| upper.join(parent).symlink_metadata().is_ok());
        if parent_stays && !is_volatile(path) && upper.join(path).symlink_metadata().is_err() {
            gone.insert(path.to_path_buf());
        }
        Ok(())
    })?;
    pack(upper, &names, &gone, blob)
}

/// Lists of packages serve the building only and are in no layer.
fn is_volatile(path: &Path) -> bool {
    path.starts_with("var/lib/apt/lists") && path != Path::new("var/lib/apt/lists")
}

fn walk(top: &Path, folder: &Path, visit: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    let full = top.join(folder);
    for entry in std::fs::read_dir(&full).with_context(|| format!("cannot list {}", full.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", full.display()))?;
        let path = folder.join(entry.file_name());
        visit(&path)?;
        if entry.file_type().with_context(|| format!("cannot look at {}", path.display()))?.is_dir() {
            walk(top, &path, visit)?;
        }
    }
    Ok(())
}

fn differs(lower: &Path, upper: &Path) -> Result<bool> {
    let Ok(old) = lower.symlink_metadata() else { return Ok(true) };
    let new = upper.symlink_metadata().with_context(|| format!("cannot look at {}", upper.display()))?;
    let facts = |metadata: &std::fs::Metadata| {
        (
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.rdev(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        )
    };
    if facts(&old) != facts(&new) {
        return Ok(true);
    }
    if new.is_symlink() {
        return Ok(std::fs::read_link(lower).ok() != std::fs::read_link(upper).ok());
    }
    // A copy keeps the time of change of contents, so an equal one with an equal size is the same content.
    Ok(new.is_file() && old.len() != new.len())
}

/// Writes the named entries and whiteouts through tar and gzip, taking both digests on the way.
fn pack(tree: &Path, names: &BTreeSet<PathBuf>, gone: &BTreeSet<PathBuf>, blob: &Path) -> Result<Layer> {
    let whiteouts = blob.with_extension("whiteouts");
    super::remove_tree(&whiteouts)?;
    let markers = make_whiteouts(&whiteouts, gone)?;
    let list = blob.with_extension("list");
    let mut lines = OsString::new().as_bytes().to_vec();
    for name in names {
        let metadata = tree
            .join(name)
            .symlink_metadata()
            .with_context(|| format!("cannot look at {}", name.display()))?;
        if !metadata.file_type().is_socket() {
            lines.extend_from_slice(name.as_os_str().as_bytes());
            lines.push(0);
        }
    }
    std::fs::write(&list, lines).with_context(|| format!("cannot write {}", list.display()))?;

    let mut command = Command::new("tar");
    command.args(["--create", "--file=-", "--numeric-owner", "--no-recursion", "--format=posix", "--xattrs"]);
    // Two packings of one tree are one layer: no times of access or of packing in the headers.
    command.args(["--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "--null"]);
    command.arg("-C").arg(tree).arg("--files-from").arg(&list);
    if !markers.is_empty() {
        command.arg("-C").arg(&whiteouts).args(&markers);
    }
    let layer = compress(&mut command, blob)?;
    super::remove_tree(&whiteouts)?;
    std::fs::remove_file(&list).with_context(|| format!("cannot remove {}", list.display()))?;
    Ok(layer)
}

/// Empty files named as image-spec's whiteouts, in their folders; returns their paths.
fn make_whiteouts(folder: &Path, gone: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut markers = Vec::new();
    for path in gone {
        let mut name = OsString::from(".wh.");
        name.push(path.file_name().context("a removed entry without a name")?);
        let marker = path.with_file_name(name);
        let full = folder.join(&marker);
        let parent = full.parent().context("a whiteout without a folder")?;
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        std::fs::write(&full, b"").with_context(|| format!("cannot write {}", full.display()))?;
        markers.push(marker);
    }
    Ok(markers)
}

fn compress(tar: &mut Command, blob: &Path) -> Result<Layer> {
    let mut child = tar.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().context("cannot start tar")?;
    let mut stream = child.stdout.take().context("tar has no output")?;
    let temporary = blob.with_extension("partial");
    let file = std::fs::File::create(&temporary)
        .with_context(|| format!("cannot create {}", temporary.display()))?;
    let mut encoder =
        GzEncoder::new(HashingWriter { file, hash: Sha256::new(), size_bytes: 0 }, Compression::new(6));
    let mut diff = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 18];
    loop {
        let count = stream.read(&mut buffer).context("cannot read from tar")?;
        if count == 0 {
            break;
        }
        diff.update(&buffer[..count]);
        encoder.write_all(&buffer[..count]).context("cannot write a layer")?;
    }
    let status = child.wait().context("cannot wait for tar")?;
    if !status.success() {
        bail!("tar failed with {status}");
    }
    let writer = encoder.finish().context("cannot write a layer")?;
    std::fs::rename(&temporary, blob).with_context(|| format!("cannot move {}", temporary.display()))?;
    Ok(Layer {
        path: blob.to_path_buf(),
        digest: hex::encode(writer.hash.finalize()),
        diff_id: hex::encode(diff.finalize()),
        size_bytes: writer.size_bytes,
    })
}

struct HashingWriter {
    file: std::fs::File,
    hash: Sha256,
    size_bytes: u64,
}

impl Write for HashingWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size_bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Writes an OCI layout with one image as a tar archive, complete or not at all.
pub(crate) fn write_archive(
    archive: &Path,
    name: &str,
    architecture: &str,
    config: &Value,
    layers: &[Layer],
) -> Result<()> {
    let layout = archive.with_extension("layout");
    super::remove_tree(&layout)?;
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).with_context(|| format!("cannot create {}", blobs.display()))?;
    for layer in layers {
        let to = blobs.join(&layer.digest);
        std::fs::hard_link(&layer.path, &to).with_context(|| format!("cannot link {}", to.display()))?;
    }
    let config_blob = add_json(&blobs, &image_config(architecture, config, layers))?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config_blob),
        "layers": layers.iter().map(|layer| descriptor(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            &(layer.digest.clone(), layer.size_bytes),
        )).collect::<Vec<_>>(),
    });
    let manifest_blob = add_json(&blobs, &manifest)?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest_blob);
    entry["platform"] = json!({ "architecture": architecture, "os": "linux" });
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": format!("{name}:1") });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });
    let write = |file: &str, value: &Value| {
        std::fs::write(layout.join(file), value.to_string()).with_context(|| format!("cannot write {file}"))
    };
    write("index.json", &index)?;
    write("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
    let temporary = archive.with_extension("partial");
    let mut command = Command::new("tar");
    command.args([
        "--create",
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--file",
    ]);
    command.arg(&temporary).arg("-C").arg(&layout).args(["oci-layout", "index.json", "blobs"]);
    process::output(&mut command)?;
    super::remove_tree(&layout)?;
    std::fs::rename(&temporary, archive).with_context(|| format!("cannot move {}", temporary.display()))
}

fn image_config(architecture: &str, config: &Value, layers: &[Layer]) -> Value {
    json!({
        // Fixed, so that one recipe and one archive of packages give one image.
        "created": "2026-01-01T00:00:00Z",
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect::<Vec<_>>(),
        },
    })
}

fn add_json(blobs: &Path, value: &Value) -> Result<(String, u64)> {
    let bytes = value.to_string().into_bytes();
    let digest = hex::encode(Sha256::digest(&bytes));
    std::fs::write(blobs.join(&digest), &bytes).context("cannot write a blob")?;
    Ok((digest, bytes.len() as u64))
}

fn descriptor(media_type: &str, (digest, size_bytes): &(String, u64)) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size_bytes })
}
