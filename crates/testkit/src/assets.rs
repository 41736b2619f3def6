//! Where the programs and files are that tests use. Nothing is built here: a missing file is an error that says how to
//! get it.

use std::path::{Path, PathBuf};

/// The folder of the build profile, such as `target/debug`: the test program lies in `deps` below it.
fn profile_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let folder = program.parent().and_then(Path::parent);
    folder.unwrap_or_else(|| panic!("{} does not lie in a target folder", program.display())).to_owned()
}

fn existing(path: PathBuf, remedy: &str) -> PathBuf {
    assert!(path.exists(), "{} is missing: run `{remedy}` first", path.display());
    path
}

/// The executable.
#[must_use]
pub fn lith() -> PathBuf {
    existing(profile_folder().join("lith"), "cargo build --bin lith")
}

fn asset(path: &str, remedy: &str) -> PathBuf {
    let profile = profile_folder();
    let target = profile.parent().expect("the folder of a profile lies in the target folder");
    existing(target.join("test-assets").join(path), remedy)
}

/// A root file system with busybox under all its names, as a folder: what the test image `busybox` is made from.
#[must_use]
pub fn busybox_tree() -> PathBuf {
    asset("images-cache/busybox-base.tree", "cargo xtask images")
}

/// The unpacked package of the guest kernel.
#[must_use]
pub fn kernel() -> PathBuf {
    asset("kernel", "cargo xtask assets")
}

/// The archive of a test image, such as `busybox`.
#[must_use]
pub fn image(name: &str) -> PathBuf {
    asset(&format!("images/{name}.tar"), "cargo xtask images")
}
