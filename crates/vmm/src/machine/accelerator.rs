//! Whether this machine can run guests with KVM, found out by booting one. Owns the verdict and its memory on disk. A
//! `/dev/kvm` that opens proves nothing: nested virtualization that is switched off fails later, or hangs.

use super::qemu::Qemu;
use super::{Accelerator, Driver, MachineError, MachineSpec, UID_BASE, sys};
use crate::durable;
use crate::kernel::BootFiles;
use lith_core::chain::chain;
use lith_guest::messages::{GuestMessage, from_json};
use lith_guest::wire::{Body, Decoder, Role};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::path::Path;
use std::time::{Duration, Instant};

/// A guest under working KVM says hello in less than a second; nested and on a busy machine, in a few.
const PROBE_DEADLINE: Duration = Duration::from_secs(10);
/// An emulated one does in two; here on a small and busy machine.
const EMULATED_PROBE_DEADLINE: Duration = Duration::from_secs(60);
/// Memory of the probe machine, MiB: what the smallest task gets.
const PROBE_MEMORY_MIB: u32 = 128;
/// Name of the file with the verdict.
const FILE: &str = "accelerator.json";
/// What the VMM said that is kept as a reason.
const REASON_BYTES_MAX: usize = 1024;
const KVM_DEVICE: &str = "/dev/kvm";

/// How this machine runs guests, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// What to use.
    pub accelerator: Accelerator,
    /// A sentence for people.
    pub reason: String,
    /// Frequency of the time stamp counter, kHz, where there is one.
    pub tsc_khz: Option<u64>,
    /// What the verdict holds for: VMM, guest kernel, and this boot of the host.
    holds_for: String,
}

/// The verdict for this machine: the one remembered in `folder` when nothing has changed since, else a new one, found
/// by booting a probe machine with KVM. Remembered is only what a probe proved: a device that is not there may be there
/// at the next start, and a probe that took too long may only have met a busy moment.
///
/// # Errors
/// The verdict cannot be stored. That KVM does not work is a verdict, no error.
pub fn choose(qemu: &Qemu, boot: &BootFiles, folder: &Path) -> Result<Verdict, MachineError> {
    let holds_for = format!("{} {} {}", qemu.version, boot.initramfs.display(), host_boot_id());
    let verdict = |accelerator, reason| Verdict {
        accelerator,
        reason,
        tsc_khz: sys::tsc_khz(),
        holds_for: holds_for.clone(),
    };
    if let Err(reason) = look_for_kvm() {
        return Ok(verdict(Accelerator::Tcg, reason));
    }
    let path = folder.join(FILE);
    if let Some(verdict) = remembered(&path).filter(|verdict| verdict.holds_for == holds_for) {
        return Ok(verdict);
    }
    let store_error = |source| MachineError::Verdict { path: path.clone(), source };
    std::fs::create_dir_all(folder).map_err(store_error)?;
    let verdict = match probe(qemu, boot, folder, Accelerator::Kvm, PROBE_DEADLINE) {
        Ok(took) => verdict(Accelerator::Kvm, booted(Accelerator::Kvm, took)),
        Err(ProbeError { reason, is_late: true }) => return Ok(verdict(Accelerator::Tcg, reason)),
        Err(ProbeError { reason, is_late: false }) => verdict(Accelerator::Tcg, reason),
    };
    let json = serde_json::to_vec_pretty(&verdict).map_err(|error| store_error(error.into()))?;
    durable::write(&path, &json, 0o644).map_err(store_error)?;
    Ok(verdict)
}

/// Whether probe machines boot with KVM and with emulation now, and why not; nothing is remembered.
pub fn examine(qemu: &Qemu, boot: &BootFiles, folder: &Path) -> [Result<String, String>; 2] {
    let try_out = |accelerator, deadline| {
        let took = probe(qemu, boot, folder, accelerator, deadline).map_err(|error| error.reason)?;
        Ok(booted(accelerator, took))
    };
    let kvm = look_for_kvm().and_then(|()| try_out(Accelerator::Kvm, PROBE_DEADLINE));
    [kvm, try_out(Accelerator::Tcg, EMULATED_PROBE_DEADLINE)]
}

fn booted(accelerator: Accelerator, took: Duration) -> String {
    format!("a probe machine booted with {accelerator} in {:.1} s", took.as_secs_f64())
}

/// A verdict that cannot be read is made anew.
fn remembered(path: &Path) -> Option<Verdict> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Modules and settings of KVM change with a boot of the host.
fn host_boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Whether it is worth a probe.
fn look_for_kvm() -> Result<(), String> {
    if !Path::new(KVM_DEVICE).exists() {
        return Err(format!("there is no {KVM_DEVICE}"));
    }
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(KVM_DEVICE);
    opened.map(drop).map_err(|error| format!("{KVM_DEVICE} does not open: {error}"))
}

/// Why a probe machine did not boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeError {
    /// A sentence.
    pub reason: String,
    /// It had not failed, but not come far enough either.
    pub is_late: bool,
}

impl From<String> for ProbeError {
    fn from(reason: String) -> Self {
        Self { reason, is_late: false }
    }
}

/// Boots a machine without disks and waits until its PID 1 says hello.
///
/// # Errors
/// A sentence that says what happened instead.
pub fn probe(
    driver: &dyn Driver,
    boot: &BootFiles,
    folder: &Path,
    accelerator: Accelerator,
    deadline: Duration,
) -> Result<Duration, ProbeError> {
    let started = Instant::now();
    let jail_root =
        tempfile::tempdir_in(folder).map_err(|error| format!("no folder for a probe machine: {error}"))?;
    let spec = MachineSpec {
        name: "lith-probe".to_owned(),
        vcpus: 1,
        memory_mib: PROBE_MEMORY_MIB,
        boot: boot.clone(),
        drives: Vec::new(),
        mac: None,
        accelerator,
        tsc_khz: if accelerator == Accelerator::Tcg { sys::tsc_khz() } else { None },
        uid: UID_BASE,
        jail_root: jail_root.path().to_owned(),
        cgroups: Vec::new(),
    };
    let mut machine = driver.start(&spec, None).map_err(|error| chain(&error))?;
    let mut decoder = Decoder::new(Role::Host);
    let mut buffer = [0; 4096];
    while let Some(left) = deadline.checked_sub(started.elapsed()) {
        wait_for(&machine, left)?;
        // The console is read so that the guest does not stop at a full pipe; what it says is of no interest.
        while rustix::io::read(&machine.console, &mut buffer).is_ok_and(|count| count > 0) {}
        let count = rustix::io::read(&machine.channel, &mut buffer).unwrap_or_default();
        let mut input = &buffer[..count];
        while let Some(frame) = decoder.next_frame(&mut input).map_err(|error| chain(&error))? {
            let Body::Control(json) = frame.body else { continue };
            if matches!(from_json(&json), Ok(GuestMessage::Hello { .. })) {
                return Ok(started.elapsed());
            }
        }
        if let Ok(Some(status)) = machine.process.try_wait() {
            let count = rustix::io::read(&machine.complaints, &mut buffer).unwrap_or_default();
            let complaint = complaint(&buffer[..count.min(REASON_BYTES_MAX)]);
            return Err(format!("a probe machine with {accelerator} ended with {status}{complaint}").into());
        }
    }
    let reason = format!("a probe machine with {accelerator} did not boot within {} s", deadline.as_secs());
    Err(ProbeError { reason, is_late: true })
}

fn wait_for(machine: &super::Machine, left: Duration) -> Result<(), String> {
    let mut fds = [
        PollFd::from_borrowed_fd(machine.process.pidfd(), PollFlags::IN),
        PollFd::new(&machine.channel, PollFlags::IN),
        PollFd::new(&machine.console, PollFlags::IN),
    ];
    let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(format!("cannot wait for a probe machine: {error}")),
    }
}

/// The line that says what went wrong, out of warnings and consequences.
fn complaint(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().find(|line| line.contains("error:")).or(text.lines().next_back());
    line.map(|line| format!(": {}", lith_guest::messages::clean(line.trim()))).unwrap_or_default()
}
