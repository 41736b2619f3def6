//! What lith could leave on the machine that runs the tests: looked at before and after, and compared. Owns the list of
//! kinds; must not remove anything, for a person should see it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, target_dir};

/// Switches of the kernel that lith moves: the file, or a file in each folder.
const SWITCHES: &[(&str, &str)] = &[
    ("/proc/sys/net/ipv4", "ip_forward"),
    ("/proc/sys/net/ipv4/conf/*", "forwarding"),
    ("/proc/sys/net/ipv4/conf/*", "route_localnet"),
];
/// Where folders of lith and of its tests are, and how their names begin.
const FOLDERS: &[(&str, &[&str])] =
    &[("/tmp", &["lw-", "lith"]), ("/run", &["lith"]), ("/var/lib", &["lith"])];
/// Control groups of tasks, below the mount of each hierarchy.
const GROUPS: &[&str] = &["/sys/fs/cgroup/lith", "/sys/fs/cgroup/memory/lith", "/sys/fs/cgroup/pids/lith"];

/// Kinds of lines that tell of lith only.
const OWN: &[&str] = &["control group ", "folder ", "process "];

/// Remembers what is there now, in a file, so that the steps in between may be chosen freely.
pub(super) fn remember(root: &Path) -> Result<()> {
    let path = memory(root);
    fs::create_dir_all(target_dir(root)).context("cannot create the target folder")?;
    let lines: Vec<String> = list(root)?.into_iter().collect();
    fs::write(&path, lines.join("\n")).with_context(|| format!("cannot write {}", path.display()))
}

/// Fails when something is there that was not remembered, or when something is gone that is not lith's.
pub(super) fn compare(root: &Path) -> Result<()> {
    let path = memory(root);
    let before = fs::read_to_string(&path).context("nothing is remembered: run the step `remember` first")?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    let before = before.lines().map(str::to_owned).collect();
    let differences = differences(&before, &list(root)?);
    if differences.is_empty() {
        Ok(())
    } else {
        bail!("the machine is not as before:\n{}", differences.join("\n"))
    }
}

fn memory(root: &Path) -> PathBuf {
    target_dir(root).join("traces-before.txt")
}

fn differences(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    let left = after.difference(before).map(|line| format!("left: {line}"));
    // Tests sweep what killed ones before them left.
    let is_swept = |line: &&String| OWN.iter().any(|kind| line.starts_with(kind));
    let gone = before.difference(after).filter(|line| !is_swept(line));
    left.chain(gone.map(|line| format!("gone: {line}"))).collect()
}

/// Everything, a line each.
fn list(root: &Path) -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for (what, program, arguments) in [
        ("link", "ip", &["-br", "link"][..]),
        ("address", "ip", &["-br", "address"]),
        ("rule", "nft", &["--stateless", "list", "ruleset"]),
    ] {
        let text = process::output(Command::new(program).args(arguments))?;
        let text = String::from_utf8_lossy(&text);
        lines.extend(text.lines().map(|line| format!("{what} {}", words(what, line))));
    }
    for (folder, name) in SWITCHES {
        for path in expand(folder).into_iter().map(|folder| folder.join(name)) {
            let value = fs::read_to_string(&path).unwrap_or_default();
            lines.insert(format!("switch {} = {}", path.display(), value.trim()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot list the mounts")?;
    lines.extend(mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(|at| format!("mount {at}")));
    for group in GROUPS.iter().map(PathBuf::from) {
        lines.extend(folders(&group).iter().map(|path| format!("control group {}", path.display())));
        lines.extend(group.is_dir().then(|| format!("control group {}", group.display())));
    }
    for (folder, prefixes) in FOLDERS {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
                lines.insert(format!("folder {folder}/{name}"));
            }
        }
    }
    lines.extend(processes(&target_dir(root)));
    Ok(lines)
}

/// Links without their state, addresses without what their interface is doing; rules as they are.
fn words(what: &str, line: &str) -> String {
    let mut words = line.split_whitespace();
    match what {
        "link" => words.next().unwrap_or_default().to_owned(),
        "address" => {
            let name = words.next().unwrap_or_default();
            [name].into_iter().chain(words.skip(1)).collect::<Vec<_>>().join(" ")
        }
        _ => line.to_owned(),
    }
}

/// The folder, or all folders in it where it ends with a star.
fn expand(folder: &str) -> Vec<PathBuf> {
    match folder.strip_suffix("/*") {
        Some(parent) => folders(Path::new(parent)),
        None => vec![PathBuf::from(folder)],
    }
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Processes of the programs that were built here, and machines that lost their supervisor.
fn processes(target: &Path) -> Vec<String> {
    let processes = folders(Path::new("/proc")).into_iter().filter_map(|folder| {
        let pid: u32 = folder.file_name()?.to_str()?.parse().ok()?;
        let program = fs::read_link(folder.join("exe")).ok()?;
        let name = program.file_name()?.to_str()?;
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
        let is_ours = name.starts_with("lith") && program.starts_with(target);
        let is_orphan = name.starts_with("qemu-system") && parent == "1";
        (is_ours || is_orphan).then(|| format!("process {pid} {}", program.display()))
    });
    processes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_go_both_ways() {
        let check = |before: &[&str], after: &[&str], expected: &[&str]| {
            let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(differences(&lines(before), &lines(after)), expected);
        };
        check(&["link a", "link b"], &["link b", "link c"], &["left: link c", "gone: link a"]);
        check(&["link a", "link b"], &["link b", "link a"], &[]);
        check(&["folder a"], &["folder b"], &["left: folder b"]);
    }

    #[test]
    fn what_changes_by_itself_is_left_out() {
        assert_eq!(words("link", "lith1  UP  02:00:00:00:00:01 <UP>"), "lith1");
        assert_eq!(
            words("address", "eth0   UNKNOWN  192.0.2.1/24 fe80::1/64"),
            "eth0 192.0.2.1/24 fe80::1/64"
        );
        assert_eq!(words("rule", "\tcounter drop"), "\tcounter drop");
    }
}
