//! The system calls of the jail: clone, the steps inside the child, exec, and waiting for the process. Owns all unsafe
//! code of the jail; what to do in which order is decided outside.
#![allow(unsafe_code)]

use super::{FOLDER_MODE, JailError, NODE_MODE, Network, Program, Step};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::process::{Pid, PidfdFlags, Rlimit, Signal, WaitId, WaitIdOptions};
use std::ffi::{CString, c_char};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// First descriptor number that sources are moved to before they are put in place; above all
/// targets, and below the jail's limit on open files, which holds for it already.
const PARKED_FIRST: RawFd = 128;
/// Written to the status pipe instead of a step's position when exec itself failed.
const STEP_EXEC: u32 = u32::MAX;
const NAMESPACES: libc::c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWPID;

/// A jailed process. Dropping this kills and reaps it, unless it is tied to nobody.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
    is_alone: bool,
}

impl Process {
    /// Its process ID on the host.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Readable once the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Kills it. That it has ended already is no error.
    pub fn kill(&self) {
        // The only failure of a valid descriptor is that the process is gone.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// What `waitid` reports.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.wait_with(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// What `waitid` reports.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.wait_with(WaitIdOptions::EXITED)? {
                return Ok(status);
            }
        }
    }

    fn wait_with(&mut self, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let ended = loop {
                match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                    Err(Errno::INTR) => {}
                    other => break other?,
                }
            };
            self.status = ended.map(|status| match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => ExitStatus::from_raw(code << 8),
                (None, signal) => ExitStatus::from_raw(signal.unwrap_or_default()),
            });
        }
        Ok(self.status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_alone {
            // Whoever started it ends, and it goes on; one that has ended is reaped with its parent.
            return;
        }
        self.kill();
        // Reaping a killed child cannot fail in a way that leaves something to do.
        let _ = self.wait();
    }
}

/// Everything the child needs, allocated before it exists.
struct Prepared {
    path: CString,
    /// The program, when it is handed over open; else -1.
    file: RawFd,
    arguments: Vec<CString>,
    pointers: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// Sources of the descriptors 0, 1, 2, 3, …
    sources: Vec<RawFd>,
    /// Room for their parked copies.
    parked: Vec<RawFd>,
    status: RawFd,
    /// Closes when the supervisor is gone.
    parent_read: RawFd,
    /// The supervisor's end of it, of which the child has a copy that must go first.
    parent_write: RawFd,
}

/// Starts `program` after doing `steps` in new namespaces.
pub(super) fn spawn(steps: &[Step], network: Network, program: Program) -> Result<Process, JailError> {
    let clone_error = |source: io::Error| JailError::Clone { source };
    let null = std::fs::File::open("/dev/null").map_err(clone_error)?;
    let (status_read, status_write) = io::pipe().map_err(clone_error)?;
    let (parent_read, parent_write) = io::pipe().map_err(clone_error)?;
    let mut sources = vec![null.as_raw_fd(), program.stdout.as_raw_fd(), program.stderr.as_raw_fd()];
    sources.extend(program.descriptors.iter().map(AsRawFd::as_raw_fd));
    let mut prepared = prepare(&program, sources)?;
    prepared.status = status_write.as_raw_fd();
    (prepared.parent_read, prepared.parent_write) = (parent_read.as_raw_fd(), parent_write.as_raw_fd());

    let network = match network {
        Network::Empty => libc::CLONE_NEWNET,
        Network::Shared => 0,
    };
    let flags = libc::c_long::from(NAMESPACES | network | libc::SIGCHLD);
    // SAFETY: a clone without CLONE_VM and with a null stack is a fork; the child runs `child`, which makes system
    // calls only on memory prepared before, and never returns. No safe interface forks into new namespaces.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if result == 0 {
        child(steps, &mut prepared);
    }
    let pid = i32::try_from(result).ok().and_then(Pid::from_raw).filter(|_| result > 0);
    let pid = pid.ok_or_else(|| clone_error(io::Error::last_os_error()))?;
    // The child cannot have been reaped by anybody else, so this descriptor is of that very process.
    let pidfd =
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|error| clone_error(error.into()))?;
    // Until it runs, a failure takes it along.
    let mut process = Process { pid, pidfd, status: None, is_alone: false };
    drop(status_write);
    read_report(status_read, steps, &program)?;
    // Open until the child has tied itself to this process: its end is how the child learns that it came too late.
    drop((parent_read, parent_write));
    process.is_alone = steps.contains(&Step::LeaveSession);
    Ok(process)
}

fn prepare(program: &Program, sources: Vec<RawFd>) -> Result<Prepared, JailError> {
    let plan_error = |problem| JailError::Plan { program: program.path.clone(), problem };
    let path = super::c_string(program.path.as_os_str().as_bytes()).map_err(plan_error)?;
    let mut arguments = vec![path.clone()];
    for argument in &program.arguments {
        arguments.push(super::c_string(argument.as_bytes()).map_err(plan_error)?);
    }
    let mut pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let parked = vec![-1; sources.len()];
    Ok(Prepared {
        path,
        file: program.file.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        arguments,
        pointers,
        environment: vec![std::ptr::null()],
        sources,
        parked,
        status: -1,
        parent_read: -1,
        parent_write: -1,
    })
}

/// The pipe closes without a word when exec succeeded.
fn read_report(mut pipe: io::PipeReader, steps: &[Step], program: &Program) -> Result<(), JailError> {
    let mut report = Vec::new();
    pipe.read_to_end(&mut report).map_err(|source| JailError::Clone { source })?;
    if report.is_empty() {
        return Ok(());
    }
    let number =
        |bytes: Option<&[u8]>| bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    let position = number(report.get(..4));
    let errno = number(report.get(4..8)).cast_signed();
    let step = if position == STEP_EXEC { None } else { steps.get(position as usize) };
    Err(JailError::Step {
        step: step.map_or_else(|| "start the program".to_owned(), Step::describe),
        program: program.path.clone(),
        source: io::Error::from_raw_os_error(errno),
    })
}

/// The child, from clone to exec.
fn child(steps: &[Step], prepared: &mut Prepared) -> ! {
    debug_assert_eq!(prepared.pointers.len(), prepared.arguments.len() + 1);
    // SAFETY: close with an integer; it is this process's own copy, and nothing else here uses it.
    unsafe { libc::close(prepared.parent_write) };
    // The modes of the steps are what is meant: the jail's user must get through, whatever the supervisor's umask is.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    for (position, step) in steps.iter().enumerate() {
        if let Err(errno) = perform(step, prepared) {
            fail(prepared.status, u32::try_from(position).unwrap_or_default(), errno);
        }
    }
    let (arguments, environment) = (prepared.pointers.as_ptr(), prepared.environment.as_ptr());
    // SAFETY: path and both arrays are NUL-terminated and live in `prepared`; exec replaces this process or fails.
    unsafe {
        if prepared.file < 0 {
            libc::execve(prepared.path.as_ptr(), arguments, environment);
        } else {
            libc::fexecve(prepared.file, arguments, environment);
        }
    }
    let errno = Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    fail(prepared.status, STEP_EXEC, errno)
}

fn fail(status: RawFd, position: u32, errno: Errno) -> ! {
    let mut report = [0; 8];
    report[..4].copy_from_slice(&position.to_le_bytes());
    report[4..].copy_from_slice(&errno.raw_os_error().to_le_bytes());
    // SAFETY: the buffer is valid for its length, and `_exit` runs nothing of the parent's exit handlers.
    unsafe {
        libc::write(status, report.as_ptr().cast(), report.len());
        libc::_exit(127)
    }
}

fn perform(step: &Step, prepared: &mut Prepared) -> Result<(), Errno> {
    match step {
        Step::DieWithParent => die_with_parent(prepared.parent_read),
        Step::JoinCgroup { procs } => {
            let file = rustix::fs::open(procs.as_c_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&file, b"0").map(drop)
        }
        Step::MakeMountsPrivate => {
            rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        }
        Step::MountRoot { target, options } => {
            let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
            rustix::mount::mount(c"lith", target.as_c_str(), c"tmpfs", flags, options.as_c_str())
        }
        Step::MakeFolder { path } => rustix::fs::mkdir(path.as_c_str(), FOLDER_MODE),
        Step::MakeFile { path } => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::open(path.as_c_str(), flags, Mode::empty()).map(drop)
        }
        Step::MakeLink { content, path } => rustix::fs::symlink(content.as_c_str(), path.as_c_str()),
        Step::MakeNode { path, device, uid } => make_node(path, *device, *uid),
        Step::BindReadOnly { source, target } => {
            rustix::mount::mount_bind(source.as_c_str(), target.as_c_str())?;
            let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
            rustix::mount::mount_remount(target.as_c_str(), flags, c"")
        }
        Step::BindWritable { source, target } => {
            rustix::mount::mount_bind(source.as_c_str(), target.as_c_str())?;
            let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            rustix::mount::mount_remount(target.as_c_str(), flags, c"")
        }
        Step::LeaveSession => rustix::process::setsid().map(drop),
        Step::EnterRoot { root } => enter_root(root),
        Step::SealRoot => {
            let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
            rustix::mount::mount_remount(c"/", flags, c"")
        }
        Step::Limit { resource, value } => {
            rustix::process::setrlimit(*resource, Rlimit { current: Some(*value), maximum: Some(*value) })
        }
        Step::DropBoundingSet => drop_bounding_set(),
        Step::TakeIdentity { uid } => take_identity(*uid),
        Step::NoNewPrivileges => rustix::thread::set_no_new_privs(true),
        Step::Descriptors => arrange(prepared),
    }
}

/// The parent may have died before the death signal was asked for: then its end of the pipe has closed.
fn die_with_parent(parent: RawFd) -> Result<(), Errno> {
    // A session of its own: keys pressed at the terminal of whoever started the supervisor are not for it.
    rustix::process::setsid()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // SAFETY: the pipe's read end is open in this process until exec.
    let parent = unsafe { BorrowedFd::borrow_raw(parent) };
    let mut look = [PollFd::from_borrowed_fd(parent, PollFlags::IN)];
    rustix::event::poll(&mut look, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if look[0].revents().is_empty() { Ok(()) } else { Err(Errno::SRCH) }
}

fn make_node(path: &CString, device: u64, uid: u32) -> Result<(), Errno> {
    rustix::fs::mknodat(CWD, path.as_c_str(), FileType::CharacterDevice, NODE_MODE, device)?;
    // mknod obeys the umask, and root made the node.
    rustix::fs::chmod(path.as_c_str(), NODE_MODE)?;
    let owner = rustix::fs::Uid::from_raw(uid);
    rustix::fs::chown(path.as_c_str(), Some(owner), Some(rustix::fs::Gid::from_raw(uid)))
}

fn enter_root(root: &CString) -> Result<(), Errno> {
    rustix::process::chdir(root.as_c_str())?;
    // With both names the same the old root is stacked on the new one, and is what "." unmounts.
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

fn drop_bounding_set() -> Result<(), Errno> {
    // The kernel knows at most 64; the first unknown one ends the loop.
    for capability in 0..64 {
        // SAFETY: this prctl takes integers only. rustix has it for the capabilities it knows by name alone.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if result != 0 {
            let errno = Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::PERM);
            return if errno == Errno::INVAL && capability > 0 { Ok(()) } else { Err(errno) };
        }
    }
    Ok(())
}

fn take_identity(uid: u32) -> Result<(), Errno> {
    let (user, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(uid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    // Leaving user 0 for all three IDs clears the effective, permitted and ambient capabilities.
    rustix::thread::set_thread_res_uid(user, user, user)
}

/// Puts the sources at 0, 1, 2, … and lets exec close everything else.
fn arrange(prepared: &mut Prepared) -> Result<(), Errno> {
    // First all are moved above every target, so that placing one never overwrites a source of another.
    prepared.status = park(prepared.status)?;
    if prepared.file >= 0 {
        prepared.file = park(prepared.file)?;
    }
    for (source, parked) in prepared.sources.iter().zip(&mut prepared.parked) {
        *parked = park(*source)?;
    }
    let mut target = 0;
    for parked in &prepared.parked {
        // SAFETY: dup2 with integers; what it replaces is not used by this process any more.
        if unsafe { libc::dup2(*parked, target) } < 0 {
            return Err(last_errno());
        }
        target += 1;
    }
    // SAFETY: close_range with integers, and it only marks.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, target, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn park(source: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: fcntl with integers; it fails with EBADF on a descriptor that is not open.
    let parked = unsafe { libc::fcntl(source, libc::F_DUPFD_CLOEXEC, PARKED_FIRST) };
    if parked < 0 { Err(last_errno()) } else { Ok(parked) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
