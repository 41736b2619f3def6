//! The jail of a VMM process: another user, nothing of the host's file system but what is listed, no network, no
//! capabilities, limits on memory and processes, and death with its supervisor.
//! Owns the order of the steps (data, made before the fork) and the error for each. It must not know which VMM runs.
//!
//! ```text
//!  supervisor ── clone(new mount, net, ipc, uts, pid namespaces) ──▶ child
//!      │                                                             steps of `plan`, one system call each
//!      │◀── status pipe: which step failed, or closed by exec ────── execve
//! ```

pub mod cgroup;
mod sys;

use rustix::fs::Mode;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use sys::Process;

/// What the dynamic linker needs, to be shown in the jail of a program that is linked with libraries.
pub const LIBRARIES: [&str; 6] =
    ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"];
/// Open files of a jailed VMM: its disks, sockets and libraries while it starts stay far below.
const OPEN_FILES_MAX: u64 = 256;
/// The private root holds folders, empty mount points and device nodes; nothing is ever written to it.
const ROOT_OPTIONS: &str = "mode=0755,size=256k,nr_inodes=512";

/// What a jailed process may be and see.
#[derive(Debug, Clone)]
pub struct Jail {
    /// With whom it ends.
    pub tie: Tie,
    /// Which network it is in.
    pub network: Network,
    /// Host folders shown inside under another path, in which it may write what its user may.
    pub writable: Vec<(PathBuf, PathBuf)>,
    /// Host folders shown inside under another path, read-only.
    pub folders: Vec<(PathBuf, PathBuf)>,
    /// How many files it may have open.
    pub open_files_max: u64,
    /// How much memory it may map, bytes; as much as it likes when none.
    pub memory_bytes_max: Option<u64>,
    /// User ID, also used as group ID; it has no other groups. Never 0.
    pub uid: u32,
    /// An empty folder on the host, where the private root is mounted, invisibly to the host.
    pub root: PathBuf,
    /// Host paths shown inside under the same path, read-only; what the host does not have is left out.
    pub read_only: Vec<PathBuf>,
    /// Host files, which must be there, and the path where each is shown inside, read-only. The host's own path, which
    /// may tell more than the VMM should know, stays outside.
    pub files: Vec<(PathBuf, &'static str)>,
    /// Device nodes copied into the private `/dev`, usable by `uid`.
    pub devices: Vec<PathBuf>,
    /// The `cgroup.procs` files of the control groups to join.
    pub cgroups: Vec<PathBuf>,
    /// Largest file that can be written, in bytes: the largest disk, so that a VMM that was taken over cannot grow a
    /// disk file and fill the host.
    pub file_bytes_max: u64,
}

/// With whom a jailed process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// With the thread that started it.
    WithThread,
    /// With nobody: it is to be found again, and told to end.
    Alone,
}

/// Which network a jailed process is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// One of its own, in which there is nothing: what it has of another is handed over open.
    Empty,
    /// The one of whoever starts it, as far as a user without rights may use that.
    Shared,
}

impl Default for Jail {
    /// Nothing is shown, and the user is nobody that may be used.
    fn default() -> Self {
        Self {
            tie: Tie::WithThread,
            network: Network::Empty,
            writable: Vec::new(),
            folders: Vec::new(),
            open_files_max: OPEN_FILES_MAX,
            memory_bytes_max: None,
            uid: 0,
            root: PathBuf::new(),
            read_only: Vec::new(),
            files: Vec::new(),
            devices: Vec::new(),
            cgroups: Vec::new(),
            file_bytes_max: 0,
        }
    }
}

/// What runs in a jail.
#[derive(Debug)]
pub struct Program {
    /// Absolute path, also inside the jail unless it is handed over open.
    pub path: PathBuf,
    /// The program itself, open: then nothing of it is shown in the jail, and that its file was replaced does not matter.
    pub file: Option<OwnedFd>,
    /// Arguments after the program's name.
    pub arguments: Vec<String>,
    /// Standard output.
    pub stdout: OwnedFd,
    /// Standard error.
    pub stderr: OwnedFd,
    /// Descriptors the process inherits, as 3, 4, 5, …
    pub descriptors: Vec<OwnedFd>,
}

/// Why a jailed process did not start.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// The jail asks for user 0 or an unusable path.
    #[error("cannot plan the jail of {}: {problem}", program.display())]
    Plan {
        /// The program.
        program: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A new process could not be made.
    #[error("cannot start a process in new namespaces")]
    Clone {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A step inside the new process failed.
    #[error("cannot {step} for {}", program.display())]
    Step {
        /// What the step does.
        step: String,
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The control group could not be made or limited.
    #[error("cannot {operation} control group {}", path.display())]
    Cgroup {
        /// What was tried.
        operation: &'static str,
        /// The control group's folder or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl JailError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            JailError::Plan { .. } => None,
            JailError::Clone { source } | JailError::Step { source, .. } => (source.kind()
                == io::ErrorKind::PermissionDenied)
                .then(|| "run lith as root, on the host or in a container with all capabilities".to_owned()),
            JailError::Cgroup { .. } => {
                Some("mount /sys/fs/cgroup writable, with the memory and pids controllers".to_owned())
            }
        }
    }
}

/// One system call of the child, with everything it needs allocated beforehand: between fork and exec of a process that
/// may have threads, nothing may allocate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Die when the supervisor does, and stop here if it has died already.
    DieWithParent,
    /// Write `0` (this process) into a `cgroup.procs` file.
    JoinCgroup { procs: CString },
    /// Keep what is mounted from now on out of the host's view.
    MakeMountsPrivate,
    /// Mount the private root.
    MountRoot { target: CString, options: CString },
    /// Make a folder in it.
    MakeFolder { path: CString },
    /// Make an empty file, to mount on.
    MakeFile { path: CString },
    /// Make a symbolic link.
    MakeLink { content: CString, path: CString },
    /// Copy a device node, for the jail's user alone.
    MakeNode { path: CString, device: u64, uid: u32 },
    /// Show a host path, then take the right to write away.
    BindReadOnly { source: CString, target: CString },
    /// Show a host folder, in which may be written but from which nothing is run.
    BindWritable { source: CString, target: CString },
    /// Leave the terminal and its session.
    LeaveSession,
    /// Make the private root the root, and drop the host's.
    EnterRoot { root: CString },
    /// Make the private root read-only.
    SealRoot,
    /// Set a resource limit, soft and hard.
    Limit { resource: rustix::process::Resource, value: u64 },
    /// Drop every capability from the bounding set.
    DropBoundingSet,
    /// Take the user and group ID, no other groups; drops all capabilities.
    TakeIdentity { uid: u32 },
    /// No later exec can give rights.
    NoNewPrivileges,
    /// Arrange the inherited descriptors.
    Descriptors,
}

impl Step {
    /// The step in words, for "cannot …".
    pub(crate) fn describe(&self) -> String {
        let text = |path: &CString| path.to_string_lossy().into_owned();
        match self {
            Step::DieWithParent => "tie a process to its supervisor".to_owned(),
            Step::JoinCgroup { procs } => format!("join control group {}", text(procs)),
            Step::MakeMountsPrivate => "make mounts private".to_owned(),
            Step::MountRoot { target, .. } => format!("mount the jail's root on {}", text(target)),
            Step::MakeFolder { path } | Step::MakeFile { path } | Step::MakeLink { path, .. } => {
                format!("make {} in the jail", text(path))
            }
            Step::MakeNode { path, .. } => format!("make device {} in the jail", text(path)),
            Step::BindReadOnly { source, .. } | Step::BindWritable { source, .. } => {
                format!("show {} in the jail", text(source))
            }
            Step::LeaveSession => "leave the session".to_owned(),
            Step::EnterRoot { root } => format!("enter the jail's root {}", text(root)),
            Step::SealRoot => "make the jail's root read-only".to_owned(),
            Step::Limit { .. } => "set resource limits".to_owned(),
            Step::DropBoundingSet => "drop capabilities".to_owned(),
            Step::TakeIdentity { uid } => format!("become user {uid}"),
            Step::NoNewPrivileges => "renounce new privileges".to_owned(),
            Step::Descriptors => "arrange descriptors".to_owned(),
        }
    }
}

/// Starts `program` in `jail`. It is killed when the calling thread ends: call this from one that lives as long as the
/// supervisor.
///
/// # Errors
/// The first step that failed; nothing of the process is left then.
pub fn spawn(jail: &Jail, program: Program) -> Result<Process, JailError> {
    let steps = plan(jail).map_err(|problem| JailError::Plan { program: program.path.clone(), problem })?;
    sys::spawn(&steps, jail.network, program)
}

/// The steps in their order: everything that needs a capability comes before the identity is taken.
fn plan(jail: &Jail) -> Result<Vec<Step>, String> {
    use rustix::process::Resource;
    if jail.uid == 0 {
        return Err("its user must not be root".to_owned());
    }
    let mut steps = Vec::new();
    for procs in &jail.cgroups {
        steps.push(Step::JoinCgroup { procs: c_path(procs)? });
    }
    steps.push(Step::MakeMountsPrivate);
    steps.push(Step::MountRoot { target: c_path(&jail.root)?, options: c_string(ROOT_OPTIONS.as_bytes())? });
    let mut tree = Tree { root: &jail.root, steps, made: Vec::new() };
    for path in &jail.read_only {
        tree.show(path)?;
    }
    for (path, inside) in &jail.files {
        tree.file(path, Path::new(inside))?;
    }
    for device in &jail.devices {
        tree.node(device, jail.uid)?;
    }
    for (path, inside) in &jail.writable {
        tree.folder(path, inside, |source, target| Step::BindWritable { source, target })?;
    }
    for (path, inside) in &jail.folders {
        tree.folder(path, inside, |source, target| Step::BindReadOnly { source, target })?;
    }
    let mut steps = tree.steps;
    steps.push(Step::EnterRoot { root: c_path(&jail.root)? });
    steps.push(Step::SealRoot);
    for (resource, value) in [
        (Resource::Core, 0),
        (Resource::Memlock, 0),
        (Resource::Nofile, jail.open_files_max),
        (Resource::Fsize, jail.file_bytes_max),
    ] {
        steps.push(Step::Limit { resource, value });
    }
    if let Some(value) = jail.memory_bytes_max {
        steps.push(Step::Limit { resource: Resource::As, value });
    }
    steps.push(Step::DropBoundingSet);
    steps.push(Step::TakeIdentity { uid: jail.uid });
    steps.push(Step::NoNewPrivileges);
    // After the identity, since a change of it clears the death signal.
    steps.push(match jail.tie {
        Tie::WithThread => Step::DieWithParent,
        Tie::Alone => Step::LeaveSession,
    });
    steps.push(Step::Descriptors);
    Ok(steps)
}

/// The steps that furnish the private root.
struct Tree<'a> {
    root: &'a Path,
    steps: Vec<Step>,
    made: Vec<PathBuf>,
}

impl Tree<'_> {
    /// Shows a host path at the same place; a symbolic link becomes the same link, so that `/lib` of a merged system
    /// leads where it does on the host. What the host does not have is left out.
    fn show(&mut self, path: &Path) -> Result<(), String> {
        let Ok(metadata) = std::fs::symlink_metadata(path) else {
            return Ok(());
        };
        let target = c_path(&self.inside(path)?)?;
        self.folders_above(path)?;
        if metadata.is_symlink() {
            let content = std::fs::read_link(path).map_err(|error| format!("{}: {error}", path.display()))?;
            self.steps.push(Step::MakeLink { content: c_path(&content)?, path: target });
            return Ok(());
        }
        self.steps.push(if metadata.is_dir() {
            Step::MakeFolder { path: target.clone() }
        } else {
            Step::MakeFile { path: target.clone() }
        });
        self.made.push(path.to_owned());
        self.steps.push(Step::BindReadOnly { source: c_path(path)?, target });
        Ok(())
    }

    fn file(&mut self, path: &Path, inside: &Path) -> Result<(), String> {
        let target = c_path(&self.inside(inside)?)?;
        self.folders_above(inside)?;
        self.steps.push(Step::MakeFile { path: target.clone() });
        self.steps.push(Step::BindReadOnly { source: c_path(path)?, target });
        Ok(())
    }

    fn folder(
        &mut self,
        path: &Path,
        inside: &Path,
        bind: impl Fn(CString, CString) -> Step,
    ) -> Result<(), String> {
        let target = c_path(&self.inside(inside)?)?;
        self.folders_above(inside)?;
        self.steps.push(Step::MakeFolder { path: target.clone() });
        self.made.push(inside.to_owned());
        self.steps.push(bind(c_path(path)?, target));
        Ok(())
    }

    fn node(&mut self, path: &Path, uid: u32) -> Result<(), String> {
        let stat = rustix::fs::stat(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_char_device() {
            return Err(format!("{} is no character device", path.display()));
        }
        self.folders_above(path)?;
        let inside = c_path(&self.inside(path)?)?;
        self.steps.push(Step::MakeNode { path: inside, device: stat.st_rdev, uid });
        Ok(())
    }

    fn folders_above(&mut self, path: &Path) -> Result<(), String> {
        let mut above: Vec<_> = path.ancestors().skip(1).filter(|folder| *folder != Path::new("/")).collect();
        above.reverse();
        for folder in above {
            if !self.made.iter().any(|made| made == folder) {
                self.steps.push(Step::MakeFolder { path: c_path(&self.inside(folder)?)? });
                self.made.push(folder.to_owned());
            }
        }
        Ok(())
    }

    fn inside(&self, path: &Path) -> Result<PathBuf, String> {
        let relative = path.strip_prefix("/").map_err(|_| format!("{} is not absolute", path.display()))?;
        Ok(self.root.join(relative))
    }
}

fn c_path(path: &Path) -> Result<CString, String> {
    c_string(path.as_os_str().as_bytes())
}

fn c_string(bytes: &[u8]) -> Result<CString, String> {
    CString::new(bytes).map_err(|_| format!("{:?} contains a NUL byte", OsStr::from_bytes(bytes)))
}

/// Folders of the private root: visible to everybody inside, writable by nobody once sealed.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
/// A device belongs to the jail's user.
const NODE_MODE: Mode = Mode::from_raw_mode(0o600);

#[cfg(test)]
mod tests {
    use super::*;

    fn jail() -> Jail {
        Jail {
            uid: 2_000_000_001,
            root: PathBuf::from("/run/lith/jail"),
            devices: vec![PathBuf::from("/dev/null")],
            file_bytes_max: 1 << 20,
            ..Jail::default()
        }
    }

    #[test]
    fn rights_go_before_the_identity_and_the_tie_to_the_parent_after_it() {
        let steps = plan(&jail()).unwrap();
        let position = |wanted: fn(&Step) -> bool| steps.iter().position(wanted).unwrap();
        let identity = position(|step| matches!(step, Step::TakeIdentity { .. }));
        assert!(position(|step| matches!(step, Step::DropBoundingSet)) < identity);
        assert!(position(|step| matches!(step, Step::SealRoot)) < identity);
        assert!(position(|step| matches!(step, Step::DieWithParent)) > identity);
        assert!(position(|step| matches!(step, Step::NoNewPrivileges)) > identity);
    }

    #[test]
    fn one_that_is_alone_outlives_who_started_it() {
        let writable = vec![(PathBuf::from("/srv/a"), PathBuf::from("/volumes/0"))];
        let steps = plan(&Jail { tie: Tie::Alone, writable, ..jail() }).unwrap();
        assert!(!steps.contains(&Step::DieWithParent));
        let shown = steps.iter().position(|step| matches!(step, Step::BindWritable { .. })).unwrap();
        assert!(shown < steps.iter().position(|step| *step == Step::SealRoot).unwrap());
    }

    #[test]
    fn root_and_relative_paths_are_refused() {
        assert!(plan(&Jail { uid: 0, ..jail() }).is_err());
        assert!(plan(&Jail { devices: vec![PathBuf::from("/etc/passwd")], ..jail() }).is_err());
    }

    #[test]
    fn shared_folders_are_made_once_and_links_stay_links() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        let read_only = ["real", "link", "absent"].map(|name| folder.path().join(name)).to_vec();
        let steps = plan(&Jail { read_only, ..jail() }).unwrap();
        let count = |wanted: fn(&Step) -> bool| steps.iter().filter(|step| wanted(step)).count();
        assert_eq!(count(|step| matches!(step, Step::BindReadOnly { .. })), 1);
        assert_eq!(count(|step| matches!(step, Step::MakeLink { .. })), 1);
        let folders: Vec<_> = steps.iter().filter(|step| matches!(step, Step::MakeFolder { .. })).collect();
        let mut unique = folders.clone();
        unique.dedup();
        assert_eq!(folders, unique);
    }
}
