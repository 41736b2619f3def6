//! Credentials for registries: Docker's own file read, and a file of our own kept.
//!
//! Must not talk to registries. Secrets have no `Debug` and never enter an error.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::reference::DEFAULT_REGISTRY;

/// The version of our file's form.
const VERSION: u32 = 1;

/// A user's name and password (or token) at one registry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Name.
    pub username: String,
    /// Password or access token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Credentials {
    /// The value of an `Authorization` header.
    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }
}

/// Credentials that cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Docker's config is not what it should be.
    #[error("cannot read the docker config: {what}")]
    DockerConfig {
        /// What is wrong with it, without its contents.
        what: String,
    },
    /// The password is kept by a helper program.
    #[error(
        "the docker config keeps the password of {registry} in credential helper {helper:?}, which is not supported"
    )]
    Helper {
        /// The registry.
        registry: String,
        /// The helper.
        helper: String,
    },
    /// Our own file cannot be read or written.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Our own file is not what it should be.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

impl AuthError {
    /// What a person may do next.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            AuthError::DockerConfig { .. } | AuthError::Helper { .. } => {
                "log in with `lith registry login` instead".to_owned()
            }
            AuthError::Io { .. } => "look at the disk and the permissions of the data folder".to_owned(),
            AuthError::Damaged { path } => format!("remove {} and log in again", path.display()),
        };
        Some(text)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, DockerAuth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DockerAuth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The host that a key of Docker's config means: `https://host/v1/` and `host` are the same.
fn key_host(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let host = key.split('/').next().unwrap_or(key);
    if matches!(host, "index.docker.io" | "registry-1.docker.io") { DEFAULT_REGISTRY } else { host }
}

/// Finds the credentials for `registry` in the text of a Docker `config.json`; `None` when it has none.
pub fn credentials_from_docker_config(json: &[u8], registry: &str) -> Result<Option<Credentials>, AuthError> {
    let wrong = |what: &str| AuthError::DockerConfig { what: what.to_owned() };
    let config: DockerConfig = serde_json::from_slice(json).map_err(|e| AuthError::DockerConfig {
        what: format!("line {}, column {} is not as expected", e.line(), e.column()),
    })?;
    let helper =
        |helper: &str| AuthError::Helper { registry: registry.to_owned(), helper: helper.to_owned() };
    if let Some((_, name)) = config.cred_helpers.iter().find(|(key, _)| key_host(key) == registry) {
        return Err(helper(name));
    }
    let Some((_, auth)) = config.auths.iter().find(|(key, _)| key_host(key) == registry) else {
        return Ok(None);
    };
    if auth.identitytoken.as_ref().is_some_and(|t| !t.is_empty()) {
        return Err(wrong("identity tokens are not supported"));
    }
    if let Some(encoded) = auth.auth.as_deref().filter(|a| !a.is_empty()) {
        let plain = STANDARD.decode(encoded.trim()).map_err(|_| wrong("an auth field is not base64"))?;
        let plain = String::from_utf8(plain).map_err(|_| wrong("an auth field is not text"))?;
        let (username, password) =
            plain.split_once(':').ok_or_else(|| wrong("an auth field has no password"))?;
        let password = password.trim_end_matches('\0').to_owned();
        return Ok(Some(Credentials { username: username.to_owned(), password }));
    }
    match (&auth.username, &auth.password, &config.creds_store) {
        (Some(username), Some(password), _) => {
            Ok(Some(Credentials { username: username.clone(), password: password.clone() }))
        }
        (_, _, Some(store)) => Err(helper(store)),
        _ => Ok(None),
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    registries: BTreeMap<String, Credentials>,
}

/// Logins that lith keeps itself: one file readable by its owner only.
#[derive(Debug, Clone)]
pub struct Logins {
    path: PathBuf,
}

impl Logins {
    /// Uses the file at `path`, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Logins {
        Logins { path: path.into() }
    }

    /// The credentials kept for `registry`.
    pub fn get(&self, registry: &str) -> Result<Option<Credentials>, AuthError> {
        Ok(self.read()?.registries.remove(key_host(registry)))
    }

    /// Names of all registries with credentials.
    pub fn registries(&self) -> Result<Vec<String>, AuthError> {
        Ok(self.read()?.registries.into_keys().collect())
    }

    /// Keeps credentials, replacing older ones of the same registry.
    pub fn set(&self, registry: &str, credentials: Credentials) -> Result<(), AuthError> {
        let mut stored = self.read()?;
        stored.registries.insert(key_host(registry).to_owned(), credentials);
        self.write(&stored)
    }

    /// Forgets credentials; `false` when there were none.
    pub fn remove(&self, registry: &str) -> Result<bool, AuthError> {
        let mut stored = self.read()?;
        let was_there = stored.registries.remove(key_host(registry)).is_some();
        if was_there {
            self.write(&stored)?;
        }
        Ok(was_there)
    }

    fn read(&self) -> Result<Stored, AuthError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Stored { version: VERSION, registries: BTreeMap::new() });
            }
            Err(source) => return Err(self.io("read")(source)),
        };
        let stored: Option<Stored> = serde_json::from_slice(&bytes).ok();
        stored.filter(|s| s.version == VERSION).ok_or_else(|| AuthError::Damaged { path: self.path.clone() })
    }

    fn write(&self, stored: &Stored) -> Result<(), AuthError> {
        let bytes = serde_json::to_vec_pretty(stored).expect("plain maps are always JSON");
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let temporary = self.path.with_extension(format!("new{}", std::process::id()));
        let result = (|| {
            // A leftover of a crash would keep its own permissions.
            match fs::remove_file(&temporary) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            File::open(folder)?.sync_all()
        })();
        if result.is_err() {
            // The write's own error is the one to tell.
            let _ = fs::remove_file(&temporary);
        }
        result.map_err(self.io("write"))
    }

    fn io(&self, operation: &'static str) -> impl FnOnce(io::Error) -> AuthError {
        let path = self.path.clone();
        move |source| AuthError::Io { operation, path, source }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{Credentials, Logins, credentials_from_docker_config};

    fn check(json: &str, registry: &str, expect: Result<Option<(&str, &str)>, &str>) {
        match (credentials_from_docker_config(json.as_bytes(), registry), expect) {
            (Ok(found), Ok(expect)) => {
                let found = found.map(|c| (c.username, c.password));
                assert_eq!(found, expect.map(|(u, p)| (u.to_owned(), p.to_owned())), "{json}");
            }
            (Err(error), Err(words)) => {
                assert!(error.to_string().contains(words), "{error}");
                assert!(error.hint().unwrap().contains("lith registry login"));
            }
            (found, expect) => panic!("{json}: {found:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn docker_configs() {
        let auth = r#"{"auths":{"registry.example:5000":{"auth":"dTpwOjE="}}}"#;
        check(auth, "registry.example:5000", Ok(Some(("u", "p:1"))));
        check(auth, "other.example", Ok(None));
        check(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#,
            "docker.io",
            Ok(Some(("u", "p"))),
        );
        check(
            r#"{"auths":{"a.example":{"username":"u","password":"p"}}}"#,
            "a.example",
            Ok(Some(("u", "p"))),
        );
        check("{}", "a.example", Ok(None));
        check(r#"{"credHelpers":{"a.example":"pass"}}"#, "a.example", Err("credential helper \"pass\""));
        check(r#"{"credsStore":"pass","auths":{"a.example":{}}}"#, "a.example", Err("helper \"pass\""));
        check(r#"{"auths":{"a.example":{"auth":"!"}}}"#, "a.example", Err("not base64"));
        check(r#"{"auths":{"a.example":{"identitytoken":"x"}}}"#, "a.example", Err("identity tokens"));
        check("[", "a.example", Err("line 1"));
    }

    #[test]
    fn logins_are_kept_privately() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registries.json");
        let logins = Logins::at(&path);
        assert_eq!(logins.get("a.example").unwrap(), None);
        let credentials = Credentials { username: "u".into(), password: "secret".into() };
        assert!(!format!("{credentials:?}").contains("secret"));
        logins.set("a.example", credentials.clone()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(logins.get("a.example").unwrap(), Some(credentials));
        assert_eq!(logins.registries().unwrap(), ["a.example"]);
        assert!(logins.remove("a.example").unwrap());
        assert!(!logins.remove("a.example").unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(&path, "x").unwrap();
        assert!(logins.get("a.example").unwrap_err().to_string().ends_with("is damaged"));
    }
}
