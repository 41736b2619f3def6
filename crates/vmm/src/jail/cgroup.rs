//! The control group of a jailed process: limits of memory, processor time and processes, version 2 first, version 1 where that is
//! what the host has. Owns the folder `lith/<name>` below each hierarchy. It must not touch other groups, but for
//! enabling controllers on the way down.

use super::JailError;
use rustix::process::{Pid, Signal};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Where the hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Parent of all groups of lith.
const PARENT: &str = "lith";
/// How often a group is tried to be made: the last task of another lith may end in between, and take the folder that
/// holds all groups with it. That this happens again and again is no accident any more.
const ATTEMPTS_MAX: u32 = 5;
/// Controllers that are needed.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// The controller without which there is no ceiling on processor time, and everything else works.
const CPU: &str = "cpu";
/// The time over which processor time is counted, microseconds: what the kernel and container engines use.
const CPU_PERIOD_US: u64 = 100_000;
/// The kernel takes no smaller share of it.
const CPU_QUOTA_US_MIN: u64 = 1000;
/// The weight of a group that says nothing, with version 2 and with version 1.
const WEIGHT_USUAL: u64 = 100;
const SHARES_USUAL: u64 = 1024;

/// The limits of one process with its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory.
    pub memory_bytes_max: u64,
    /// Processor time.
    pub cpu: Cpu,
    /// Processes and threads.
    pub processes_max: u32,
}

/// How much processor time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// Never more than this, thousandths of a processor.
    MillisMax(u32),
    /// As much as is free, and where others want it, too, a share by this weight: 100 is the usual one.
    Weight(u32),
}

/// The control group of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Its folder in each hierarchy: one with version 2, one per controller with version 1, that for memory first.
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes the group `name` with its ceilings, or takes over the one that an earlier supervisor left. Where the kernel
    /// has no controller for processor time, that ceiling is left out: `lith doctor` says so.
    ///
    /// # Errors
    /// [`JailError::Cgroup`] when no hierarchy has the other controllers, or the kernel refuses.
    pub fn create(name: &str, limits: Limits) -> Result<Cgroup, JailError> {
        let create = || Cgroup::create_below(Path::new(ROOT), name, limits);
        let mut result = create();
        for _ in 1..ATTEMPTS_MAX {
            if !result.as_ref().is_err_and(is_vanished) {
                break;
            }
            result = create();
        }
        result
    }

    fn create_below(root: &Path, name: &str, limits: Limits) -> Result<Cgroup, JailError> {
        let memory = limits.memory_bytes_max.to_string();
        let processes = limits.processes_max.to_string();
        let has_cpu = has(root, CPU);
        if is_unified(root) {
            let parent = root.join(PARENT);
            enable_controllers(root)?;
            make(&parent)?;
            enable_controllers(&parent)?;
            let folder = parent.join(name);
            make(&folder)?;
            write(&folder.join("memory.max"), &memory)?;
            // Swapping a guest's memory out would only hide that it is over its ceiling.
            write_if_present(&folder.join("memory.swap.max"), "0")?;
            write(&folder.join("pids.max"), &processes)?;
            if has_cpu {
                match limits.cpu {
                    Cpu::MillisMax(millis) => {
                        write(&folder.join("cpu.max"), &format!("{} {CPU_PERIOD_US}", quota_us(millis)))?;
                    }
                    Cpu::Weight(weight) => write(&folder.join("cpu.weight"), &weight.to_string())?,
                }
            }
            return Ok(Cgroup { folders: vec![folder] });
        }
        let folder = |controller: &str| root.join(controller).join(PARENT).join(name);
        let [memory_folder, pids_folder] = CONTROLLERS.map(folder);
        for folder in [&memory_folder, &pids_folder] {
            make(folder)?;
        }
        write(&memory_folder.join("memory.limit_in_bytes"), &memory)?;
        write(&pids_folder.join("pids.max"), &processes)?;
        let mut folders = vec![memory_folder, pids_folder];
        if has_cpu {
            let folder = folder(CPU);
            make(&folder)?;
            match limits.cpu {
                Cpu::MillisMax(millis) => {
                    write(&folder.join("cpu.cfs_period_us"), &CPU_PERIOD_US.to_string())?;
                    write_quota(&folder.join("cpu.cfs_quota_us"), quota_us(millis))?;
                }
                Cpu::Weight(weight) => {
                    let shares = u64::from(weight) * SHARES_USUAL / WEIGHT_USUAL;
                    write(&folder.join("cpu.shares"), &shares.to_string())?;
                }
            }
            folders.push(folder);
        }
        Ok(Cgroup { folders })
    }

    /// The files through which a process joins.
    pub fn procs(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// Whether the kernel has killed a process of this group for want of memory.
    pub fn was_out_of_memory(&self) -> bool {
        ["memory.events", "memory.oom_control"].iter().any(|file| {
            let text =
                self.folders.first().and_then(|folder| std::fs::read_to_string(folder.join(file)).ok());
            let count =
                text.iter().flat_map(|text| text.lines()).find_map(|line| line.strip_prefix("oom_kill "));
            count.is_some_and(|count| count.trim() != "0")
        })
    }

    /// Removes the group. Its processes must have ended; that it is gone already is no error.
    ///
    /// # Errors
    /// [`JailError::Cgroup`] when a process is still in it.
    pub fn remove(&self) -> Result<(), JailError> {
        for folder in &self.folders {
            match std::fs::remove_dir(folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("remove", folder)(error)),
            }
        }
        Ok(())
    }
}

/// Ends every process of the group `name`, such as a VMM whose supervisor was killed and which is on its way out. Whether
/// there was any.
pub fn end_members(name: &str) -> bool {
    let procs = candidates(name).into_iter().map(|folder| folder.join("cgroup.procs"));
    // A group that is not there has no members.
    let texts: Vec<String> = procs.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let members: Vec<Pid> = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| Pid::from_raw(line.parse().ok()?))
        .collect();
    for member in &members {
        // The only failure is that it has ended meanwhile.
        let _ = rustix::process::kill_process(*member, Signal::KILL);
    }
    !members.is_empty()
}

/// Where the group may be, with version 2 and with version 1.
fn candidates(name: &str) -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut folders = vec![root.join(PARENT).join(name)];
    folders.extend(old_parents().map(|parent| parent.join(name)));
    folders
}

/// The folders that hold all tasks' groups with version 1.
fn old_parents() -> impl Iterator<Item = PathBuf> {
    CONTROLLERS.into_iter().chain([CPU]).map(|controller| Path::new(ROOT).join(controller).join(PARENT))
}

/// What this kernel lacks: controllers without which no task runs, and whether it has one for processor time.
#[must_use]
pub fn examine() -> Controllers {
    let root = Path::new(ROOT);
    Controllers {
        is_unified: is_unified(root),
        missing: CONTROLLERS.into_iter().filter(|controller| !has(root, controller)).collect(),
        has_cpu: has(root, CPU),
    }
}

/// The kernel's controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controllers {
    /// Version 2 rather than version 1.
    pub is_unified: bool,
    /// Those that are needed and not there.
    pub missing: Vec<&'static str>,
    /// Whether processor time can be limited.
    pub has_cpu: bool,
}

fn is_unified(root: &Path) -> bool {
    root.join("cgroup.controllers").exists()
}

fn has(root: &Path, controller: &str) -> bool {
    if is_unified(root) {
        let text = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        return text.split_whitespace().any(|other| other == controller);
    }
    root.join(controller).is_dir()
}

/// Removes what a supervisor that was killed left of the group `name`.
///
/// # Errors
/// [`JailError::Cgroup`] when a process is still in it.
pub fn remove(name: &str) -> Result<(), JailError> {
    Cgroup { folders: candidates(name) }.remove()
}

/// The names of the groups that are there.
#[must_use]
pub fn names() -> BTreeSet<String> {
    let parents = old_parents().chain([Path::new(ROOT).join(PARENT)]);
    let entries = parents.flat_map(|parent| std::fs::read_dir(parent).into_iter().flatten().flatten());
    let is_group = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_group).filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Removes the folders that hold all tasks' groups, if no group is left in them.
pub fn remove_parents() {
    for folder in old_parents().chain([Path::new(ROOT).join(PARENT)]) {
        // Not there, or not empty: then another lith on this machine uses it.
        let _ = std::fs::remove_dir(folder);
    }
}

/// The part of a period.
fn quota_us(millis: u32) -> u64 {
    (u64::from(millis) * CPU_PERIOD_US / 1000).max(CPU_QUOTA_US_MIN)
}

fn enable_controllers(folder: &Path) -> Result<(), JailError> {
    let path = folder.join("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&path).map_err(failed("read", &path))?;
    let optional = has(folder, CPU).then_some(CPU);
    for controller in CONTROLLERS.into_iter().chain(optional) {
        if !enabled.split_whitespace().any(|other| other == controller) {
            write(&path, &format!("+{controller}"))?;
        }
    }
    Ok(())
}

fn make(folder: &Path) -> Result<(), JailError> {
    std::fs::create_dir_all(folder).map_err(failed("make", folder))
}

fn write(path: &Path, value: &str) -> Result<(), JailError> {
    std::fs::write(path, value).map_err(failed("limit", path))
}

/// A group further up, such as of a container, may have a lower ceiling, which holds then; the kernel refuses a higher one
/// below it.
fn write_quota(path: &Path, quota_us: u64) -> Result<(), JailError> {
    match std::fs::write(path, quota_us.to_string()) {
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(failed("limit", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Swap accounting may be off.
fn write_if_present(path: &Path, value: &str) -> Result<(), JailError> {
    if path.exists() { write(path, value) } else { Ok(()) }
}

/// Whether a folder was removed while it was used.
fn is_vanished(error: &JailError) -> bool {
    let JailError::Cgroup { source, .. } = error else { return false };
    source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ENODEV)
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JailError {
    let path = path.to_owned();
    move |source| JailError::Cgroup { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { memory_bytes_max: 1 << 20, cpu: Cpu::MillisMax(1500), processes_max: 256 };
    const WEIGHED: Limits = Limits { cpu: Cpu::Weight(50), ..LIMITS };

    #[test]
    fn the_unified_hierarchy_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["", "lith", "lith/web"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
            for file in ["cgroup.subtree_control", "cgroup.controllers"] {
                std::fs::write(root.path().join(folder).join(file), "cpu memory pids").unwrap();
            }
        }
        let group = Cgroup::create_below(root.path(), "web", LIMITS).unwrap();
        let read = |file: &str| std::fs::read_to_string(root.path().join("lith/web").join(file)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("pids.max"), "256");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(group.procs(), [root.path().join("lith/web/cgroup.procs")]);
        Cgroup::create_below(root.path(), "web", WEIGHED).unwrap();
        assert_eq!(read("cpu.weight"), "50");
    }

    #[test]
    fn the_old_hierarchies_have_a_folder_per_controller() {
        let root = tempfile::tempdir().unwrap();
        // A kernel without the controller for processor time.
        let group = Cgroup::create_below(root.path(), "web", LIMITS).unwrap();
        assert_eq!(group.procs().len(), 2);
        std::fs::create_dir(root.path().join("cpu")).unwrap();
        let group = Cgroup::create_below(root.path(), "web", LIMITS).unwrap();
        assert_eq!(group.procs().len(), 3);
        let quota = root.path().join("cpu/lith/web/cpu.cfs_quota_us");
        assert_eq!(std::fs::read_to_string(quota).unwrap(), "150000");
        let limit = root.path().join("memory/lith/web/memory.limit_in_bytes");
        assert_eq!(std::fs::read_to_string(limit).unwrap(), "1048576");
        Cgroup::create_below(root.path(), "web", WEIGHED).unwrap();
        assert_eq!(std::fs::read_to_string(root.path().join("cpu/lith/web/cpu.shares")).unwrap(), "512");
        assert!(!group.was_out_of_memory());
        std::fs::write(root.path().join("memory/lith/web/memory.oom_control"), "under_oom 0\noom_kill 1\n")
            .unwrap();
        assert!(group.was_out_of_memory());
    }
}
