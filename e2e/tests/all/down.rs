//! `lith down`: what is left of lith on the machine, and what of others.

use lith_testkit::World;

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
