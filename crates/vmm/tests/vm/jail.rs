//! What a jailed VMM is and has, read from the host's `/proc`.

use crate::world::{World, script};
use lith_vmm::machine::UID_BASE;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[tokio::test]
async fn a_running_vmm_has_nothing_but_its_task() {
    let mut world = World::start(script("echo ready; sleep 600"));
    let _watch = world.running().await;
    let process = PathBuf::from(format!("/proc/{}", world.vmm()));

    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let status: BTreeMap<_, _> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name, value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    let uid = UID_BASE + u32::from(world.config.slot);
    let ids = [uid; 4].map(|id| id.to_string()).join(" ");
    let none = "0000000000000000";
    for (name, value) in [
        ("Uid", ids.as_str()),
        ("Gid", ids.as_str()),
        ("Groups", ""),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("CapInh", none),
        ("CapPrm", none),
        ("CapEff", none),
        ("CapBnd", none),
        ("CapAmb", none),
    ] {
        assert_eq!(status[name], value, "{name}");
    }

    for name in ["mnt", "net", "ipc", "uts", "pid"] {
        let namespace = |process: PathBuf| std::fs::read_link(process.join("ns").join(name)).unwrap();
        assert_ne!(namespace(process.clone()), namespace("/proc/self".into()), "{name}");
    }

    let list = |path: &str| {
        let entries = std::fs::read_dir(process.join("root").join(path)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(list(""), ["boot", "dev", "etc", "lib", "lib64", "usr"]);
    assert_eq!(list("boot"), ["initramfs", "kernel"]);
    assert_eq!(list("dev"), ["null", "urandom"]);
    assert_eq!(list("etc"), ["ld.so.cache"]);
    assert_eq!(list("usr/bin"), ["qemu-system-x86_64"]);
    assert!(!process.join("root/proc").exists());

    let mounts = std::fs::read_to_string(process.join("mounts")).unwrap();
    let writable: Vec<_> =
        mounts.lines().filter(|line| !line.split(' ').nth(3).unwrap().starts_with("ro")).collect();
    assert_eq!(writable, Vec::<&str>::new());

    let limits = std::fs::read_to_string(process.join("limits")).unwrap();
    let limit = |name: &str| {
        limits.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().rev().nth(1)
    };
    assert_eq!(limit("Max core file size"), Some("0"));
    assert_eq!(limit("Max open files"), Some("256"));
    assert_eq!(limit("Max file size"), Some((64 << 20).to_string().as_str()));

    let cgroup = std::fs::read_to_string(process.join("cgroup")).unwrap();
    let group = format!("lith/{}", world.config.name);
    assert!(cgroup.contains(&format!("/{group}")), "{cgroup}");
    // One processor, as the configuration says, of what the kernel counts in a tenth of a second.
    let read = |path: String| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let new = read(format!("/sys/fs/cgroup/{group}/cpu.max"));
    let old = read(format!("/sys/fs/cgroup/cpu/{group}/cpu.cfs_quota_us"));
    assert!(new == "100000 100000" || old == "100000", "{new:?} {old:?}");
}

#[tokio::test]
async fn whose_shell_it_was_makes_no_difference() {
    // Every test is a process of its own, and what is started inherits this.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let folder = tempfile::tempdir().unwrap();
    let kernel = lith_vmm::kernel::find(&[lith_testkit::assets::kernel()]).unwrap();
    let boot = lith_vmm::kernel::prepare(&kernel, folder.path()).unwrap();
    let change = |config: &mut lith_vmm::shim::ShimConfig| {
        (config.kernel, config.initramfs) = (boot.kernel, boot.initramfs);
    };
    let mut world = World::start_with(script("echo ready; sleep 600"), change);
    drop(world.running().await);
}
