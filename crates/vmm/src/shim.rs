//! The supervisor of one boot of one task: starts its machine, speaks with its guest, keeps its log, answers the node's
//! agent on a socket, and leaves a durable record of how it ended. It outlives the agent. Owns the task's two folders
//! while it runs. It must not restart anything: that is the agent's decision.
//!
//! One thread and one `poll` loop: the whole of it has to fit a few MB per task.

mod client;
mod connection;
mod guest_link;
mod launch;
mod life;
mod output;
mod protocol;
mod record;
mod supervisor;
mod sys;

use crate::kernel::BootFiles;
use crate::log::Rotation;
use crate::machine::{Accelerator, Drive, DriveSource, MachineSpec, UID_BASE, Vmm};
use lith_guest::messages::BootConfig;
use std::io;
use std::path::{Path, PathBuf};

pub use client::{Client, ClientError, Piece, Session, SessionReader, SessionWriter, Watch};
pub use launch::{complaint, launch, main};
pub use life::{Ending, TaskState};
pub use record::{ExitRecord, Found, find, forget, kill};

/// Slots are numbered from 1 to this; user IDs and addresses follow from them.
pub const SLOT_MAX: u16 = 4000;

/// Everything a supervisor must know, written to a file by the agent.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ShimConfig {
    /// Names the machine in process lists and its control group; unique on the node. Letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// The task's small number on this node, from 1 to [`SLOT_MAX`].
    pub slot: u16,
    /// Durable folder of the task: log, console, exit record, lock. Outlives this boot.
    pub task_dir: PathBuf,
    /// Folder for the socket and the jail, on a file system that a reboot empties. Short: a socket's path has at most
    /// 107 bytes.
    pub run_dir: PathBuf,
    /// The VMM.
    pub vmm: Vmm,
    /// Guest kernel release.
    pub kernel_version: String,
    /// Guest kernel image.
    pub kernel: PathBuf,
    /// Guest initramfs.
    pub initramfs: PathBuf,
    /// How instructions are run.
    pub accelerator: Accelerator,
    /// Frequency of the time stamp counter, kHz.
    pub tsc_khz: Option<u64>,
    /// Virtual processors.
    pub vcpus: u8,
    /// Ceiling on processor time, thousandths of a processor.
    pub cpu_millis: u32,
    /// Guest memory, MiB.
    pub memory_mib: u32,
    /// The image's root file system, EROFS; never written.
    pub root_image: PathBuf,
    /// The scratch disk, ext4.
    pub scratch: PathBuf,
    /// Further disks, which the guest's settings name by their serials: ext4, and EROFS for what one starts with.
    #[serde(default)]
    pub volumes: Vec<VolumeDisk>,
    /// The sockets of the processes that serve these disks. When one ends the machine does, for a guest that waits for its
    /// disk waits for ever.
    #[serde(default)]
    pub disks_sockets: Vec<PathBuf>,
    /// What the guest is told. Its time and its seed are filled in by the supervisor, at the last moment.
    pub boot: BootConfig,
    /// Name of the TAP device that is handed over open, when the guest has a network.
    pub tap: Option<String>,
    /// How long the guest may take to start its process, milliseconds.
    pub boot_deadline_ms: u64,
    /// How long the process may take to stop by itself when the host goes down, milliseconds.
    pub stop_grace_ms: u64,
    /// How much of the log is kept.
    pub log: Rotation,
}

/// A volume of a task, or what it starts with: a disk beside its root.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VolumeDisk {
    /// What is behind it. A volume that the task may only read is written all the same: its journal is replayed, and its
    /// first content is copied there.
    pub source: DriveSource,
    /// By this the guest finds it.
    pub serial: String,
}

/// Why a supervisor could not do its work. How the task ended is no error: see [`ExitRecord`].
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// Another supervisor runs this task.
    #[error("task {name} has a supervisor already")]
    AlreadyRunning {
        /// The task.
        name: String,
    },
    /// The configuration cannot be used.
    #[error("cannot use the supervisor's configuration: {problem}")]
    Config {
        /// What is wrong.
        problem: String,
    },
    /// A file or socket could not be used.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ShimError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match self {
            ShimError::AlreadyRunning { .. } => Some("stop the task first".to_owned()),
            ShimError::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free space on the disk of lith's data".to_owned())
            }
            ShimError::Config { .. } | ShimError::File { .. } => None,
        }
    }

    fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShimError {
        let path = path.to_owned();
        move |source| ShimError::File { operation, path, source }
    }
}

impl ShimConfig {
    /// The socket on which the supervisor answers.
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.run_dir)
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// It cannot be read, or is no configuration.
    pub fn read(path: &Path) -> Result<ShimConfig, ShimError> {
        let json = std::fs::read(path).map_err(ShimError::file("read", path))?;
        serde_json::from_slice(&json).map_err(|error| ShimError::Config { problem: error.to_string() })
    }

    fn check(&self) -> Result<(), ShimError> {
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        let problem = if !(1..=SLOT_MAX).contains(&self.slot) {
            format!("slot {} is not from 1 to {SLOT_MAX}", self.slot)
        } else if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(plain) {
            format!("{:?} is no name of a machine", self.name)
        } else if self.vcpus == 0 || self.memory_mib == 0 {
            "a machine needs a processor and memory".to_owned()
        } else {
            return Ok(());
        };
        Err(ShimError::Config { problem })
    }

    fn machine(&self, jail_root: &Path, cgroups: Vec<PathBuf>) -> MachineSpec {
        let drive = |path: &Path, is_read_only, serial: &str| Drive {
            source: DriveSource::File { path: path.to_owned(), is_read_only },
            serial: serial.to_owned(),
        };
        let volume =
            |volume: &VolumeDisk| Drive { source: volume.source.clone(), serial: volume.serial.clone() };
        MachineSpec {
            name: format!("lith-{}", self.name),
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            boot: BootFiles {
                version: self.kernel_version.clone(),
                kernel: self.kernel.clone(),
                initramfs: self.initramfs.clone(),
            },
            drives: [
                drive(&self.root_image, true, &self.boot.root_serial),
                drive(&self.scratch, false, &self.boot.scratch_serial),
            ]
            .into_iter()
            .chain(self.volumes.iter().map(volume))
            .collect(),
            mac: self.boot.network.as_ref().map(|network| network.mac.0),
            accelerator: self.accelerator,
            tsc_khz: self.tsc_khz,
            uid: UID_BASE + u32::from(self.slot),
            jail_root: jail_root.to_owned(),
            cgroups,
        }
    }
}

/// The socket in a task's run folder.
pub fn socket_in(run_dir: &Path) -> PathBuf {
    run_dir.join("shim.sock")
}
