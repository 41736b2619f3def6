//! The control group of a task's VMM: a ceiling on memory and on processes, version 2 first, version 1 where that is
//! what the host has. Owns the folder `lith/<name>` below each hierarchy. It must not touch other groups, but for
//! enabling controllers on the way down.

use super::JailError;
use rustix::process::{Pid, Signal};
use std::io;
use std::path::{Path, PathBuf};

/// Where the hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Parent of all groups of lith.
const PARENT: &str = "lith";
/// Threads of one VMM: vcpus, I/O workers (at most 64 in QEMU's pool) and a margin. It ends a fork bomb, nothing else.
const PROCESSES_MAX: u32 = 256;
/// Controllers that are needed.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// The control group of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Its folder in each hierarchy: one with version 2, one per controller with version 1.
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes the group `name` with a memory ceiling, or takes over the one that an earlier supervisor left.
    ///
    /// # Errors
    /// [`JailError::Cgroup`] when no hierarchy has the controllers, or the kernel refuses.
    pub fn create(name: &str, memory_bytes_max: u64) -> Result<Cgroup, JailError> {
        Cgroup::create_below(Path::new(ROOT), name, memory_bytes_max)
    }

    fn create_below(root: &Path, name: &str, memory_bytes_max: u64) -> Result<Cgroup, JailError> {
        let memory = memory_bytes_max.to_string();
        let processes = PROCESSES_MAX.to_string();
        if root.join("cgroup.controllers").exists() {
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
            return Ok(Cgroup { folders: vec![folder] });
        }
        let folders = CONTROLLERS.map(|controller| root.join(controller).join(PARENT).join(name));
        for folder in &folders {
            make(folder)?;
        }
        let [memory_folder, pids_folder] = &folders;
        write(&memory_folder.join("memory.limit_in_bytes"), &memory)?;
        write(&pids_folder.join("pids.max"), &processes)?;
        Ok(Cgroup { folders: folders.to_vec() })
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
    folders.extend(CONTROLLERS.map(|controller| root.join(controller).join(PARENT).join(name)));
    folders
}

/// Removes what a supervisor that was killed left of the group `name`.
///
/// # Errors
/// [`JailError::Cgroup`] when a process is still in it.
pub fn remove(name: &str) -> Result<(), JailError> {
    Cgroup { folders: candidates(name) }.remove()
}

/// Removes the folders that hold all tasks' groups, if no group is left in them.
pub fn remove_parents() {
    let root = Path::new(ROOT);
    let parents = CONTROLLERS.map(|controller| root.join(controller).join(PARENT));
    for folder in parents.into_iter().chain([root.join(PARENT)]) {
        // Not there, or not empty: then another lith on this machine uses it.
        let _ = std::fs::remove_dir(folder);
    }
}

fn enable_controllers(folder: &Path) -> Result<(), JailError> {
    let path = folder.join("cgroup.subtree_control");
    let enabled = std::fs::read_to_string(&path).map_err(failed("read", &path))?;
    for controller in CONTROLLERS {
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

/// Swap accounting may be off.
fn write_if_present(path: &Path, value: &str) -> Result<(), JailError> {
    if path.exists() { write(path, value) } else { Ok(()) }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JailError {
    let path = path.to_owned();
    move |source| JailError::Cgroup { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["", "lith", "lith/web"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
            std::fs::write(root.path().join(folder).join("cgroup.subtree_control"), "cpu memory pids")
                .unwrap();
        }
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory pids").unwrap();
        let group = Cgroup::create_below(root.path(), "web", 1 << 20).unwrap();
        let read = |file: &str| std::fs::read_to_string(root.path().join("lith/web").join(file)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("pids.max"), "256");
        assert_eq!(group.procs(), [root.path().join("lith/web/cgroup.procs")]);
    }

    #[test]
    fn the_old_hierarchies_have_a_folder_per_controller() {
        let root = tempfile::tempdir().unwrap();
        let group = Cgroup::create_below(root.path(), "web", 1 << 20).unwrap();
        let limit = root.path().join("memory/lith/web/memory.limit_in_bytes");
        assert_eq!(std::fs::read_to_string(limit).unwrap(), "1048576");
        assert_eq!(group.procs().len(), 2);
        assert!(!group.was_out_of_memory());
        std::fs::write(root.path().join("memory/lith/web/memory.oom_control"), "under_oom 0\noom_kill 1\n")
            .unwrap();
        assert!(group.was_out_of_memory());
    }

    #[test]
    fn this_kernel_takes_the_limits() {
        let name = format!("test-{}", std::process::id());
        let group = Cgroup::create(&name, 64 << 20).unwrap();
        assert!(group.procs().iter().all(|path| path.exists()));
        group.remove().unwrap();
        remove(&name).unwrap();
        assert!(group.procs().iter().all(|path| !path.exists()));
    }
}
