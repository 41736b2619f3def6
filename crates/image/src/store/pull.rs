//! Images from registries into the store: layers come in side by side and are merged as soon as their turn comes.
//!
//! Must not speak HTTP: [`crate::registry`] does.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinSet, spawn_blocking};

use super::draft::{Draft, Plan, lock_image};
use super::files::PassingLock;
use super::{Image, ImageStore};
use crate::config::parse_config;
use crate::digest::Digest;
use crate::error::{ImageError, io_error};
use crate::manifest::{Descriptor, Document, Manifest, ManifestError, Platform, choose, parse_document};
use crate::progress::{Phase, Progress, ProgressEvent, ProgressReader};
use crate::reference::Reference;
use crate::registry::{Registry, RegistryError, RegistryOptions};

/// Layers fetched at once: enough to fill a line in spite of latency, few enough to be polite.
const PARALLEL_LAYERS: usize = 4;
/// An index may lead to an index; deeper is not honest.
const INDEX_DEPTH_MAX: usize = 3;

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// How to reach the registry.
    pub registry: RegistryOptions,
    /// The wanted platform; this machine's own when `None`.
    pub platform: Option<Platform>,
}

impl ImageStore {
    /// Fetches an image that is not stored yet, and points the name at it. A pull of what is stored costs one request.
    /// Dropping the future stops the work and leaves nothing behind.
    pub async fn pull(
        &self,
        reference: &Reference,
        options: &PullOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<Image, ImageError> {
        let label = format!("image {reference}");
        let names = [reference.to_string()];
        let _turn = self.inner.pulls.acquire().await;
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let fetch = |source| ImageError::Fetch { image: label.clone(), source };
        let registry =
            Registry::new(reference.api_host(), &reference.repository, &options.registry).map_err(fetch)?;
        let (digest, manifest_bytes, manifest) = find(&registry, reference, &platform, &label).await?;
        // Two pulls of one image: the second waits here, then finds it stored.
        let store = self.clone();
        let interrupted = || ImageError::Interrupted { image: label.clone() };
        let lock = spawn_blocking(move || lock_image(&store, digest)).await.map_err(|_| interrupted())??;
        if let Some(image) = self.claim(digest, &names)? {
            return Ok(image);
        }
        self.check_room(&label, manifest.packed_bytes())?;
        let config_bytes = registry.small_blob(manifest.config.digest).await.map_err(fetch)?;
        let config = parse_config(&config_bytes, manifest.layers.len(), &platform)
            .map_err(|source| ImageError::Manifest { image: label.clone(), source })?;
        let names = names.to_vec();
        let plan = Plan { label: label.clone(), names, digest, manifest_bytes, config_bytes, config };
        self.fetch_layers(registry, plan, manifest.layers, lock, progress).await?;
        self.claim(digest, &[])?.ok_or_else(interrupted)
    }

    async fn fetch_layers(
        &self,
        registry: Registry,
        plan: Plan,
        layers: Vec<Descriptor>,
        lock: PassingLock,
        progress: Arc<dyn Progress>,
    ) -> Result<(), ImageError> {
        let sizes: Vec<(Digest, u64)> = layers.iter().map(|l| (l.digest, l.size)).collect();
        progress.event(ProgressEvent::Layers(sizes.clone()));
        // Held by each download, too: the last of them takes the folder away, when nothing is written there any more.
        let draft = Arc::new(Draft::create(self)?);
        let label = plan.label.clone();
        let registry = Arc::new(registry);
        let slots = Arc::new(Semaphore::new(PARALLEL_LAYERS));
        let mut downloads = JoinSet::new();
        let mut arrivals = Vec::new();
        for (index, layer) in layers.into_iter().enumerate() {
            let (arrived, arrival) = oneshot::channel();
            arrivals.push(Some(arrival));
            let (path, draft) = (draft.path(&format!("layer-{index}")), draft.clone());
            let (registry, slots, progress) = (registry.clone(), slots.clone(), progress.clone());
            downloads.spawn(async move {
                let _slot = slots.acquire().await;
                let total = layer.size;
                let tell = |done| {
                    progress.event(ProgressEvent::Layer { index, phase: Phase::Fetching, done, total })
                };
                registry.blob(layer.digest, total, &path, &tell).await?;
                // The merge gone before its input is its own error to tell.
                let _ = arrived.send(path);
                drop(draft);
                Ok::<(), RegistryError>(())
            });
        }
        let mut merge = spawn_blocking(move || {
            let merged = merge(&draft, &plan, arrivals, &sizes, &*progress);
            drop(lock);
            merged
        });
        let interrupted = || ImageError::Interrupted { image: label.clone() };
        let fetch = |source| ImageError::Fetch { image: label.clone(), source };
        let merged = loop {
            tokio::select! {
                biased;
                Some(joined) = downloads.join_next() => match joined {
                    Ok(Ok(())) => {}
                    Ok(Err(source)) => {
                        // Without the rest the merge ends, and takes its files with it before the error is told.
                        downloads.shutdown().await;
                        let _ = merge.await;
                        return Err(fetch(source));
                    }
                    Err(_) => return Err(interrupted()),
                },
                merged = &mut merge => break merged.map_err(|_| interrupted())?,
            }
        };
        if let Err(ImageError::Interrupted { .. }) = merged
            && let Some(source) = first_failure(&mut downloads).await
        {
            return Err(fetch(source));
        }
        merged
    }
}

/// Why the first download failed: the merge learns that one has a moment before it is seen to have ended.
async fn first_failure(downloads: &mut JoinSet<Result<(), RegistryError>>) -> Option<RegistryError> {
    while let Some(joined) = downloads.join_next().await {
        if let Ok(Err(source)) = joined {
            downloads.shutdown().await;
            return Some(source);
        }
    }
    None
}

/// Merges layers in order as they arrive; each compressed layer is gone as soon as it is merged.
fn merge(
    draft: &Draft,
    plan: &Plan,
    mut arrivals: Vec<Option<oneshot::Receiver<PathBuf>>>,
    sizes: &[(Digest, u64)],
    progress: &dyn Progress,
) -> Result<(), ImageError> {
    let open = |index: usize| {
        let arrival = arrivals.get_mut(index).and_then(Option::take);
        let path = arrival.and_then(|a| a.blocking_recv().ok());
        let path = path.ok_or_else(|| ImageError::Interrupted { image: plan.label.clone() })?;
        let inner = File::open(&path).map_err(io_error("open", &path))?;
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
        // The download checked the digest.
        Ok((ProgressReader { inner, progress, index, done: 0, total: sizes[index].1 }, None))
    };
    let on_layer = |index: usize| {
        let total = sizes[index].1;
        progress.event(ProgressEvent::Layer { index, phase: Phase::Done, done: total, total });
    };
    draft.build(plan, open, on_layer, || progress.event(ProgressEvent::Finishing))
}

/// Follows a name to the manifest of one platform.
async fn find(
    registry: &Registry,
    reference: &Reference,
    platform: &Platform,
    label: &str,
) -> Result<(Digest, Vec<u8>, Manifest), ImageError> {
    let unusable = |source| ImageError::Manifest { image: label.to_owned(), source };
    let mut target = reference.target();
    for _ in 0..=INDEX_DEPTH_MAX {
        let fetched = registry.manifest(&target).await;
        let fetched = fetched.map_err(|source| ImageError::Fetch { image: label.to_owned(), source })?;
        match parse_document(&fetched.bytes, &fetched.content_type).map_err(unusable)? {
            Document::Manifest(manifest) => return Ok((fetched.digest, fetched.bytes, manifest)),
            Document::Index(entries) => {
                target = choose(&entries, platform).map_err(unusable)?.digest.to_string();
            }
        }
    }
    Err(unusable(ManifestError::Contradiction { what: "its indexes are nested too deep".to_owned() }))
}
