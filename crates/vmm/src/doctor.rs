//! What this machine has of what microVMs need, for `lith doctor`. Owns no repair: each fact carries its error, and the
//! error its hint.

use crate::kernel::{self, BootFiles, Kernel, KernelError};
use crate::machine::MachineError;
use crate::machine::accelerator::{self, Verdict};
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
    /// How guests run and why, once there are a VMM and boot files. Found by booting a probe machine, or remembered.
    pub accelerator: Option<Result<Verdict, MachineError>>,
    /// The program that formats scratch disks.
    pub mkfs: Result<PathBuf, ScratchError>,
}

/// Finds out. `kernel_roots` as for [`kernel::find`]; `cache` is where boot files and the verdict are kept.
pub fn examine(kernel_roots: &[PathBuf], cache: &Path) -> Facts {
    let qemu = Qemu::find();
    let kernel = kernel::find(kernel_roots);
    let boot = kernel.as_ref().ok().map(|kernel| kernel::prepare(kernel, cache));
    let accelerator = match (&qemu, &boot) {
        (Ok(qemu), Some(Ok(boot))) => Some(accelerator::choose(qemu, boot, cache)),
        (Ok(_) | Err(_), Some(_) | None) => None,
    };
    Facts { qemu, kernel, boot, accelerator, mkfs: scratch::find_mkfs() }
}
