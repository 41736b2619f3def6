//! Where everything lies: the data folder, which survives reboots, and the run folder, which does not.
//!
//! ```text
//! data/lith.lock              held by the daemon
//! data/lith.log               what a daemon in the background logs; lith.log.old is what it logged before
//! data/server/lith.db         the server's database
//! data/images/                the image store
//! data/kernel/                an unpacked kernel package, if the host's own kernel is not to be used
//! data/boot/                  kernels and initramfs made from them
//! data/volumes/ID/disk.img     a volume: it stays when its tasks and its job go
//! data/volumes/ID/content.erofs  what it starts with, until it has it
//! data/volumes/incoming/      the same on its way from a person
//! data/node/name              the node's name, from its first start on
//! data/node/desired.json      what the server last said this node should have
//! data/node/tasks.json        what the agent remembers of each task
//! data/node/network.json      the host's settings from before
//! data/node/tasks/ID/         a task: its scratch disk, log, and the report of its last boot
//! run/lith.sock               the API
//! run/tasks/SLOT/             a running task: its supervisor's socket
//! ```

use std::path::{Path, PathBuf};

use lith_core::name::{TaskId, VolumeId};
use lith_core::slot::Slot;

/// Enough of a path to tell folders apart, and short enough for a name.
const INSTANCE_CHARS_MAX: usize = 40;

/// The paths of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Survives reboots.
    pub data: PathBuf,
    /// Does not.
    pub run: PathBuf,
}

impl Layout {
    /// The layout below two folders.
    #[must_use]
    pub fn new(data: &Path, run: &Path) -> Self {
        Self { data: data.to_owned(), run: run.to_owned() }
    }

    /// Held by the daemon, so that there is one.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.data.join("lith.lock")
    }

    /// What a daemon in the background logs.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.data.join("lith.log")
    }

    /// What it logged before that.
    #[must_use]
    pub fn log_old(&self) -> PathBuf {
        self.data.join("lith.log.old")
    }

    /// The server's folder.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.data.join("server")
    }

    /// The server's database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.server().join("lith.db")
    }

    /// The image store.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Where an unpacked kernel package may lie.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.data.join("kernel")
    }

    /// Kernels and initramfs made ready.
    #[must_use]
    pub fn boot(&self) -> PathBuf {
        self.data.join("boot")
    }

    /// The disks of volumes.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }

    /// The folder of a volume.
    #[must_use]
    pub fn volume(&self, id: &VolumeId) -> PathBuf {
        self.volumes().join(id.to_string())
    }

    /// Its disk.
    #[must_use]
    pub fn volume_disk(&self, id: &VolumeId) -> PathBuf {
        self.volume(id).join("disk.img")
    }

    /// What it starts with.
    #[must_use]
    pub fn volume_content(&self, id: &VolumeId) -> PathBuf {
        self.volume(id).join("content.erofs")
    }

    /// What volumes start with, on its way from a person.
    #[must_use]
    pub fn incoming(&self) -> PathBuf {
        self.volumes().join("incoming")
    }

    /// The agent's folder.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        self.data.join("node")
    }

    /// What the node is called.
    #[must_use]
    pub fn name(&self) -> PathBuf {
        self.node().join("name")
    }

    /// What the server last said.
    #[must_use]
    pub fn desired(&self) -> PathBuf {
        self.node().join("desired.json")
    }

    /// What the agent remembers.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.node().join("tasks.json")
    }

    /// The host's network settings from before.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        self.node().join("network.json")
    }

    /// A task's folder, in which its log lies, too.
    #[must_use]
    pub fn task(&self, id: &TaskId) -> PathBuf {
        self.node().join("tasks").join(id.to_string())
    }

    /// Where running tasks have their folders.
    #[must_use]
    pub fn running_all(&self) -> PathBuf {
        self.run.join("tasks")
    }

    /// A running task's folder: short, for the path of a Unix socket is at most 107 bytes long.
    #[must_use]
    pub fn running(&self, slot: Slot) -> PathBuf {
        self.running_all().join(slot.to_string())
    }

    /// What tells this daemon's control groups from those of another on the same machine: nothing for the usual data
    /// folder, else the end of its path.
    #[must_use]
    pub fn instance(&self) -> String {
        if self.data == Path::new(lith_cli::DATA_DIR_DEFAULT) {
            return String::new();
        }
        let path = self.data.to_string_lossy();
        let plain = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
        let plain: Vec<char> = plain.collect();
        plain[plain.len().saturating_sub(INSTANCE_CHARS_MAX)..].iter().collect()
    }

    /// The API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run.join(lith_cli::SOCKET_NAME)
    }
}
