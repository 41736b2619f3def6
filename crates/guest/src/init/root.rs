//! The task's root file system: image and scratch disk under an overlay, and what the kernel mounts into it.
//!
//! Owns where things are mounted in the initramfs. `/proc` and the control groups are mounted by the process itself
//! (`sys`), for they belong to its namespaces.

use std::ffi::{CStr, CString};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use lith_guest::messages::{BootConfig, BootStep};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::failure::{During, Failure, reason};
use crate::port::LOOK_EVERY;

/// The assembled root.
pub(crate) const ROOT: &str = "/task";
/// The image, read-only.
pub(crate) const IMAGE: &str = "/image";
/// The scratch disk.
pub(crate) const SCRATCH: &str = "/scratch";
/// Control groups, all of them.
const CGROUPS: &str = "/cgroup";
/// The task's control group.
pub(crate) const TASK_CGROUP: &str = "/cgroup/task";

/// How long a disk may take to appear.
const APPEARS_WITHIN: Duration = Duration::from_secs(10);

/// Mounts image and scratch disk and the overlay of both on [`ROOT`].
pub(crate) fn assemble(config: &BootConfig) -> Result<(), Failure> {
    let step = BootStep::Root;
    for path in [ROOT, IMAGE, SCRATCH, CGROUPS] {
        fs::create_dir_all(path).during(step, format_args!("make {path}"))?;
    }
    let image = find_disk(&config.root_serial)?;
    mount(&image, IMAGE, "erofs", MountFlags::RDONLY, None).during(step, "mount the image")?;
    let scratch = find_disk(&config.scratch_serial)?;
    mount(&scratch, SCRATCH, "ext4", MountFlags::empty(), None).during(step, "mount the scratch disk")?;
    prepare_scratch().during(step, "prepare the scratch disk")?;
    let options = c"lowerdir=/image,upperdir=/scratch/upper,workdir=/scratch/work";
    mount("overlay", ROOT, "overlay", MountFlags::empty(), Some(options))
        .during(step, "lay the scratch disk over the image")
}

/// The folders of the overlay. The upper one lends its mode and owner to the root directory, so it takes those of the
/// image when it is new.
fn prepare_scratch() -> io::Result<()> {
    let (upper, work) = (Path::new("/scratch/upper"), Path::new("/scratch/work"));
    fs::create_dir_all(work)?;
    if !upper.exists() {
        let image = fs::metadata(IMAGE)?;
        fs::create_dir(upper)?;
        chown(upper, Some(image.uid()), Some(image.gid()))?;
        fs::set_permissions(upper, Permissions::from_mode(image.mode() & 0o7777))?;
    }
    Ok(())
}

/// The device of the disk with this serial.
pub(crate) fn find_disk(serial: &str) -> Result<String, Failure> {
    let deadline = Instant::now() + APPEARS_WITHIN;
    loop {
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let found = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
            let device = format!("/dev/{}", entry.file_name().to_string_lossy());
            if found.trim_end() == serial && fs::exists(&device).unwrap_or(false) {
                return Ok(device);
            }
        }
        if Instant::now() > deadline {
            return Err(Failure::new(
                BootStep::Root,
                format!("the machine has no disk with serial {serial:?}"),
            ));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Mounts the control groups and makes that of the task, with the controllers that figures need.
pub(crate) fn make_cgroup() -> Result<(), Failure> {
    let step = BootStep::Mounts;
    mount("cgroup", CGROUPS, "cgroup2", MountFlags::empty(), None)
        .during(step, "mount the control groups")?;
    for controller in ["cpu", "io", "memory", "pids"] {
        // A kernel without one of them still runs the task; its figures are then missing.
        let _ = fs::write("/cgroup/cgroup.subtree_control", format!("+{controller}"));
    }
    fs::create_dir_all(TASK_CGROUP).during(step, "make the task's control group")
}

/// A file system of the kernel in the task's root.
struct KernelMount {
    kind: &'static str,
    target: &'static str,
    flags: MountFlags,
    options: Option<&'static CStr>,
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// As `docker run` does, but for `/dev`, which is the machine's own, and `/sys`, which may be written: the machine
/// belongs to the task. `/dev/shm` comes after them, with its size.
const KERNEL_MOUNTS: [KernelMount; 4] = [
    KernelMount { kind: "sysfs", target: "/sys", flags: QUIET, options: None },
    KernelMount { kind: "devtmpfs", target: "/dev", flags: MountFlags::NOSUID, options: None },
    KernelMount {
        kind: "devpts",
        target: "/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: Some(c"newinstance,ptmxmode=0666,mode=0620,gid=5"),
    },
    KernelMount { kind: "mqueue", target: "/dev/mqueue", flags: QUIET, options: None },
];

const DEVICE_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Mounts what the kernel offers. `/dev/shm` has no limit but that of tmpfs, half of the memory, unless one is given. To
/// be run in the task's root.
pub(crate) fn mount_kernel_file_systems(shm_bytes: Option<u64>) -> Result<(), Failure> {
    let step = BootStep::Mounts;
    for target in ["/proc", "/sys", "/dev"] {
        match fs::symlink_metadata(target) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(Failure::new(step, format!("the image's {target} is not a folder"))),
            Err(_) => fs::create_dir(target).during(step, format_args!("make {target}"))?,
        }
    }
    for KernelMount { kind, target, flags, options } in KERNEL_MOUNTS {
        fs::create_dir_all(target).during(step, format_args!("make {target}"))?;
        mount(kind, target, kind, flags, options).during(step, format_args!("mount {target}"))?;
    }
    mount_shm(shm_bytes).during(step, "mount /dev/shm")?;
    for (original, link) in DEVICE_LINKS {
        // The kernel makes `/dev/ptmx` a device of its first terminal file system, which nobody can see.
        let _ = fs::remove_file(link);
        symlink(original, link).during(step, format_args!("link {link}"))?;
    }
    for (path, mode) in [("/run", 0o755), ("/tmp", 0o1777)] {
        make_missing_dir(path, mode).during(step, format_args!("make {path}"))?;
    }
    Ok(())
}

fn mount_shm(bytes: Option<u64>) -> io::Result<()> {
    let size = bytes.map(|bytes| format!(",size={bytes}")).unwrap_or_default();
    let options = CString::new(format!("mode=1777{size}"))?;
    fs::create_dir_all("/dev/shm")?;
    Ok(mount("tmpfs", "/dev/shm", "tmpfs", QUIET, Some(options.as_c_str()))?)
}

/// Makes the root read-only for the task, but not what is mounted below it.
pub(crate) fn make_read_only() -> Result<(), Failure> {
    mount_remount(ROOT, MountFlags::BIND | MountFlags::RDONLY, c"")
        .during(BootStep::Root, "make the root file system read-only")
}

fn make_missing_dir(path: &str, mode: u32) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    fs::create_dir(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Settings of the kernel that `docker run` has and images rely on.
const SETTINGS: [(&str, &str); 2] = [
    // A process that is not root may serve port 80.
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    // And may send a ping without a capability.
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
];

/// Applies them.
pub(crate) fn apply_settings() -> Result<(), Failure> {
    for (path, value) in SETTINGS {
        fs::write(path, value).during(BootStep::Mounts, format_args!("write {path}"))?;
    }
    Ok(())
}

/// Unmounts everything that was assembled, so that the disks are clean. The task's processes are gone.
pub(crate) fn take_down() {
    rustix::fs::sync();
    for target in ["/task/dev/mqueue", "/task/dev/shm", "/task/dev/pts", "/task/dev", "/task/sys", ROOT] {
        // What is not mounted needs no unmounting: the boot may have failed half-way.
        let _ = unmount(target, UnmountFlags::DETACH);
    }
    crate::mounts::take_down();
    // Somebody may still hold the task's mounts; then at least nothing is written any more.
    if unmount(SCRATCH, UnmountFlags::empty()).is_err()
        && let Err(error) = mount_remount(SCRATCH, MountFlags::RDONLY, c"")
    {
        crate::boot::complain(&format!("cannot make the scratch disk read-only: {}", reason(&error.into())));
    }
    rustix::fs::sync();
}
