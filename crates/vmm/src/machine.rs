//! A microVM as a value, and the trait through which one is started. Owns the words for machines that every VMM
//! shares; how a particular VMM is told about them is in its driver. It must not know what runs in the guest.

pub mod accelerator;
pub mod qemu;
mod sys;

use crate::jail::{JailError, Process};
use crate::kernel::BootFiles;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// User and group ID of slot 0; those of a task follow from its slot.
pub const UID_BASE: u32 = 2_000_000_000;

/// Frequency of this machine's time stamp counter, kHz, where it has one. Takes 0.2 s where the processor does not say
/// it; [`accelerator::choose`] remembers it.
pub fn tsc_khz() -> Option<u64> {
    sys::tsc_khz()
}

/// How the guest's instructions are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// By the processor, through the kernel's KVM.
    Kvm,
    /// By emulation: slow, but everywhere.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "TCG",
        })
    }
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// What is behind it.
    pub source: DriveSource,
    /// By this the guest finds it; at most 20 bytes (the limit of virtio-blk).
    pub serial: String,
}

/// What is behind a block device.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriveSource {
    /// A raw image. It is opened here, as root, and handed over open: the VMM's user needs no right to it.
    File {
        /// The file.
        path: PathBuf,
        /// Whether the guest may not write.
        is_read_only: bool,
    },
    /// A process that serves a disk over vhost-user, and says itself what its serial is.
    Served {
        /// The socket on which it listens.
        socket: PathBuf,
        /// Queues that it has; the guest uses one for each of its processors, if there are so many.
        queues: u16,
    },
}

/// A microVM to start.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// Shown in process lists; letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Virtual processors.
    pub vcpus: u8,
    /// The guest's memory, MiB.
    pub memory_mib: u32,
    /// Kernel and initramfs.
    pub boot: BootFiles,
    /// Disks.
    pub drives: Vec<Drive>,
    /// Hardware address of the guest's network interface, when it has one.
    pub mac: Option<[u8; 6]>,
    /// How instructions are run.
    pub accelerator: Accelerator,
    /// Frequency of the host's time stamp counter, kHz: an emulated guest hangs now and then in measuring it.
    pub tsc_khz: Option<u64>,
    /// User and group of the VMM.
    pub uid: u32,
    /// An empty folder for the jail's root.
    pub jail_root: PathBuf,
    /// Control groups to join (`cgroup.procs` files).
    pub cgroups: Vec<PathBuf>,
}

/// A running microVM. Dropping it ends it.
#[derive(Debug)]
pub struct Machine {
    /// The VMM.
    pub process: Process,
    /// The byte stream to the guest, non-blocking. What comes out of it is hostile.
    pub channel: OwnedFd,
    /// What the guest writes to its console, non-blocking. Unbounded and hostile.
    pub console: OwnedFd,
    /// What the VMM itself complains about, non-blocking.
    pub complaints: OwnedFd,
}

/// An open TAP device. VMMs differ in which of both they take.
#[derive(Debug)]
pub struct Tap {
    /// Its name on the host.
    pub name: String,
    /// The device itself.
    pub descriptor: OwnedFd,
}

/// An installed VMM, as it is written into a supervisor's configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vmm {
    /// QEMU.
    Qemu(qemu::Qemu),
}

impl Vmm {
    /// How it is driven.
    #[must_use]
    pub fn driver(&self) -> &dyn Driver {
        match self {
            Vmm::Qemu(qemu) => qemu,
        }
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Vmm::Qemu(qemu) => write!(formatter, "QEMU {}", qemu.version),
        }
    }
}

/// A kind of VMM.
pub trait Driver {
    /// Its name, as people know it.
    fn name(&self) -> &'static str;

    /// What it needs on top of the guest's memory, bytes: for the ceiling of the control group.
    fn overhead_bytes(&self) -> u64;

    /// Starts a machine in its jail. `tap` belongs to the network interface that `spec` declares. The machine ends with
    /// the calling thread.
    ///
    /// # Errors
    /// A file cannot be opened, or the jail cannot be made. That the guest boots is not waited for.
    fn start(&self, spec: &MachineSpec, tap: Option<Tap>) -> Result<Machine, MachineError>;
}

/// Why a machine was not started.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// The VMM program is not installed.
    #[error("cannot find {program}")]
    NoProgram {
        /// Its file name.
        program: &'static str,
    },
    /// The VMM program does not say its version.
    #[error("cannot ask {} for its version", program.display())]
    Version {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A disk cannot be opened.
    #[error("cannot open disk {}", path.display())]
    Drive {
        /// The image file or the socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The specification cannot be put into words of the VMM.
    #[error("cannot describe machine {name}: {problem}")]
    Spec {
        /// The machine.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The verdict on KVM cannot be remembered.
    #[error("cannot store {}", path.display())]
    Verdict {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Pipes or sockets could not be made.
    #[error("cannot make a channel for machine {name}")]
    Channel {
        /// The machine.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The jail could not be made.
    #[error("cannot jail machine {name}")]
    Jail {
        /// The machine.
        name: String,
        /// The step that failed.
        #[source]
        source: JailError,
    },
}

impl MachineError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            MachineError::NoProgram { program } => {
                Some(format!("install it (Debian: apt-get install {})", qemu::debian_package(program)))
            }
            MachineError::Jail { source, .. } => source.hint(),
            MachineError::Version { .. }
            | MachineError::Drive { .. }
            | MachineError::Verdict { .. }
            | MachineError::Spec { .. }
            | MachineError::Channel { .. } => None,
        }
    }
}
