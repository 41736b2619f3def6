//! `lith resolve`: the process that answers guests' questions for names, and its half without rights.
//!
//! Comes before everything else in `main`, as a supervisor does: it must stay small. What it does is `lith-dns`'s; here is
//! what only this crate may join to it: the jail of the half that reads what guests send, and the packet filter.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lith_core::chain::chain;
use lith_core::resolve::Opening;
use lith_core::slot::Slot;
use lith_dns::form::Hello;
use lith_dns::parent::{self, Config, Outside};
use lith_dns::{child, resolv_conf};
use lith_net::address::{GATEWAY, GATEWAY_6};
use lith_net::opened::{self, OpenError};
use lith_vmm::jail::cgroup::{Cgroup, Cpu, Limits};
use lith_vmm::jail::{self, Jail, Network, Process, Program, Tie};
use lith_vmm::machine::UID_BASE;
use serde::{Deserialize, Serialize};

use crate::agent::serving::OWN_PROGRAM;

/// The name of the subcommand.
pub const SUBCOMMAND: &str = "resolve";
/// The same for the half without rights.
const SUBCOMMAND_CHILD: &str = "resolve-child";

/// The user of the half without rights: no slot leads to it, and nothing else runs as it.
pub(crate) const USER: u32 = UID_BASE + 65_000;
/// Its memory: a cache of some megabytes, and the longest answers that it may read at a time.
const MEMORY_BYTES_MAX: u64 = 256 << 20;
/// Its threads: one does all, and the library may want some.
const PROCESSES_MAX: u32 = 32;
/// Its share of processor time beside a guest: the same.
const CPU_WEIGHT: u32 = 100;
/// Connections and questions to other resolvers, all at their limits, are half of it.
const OPEN_FILES_MAX: u64 = 4_096;
/// Most that it may write, which is what it says.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// The first descriptor that it inherits beside the standard ones.
const DESCRIPTOR_FIRST: usize = 3;

pub(crate) const LOG: &str = "log";
const CHILD_LOG: &str = "child.log";
const JAIL: &str = "jail";
const SOCKET: &str = "control.sock";
const LOCK: &str = "lock";

/// Which of the two processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Root's.
    Parent,
    /// The one without rights.
    Child,
}

impl Half {
    /// The half that the first argument names, if it names one.
    #[must_use]
    pub fn of(argument: &OsStr) -> Option<Self> {
        match argument.to_str()? {
            SUBCOMMAND => Some(Self::Parent),
            SUBCOMMAND_CHILD => Some(Self::Child),
            _ => None,
        }
    }
}

/// The one line that the process says on its standard output, to whoever started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Begun {
    /// It answers.
    Answers(Hello),
    /// It does not, for this reason.
    Failed(String),
}

/// The whole of the process. Arguments of the parent: its folder, and the name of the other half's control group.
#[must_use]
pub fn main(half: Half, arguments: &[String]) -> ExitCode {
    match (half, arguments) {
        (Half::Child, descriptors) => child::main(descriptors),
        (Half::Parent, [folder, cgroup]) => run(Path::new(folder), cgroup),
        (Half::Parent, _) => ExitCode::FAILURE,
    }
}

fn run(folder: &Path, cgroup: &str) -> ExitCode {
    // A session of its own: what is meant for whoever started the daemon is not for it. It fails only where it is one.
    let _ = rustix::process::setsid();
    let config = Config {
        socket: socket(folder),
        lock: lock(folder),
        addresses: vec![GATEWAY.into(), GATEWAY_6.into()],
        resolv_conf: PathBuf::from(resolv_conf::PATH),
        user: USER,
    };
    let outside =
        Outside { start: Box::new(|descriptors| start(folder, cgroup, descriptors)), open: Box::new(open) };
    let ended = parent::run(config, outside, |hello| say(&Begun::Answers(hello.clone())));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let why = chain(&error);
            tracing::error!(error = why, "there is no resolver");
            say(&Begun::Failed(why));
            ExitCode::FAILURE
        }
    }
}

/// Where the agent asks.
pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join(SOCKET)
}

/// Held while the process lives.
pub(crate) fn lock(folder: &Path) -> PathBuf {
    folder.join(LOCK)
}

/// Whoever started this may have ended.
fn say(begun: &Begun) {
    let line = serde_json::to_string(begun).unwrap_or_default();
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Lets guests reach addresses that names have led to; gives those for which that failed.
fn open(openings: &[Opening]) -> BTreeMap<Slot, String> {
    // An answer that is not followed by a way there would only puzzle: the name does not resolve.
    match opened::open(openings) {
        Ok(()) => BTreeMap::new(),
        Err(OpenError::Refused(failed)) => {
            failed.into_iter().map(|(slot, error)| (slot, chain(&error))).collect()
        }
        // No job that is checked has such an entry; where there is one, it must not keep others' addresses closed.
        Err(OpenError::TooManyPorts { .. }) => {
            let (few, many): (Vec<Opening>, Vec<Opening>) =
                openings.iter().copied().partition(opened::has_few_ports);
            let why = || format!("an entry has more than {} ports", opened::PORTS_MAX);
            open(&few).into_iter().chain(many.into_iter().map(|one| (one.slot, why()))).collect()
        }
    }
}

/// The half without rights, in its jail. It ends with this thread.
struct Jailed(Process);

impl parent::Child for Jailed {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.pidfd()
    }

    fn pid(&self) -> u32 {
        self.0.pid()
    }

    fn ending(&mut self) -> String {
        match self.0.try_wait() {
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "it went on, and is killed".to_owned(),
            Err(error) => format!("it cannot be waited for: {error}"),
        }
    }
}

fn start(folder: &Path, cgroup: &str, descriptors: Vec<OwnedFd>) -> Result<Jailed, String> {
    let file =
        |name: &str, what: Result<File, std::io::Error>| what.map_err(|error| format!("{name}: {error}"));
    let log =
        file(CHILD_LOG, File::options().read(true).append(true).create(true).open(folder.join(CHILD_LOG)))?;
    // Of what one before it said, enough is kept by whoever reads this in time.
    log.set_len(0).map_err(|error| format!("{CHILD_LOG}: {error}"))?;
    let null = file("/dev/null", File::options().write(true).open("/dev/null"))?;
    let own = file(OWN_PROGRAM, File::open(OWN_PROGRAM))?;
    let root = folder.join(JAIL);
    fs::create_dir_all(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    let limits = Limits {
        memory_bytes_max: MEMORY_BYTES_MAX,
        cpu: Cpu::Weight(CPU_WEIGHT),
        processes_max: PROCESSES_MAX,
    };
    let group = Cgroup::create(cgroup, limits).map_err(|error| chain(&error))?;
    let jail = Jail {
        tie: Tie::WithThread,
        // The node's own resolvers may be at any of its addresses, loopback among them.
        network: Network::Shared,
        uid: USER,
        root,
        read_only: jail::LIBRARIES.iter().map(PathBuf::from).collect(),
        devices: vec![PathBuf::from("/dev/null")],
        cgroups: group.procs(),
        open_files_max: OPEN_FILES_MAX,
        file_bytes_max: LOG_BYTES_MAX,
        ..Jail::default()
    };
    let numbers = (DESCRIPTOR_FIRST..).take(descriptors.len()).map(|number| number.to_string());
    let program = Program {
        path: PathBuf::from("lith"),
        file: Some(own.into()),
        arguments: [SUBCOMMAND_CHILD.to_owned()].into_iter().chain(numbers).collect(),
        stdout: null.into(),
        stderr: log.into(),
        descriptors,
    };
    jail::spawn(&jail, program).map(Jailed).map_err(|error| chain(&error))
}
