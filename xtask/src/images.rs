//! The images of tests and examples, built from Debian packages alone. Owns the order of the work and the cache: an
//! image is built again only when its recipe changed. How file systems are made is `rootfs`, how they are packed is
//! `oci`. Nothing is downloaded but Debian packages.

mod oci;
mod recipe;
mod rootfs;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{process, target_dir};
use oci::Layer;
use recipe::{Base, Recipe};

/// Every image, and where its recipe is: `examples/<name>/image/`.
const NAMES: &[&str] = &["busybox", "hello", "nginx", "redis", "postgres", "python", "mosquitto"];

/// Belongs to every cache key: raised when the way of building changes what comes out.
const BUILDER_VERSION: &str = "2";

/// Builds the named images, or all of them, unless they are there.
pub(crate) fn run(root: &Path, names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
        bail!("no image is called {unknown:?}: {}", NAMES.join(", "));
    }
    let workshop = Workshop::open(root)?;
    for name in NAMES {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            workshop.build(name)?;
        }
    }
    Ok(())
}

/// The path of a built image's archive.
pub(crate) fn archive(root: &Path, name: &str) -> PathBuf {
    target_dir(root).join("test-assets/images").join(format!("{name}.tar"))
}

/// What an image has ten times as much of as nginx's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Large {
    /// Bytes alone, in a few large files.
    Bytes,
    /// Bytes and files.
    Files,
}

impl Large {
    fn name(self) -> &'static str {
        match self {
            Self::Bytes => "large",
            Self::Files => "many",
        }
    }

    /// A copy of the programs in `base`, as the folder or the archive `copy`.
    fn copy(self, base: &Path, copy: &Path) -> Result<()> {
        let mut command;
        match self {
            Self::Bytes => {
                command = std::process::Command::new("tar");
                command.arg("--create").arg("--file").arg(copy).arg("-C").arg(base).arg("usr");
            }
            Self::Files => {
                std::fs::create_dir_all(copy).with_context(|| format!("cannot create {}", copy.display()))?;
                command = std::process::Command::new("cp");
                command.args(["-a", "--reflink=auto"]).arg(base.join("usr")).arg(copy);
            }
        }
        process::output(&mut command).map(drop)
    }
}

/// An image ten times as big as nginx's, for figures only: the base, and ten copies of its programs. Returns its
/// archive, built if need be.
pub(crate) fn large(root: &Path, kind: Large) -> Result<PathBuf> {
    const COPIES: u32 = 10;
    let (workshop, name) = (Workshop::open(root)?, kind.name());
    let archive = workshop.images.join(format!("{name}.tar"));
    let key_path = workshop.images.join(format!("{name}.key"));
    let base = workshop.base(Base::Debian)?;
    let key = workshop.key(&[name, "copies", &base.layer.to_line(), &COPIES.to_string()]);
    if archive.is_file() && std::fs::read_to_string(&key_path).is_ok_and(|present| present == key) {
        return Ok(archive);
    }
    let tree = workshop.cache.join(format!("{name}.tree"));
    remove_tree(&tree)?;
    std::fs::create_dir_all(&tree).with_context(|| format!("cannot create {}", tree.display()))?;
    for copy in 0..COPIES {
        kind.copy(&base.tree, &tree.join(format!("copy-{copy}")))?;
    }
    let copies = oci::pack_tree(&tree, &workshop.cache.join(format!("{name}.layer")))?;
    remove_tree(&tree)?;
    oci::write_archive(
        &archive,
        name,
        &workshop.architecture,
        &Value::Object(Map::new()),
        &[base.layer, copies],
    )?;
    std::fs::write(&key_path, key).with_context(|| format!("cannot write {}", key_path.display()))?;
    Ok(archive)
}

/// Where images are built and kept.
struct Workshop {
    root: PathBuf,
    /// Finished archives.
    images: PathBuf,
    /// Base file systems, their layers, downloaded packages.
    cache: PathBuf,
    architecture: String,
}

impl Workshop {
    fn open(root: &Path) -> Result<Self> {
        let assets = target_dir(root).join("test-assets");
        let images = assets.join("images");
        let cache = assets.join("images-cache");
        for folder in [&images, &cache] {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let architecture = process::output(std::process::Command::new("dpkg").arg("--print-architecture"))
            .context("not on Debian?")?;
        let architecture = String::from_utf8_lossy(&architecture).trim().to_owned();
        Ok(Self { root: root.to_path_buf(), images, cache, architecture })
    }

    fn build(&self, name: &str) -> Result<()> {
        let recipe = Recipe::read(&self.root.join("examples").join(name).join("image"))
            .with_context(|| format!("cannot read the recipe of image {name}"))?;
        let key = self.key(&[&recipe.digest]);
        let archive = self.images.join(format!("{name}.tar"));
        let key_path = self.images.join(format!("{name}.key"));
        if archive.is_file() && std::fs::read_to_string(&key_path).is_ok_and(|present| present == key) {
            return Ok(());
        }
        let start = Instant::now();
        let base = self.base(recipe.base)?;
        let app = self.app_layer(name, &recipe, &base)?;
        oci::write_archive(&archive, name, &self.architecture, &recipe.config, &[base.layer, app])
            .with_context(|| format!("cannot pack image {name}"))?;
        // Last: a key without its archive would hide a half-built image.
        std::fs::write(&key_path, key).with_context(|| format!("cannot write {}", key_path.display()))?;
        let megabytes = std::fs::metadata(&archive).map_or(0, |metadata| metadata.len()) / 1_000_000;
        println!("image {name}: {megabytes} MB in {:.1} s", start.elapsed().as_secs_f64());
        Ok(())
    }

    /// The shared lower layer and the tree it was packed from; made once.
    fn base(&self, base: Base) -> Result<BuiltBase> {
        let name = base.name();
        let key = self.key(&[name, &base.fingerprint()]);
        let tree = self.cache.join(format!("{name}.tree"));
        let blob = self.cache.join(format!("{name}.layer"));
        let key_path = self.cache.join(format!("{name}.key"));
        let present = std::fs::read_to_string(&key_path).unwrap_or_default();
        if let Some((present_key, layer)) = present.split_once('\n')
            && present_key == key
            && let Some(layer) = Layer::parse(layer, &blob)
        {
            return Ok(BuiltBase { tree, layer });
        }
        let start = Instant::now();
        remove_tree(&tree)?;
        rootfs::make_base(base, &tree, &self.cache)?;
        let layer = oci::pack_tree(&tree, &blob)?;
        std::fs::write(&key_path, format!("{key}\n{}", layer.to_line()))
            .with_context(|| format!("cannot write {}", key_path.display()))?;
        println!("base {name}: {:.1} s", start.elapsed().as_secs_f64());
        Ok(BuiltBase { tree, layer })
    }

    fn app_layer(&self, name: &str, recipe: &Recipe, base: &BuiltBase) -> Result<Layer> {
        let tree = self.cache.join(format!("{name}.app"));
        remove_tree(&tree)?;
        rootfs::make_app(recipe, &base.tree, &tree, &self.cache)
            .with_context(|| format!("cannot build the file system of image {name}"))?;
        let layer = oci::pack_difference(&base.tree, &tree, &self.cache.join(format!("{name}.app-layer")))?;
        remove_tree(&tree)?;
        Ok(layer)
    }

    fn key(&self, parts: &[&str]) -> String {
        let mut hash = Sha256::new();
        for part in [BUILDER_VERSION, &self.architecture].iter().chain(parts) {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hex::encode(hash.finalize())
    }
}

struct BuiltBase {
    tree: PathBuf,
    layer: Layer,
}

/// Removes a folder with everything in it, if it is there.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
