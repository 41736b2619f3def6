//! What a job says about the machine around its process. Owns the form in which the guest is told; what each setting
//! means to a person is in `lith-core`. Everything here comes from the host, which the guest trusts: it was checked there.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::health::Check;

/// The machine around the process. What is not said is as `docker run` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Further groups of the process, by name or number.
    pub groups: Vec<String>,
    /// Where `/etc/localtime` leads, below `/usr/share/zoneinfo`, if the image has that.
    pub timezone: Option<String>,
    /// File systems in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Size of `/dev/shm`, bytes; half the memory when none.
    pub shm_bytes: Option<u64>,
    /// Whether the root file system is read-only for the process.
    pub is_read_only: bool,
    /// Files that the job brings along.
    pub files: Vec<SmallFile>,
    /// Disks that are mounted below the root.
    pub disks: Vec<Disk>,
    /// Limits of the process by their names without `RLIMIT_`, in lower case.
    pub limits: BTreeMap<String, Limit>,
    /// Settings of the kernel, such as `net.core.somaxconn`.
    pub sysctls: BTreeMap<String, String>,
    /// How the task's health is asked for; not at all when none.
    pub health: Option<Check>,
    /// Devices whose modules are loaded only when they are asked for.
    pub devices: Vec<Device>,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where; absolute.
    pub target: String,
    /// Ceiling, bytes; half the memory when none.
    pub size_bytes: Option<u64>,
    /// Permissions of its root.
    pub mode: u32,
}

/// A disk that is mounted below the root: ext4, of which `/data` is shown, so that what lith notes beside it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its serial.
    pub serial: String,
    /// Where; absolute.
    pub target: String,
    /// Whether the process may only read.
    pub is_read_only: bool,
    /// What it holds at first.
    #[serde(default)]
    pub start: Start,
}

/// What a new volume holds at first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// What the image has at its place.
    #[default]
    Image,
    /// What the disk of this serial, EROFS, holds.
    Content(String),
    /// What is not here any more, for the volume has it; with anything else it must not start.
    Nothing,
}

/// A file that the job brings along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallFile {
    /// Where; absolute.
    pub target: String,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
    /// Whether the process may change it.
    pub is_writable: bool,
    /// What it holds.
    pub content: Content,
}

/// What a file holds, in base64 on the wire. Not shown by `Debug`: it may be a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content(pub Vec<u8>);

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Content({} bytes)", self.0.len())
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Content, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Content).map_err(D::Error::custom)
    }
}

/// A limit of a process; none is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What the process starts with.
    pub soft: Option<u64>,
    /// How far it may raise that.
    pub hard: Option<u64>,
}

/// A device of the guest's own kernel, whose module is loaded only when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// File systems in user space.
    Fuse,
    /// Network interfaces in user space.
    Tun,
}

impl Device {
    /// Every one.
    pub const ALL: [Device; 2] = [Device::Fuse, Device::Tun];

    /// The kernel module that makes it.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Device::Fuse => "fuse",
            Device::Tun => "tun",
        }
    }

    /// Where it appears.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Device::Fuse => "/dev/fuse",
            Device::Tun => "/dev/net/tun",
        }
    }

    /// The folder of the initramfs in which its modules are, named in the order of loading.
    #[must_use]
    pub fn folder(self) -> String {
        format!("modules-{}", self.module())
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, Settings, SmallFile};
    use crate::messages::from_json;

    #[test]
    fn a_file_survives_the_wire_and_is_not_shown() {
        let content = Content((0..=255).collect());
        let target = "/run/secrets/key".to_owned();
        let file = SmallFile { target, uid: 1, gid: 2, mode: 0o400, is_writable: false, content };
        let settings = Settings { files: vec![file], ..Settings::default() };
        let json = serde_json::to_vec(&settings).unwrap();
        assert_eq!(from_json::<Settings>(&json).unwrap(), settings);
        assert!(format!("{settings:?}").contains("Content(256 bytes)"), "{settings:?}");
        assert!(from_json::<Content>(br#""no base64!""#).is_err());
    }

    #[test]
    fn nothing_said_is_nothing_set() {
        assert_eq!(from_json::<Settings>(b"{}").unwrap(), Settings::default());
    }
}
