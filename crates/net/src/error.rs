//! What can go wrong while the network is brought to a state.

use std::io;
use std::path::PathBuf;

use crate::command::CommandError;
use crate::state::StateError;
use crate::tap::TapError;

/// The network could not be brought to a state. What was done stays; applying again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The state is impossible; nothing was changed.
    #[error("put the network state in force")]
    State(#[source] StateError),
    /// Guests of another lith run on this machine; nothing was changed.
    #[error("another lith runs tasks on this machine, with its data in {owner}")]
    Foreign {
        /// Its data folder.
        owner: String,
    },
    /// A program failed.
    #[error("{purpose}")]
    Command {
        /// What it was run for.
        purpose: &'static str,
        /// What happened.
        #[source]
        source: CommandError,
    },
    /// A program answered in a form that we do not know.
    #[error("{purpose}: understand the answer of ip")]
    Answer {
        /// What it was run for.
        purpose: &'static str,
        /// What is wrong with the answer.
        #[source]
        source: serde_json::Error,
    },
    /// A TAP could not be created or opened.
    #[error("prepare the guests' devices")]
    Tap(#[source] TapError),
    /// A kernel setting could not be read or written.
    #[error("kernel setting {path}")]
    Setting {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file that remembers what the host's settings were.
    #[error("network state file {}", path.display())]
    StateFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The addresses of the host could not be read.
    #[error("read the addresses of this machine")]
    Addresses(#[source] io::Error),
    /// Flows that are over could not be forgotten.
    #[error("forget former connections")]
    Conntrack(#[source] io::Error),
}

impl NetworkError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::State(source) => source.hint(),
            Self::Foreign { owner } => Some(format!("stop them with `lith down --data-dir {owner}`")),
            Self::Command { source, .. } => source.hint(),
            Self::Tap(source) => source.hint(),
            Self::Answer { .. } => Some("lith needs iproute2 5.0 or newer; see `ip -V`".into()),
            Self::Setting { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("run as root, with /proc/sys writable".into())
            }
            Self::Setting { .. } => Some("run `lith doctor` to see what this kernel lacks".into()),
            Self::StateFile { path, .. } => {
                Some(format!("see that {} can be written, and that its disk is not full", path.display()))
            }
            Self::Addresses(_) => None,
            Self::Conntrack(_) => {
                Some("the kernel needs nf_conntrack_netlink: modprobe nf_conntrack_netlink".into())
            }
        }
    }
}
