//! Figures of the machine, from the kernel's own files.

use std::fs;

use lith_guest::messages::Stats;

use crate::root::{SCRATCH, TASK_CGROUP};

/// Clock ticks per second in `/proc/stat`: fixed in the kernel's interface.
const TICKS_PER_SECOND: u64 = 100;

/// Reads all figures; one that the kernel does not offer is 0.
pub(crate) fn read() -> Stats {
    let memory = file("/proc/meminfo");
    let kilobytes = |name: &str| field(&memory, name).saturating_mul(1024);
    let group = |name: &str| file(&format!("{TASK_CGROUP}/{name}"));
    let memory_group = group("memory.stat");
    let load = file("/proc/loadavg");
    let mut loads = load.split_whitespace().map(|word| u32::try_from(hundredths(word)).unwrap_or(u32::MAX));
    let mut next_load = || loads.next().unwrap_or(0);
    let (disk_total_bytes, disk_used_bytes) = disk();
    Stats {
        memory_total_bytes: kilobytes("MemTotal:"),
        memory_available_bytes: kilobytes("MemAvailable:"),
        memory_cache_bytes: kilobytes("Cached:"),
        memory_task_bytes: number(&group("memory.current")).saturating_sub(field(&memory_group, "file")),
        cpu_us: cpu_us(&file("/proc/stat")),
        cpu_task_us: field(&group("cpu.stat"), "usage_usec"),
        disk_total_bytes,
        disk_used_bytes,
        load_hundredths: [next_load(), next_load(), next_load()],
        processes: u32::try_from(number(&group("pids.current"))).unwrap_or(u32::MAX),
        uptime_ms: hundredths(file("/proc/uptime").split_whitespace().next().unwrap_or(""))
            .saturating_mul(10),
    }
}

/// Whether the kernel has killed a process of the task for want of memory.
pub(crate) fn was_oom_killed() -> bool {
    field(&file(&format!("{TASK_CGROUP}/memory.events")), "oom_kill") > 0
}

fn file(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// The number after `name` at the start of a line.
fn field(text: &str, name: &str) -> u64 {
    let value = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next().map_or(0, number))
    };
    text.lines().find_map(value).unwrap_or(0)
}

/// `1.25` as 125.
fn hundredths(text: &str) -> u64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let whole: u64 = whole.parse().unwrap_or(0);
    let fraction: u64 = fraction.get(..2).unwrap_or(fraction).parse().unwrap_or(0);
    whole.saturating_mul(100).saturating_add(fraction)
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal, ... in ticks.
fn cpu_us(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or("");
    let ticks = line.split_whitespace().skip(1).take(8).map(number).enumerate();
    let busy: u64 = ticks.filter(|(place, _)| *place != 3 && *place != 4).map(|(_, ticks)| ticks).sum();
    busy.saturating_mul(1_000_000 / TICKS_PER_SECOND)
}

fn disk() -> (u64, u64) {
    let Ok(figures) = rustix::fs::statvfs(SCRATCH) else { return (0, 0) };
    let bytes = |blocks: u64| blocks.saturating_mul(figures.f_frsize);
    (bytes(figures.f_blocks), bytes(figures.f_blocks.saturating_sub(figures.f_bfree)))
}

#[cfg(test)]
mod tests {
    use super::{cpu_us, field, hundredths};

    #[test]
    fn numbers() {
        assert_eq!(field("MemTotal:  93924 kB\nCached: 5 kB\n", "Cached:"), 5);
        assert_eq!(field("file 1\nfile_mapped 2\n", "file_mapped"), 2);
        assert_eq!(field("", "file"), 0);
        assert_eq!(field("file\n", "file"), 0);
        assert_eq!(hundredths("1.25"), 125);
        assert_eq!(hundredths("0.05"), 5);
        assert_eq!(hundredths("7"), 700);
        assert_eq!(hundredths("x"), 0);
        // More than 497 days, which 32 bits of hundredths do not hold.
        assert_eq!(hundredths("99999999.99"), 9_999_999_999);
        assert_eq!(cpu_us("cpu  1 2 3 1000 1000 4 5 6 0 0\ncpu0 9\n"), 210_000);
        assert_eq!(cpu_us(""), 0);
    }
}
