//! What this machine has of what microVMs need, for `lith doctor`. Owns no repair: each fact carries its error, and the
//! error its hint.

use crate::jail::cgroup::{self, Controllers};
use crate::kernel::{self, BootFiles, Kernel, KernelError};
use crate::machine::MachineError;
use crate::machine::accelerator;
use crate::machine::qemu::Qemu;
use crate::scratch::{self, ScratchError};
use std::path::{Path, PathBuf};

/// The facts.
#[derive(Debug)]
pub struct Facts {
    /// The VMM.
    pub qemu: Result<Qemu, MachineError>,
    /// The guest kernel.
    pub kernel: Result<Kernel, KernelError>,
    /// Its boot files, once there is a kernel.
    pub boot: Option<Result<BootFiles, KernelError>>,
    /// Whether guests boot with KVM and with emulation, and why not, once there are a VMM and boot files: found by
    /// booting a probe machine with each.
    pub probes: Option<[Result<String, String>; 2]>,
    /// What the kernel's control groups can limit.
    pub controllers: Controllers,
    /// The program that formats scratch disks.
    pub mkfs: Result<PathBuf, ScratchError>,
}

/// Finds out. `kernel_roots` as for [`kernel::find`]; `cache` is where boot files are kept, if it is there. Takes seconds.
pub fn examine(kernel_roots: &[PathBuf], cache: &Path) -> Facts {
    let qemu = Qemu::find();
    let kernel = kernel::find(kernel_roots);
    // Looking leaves nothing on a machine where lith never ran.
    let temporary = if cache.is_dir() { None } else { tempfile::tempdir().ok() };
    let cache = temporary.as_ref().map_or(cache, |folder| folder.path());
    let boot = kernel.as_ref().ok().map(|kernel| kernel::prepare(kernel, cache));
    let probes = match (&qemu, &boot) {
        (Ok(qemu), Some(Ok(boot))) => Some(accelerator::examine(qemu, boot, cache)),
        (Ok(_) | Err(_), Some(_) | None) => None,
    };
    Facts { qemu, kernel, boot, probes, controllers: cgroup::examine(), mkfs: scratch::find_mkfs() }
}
