//! Images from files into the store.
//!
//! Must not parse archives: [`crate::archive`] does.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use super::draft::{Draft, Plan, lock_image};
use super::{Image, ImageStore};
use crate::archive::{Found, Source};
use crate::config::parse_config;
use crate::digest::Digest;
use crate::error::{ImageError, io_error};
use crate::manifest::Platform;
use crate::progress::{Phase, Progress, ProgressEvent, ProgressReader};
use crate::reference::Reference;
use crate::unpack::{UnpackError, decompressed};

/// Bytes copied at once: large enough that system calls do not matter.
const COPY_BYTES: usize = 256 * 1024;

/// What is known of an archive that comes as a stream.
#[derive(Debug, Clone, Copy)]
pub struct Archive<'a> {
    /// What a person calls it, with its noun: "the archive `app.tar`".
    pub label: &'a str,
    /// Its bytes, if they were announced.
    pub bytes: Option<u64>,
}

impl ImageStore {
    /// Loads all images for this machine from a stream of an OCI layout or a `docker save` archive, compressed or not,
    /// which is kept in the store's temporary folder meanwhile. `name` replaces the names in the archive, and must be
    /// given when it has none. Blocks.
    pub fn load_reader(
        &self,
        archive: &Archive<'_>,
        mut reader: impl Read,
        name: Option<&Reference>,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, ImageError> {
        self.check_room(archive.label, archive.bytes.unwrap_or_default())?;
        let draft = Draft::create(self)?;
        let path = draft.path("archive");
        let spool = |source| ImageError::Spool { archive: archive.label.to_owned(), source };
        let mut file = File::create_new(&path).map_err(spool)?;
        let limit = self.inner.limits.stream_bytes_max;
        let tell = |done| progress.event(ProgressEvent::Archive { done, total: archive.bytes });
        let (from, to) = (&mut reader.by_ref().take(limit + 1), &mut file);
        let copied = copy(from, to, tell).map_err(|failed| match failed {
            Copying::Read(source) => {
                let source = UnpackError::Read(source);
                ImageError::ArchiveDamaged { archive: archive.label.to_owned(), source }
            }
            Copying::Write(source) => spool(source),
        })?;
        if copied > limit {
            return Err(ImageError::TooLarge { image: archive.label.to_owned(), bytes: copied, limit });
        }
        self.load_labelled(archive.label, &path, name, progress)
    }

    /// Loads from a folder or file on this machine; see [`ImageStore::load_reader`]. Blocks.
    pub fn load_blocking(
        &self,
        path: &Path,
        name: Option<&Reference>,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, ImageError> {
        self.load_labelled(&format!("the archive `{}`", path.display()), path, name, progress)
    }

    fn load_labelled(
        &self,
        label: &str,
        path: &Path,
        name: Option<&Reference>,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, ImageError> {
        let platform = Platform::host();
        let (source, _draft) = self.open_source(label, path)?;
        let found = source.images(&platform)?;
        if found.len() > 1 && name.is_some() {
            let why = format!("it holds {} images, so one name is not enough", found.len());
            return Err(ImageError::Archive { archive: label.to_owned(), why });
        }
        found.into_iter().map(|image| self.load_one(&source, label, image, name, progress)).collect()
    }

    /// Opens a file; a compressed archive is unpacked into a draft first, for it must be read in several places.
    fn open_source(&self, label: &str, path: &Path) -> Result<(Source, Option<Draft>), ImageError> {
        if path.is_dir() {
            return Ok((Source::folder(label, path), None));
        }
        let file = File::open(path).map_err(io_error("open", path))?;
        let mut reader = BufReader::new(file);
        let start = reader.fill_buf().map_err(io_error("read", path))?;
        if !crate::unpack::is_compressed(start) {
            return Ok((Source::archive(label, reader.into_inner())?, None));
        }
        let damaged = |source| ImageError::ArchiveDamaged { archive: label.to_owned(), source };
        let mut stream = decompressed(reader).map_err(damaged)?;
        let draft = Draft::create(self)?;
        let plain_path = draft.path("archive.tar");
        let spool = |source| ImageError::Spool { archive: label.to_owned(), source };
        let mut plain =
            File::options().read(true).write(true).create_new(true).open(&plain_path).map_err(spool)?;
        let limit = self.inner.limits.stream_bytes_max;
        let copied = copy(&mut stream.by_ref().take(limit + 1), &mut plain, |_| ());
        let copied = copied.map_err(|failed| match failed {
            Copying::Read(source) => damaged(UnpackError::Decompress(source)),
            Copying::Write(source) => spool(source),
        })?;
        if copied > limit {
            return Err(damaged(UnpackError::TooMuch { what: "the archive has too many bytes", limit }));
        }
        Ok((Source::archive(label, plain)?, Some(draft)))
    }

    fn load_one(
        &self,
        source: &Source,
        label: &str,
        found: Found,
        name: Option<&Reference>,
        progress: &dyn Progress,
    ) -> Result<Image, ImageError> {
        let names = names_of(&found, name);
        let Found { manifest_bytes, config_bytes, layers, manifest, .. } = found;
        let digest = Digest::of(&manifest_bytes);
        let _lock = lock_image(self, digest)?;
        if let Some(image) = self.claim(digest, &names)? {
            return Ok(image);
        }
        let label = label.to_owned();
        let config = parse_config(&config_bytes, layers.len(), &Platform::host())
            .map_err(|source| ImageError::Manifest { image: label.clone(), source })?;
        self.check_room(&label, manifest.packed_bytes())?;
        let plan = Plan { label, names, digest, manifest_bytes, config_bytes, config };
        let sizes: Vec<(Digest, u64)> = manifest.layers.iter().map(|l| (l.digest, l.size)).collect();
        progress.event(ProgressEvent::Layers(sizes.clone()));
        let draft = Draft::create(self)?;
        let open = |index: usize| {
            let (place, digest) = &layers[index];
            let (inner, total) = source.read(place)?;
            Ok((ProgressReader { inner, progress, index, done: 0, total }, *digest))
        };
        let on_layer = |index: usize| {
            let total = sizes[index].1;
            progress.event(ProgressEvent::Layer { index, phase: Phase::Done, done: total, total });
        };
        draft.build(&plan, open, on_layer, || progress.event(ProgressEvent::Finishing))?;
        self.claim(digest, &[])?.ok_or(ImageError::Interrupted { image: plan.label })
    }
}

/// Which side of a copy failed.
enum Copying {
    Read(io::Error),
    Write(io::Error),
}

/// Copies, telling how far it is.
fn copy(from: &mut dyn Read, to: &mut File, tell: impl Fn(u64)) -> Result<u64, Copying> {
    let mut buffer = vec![0u8; COPY_BYTES];
    let mut total = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Copying::Read(error)),
        };
        to.write_all(&buffer[..n]).map_err(Copying::Write)?;
        total += n as u64;
        tell(total);
    }
}

/// Full names for a loaded image. A bare tag, as OCI layouts have it, says nothing about the repository.
fn names_of(image: &Found, name: Option<&Reference>) -> Vec<String> {
    if let Some(name) = name {
        return vec![name.to_string()];
    }
    let full = image.names.iter().filter(|name| name.contains(['/', ':']));
    full.filter_map(|name| name.parse::<Reference>().ok()).map(|r| r.to_string()).collect()
}
