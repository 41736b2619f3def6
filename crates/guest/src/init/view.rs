//! The file system as the task sees it, for threads of this program.
//!
//! A thread in the task's view opens, links and resolves with ordinary calls, and no symlink in the image can lead it out
//! of the image. Code that touches the task's files runs in here and nowhere else.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::process::{chdir, chroot};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sys;

/// Namespaces of the main process.
pub(crate) struct Namespaces {
    /// Mounts.
    pub(crate) mounts: OwnedFd,
    /// Processes.
    pub(crate) pids: OwnedFd,
    /// Control groups.
    pub(crate) cgroup: OwnedFd,
}

impl Namespaces {
    /// Those of a running process.
    pub(crate) fn of(pid: i32) -> io::Result<Namespaces> {
        let open = |name: &str| File::open(format!("/proc/{pid}/ns/{name}")).map(OwnedFd::from);
        Ok(Namespaces { mounts: open("mnt")?, pids: open("pid")?, cgroup: open("cgroup")? })
    }
}

/// Runs `work` in a thread whose root is `root`.
pub(crate) fn inside_root<T: Send>(root: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let enter = || {
        chroot(root)?;
        chdir("/")
    };
    on_own_thread(|| enter().map_err(io::Error::from), work)
}

/// Runs `work` in a thread that sees what the main process sees.
pub(crate) fn inside_task<T: Send>(
    namespaces: &Namespaces,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let enter = || move_into_link_name_space(namespaces.mounts.as_fd(), Some(LinkNameSpaceType::Mount));
    on_own_thread(|| enter().map_err(io::Error::from), work)
}

fn on_own_thread<T: Send>(
    enter: impl FnOnce() -> io::Result<()> + Send,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sys::unshare_directories()?;
            enter()?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("thread panicked")))
    })
}
