//! What a registry may answer instead of an image, in words for people.
//!
//! Must not name credentials.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest::Digest;
use crate::error::FREE_SPACE;
use crate::unpack::is_disk_full;

/// A failed exchange with a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The client cannot be set up, for example because of a broken certificate file.
    #[error("cannot set up the connection to {registry}")]
    Setup {
        /// The registry's host.
        registry: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// No connection, or it broke.
    #[error("cannot talk to registry {registry}")]
    Connection {
        /// The registry's host.
        registry: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer ended before its announced size.
    #[error("registry {registry} stopped in the middle of a layer")]
    CutShort {
        /// The registry's host.
        registry: String,
    },
    /// The registry wants a login.
    #[error("registry {registry} wants a login for {repository:?}{}", because(trouble.as_deref()))]
    LoginNeeded {
        /// The registry's host.
        registry: String,
        /// The repository.
        repository: String,
        /// Why the login that is kept could not be used, if there is one.
        trouble: Option<String>,
    },
    /// A login that was only to be checked is wrong.
    #[error("registry {registry} does not accept this name and password")]
    WrongLogin {
        /// The registry's host.
        registry: String,
    },
    /// Something else than a registry answers there.
    #[error("{registry} is no container registry")]
    NoRegistry {
        /// The host.
        registry: String,
    },
    /// The credentials are wrong or not enough.
    #[error("registry {registry} refuses the login for {repository:?}")]
    Denied {
        /// The registry's host.
        registry: String,
        /// The repository.
        repository: String,
    },
    /// A way of logging in that is unknown here.
    #[error("registry {registry} asks for a login in a way that is not understood")]
    Challenge {
        /// The registry's host.
        registry: String,
    },
    /// No such repository or tag.
    #[error("registry {registry} has no such image in {repository:?}")]
    NotFound {
        /// The registry's host.
        registry: String,
        /// The repository.
        repository: String,
    },
    /// Any other answer.
    #[error("registry {registry} answered with status {status}")]
    Status {
        /// The registry's host.
        registry: String,
        /// The HTTP status.
        status: u16,
        /// When to ask again, if it said so.
        retry_after: Option<Duration>,
    },
    /// More bytes than announced or allowed.
    #[error("registry {registry} sent more than {limit} bytes")]
    TooLong {
        /// The registry's host.
        registry: String,
        /// The bound.
        limit: u64,
    },
    /// The content is not what its digest names.
    #[error("the {what} does not match its digest: expected {expected}, got {actual}")]
    WrongDigest {
        /// Which content.
        what: &'static str,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The download cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn because(trouble: Option<&str>) -> String {
    trouble.map_or(String::new(), |trouble| format!(", and the one that is kept cannot be used: {trouble}"))
}

impl RegistryError {
    /// How long the registry wants to be left alone.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        if let RegistryError::Status { retry_after, .. } = self { *retry_after } else { None }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            RegistryError::Connection { .. } | RegistryError::CutShort { .. } => true,
            RegistryError::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            RegistryError::Setup { .. }
            | RegistryError::LoginNeeded { .. }
            | RegistryError::Denied { .. }
            | RegistryError::WrongLogin { .. }
            | RegistryError::NoRegistry { .. }
            | RegistryError::Challenge { .. }
            | RegistryError::NotFound { .. }
            | RegistryError::TooLong { .. }
            | RegistryError::WrongDigest { .. }
            | RegistryError::Write { .. } => false,
        }
    }

    /// What a person may do next.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            RegistryError::Setup { .. } => "check the certificate file given for this registry".to_owned(),
            RegistryError::Connection { registry, source } if source.is_connect() => format!(
                "check that {registry} is right and reachable; one without TLS must be allowed once with `lith registry allow-http {registry}`, one with its own certificate authority needs that authority's certificate in /etc/docker/certs.d/{registry}/ca.crt"
            ),
            RegistryError::Status { registry, status: 429, .. } => format!(
                "it limits how often it may be asked: log in with `lith registry login {registry}`, or wait and try again"
            ),
            RegistryError::Connection { .. } | RegistryError::CutShort { .. } | RegistryError::Status { .. } => {
                "the registry or the network has a problem: try again later".to_owned()
            }
            RegistryError::WrongLogin { .. } => {
                "check both; many registries want an access token instead of the password".to_owned()
            }
            RegistryError::NoRegistry { .. } => {
                "give the host and port as they stand in names of images, such as registry.example:5000".to_owned()
            }
            RegistryError::LoginNeeded { registry, .. } => {
                format!("log in with `lith registry login {registry}`; a wrong name looks the same to some registries")
            }
            RegistryError::Denied { registry, .. } => {
                format!("check the name, and log in again with `lith registry login {registry}`")
            }
            RegistryError::Challenge { .. } => "check that the host really is a container registry".to_owned(),
            RegistryError::NotFound { .. } => "check the spelling of the name and of the tag".to_owned(),
            RegistryError::TooLong { .. } | RegistryError::WrongDigest { .. } => {
                "the image was changed or damaged on its way: try again, and do not trust the registry if it stays so".to_owned()
            }
            RegistryError::Write { source, .. } if is_disk_full(source) => {
                FREE_SPACE.to_owned()
            }
            RegistryError::Write { .. } => "look at the disk and the permissions of the data folder".to_owned(),
        };
        Some(text)
    }
}
