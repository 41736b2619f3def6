//! The control group of a task's VMM: a ceiling on memory and on processes, version 2 first, version 1 where that is
//! what the host has. Owns the folder `lith/<name>` below each hierarchy. It must not touch other groups, but for
//! enabling controllers on the way down.

use super::JailError;
use std::io;
use std::path::{Path, PathBuf};

/// Where the hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// Parent of all groups of lith.
const PARENT: &str = "lith";
/// Threads of one VMM: vcpus, I/O workers (at most 64 in QEMU's pool) and a margin. It ends a fork bomb, nothing else.
const PROCESSES_MAX: u32 = 256;
/// How often a group is tried to be made: the last task of another lith may end in between, and take the folder that
/// holds all groups with it. That this happens again and again is no accident any more.
const ATTEMPTS_MAX: u32 = 5;
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
        let create = || Cgroup::create_below(Path::new(ROOT), name, memory_bytes_max);
        let mut result = create();
        for _ in 1..ATTEMPTS_MAX {
            if !result.as_ref().is_err_and(is_vanished) {
                break;
            }
            result = create();
        }
        result
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

/// Removes what a supervisor that was killed left of the group `name`.
///
/// # Errors
/// [`JailError::Cgroup`] when a process is still in it.
pub fn remove(name: &str) -> Result<(), JailError> {
    let root = Path::new(ROOT);
    let mut folders = vec![root.join(PARENT).join(name)];
    folders.extend(CONTROLLERS.map(|controller| root.join(controller).join(PARENT).join(name)));
    Cgroup { folders }.remove()
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
}
