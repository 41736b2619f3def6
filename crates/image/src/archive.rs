//! Images in files: OCI layouts (folder or tar) and `docker save` archives, found out by looking.
//!
//! Must not unpack layers nor touch the store. Paths inside an archive are only keys: nothing is looked up on the host
//! by a name that a stranger chose. In a folder blobs are found by their digest's hex digits, other names only if they
//! are plain files below it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::config::parse_config;
use crate::digest::Digest;
use crate::error::{ImageError, io_error};
use crate::limits::DOCUMENT_BYTES_MAX;
use crate::manifest::{
    self, Descriptor, Document, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Platform, parse_document,
};
use crate::unpack::{EntryKind, TarReader, UnpackError};

/// Files of an archive that are remembered; a docker archive has a few per layer.
const FILES_MAX: usize = 65_536;
/// Bytes of their names and links together: they stay in memory while the archive is read.
const NAMES_BYTES_MAX: usize = 16 << 20;
/// Nested indexes followed to reach a manifest.
const INDEX_DEPTH_MAX: usize = 3;
/// Where containerd and Docker put an image's full name.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// Where OCI layouts put a tag or a full name.
const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// One image found in a file, nothing of it checked but its form.
pub(crate) struct Found {
    /// The manifest's own bytes; made here for `docker save`, which has none.
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) manifest: Manifest,
    pub(crate) config_bytes: Vec<u8>,
    /// Where each layer is, bottom one first, and what its bytes must hash to where that is known.
    pub(crate) layers: Vec<(Place, Option<Digest>)>,
    /// Names by the archive's own account: full names, or bare tags.
    pub(crate) names: Vec<String>,
}

/// Where bytes are within a source.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    File(PathBuf),
    Range { offset: u64, size: u64 },
}

/// An opened folder or archive.
pub(crate) struct Source {
    /// What a person calls it, for messages.
    label: String,
    content: Content,
}

enum Content {
    Folder(PathBuf),
    Archive { file: File, files: BTreeMap<String, Place> },
}

/// Reads a range of a file without moving its position: several readers may share it.
pub(crate) struct RangeReader {
    file: File,
    offset: u64,
    left: u64,
}

impl Read for RangeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buf[..n], self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Counts what passes, to know where bodies start.
struct Position<R> {
    inner: R,
    at: u64,
}

impl<R: BufRead> Read for Position<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Position<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.inner.consume(n);
        self.at += n as u64;
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl Source {
    /// A folder; nothing of it is opened yet.
    pub(crate) fn folder(label: &str, path: &Path) -> Source {
        Source { label: label.to_owned(), content: Content::Folder(path.to_owned()) }
    }

    /// Takes an uncompressed archive.
    pub(crate) fn archive(label: &str, file: File) -> Result<Source, ImageError> {
        let damaged = |source| ImageError::ArchiveDamaged { archive: label.to_owned(), source };
        let rewound = file.try_clone().and_then(|mut clone| clone.seek(SeekFrom::Start(0)).map(|_| clone));
        let files = rewound.map_err(UnpackError::Read).and_then(list).map_err(damaged)?;
        Ok(Source { label: label.to_owned(), content: Content::Archive { file, files } })
    }

    fn refuse(&self, why: impl Into<String>) -> ImageError {
        ImageError::Archive { archive: self.label.clone(), why: why.into() }
    }

    fn damaged(&self, source: UnpackError) -> ImageError {
        ImageError::ArchiveDamaged { archive: self.label.clone(), source }
    }

    /// Looks for a file by the name that a document gives. In a folder it must lie in it: the name is a stranger's.
    fn find(&self, name: &str) -> Option<Place> {
        match &self.content {
            Content::Folder(folder) => {
                let is_plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
                // Links within the folder are fine, `docker save` made some; links out of it are not.
                let real = fs::canonicalize(folder.join(name)).ok().filter(|_| is_plain)?;
                let is_below = real.starts_with(fs::canonicalize(folder).ok()?);
                (is_below && real.is_file()).then_some(Place::File(real))
            }
            Content::Archive { files, .. } => files.get(name).cloned(),
        }
    }

    /// Opens a place for reading; gives the bytes there are too.
    pub(crate) fn read(&self, place: &Place) -> Result<(Box<dyn Read + Send>, u64), ImageError> {
        match (&self.content, place) {
            (Content::Archive { file, .. }, Place::Range { offset, size }) => {
                let file = file.try_clone().map_err(|e| self.damaged(UnpackError::Read(e)))?;
                Ok((Box::new(RangeReader { file, offset: *offset, left: *size }), *size))
            }
            (_, Place::File(path)) => {
                let file = File::open(path).map_err(io_error("open", path))?;
                let size = file.metadata().map_err(io_error("read", path))?.len();
                Ok((Box::new(file), size))
            }
            (Content::Folder(_), Place::Range { .. }) => Err(self.refuse("a folder has no ranges")),
        }
    }

    fn document(&self, place: &Place, what: &str) -> Result<Vec<u8>, ImageError> {
        let (reader, _) = self.read(place)?;
        let mut bytes = Vec::new();
        let mut reader = reader.take(DOCUMENT_BYTES_MAX + 1);
        reader.read_to_end(&mut bytes).map_err(|e| self.damaged(UnpackError::Read(e)))?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(self.refuse(format!("its {what} is longer than {DOCUMENT_BYTES_MAX} bytes")));
        }
        Ok(bytes)
    }

    /// All images for `platform` in this source.
    pub(crate) fn images(&self, platform: &Platform) -> Result<Vec<Found>, ImageError> {
        let is_layout = self.find("oci-layout").is_some();
        let images = match (self.find("index.json").filter(|_| is_layout), self.find("manifest.json")) {
            (Some(index), _) => self.layout_images(&index, platform)?,
            (None, Some(list)) => self.docker_images(&list, platform)?,
            (None, None) => return Err(self.refuse("it holds neither an OCI layout nor a docker archive")),
        };
        if images.is_empty() { Err(self.refuse("it holds no image")) } else { Ok(images) }
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Place, ImageError> {
        let name = format!("blobs/sha256/{}", descriptor.digest.hex());
        self.find(&name).ok_or_else(|| self.refuse(format!("blob {} is missing", descriptor.digest)))
    }

    fn checked_blob(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, ImageError> {
        let bytes = self.document(&self.blob(descriptor)?, what)?;
        let actual = Digest::of(&bytes);
        if actual == descriptor.digest {
            return Ok(bytes);
        }
        Err(self.damaged(UnpackError::WrongDigest { expected: descriptor.digest, actual }))
    }

    fn layout_images(&self, index: &Place, platform: &Platform) -> Result<Vec<Found>, ImageError> {
        let bytes = self.document(index, "index.json")?;
        let entries = match parse_document(&bytes, manifest::OCI_INDEX).map_err(|e| self.unusable(e))? {
            Document::Index(entries) => entries,
            Document::Manifest(_) => return Err(self.refuse("its index.json is not an index")),
        };
        // Several entries may be one image per name, or one name's image per platform.
        let mut by_name: BTreeMap<Vec<String>, Vec<Descriptor>> = BTreeMap::new();
        for entry in entries {
            let annotations = entry.annotations.clone().unwrap_or_default();
            let name = annotations.get(NAME_ANNOTATION).or_else(|| annotations.get(REF_ANNOTATION)).cloned();
            by_name.entry(name.into_iter().collect()).or_default().push(entry);
        }
        let found = by_name.into_iter().map(|(names, entries)| self.layout_image(&entries, platform, names));
        let mut images: Vec<Found> = Vec::new();
        for image in fitting(found)? {
            match images.iter_mut().find(|known| known.manifest_bytes == image.manifest_bytes) {
                Some(known) => known.names.extend(image.names),
                None => images.push(image),
            }
        }
        Ok(images)
    }

    fn layout_image(
        &self,
        entries: &[Descriptor],
        platform: &Platform,
        names: Vec<String>,
    ) -> Result<Found, ImageError> {
        let mut entries = entries.to_vec();
        for _ in 0..INDEX_DEPTH_MAX {
            let entry = manifest::choose(&entries, platform).map_err(|e| self.unusable(e))?;
            let manifest_bytes = self.checked_blob(entry, "manifest")?;
            match parse_document(&manifest_bytes, &entry.media_type).map_err(|e| self.unusable(e))? {
                Document::Index(inner) => entries = inner,
                Document::Manifest(manifest) => {
                    let config_bytes = self.checked_blob(&manifest.config, "config")?;
                    // An entry that names no platform is found out here.
                    parse_config(&config_bytes, manifest.layers.len(), platform)
                        .map_err(|e| self.unusable(e))?;
                    let layers = manifest.layers.iter();
                    let layers = layers
                        .map(|l| Ok((self.blob(l)?, Some(l.digest))))
                        .collect::<Result<_, ImageError>>()?;
                    return Ok(Found { manifest_bytes, manifest, config_bytes, layers, names });
                }
            }
        }
        Err(self.refuse("its indexes are nested too deep"))
    }

    fn docker_images(&self, list: &Place, platform: &Platform) -> Result<Vec<Found>, ImageError> {
        let bytes = self.document(list, "manifest.json")?;
        let entries: Vec<DockerEntry> = serde_json::from_slice(&bytes).map_err(|source| {
            self.unusable(manifest::ManifestError::Json { what: "manifest.json", source })
        })?;
        fitting(entries.into_iter().map(|entry| self.docker_image(entry, platform)))
    }

    fn docker_image(&self, entry: DockerEntry, platform: &Platform) -> Result<Found, ImageError> {
        let missing = |name: &str| self.refuse(format!("{name:?} is missing"));
        let config_place = self.find(&entry.config).ok_or_else(|| missing(&entry.config))?;
        let config_bytes = self.document(&config_place, "config")?;
        let names = entry.layers.unwrap_or_default();
        parse_config(&config_bytes, names.len(), platform).map_err(|e| self.unusable(e))?;
        let mut layers = Vec::new();
        let mut descriptors = Vec::new();
        let diff_ids = diff_ids(&config_bytes);
        for (index, name) in names.iter().enumerate() {
            let place = self.find(name).ok_or_else(|| missing(name))?;
            let (_, size) = self.read(&place)?;
            layers.push((place, None));
            // The diff_id stands for the digest: it names the content, and the content is checked against it.
            let digest = diff_ids.get(index).copied().unwrap_or_else(|| Digest::of(b""));
            let media_type = OCI_LAYER.to_owned();
            descriptors.push(Descriptor { media_type, digest, size, platform: None, annotations: None });
        }
        let config = Descriptor {
            media_type: OCI_CONFIG.to_owned(),
            digest: Digest::of(&config_bytes),
            size: config_bytes.len() as u64,
            platform: None,
            annotations: None,
        };
        let media_type = OCI_MANIFEST.to_owned();
        let manifest = Manifest { schema_version: 2, media_type, config, layers: descriptors };
        let manifest_bytes =
            serde_json::to_vec(&manifest).expect("a manifest of plain fields is always JSON");
        let names = entry.repo_tags.unwrap_or_default();
        Ok(Found { manifest_bytes, manifest, config_bytes, layers, names })
    }

    fn unusable(&self, source: manifest::ManifestError) -> ImageError {
        ImageError::Manifest { image: self.label.clone(), source }
    }
}

/// Those for this machine: one for another does not count, unless there is no other.
fn fitting(images: impl Iterator<Item = Result<Found, ImageError>>) -> Result<Vec<Found>, ImageError> {
    let mut fitting = Vec::new();
    let mut foreign = None;
    for image in images {
        match image {
            Ok(image) => fitting.push(image),
            Err(error) if is_foreign(&error) => foreign = foreign.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match foreign {
        Some(error) if fitting.is_empty() => Err(error),
        Some(_) | None => Ok(fitting),
    }
}

fn is_foreign(error: &ImageError) -> bool {
    matches!(error, ImageError::Manifest { source: manifest::ManifestError::Platform { .. }, .. })
}

fn diff_ids(config: &[u8]) -> Vec<Digest> {
    #[derive(Deserialize)]
    struct Rootfs {
        diff_ids: Vec<Digest>,
    }
    #[derive(Deserialize)]
    struct Config {
        rootfs: Rootfs,
    }
    serde_json::from_slice::<Config>(config).map(|c| c.rootfs.diff_ids).unwrap_or_default()
}

/// Joins a link's target to its own folder, as a key; links of docker archives lead to other layers.
fn key(base: &str, target: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.retain(|p| !p.is_empty() && *p != ".");
    parts.join("/")
}

/// Names and places of all files in an archive.
fn list(file: File) -> Result<BTreeMap<String, Place>, UnpackError> {
    let end = file.metadata().map_err(UnpackError::Read)?.len();
    let mut tar = TarReader::new(Position { inner: BufReader::with_capacity(256 * 1024, file), at: 0 });
    let mut files = BTreeMap::new();
    let mut links = Vec::new();
    let mut names_bytes = 0;
    while let Some(entry) = tar.next_entry()? {
        names_bytes += entry.path.len() + entry.link.len();
        if names_bytes > NAMES_BYTES_MAX {
            let limit = NAMES_BYTES_MAX as u64;
            return Err(UnpackError::TooMuch { what: "too many bytes of names in the archive", limit });
        }
        let name = key("", &String::from_utf8_lossy(&entry.path));
        let target = String::from_utf8_lossy(&entry.link).into_owned();
        let offset = tar.input().at;
        match entry.kind {
            EntryKind::File if end.saturating_sub(offset) < entry.size => {
                return Err(UnpackError::Truncated { within: format!("{name:?}") });
            }
            EntryKind::File => drop(files.insert(name, Place::Range { offset, size: entry.size })),
            EntryKind::Symlink => links.push((key(&name, &target), name)),
            EntryKind::HardLink => links.push((key("", &target), name)),
            EntryKind::Folder | EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {}
        }
        if files.len() + links.len() > FILES_MAX {
            return Err(UnpackError::TooMuch {
                what: "too many files in the archive",
                limit: FILES_MAX as u64,
            });
        }
    }
    for (target, name) in links {
        if let Some(place) = files.get(&target).cloned() {
            files.insert(name, place);
        }
    }
    Ok(files)
}
