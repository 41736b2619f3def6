//! `lith doctor`: what the machine offers, what it lacks, and how to repair each.

use std::path::{Path, PathBuf};

use lith_api::node::{Check, Verdict};
use lith_net::{GuestNetwork, doctor as network};
use lith_vmm::doctor as machines;
use lith_vmm::machine::Accelerator;

use crate::agent::AgentConfig;
use crate::chain::chain;
use crate::layout::Layout;

/// Below this, images and scratch disks soon fill the disk.
const FREE_BYTES_LOW: u64 = 5 << 30;
/// Below this, nothing can be pulled or started.
const FREE_BYTES_LEAST: u64 = 500 << 20;

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

    /// Every check. May boot a probe machine, which takes seconds the first time.
    pub async fn examine(&self) -> Vec<Check> {
        let doctor = self.clone();
        let checks = tokio::task::spawn_blocking(move || doctor.examine_blocking()).await;
        checks.unwrap_or_else(|error| vec![failed("doctor", &format!("a check failed: {error}"), None)])
    }

    /// What else of this machine may keep published ports from being reached, in sentences.
    pub async fn firewalls(&self) -> Vec<String> {
        let findings = tokio::task::spawn_blocking(network::other_firewalls).await.unwrap_or_default();
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
    match &facts.accelerator {
        None => {}
        Some(Err(error)) => checks.push(failed("virtualization", &chain(error), error.hint())),
        Some(Ok(verdict)) => checks.push(match verdict.accelerator {
            Accelerator::Kvm => ok("virtualization", &format!("KVM: {}", verdict.reason)),
            Accelerator::Tcg => Check {
                name: "virtualization".to_owned(),
                verdict: Verdict::Warning,
                found: format!("TCG emulation, which is slow: {}", verdict.reason),
                hint: Some(
                    "on your own hardware, switch on virtualization (VT-x, AMD-V) in the firmware; \
                     on a rented machine, ask for nested virtualization"
                        .to_owned(),
                ),
            },
        }),
    }
    checks.push(match &facts.mkfs {
        Ok(path) => ok("mkfs.ext4", &path.display().to_string()),
        Err(error) => failed("mkfs.ext4", &chain(error), error.hint()),
    });
    checks
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
    let found = format!("{} GiB free for {}", free >> 30, data.display());
    let hint = Some("free space on that disk, or choose another with `lith up --data-dir`".to_owned());
    if free < FREE_BYTES_LEAST {
        failed("disk", &found, hint)
    } else if free < FREE_BYTES_LOW {
        Check { name: "disk".to_owned(), verdict: Verdict::Warning, found, hint }
    } else {
        ok("disk", &found)
    }
}

fn ok(name: &str, found: &str) -> Check {
    Check { name: name.to_owned(), verdict: Verdict::Ok, found: found.to_owned(), hint: None }
}

fn failed(name: &str, found: &str, hint: Option<String>) -> Check {
    Check { name: name.to_owned(), verdict: Verdict::Failed, found: found.to_owned(), hint }
}
