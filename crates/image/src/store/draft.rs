//! An image in the making: a temporary folder that becomes the image by one rename, or vanishes.
//!
//! Must not know where the parts come from.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::files::{self, PassingLock, lock_file, sync_folder, write_new};
use super::{ImageStore, Record, VERSION};
use crate::config::ConfigDocument;
use crate::digest::{Digest, digest_of_reader};
use crate::error::{ImageError, io_error};
use crate::unpack::{LayerSource, UnpackError, Unpacker};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A temporary folder of the store; removed when dropped.
pub(super) struct Draft {
    store: ImageStore,
    folder: PathBuf,
    _alive: File,
}

/// What is known of an image before its layers are read.
pub(super) struct Plan {
    /// What it is called in messages, with its noun.
    pub(super) label: String,
    /// Names that will lead to it.
    pub(super) names: Vec<String>,
    pub(super) digest: Digest,
    pub(super) manifest_bytes: Vec<u8>,
    pub(super) config_bytes: Vec<u8>,
    pub(super) config: ConfigDocument,
}

impl Draft {
    pub(super) fn create(store: &ImageStore) -> Result<Draft, ImageError> {
        // The store's lock keeps a sweep away until the folder's own lock is held.
        let _lock = store.lock()?;
        let unique = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = store.root().join("tmp").join(unique);
        if folder.exists() && files::is_abandoned(&folder) {
            files::remove_folder(&folder)?;
        }
        fs::create_dir(&folder).map_err(io_error("create", &folder))?;
        let alive = lock_file(&folder.join(files::ALIVE)).inspect_err(|_| {
            // Nothing is in it yet; the sweep takes what stays.
            let _ = fs::remove_dir_all(&folder);
        })?;
        Ok(Draft { store: store.clone(), folder, _alive: alive })
    }

    /// A path in the temporary folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Merges the layers, which `open` gives one after the other, and publishes the image.
    pub(super) fn build<R: Read + Send>(
        &self,
        plan: &Plan,
        mut open: impl FnMut(usize) -> Result<(R, Option<Digest>), ImageError>,
        mut on_layer: impl FnMut(usize),
        on_finish: impl FnOnce(),
    ) -> Result<(), ImageError> {
        let image = self.path("image");
        fs::create_dir(&image).map_err(io_error("create", &image))?;
        let finish_error = |source| ImageError::Finish { image: plan.label.clone(), source };
        let rootfs = image.join(files::ROOTFS);
        let mut unpacker =
            Unpacker::create(&rootfs, self.store.inner.limits.clone()).map_err(finish_error)?;
        for (index, &diff_id) in plan.config.diff_ids.iter().enumerate() {
            let (blob, digest) = open(index)?;
            unpacker.apply(LayerSource { blob, digest, diff_id: Some(diff_id) }).map_err(|source| {
                ImageError::Unpack { image: plan.label.clone(), layer: index + 1, source }
            })?;
            on_layer(index);
        }
        on_finish();
        let stream_bytes = unpacker.stream_bytes();
        let unpacked = unpacker.finish().map_err(finish_error)?;
        tracing::debug!(image = plan.label, inodes = unpacked.inodes, stream_bytes, "merged layers");
        let rootfs_digest = sync_and_hash(&unpacked.file, &rootfs, plan)?;
        let record = Record {
            version: VERSION,
            digest: plan.digest,
            rootfs: rootfs_digest,
            created: plan.config.created.clone(),
            platform: plan.config.platform.clone(),
            layers: plan.config.diff_ids.clone(),
        };
        let record = serde_json::to_vec_pretty(&record).expect("records of plain fields are always JSON");
        write_new(&image.join(files::MANIFEST), &plan.manifest_bytes)?;
        write_new(&image.join(files::CONFIG), &plan.config_bytes)?;
        write_new(&image.join(files::RECORD), &record)?;
        sync_folder(&image)?;
        self.publish(&image, plan)
    }

    /// Image and names appear under one lock: a collection must not find the image without them.
    fn publish(&self, image: &Path, plan: &Plan) -> Result<(), ImageError> {
        let _lock = self.store.lock()?;
        let target = self.store.image_folder(plan.digest);
        fs::rename(image, &target).map_err(io_error("publish", &target))?;
        sync_folder(&self.store.root().join("images"))?;
        self.store.add_names(plan.digest, &plan.names).inspect_err(|_| {
            // The first error is the one to tell; what stays is an image without a name, which is collected.
            let _ = self.store.delete(plan.digest);
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = files::remove_folder(&self.folder) {
            tracing::warn!(path = %self.folder.display(), %error, "a temporary folder stays until the next start");
        }
    }
}

/// Writes the file out while hashing it: the bytes are still in memory, so one does not wait for the other.
fn sync_and_hash(file: &File, path: &Path, plan: &Plan) -> Result<Digest, ImageError> {
    let digest = std::thread::scope(|scope| {
        let sync = scope.spawn(|| file.sync_all());
        let digest = File::open(path).and_then(digest_of_reader);
        sync.join().map_err(|_| std::io::Error::other("the sync panicked")).flatten().and(digest)
    });
    digest.map_err(|e| ImageError::Finish { image: plan.label.clone(), source: UnpackError::Write(e) })
}

/// Waits until no other maker works on this image, here or in another process.
pub(super) fn lock_image(store: &ImageStore, digest: Digest) -> Result<PassingLock, ImageError> {
    PassingLock::take(store.root().join("locks").join(digest.hex()))
}
