//! `lith-init`: PID 1 of a microVM. Brings the machine up, runs the image's process, serves the host, powers off.
//!
//! Blocking threads, no runtime: `port` (one reader, one writer), `children` (one reaper), `volumes` (one, where there
//! are any), one or a few per request. The program stays in the initramfs; the task gets its own PID, mount and cgroup
//! namespaces on the assembled root, so that its process is PID 1 there, as in a container, and cannot get hold of this
//! one by accident. The machine is the boundary against malice: nothing here tries to withstand a root user inside.
//!
//! ```text
//! boot ──▶ running ──▶ (main process ends, or Stop) ──▶ sync, unmount ──▶ power off
//!   └────▶ failed ────────────────────────────────────────▲
//! ```

// The C entry point stands in `sys`: the standard library's own aborts when PID 1 has no console and no `/dev/null`.
#![cfg_attr(not(test), no_main)]
// A test starts at the harness and never comes by the program's own start.
#![cfg_attr(test, allow(dead_code))]

mod boot;
mod children;
mod clock;
mod copy;
mod exec;
mod ext4;
mod failure;
mod files;
mod inbox;
mod mounts;
mod network;
mod port;
mod power;
mod probe;
mod pump;
mod root;
mod seed;
mod server;
mod settings;
mod spawn;
mod stats;
mod sys;
mod task;
mod uevent;
mod view;
mod volumes;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a panic aborts the program, so poison carries no meaning.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Exit code of a program that was started by hand.
const CODE_NOT_INIT: i32 = 2;

/// The program. As PID 1 it does not return.
fn run() -> i32 {
    if rustix::process::getpid() != rustix::process::Pid::INIT {
        // Started by hand: mounting and powering off would hit a real machine.
        return CODE_NOT_INIT;
    }
    if let Err(failure) = boot::early() {
        // No channel yet: the console is all there is.
        boot::complain(failure.sentence());
        power::off();
    }
    let (server, boot_config) = match server::Server::connect() {
        Ok(connected) => connected,
        Err(failure) => {
            boot::complain(failure.sentence());
            power::off();
        }
    };
    server.run_main(boot_config);
    server.shut_down();
    power::off()
}
