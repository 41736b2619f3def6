//! Programs on the machines of a world that say what they hear: servers, sniffers, a resolver.

use std::process::Command;

use lith_testkit::{NEIGHBOUR, Namespace, Running, World};

/// What runs on them, and in guests that have Python.
pub(crate) const PROGRAM: &str = include_str!("peers.py");

/// Starts one on a machine, and waits until it is ready.
pub(crate) fn start(machine: &Namespace, arguments: &[&str]) -> Running {
    let mut command = Command::new("python3");
    command.args(["-c", PROGRAM]).args(arguments);
    let mut running = machine.start(command);
    running.wait_for("ready");
    running
}

/// Makes the neighbour the machine's resolver. To be called before the daemon is started.
pub(crate) fn resolve_at_the_neighbour(world: &mut World) {
    let etc = world.path("etc");
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::write(etc.join("resolv.conf"), format!("nameserver {NEIGHBOUR}\n")).unwrap();
    world.etc = Some(etc);
}
