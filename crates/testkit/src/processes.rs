//! Processes of a world, found in `/proc` by the world's own folder and control groups, never by a mere name.

use std::fmt;
use std::path::Path;

use rustix::process::Signal;

use crate::leftovers;

/// The ID of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Pid {
    /// Sends a signal. That the process has ended already is no error.
    pub fn signal(self, signal: Signal) {
        let pid = i32::try_from(self.0).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // Fails only when it has ended: tests are root.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// `kill -9`.
    pub fn kill(self) {
        self.signal(Signal::KILL);
    }

    /// Whether it lives; a zombie does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        let state = self.stat().and_then(|stat| stat.split_whitespace().next().map(str::to_owned));
        state.is_some_and(|state| state != "Z" && state != "X")
    }

    /// A field of `/proc/PID/status`.
    #[must_use]
    pub fn status(self, field: &str) -> Option<String> {
        let status = self.read("status")?;
        let prefix = format!("{field}:");
        status.lines().find_map(|line| Some(line.strip_prefix(&prefix)?.trim().to_owned()))
    }

    /// The identity of one of its namespaces, such as `net`.
    #[must_use]
    pub fn namespace(self, kind: &str) -> Option<String> {
        let link = std::fs::read_link(format!("/proc/{self}/ns/{kind}")).ok()?;
        Some(link.to_string_lossy().into_owned())
    }

    /// A file of its folder in `/proc`.
    #[must_use]
    pub fn read(self, file: &str) -> Option<String> {
        let bytes = std::fs::read(format!("/proc/{self}/{file}")).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its arguments.
    #[must_use]
    pub fn arguments(self) -> Vec<String> {
        let text = self.read("cmdline").unwrap_or_default();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    /// Its parent.
    #[must_use]
    pub fn parent(self) -> Option<Pid> {
        self.stat()?.split_whitespace().nth(1)?.parse().ok().map(Pid)
    }

    /// What follows its name in `stat`; the name itself may hold anything.
    fn stat(self) -> Option<String> {
        let stat = self.read("stat")?;
        Some(stat.rsplit_once(')')?.1.to_owned())
    }
}

/// Every process.
fn all() -> Vec<Pid> {
    let folder = std::fs::read_dir("/proc").expect("there is a /proc");
    folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid)).collect()
}

/// Every living process that was started with a path below `folder`, or is in a control group of an instance of lith
/// that lives there.
pub(crate) fn of_world(folder: &Path) -> Vec<Pid> {
    let below = format!("{}/", folder.display());
    let name = leftovers::group_part(folder);
    let is_ours = |pid: &Pid| {
        pid.arguments().iter().any(|argument| argument.contains(&below))
            || pid.read("cgroup").unwrap_or_default().lines().any(|group| is_group_of(group, &name))
    };
    let own = std::process::id();
    all().into_iter().filter(|pid| pid.0 != own && is_ours(pid) && pid.is_alive()).collect()
}

fn is_group_of(group: &str, part: &str) -> bool {
    group.split_once("/lith/").is_some_and(|(_, name)| name.contains(part))
}

/// The living children of a process.
pub(crate) fn children(of: Pid) -> Vec<Pid> {
    all().into_iter().filter(|pid| pid.parent() == Some(of) && pid.is_alive()).collect()
}

/// Living processes one of whose arguments ends with `end`.
pub(crate) fn with_argument(end: &str) -> Vec<Pid> {
    let fits = |pid: &Pid| pid.arguments().iter().any(|argument| argument == end);
    all().into_iter().filter(|pid| fits(pid) && pid.is_alive()).collect()
}
