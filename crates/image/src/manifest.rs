//! Manifests, indexes and platforms: what registries and layouts say about an image.
//!
//! Must not fetch anything. Formats: OCI image spec v1 ("manifest.md", "image-index.md") and Docker's schema 2.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::limits::LAYERS_MAX;
use crate::unpack::clean;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Platforms that are listed when none fits: enough to see what an index is for.
const OFFERS_SHOWN: usize = 20;

/// Media types of layers that can be unpacked. "Foreign" layers, which live elsewhere than the registry, are not.
const LAYERS: [&str; 8] = [
    OCI_LAYER,
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.container.image.rootfs.diff.tar",
    "application/vnd.docker.container.image.rootfs.diff.tar.gzip",
];

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// Operating system, `linux`.
    pub os: String,
    /// Architecture by Go's names: `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// Variant of the architecture, such as `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of this machine.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// How well an image for `other` suits this platform: lower is better, `None` is not at all.
    fn distance(&self, other: &Platform) -> Option<u8> {
        if self.os != other.os || self.architecture != other.architecture {
            return None;
        }
        match (&self.variant, &other.variant) {
            (None, None) => Some(0),
            // Every arm64 is at least v8; `v8` and nothing mean the same.
            (None, Some(theirs)) => Some(if theirs == "v8" { 0 } else { 2 }),
            (Some(_), None) => Some(1),
            (Some(ours), Some(theirs)) if ours == theirs => Some(0),
            (Some(ours), Some(theirs)) => (theirs < ours).then_some(2),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// A pointer to content: digest, size and type.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// The manifest of one image.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl Manifest {
    /// Bytes of all layers as they are announced.
    pub(crate) fn packed_bytes(&self) -> u64 {
        self.layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size))
    }
}

/// Either kind of document that a name may lead to.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

/// A manifest or index that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON that the format wants.
    #[error("{what} is not valid")]
    Json {
        /// Which document.
        what: &'static str,
        /// Where the JSON is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A type of content that is not an image's.
    #[error("unknown media type {media_type:?} of the {what}")]
    MediaType {
        /// Whose type it is.
        what: &'static str,
        /// The type.
        media_type: String,
    },
    /// The manifest and its parts contradict each other.
    #[error("the image contradicts itself: {what}")]
    Contradiction {
        /// How.
        what: String,
    },
    /// No image for the wanted platform.
    #[error("the image is for {offered}, not for {wanted}")]
    Platform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        offered: String,
    },
}

impl ManifestError {
    /// What a person may do next.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            ManifestError::Platform { .. } => {
                "choose a tag that is built for this machine's architecture, or ask the image's author for one"
            }
            ManifestError::MediaType { .. } => {
                "the name may belong to something else than a container image, or to an image of an outdated or foreign format"
            }
            ManifestError::Json { .. } | ManifestError::Contradiction { .. } => {
                "the image is damaged or was built by a faulty tool: build or fetch it again"
            }
        };
        Some(text.to_owned())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    schema_version: u32,
    manifests: Option<serde_json::Value>,
    layers: Option<serde_json::Value>,
}

/// Parses a manifest or an index, whichever it is; `content_type` is what the sender called it.
pub(crate) fn parse_document(bytes: &[u8], content_type: &str) -> Result<Document, ManifestError> {
    let json = |source| ManifestError::Json { what: "the manifest", source };
    let probe: Probe = serde_json::from_slice(bytes).map_err(json)?;
    let media_type = if probe.media_type.is_empty() { content_type } else { &probe.media_type };
    let is_index = match media_type {
        OCI_INDEX | DOCKER_INDEX => true,
        OCI_MANIFEST | DOCKER_MANIFEST => false,
        // OCI documents need not name their type; what they hold tells.
        "" | "application/json" | "text/plain" if probe.manifests.is_some() => true,
        "" | "application/json" | "text/plain" if probe.layers.is_some() => false,
        other => {
            let media_type = clean(other);
            return Err(ManifestError::MediaType { what: "manifest", media_type });
        }
    };
    if probe.schema_version != 2 {
        let media_type = clean(&format!("{media_type} with schema version {}", probe.schema_version));
        return Err(ManifestError::MediaType { what: "manifest", media_type });
    }
    if is_index {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Descriptor>,
        }
        let index: Index = serde_json::from_slice(bytes).map_err(json)?;
        return Ok(Document::Index(index.manifests));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(json)?;
    check_manifest(&manifest)?;
    Ok(Document::Manifest(manifest))
}

fn check_manifest(manifest: &Manifest) -> Result<(), ManifestError> {
    let config_type = manifest.config.media_type.as_str();
    if !matches!(config_type, OCI_CONFIG | DOCKER_CONFIG) {
        return Err(ManifestError::MediaType { what: "config", media_type: clean(config_type) });
    }
    if manifest.layers.len() > LAYERS_MAX {
        return Err(ManifestError::Contradiction { what: format!("it has more than {LAYERS_MAX} layers") });
    }
    for layer in &manifest.layers {
        if !LAYERS.contains(&layer.media_type.as_str()) {
            let media_type = clean(&layer.media_type);
            return Err(ManifestError::MediaType { what: "layer", media_type });
        }
    }
    Ok(())
}

/// Chooses the best image for `wanted` from an index.
pub(crate) fn choose<'a>(
    entries: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor, ManifestError> {
    // An entry that names no platform may be any: its config tells later.
    let distance = |entry: &Descriptor| match &entry.platform {
        Some(platform) => wanted.distance(platform),
        None => Some(3),
    };
    let best = entries
        .iter()
        .filter_map(|entry| Some((distance(entry)?, entry)))
        .min_by_key(|(distance, _)| *distance);
    best.map(|(_, entry)| entry).ok_or_else(|| {
        let named = entries.iter().filter_map(|e| e.platform.as_ref()).filter(|p| p.os != "unknown");
        let offered: Vec<String> = named.map(|p| clean(&p.to_string())).take(OFFERS_SHOWN).collect();
        let offered = if offered.is_empty() { "no platform at all".to_owned() } else { offered.join(", ") };
        ManifestError::Platform { wanted: wanted.to_string(), offered }
    })
}
