//! Container images: fetched, verified and turned into one read-only EROFS file each.
//!
//! Must not know tasks, VMs or nodes. Everything that comes from outside (archives, layers, registries' answers) is
//! hostile: bounded by [`Limits`] and by named constants, checked against digests, never a panic.

mod archive;
mod auth;
mod config;
mod digest;
mod error;
mod folder;
mod limits;
mod manifest;
mod progress;
mod reference;
mod registry;
mod store;
mod unpack;

pub use auth::{AuthError, Credentials, KnownRegistry, Logins, credentials_from_docker_config};
pub use config::{Healthcheck, ImageConfig};
pub use digest::{Digest, DigestParseError};
pub use error::ImageError;
pub use folder::folder_from_archive;
pub use limits::Limits;
pub use manifest::{ManifestError, Platform};
pub use progress::{NoProgress, Phase, Progress, ProgressEvent};
pub use reference::{DEFAULT_REGISTRY, Reference, ReferenceParseError, registry_host};
pub use registry::{RegistryError, RegistryOptions, check_login};
pub use store::{Archive, GcScope, Image, ImageStore, Listing, PullOptions, Removed};
pub use unpack::UnpackError;
