//! The world in which figures are measured: a network, mounts and processes of its own, so that what runs on this
//! machine is neither touched nor in the way, both sides of a comparison have the same, and nothing outlives it, however
//! it ends. What needs the internet is built before it is entered.

use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Set inside.
const ENTERED: &str = "LITH_BENCH_WORLD";

/// The first process must be a shell and not us: signals from outside do not reach it, and it reaps what others leave.
const SCRIPT: &str = "mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up && \"$@\"; exit $?";

/// Whether this program runs inside.
pub(super) fn is_entered() -> bool {
    std::env::var_os(ENTERED).is_some()
}

/// Runs `bench` of this program inside.
pub(super) fn enter(names: &[String]) -> Result<()> {
    let own = std::env::current_exe().context("this program has no path")?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]);
    command.args(["sh", "-c", SCRIPT, "bench"]).arg(own).arg("bench").args(names);
    process::run(command.env(ENTERED, "1"))
}
