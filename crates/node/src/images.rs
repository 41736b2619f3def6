//! The node's images: what people ask of the store through the API. What the agent asks is in `fetch`, what is known of
//! registries in `registries`.

mod fetch;
mod registries;
mod teller;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lith_api::error::{Code, Failure};
use lith_api::image::{Collected, Image, ImageDetail, Progress, Removed};
use lith_core::name::TaskId;
use lith_image::{Archive, Digest, GcScope, ImageError, ImageStore, Listing, Logins, Reference};
use tokio::sync::mpsc::Sender;

use crate::agent::Waker;
use fetch::Fetch;
pub use fetch::Stored;
use lith_core::chain::chain;
use teller::Teller;

/// Where lith keeps what it knows of registries, in the image store's folder.
const LOGINS_FILE: &str = "registries.json";
/// Longest sentence about an image: names, paths and answers in it are strangers'.
const SENTENCE_CHARS_MAX: usize = 2000;

/// The images of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Images {
    store: ImageStore,
    logins: Logins,
    /// Fetches that the agent asked for, by reference as written in the job.
    fetches: Arc<Mutex<BTreeMap<String, Fetch>>>,
    /// What each task that the agent remembers was started from. Whoever removes images holds this meanwhile: what is
    /// taken for a start stays until the task is gone.
    pins: Arc<Mutex<BTreeMap<TaskId, Digest>>>,
    waker: Option<Waker>,
}

impl Images {
    /// Opens the store in `root`, and sweeps what a crash left there.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(root: &Path) -> Result<Self, ImageError> {
        let logins = Logins::at(root.join(LOGINS_FILE));
        let store = ImageStore::open(root)?;
        Ok(Self { store, logins, fetches: Arc::default(), pins: Arc::default(), waker: None })
    }

    /// The same images, waking the agent when a fetch ends or an image comes.
    #[must_use]
    pub fn waking(&self, waker: Waker) -> Self {
        Self { waker: Some(waker), ..self.clone() }
    }

    /// Fetches an image, telling of its progress.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub async fn pull(
        &self,
        name: &str,
        plain_http: bool,
        lines: Sender<Progress>,
    ) -> Result<Vec<Image>, Failure> {
        let reference: Reference = name.parse().map_err(|error| failure(&ImageError::Reference(error)))?;
        let options = self.options(&reference.registry, plain_http).await;
        let teller = Arc::new(Teller::new(lines));
        let image = self.store.pull(&reference, &options, teller).await.map_err(|error| failure(&error))?;
        self.has_come();
        Ok(vec![listed(image, &BTreeSet::new())])
    }

    /// Loads images from a stream. Blocks.
    ///
    /// # Errors
    /// Why the archive is not acceptable.
    pub fn load(
        &self,
        archive: &Archive<'_>,
        reader: impl std::io::Read,
        name: Option<&str>,
        lines: Sender<Progress>,
    ) -> Result<Vec<Image>, Failure> {
        let name = name
            .map(str::parse::<Reference>)
            .transpose()
            .map_err(|error| failure(&ImageError::Reference(error)))?;
        let teller = Teller::new(lines);
        let images = self
            .store
            .load_reader(archive, reader, name.as_ref(), &teller)
            .map_err(|error| failure(&error))?;
        self.has_come();
        Ok(images.into_iter().map(|image| listed(image, &BTreeSet::new())).collect())
    }

    /// Every image, damaged ones too. `wanted` are the names in the jobs that are deployed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self, wanted: &BTreeSet<String>) -> Result<Vec<Image>, Failure> {
        let in_use = self.in_use(&self.pins(), wanted);
        let images = self.store.list().map_err(|error| failure(&error))?;
        Ok(images.into_iter().map(|listing| of_listing(listing, &in_use)).collect())
    }

    /// One image with its configuration.
    ///
    /// # Errors
    /// When it is not here.
    pub fn inspect(&self, name: &str, wanted: &BTreeSet<String>) -> Result<ImageDetail, Failure> {
        let in_use = self.in_use(&self.pins(), wanted);
        let image = self.store.inspect(name).map_err(|error| failure(&error))?;
        let config = serde_json::to_value(&image.config).unwrap_or_default();
        Ok(ImageDetail { image: listed(image, &in_use), config })
    }

    /// Reads an image whole and compares it with what was recorded.
    ///
    /// # Errors
    /// When it is damaged or not here.
    pub fn verify(&self, name: &str, wanted: &BTreeSet<String>) -> Result<Image, Failure> {
        self.store.verify(name).map_err(|error| failure(&error))?;
        Ok(self.inspect(name, wanted)?.image)
    }

    /// Removes a name, and the image with its last name.
    ///
    /// # Errors
    /// When it is in use or not here.
    pub fn remove(&self, name: &str, wanted: &BTreeSet<String>) -> Result<Collected, Failure> {
        let pins = self.pins();
        let in_use = self.in_use(&pins, wanted);
        let removed = self.store.remove(name, &in_use).map_err(|error| failure(&error))?;
        Ok(collected(removed))
    }

    /// Removes images that no task uses and no deployed job names: those without a name, or all.
    ///
    /// # Errors
    /// When the store cannot be changed.
    pub fn collect(&self, scope: GcScope, wanted: &BTreeSet<String>) -> Result<Collected, Failure> {
        let pins = self.pins();
        let in_use = self.in_use(&pins, wanted);
        Ok(collected(self.store.gc(&in_use, scope).map_err(|error| failure(&error))?))
    }

    /// What must stay: what tasks were started from, and what deployed jobs would start from next.
    fn in_use(&self, pins: &BTreeMap<TaskId, Digest>, wanted: &BTreeSet<String>) -> BTreeSet<Digest> {
        let named = wanted.iter().filter_map(|name| self.stored(name)).map(|stored| stored.digest);
        pins.values().copied().chain(named).collect()
    }

    /// An image has come: who waits for it looks, and what failed before is no matter any more.
    fn has_come(&self) {
        self.fetches().retain(|_, fetch| !matches!(fetch, Fetch::Noted(_)));
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    fn pins(&self) -> MutexGuard<'_, BTreeMap<TaskId, Digest>> {
        // One call changes one entry, so that a panic leaves none half-written.
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetches(&self) -> MutexGuard<'_, BTreeMap<String, Fetch>> {
        // Entries are replaced whole, so that a panic leaves none half-written.
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listed(image: lith_image::Image, in_use: &BTreeSet<Digest>) -> Image {
    Image {
        is_used: in_use.contains(&image.digest),
        digest: image.digest.to_string(),
        names: image.names,
        size_bytes: image.size_bytes,
        created: image.created,
        platform: image.platform.to_string(),
        is_damaged: false,
    }
}

fn of_listing(listing: Listing, in_use: &BTreeSet<Digest>) -> Image {
    let Listing { digest, names, size_bytes, image } = listing;
    match image {
        Ok(image) => listed(image, in_use),
        Err(error) => {
            tracing::error!(image = %digest, error = %chain(&error), "the image cannot be read");
            let (created, platform) = (None, String::new());
            let is_used = in_use.contains(&digest);
            let digest = digest.to_string();
            Image { digest, names, size_bytes, created, platform, is_used, is_damaged: true }
        }
    }
}

fn collected(removed: impl IntoIterator<Item = lith_image::Removed>) -> Collected {
    let removed = removed.into_iter().map(|removed| Removed {
        digest: removed.digest.to_string(),
        names: removed.names,
        freed_bytes: removed.freed_bytes,
    });
    let removed: Vec<Removed> = removed.collect();
    let freed_bytes = removed.iter().fold(0, |sum: u64, removed| sum.saturating_add(removed.freed_bytes));
    Collected { removed, freed_bytes }
}

fn failure(error: &ImageError) -> Failure {
    let code = match error {
        ImageError::NotFound { .. } => Code::NotFound,
        ImageError::InUse { .. } | ImageError::Ambiguous { .. } => Code::Conflict,
        ImageError::Reference(_) => Code::Invalid,
        ImageError::Fetch { .. }
        | ImageError::Manifest { .. }
        | ImageError::Unpack { .. }
        | ImageError::Finish { .. }
        | ImageError::Archive { .. }
        | ImageError::ArchiveDamaged { .. }
        | ImageError::Spool { .. }
        | ImageError::TooLarge { .. }
        | ImageError::NoRoom { .. }
        | ImageError::Io { .. }
        | ImageError::NamesDamaged { .. }
        | ImageError::Damaged { .. }
        | ImageError::Corrupt { .. }
        | ImageError::Interrupted { .. } => Code::Image,
    };
    with_hint(Failure::new(code, sentence(error)), error.hint())
}

/// An error with its causes, bounded and without what a terminal would obey: parts of it are strangers' words.
fn sentence(error: &dyn std::error::Error) -> String {
    let text = chain(error);
    let clean = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    clean.take(SENTENCE_CHARS_MAX).collect()
}

fn with_hint(failure: Failure, hint: Option<String>) -> Failure {
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
