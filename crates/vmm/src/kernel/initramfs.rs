//! The boot files of a guest: the kernel and an initramfs with `/init` (lith-init) and the modules
//! under `/modules/NNN-name.ko`, in load order; beside them, each in a folder of its own, those of devices that a guest loads
//! only when its task asks for them. Owns their cache: one folder per kernel version and content, published
//! by a rename so that a power cut leaves a whole folder or none. It must not change a published folder.

use super::cpio::Archive;
use super::modules::{self, Module};
use super::{Kernel, KernelError, image};
use crate::durable;
use lith_guest::messages::settings::Device;
use sha2::{Digest, Sha256};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
/// How the name of a folder begins in which boot files are being built.
const BUILDING: &str = ".building";
/// A build takes seconds.
const BUILD_AGE_MAX: Duration = Duration::from_secs(3600);
/// The format of the cached folder; a change of what is in it needs a new number.
const FORMAT: &str = "3";
/// The kernel in it.
const KERNEL: &str = "kernel";

/// The files that boot a guest. All are world-readable, since the jailed VMM opens them under its own uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// The kernel's release.
    pub version: String,
    /// The kernel, unpacked where that can be booted. A copy, so that an upgrade of the package does not pull it from under a running cluster.
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
        kernel: folder.join(KERNEL),
        initramfs: folder.join("initramfs"),
    })
}

/// Removes what the folder `cache` holds beside `boot`: boot files of kernels before it, and what a build that was cut off
/// left. Machines that run have theirs open. A file that cannot be removed is tried again at the next start.
pub fn sweep(boot: &BootFiles, cache: &Path) {
    let current = boot.kernel.parent();
    let is_old = |path: &Path| {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > BUILD_AGE_MAX))
    };
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_building = entry.file_name().as_encoded_bytes().starts_with(BUILDING.as_bytes());
        let is_complete = path.join(KERNEL).is_file() && path.join("initramfs").is_file();
        let goes = if is_building { is_old(&path) } else { is_complete && Some(path.as_path()) != current };
        if goes {
            // Room on the disk is all that it costs.
            let _ = std::fs::remove_dir_all(path);
        }
    }
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
    let load_order = |required: &[&str], optional: &[&str]| {
        modules::load_order(&kernel.version, &kernel.modules, required, optional)
    };
    let order = load_order(&MODULES_REQUIRED, &MODULES_OPTIONAL)?;
    let mut folders = vec![("modules".to_owned(), order)];
    for device in Device::ALL {
        // A kernel without it boots all tasks but those that ask for it. What it needs may be loaded already, which is
        // no mistake.
        folders.push((device.folder(), load_order(&[], &[device.module()])?));
    }
    std::fs::create_dir_all(cache).map_err(KernelError::file("write", cache))?;
    let building = tempfile::Builder::new()
        .prefix(BUILDING)
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(cache)
        .map_err(KernelError::file("write", cache))?;
    let image = std::fs::read(&kernel.image).map_err(KernelError::file("read", &kernel.image))?;
    let copy = building.path().join(KERNEL);
    durable::write(&copy, &image::bootable(image), 0o644).map_err(KernelError::file("write", &copy))?;
    let initramfs = building.path().join("initramfs");
    durable::write(&initramfs, &pack(LITH_INIT, &folders), 0o644)
        .map_err(KernelError::file("write", &initramfs))?;
    match std::fs::rename(building.path(), folder) {
        Ok(()) => durable::sync_folder(cache).map_err(KernelError::file("write", cache)),
        // Another call published the same content first; ours is removed with its guard.
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) => Err(KernelError::file("write", folder)(error)),
    }
}

fn pack(init: &[u8], folders: &[(String, Vec<Module>)]) -> Vec<u8> {
    let mut archive = Archive::new();
    archive.program("init", init);
    for (folder, order) in folders {
        archive.folder(folder);
        for (position, module) in order.iter().enumerate() {
            archive.file(&format!("{folder}/{position:03}-{}.ko", module.name), &module.content);
        }
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

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
    fn what_is_not_current_is_swept() {
        let root = tempfile::tempdir().unwrap();
        let kernel = kernel(root.path());
        let cache = root.path().join("cache");
        prepare(&kernel, &cache).unwrap();
        // Another kernel, as after an upgrade of its package.
        std::fs::write(&kernel.image, b"another image").unwrap();
        let boot = prepare(&kernel, &cache).unwrap();
        for name in [".building1", ".building2", "kept"] {
            std::fs::create_dir(cache.join(name)).unwrap();
        }
        let long_ago = std::time::SystemTime::now() - BUILD_AGE_MAX * 2;
        File::open(cache.join(".building1")).unwrap().set_modified(long_ago).unwrap();
        sweep(&boot, &cache);
        let mut names: Vec<_> =
            std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        let current = boot.kernel.parent().unwrap().file_name().unwrap();
        assert_eq!(names, [".building2".as_ref(), current, "kept".as_ref()]);
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
