//! What the safe interfaces lack: the C entry point, starting a process in namespaces, a few system calls.
//!
//! Every `unsafe` of this program stands here. Must not decide anything.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{Resource, Rlimit, chdir, chroot, ioctl_tiocsctty, setrlimit, setsid};
use rustix::thread::{
    Gid, LinkNameSpaceType, Uid, UnshareFlags, move_into_link_name_space, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};

/// Where the C library enters: instead of the standard library's start, which aborts where a machine has no console.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    crate::run()
}

/// Gives the calling thread a working and root directory of its own, so that it may change them.
pub(crate) fn unshare_directories() -> io::Result<()> {
    // SAFETY: undoes the sharing of root and working directory for this thread alone; no memory is concerned. The only
    // flag, FS, is not among those (FILES) that could invalidate descriptors owned elsewhere.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
}

/// Makes the next child of the calling thread PID 1 of a new namespace.
pub(crate) fn unshare_pids() -> io::Result<()> {
    // SAFETY: concerns only children that this thread forks later; no memory, no descriptors.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?)
}

/// `_IOW('R', 3, int[2])` on x86-64 and AArch64.
const RNDADDENTROPY: u32 = 0x4008_5203;

/// Adds bytes to the kernel's random pool and credits all of their bits (`RNDADDENTROPY`, random(4)).
pub(crate) fn add_entropy(random: &File, bytes: &[u8]) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let length = c_int::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let bits = length.checked_mul(8).ok_or(io::ErrorKind::InvalidInput)?;
    // struct rand_pool_info: entropy_count, buf_size, buf.
    let mut info = Vec::with_capacity(2 * size_of::<c_int>() + bytes.len());
    info.extend_from_slice(&bits.to_ne_bytes());
    info.extend_from_slice(&length.to_ne_bytes());
    info.extend_from_slice(bytes);
    // SAFETY: the kernel reads two integers and as many bytes as the second says; `info` holds just that and outlives
    // the call. It has no alignment demand, for the kernel copies it.
    let result = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, info.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `_IOW('f', 16, __u64)` on x86-64 and AArch64.
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;

/// Gives the mounted ext4 file system of a folder so many blocks; it can only become larger.
pub(crate) fn resize_ext4(folder: &File, blocks: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the kernel reads one integer of 64 bits, which lives until the call returns. On a file system of another
    // kind the number means nothing and gives an error.
    let result =
        unsafe { libc::ioctl(folder.as_raw_fd(), EXT4_IOC_RESIZE_FS as _, std::ptr::from_ref(&blocks)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `_IOWR('X', 121, struct fstrim_range)` on x86-64 and AArch64.
const FITRIM: u32 = 0xC018_5879;

/// Tells the disk below the file system of a folder what is free in a piece of it, in bytes.
pub(crate) fn trim(folder: &File, start: u64, length: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // struct fstrim_range: start, len, minlen. No minimum of ours: the kernel knows what the disk takes.
    let mut range: [u64; 3] = [start, length, 0];
    // SAFETY: the kernel reads three integers of 64 bits, and writes them with how much was trimmed; `range` holds just
    // that, writable, and outlives the call.
    let result = unsafe { libc::ioctl(folder.as_raw_fd(), FITRIM as _, range.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Strings as execve(2) wants them.
pub(crate) struct Strings {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

// SAFETY: the pointers lead to the heap memory of the strings owned beside them, which nobody changes.
unsafe impl Send for Strings {}
// SAFETY: as above; there is no way to change anything through a shared reference.
unsafe impl Sync for Strings {}

impl Strings {
    /// Fails on a zero byte.
    pub(crate) fn new<'a>(strings: impl Iterator<Item = &'a str>) -> io::Result<Strings> {
        let strings: Vec<CString> = strings.map(CString::new).collect::<Result<_, _>>()?;
        let end = std::iter::once(std::ptr::null());
        let pointers = strings.iter().map(|string| string.as_ptr()).chain(end).collect();
        Ok(Strings { pointers, _strings: strings })
    }
}

/// Namespaces of the process to start.
pub(crate) enum Place {
    /// New ones, on the root file system assembled at this path. The calling thread has unshared PIDs.
    New(CString),
    /// Those of the main process. The calling thread has joined its PID namespace.
    Join {
        /// The mount namespace.
        mounts: OwnedFd,
        /// The cgroup namespace.
        cgroup: OwnedFd,
    },
}

/// A process to start, everything resolved: between fork and exec nothing may allocate.
pub(crate) struct Launch {
    /// Path of the executable, as seen from the working directory.
    pub(crate) program: CString,
    /// Arguments, the program's name first.
    pub(crate) argv: Strings,
    /// `NAME=value` strings.
    pub(crate) env: Strings,
    /// Absolute path.
    pub(crate) working_dir: CString,
    /// User ID.
    pub(crate) uid: Uid,
    /// Group ID.
    pub(crate) gid: Gid,
    /// Supplementary groups.
    pub(crate) groups: Vec<Gid>,
    /// Limits.
    pub(crate) limits: Vec<(Resource, Rlimit)>,
    /// `cgroup.procs` of the task's cgroup.
    pub(crate) cgroup_procs: File,
    /// Namespaces.
    pub(crate) place: Place,
    /// Whether standard input is a terminal to be controlled by.
    pub(crate) has_terminal: bool,
}

/// Standard input, output and error of a process to start.
pub(crate) type StandardFiles = [OwnedFd; 3];

/// Starts a process; gives its ID. An error is that of the step that failed.
pub(crate) fn spawn(launch: Launch, [input, output, error]: StandardFiles) -> io::Result<i32> {
    let mut command = Command::new("/");
    command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::from(error));
    // SAFETY: the closure runs in the forked child, where only async-signal-safe calls are allowed: it makes system
    // calls on memory prepared before and neither allocates nor locks.
    unsafe { command.pre_exec(move || Err(become_process(&launch))) };
    let child = command.spawn()?;
    i32::try_from(child.id()).map_err(io::Error::other)
}

/// In the child: turns into the process. Comes back only with an error.
fn become_process(launch: &Launch) -> io::Error {
    if let Err(error) = prepare(launch) {
        return error;
    }
    // SAFETY: the program is a C string, both arrays end with a null pointer and their strings live in `launch`. The
    // safe way, `Command` itself, would hand a file that is no program to a shell, which a container never does.
    unsafe {
        libc::execve(launch.program.as_ptr(), launch.argv.pointers.as_ptr(), launch.env.pointers.as_ptr());
    }
    io::Error::last_os_error()
}

fn prepare(launch: &Launch) -> io::Result<()> {
    setsid()?;
    if launch.has_terminal {
        ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    rustix::io::write(&launch.cgroup_procs, b"0")?;
    match &launch.place {
        Place::New(root) => enter_new(root)?,
        Place::Join { mounts, cgroup } => {
            move_into_link_name_space(cgroup.as_fd(), Some(LinkNameSpaceType::ControlGroup))?;
            move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
        }
    }
    for (resource, limit) in &launch.limits {
        setrlimit(*resource, *limit)?;
    }
    chdir(&*launch.working_dir)?;
    set_thread_groups(&launch.groups)?;
    set_thread_res_gid(launch.gid, launch.gid, launch.gid)?;
    set_thread_res_uid(launch.uid, launch.uid, launch.uid)?;
    Ok(())
}

/// New mount and cgroup namespaces; the assembled root becomes `/`, with the views of processes and control groups that
/// belong to the new namespaces. All paths are relative, so that what the image holds cannot lead elsewhere; that the
/// mount points are plain folders was seen to before.
fn enter_new(root: &CStr) -> io::Result<()> {
    chdir(root)?;
    // SAFETY: the child has one thread and shares nothing; no memory, no descriptors are concerned.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWCGROUP) }?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"proc", c"proc", c"proc", flags, None)?;
    mount(c"cgroup", c"sys/fs/cgroup", c"cgroup2", flags, None)?;
    mount_move(c".", c"/")?;
    chroot(c".")?;
    Ok(())
}

/// Who gets a signal.
#[derive(Clone, Copy)]
pub(crate) enum Receiver {
    /// One process.
    Process(i32),
    /// The process group of this leader.
    Group(i32),
}

/// Sends a signal, real-time ones included.
pub(crate) fn kill(receiver: Receiver, signal: i32) -> io::Result<()> {
    let target = match receiver {
        Receiver::Process(pid) => pid,
        Receiver::Group(pid) => -pid,
    };
    // -1 and 0 mean more than one process or group; no process ID given out by the kernel leads here.
    assert!(!(-1..=1).contains(&target), "a signal must not go to everybody");
    // SAFETY: takes two integers.
    let result = unsafe { libc::kill(target, signal) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
