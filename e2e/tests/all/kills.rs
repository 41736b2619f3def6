//! Kills at random moments of what a task with volumes needs: its machine, its supervisor, the process that serves its
//! disks, the daemon.

use lith_testkit::{Pid, World, eventually};

/// What can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Machine,
    Disks,
    Shim,
    Daemon,
    DaemonAndDisks,
}

const TARGETS: [Target; 5] =
    [Target::Machine, Target::Disks, Target::Shim, Target::Daemon, Target::DaemonAndDisks];

/// A xorshift generator: what is killed, and after how many commits, follows from the seed alone.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Each of the targets once, in a random order.
    pub(crate) fn shuffled(&mut self) -> [Target; 5] {
        let mut targets = TARGETS;
        for last in (1..targets.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap();
            targets.swap(last, other);
        }
        targets
    }
}

/// Kills something of the only task with volumes, which runs. What its machine cannot go on without ends the machine; the
/// machine, if it must go on.
pub(crate) fn kill(world: &mut World, task: &str, target: Target) -> Option<Pid> {
    let machine = world.vmm(task).expect("the task runs");
    match target {
        Target::Machine => machine.kill(),
        Target::Disks => kill_disks(world),
        Target::Shim => world.shim(task).expect("the task runs").kill(),
        Target::Daemon => {
            world.kill_daemon();
            world.up();
        }
        Target::DaemonAndDisks => {
            world.kill_daemon();
            kill_disks(world);
            world.up();
        }
    }
    if target == Target::Daemon {
        return Some(machine);
    }
    eventually(&format!("the machine to end with {target:?}"), || {
        if machine.is_alive() { Err(machine) } else { Ok(()) }
    });
    None
}

fn kill_disks(world: &World) {
    let serves = |pid: &Pid| pid.arguments().get(1).is_some_and(|one| one == "disks");
    let serving: Vec<Pid> = world.processes().into_iter().filter(serves).collect();
    assert!(!serving.is_empty(), "no process serves the disks of a task that runs");
    serving.into_iter().for_each(Pid::kill);
}
