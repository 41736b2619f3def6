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
    /// `linux/amd64`.
    pub platform: String,
    /// Whether a task uses it.
    pub is_used: bool,
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
        /// `downloading`, `verifying`, `building`…
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

/// Answer of `POST /v1/images/gc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Collected {
    /// Digests of the removed images.
    pub removed: Vec<String>,
    /// Bytes freed.
    pub freed_bytes: u64,
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
