//! The main process: from the boot message to a running process with its output on the way to the host.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use lith_guest::messages::{BootConfig, BootStep};
use lith_guest::process::{self, ProcessSpec};
use rustix::fs::{Gid, Uid, fchown};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit};

use crate::children::Children;
use crate::failure::{During, Failure, reason};
use crate::mounts::{self, Trees};
use crate::spawn::{Resolved, Wanted, explain, launch, limits, resolve};
use crate::sys::{self, Place};
use crate::view::{Namespaces, inside_root};
use crate::volumes::Volume;
use crate::{clock, files, network, root, settings};

/// What commands beside the main process share with it.
pub(crate) struct Task {
    /// The process.
    pub(crate) spec: ProcessSpec,
    /// Limits of every process.
    pub(crate) limits: Vec<(Resource, Rlimit)>,
    /// Further groups of every process.
    pub(crate) groups: Vec<String>,
    /// The folder of the task's terminals: the task may rearrange its `/dev`, this stays.
    pub(crate) terminals: OwnedFd,
}

/// The running main process.
pub(crate) struct Started {
    /// Its process ID.
    pub(crate) pid: i32,
    /// Its namespaces; none when it has ended already.
    pub(crate) namespaces: Option<Arc<Namespaces>>,
    /// Its standard output and error.
    pub(crate) outputs: [OwnedFd; 2],
}

/// Brings the machine into the state that the process expects. The volumes are there, with nobody who looks after them.
pub(crate) fn prepare(config: &BootConfig) -> Result<(Task, Resolved, Vec<Volume>), Failure> {
    // First of all, so that nothing of the boot uses a wrong time or a poor random number.
    clock::set(config.time)?;
    clock::seed(&config.seed)?;
    let spec = process::merge(&config.image, &config.overrides, &config.hostname)
        .map_err(|error| Failure::new(BootStep::Process, with_source(&error)))?;
    root::assemble(config)?;
    root::make_cgroup()?;
    rustix::system::sethostname(config.hostname.as_bytes()).during(BootStep::Network, "set the host name")?;
    network::configure(config.network.as_ref())?;
    root::apply_settings()?;
    settings::apply_sysctls(&config.settings.sysctls)?;
    settings::load_devices(&config.settings.devices)?;
    let limits = settings::limits(limits(), &config.settings.limits)?;
    let trees = mounts::prepare(&config.settings, Path::new(root::IMAGE))?;
    let resolved = inside_root(Path::new(root::ROOT), || furnish(config, &spec, &trees));
    let resolved = resolved.during(BootStep::Root, "enter the task's root")??;
    if config.settings.is_read_only {
        root::make_read_only()?;
    }
    let terminals = File::open(Path::new(root::ROOT).join("dev/pts"));
    let terminals = terminals.during(BootStep::Mounts, "open /dev/pts")?.into();
    let task = Task { spec, limits, groups: config.settings.groups.clone(), terminals };
    Ok((task, resolved, trees.volumes))
}

/// Puts everything in place that the process finds, in the task's root, and finds the process itself.
fn furnish(config: &BootConfig, spec: &ProcessSpec, trees: &Trees) -> Result<Resolved, Failure> {
    let settings = &config.settings;
    root::mount_kernel_file_systems(settings.shm_bytes)?;
    mounts::attach_volumes(settings, trees)?;
    files::write(config)?;
    if let Some(zone) = &settings.timezone {
        settings::set_timezone(zone)?;
    }
    make_folders(spec)?;
    mounts::attach_files(settings, trees)?;
    if settings.is_read_only {
        // What the image declares as volumes is writable in a container too.
        let files = settings.files.iter().filter(|file| file.is_writable).map(|file| &file.target);
        mounts::keep_writable(spec.volumes.iter().chain(files).map(String::as_str))?;
    }
    resolve(Wanted {
        argv: &spec.argv,
        env: spec.env.clone(),
        user: &spec.user,
        groups: &settings.groups,
        working_dir: &spec.working_dir,
    })
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn make_folders(spec: &ProcessSpec) -> Result<(), Failure> {
    for path in spec.volumes.iter().chain([&spec.working_dir]) {
        fs::create_dir_all(path).during(BootStep::WorkingDir, format_args!("make the folder {path:?}"))?;
    }
    Ok(())
}

/// Starts the main process, as PID 1 of its own namespace.
pub(crate) fn start(children: &Children, task: &Task, resolved: &Resolved) -> Result<Started, Failure> {
    let root = std::ffi::CString::new(root::ROOT).expect("a constant without a zero byte");
    let launch = launch(resolved, task.limits.clone(), Place::New(root), false)?;
    let input = File::open("/dev/null").during(BootStep::Start, "open /dev/null")?.into();
    let pipe = || owned_pipe(resolved).during(BootStep::Start, "make a pipe");
    let ((out_read, out_write), (err_read, err_write)) = (pipe()?, pipe()?);
    let spawn = || {
        sys::unshare_pids()?;
        children.start(|| sys::spawn(launch, [input, out_write, err_write]))
    };
    // On a thread of its own: every later child of this one would be in the namespace too.
    let pid = std::thread::scope(|scope| scope.spawn(spawn).join())
        .unwrap_or_else(|_| Err(io::Error::other("thread panicked")))
        .map_err(|error| explain(resolved, &error))?;
    let namespaces = match Namespaces::of(pid) {
        Ok(namespaces) => Some(Arc::new(namespaces)),
        Err(error) => {
            crate::boot::complain(&format!("the main process is gone at once: {}", reason(&error)));
            None
        }
    };
    Ok(Started { pid, namespaces, outputs: [out_read, err_read] })
}

/// A pipe that the process's user may open again through `/dev/stdout`.
pub(crate) fn owned_pipe(resolved: &Resolved) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let identity = &resolved.identity;
    fchown(&write, Some(Uid::from_raw(identity.uid)), Some(Gid::from_raw(identity.gid)))?;
    Ok((read, write))
}
