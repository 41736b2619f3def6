//! Where everything lies: the data folder, which survives reboots, and the run folder, which does not.
//!
//! ```text
//! data/lith.lock              held by the daemon
//! data/lith.log               what a daemon in the background logs; lith.log.old is what it logged before
//! data/server/lith.db         the server's database
//! data/images/                the image store
//! data/kernel/                an unpacked kernel package, if the host's own kernel is not to be used
//! data/boot/                  kernels and initramfs made from them
//! POOL/.lith-pool             which pool this is, so that an empty mount point is not taken for it
//! POOL/ID/disk.img            a volume: it stays when its tasks and its job go; see `lith_volume::names` for the rest
//! POOL/ID/content.erofs       what it starts with, until it has it
//! POOL/removed/ID.TIME/       a volume that was removed, for a while
//! data/volumes/               the pool `default`, unless others are named
//! POOL/incoming/              what volumes start with, on its way from a person
//! POOL/.clone-*/              a clone that is not whole yet
//! data/node/pools.json        the identities of the pools
//! data/node/volumes.json      the volumes that were made, so that none is made anew where one is missing
//! data/node/name              the node's name, from its first start on
//! data/node/desired.json      what the server last said this node should have
//! data/node/tasks.json        what the agent remembers of each task
//! data/node/restore.json      a restore of volumes that has not ended
//! data/node/network.json      the host's settings from before
//! data/node/tasks/ID/         a task: its scratch disk, log, and the report of its last boot
//! run/lith.sock               the API
//! run/tasks/SLOT/             a running task: its supervisor's socket
//! run/disks/NUMBER/           a process that serves the volumes of an alloc: its sockets
//! run/resolver/               the resolver: its socket, its lock, what it says
//! ```

use std::path::{Path, PathBuf};

use lith_core::name::{PoolName, TaskId, VolumeId};
use lith_core::slot::Slot;

use crate::pools::Keeps;

/// Enough of a path to tell folders apart, and short enough for a name.
const INSTANCE_CHARS_MAX: usize = 40;

/// The name of the pool in the data folder.
const POOL_DEFAULT: &str = "default";

/// A folder for volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPath {
    /// What it is called.
    pub name: PoolName,
    /// Where it is.
    pub path: PathBuf,
    /// How much history its volumes keep.
    pub keeps: Keeps,
}

/// The paths of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Survives reboots.
    pub data: PathBuf,
    /// Does not.
    pub run: PathBuf,
    /// Where volumes lie; new ones in the first, unless they name another.
    pools: Vec<PoolPath>,
}

impl Layout {
    /// The layout below two folders.
    #[must_use]
    pub fn new(data: &Path, run: &Path) -> Self {
        let name = POOL_DEFAULT.parse().expect("it is a name");
        let pools = vec![PoolPath { name, path: data.join("volumes"), keeps: Keeps::default() }];
        Self { data: data.to_owned(), run: run.to_owned(), pools }
    }

    /// The same with further pools. If there are any, the first of them is where new volumes go.
    #[must_use]
    pub fn with_pools(mut self, pools: Vec<PoolPath>) -> Self {
        let taken = |pool: &PoolPath| pools.iter().any(|one| one.name == pool.name);
        self.pools.retain(|pool| !taken(pool));
        self.pools.splice(0..0, pools);
        self
    }

    /// All pools, the one for new volumes first.
    #[must_use]
    pub fn pools(&self) -> &[PoolPath] {
        &self.pools
    }

    /// The pool of a name, or the one for new volumes.
    #[must_use]
    pub fn pool(&self, name: Option<&PoolName>) -> Option<&PoolPath> {
        match name {
            Some(name) => self.pools.iter().find(|pool| pool.name == *name),
            None => self.pools.first(),
        }
    }

    /// The pool in which a volume lies.
    #[must_use]
    pub fn pool_of(&self, id: &VolumeId) -> Option<&PoolPath> {
        // A folder that cannot be looked at is there: it must not be made anew elsewhere.
        self.pools.iter().find(|pool| pool.path.join(id.to_string()).try_exists().unwrap_or(true))
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

    /// Where new volumes go.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.pools.first().map_or_else(|| self.data.join("volumes"), |pool| pool.path.clone())
    }

    /// The folder of a volume; of one that is not there, where it goes if it names no pool.
    #[must_use]
    pub fn volume(&self, id: &VolumeId) -> PathBuf {
        let pool = self.pool_of(id).map_or_else(|| self.volumes(), |pool| pool.path.clone());
        pool.join(id.to_string())
    }

    /// The identities of the pools.
    #[must_use]
    pub fn pool_identities(&self) -> PathBuf {
        self.node().join("pools.json")
    }

    /// The volumes that were made.
    #[must_use]
    pub fn volumes_made(&self) -> PathBuf {
        self.node().join("volumes.json")
    }

    /// A restore that must be carried to its end.
    #[must_use]
    pub fn restore(&self) -> PathBuf {
        self.node().join("restore.json")
    }

    /// Where processes that serve volumes have their folders.
    #[must_use]
    pub fn serving_all(&self) -> PathBuf {
        self.run.join("disks")
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

    /// The folder of the resolver.
    #[must_use]
    pub fn resolver(&self) -> PathBuf {
        self.run.join("resolver")
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
