//! The image store: one folder per image, named by its manifest's digest, and a file of names.
//!
//! Must not talk to registries nor know tasks: what is in use is told by the caller.
//!
//! ```text
//! lock                        held for a moment while names, images or temporary folders change
//! locks/<digest>              held while one image is made, so that two makers of it converge
//! names.json                  name → digest
//! images/<digest>/            manifest.json config.json image.json rootfs.erofs; appears by one rename
//! tmp/<unique>/               images in the making; swept on open when their maker is gone
//! ```

mod draft;
mod files;
mod load;
mod pull;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{ImageConfig, parse_config};
use crate::digest::{Digest, digest_of_reader};
use crate::error::{ImageError, io_error};
use crate::limits::Limits;
use crate::manifest::Platform;
use crate::reference::Reference;
use files::{lock_file, read_json, sync_folder, write_json};
pub use pull::PullOptions;

const VERSION: u32 = 1;
/// Shortest abbreviation of a digest that is looked up, so that a short name is not taken for one.
const ABBREVIATION_MIN: usize = 6;

/// A stored image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Image {
    /// Digest of the image's manifest: its identity.
    pub digest: Digest,
    /// Names that lead to it, in full form.
    pub names: Vec<String>,
    /// What to run.
    pub config: ImageConfig,
    /// Its read-only root file system.
    pub erofs: PathBuf,
    /// Bytes that the root file system takes on the disk.
    pub size_bytes: u64,
    /// When it was built, as RFC 3339, if its author says so.
    pub created: Option<String>,
    /// What it runs on.
    pub platform: Platform,
    /// diff_ids of its layers, bottom one first.
    pub layers: Vec<Digest>,
}

/// What `image.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    digest: Digest,
    rootfs: Digest,
    created: Option<String>,
    platform: Platform,
    layers: Vec<Digest>,
}

/// What `names.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Names {
    version: u32,
    names: BTreeMap<String, Digest>,
}

/// Which images a collection removes; images in use always stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GcScope {
    /// Images that no name leads to any more.
    Unnamed,
    /// All images that are not in use.
    Unused,
}

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// The images.
    pub removed: Vec<Digest>,
    /// Bytes given back to the disk.
    pub freed_bytes: u64,
}

/// The images of one node. Cheap to clone; any number may be open on one folder, in any number of processes.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    limits: Limits,
}

impl ImageStore {
    /// Opens the store in `root`, creates it if it is missing, and sweeps what a crash left behind.
    pub fn open(root: impl Into<PathBuf>) -> Result<ImageStore, ImageError> {
        ImageStore::open_with_limits(root, Limits::default())
    }

    /// Opens the store with other bounds on what an image may ask for.
    pub fn open_with_limits(root: impl Into<PathBuf>, limits: Limits) -> Result<ImageStore, ImageError> {
        let root = root.into();
        for folder in ["", "images", "tmp", "locks"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        let store = ImageStore { inner: Arc::new(Inner { root, limits }) };
        store.sweep()?;
        Ok(store)
    }

    /// All images, by digest.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let names = self.names()?;
        self.digests()?.into_iter().map(|digest| self.image(digest, &names)).collect()
    }

    /// The image that a name (by Docker's rules), a digest or the first digits of one leads to.
    pub fn resolve(&self, name: &str) -> Result<Option<Image>, ImageError> {
        let names = self.names()?;
        let digest = match self.digest_of(name, &names)? {
            Some(digest) => digest,
            None => return Ok(None),
        };
        self.image(digest, &names).map(Some)
    }

    /// Like [`ImageStore::resolve`], but its absence is an error.
    pub fn inspect(&self, name: &str) -> Result<Image, ImageError> {
        self.resolve(name)?.ok_or_else(|| ImageError::NotFound { name: name.to_owned() })
    }

    /// Removes a name, and the image itself with its last name; a digest removes the image with all its names.
    /// Gives the digest of the image if that is gone now. An image in `in_use` keeps everything.
    pub fn remove(&self, name: &str, in_use: &BTreeSet<Digest>) -> Result<Option<Digest>, ImageError> {
        let _lock = self.lock()?;
        let mut names = self.names()?;
        let digest =
            self.digest_of(name, &names)?.ok_or_else(|| ImageError::NotFound { name: name.to_owned() })?;
        let full = name.parse::<Reference>().ok().map(|r| r.to_string());
        let is_by_name = full.as_ref().is_some_and(|full| names.names.contains_key(full));
        let others = names.names.iter().filter(|(n, d)| **d == digest && Some(*n) != full.as_ref()).count();
        let is_last = !is_by_name || others == 0;
        if is_last && in_use.contains(&digest) {
            return Err(ImageError::InUse { name: name.to_owned() });
        }
        names.names.retain(|n, d| if is_by_name { Some(n) != full.as_ref() } else { *d != digest });
        self.write_names(&names)?;
        if is_last {
            self.delete(digest)?;
        }
        Ok(is_last.then_some(digest))
    }

    /// Removes images that nobody needs.
    pub fn gc(&self, in_use: &BTreeSet<Digest>, scope: GcScope) -> Result<GcReport, ImageError> {
        let _lock = self.lock()?;
        let mut names = self.names()?;
        let mut report = GcReport::default();
        for digest in self.digests()? {
            let is_named = names.names.values().any(|d| *d == digest);
            if in_use.contains(&digest) || (scope == GcScope::Unnamed && is_named) {
                continue;
            }
            report.freed_bytes += files::disk_bytes(&self.image_folder(digest).join(files::ROOTFS));
            report.removed.push(digest);
        }
        names.names.retain(|_, digest| !report.removed.contains(digest));
        self.write_names(&names)?;
        for &digest in &report.removed {
            self.delete(digest)?;
        }
        Ok(report)
    }

    /// Reads a stored root file system and its documents whole and compares them with what was recorded.
    pub fn verify(&self, name: &str) -> Result<(), ImageError> {
        let digest = self.inspect(name)?.digest;
        let folder = self.image_folder(digest);
        let record: Record = read_json(&folder.join(files::RECORD))?;
        let check = |file: &str, expected: Digest| {
            let path = folder.join(file);
            let reader = File::open(&path).map_err(io_error("open", &path))?;
            let actual = digest_of_reader(reader).map_err(io_error("read", &path))?;
            if actual == expected { Ok(()) } else { Err(ImageError::Corrupt { digest, expected, actual }) }
        };
        check(files::MANIFEST, digest)?;
        check(files::ROOTFS, record.rootfs)
    }

    fn sweep(&self) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        let folder = self.inner.root.join("tmp");
        for entry in fs::read_dir(&folder).map_err(io_error("read", &folder))? {
            let path = entry.map_err(io_error("read", &folder))?.path();
            if files::is_abandoned(&path) {
                tracing::info!(path = %path.display(), "swept an unfinished image");
                fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> Result<File, ImageError> {
        lock_file(&self.inner.root.join("lock"))
    }

    fn image_folder(&self, digest: Digest) -> PathBuf {
        self.inner.root.join("images").join(digest.hex())
    }

    fn digests(&self) -> Result<BTreeSet<Digest>, ImageError> {
        let folder = self.inner.root.join("images");
        let mut digests = BTreeSet::new();
        for entry in fs::read_dir(&folder).map_err(io_error("read", &folder))? {
            let name = entry.map_err(io_error("read", &folder))?.file_name();
            digests.extend(format!("sha256:{}", name.to_string_lossy()).parse::<Digest>().ok());
        }
        Ok(digests)
    }

    fn digest_of(&self, name: &str, names: &Names) -> Result<Option<Digest>, ImageError> {
        if let Ok(reference) = name.parse::<Reference>() {
            if let Some(digest) = names.names.get(&reference.to_string()) {
                return Ok(Some(*digest));
            }
            // A digest is exact whatever name stands before it.
            if let Some(digest) = reference.digest
                && self.image_folder(digest).is_dir()
            {
                return Ok(Some(digest));
            }
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        if digits.len() < ABBREVIATION_MIN || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let mut fitting = self.digests()?.into_iter().filter(|d| d.hex().starts_with(digits));
        match (fitting.next(), fitting.next()) {
            (_, Some(_)) => Err(ImageError::Ambiguous { name: name.to_owned() }),
            (found, None) => Ok(found),
        }
    }

    fn image(&self, digest: Digest, names: &Names) -> Result<Image, ImageError> {
        let folder = self.image_folder(digest);
        let record: Record = read_json(&folder.join(files::RECORD))?;
        let config_path = folder.join(files::CONFIG);
        let config_bytes = fs::read(&config_path).map_err(io_error("read", &config_path))?;
        let config = parse_config(&config_bytes, record.layers.len(), &record.platform)
            .map_err(|source| ImageError::Manifest { image: digest.to_string(), source })?;
        let erofs = folder.join(files::ROOTFS);
        Ok(Image {
            digest,
            names: names.names.iter().filter(|(_, d)| **d == digest).map(|(n, _)| n.clone()).collect(),
            config: config.config,
            size_bytes: files::disk_bytes(&erofs),
            erofs,
            created: record.created,
            platform: record.platform,
            layers: record.layers,
        })
    }

    fn names(&self) -> Result<Names, ImageError> {
        let path = self.inner.root.join("names.json");
        if !path.exists() {
            return Ok(Names { version: VERSION, names: BTreeMap::new() });
        }
        let mut names: Names = read_json(&path)?;
        // A crash between removing an image and its names would leave names of nothing.
        names.names.retain(|_, digest| self.image_folder(*digest).is_dir());
        Ok(names)
    }

    fn write_names(&self, names: &Names) -> Result<(), ImageError> {
        write_json(&self.inner.root.join("names.json"), names)
    }

    fn add_names(&self, digest: Digest, new: &[String]) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        let mut names = self.names()?;
        names.names.extend(new.iter().map(|name| (name.clone(), digest)));
        self.write_names(&names)
    }

    /// Removes an image's folder: out of sight by one rename, then piece by piece.
    fn delete(&self, digest: Digest) -> Result<(), ImageError> {
        let folder = self.image_folder(digest);
        let grave = self.inner.root.join("tmp").join(format!("removed-{}", digest.hex()));
        if grave.exists() {
            fs::remove_dir_all(&grave).map_err(io_error("remove", &grave))?;
        }
        fs::rename(&folder, &grave).map_err(io_error("remove", &folder))?;
        sync_folder(&self.inner.root.join("images"))?;
        fs::remove_dir_all(&grave).map_err(io_error("remove", &grave))
    }

    fn root(&self) -> &Path {
        &self.inner.root
    }
}
