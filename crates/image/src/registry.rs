//! The registry's HTTP API, as far as pulling needs it. Protocol: OCI distribution spec v1.
//!
//! Must not know the store. Every answer is bounded in size, every wait has a deadline, every retry a limit.

mod challenge;
mod error;

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Client, Response, StatusCode};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;

use crate::auth::Credentials;
use crate::digest::{Digest, Hasher};
use crate::limits::DOCUMENT_BYTES_MAX;
use crate::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use challenge::Challenge;
pub use error::RegistryError;

/// Time to reach a registry: a handshake over a slow line takes a few seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence within an answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Attempts in a row without progress before giving up: about twenty seconds of backoff.
const ATTEMPTS_MAX: u32 = 7;
/// Attempts at the first request of a pull: a name mistyped or a certificate not trusted should be told soon.
const FIRST_ATTEMPTS_MAX: u32 = 3;
/// First pause between attempts; each further one is twice as long.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// Longest pause, also when a registry asks for more.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// New bytes after which attempts are counted anew: a line that breaks now and then must not fail a large layer, but a
/// registry that gives a byte at a time must not hold us for ever.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Attempts at one layer in all.
const ATTEMPTS_TOTAL_MAX: u32 = 1000;
/// Bytes gathered before a write of a blob.
const WRITE_BYTES: usize = 512 * 1024;

/// How to reach a registry.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Who asks; `None` asks as nobody.
    pub credentials: Option<Credentials>,
    /// Why credentials that are kept cannot be used: told when the registry asks for some.
    pub trouble: Option<String>,
    /// Talk plain HTTP: anybody on the way can read passwords and images, digests still guard against changes to
    /// what is named by digest.
    pub plain_http: bool,
    /// Certificate authorities to trust beside the system's, as PEM.
    pub ca_certificates_pem: Vec<Vec<u8>>,
}

/// A connection to one repository of one registry.
pub(crate) struct Registry {
    client: Client,
    host: String,
    base: String,
    repository: String,
    credentials: Option<Credentials>,
    trouble: Option<String>,
    plain_http: bool,
    authorization: Mutex<Option<String>>,
}

/// A manifest as the registry sent it.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: String,
    pub(crate) digest: Digest,
}

/// Checks that a registry answers and accepts the credentials. `host` is the registry's name as in image names.
pub async fn check_login(host: &str, options: &RegistryOptions) -> Result<(), RegistryError> {
    let api_host = if host == crate::reference::DEFAULT_REGISTRY { "registry-1.docker.io" } else { host };
    let registry = Registry::new(api_host, "", options)?;
    let no_registry = || RegistryError::NoRegistry { registry: host.to_owned() };
    match registry.get("/v2/", "", None).await {
        // A web page for whatever is asked: a router's, or a portal's.
        Ok(response) if content_type(&response) == "text/html" => Err(no_registry()),
        Ok(_) => Ok(()),
        Err(RegistryError::Denied { .. } | RegistryError::LoginNeeded { .. }) => {
            Err(RegistryError::WrongLogin { registry: host.to_owned() })
        }
        Err(RegistryError::NotFound { .. } | RegistryError::Challenge { .. }) => Err(no_registry()),
        Err(RegistryError::Status { status: 300..=499, .. }) => Err(no_registry()),
        Err(other) => Err(other),
    }
}

impl Registry {
    pub(crate) fn new(
        host: &str,
        repository: &str,
        options: &RegistryOptions,
    ) -> Result<Registry, RegistryError> {
        // Fails only when one was installed before, by this same line.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_MAX)
            .user_agent(concat!("lith/", env!("CARGO_PKG_VERSION")))
            .https_only(!options.plain_http);
        let setup = |source| RegistryError::Setup { registry: host.to_owned(), source };
        for pem in &options.ca_certificates_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(setup)?;
            builder = builder.tls_certs_merge(certificates);
        }
        let scheme = if options.plain_http { "http" } else { "https" };
        Ok(Registry {
            client: builder.build().map_err(setup)?,
            host: host.to_owned(),
            base: format!("{scheme}://{host}"),
            repository: repository.to_owned(),
            credentials: options.credentials.clone(),
            trouble: options.trouble.clone(),
            plain_http: options.plain_http,
            authorization: Mutex::new(None),
        })
    }

    /// Fetches a manifest or index by tag or digest; checks it when asked by digest.
    pub(crate) async fn manifest(&self, target: &str) -> Result<Fetched, RegistryError> {
        let path = format!("/v2/{}/manifests/{target}", self.repository);
        let accept = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(", ");
        let mut attempts = Attempts::new(FIRST_ATTEMPTS_MAX);
        let (content_type, bytes) = loop {
            match self.document(&path, &accept).await {
                Ok(answer) => break answer,
                Err(error) => attempts.pause(error).await?,
            }
        };
        let digest = Digest::of(&bytes);
        match target.parse::<Digest>() {
            Ok(expected) if expected != digest => {
                Err(RegistryError::WrongDigest { what: "manifest", expected, actual: digest })
            }
            _ => Ok(Fetched { bytes, content_type, digest }),
        }
    }

    /// Fetches a small blob whole.
    pub(crate) async fn small_blob(&self, digest: Digest) -> Result<Vec<u8>, RegistryError> {
        let path = format!("/v2/{}/blobs/{digest}", self.repository);
        let mut attempts = Attempts::new(ATTEMPTS_MAX);
        let bytes = loop {
            match self.document(&path, "*/*").await {
                Ok((_, bytes)) => break bytes,
                Err(error) => attempts.pause(error).await?,
            }
        };
        let actual = Digest::of(&bytes);
        if actual == digest {
            Ok(bytes)
        } else {
            Err(RegistryError::WrongDigest { what: "config", expected: digest, actual })
        }
    }

    async fn document(&self, path: &str, accept: &str) -> Result<(String, Vec<u8>), RegistryError> {
        let response = self.get(path, accept, None).await?;
        let content_type = content_type(&response).to_owned();
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(|source| self.broken(source))?);
            if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
                return Err(RegistryError::TooLong {
                    registry: self.host.clone(),
                    limit: DOCUMENT_BYTES_MAX,
                });
            }
        }
        Ok((content_type, bytes))
    }

    /// Fetches a blob into `path`, going on after broken connections; tells the bytes behind it as it goes.
    pub(crate) async fn blob(
        &self,
        digest: Digest,
        size: u64,
        path: &Path,
        on_bytes: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RegistryError> {
        let io = |source| RegistryError::Write { path: path.to_owned(), source };
        // Not on another thread, where it would go on when this is given up, and leave a file where nobody expects one.
        let file = std::fs::File::options().write(true).create_new(true).open(path).map_err(io)?;
        let mut download = Download {
            file: tokio::io::BufWriter::with_capacity(WRITE_BYTES, tokio::fs::File::from_std(file)),
            hasher: Hasher::default(),
            done: 0,
        };
        let mut attempts = Attempts::new(ATTEMPTS_MAX);
        while download.done < size {
            let outcome = self.blob_part(digest, size, path, &mut download, on_bytes).await;
            attempts.progress(download.done);
            if let Err(error) = outcome {
                attempts.pause(error).await?;
            }
        }
        download.file.flush().await.map_err(io)?;
        let actual = download.hasher.finish();
        if actual == digest {
            Ok(())
        } else {
            Err(RegistryError::WrongDigest { what: "layer", expected: digest, actual })
        }
    }

    /// One request for what is missing of a blob.
    async fn blob_part(
        &self,
        digest: Digest,
        size: u64,
        path: &Path,
        download: &mut Download,
        on_bytes: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), RegistryError> {
        let io = |source| RegistryError::Write { path: path.to_owned(), source };
        let url = format!("/v2/{}/blobs/{digest}", self.repository);
        let response = self.get(&url, "*/*", Some(download.done).filter(|&done| done > 0)).await?;
        if download.done > 0 && !continues_at(&response, download.done) {
            download.restart().await.map_err(io)?;
        }
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|source| self.broken(source))?;
            download.done += chunk.len() as u64;
            if download.done > size {
                return Err(RegistryError::TooLong { registry: self.host.clone(), limit: size });
            }
            download.hasher.update(&chunk);
            download.file.write_all(&chunk).await.map_err(io)?;
            on_bytes(download.done);
        }
        if download.done < size {
            Err(RegistryError::CutShort { registry: self.host.clone() })
        } else {
            Ok(())
        }
    }

    fn broken(&self, source: reqwest::Error) -> RegistryError {
        RegistryError::Connection { registry: self.host.clone(), source }
    }

    /// One request; answers a challenge once.
    async fn get(&self, path: &str, accept: &str, from: Option<u64>) -> Result<Response, RegistryError> {
        let known = self.authorization.lock().await.clone();
        let response = self.send(path, accept, from, known.as_deref()).await?;
        let response = if response.status() == StatusCode::UNAUTHORIZED {
            let authorization = self.answer(&response).await?;
            *self.authorization.lock().await = Some(authorization.clone());
            self.send(path, accept, from, Some(&authorization)).await?
        } else {
            response
        };
        let registry = self.host.clone();
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.denied()),
            StatusCode::NOT_FOUND => {
                Err(RegistryError::NotFound { registry, repository: self.repository.clone() })
            }
            _ => Err(self.unexpected(&response)),
        }
    }

    fn unexpected(&self, response: &Response) -> RegistryError {
        let header = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        // Its other form, a date, is for hours: longer than anything that is waited for here.
        let retry_after = header.and_then(|v| v.trim().parse().ok()).map(Duration::from_secs);
        RegistryError::Status { registry: self.host.clone(), status: response.status().as_u16(), retry_after }
    }

    async fn send(
        &self,
        path: &str,
        accept: &str,
        from: Option<u64>,
        authorization: Option<&str>,
    ) -> Result<Response, RegistryError> {
        let mut request = self.client.get(format!("{}{path}", self.base));
        if !accept.is_empty() {
            request = request.header(ACCEPT, accept);
        }
        if let Some(from) = from {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(|source| self.broken(source))
    }

    fn denied(&self) -> RegistryError {
        let registry = self.host.clone();
        match self.credentials {
            Some(_) => RegistryError::Denied { registry, repository: self.repository.clone() },
            None => RegistryError::LoginNeeded {
                registry,
                repository: self.repository.clone(),
                trouble: self.trouble.clone(),
            },
        }
    }

    /// Turns the registry's challenge into an `Authorization` header.
    async fn answer(&self, response: &Response) -> Result<String, RegistryError> {
        let offers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = offers.iter().filter_map(|v| v.to_str().ok()).find_map(challenge::parse);
        match (challenge, &self.credentials) {
            (None, _) => Err(RegistryError::Challenge { registry: self.host.clone() }),
            // An identity token is nothing that basic authentication could send.
            (Some(Challenge::Basic), credentials) => {
                credentials.as_ref().and_then(Credentials::basic).ok_or_else(|| self.denied())
            }
            (Some(Challenge::Bearer { realm, service, scope }), _) => {
                self.token(&realm, &service, &scope).await
            }
        }
    }

    async fn token(&self, realm: &str, service: &str, scope: &str) -> Result<String, RegistryError> {
        let url = |service, scope| {
            challenge::token_url(realm, service, scope, self.plain_http)
                .ok_or_else(|| RegistryError::Challenge { registry: self.host.clone() })
        };
        let request = match &self.credentials {
            None => self.client.get(url(service, scope)?),
            Some(Credentials::Password { username, password }) => {
                let basic = crate::auth::basic(username, password);
                self.client.get(url(service, scope)?).header(AUTHORIZATION, basic)
            }
            Some(Credentials::IdentityToken(token)) => self
                .client
                .post(url("", "")?)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(challenge::refresh_form(token, service, scope)),
        };
        let response = request.send().await.map_err(|source| self.broken(source))?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied()),
            // What an identity token that is no longer valid gets.
            StatusCode::BAD_REQUEST if self.credentials.is_some() => return Err(self.denied()),
            _ => return Err(self.unexpected(&response)),
        }
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.map_err(|source| self.broken(source))?);
            if bytes.len() > challenge::TOKEN_BYTES_MAX {
                return Err(RegistryError::Challenge { registry: self.host.clone() });
            }
        }
        let token = challenge::token(&bytes)
            .ok_or_else(|| RegistryError::Challenge { registry: self.host.clone() })?;
        Ok(format!("Bearer {token}"))
    }
}

/// How often something was tried.
struct Attempts {
    in_a_row: u32,
    in_a_row_max: u32,
    total: u32,
    /// Bytes that were there when counting began anew.
    mark: u64,
}

impl Attempts {
    fn new(in_a_row_max: u32) -> Attempts {
        Attempts { in_a_row: 0, in_a_row_max, total: 0, mark: 0 }
    }

    /// So many bytes are there now.
    fn progress(&mut self, done: u64) {
        if done >= self.mark.saturating_add(PROGRESS_BYTES) {
            (self.mark, self.in_a_row) = (done, 0);
        }
    }

    /// Waits before the next attempt, or gives up with the last error.
    async fn pause(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.in_a_row += 1;
        self.total += 1;
        let is_last = self.in_a_row >= self.in_a_row_max || self.total >= ATTEMPTS_TOTAL_MAX;
        if !error.is_retryable() || is_last {
            return Err(error);
        }
        let backoff = BACKOFF_FIRST.saturating_mul(1 << (self.in_a_row - 1));
        let wait = backoff.max(error.retry_after().unwrap_or_default()).min(BACKOFF_MAX);
        tracing::debug!(attempt = self.total, %error, "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// A blob on its way to a file.
struct Download {
    file: tokio::io::BufWriter<tokio::fs::File>,
    hasher: Hasher,
    done: u64,
}

impl Download {
    /// Begins again: the registry does not serve parts.
    async fn restart(&mut self) -> std::io::Result<()> {
        use tokio::io::AsyncSeekExt as _;
        self.file.flush().await?;
        self.file.get_mut().set_len(0).await?;
        self.file.seek(std::io::SeekFrom::Start(0)).await?;
        self.hasher = Hasher::default();
        self.done = 0;
        Ok(())
    }
}

fn content_type(response: &Response) -> &str {
    let header = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    header.split(';').next().unwrap_or_default().trim()
}

fn continues_at(response: &Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    response.status() == StatusCode::PARTIAL_CONTENT && range.starts_with(&format!("bytes {offset}-"))
}
