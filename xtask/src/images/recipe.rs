//! What an image is made from: `image.json`, an optional script `setup`, a folder `rootfs`. Owns reading and digesting
//! them; runs nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The packages of the shared base, besides what Debian itself requires: `setpriv` and `ca-certificates` are what
/// entrypoints of real images lean on.
pub(crate) const DEBIAN_PACKAGES: &[&str] = &["ca-certificates", "tzdata"];

/// The lower layer that images share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// One static program and its names.
    Busybox,
    /// A minimal Debian with its package manager, as official images have.
    Debian,
}

impl Base {
    /// As in `image.json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox-base",
            Self::Debian => "debian-base",
        }
    }

    /// What the content of the base depends on.
    pub(crate) fn fingerprint(self) -> String {
        match self {
            Self::Busybox => "busybox-static".to_owned(),
            Self::Debian => DEBIAN_PACKAGES.join(" "),
        }
    }
}

/// The recipe of one image.
pub(crate) struct Recipe {
    pub(crate) base: Base,
    /// Debian packages of the app.
    pub(crate) packages: Vec<String>,
    /// The `config` object of the OCI image configuration.
    pub(crate) config: Value,
    /// Files copied over the tree, owned by root.
    pub(crate) rootfs: Option<PathBuf>,
    /// A shell script run inside the tree after the packages are in.
    pub(crate) setup: Option<PathBuf>,
    /// Changes with anything above.
    pub(crate) digest: String,
}

impl Recipe {
    /// Reads the recipe in a folder.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let bytes = std::fs::read(folder.join("image.json")).context("cannot read image.json")?;
        let value: Value = serde_json::from_slice(&bytes).context("image.json is not JSON")?;
        let base = match value["base"].as_str() {
            Some("busybox") => Base::Busybox,
            Some("debian") => Base::Debian,
            other => bail!("base {other:?} is neither busybox nor debian"),
        };
        let packages = value["packages"].as_array().into_iter().flatten();
        let packages: Vec<String> = packages.filter_map(Value::as_str).map(str::to_owned).collect();
        if base == Base::Busybox && !packages.is_empty() {
            bail!("packages need the base debian");
        }
        let existing = |name: &str| Some(folder.join(name)).filter(|path| path.exists());
        Ok(Self {
            base,
            packages,
            config: value["config"].clone(),
            rootfs: existing("rootfs"),
            setup: existing("setup"),
            digest: digest(folder, base)?,
        })
    }
}

/// Paths, modes and contents of everything in the folder, and the base.
fn digest(folder: &Path, base: Base) -> Result<String> {
    let mut files = BTreeMap::new();
    collect(folder, folder, &mut files)?;
    let mut hash = Sha256::new();
    hash.update(base.fingerprint().as_bytes());
    for (path, (mode, content)) in files {
        hash.update(path.to_string_lossy().as_bytes());
        hash.update(mode.to_le_bytes());
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    Ok(hex::encode(hash.finalize()))
}

fn collect(top: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        let metadata =
            path.symlink_metadata().with_context(|| format!("cannot look at {}", path.display()))?;
        if metadata.is_dir() {
            collect(top, &path, files)?;
            continue;
        }
        let content = if metadata.is_symlink() {
            std::fs::read_link(&path).map(|target| target.to_string_lossy().into_owned().into_bytes())
        } else {
            std::fs::read(&path)
        };
        let content = content.with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(top).unwrap_or(&path).to_path_buf();
        // The mode's execute bit is content; the rest depends on the umask of the checkout.
        files.insert(name, (metadata.permissions().mode() & 0o111, content));
    }
    Ok(())
}
