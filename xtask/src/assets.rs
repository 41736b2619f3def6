//! What tests need and cannot build: the guest kernel. Owns where it lies; how it is fetched is scripts/guest-kernel,
//! because `make demo` and a person need that too.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{process, target_dir};

/// Fetches the guest kernel unless it is there. Returns its folder.
pub(crate) fn kernel(root: &Path) -> Result<PathBuf> {
    let folder = target_dir(root).join("test-assets/kernel");
    process::run(Command::new(root.join("scripts/guest-kernel")).arg(&folder))?;
    Ok(folder)
}
