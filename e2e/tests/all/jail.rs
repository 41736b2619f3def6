//! What the machine of a running task may do on the host: nothing.

use std::path::Path;

use lith_testkit::{Pid, World};

const JOB: &str = "\njob: jailed\ntasks:\n  web: { image: \"hello:1\", memory: 96M }\n";

#[test]
fn a_machine_is_jailed() {
    let world = World::start(&["hello"]);
    let _ = world.deploy(JOB).ok();
    let vmm = world.vmm("jailed.main.0.web").unwrap();
    let own = Pid(std::process::id());
    // Slot 1 of a new node, above every user ID that a system gives away.
    let uid = 2_000_000_001;
    assert_eq!(vmm.status("Uid").unwrap(), format!("{uid}\t{uid}\t{uid}\t{uid}"));
    assert_eq!(vmm.status("Gid").unwrap(), format!("{uid}\t{uid}\t{uid}\t{uid}"));
    assert_eq!(vmm.status("Groups").unwrap(), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(vmm.status(set).unwrap(), "0000000000000000", "{set}");
        assert_eq!(own.status("CapEff").unwrap().len(), 16, "the probe itself works");
    }
    assert_eq!(vmm.status("NoNewPrivs").unwrap(), "1");
    assert_eq!(vmm.status("Seccomp").unwrap(), "2");
    for kind in ["mnt", "net", "pid", "ipc", "uts"] {
        let (inside, outside) = (vmm.namespace(kind).unwrap(), own.namespace(kind).unwrap());
        assert_ne!(inside, outside, "{kind}");
    }
    let daemon = world.daemon().unwrap();
    assert_ne!(vmm.namespace("net"), daemon.namespace("net"), "nor the network of the machine it runs on");
    // Disks are handed over open; of the data folder it sees the kernel that it boots, under another name.
    let mounts = vmm.read("mountinfo").unwrap();
    let points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    let of_data: Vec<_> =
        points.iter().filter(|point| Path::new(point).starts_with(&world.data_dir)).collect();
    assert_eq!(of_data, Vec::<&&str>::new());
    assert!(points.contains(&"/boot/kernel") && points.contains(&"/boot/initramfs"), "{points:?}");
    let groups = vmm.read("cgroup").unwrap();
    assert!(groups.contains("/lith/jailed.main.0.web"), "{groups}");
}
