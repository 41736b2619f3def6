//! What lith leaves on a machine: found, and removed by force when a test has failed or was killed.

use std::path::{Path, PathBuf};

use crate::namespace::Namespace;
use crate::processes::{self, Pid};
use crate::wait::eventually;

/// How the folder of a world begins; the ID of the test's process follows.
pub(crate) const FOLDER_PREFIX: &str = "lw-";
/// Where control groups are, below the mount of each hierarchy.
const CGROUPS: [&str; 4] = [
    "/sys/fs/cgroup/lith",
    "/sys/fs/cgroup/memory/lith",
    "/sys/fs/cgroup/pids/lith",
    "/sys/fs/cgroup/cpu/lith",
];

/// Everything there is of lith, a line each.
pub(crate) fn list(folder: &Path, folders: &[&Path], host: &Namespace) -> Vec<String> {
    let mut found = Vec::new();
    for pid in processes::of_world(folder) {
        found.push(format!("process {pid}: {}", pid.arguments().join(" ")));
    }
    for mount in mounts(folder).iter().filter(|mount| folders.iter().any(|folder| mount.starts_with(folder)))
    {
        found.push(format!("mount {}", mount.display()));
    }
    found.extend(cgroups(folder).iter().map(|path| format!("control group {}", path.display())));
    found
        .extend(folders.iter().filter(|path| path.exists()).map(|path| format!("folder {}", path.display())));
    let interfaces = host.shell("ip -o link show");
    found.extend(interfaces.lines().filter(|line| is_tap(line)).map(|line| format!("interface {line}")));
    let tables = host.shell("nft list tables");
    found.extend(tables.lines().filter(|line| line.ends_with(" lith")).map(|line| format!("nft {line}")));
    let addresses = host.shell("ip -o address show; ip route show table all; ip rule");
    found.extend(lines_with(&addresses, "10.83.", "address or route"));
    found
}

/// Whether a line of `ip -o link` is of a TAP of lith: `7: lith3: <…`.
fn is_tap(line: &str) -> bool {
    let name = line.split(": ").nth(1).unwrap_or_default();
    name.strip_prefix("lith").is_some_and(|slot| slot.parse::<u16>().is_ok())
}

fn lines_with<'a>(text: &'a str, part: &'a str, what: &'a str) -> impl Iterator<Item = String> + 'a {
    text.lines().filter(move |line| line.contains(part)).map(move |line| format!("{what}: {line}"))
}

/// What is mounted below the folder, deepest first.
fn mounts(folder: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("there is a /proc");
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    points.sort();
    points.reverse();
    points
}

/// What the names of control groups of an instance below `folder` hold: the end of the path of its data folder.
pub(crate) fn group_part(folder: &Path) -> String {
    let name = folder.file_name().expect("a world has a folder");
    format!("-{}-", name.to_string_lossy())
}

fn cgroups(folder: &Path) -> Vec<PathBuf> {
    let part = group_part(folder);
    let groups = CGROUPS.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let is_ours = |name: &str| name.contains(&part);
    groups.filter(|entry| entry.file_name().to_str().is_some_and(is_ours)).map(|entry| entry.path()).collect()
}

/// Removes all of a world by force.
pub(crate) fn remove(folder: &Path) {
    eventually("the processes of a world to end", || {
        let processes = processes::of_world(folder);
        processes.iter().for_each(|pid| pid.kill());
        if processes.is_empty() { Ok(()) } else { Err(format!("{processes:?}")) }
    });
    for point in mounts(folder) {
        // What cannot be unmounted makes the removal of the folder fail, which is then said.
        let _ = std::process::Command::new("umount").arg("--lazy").arg(point).status();
    }
    // A process that has ended leaves its group a moment later.
    eventually("the control groups of a world to go", || {
        let groups = cgroups(folder);
        let failures = groups.iter().filter_map(|group| std::fs::remove_dir(group).err());
        failures.map(|error| error.to_string()).reduce(|all, one| all + "; " + &one).map_or(Ok(()), Err)
    });
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        panic!("cannot remove {}: {error}", folder.display());
    }
}

/// Removes the worlds of tests that were killed before they could do it.
pub(crate) fn sweep(folders: &Path) {
    for entry in std::fs::read_dir(folders).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(FOLDER_PREFIX)?.split('-').next()?.parse().ok());
        if owner.is_some_and(|owner| !Pid(owner).is_alive()) {
            remove(&entry.path());
        }
    }
}
