//! `lith doctor`: what the machine offers, what it lacks, and how to repair each.

use std::path::{Path, PathBuf};

use lith_api::node::{Check, Verdict};
use lith_net::{GuestNetwork, doctor as network};
use lith_vmm::doctor as machines;
use lith_vmm::jail::cgroup::Controllers;

use crate::agent::AgentConfig;
use crate::layout::Layout;
use lith_core::chain::chain;

/// Below this, images and scratch disks soon fill the disk.
const FREE_BYTES_LOW: u64 = 5 << 30;
/// Below this, nothing can be pulled or started.
const FREE_BYTES_LEAST: u64 = 500 << 20;

const KVM_HINT: &str = "on your own hardware, switch on virtualization (VT-x, AMD-V) in the firmware; on a rented machine, \
                        ask for nested virtualization";
const EMULATION_HINT: &str =
    "run `lith doctor` again when the machine is less busy; if it stays so, install QEMU anew";
const CGROUP_HINT: &str = "add `cgroup_enable=memory` to the kernel's command line (Raspberry Pi: \
                           /boot/firmware/cmdline.txt) and restart the machine; in a container, mount /sys/fs/cgroup";

/// Looks at one machine.
#[derive(Debug, Clone)]
pub struct Doctor {
    layout: Layout,
    kernels: Vec<PathBuf>,
    network: GuestNetwork,
}

impl Doctor {
    /// A doctor for the machine of this agent.
    #[must_use]
    pub fn new(config: &AgentConfig) -> Self {
        Self { layout: config.layout.clone(), kernels: config.kernels.clone(), network: config.network }
    }

    /// Every check. Boots probe machines, which takes seconds.
    pub async fn examine(&self) -> Vec<Check> {
        let doctor = self.clone();
        let checks = tokio::task::spawn_blocking(move || doctor.examine_blocking()).await;
        checks.unwrap_or_else(|error| vec![failed("doctor", &format!("a check failed: {error}"), None)])
    }

    /// What else of this machine may keep published ports from being reached, in sentences.
    pub async fn firewalls(&self) -> Vec<String> {
        let findings = tokio::task::spawn_blocking(network::hindrances).await.unwrap_or_default();
        let warnings = findings.into_iter().filter(|finding| finding.severity == network::Severity::Warning);
        warnings
            .map(|finding| {
                let hint = finding.hint.map_or(String::new(), |hint| format!("; {hint}"));
                format!("published ports may not be reached from other machines: {}{hint}", finding.text)
            })
            .collect()
    }

    /// Every check, on the calling thread.
    #[must_use]
    pub fn examine_blocking(&self) -> Vec<Check> {
        let mut checks = machine_checks(&self.kernels, &self.layout.boot());
        checks.extend(network::examine(self.network).into_iter().map(network_check));
        checks.push(disk_check(&self.layout.data));
        checks
    }
}

fn machine_checks(kernels: &[PathBuf], cache: &Path) -> Vec<Check> {
    let facts = machines::examine(kernels, cache);
    let mut checks = Vec::new();
    checks.push(match &facts.qemu {
        Ok(qemu) => ok("vmm", &format!("QEMU {} at {}", qemu.version, qemu.program.display())),
        Err(error) => failed("vmm", &chain(error), error.hint()),
    });
    checks.push(match (&facts.kernel, &facts.boot) {
        (Err(error), _) | (Ok(_), Some(Err(error))) => failed("guest kernel", &chain(error), error.hint()),
        (Ok(kernel), _) => ok("guest kernel", &format!("{} at {}", kernel.version, kernel.image.display())),
    });
    if let Some([kvm, tcg]) = &facts.probes {
        checks.push(match kvm {
            Ok(found) => ok("virtualization", found),
            Err(why) => {
                warning("virtualization", &format!("guests are emulated, which is slow: {why}"), KVM_HINT)
            }
        });
        checks.push(match (tcg, kvm) {
            (Ok(found), _) => ok("emulation", found),
            (Err(why), Ok(_)) => warning("emulation", why, EMULATION_HINT),
            (Err(why), Err(_)) => failed("emulation", why, Some(EMULATION_HINT.to_owned())),
        });
    }
    checks.push(limits(&facts.controllers));
    checks.push(match &facts.mkfs {
        Ok(path) => ok("mkfs.ext4", &path.display().to_string()),
        Err(error) => failed("mkfs.ext4", &chain(error), error.hint()),
    });
    checks
}

fn limits(controllers: &Controllers) -> Check {
    const NAME: &str = "limits";
    let version = if controllers.is_unified { 2 } else { 1 };
    let found = |list: &str| format!("control groups version {version} without {list}");
    match (controllers.missing.as_slice(), controllers.has_cpu) {
        ([], true) => ok(NAME, &format!("control groups version {version} with memory, pids and cpu")),
        ([], false) => warning(
            NAME,
            &format!("{}: `cpus` of a task is no ceiling here", found("cpu")),
            "use a kernel with CONFIG_CFS_BANDWIDTH, as every distribution's is",
        ),
        (missing, _) => failed(NAME, &found(&missing.join(" and ")), Some(CGROUP_HINT.to_owned())),
    }
}

fn network_check(finding: network::Finding) -> Check {
    Check {
        name: "network".to_owned(),
        verdict: match finding.severity {
            network::Severity::Good => Verdict::Ok,
            network::Severity::Warning => Verdict::Warning,
            network::Severity::Failure => Verdict::Failed,
        },
        found: finding.text,
        hint: finding.hint,
    }
}

fn disk_check(data: &Path) -> Check {
    // The folder may not be there yet: then the disk of the nearest parent that is.
    let existing = data.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(existing) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            return failed("disk", &format!("{} cannot be looked at: {error}", data.display()), None);
        }
    };
    let found = format!("{} free for {}", space(free), data.display());
    let hint = Some("free space on that disk, or choose another with `lith up --data-dir`".to_owned());
    if free < FREE_BYTES_LEAST {
        failed("disk", &found, hint)
    } else if free < FREE_BYTES_LOW {
        Check { hint, ..warning("disk", &found, "") }
    } else {
        ok("disk", &found)
    }
}

/// Bytes for a person; what is less than some GiB is worth a closer look.
fn space(bytes: u64) -> String {
    const WHOLE_GIB: u64 = 10;
    let gib = bytes >> 30;
    if gib >= WHOLE_GIB { format!("{gib} GiB") } else { format!("{} MiB", bytes >> 20) }
}

fn warning(name: &str, found: &str, hint: &str) -> Check {
    Check { verdict: Verdict::Warning, hint: Some(hint.to_owned()), ..ok(name, found) }
}

fn ok(name: &str, found: &str) -> Check {
    Check { name: name.to_owned(), verdict: Verdict::Ok, found: found.to_owned(), hint: None }
}

fn failed(name: &str, found: &str, hint: Option<String>) -> Check {
    Check { name: name.to_owned(), verdict: Verdict::Failed, found: found.to_owned(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_reads_well() {
        for (bytes, words) in [(300 << 20, "300 MiB"), (5 << 30, "5120 MiB"), (75 << 30, "75 GiB")] {
            assert_eq!(space(bytes), words);
        }
    }

    #[test]
    fn what_cannot_be_limited_is_said() {
        let check = |missing: &[&'static str], has_cpu, verdict, found: &str| {
            let controllers = Controllers { is_unified: true, missing: missing.to_vec(), has_cpu };
            let check = limits(&controllers);
            assert_eq!((check.verdict, check.found.as_str()), (verdict, found));
            assert_eq!(check.hint.is_some(), verdict != Verdict::Ok);
        };
        check(&[], true, Verdict::Ok, "control groups version 2 with memory, pids and cpu");
        let words = "control groups version 2 without cpu: `cpus` of a task is no ceiling here";
        check(&[], false, Verdict::Warning, words);
        check(&["memory"], true, Verdict::Failed, "control groups version 2 without memory");
    }
}
