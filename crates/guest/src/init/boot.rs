//! The first steps of the machine, before anybody listens: kernel file systems, modules, processors.
//!
//! Owns what happens in the initramfs itself. Must not touch the task's root file system.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use lith_guest::messages::BootStep;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::failure::{During, Failure};

/// Where the initramfs keeps kernel modules, named in the order of loading.
const MODULES: &str = "/modules";

/// Where the kernel shows its processors.
const PROCESSORS: &str = "/sys/devices/system/cpu";

/// Mounts what this program itself needs and loads the modules.
pub(crate) fn early() -> Result<(), Failure> {
    for (kind, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        fs::create_dir_all(target).during(BootStep::Mounts, format_args!("make {target}"))?;
        mount(kind, target, kind, MountFlags::empty(), None)
            .during(BootStep::Mounts, format_args!("mount {target}"))?;
    }
    open_standard_files().during(BootStep::Mounts, "open /dev/null")?;
    load_modules(Path::new(MODULES))?;
    start_processors();
    Ok(())
}

/// Starts the processors that the kernel's command line kept off (`maxcpus`), now that kernel and modules have done the
/// patching of their own code that is part of a boot. With fewer of them the machine still works.
fn start_processors() {
    for entry in fs::read_dir(PROCESSORS).into_iter().flatten().flatten() {
        let switch = entry.path().join("online");
        // The first processor has no switch, and folders of other names are none.
        let is_off = fs::read_to_string(&switch).is_ok_and(|state| state.trim() == "0");
        if is_off && let Err(error) = fs::write(&switch, "1") {
            complain(&format!("cannot start the processor of {}: {error}", switch.display()));
        }
    }
}

/// Fills file descriptors 0 to 2, which the kernel leaves closed when it finds no console: else some later file would
/// get one of these numbers, and with it every word written to standard error.
fn open_standard_files() -> std::io::Result<()> {
    loop {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        std::mem::forget(null);
    }
}

/// Loads the modules in a folder of the initramfs, and removes their files.
pub(crate) fn load_modules(folder: &Path) -> Result<(), Failure> {
    let mut paths: Vec<PathBuf> = match fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect(),
        // A kernel with everything built in.
        Err(_) => return Ok(()),
    };
    paths.sort();
    for path in paths {
        load_module(&path)?;
        // The initramfs is memory, and this was the only use.
        fs::remove_file(&path).during(BootStep::Modules, format_args!("remove {}", path.display()))?;
    }
    Ok(())
}

fn load_module(path: &Path) -> Result<(), Failure> {
    let loading = format!("load the kernel module {}", path.display());
    let file = File::open(path).during(BootStep::Modules, &loading)?;
    match rustix::system::finit_module(&file, c"", 0) {
        // Built in, or loaded by another one's request.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).during(BootStep::Modules, &loading),
    }
}

/// Last words on the kernel's log, which the host keeps with the console.
pub(crate) fn complain(sentence: &str) {
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        // Nothing is left to tell if even this fails.
        // Priority 3 (error): shown on the console however quiet the kernel was told to be.
        // One write is one record.
        let _ = log.write_all(format!("<3>lith-init: {sentence}\n").as_bytes());
    }
}
