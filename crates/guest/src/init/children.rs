//! Child processes: their start under a lock, their end for whoever waits. Reaps what nobody waits for.
//!
//! The one place that waits for processes. Forking and reaping exclude each other, so an exit status can neither be
//! lost nor be taken for that of a later process with the same ID.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use lith_guest::messages::Exit;
use lith_guest::signal::Signal;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, WaitStatus, wait, waitid};

use crate::lock;

/// All children.
#[derive(Default)]
pub(crate) struct Children {
    /// By process ID, until somebody has taken the exit.
    watched: Mutex<BTreeMap<i32, Option<Exit>>>,
    changed: Condvar,
}

impl Children {
    /// Runs `start`, which gives the ID of a new child, and watches that child.
    pub(crate) fn start(&self, start: impl FnOnce() -> io::Result<i32>) -> io::Result<i32> {
        let mut watched = lock(&self.watched);
        let pid = start()?;
        watched.insert(pid, None);
        self.changed.notify_all();
        Ok(pid)
    }

    /// Waits for the end of a watched child. To be called once per child.
    pub(crate) fn wait(&self, pid: i32) -> Exit {
        let mut watched = lock(&self.watched);
        loop {
            if let Some(exit) = watched.get(&pid).copied().flatten() {
                watched.remove(&pid);
                return exit;
            }
            watched = self.changed.wait(watched).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The same until a deadline; none when it goes on. Then, and only then, it may be waited for again.
    pub(crate) fn wait_until(&self, pid: i32, deadline: Instant) -> Option<Exit> {
        let mut watched = lock(&self.watched);
        loop {
            if let Some(exit) = watched.get(&pid).copied().flatten() {
                watched.remove(&pid);
                return Some(exit);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let (guard, _) = self.changed.wait_timeout(watched, left).unwrap_or_else(PoisonError::into_inner);
            watched = guard;
        }
    }

    /// Does `act` if the child has not been reaped: only then does its ID mean it.
    pub(crate) fn if_running(&self, pid: i32, act: impl FnOnce()) {
        if lock(&self.watched).get(&pid) == Some(&None) {
            act();
        }
    }

    /// Reaps, for ever.
    pub(crate) fn reap(&self) {
        loop {
            // Only looks, for the lock is not held: the status stays until the loop below takes it.
            let peek = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let mut watched = lock(&self.watched);
            if matches!(peek, Err(Errno::CHILD)) && watched.values().all(Option::is_some) {
                // No child at all, so no orphan can appear either, until one is started.
                drop(self.changed.wait(watched));
                continue;
            }
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                if let Some(entry) = watched.get_mut(&pid.as_raw_nonzero().get()) {
                    *entry = Some(exit_of(status));
                }
            }
            self.changed.notify_all();
        }
    }
}

fn exit_of(status: WaitStatus) -> Exit {
    match status.terminating_signal() {
        Some(signal) => Exit::Signal(Signal(signal)),
        None => Exit::Code(status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use lith_guest::messages::Exit;
    use lith_guest::signal::Signal;

    use super::Children;

    /// Many at once, most of them gone before anybody asks: no exit is lost or mixed up.
    #[test]
    fn exits_find_their_waiters() {
        let children = Arc::new(Children::default());
        let reaper = Arc::clone(&children);
        std::thread::spawn(move || reaper.reap());
        let start = |script: String| {
            let spawn = || {
                let child = Command::new("/bin/sh").args(["-c", script.as_str()]).spawn()?;
                i32::try_from(child.id()).map_err(std::io::Error::other)
            };
            children.start(spawn).unwrap()
        };
        let pids: Vec<i32> = (0..20).map(|code| start(format!("exit {code}"))).collect();
        for (code, pid) in (0u8..).zip(pids) {
            assert_eq!(children.wait(pid), Exit::Code(code));
        }
        let late = start("sleep 1; exit 3".to_owned());
        assert_eq!(children.wait_until(late, Instant::now()), None);
        assert_eq!(children.wait_until(late, Instant::now() + Duration::from_secs(60)), Some(Exit::Code(3)));
        let killed = start("kill -15 $$".to_owned());
        assert_eq!(children.wait(killed), Exit::Signal(Signal::TERM));
        let mut is_running = false;
        children.if_running(killed, || is_running = true);
        assert!(!is_running);
    }
}
