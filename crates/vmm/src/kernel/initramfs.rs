//! The boot files of a guest: a copy of the kernel image and an initramfs with `/init` (lith-init) and the modules
//! under `/modules/NNN-name.ko`, in load order. Owns their cache: one folder per kernel version and content, published
//! by a rename so that a power cut leaves a whole folder or none. It must not change a published folder.

use super::cpio::Archive;
use super::modules::{self, Module};
use super::{Kernel, KernelError};
use crate::durable;
use sha2::{Digest, Sha256};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// PID 1 of the guest, built by the build script for this machine's architecture.
static LITH_INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lith-init"));

/// What every guest needs: its disks, its network, its memory balloon, entropy, the guest channel, and the root's file
/// systems. Those that a kernel has built in are skipped.
const MODULES_REQUIRED: [&str; 9] = [
    "virtio_mmio",
    "virtio_console",
    "virtio_blk",
    "virtio_rng",
    "virtio_balloon",
    "virtio_net",
    "erofs",
    "overlay",
    "ext4",
];
/// Loaded where they exist: some kernels have the checksum that ext4 and erofs ask for by alias as a module of its own.
const MODULES_OPTIONAL: [&str; 1] = ["crc32c_generic"];
/// The format of the cached folder; a change of what is in it needs a new number.
const FORMAT: &str = "1";

/// The files that boot a guest. All are world-readable, since the jailed VMM opens them under its own uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// The kernel's release.
    pub version: String,
    /// Copy of the kernel image, so that an upgrade of the package does not pull it from under a running cluster.
    pub kernel: PathBuf,
    /// The initramfs, an uncompressed cpio archive: under emulation the guest's decompression costs more than reading.
    pub initramfs: PathBuf,
}

/// Makes the boot files of `kernel` ready below the folder `cache`, building them only when they are not there yet.
/// Calls at the same time converge on one result.
///
/// # Errors
/// The kernel lacks a module, or a file cannot be read or written.
pub fn prepare(kernel: &Kernel, cache: &Path) -> Result<BootFiles, KernelError> {
    let stamp = stamp(kernel)?;
    let folder = cache.join(format!("{}-{stamp}", kernel.version));
    if !folder.is_dir() {
        publish(kernel, cache, &folder)?;
    }
    Ok(BootFiles {
        version: kernel.version.clone(),
        kernel: folder.join("vmlinuz"),
        initramfs: folder.join("initramfs"),
    })
}

/// Identifies what the boot files are made from. The image is told apart by size and time, not by content: this runs at
/// every start of a task.
fn stamp(kernel: &Kernel) -> Result<String, KernelError> {
    let metadata = std::fs::metadata(&kernel.image).map_err(KernelError::file("read", &kernel.image))?;
    let modified = metadata.modified().map_err(KernelError::file("read", &kernel.image))?;
    let mut hash = Sha256::new();
    hash.update(FORMAT);
    hash.update(LITH_INIT);
    hash.update(format!("{:?} {modified:?} {}", kernel.image, metadata.len()));
    Ok(hex::encode(&hash.finalize()[..8]))
}

fn publish(kernel: &Kernel, cache: &Path, folder: &Path) -> Result<(), KernelError> {
    let order = modules::load_order(&kernel.version, &kernel.modules, &MODULES_REQUIRED, &MODULES_OPTIONAL)?;
    std::fs::create_dir_all(cache).map_err(KernelError::file("write", cache))?;
    let building = tempfile::Builder::new()
        .prefix(".building")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(cache)
        .map_err(KernelError::file("write", cache))?;
    let image = building.path().join("vmlinuz");
    std::fs::copy(&kernel.image, &image)
        .and_then(|_| std::fs::set_permissions(&image, Permissions::from_mode(0o644)))
        .and_then(|()| File::open(&image)?.sync_all())
        .map_err(KernelError::file("write", &image))?;
    let initramfs = building.path().join("initramfs");
    durable::write(&initramfs, &pack(LITH_INIT, &order), 0o644)
        .map_err(KernelError::file("write", &initramfs))?;
    match std::fs::rename(building.path(), folder) {
        Ok(()) => durable::sync_folder(cache).map_err(KernelError::file("write", cache)),
        // Another call published the same content first; ours is removed with its guard.
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(KernelError::file("write", folder)(error)),
    }
}

fn pack(init: &[u8], order: &[Module]) -> Vec<u8> {
    let mut archive = Archive::new();
    archive.program("init", init);
    archive.folder("modules");
    for (position, module) in order.iter().enumerate() {
        archive.file(&format!("modules/{position:03}-{}.ko", module.name), &module.content);
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::super::modules::tests::module;
    use super::*;

    fn kernel(root: &Path) -> Kernel {
        let modules = root.join("lib/modules/6.1");
        std::fs::create_dir_all(modules.join("kernel")).unwrap();
        std::fs::create_dir_all(root.join("boot")).unwrap();
        std::fs::write(root.join("boot/vmlinuz-6.1"), b"image").unwrap();
        for name in MODULES_REQUIRED {
            std::fs::write(modules.join(format!("kernel/{name}.ko")), module("")).unwrap();
        }
        crate::kernel::find(&[root.to_owned()]).unwrap()
    }

    #[test]
    fn boot_files_are_built_once_and_readable_by_all() {
        let root = tempfile::tempdir().unwrap();
        let kernel = kernel(root.path());
        let cache = root.path().join("cache");
        let first = prepare(&kernel, &cache).unwrap();
        let built = std::fs::metadata(&first.initramfs).unwrap().modified().unwrap();
        assert_eq!(prepare(&kernel, &cache).unwrap(), first);
        assert_eq!(std::fs::metadata(&first.initramfs).unwrap().modified().unwrap(), built);
        for path in [&first.kernel, &first.initramfs] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o644);
        }
        assert_eq!(std::fs::read(&first.kernel).unwrap(), b"image");
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    }

    #[test]
    fn racing_builders_converge() {
        let root = tempfile::tempdir().unwrap();
        let kernel = kernel(root.path());
        let cache = root.path().join("cache");
        std::thread::scope(|scope| {
            let racers: Vec<_> = (0..4).map(|_| scope.spawn(|| prepare(&kernel, &cache).unwrap())).collect();
            let results: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        });
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_build_leaves_no_folder() {
        let root = tempfile::tempdir().unwrap();
        let kernel = kernel(root.path());
        std::fs::remove_file(kernel.modules.join("kernel/erofs.ko")).unwrap();
        let cache = root.path().join("cache");
        assert_eq!(prepare(&kernel, &cache).unwrap_err().to_string(), "kernel 6.1 has no module erofs");
        assert!(!cache.exists() || std::fs::read_dir(&cache).unwrap().count() == 0);
    }
}
