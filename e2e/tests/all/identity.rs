//! A node's name, which its first start gives it.

use std::process::Command;

use lith_testkit::{World, eventually};

#[test]
fn a_node_keeps_its_name() {
    let mut world = World::start(&[]);
    world.kill_daemon();
    let refused = world.lith(&["up", "--node", "thor"]);
    let words = "error: this node is called \"odin\" and cannot be called \"thor\" [E0003]\n\
                 hint: leave out `--node` (LITH_NODE): a node keeps the name of its first start\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (1, words));
    // Nor does it matter what the host is called now.
    let up = world.lith_command(&["up"]);
    let mut renamed = Command::new("unshare");
    renamed.args(["--uts", "sh", "-ec", "hostname thor; exec \"$@\"", "up"]).arg(up.get_program());
    renamed.args(up.get_args());
    for (name, value) in up.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        renamed.env(name, value);
    }
    let daemon = world.host.start(renamed);
    eventually("an answer with the old name", || {
        let version = world.lith(&["version"]);
        if version.stdout.contains("(node odin,") { Ok(()) } else { Err(version) }
    });
    let _ = world.lith(&["down"]).ok();
    let _ = daemon.finish().ok();
    world.down_purge();
}
