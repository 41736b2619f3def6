//! What /proc says of processes: who descends from whom, memory, processor time, start. Parsing is pure and tested.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

/// Linux reports processor time to user space in these, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// One process.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// The first 15 bytes of the program's name.
    pub(super) name: String,
    /// Used so far, in user and in system.
    pub(super) cpu_s: f64,
    /// Started so long after the machine.
    pub(super) started_s: f64,
}

impl Process {
    /// Whether it is a virtual machine monitor.
    pub(super) fn is_vmm(&self) -> bool {
        self.name.starts_with("qemu") || self.name.starts_with("firecracker")
    }
}

/// All processes now.
pub(super) fn list() -> Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in std::fs::read_dir("/proc").context("cannot list /proc")? {
        let entry = entry.context("cannot list /proc")?;
        // A process may end while we look.
        if let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) {
            processes.extend(parse_stat(&text));
        }
    }
    Ok(processes)
}

/// The process and everything below it.
pub(super) fn tree(processes: &[Process], top: u32) -> Vec<Process> {
    let mut members = BTreeSet::from([top]);
    loop {
        let before = members.len();
        members.extend(
            processes
                .iter()
                .filter(|process| members.contains(&process.parent))
                .map(|process| process.pid)
                .collect::<Vec<_>>(),
        );
        if members.len() == before {
            break;
        }
    }
    processes.iter().filter(|process| members.contains(&process.pid)).cloned().collect()
}

/// The command line of a process, its words separated by spaces.
pub(super) fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Resident memory in megabytes.
pub(super) fn rss_mb(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(Path::new(&path)).with_context(|| format!("cannot read {path}"))?;
    parse_rss_mb(&text).with_context(|| format!("{path} has no VmRSS"))
}

/// Seconds since the machine started.
pub(super) fn uptime_s() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/uptime").context("cannot read /proc/uptime")?;
    let first = text.split_whitespace().next().context("/proc/uptime is empty")?;
    first.parse().context("/proc/uptime is not a number")
}

fn parse_rss_mb(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0 / 1_000_000.0)
}

/// proc_pid_stat(5): `pid (name) state ppid ...`, utime and stime are fields 14 and 15, starttime is 22. The name may
/// hold spaces and parentheses.
fn parse_stat(text: &str) -> Option<Process> {
    let (pid, rest) = text.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        name: name.to_owned(),
        cpu_s: (number(14)? + number(15)?) / TICKS_PER_SECOND,
        started_s: number(22)? / TICKS_PER_SECOND,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_nasty_name() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 12345 0 0";
        let process = parse_stat(text).unwrap();
        let expected =
            Process { pid: 42, parent: 7, name: "a) b (c".to_owned(), cpu_s: 2.0, started_s: 123.45 };
        assert_eq!(process, expected);
        assert_eq!(parse_stat("42 (a"), None);
        assert_eq!(parse_stat("42 (a) S"), None);
    }

    #[test]
    fn status_gives_memory() {
        let megabytes = parse_rss_mb("Name:\tlith\nVmRSS:\t    1000 kB\n").unwrap();
        assert!((megabytes - 1.024).abs() < 1e-9);
        assert_eq!(parse_rss_mb("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn trees_are_followed_down() {
        let process = |pid, parent| Process { pid, parent, name: "x".to_owned(), cpu_s: 0.0, started_s: 0.0 };
        let all = [process(4, 3), process(1, 0), process(2, 1), process(3, 2), process(9, 1)];
        let pids: Vec<u32> = tree(&all, 2).iter().map(|process| process.pid).collect();
        assert_eq!(pids, [4, 2, 3]);
    }
}
