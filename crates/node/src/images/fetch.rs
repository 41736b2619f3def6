//! Images for the agent: found in the store, fetched in the background, kept for the tasks that run from them.
//!
//! Must not decide when to fetch: the agent does, by what core says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lith_api::error::Failure;
use lith_core::name::TaskId;
use lith_core::task;
use lith_image::{Digest, ImageConfig, ImageError, Phase, Progress, ProgressEvent, Reference};

use super::{Images, failure};
use lith_core::chain::chain;

/// Between two tellings of how a fetch goes: as often as a person reads.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// A fetch that the agent asked for.
#[derive(Debug)]
pub(super) enum Fetch {
    /// Under way; bytes that are here, and of all layers once these are known.
    Running {
        /// Bytes that are here.
        done_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// Ended without an image, and the agent does not know yet.
    Failed(Failure),
    /// The agent knows; what a person may do about it.
    Noted(Option<String>),
}

/// An image that is here.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Digest of its manifest.
    pub digest: Digest,
    /// Its root file system.
    pub path: PathBuf,
    /// What to run.
    pub config: ImageConfig,
}

impl Images {
    /// The image that a name or digest leads to, if it is here. A store that cannot be read has no images; why is
    /// logged.
    #[must_use]
    pub fn stored(&self, name: &str) -> Option<Stored> {
        let found = self.store.resolve(name).unwrap_or_else(|error| {
            tracing::error!(image = %name, error = %chain(&error), "the image cannot be read");
            None
        });
        found.map(|image| Stored { digest: image.digest, path: image.erofs, config: image.config })
    }

    /// Keeps the images of tasks that were started before this process.
    pub fn pin_all<'a>(&self, started: impl Iterator<Item = (&'a TaskId, &'a str)>) {
        let mut pins = self.pins();
        for (task, digest) in started {
            match digest.parse() {
                Ok(digest) => drop(pins.insert(task.clone(), digest)),
                Err(error) => tracing::error!(%task, error = %chain(&error), "a task's image has no digest"),
            }
        }
    }

    /// Chooses the image that a task starts from, and keeps it for as long as the task is there.
    pub fn pin(&self, task: &TaskId, choose: impl FnOnce(&Self) -> Option<Stored>) -> Option<Stored> {
        let mut pins = self.pins();
        let stored = choose(self)?;
        pins.insert(task.clone(), stored.digest);
        Some(stored)
    }

    /// A task is gone: its image is not kept for it any more.
    pub fn unpin(&self, task: &TaskId) {
        self.pins().remove(task);
    }

    /// How the fetch of an image that is not here stands.
    #[must_use]
    pub fn fetching(&self, name: &str) -> task::Image {
        match self.fetches().get(name) {
            None | Some(Fetch::Noted(_)) => task::Image::Missing,
            Some(Fetch::Running { .. }) => task::Image::Fetching,
            Some(Fetch::Failed(failure)) => task::Image::Failed(failure.message.clone()),
        }
    }

    /// How far a fetch is, as a sentence without its subject.
    #[must_use]
    pub fn progress(&self, name: &str) -> Option<String> {
        match self.fetches().get(name) {
            Some(&Fetch::Running { done_bytes, total_bytes }) if total_bytes > 0 => Some(format!(
                "has {} of {} MiB of its image",
                done_bytes >> 20,
                total_bytes.div_ceil(1 << 20)
            )),
            Some(Fetch::Running { .. } | Fetch::Failed(_) | Fetch::Noted(_)) | None => None,
        }
    }

    /// What a person may do about the last fetch of an image, if that failed.
    #[must_use]
    pub fn hint(&self, name: &str) -> Option<String> {
        match self.fetches().get(name) {
            Some(Fetch::Failed(failure)) => failure.hint.clone(),
            Some(Fetch::Noted(hint)) => hint.clone(),
            Some(Fetch::Running { .. }) | None => None,
        }
    }

    /// Starts to fetch an image in the background, unless that is under way.
    pub fn fetch(&self, name: &str, runtime: &tokio::runtime::Handle) {
        let running = Fetch::Running { done_bytes: 0, total_bytes: 0 };
        if matches!(self.fetches().insert(name.to_owned(), running), Some(Fetch::Running { .. })) {
            return;
        }
        let (images, name) = (self.clone(), name.to_owned());
        runtime.spawn(async move {
            let result = images.pull_quietly(&name).await;
            {
                let mut fetches = images.fetches();
                match result {
                    Ok(()) => fetches.remove(&name),
                    Err(failure) => fetches.insert(name, Fetch::Failed(failure)),
                };
            }
            images.wake();
        });
    }

    /// The agent knows that the last fetch of an image failed: the next one may begin. The hint stays.
    pub fn forget_failure(&self, name: &str) {
        let mut fetches = self.fetches();
        if let Some(Fetch::Failed(failure)) = fetches.get(name) {
            let hint = failure.hint.clone();
            fetches.insert(name.to_owned(), Fetch::Noted(hint));
        }
    }

    async fn pull_quietly(&self, name: &str) -> Result<(), Failure> {
        let reference: Reference = name.parse().map_err(|error| failure(&ImageError::Reference(error)))?;
        let options = self.options(&reference.registry, false).await;
        let teller = FetchTeller { images: self.clone(), name: name.to_owned(), seen: Mutex::default() };
        let pulled = self.store.pull(&reference, &options, Arc::new(teller)).await;
        pulled.map(|_| ()).map_err(|error| failure(&error))
    }
}

/// Notes how far a fetch is, and makes the agent tell it now and then.
struct FetchTeller {
    images: Images,
    name: String,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Of each layer: bytes that are here, bytes in all.
    layers: BTreeMap<usize, (u64, u64)>,
    told: Option<Instant>,
}

impl Seen {
    fn apply(&mut self, event: &ProgressEvent) {
        match event {
            ProgressEvent::Layers(layers) => {
                self.layers = layers.iter().map(|(_, bytes)| (0, *bytes)).enumerate().collect();
            }
            ProgressEvent::Layer { index, phase: Phase::Fetching, done, total } => {
                self.layers.insert(*index, (*done, *total));
            }
            ProgressEvent::Layer { phase: Phase::Unpacking | Phase::Done, .. }
            | ProgressEvent::Archive { .. }
            | ProgressEvent::Finishing => {}
        }
    }
}

impl Progress for FetchTeller {
    fn event(&self, event: ProgressEvent) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.apply(&event);
        let sum = |(done, total): (u64, u64), layer: &(u64, u64)| {
            (done.saturating_add(layer.0), total.saturating_add(layer.1))
        };
        let (done_bytes, total_bytes) = seen.layers.values().fold((0, 0), sum);
        if let Some(fetch @ Fetch::Running { .. }) = self.images.fetches().get_mut(&self.name) {
            *fetch = Fetch::Running { done_bytes, total_bytes };
        }
        if seen.told.is_none_or(|told| told.elapsed() >= TELL_INTERVAL) {
            seen.told = Some(Instant::now());
            self.images.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_tells_how_far_it_is_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::open(folder.path()).unwrap();
        let running = Fetch::Running { done_bytes: 0, total_bytes: 0 };
        images.fetches().insert("a".to_owned(), running);
        assert_eq!(images.progress("a"), None);
        let teller = FetchTeller { images: images.clone(), name: "a".to_owned(), seen: Mutex::default() };
        let digest = Digest::of(b"layer");
        teller.event(ProgressEvent::Layers(vec![(digest, 300 << 20), (digest, 200 << 20)]));
        for (index, done) in [(0, 100 << 20), (1, 20 << 20)] {
            teller.event(ProgressEvent::Layer {
                index,
                phase: Phase::Fetching,
                done,
                total: (300 - 100 * index as u64) << 20,
            });
        }
        assert_eq!(images.progress("a").as_deref(), Some("has 120 of 500 MiB of its image"));
        let failed = Failure::new(lith_api::error::Code::Image, "no").hint("log in");
        images.fetches().insert("a".to_owned(), Fetch::Failed(failed));
        assert_eq!(images.fetching("a"), task::Image::Failed("no".to_owned()));
        images.forget_failure("a");
        assert_eq!(images.fetching("a"), task::Image::Missing);
        assert_eq!(images.hint("a").as_deref(), Some("log in"));
    }
}
