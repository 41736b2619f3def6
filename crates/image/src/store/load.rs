//! Images from files into the store.
//!
//! Must not parse archives: [`crate::archive`] does.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

impl ImageStore {
    /// Loads all images for this machine from an OCI layout (folder or tar) or a `docker save` archive, compressed or
    /// not. `name` replaces the names in the file, and must be given when the file has several images or none named.
    pub async fn load(
        &self,
        path: PathBuf,
        name: Option<Reference>,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<Image>, ImageError> {
        let store = self.clone();
        let label = path.display().to_string();
        let work = tokio::task::spawn_blocking(move || store.load_blocking(&path, name.as_ref(), &*progress));
        work.await.map_err(|_| ImageError::Interrupted { image: label })?
    }

    /// Loads from a stream, which is kept in the store's temporary folder meanwhile. Blocks.
    pub fn load_reader(
        &self,
        mut reader: impl Read,
        name: Option<&Reference>,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, ImageError> {
        let draft = Draft::create(self)?;
        let path = draft.path("archive");
        let mut file = File::create_new(&path).map_err(io_error("create", &path))?;
        let limit = self.inner.limits.stream_bytes_max;
        let copied =
            io::copy(&mut reader.by_ref().take(limit + 1), &mut file).map_err(io_error("write", &path))?;
        if copied > limit {
            let source = UnpackError::TooMuch { what: "the archive has too many bytes", limit };
            return Err(ImageError::ArchiveDamaged { path, source });
        }
        self.load_blocking(&path, name, progress)
    }

    /// [`ImageStore::load`] for threads that may block.
    pub fn load_blocking(
        &self,
        path: &Path,
        name: Option<&Reference>,
        progress: &dyn Progress,
    ) -> Result<Vec<Image>, ImageError> {
        let platform = Platform::host();
        let (source, _draft) = self.open_source(path)?;
        let found = source.images(&platform)?;
        if found.len() > 1 && name.is_some() {
            let why = format!("it holds {} images, so one name is not enough", found.len());
            return Err(ImageError::Archive { path: path.to_owned(), why });
        }
        let mut images = Vec::new();
        for image in found {
            let names = names_of(&image, name);
            let digest = self.load_one(&source, path, image, &platform, progress)?;
            self.add_names(digest, &names)?;
            images.push(self.image(digest, &self.names()?)?);
        }
        Ok(images)
    }

    /// Opens a file; a compressed archive is unpacked into a draft first, for it must be read in several places.
    fn open_source(&self, path: &Path) -> Result<(Source, Option<Draft>), ImageError> {
        if path.is_dir() {
            return Ok((Source::open(path)?, None));
        }
        let file = File::open(path).map_err(io_error("open", path))?;
        let mut reader = BufReader::new(file);
        let start = reader.fill_buf().map_err(io_error("read", path))?;
        if !crate::unpack::is_compressed(start) {
            return Ok((Source::open(path)?, None));
        }
        let damaged = |source| ImageError::ArchiveDamaged { path: path.to_owned(), source };
        let mut stream = decompressed(reader).map_err(damaged)?;
        let draft = Draft::create(self)?;
        let plain_path = draft.path("archive.tar");
        let options = || File::options().read(true).write(true).create_new(true).open(&plain_path);
        let mut plain = options().map_err(io_error("create", &plain_path))?;
        let limit = self.inner.limits.stream_bytes_max;
        let copied = copy(&mut stream.by_ref().take(limit + 1), &mut plain, path, &plain_path)?;
        if copied > limit {
            return Err(damaged(UnpackError::TooMuch { what: "the archive has too many bytes", limit }));
        }
        Ok((Source::archive(path, plain)?, Some(draft)))
    }

    fn load_one(
        &self,
        source: &Source,
        path: &Path,
        found: Found,
        platform: &Platform,
        progress: &dyn Progress,
    ) -> Result<Digest, ImageError> {
        let Found { manifest_bytes, config_bytes, layers, manifest, .. } = found;
        let digest = Digest::of(&manifest_bytes);
        let _lock = lock_image(self, digest)?;
        if self.image_folder(digest).is_dir() {
            return Ok(digest);
        }
        let label = path.display().to_string();
        let config = parse_config(&config_bytes, layers.len(), platform)
            .map_err(|source| ImageError::Manifest { image: label.clone(), source })?;
        let plan = Plan { label, digest, manifest_bytes, config_bytes, config };
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
        Ok(digest)
    }
}

/// Copies, telling a damaged source from a full disk.
fn copy(from: &mut dyn Read, to: &mut File, source_path: &Path, path: &Path) -> Result<u64, ImageError> {
    use std::io::Write as _;
    let mut buffer = vec![0u8; 256 * 1024];
    let mut total = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(n) => n,
            Err(e) => {
                let source = UnpackError::Decompress(e);
                return Err(ImageError::ArchiveDamaged { path: source_path.to_owned(), source });
            }
        };
        to.write_all(&buffer[..n]).map_err(io_error("write", path))?;
        total += n as u64;
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
