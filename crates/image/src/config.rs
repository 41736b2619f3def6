//! The image's own configuration: what to run, as whom, with what.
//!
//! Must not interpret it beyond its form. Format: OCI image spec v1, "config.md"; Docker's is the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::manifest::{ManifestError, Platform};
use crate::unpack::clean;

/// The runtime part of an image's configuration. Absent fields are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments after the entrypoint, or the program itself when there is no entrypoint.
    pub cmd: Vec<String>,
    /// Environment as `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: String,
    /// Signal that asks the process to stop, by name or number.
    pub stop_signal: String,
    /// Ports as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Paths that the image expects to be volumes.
    pub volumes: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The parts of the config document that matter here.
#[derive(Debug)]
pub(crate) struct ConfigDocument {
    pub(crate) config: ImageConfig,
    pub(crate) platform: Platform,
    pub(crate) created: Option<String>,
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct Raw {
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    created: Option<String>,
    config: Option<RawRuntime>,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawRuntime {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    labels: Option<BTreeMap<String, String>>,
}

/// Parses a config document and checks it against the number of layers and the wanted platform.
pub(crate) fn parse_config(
    bytes: &[u8],
    layers: usize,
    wanted: &Platform,
) -> Result<ConfigDocument, ManifestError> {
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|source| ManifestError::Json { what: "the image's config", source })?;
    let platform = Platform {
        os: raw.os.unwrap_or_default(),
        architecture: raw.architecture.unwrap_or_default(),
        variant: raw.variant.filter(|v| !v.is_empty()).map(|v| clean(&v)),
    };
    if platform.os != wanted.os || platform.architecture != wanted.architecture {
        let offered = clean(&platform.to_string());
        return Err(ManifestError::Platform { wanted: wanted.to_string(), offered });
    }
    let diff_ids = raw.rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() != layers {
        let what = format!("the manifest has {layers} layers, the config {}", diff_ids.len());
        return Err(ManifestError::Contradiction { what });
    }
    let runtime = raw.config.unwrap_or_default();
    let keys =
        |map: Option<BTreeMap<String, serde::de::IgnoredAny>>| map.unwrap_or_default().into_keys().collect();
    let config = ImageConfig {
        entrypoint: runtime.entrypoint.unwrap_or_default(),
        cmd: runtime.cmd.unwrap_or_default(),
        env: runtime.env.unwrap_or_default(),
        working_dir: runtime.working_dir.unwrap_or_default(),
        user: runtime.user.unwrap_or_default(),
        stop_signal: runtime.stop_signal.unwrap_or_default(),
        exposed_ports: keys(runtime.exposed_ports),
        volumes: keys(runtime.volumes),
        labels: runtime.labels.unwrap_or_default(),
    };
    Ok(ConfigDocument { config, platform, created: raw.created, diff_ids })
}
