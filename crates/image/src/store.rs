//! The image store: one folder per image, named by its manifest's digest, and a file of names.
//!
//! Must not talk to registries nor know tasks: what is in use is told by the caller.
//!
//! ```text
//! lock                        held for a moment while names, images or temporary folders change
//! locks/<digest>              held while one image is made, so that two makers of it converge; goes with its holder
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
use tokio::sync::Semaphore;

use crate::config::{ImageConfig, parse_config};
use crate::digest::{Digest, digest_of_reader};
use crate::error::{ImageError, io_error};
use crate::limits::Limits;
use crate::manifest::{Manifest, Platform};
use crate::reference::Reference;
use crate::unpack::is_disk_full;
use files::{lock_file, read_json, remove_folder, sync_folder, write_json};
pub use load::Archive;
pub use pull::PullOptions;

const VERSION: u32 = 1;
/// Shortest abbreviation of a digest that is looked up, so that a short name is not taken for one.
const ABBREVIATION_MIN: usize = 6;

/// Pulls under way at once. Each keeps a thread of the caller's pool for its merge, while its downloads need others of
/// them to write: without a bound many pulls would wait for each other for ever.
const PULLS_MAX: usize = 4;
/// Space that images leave free: a full disk stops everything else on the node, too.
const RESERVE_BYTES: u64 = 512 << 20;
/// The same on a small disk: one part of so many.
const RESERVE_SHARE: u64 = 20;

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

/// A stored image as a list shows it: one that cannot be read is there, too.
#[derive(Debug)]
pub struct Listing {
    /// Its identity.
    pub digest: Digest,
    /// Names that lead to it.
    pub names: Vec<String>,
    /// Bytes that it takes on the disk.
    pub size_bytes: u64,
    /// The image, or why it cannot be used.
    pub image: Result<Image, ImageError>,
}

/// An image that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its identity.
    pub digest: Digest,
    /// The names that led to it.
    pub names: Vec<String>,
    /// Bytes given back to the disk.
    pub freed_bytes: u64,
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

/// The images of one node. Cheap to clone; any number may be open on one folder, in any number of processes.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    limits: Limits,
    pulls: Semaphore,
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
        let store = ImageStore { inner: Arc::new(Inner { root, limits, pulls: Semaphore::new(PULLS_MAX) }) };
        store.sweep()?;
        Ok(store)
    }

    /// All images, by digest.
    pub fn list(&self) -> Result<Vec<Listing>, ImageError> {
        let names = self.names()?;
        let listing = |digest| Listing {
            digest,
            names: names_of(digest, &names),
            size_bytes: self.disk_bytes(digest),
            image: self.image(digest, &names),
        };
        Ok(self.digests()?.into_iter().map(listing).collect())
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
    /// Tells of the image if that is gone now. An image in `in_use` keeps everything. Reads nothing of the image: a
    /// damaged one must go, too.
    pub fn remove(&self, name: &str, in_use: &BTreeSet<Digest>) -> Result<Option<Removed>, ImageError> {
        let _lock = self.lock()?;
        let mut names = self.names()?;
        let digest =
            self.digest_of(name, &names)?.ok_or_else(|| ImageError::NotFound { name: name.to_owned() })?;
        let full = name.parse::<Reference>().ok().map(|r| r.to_string());
        let by_name = full.filter(|full| names.names.contains_key(full));
        let had = names_of(digest, &names);
        if let Some(full) = by_name.filter(|_| had.len() > 1) {
            names.names.remove(&full);
            self.write_names(&names)?;
            return Ok(None);
        }
        if in_use.contains(&digest) {
            return Err(ImageError::InUse { name: name.to_owned() });
        }
        let removed = self.delete_named(digest, had)?;
        self.drop_names()?;
        Ok(Some(removed))
    }

    /// Removes images that nobody needs.
    pub fn gc(&self, in_use: &BTreeSet<Digest>, scope: GcScope) -> Result<Vec<Removed>, ImageError> {
        let _lock = self.lock()?;
        let names = self.names()?;
        let mut removed = Vec::new();
        for digest in self.digests()?.difference(in_use) {
            let had = names_of(*digest, &names);
            match scope {
                GcScope::Unnamed if !had.is_empty() => {}
                GcScope::Unnamed | GcScope::Unused => removed.push(self.delete_named(*digest, had)?),
            }
        }
        self.drop_names()?;
        Ok(removed)
    }

    /// Reads a stored image whole and compares it with what was recorded: the manifest with the image's digest, the
    /// config with what the manifest says, the root file system with what was written.
    pub fn verify(&self, name: &str) -> Result<(), ImageError> {
        let names = self.names()?;
        let digest =
            self.digest_of(name, &names)?.ok_or_else(|| ImageError::NotFound { name: name.to_owned() })?;
        let folder = self.image_folder(digest);
        let check = |file: &str, what: &'static str, expected: Digest| {
            let path = folder.join(file);
            let reader = File::open(&path).map_err(io_error("open", &path))?;
            let actual = digest_of_reader(reader).map_err(io_error("read", &path))?;
            if actual == expected {
                Ok(())
            } else {
                Err(ImageError::Corrupt { digest, what, expected, actual })
            }
        };
        check(files::MANIFEST, "manifest", digest)?;
        let manifest: Manifest = read_json(&folder.join(files::MANIFEST))?;
        check(files::CONFIG, "config", manifest.config.digest)?;
        let record: Record = read_json(&folder.join(files::RECORD))?;
        check(files::ROOTFS, "root file system", record.rootfs)
    }

    /// Refuses what is announced as larger than what is accepted, or than what is free.
    fn check_room(&self, image: &str, bytes: u64) -> Result<(), ImageError> {
        let limit = self.inner.limits.stream_bytes_max;
        if bytes > limit {
            return Err(ImageError::TooLarge { image: image.to_owned(), bytes, limit });
        }
        let root = self.root();
        let disk = rustix::fs::statvfs(root).map_err(|e| io_error("look at", root)(e.into()))?;
        let of = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let reserve = RESERVE_BYTES.min(of(disk.f_blocks) / RESERVE_SHARE);
        let free_bytes = of(disk.f_bavail).saturating_sub(reserve);
        if bytes > free_bytes {
            return Err(ImageError::NoRoom { image: image.to_owned(), needed_bytes: bytes, free_bytes });
        }
        Ok(())
    }

    /// Gives a stored image these names too; `None` when it is not stored. One that cannot be read is not stored: it
    /// goes, for what is made next must find its place free.
    fn claim(&self, digest: Digest, new: &[String]) -> Result<Option<Image>, ImageError> {
        let _lock = self.lock()?;
        if !self.image_folder(digest).is_dir() {
            return Ok(None);
        }
        match self.image(digest, &self.names()?) {
            Ok(_) => {}
            Err(error) if error.is_damage() => {
                tracing::warn!(%digest, %error, "a damaged image is replaced");
                self.delete(digest)?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        if !new.is_empty() {
            self.add_names(digest, new)?;
        }
        self.image(digest, &self.names()?).map(Some)
    }

    fn sweep(&self) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        let folder = self.inner.root.join("tmp");
        for entry in fs::read_dir(&folder).map_err(io_error("read", &folder))? {
            let path = entry.map_err(io_error("read", &folder))?.path();
            if files::is_abandoned(&path) {
                tracing::info!(path = %path.display(), "swept an unfinished image");
                remove_folder(&path)?;
            }
        }
        files::sweep_locks(&self.inner.root.join("locks"))
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
            .map_err(|source| ImageError::Manifest { image: format!("image {digest}"), source })?;
        let erofs = folder.join(files::ROOTFS);
        Ok(Image {
            digest,
            names: names_of(digest, names),
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
        let mut names: Names = read_json(&path).map_err(|error| match error {
            ImageError::Damaged { path, source } => ImageError::NamesDamaged { path, source },
            other => other,
        })?;
        // Images go before their names, so there may be names of nothing.
        names.names.retain(|_, digest| self.image_folder(*digest).is_dir());
        Ok(names)
    }

    fn write_names(&self, names: &Names) -> Result<(), ImageError> {
        write_json(&self.inner.root.join("names.json"), names)
    }

    /// Points names at an image. The caller holds the lock.
    fn add_names(&self, digest: Digest, new: &[String]) -> Result<(), ImageError> {
        let mut names = self.names()?;
        names.names.extend(new.iter().map(|name| (name.clone(), digest)));
        self.write_names(&names)
    }

    /// Forgets names of images that are gone. On a full disk they stay for a while: names of nothing do no harm, and
    /// the images' space was the point.
    fn drop_names(&self) -> Result<(), ImageError> {
        match self.names().and_then(|names| self.write_names(&names)) {
            Err(error) if error.is_disk_full() => {
                tracing::warn!(%error, "names of removed images stay until there is space");
                Ok(())
            }
            result => result,
        }
    }

    fn delete_named(&self, digest: Digest, names: Vec<String>) -> Result<Removed, ImageError> {
        let freed_bytes = self.disk_bytes(digest);
        self.delete(digest)?;
        Ok(Removed { digest, names, freed_bytes })
    }

    /// Removes an image's folder: out of sight by one rename, then piece by piece.
    fn delete(&self, digest: Digest) -> Result<(), ImageError> {
        let folder = self.image_folder(digest);
        let grave = self.inner.root.join("tmp").join(format!("removed-{}", digest.hex()));
        remove_folder(&grave)?;
        match fs::rename(&folder, &grave) {
            Ok(()) => {
                sync_folder(&self.inner.root.join("images"))?;
                remove_folder(&grave)
            }
            // A disk that is full to the last block may have no room for the other name.
            Err(error) if is_disk_full(&error) => remove_folder(&folder),
            Err(error) => Err(io_error("remove", &folder)(error)),
        }
    }

    fn disk_bytes(&self, digest: Digest) -> u64 {
        files::disk_bytes(&self.image_folder(digest).join(files::ROOTFS))
    }

    fn root(&self) -> &Path {
        &self.inner.root
    }
}

fn names_of(digest: Digest, names: &Names) -> Vec<String> {
    names.names.iter().filter(|(_, d)| **d == digest).map(|(name, _)| name.clone()).collect()
}
