//! The image's own configuration: what to run, as whom, with what.
//!
//! Must not interpret it beyond its form. Format: OCI image spec v1, "config.md"; Docker's is the same.

use std::collections::BTreeMap;
use std::time::Duration;

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
    /// How its health is asked for (Docker's own field, which the OCI form does not have).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
}

/// A health check that an image declares (`HEALTHCHECK` of a Dockerfile). Times that are not given are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `NONE`; `CMD` and a program with its arguments; `CMD-SHELL` and a line for the shell.
    pub test: Vec<String>,
    /// Between checks.
    pub interval: Option<Duration>,
    /// For an answer.
    pub timeout: Option<Duration>,
    /// In which failures do not count.
    pub start_period: Option<Duration>,
    /// Between checks in that time.
    pub start_interval: Option<Duration>,
    /// Failures in a row.
    pub retries: Option<u32>,
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
    healthcheck: Option<RawHealthcheck>,
}

/// Times are nanoseconds; zero means that none is given.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawHealthcheck {
    test: Option<Vec<String>>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    start_interval: i64,
    retries: i64,
}

impl From<RawHealthcheck> for Healthcheck {
    fn from(raw: RawHealthcheck) -> Self {
        // A negative number is none either: Docker refuses to build such an image.
        let time = |nanoseconds: i64| {
            u64::try_from(nanoseconds).ok().filter(|time| *time > 0).map(Duration::from_nanos)
        };
        Self {
            test: raw.test.unwrap_or_default(),
            interval: time(raw.interval),
            timeout: time(raw.timeout),
            start_period: time(raw.start_period),
            start_interval: time(raw.start_interval),
            retries: u32::try_from(raw.retries).ok().filter(|retries| *retries > 0),
        }
    }
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
        healthcheck: runtime.healthcheck.map(Healthcheck::from),
    };
    Ok(ConfigDocument { config, platform, created: raw.created, diff_ids })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthcheck(config: &str) -> Option<Healthcheck> {
        let wanted = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let document = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{config},"rootfs":{{"diff_ids":[]}}}}"#
        );
        parse_config(document.as_bytes(), 0, &wanted).unwrap().config.healthcheck
    }

    #[test]
    fn a_health_check_is_read_as_docker_writes_it() {
        assert_eq!(healthcheck("{}"), None);
        let text = r#"{"Healthcheck":{"Test":["CMD-SHELL","curl -f http://localhost/"],"Interval":300000000000,
            "Timeout":3000000000,"StartPeriod":0,"Retries":5}}"#;
        let expected = Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), "curl -f http://localhost/".to_owned()],
            interval: Some(Duration::from_secs(300)),
            timeout: Some(Duration::from_secs(3)),
            retries: Some(5),
            ..Healthcheck::default()
        };
        assert_eq!(healthcheck(text), Some(expected));
        let odd = r#"{"Healthcheck":{"Test":null,"Interval":-1,"Retries":-5}}"#;
        assert_eq!(healthcheck(odd), Some(Healthcheck::default()));
        // What was stored before there was such a field.
        let stored = serde_json::to_string(&ImageConfig::default()).unwrap();
        assert!(!stored.contains("healthcheck"));
        assert_eq!(serde_json::from_str::<ImageConfig>(&stored).unwrap(), ImageConfig::default());
    }
}
