//! Credentials for registries, and what else is kept of them: in a file of our own, and in Docker's.
//!
//! Must not talk to registries. Secrets have no `Debug` and never enter an error.

mod docker;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::reference::DEFAULT_REGISTRY;
pub use docker::credentials_from_docker_config;

/// The version of our file's form.
const VERSION: u32 = 2;

/// What one registry knows a user by.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name, and a password or access token.
    Password {
        /// Name.
        username: String,
        /// Password or access token.
        password: String,
    },
    /// What a registry gave in place of a password; it is exchanged for short-lived tokens.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { username, .. } => {
                f.debug_struct("Password").field("username", username).finish_non_exhaustive()
            }
            Credentials::IdentityToken(_) => f.debug_struct("IdentityToken").finish_non_exhaustive(),
        }
    }
}

impl Credentials {
    /// A name and a password.
    pub fn password(username: &str, password: &str) -> Credentials {
        Credentials::Password { username: username.to_owned(), password: password.to_owned() }
    }

    /// The value of an `Authorization` header, where there is one.
    pub(crate) fn basic(&self) -> Option<String> {
        match self {
            Credentials::Password { username, password } => Some(basic(username, password)),
            Credentials::IdentityToken(_) => None,
        }
    }
}

/// The value of an `Authorization` header.
pub(crate) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
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
    /// The program that keeps the password does not give it.
    #[error("docker-credential-{helper}, which the docker config names, failed: {why}")]
    Helper {
        /// The helper.
        helper: String,
        /// What it said.
        why: String,
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

/// The host that a key of Docker's config means: `https://host/v1/` and `host` are the same.
fn key_host(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let host = key.split('/').next().unwrap_or(key);
    if matches!(host, "index.docker.io" | "registry-1.docker.io") { DEFAULT_REGISTRY } else { host }
}

/// What is kept of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRegistry {
    /// Its host.
    pub host: String,
    /// Whom the login is for, if there is one.
    pub username: Option<String>,
    /// It may be asked over plain HTTP.
    pub plain_http: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Stored {
    version: u32,
    registries: BTreeMap<String, StoredLogin>,
    /// New in version 2.
    #[serde(default)]
    plain_http: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredLogin {
    username: String,
    password: String,
}

/// What lith keeps of registries itself, logins and whether plain HTTP is allowed: one file readable by its owner only.
#[derive(Debug, Clone)]
pub struct Logins {
    path: PathBuf,
    /// Held from reading to writing, so that of two changes at once none is lost.
    changing: Arc<Mutex<()>>,
}

impl Logins {
    /// Uses the file at `path`, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Logins {
        Logins { path: path.into(), changing: Arc::default() }
    }

    /// The credentials kept for `registry`.
    pub fn get(&self, registry: &str) -> Result<Option<Credentials>, AuthError> {
        let login = self.read()?.registries.remove(key_host(registry));
        Ok(login.map(|login| Credentials::password(&login.username, &login.password)))
    }

    /// Whether `registry` may be asked over plain HTTP.
    pub fn is_plain_http(&self, registry: &str) -> Result<bool, AuthError> {
        Ok(self.read()?.plain_http.contains(key_host(registry)))
    }

    /// Every registry of which something is kept.
    pub fn list(&self) -> Result<Vec<KnownRegistry>, AuthError> {
        let stored = self.read()?;
        let hosts: BTreeSet<&String> = stored.registries.keys().chain(&stored.plain_http).collect();
        let known = hosts.into_iter().map(|host| KnownRegistry {
            host: host.clone(),
            username: stored.registries.get(host).map(|login| login.username.clone()),
            plain_http: stored.plain_http.contains(host),
        });
        Ok(known.collect())
    }

    /// Keeps a login, replacing an older one of the same registry.
    pub fn set(&self, registry: &str, username: &str, password: &str) -> Result<(), AuthError> {
        let login = StoredLogin { username: username.to_owned(), password: password.to_owned() };
        self.change(|stored| {
            stored.registries.insert(key_host(registry).to_owned(), login);
            true
        })
        .map(drop)
    }

    /// Forgets a login; `false` when there was none.
    pub fn remove(&self, registry: &str) -> Result<bool, AuthError> {
        self.change(|stored| stored.registries.remove(key_host(registry)).is_some())
    }

    /// Allows plain HTTP with a registry.
    pub fn allow_plain_http(&self, registry: &str) -> Result<(), AuthError> {
        self.change(|stored| stored.plain_http.insert(key_host(registry).to_owned())).map(drop)
    }

    /// Wants TLS with a registry again; `false` when plain HTTP was not allowed.
    pub fn refuse_plain_http(&self, registry: &str) -> Result<bool, AuthError> {
        self.change(|stored| stored.plain_http.remove(key_host(registry)))
    }

    /// Writes what `change` makes of the file, if it says that it changed something.
    fn change(&self, change: impl FnOnce(&mut Stored) -> bool) -> Result<bool, AuthError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stored = self.read()?;
        let is_changed = change(&mut stored);
        if is_changed {
            self.write(stored)?;
        }
        Ok(is_changed)
    }

    fn read(&self) -> Result<Stored, AuthError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Stored::default()),
            Err(source) => return Err(self.io("read")(source)),
        };
        let stored: Option<Stored> = serde_json::from_slice(&bytes).ok();
        let known = stored.filter(|stored| (1..=VERSION).contains(&stored.version));
        known.ok_or_else(|| AuthError::Damaged { path: self.path.clone() })
    }

    fn write(&self, mut stored: Stored) -> Result<(), AuthError> {
        stored.version = VERSION;
        let bytes = serde_json::to_vec_pretty(&stored).expect("plain maps are always JSON");
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

    use super::{Credentials, Logins};

    #[test]
    fn logins_are_kept_privately() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registries.json");
        let logins = Logins::at(&path);
        assert_eq!(logins.get("a.example").unwrap(), None);
        let credentials = Credentials::password("u", "secret");
        let token = Credentials::IdentityToken("secret".to_owned());
        assert!(!format!("{credentials:?} {token:?}").contains("secret"));
        logins.set("a.example", "u", "secret").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(logins.get("a.example").unwrap(), Some(credentials));
        logins.allow_plain_http("b.example").unwrap();
        assert!(logins.is_plain_http("b.example").unwrap() && !logins.is_plain_http("a.example").unwrap());
        let known: Vec<_> = logins.list().unwrap().into_iter().map(|k| (k.host, k.username)).collect();
        assert_eq!(known, [("a.example".to_owned(), Some("u".to_owned())), ("b.example".to_owned(), None)]);
        assert!(logins.refuse_plain_http("b.example").unwrap());
        assert!(!logins.refuse_plain_http("b.example").unwrap());
        assert!(logins.remove("a.example").unwrap());
        assert!(!logins.remove("a.example").unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(&path, "x").unwrap();
        assert!(logins.get("a.example").unwrap_err().to_string().ends_with("is damaged"));
    }

    #[test]
    fn the_first_form_is_still_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registries.json");
        let first = r#"{"version":1,"registries":{"a.example":{"username":"u","password":"p"}}}"#;
        std::fs::write(&path, first).unwrap();
        let logins = Logins::at(&path);
        assert_eq!(logins.get("a.example").unwrap(), Some(Credentials::password("u", "p")));
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let logins = Logins::at(folder.path().join("registries.json"));
        std::thread::scope(|scope| {
            for i in 0..8 {
                let logins = logins.clone();
                scope.spawn(move || logins.set(&format!("r{i}.example"), "u", "p").unwrap());
            }
        });
        assert_eq!(logins.list().unwrap().len(), 8);
    }
}
