//! What lith makes on the host for a guest, with the host's own kernel and programs.

use lith_testkit::Folder;
use lith_vmm::jail::cgroup::{self, Cgroup, Cpu, Limits};
use lith_vmm::scratch::{self, Purpose};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

const LIMITS: Limits = Limits { memory_bytes_max: 64 << 20, cpu: Cpu::MillisMax(500), processes_max: 256 };

#[test]
fn this_kernel_takes_the_limits() {
    let folder = Folder::new();
    let name = folder.group_name("limits");
    let group = Cgroup::create(&name, LIMITS).unwrap();
    assert!(group.procs().iter().all(|path| path.exists()));
    group.remove().unwrap();
    cgroup::remove(&name).unwrap();
    assert!(group.procs().iter().all(|path| !path.exists()));
}

#[test]
fn groups_are_made_while_others_remove_the_folder_that_holds_them() {
    let folder = Folder::new();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                cgroup::remove_parents();
            }
        });
        let results: Vec<_> = (0..300)
            .map(|number| {
                let group = Cgroup::create(&folder.group_name(&number.to_string()), LIMITS)?;
                group.remove()
            })
            .collect();
        is_done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
}

#[test]
fn a_disk_is_sparse_and_made_once() {
    let folder = Folder::new();
    let path = folder.path().join("scratch.ext4");
    scratch::create(&path, Purpose::Scratch, 1 << 30).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 1 << 30);
    assert!(metadata.blocks() * 512 < 8 << 20, "{} blocks", metadata.blocks());
    assert_eq!(metadata.mode() & 0o777, 0o600);
    scratch::create(&path, Purpose::Scratch, 2 << 30).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 30);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
