//! Names of images, by the rules people know from Docker: `nginx`, `nginx:1.27`, `host:5000/team/app@sha256:…`.
//!
//! Must not look anything up. Grammar: the distribution project's `reference` package.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// The registry meant when a name has no host.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// Longest repository name that registries accept.
const REPOSITORY_BYTES_MAX: usize = 255;
/// Longest tag that registries accept.
const TAG_BYTES_MAX: usize = 128;

/// A complete name: registry, repository, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host, with a port where one was given.
    pub registry: String,
    /// Path of the repository within the registry.
    pub repository: String,
    /// Tag; `latest` when neither tag nor digest was given.
    pub tag: Option<String>,
    /// Digest of the manifest; wins over the tag.
    pub digest: Option<Digest>,
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an image name: {why}")]
pub struct ReferenceParseError {
    /// The refused text, shortened.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Reference {
    /// The host that serves the registry's API: Docker Hub's differs from its name.
    pub fn api_host(&self) -> &str {
        if self.registry == DEFAULT_REGISTRY { "registry-1.docker.io" } else { &self.registry }
    }

    /// What to ask the registry for: the digest if there is one, else the tag.
    pub fn target(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The registry that a person means by `text`: as in names of images, or with a scheme before it and a slash behind.
/// `None` when no host could have that name.
pub fn registry_host(text: &str) -> Option<String> {
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    // How Docker's own config calls its registry.
    let host = bare.strip_suffix("/v1/").unwrap_or(bare).trim_end_matches('/');
    let is_docker_hub = matches!(host, "index.docker.io" | "registry-1.docker.io");
    let host = if is_docker_hub { DEFAULT_REGISTRY } else { host };
    is_valid_host(host).then(|| host.to_owned())
}

fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_valid_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let name_is_valid = !name.is_empty()
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        });
    name_is_valid && port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0))
}

fn is_valid_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(first)
        && alphanumeric(last)
        && bytes.iter().all(|&b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'))
        && !part.contains("..")
        && !part.contains("___")
}

fn is_valid_tag(tag: &str) -> bool {
    let first_is_word = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first_is_word
        && tag.len() <= TAG_BYTES_MAX
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl FromStr for Reference {
    type Err = ReferenceParseError;

    fn from_str(text: &str) -> Result<Reference, ReferenceParseError> {
        let refused = |why| ReferenceParseError { text: text.chars().take(200).collect(), why };
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => (
                rest,
                Some(
                    digest
                        .parse::<Digest>()
                        .map_err(|_| refused("its digest is not sha256:<64 hex digits>"))?,
                ),
            ),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_valid_tag(tag)) {
            return Err(refused("its tag has letters that tags cannot have"));
        }
        let (registry, repository) = match path.split_once('/') {
            Some((host, repository)) if is_host(host) => (host, repository.to_owned()),
            _ => (DEFAULT_REGISTRY, path.to_owned()),
        };
        if !is_valid_host(registry) {
            return Err(refused("its registry is not a host name"));
        }
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        let is_short = registry == DEFAULT_REGISTRY && !repository.contains('/');
        let repository = if is_short { format!("library/{repository}") } else { repository };
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refused("repository names are lower case"));
        }
        if repository.len() > REPOSITORY_BYTES_MAX || !repository.split('/').all(is_valid_component) {
            return Err(refused("its repository has letters that repositories cannot have"));
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::{Reference, registry_host};

    #[test]
    fn registries_as_people_write_them() {
        for (text, host) in [
            ("registry.example:5000", "registry.example:5000"),
            ("https://registry.example/", "registry.example"),
            ("http://registry.example:5000", "registry.example:5000"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(registry_host(text).as_deref(), Some(host), "{text}");
        }
        for bad in
            ["", "registry.example/team/app", "https://", "a b", "ftp://a.example", "../x", "a.example:x"]
        {
            assert_eq!(registry_host(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_follow_docker() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, expect) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            ("team/app", "docker.io/team/app:latest".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c".to_owned()),
            ("registry.example/a__b/c-d.e", "registry.example/a__b/c-d.e:latest".to_owned()),
            (&format!("nginx@sha256:{hex}"), format!("docker.io/library/nginx@sha256:{hex}")),
            (&format!("nginx:1@sha256:{hex}"), format!("docker.io/library/nginx:1@sha256:{hex}")),
            ("index.docker.io/library/x", "docker.io/library/x:latest".to_owned()),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), expect, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused_in_words() {
        for (text, why) in [
            ("", "its repository has letters"),
            ("Nginx", "repository names are lower case"),
            ("nginx:", "its tag has letters"),
            ("nginx:a b", "its tag has letters"),
            ("a//b", "its repository has letters"),
            ("nginx@sha256:12", "its digest is not"),
            ("registry.example:0/x", "its registry is not a host name"),
            ("-a.example/x", "its registry is not a host name"),
            ("../../etc", "its re"),
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert!(error.why.starts_with(why), "{text}: {error}");
        }
    }
}
