//! The texts that tidy judges: every file git would commit, and the packages as cargo sees them. Reads, decides nothing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// Above this a file is data, not something that a person wrote.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// Everything that tidy looks at.
pub(crate) struct Tree {
    /// Text files, in path order.
    pub(crate) files: Vec<File>,
    /// Packages of the workspace.
    pub(crate) packages: Vec<Package>,
}

/// One text file.
pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// Its content.
    pub(crate) text: String,
}

/// One package of the workspace.
pub(crate) struct Package {
    /// As in its manifest.
    pub(crate) name: String,
    /// Its folder from the root.
    pub(crate) folder: String,
    /// The names it depends on.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a manifest.
pub(crate) struct Dependency {
    /// The package depended on.
    pub(crate) name: String,
    /// How the code calls it.
    pub(crate) ident: String,
    /// Whether only tests see it.
    pub(crate) dev: bool,
}

impl Tree {
    /// Reads the tree under `root`: what is committed and what is new but not ignored.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let listing = process::output(
            // Root may check a tree that a person owns.
            Command::new("git")
                .args(["-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"])
                .current_dir(root),
        )?;
        let listing = String::from_utf8(listing).context("a file name in the repository is not UTF-8")?;
        let mut paths: Vec<&str> = listing.split('\0').filter(|path| !path.is_empty()).collect();
        paths.sort_unstable();
        paths.dedup();
        let mut files = Vec::new();
        for path in paths {
            files.extend(read_text(root, path)?);
        }
        Ok(Self { files, packages: packages(root)? })
    }

    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// The Rust files under a folder.
    pub(crate) fn rust_files<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a File> {
        let inside = move |file: &&File| {
            file.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') && rest.ends_with(".rs"))
        };
        self.files.iter().filter(inside)
    }
}

/// `None` for what is not text: a link, a deleted file that git still lists, something binary or huge.
fn read_text(root: &Path, path: &str) -> Result<Option<File>> {
    let full = root.join(path);
    match std::fs::symlink_metadata(&full) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= TEXT_BYTES_MAX => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {path}")),
    }
    let bytes = std::fs::read(&full).with_context(|| format!("cannot read {path}"))?;
    Ok(String::from_utf8(bytes).ok().map(|text| File { path: path.to_owned(), text }))
}

fn packages(root: &Path) -> Result<Vec<Package>> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let bytes = process::output(process::cargo().args(arguments).current_dir(root))?;
    let metadata: Value = serde_json::from_slice(&bytes).context("cannot read what cargo metadata said")?;
    let list = metadata["packages"].as_array().context("cargo metadata named no packages")?;
    list.iter().map(|package| parse_package(root, package)).collect()
}

fn parse_package(root: &Path, package: &Value) -> Result<Package> {
    let text = |key: &str| package[key].as_str().with_context(|| format!("a package without {key}"));
    let manifest = Path::new(text("manifest_path")?);
    let folder = manifest.parent().context("a manifest without a folder")?;
    let folder = folder.strip_prefix(root).context("a package outside the workspace")?;
    let dependencies = package["dependencies"].as_array().into_iter().flatten().filter_map(|dependency| {
        let name = dependency["name"].as_str()?.to_owned();
        let ident = dependency["rename"].as_str().unwrap_or(&name).replace('-', "_");
        Some(Dependency { ident, dev: dependency["kind"].as_str() == Some("dev"), name })
    });
    Ok(Package {
        name: text("name")?.to_owned(),
        folder: folder.to_string_lossy().into_owned(),
        dependencies: dependencies.collect(),
    })
}
