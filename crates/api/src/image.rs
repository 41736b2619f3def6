//! Images as they travel.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::Failure;

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Digest of its manifest, `sha256:…`.
    pub digest: String,
    /// Names that lead to it.
    pub names: Vec<String>,
    /// Bytes of its root file system on disk.
    pub size_bytes: u64,
    /// When it was made, RFC 3339, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// `linux/amd64`; nothing when the image cannot be read.
    pub platform: String,
    /// Whether a task uses it, or a deployed job names it.
    pub is_used: bool,
    /// It cannot be read: nothing starts from it until it was removed and fetched again.
    #[serde(default)]
    pub is_damaged: bool,
}

/// An image with what it wants to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageDetail {
    /// The image.
    pub image: Image,
    /// The runtime part of its OCI configuration.
    #[schema(value_type = Object)]
    pub config: serde_json::Value,
}

/// Body of `POST /v1/images/pull`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullRequest {
    /// Reference of the image.
    pub reference: String,
    /// Speak plain HTTP to the registry.
    #[serde(default)]
    pub plain_http: bool,
}

/// A line of the answer to a pull or load: progress, then `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Progress {
    /// A part (a layer, the archive) is at `done` of `total` bytes.
    Part {
        /// Short name of the part.
        part: String,
        /// `fetching`, `unpacking`, `uploading`…
        phase: String,
        /// Bytes done.
        done_bytes: u64,
        /// Bytes in all, when known.
        total_bytes: Option<u64>,
    },
    /// It succeeded.
    Done {
        /// The images that are now in the store.
        images: Vec<Image>,
    },
    /// It failed.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// Body of `POST /v1/images/gc`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CollectRequest {
    /// Also images that have a name; else only those that lost theirs to a newer one.
    #[serde(default)]
    pub all: bool,
}

/// An image that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Removed {
    /// Digest of its manifest.
    pub digest: String,
    /// Names that led to it.
    pub names: Vec<String>,
    /// Bytes freed.
    pub freed_bytes: u64,
}

/// Answer of `POST /v1/images/gc` and of the removal of one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Collected {
    /// The removed images.
    pub removed: Vec<Removed>,
    /// Bytes freed in all.
    pub freed_bytes: u64,
}

/// A registry of which something is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Registry {
    /// Its host.
    pub host: String,
    /// Whom the login is for, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Plain HTTP is allowed.
    pub plain_http: bool,
}

/// Body of `PUT /v1/registries/{host}`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Login {
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
    /// Speak plain HTTP to the registry.
    #[serde(default)]
    pub plain_http: bool,
}
