//! What a task may reach: other tasks, and the world outside the cluster. And what is offered of it by name.

use std::fmt;
use std::net::IpAddr;

use super::{Port, Transport};
use crate::name::{JobName, TaskName};

/// Most entries of `connects`, `egress`, `expose` or `hosts` of one task.
pub const ENTRIES_MAX: usize = 200;

/// The right to reach a task: `redis`, `db:5432`, `postgres/db:5432`, `api:* as backend`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connect {
    /// The job of the target; this one when `None`.
    pub job: Option<JobName>,
    /// The target.
    pub task: TaskName,
    /// Which of its ports.
    pub ports: ConnectPorts,
    /// A further name by which this task finds the target.
    pub alias: Option<String>,
}

/// Ports of a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectPorts {
    /// Those that it declares in `ports`.
    Declared,
    /// Every one, written `*`.
    Any,
    /// These alone.
    One(Port),
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(job) = &self.job {
            write!(f, "{job}/")?;
        }
        write!(f, "{}", self.task)?;
        match &self.ports {
            ConnectPorts::Declared => {}
            ConnectPorts::Any => f.write_str(":*")?,
            ConnectPorts::One(port) => write!(f, ":{port}")?,
        }
        match &self.alias {
            Some(alias) => write!(f, " as {alias}"),
            None => Ok(()),
        }
    }
}

/// Most bits per second that a task sends, and that it receives: each way has as much. Displays as `50M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bandwidth(pub u64);

/// Least bandwidth of a task: below it, connections do not come about.
pub const BANDWIDTH_MIN: Bandwidth = Bandwidth(64_000);
/// Greatest bandwidth that can be said: 100 Gbit/s.
pub const BANDWIDTH_MAX: Bandwidth = Bandwidth(100_000_000_000);

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (scale, unit) in [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")] {
            if self.0 >= scale && self.0.is_multiple_of(scale) {
                return write!(f, "{}{unit}", self.0 / scale);
            }
        }
        self.0.fmt(f)
    }
}

/// What a task may reach outside the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Egress {
    /// Every public address: none that is private, link-local, or of the cluster.
    Internet,
    /// A host by name, or with `*.` in front all names below it; every port when `None`.
    Name {
        /// The name, in lower case.
        name: String,
        /// The only port.
        port: Option<Port>,
    },
    /// Addresses: one, or a network.
    Network {
        /// First address of the network.
        address: IpAddr,
        /// Length of its prefix in bits.
        prefix: u8,
        /// The only port.
        port: Option<Port>,
    },
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = match self {
            Self::Internet => return f.write_str("internet"),
            Self::Name { name, port } => {
                f.write_str(name)?;
                port
            }
            Self::Network { address, prefix, port } => {
                let is_bracketed = address.is_ipv6() && port.is_some();
                let whole = if address.is_ipv4() { 32 } else { 128 };
                let length = if *prefix == whole { String::new() } else { format!("/{prefix}") };
                if is_bracketed {
                    write!(f, "[{address}{length}]")?
                } else {
                    write!(f, "{address}{length}")?
                }
                port
            }
        };
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A name under which a port of a task is offered to people's browsers: `photos.example.org:8080`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Expose {
    /// The host name, in lower case.
    pub host: String,
    /// The port of the task that answers.
    pub port: u16,
}

impl fmt::Display for Expose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Connect {
    /// The right to reach the declared ports of a task of the same job.
    #[must_use]
    pub fn to(task: TaskName) -> Self {
        Self { job: None, task, ports: ConnectPorts::Declared, alias: None }
    }

    /// Whether this right covers a port that the target declares.
    #[must_use]
    pub fn covers(&self, number: u16, transport: Transport) -> bool {
        match &self.ports {
            ConnectPorts::Declared | ConnectPorts::Any => true,
            ConnectPorts::One(port) => port.holds(number, transport),
        }
    }
}
