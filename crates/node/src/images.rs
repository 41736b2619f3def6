//! The node's images: what the agent asks of the store, and what people ask through the API.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lith_api::error::{Code, Failure};
use lith_api::image::{Collected, Image, ImageDetail, Login, Progress};
use lith_core::name::TaskId;
use lith_core::task;
use lith_image::{
    Credentials, Digest, GcScope, ImageConfig, ImageError, ImageStore, Logins, NoProgress, Phase,
    ProgressEvent, PullOptions, Reference, RegistryOptions, check_login, credentials_from_docker_config,
};
use tokio::sync::mpsc::Sender;

use crate::agent::Waker;
use crate::chain::chain;

/// Where people have logged in with Docker, below their home.
const DOCKER_CONFIG: &str = ".docker/config.json";
/// Where Docker keeps the certificate authorities of registries, a folder each.
const DOCKER_CERTIFICATES: &str = "/etc/docker/certs.d";
/// Where lith keeps its own logins, in the image store's folder.
const LOGINS_FILE: &str = "registries.json";
/// Digits of a digest that tell layers apart for a person.
const SHORT_DIGITS: usize = 12;

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

#[derive(Debug)]
enum Fetch {
    Running,
    Failed(String),
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

    /// The image that a name or digest leads to, if it is here. A store that cannot be read has no images; why is
    /// logged.
    #[must_use]
    pub fn stored(&self, name: &str) -> Option<Stored> {
        let found = self.store.resolve(name).unwrap_or_else(|error| {
            tracing::error!(image = %name, error = %chain(&error), "the image store cannot be read");
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
            None => task::Image::Missing,
            Some(Fetch::Running) => task::Image::Fetching,
            Some(Fetch::Failed(why)) => task::Image::Failed(why.clone()),
        }
    }

    /// Starts to fetch an image in the background, unless that is under way.
    pub fn fetch(&self, name: &str, runtime: &tokio::runtime::Handle) {
        if matches!(self.fetches().insert(name.to_owned(), Fetch::Running), Some(Fetch::Running)) {
            return;
        }
        let (images, name) = (self.clone(), name.to_owned());
        runtime.spawn(async move {
            let result = images.pull_quietly(&name).await;
            {
                let mut fetches = images.fetches();
                match result {
                    Ok(()) => fetches.remove(&name),
                    Err(why) => fetches.insert(name, Fetch::Failed(why)),
                };
            }
            images.wake();
        });
    }

    /// Forgets that the last fetch of an image failed.
    pub fn forget_failure(&self, name: &str) {
        let mut fetches = self.fetches();
        if matches!(fetches.get(name), Some(Fetch::Failed(_))) {
            fetches.remove(name);
        }
    }

    async fn pull_quietly(&self, name: &str) -> Result<(), String> {
        let reference: Reference = name.parse().map_err(|error| chain(&ImageError::Reference(error)))?;
        let options = self.options(&reference.registry, false).map_err(|failure| failure.message)?;
        let pulled = self.store.pull(&reference, &options, Arc::new(NoProgress)).await;
        pulled.map(|_| ()).map_err(|error| chain(&error))
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
        let options = self.options(&reference.registry, plain_http)?;
        let teller = Arc::new(Teller { lines, parts: Mutex::default() });
        let image = self.store.pull(&reference, &options, teller).await.map_err(|error| failure(&error))?;
        self.wake();
        Ok(vec![listed(image, &BTreeSet::new())])
    }

    /// Loads images from an archive. Blocks.
    ///
    /// # Errors
    /// Why the archive is not acceptable.
    pub fn load(
        &self,
        archive: impl std::io::Read,
        name: Option<&str>,
        lines: Sender<Progress>,
    ) -> Result<Vec<Image>, Failure> {
        let name = name
            .map(str::parse::<Reference>)
            .transpose()
            .map_err(|error| failure(&ImageError::Reference(error)))?;
        let teller = Teller { lines, parts: Mutex::default() };
        let images =
            self.store.load_reader(archive, name.as_ref(), &teller).map_err(|error| failure(&error))?;
        self.wake();
        Ok(images.into_iter().map(|image| listed(image, &BTreeSet::new())).collect())
    }

    /// Every image. `wanted` are the names in the jobs that are deployed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self, wanted: &BTreeSet<String>) -> Result<Vec<Image>, Failure> {
        let in_use = self.in_use(&self.pins(), wanted)?;
        let images = self.store.list().map_err(|error| failure(&error))?;
        Ok(images.into_iter().map(|image| listed(image, &in_use)).collect())
    }

    /// One image with its configuration.
    ///
    /// # Errors
    /// When it is not here.
    pub fn inspect(&self, name: &str, wanted: &BTreeSet<String>) -> Result<ImageDetail, Failure> {
        let in_use = self.in_use(&self.pins(), wanted)?;
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
        let in_use = self.in_use(&pins, wanted)?;
        let size_bytes = self.store.inspect(name).map_err(|error| failure(&error))?.size_bytes;
        let removed = self.store.remove(name, &in_use).map_err(|error| failure(&error))?;
        Ok(match removed {
            Some(digest) => Collected { removed: vec![digest.to_string()], freed_bytes: size_bytes },
            None => Collected { removed: vec![], freed_bytes: 0 },
        })
    }

    /// Removes every image that no task uses and no deployed job names.
    ///
    /// # Errors
    /// When the store cannot be changed.
    pub fn collect(&self, wanted: &BTreeSet<String>) -> Result<Collected, Failure> {
        let pins = self.pins();
        let in_use = self.in_use(&pins, wanted)?;
        let report = self.store.gc(&in_use, GcScope::Unused).map_err(|error| failure(&error))?;
        Ok(Collected {
            removed: report.removed.iter().map(ToString::to_string).collect(),
            freed_bytes: report.freed_bytes,
        })
    }

    /// Checks a login against its registry and keeps it.
    ///
    /// # Errors
    /// When the registry does not accept it.
    pub async fn login(&self, registry: &str, login: Login) -> Result<(), Failure> {
        let credentials = Credentials { username: login.username, password: login.password };
        let options = RegistryOptions {
            credentials: Some(credentials.clone()),
            plain_http: login.plain_http,
            ca_certificates_pem: certificates(registry),
        };
        check_login(registry, &options)
            .await
            .map_err(|error| with_hint(Failure::new(Code::Image, chain(&error)), error.hint()))?;
        self.logins.set(registry, credentials).map_err(|error| auth(&error))
    }

    /// Forgets a login.
    ///
    /// # Errors
    /// When there is none.
    pub fn logout(&self, registry: &str) -> Result<(), Failure> {
        if self.logins.remove(registry).map_err(|error| auth(&error))? {
            return Ok(());
        }
        Err(Failure::new(Code::NotFound, format!("there is no login for {registry}")))
    }

    fn options(&self, registry: &str, plain_http: bool) -> Result<PullOptions, Failure> {
        let own = self.logins.get(registry).map_err(|error| auth(&error))?;
        let credentials = match own {
            Some(credentials) => Some(credentials),
            None => docker_credentials(registry)?,
        };
        let ca_certificates_pem = certificates(registry);
        Ok(PullOptions {
            registry: RegistryOptions { credentials, plain_http, ca_certificates_pem },
            platform: None,
        })
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    /// What must stay: what tasks were started from, and what deployed jobs would start from next.
    fn in_use(
        &self,
        pins: &BTreeMap<TaskId, Digest>,
        wanted: &BTreeSet<String>,
    ) -> Result<BTreeSet<Digest>, Failure> {
        let mut in_use: BTreeSet<Digest> = pins.values().copied().collect();
        for name in wanted {
            in_use
                .extend(self.store.resolve(name).map_err(|error| failure(&error))?.map(|image| image.digest));
        }
        Ok(in_use)
    }

    fn pins(&self) -> std::sync::MutexGuard<'_, BTreeMap<TaskId, Digest>> {
        // One call changes one entry, so that a panic leaves none half-written.
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetches(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Fetch>> {
        // Entries are replaced whole, so that a panic leaves none half-written.
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn docker_credentials(registry: &str) -> Result<Option<Credentials>, Failure> {
    let Some(home) = std::env::home_dir() else { return Ok(None) };
    match std::fs::read(home.join(DOCKER_CONFIG)) {
        Ok(json) => credentials_from_docker_config(&json, registry).map_err(|error| auth(&error)),
        // Not there, or not to be read: then nobody has logged in with Docker.
        Err(_) => Ok(None),
    }
}

/// The certificate authorities that Docker would trust for a registry.
fn certificates(registry: &str) -> Vec<Vec<u8>> {
    let folder = std::fs::read_dir(Path::new(DOCKER_CERTIFICATES).join(registry));
    let files = folder.into_iter().flatten().flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "crt"));
    files.filter_map(|path| std::fs::read(path).ok()).collect()
}

fn listed(image: lith_image::Image, in_use: &BTreeSet<Digest>) -> Image {
    Image {
        is_used: in_use.contains(&image.digest),
        digest: image.digest.to_string(),
        names: image.names,
        size_bytes: image.size_bytes,
        created: image.created,
        platform: image.platform.to_string(),
    }
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
        | ImageError::Io { .. }
        | ImageError::Damaged { .. }
        | ImageError::Corrupt { .. }
        | ImageError::Interrupted { .. } => Code::Image,
    };
    with_hint(Failure::new(code, chain(error)), error.hint())
}

fn auth(error: &lith_image::AuthError) -> Failure {
    with_hint(Failure::new(Code::Image, chain(error)), error.hint())
}

fn with_hint(failure: Failure, hint: Option<String>) -> Failure {
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Turns the store's progress into lines. Drops a line rather than wait: the next one says more.
struct Teller {
    lines: Sender<Progress>,
    parts: Mutex<Vec<(String, u64)>>,
}

impl lith_image::Progress for Teller {
    fn event(&self, event: ProgressEvent) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let line = match event {
            ProgressEvent::Layers(layers) => {
                let short = |digest: &Digest| {
                    let text = digest.to_string();
                    let digits = text.split_once(':').map_or(text.as_str(), |(_, digits)| digits);
                    digits.chars().take(SHORT_DIGITS).collect::<String>()
                };
                *parts = layers.iter().map(|(digest, bytes)| (short(digest), *bytes)).collect();
                return;
            }
            ProgressEvent::Layer { index, phase, done, total } => {
                let Some((part, _)) = parts.get(index) else { return };
                let phase = match phase {
                    Phase::Fetching => "fetching",
                    Phase::Unpacking => "unpacking",
                    Phase::Done => "done",
                };
                Progress::Part {
                    part: part.clone(),
                    phase: phase.to_owned(),
                    done_bytes: done,
                    total_bytes: Some(total),
                }
            }
            ProgressEvent::Finishing => Progress::Part {
                part: "image".to_owned(),
                phase: "finishing".to_owned(),
                done_bytes: 0,
                total_bytes: None,
            },
        };
        let _ = self.lines.try_send(line);
    }
}
