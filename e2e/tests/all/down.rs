//! `lith down`: what is left of lith on the machine, and what of others.

use std::path::Path;

use lith_testkit::{Output, World};

use crate::hide::without;

const JOB: &str =
    "\njob: leaver\ntasks:\n  web: { image: \"hello:1\", memory: 96M, publish: [\"8080:80\"] }\n";
const FOREIGN: &str =
    "table inet foreign { chain input { type filter hook input priority 0; tcp dport 9999 drop; }; }";

#[test]
fn nothing_is_left_and_nothing_of_others_is_touched() {
    let mut world = World::prepare();
    world.host.shell(&format!("nft '{FOREIGN}'; ip link add lithium type veth peer name helium"));
    let state = |world: &World| {
        let links =
            world.host.shell("ip -o link show | cut -d: -f2; ip -o -4 address; ip -4 route show table all");
        let switches = world.host.shell("sysctl net.ipv4.ip_forward net.ipv4.conf.all.route_localnet");
        (world.host.shell("nft list ruleset"), links, switches)
    };
    let before = state(&world);
    world.up();
    world.load("hello");
    let _ = world.deploy(JOB).ok();
    let used = world.leftovers();
    for kind in
        ["process ", "control group ", "folder ", "interface", "nft table inet lith", "address or route"]
    {
        assert!(used.iter().any(|line| line.starts_with(kind)), "{kind} is looked for: {used:#?}");
    }
    // Without `--purge` jobs stay declared, and run again with the next start.
    let _ = world.lith(&["down"]).ok();
    world.await_daemon_end();
    assert_eq!(world.leftovers(), [format!("folder {}", world.data_dir.display())]);
    assert_eq!(state(&world), before);
    world.up();
    world.await_task("leaver", "running again", |task| task["is_ready"] == true);
    // A daemon that was killed cannot be asked: its part is done without it.
    world.kill_daemon();
    world.down_purge();
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert_eq!(state(&world), before);
    world.host.shell("ip link delete lithium");
    // Nothing is there: nothing to do.
    world.down_purge();
}

/// `lith down --purge` of a person who has the wrong folder in mind.
fn purge(world: &World, data: &Path) -> Output {
    let words = ["down", "--purge", "--yes", "--data-dir"];
    let mut command = world.lith_command(&words);
    command.arg(data);
    world.host.finish(command, b"")
}

#[test]
fn a_wrong_folder_is_not_deleted() {
    let mut world = World::start(&[]);
    let other = world.path("other");
    std::fs::create_dir_all(other.join("node")).unwrap();
    std::fs::write(other.join("lith.lock"), "").unwrap();
    // The daemon at the socket has other data than those that would be deleted.
    let refused = purge(&world, &other);
    let words = "error: the daemon at RUN/lith.sock has its data in DATA, not in WORLD/other [E0003]\n\
                 hint: stop that one with `lith down --data-dir DATA`\n";
    assert_eq!((refused.code, world.plain(&refused.stderr).as_str()), (1, words));
    assert!(other.join("node").exists() && world.daemon().unwrap().is_alive());
    // A daemon that listens elsewhere.
    let mut elsewhere = world.lith_command(&["down", "--purge", "--yes", "--run-dir", "/nowhere"]);
    elsewhere.arg("--data-dir").arg(&world.data_dir);
    let refused = world.host.finish(elsewhere, b"");
    assert!(
        refused.code == 1 && refused.stderr.contains("give `lith down` the same `--run-dir`"),
        "{refused}"
    );
    world.kill_daemon();
    // Nobody answers, and the folder is none of lith's.
    let photos = world.path("home");
    std::fs::write(photos.join("photo"), "").unwrap();
    let refused = purge(&world, &photos);
    let words = "error: WORLD/home is no data folder of lith: `lith up` never ran there [E0001]\n\
                 hint: give `lith down` the same `--data-dir` (LITH_DATA_DIR) as `lith up`\n";
    assert_eq!((refused.code, world.plain(&refused.stderr).as_str()), (1, words));
    assert_eq!(std::fs::read_dir(&photos).unwrap().count(), 1, "nothing was made there either");
    // Of the right one goes what lith made; a relative path means the same folder.
    std::fs::write(world.data_dir.join("mine"), "").unwrap();
    let done = purge(&world, Path::new("data"));
    let words = "DATA stays: DATA/mine in it is not lith's\n";
    assert_eq!((done.code, world.plain(&done.stderr).as_str()), (0, words));
    assert_eq!(std::fs::read_dir(&world.data_dir).unwrap().count(), 1);
    std::fs::remove_dir_all(&world.data_dir).unwrap();
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_removed_is_said() {
    let mut world = World::start(&[]);
    world.kill_daemon();
    // With a daemon, which tells it on the way, and without one.
    let daemon = world.host.start(without(&world, world.up_command(), &["/usr/sbin/nft"]));
    let version = lith_testkit::eventually("an answer of `lith up`", || {
        let output = world.lith(&["version"]);
        if output.stdout.contains("node odin") { Ok(output) } else { Err(output) }
    });
    assert!(version.stdout.contains("process"), "{version}");
    let check = |output: &Output| {
        let start = "error: not everything was stopped: the network cannot be removed: ";
        assert!(output.code == 1 && output.stderr.contains(start), "{output}");
        assert!(output.stderr.ends_with("hint: install it: apt-get install nftables\n"), "{output}");
    };
    check(&world.lith(&["down"]));
    check(&daemon.finish());
    check(&world.host.finish(without(&world, world.lith_command(&["down"]), &["/usr/sbin/nft"]), b""));
    world.down_purge();
}
