//! What is known of registries: logins, certificate authorities, whether plain HTTP is allowed. Ours, then Docker's.
//!
//! Must not fetch images.

use std::path::Path;

use lith_api::error::{Code, Failure};
use lith_api::image::{Login, Registry};
use lith_image::{
    AuthError, Credentials, PullOptions, RegistryOptions, check_login, credentials_from_docker_config,
    registry_host,
};

use super::{Images, sentence, with_hint};

/// Where people have logged in with Docker, below their home.
const DOCKER_CONFIG: &str = ".docker/config.json";
/// Where Docker keeps the certificate authorities of registries, a folder each.
const DOCKER_CERTIFICATES: &str = "/etc/docker/certs.d";

impl Images {
    /// Every registry of which lith keeps something.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn registries(&self) -> Result<Vec<Registry>, Failure> {
        let known = self.logins.list().map_err(|error| auth(&error))?;
        let registry = |known: lith_image::KnownRegistry| Registry {
            host: known.host,
            username: known.username,
            plain_http: known.plain_http,
        };
        Ok(known.into_iter().map(registry).collect())
    }

    /// Checks a login against its registry and keeps it.
    ///
    /// # Errors
    /// When the registry does not accept it.
    pub async fn login(&self, registry: &str, login: Login) -> Result<(), Failure> {
        let host = host(registry)?;
        let plain_http =
            login.plain_http || self.logins.is_plain_http(&host).map_err(|error| auth(&error))?;
        let options = RegistryOptions {
            credentials: Some(Credentials::password(&login.username, &login.password)),
            trouble: None,
            plain_http,
            ca_certificates_pem: certificates(&host),
        };
        check_login(&host, &options)
            .await
            .map_err(|error| with_hint(Failure::new(Code::Image, sentence(&error)), error.hint()))?;
        self.logins.set(&host, &login.username, &login.password).map_err(|error| auth(&error))?;
        if plain_http {
            self.logins.allow_plain_http(&host).map_err(|error| auth(&error))?;
        }
        Ok(())
    }

    /// Forgets a login.
    ///
    /// # Errors
    /// When there is none.
    pub fn logout(&self, registry: &str) -> Result<(), Failure> {
        let host = host(registry)?;
        if self.logins.remove(&host).map_err(|error| auth(&error))? {
            return Ok(());
        }
        Err(Failure::new(Code::NotFound, format!("there is no login for {host}")).hint(LIST))
    }

    /// Allows plain HTTP with a registry, for every pull from it.
    ///
    /// # Errors
    /// When that cannot be kept.
    pub fn allow_plain_http(&self, registry: &str) -> Result<(), Failure> {
        self.logins.allow_plain_http(&host(registry)?).map_err(|error| auth(&error))
    }

    /// Wants TLS with a registry again.
    ///
    /// # Errors
    /// When plain HTTP was not allowed.
    pub fn refuse_plain_http(&self, registry: &str) -> Result<(), Failure> {
        let host = host(registry)?;
        if self.logins.refuse_plain_http(&host).map_err(|error| auth(&error))? {
            return Ok(());
        }
        Err(Failure::new(Code::NotFound, format!("plain HTTP is not allowed with {host}")).hint(LIST))
    }

    /// How to talk to a registry. A login that cannot be read does not stand in the way of what needs none: it is told
    /// when the registry asks for one.
    pub(super) async fn options(&self, registry: &str, plain_http: bool) -> PullOptions {
        let (credentials, trouble) = match self.credentials(registry).await {
            Ok(credentials) => (credentials, None),
            Err(error) => (None, Some(sentence(&error))),
        };
        let is_allowed = || {
            self.logins.is_plain_http(registry).unwrap_or_else(|error| {
                tracing::error!(%registry, error = %sentence(&error), "it is taken for one with TLS");
                false
            })
        };
        let plain_http = plain_http || is_allowed();
        let ca_certificates_pem = certificates(registry);
        let registry = RegistryOptions { credentials, trouble, plain_http, ca_certificates_pem };
        PullOptions { registry, platform: None }
    }

    async fn credentials(&self, registry: &str) -> Result<Option<Credentials>, AuthError> {
        if let Some(own) = self.logins.get(registry)? {
            return Ok(Some(own));
        }
        let Some(home) = std::env::home_dir() else { return Ok(None) };
        match std::fs::read(home.join(DOCKER_CONFIG)) {
            Ok(json) => credentials_from_docker_config(&json, registry).await,
            // Not there, or not to be read: then nobody has logged in with Docker.
            Err(_) => Ok(None),
        }
    }
}

/// Where to look when something is not kept.
const LIST: &str = "`lith registry ls` shows what is kept";

fn host(text: &str) -> Result<String, Failure> {
    registry_host(text).ok_or_else(|| {
        let message = format!("\"{}\" is no registry", text.escape_debug().take(100).collect::<String>());
        Failure::new(Code::Invalid, message)
            .hint("give its host and port as in names of images, such as registry.example:5000")
    })
}

/// The certificate authorities that Docker would trust for a registry.
fn certificates(registry: &str) -> Vec<Vec<u8>> {
    let folder = std::fs::read_dir(Path::new(DOCKER_CERTIFICATES).join(registry));
    let files = folder.into_iter().flatten().flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "crt"));
    files.filter_map(|path| std::fs::read(path).ok()).collect()
}

fn auth(error: &AuthError) -> Failure {
    with_hint(Failure::new(Code::Image, sentence(error)), error.hint())
}
