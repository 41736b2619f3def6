//! `lith look`: the process that reads a volume for a person. What a guest has written is parsed here and nowhere else: in a
//! jail of its own, with nothing but the volume, which it cannot change. Owns both ends: the request, and what comes out.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use lith_api::error::{Code, Failure};
use lith_api::volume::{FileEvent, FileKind, VolumeFile};
use lith_core::chain::chain;
use lith_vmm::jail::cgroup::{self, Cgroup, Cpu, Limits as GroupLimits};
use lith_vmm::jail::{self, Jail, JailError, Process, Program};
use lith_vmm::machine::UID_BASE;
use lith_volume::history::History;
use lith_volume::inspect::View;
use lith_volume::inspect::entry::{Entry, Kind, Summary};
use lith_volume::inspect::limits::Limits;
use lith_volume::inspect::walk::Depth;
use lith_volume::reader::ROOT;
use lith_volume::storage::Folder;
use serde::{Deserialize, Serialize};

use crate::agent::serving::OWN_PROGRAM;
use crate::layout::Layout;

/// The name of the subcommand.
pub const SUBCOMMAND: &str = "look";
/// Where the jail shows the volume.
const VOLUME: &str = "/volume";
/// Memory that it may map: names of the largest folders, the index of a long history.
const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Memory that it may take, with what it has read in the page cache.
const GROUP_BYTES_MAX: u64 = 1 << 30;
/// Its threads: it has one.
const PROCESSES_MAX: u32 = 16;
/// Its share of processor time beside guests, which have 100: nobody should notice that somebody looks.
const CPU_WEIGHT: u32 = 25;
/// What the names of its control groups begin with; a number and the name of this lith follow.
const GROUP_PREFIX: &str = "look-";
/// Entries of a list or an archive: the largest libraries of photos have a few millions.
const ENTRIES_MAX: u64 = 20_000_000;
/// Bytes of an archive: what the largest volume holds.
const CONTENT_BYTES_MAX: u64 = 32 << 40;
/// Longest word of complaint.
const COMPLAINT_BYTES_MAX: u64 = 64 << 10;

/// What is to be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The checkpoint.
    pub seq: u64,
    /// The path within the volume.
    pub path: String,
    /// How.
    pub what: What,
}

/// How a path is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// What is in the folder, as lines of JSON.
    List,
    /// What is in the folder and below it.
    ListAll,
    /// The content of a file.
    Content,
    /// A tar archive.
    Archive,
}

/// A reading under way. Dropping it ends it.
#[derive(Debug)]
pub struct Reading {
    process: Process,
    output: io::PipeReader,
    complaints: io::PipeReader,
    /// Removed after the process has ended, in this order.
    _group: Group,
}

/// The control group of a reading.
#[derive(Debug)]
struct Group(Cgroup);

impl Group {
    fn new(layout: &Layout) -> Result<Self, JailError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("{GROUP_PREFIX}{}{}", NUMBER.fetch_add(1, Ordering::Relaxed), layout.instance());
        let limits = GroupLimits {
            memory_bytes_max: GROUP_BYTES_MAX,
            cpu: Cpu::Weight(CPU_WEIGHT),
            processes_max: PROCESSES_MAX,
        };
        Cgroup::create(&name, limits).map(Self)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            tracing::warn!(error = %chain(&error), "the control group of a look into a volume stays");
        }
    }
}

/// Removes the control groups of readings that ended with a daemon that was killed.
pub(crate) fn sweep(layout: &Layout) {
    let instance = layout.instance();
    let is_ours = |name: &String| {
        let number = name.strip_prefix(GROUP_PREFIX).and_then(|rest| rest.strip_suffix(&*instance));
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    for name in cgroup::names().iter().filter(|name| is_ours(name)) {
        if let Err(error) = cgroup::remove(name) {
            tracing::warn!(error = %chain(&error), "the control group of a look into a volume stays");
        }
    }
}

impl Reading {
    /// Starts one. It ends with the calling thread.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start(volume: &Path, layout: &Layout, request: &Request) -> Result<Self, Failure> {
        let jail_root = layout.run.join("look");
        let machine = |error: io::Error| {
            Failure::new(Code::Machine, format!("the volume cannot be looked into: {error}"))
        };
        let (output, stdout) = io::pipe().map_err(machine)?;
        let (complaints, stderr) = io::pipe().map_err(machine)?;
        let own = std::fs::File::open(OWN_PROGRAM).map_err(machine)?;
        let json = serde_json::to_string(request).map_err(|error| machine(error.into()))?;
        std::fs::create_dir_all(&jail_root).map_err(machine)?;
        let unlimited = |error: JailError| {
            let failure =
                Failure::new(Code::Machine, format!("the volume cannot be looked into: {}", chain(&error)));
            match error.hint() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        };
        let group = Group::new(layout).map_err(unlimited)?;
        let jail = Jail {
            uid: UID_BASE,
            root: jail_root,
            cgroups: group.0.procs(),
            read_only: jail::LIBRARIES.iter().map(PathBuf::from).collect(),
            devices: vec![PathBuf::from("/dev/null")],
            folders: vec![(volume.to_owned(), PathBuf::from(VOLUME))],
            memory_bytes_max: Some(MEMORY_BYTES_MAX),
            open_files_max: 16 << 10,
            ..Jail::default()
        };
        let program = Program {
            path: PathBuf::from("lith"),
            file: Some(own.into()),
            // The folder is for people who look at processes.
            arguments: vec![SUBCOMMAND.to_owned(), json, volume.display().to_string()],
            stdout: stdout.into(),
            stderr: stderr.into(),
            descriptors: vec![],
        };
        let process = jail::spawn(&jail, program).map_err(unlimited)?;
        Ok(Self { process, output, complaints, _group: group })
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// The pipe fails.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.output.read(into)
    }

    /// How it ended, once there is nothing more to read.
    ///
    /// # Errors
    /// What it says went wrong.
    pub fn finish(mut self) -> Result<(), Failure> {
        let mut words = Vec::new();
        let read = (&mut self.complaints).take(COMPLAINT_BYTES_MAX).read_to_end(&mut words);
        let status = self.process.wait();
        match status {
            Ok(status) if status.success() => Ok(()),
            _ if read.is_ok() && !words.is_empty() => {
                Err(serde_json::from_slice(&words).unwrap_or_else(|_| {
                    let text = String::from_utf8_lossy(&words);
                    Failure::new(Code::Machine, format!("the volume cannot be read: {}", text.trim()))
                }))
            }
            Ok(status) => Err(Failure::new(Code::Machine, format!("reading the volume ended with {status}"))),
            Err(error) => Err(Failure::new(Code::Machine, format!("reading the volume failed: {error}"))),
        }
    }
}

/// The whole of the process: `arguments` is the request.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    match work(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let words = serde_json::to_vec(&failure).unwrap_or_default();
            // Nobody is left to tell when this fails.
            let _ = io::stderr().write_all(&words);
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &[String]) -> Result<(), Failure> {
    let [json, _] = arguments else {
        return Err(Failure::new(Code::Invalid, "it is started by lith itself"));
    };
    let request: Request =
        serde_json::from_str(json).map_err(|error| Failure::new(Code::Invalid, error.to_string()))?;
    let damaged = |error: &lith_volume::error::VolumeError| {
        let failure = Failure::new(Code::Machine, format!("the volume cannot be read: {}", chain(error)));
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    };
    let history = History::open(Folder::read_only(Path::new(VOLUME))).map_err(|error| damaged(&error))?;
    let source = history.view(request.seq).map_err(|error| damaged(&error))?;
    let limits = Limits { entries_max: ENTRIES_MAX, bytes_max: CONTENT_BYTES_MAX };
    let refused = |error: &lith_volume::inspect::error::InspectError| {
        let failure = Failure::new(Code::NotFound, chain(error));
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    };
    let view = View::open(Box::new(source), ROOT, limits).map_err(|error| refused(&error))?;
    let mut output = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let path = request.path.as_bytes();
    let skipped = match request.what {
        What::List | What::ListAll => {
            let depth = if request.what == What::List { Depth::Folder } else { Depth::Tree };
            let summary =
                view.list(path, depth, &mut |entry| line(&mut output, &FileEvent::File(file(entry))));
            told(&summary.map_err(|error| refused(&error))?)
        }
        What::Content => {
            view.read(path, &mut output).map_err(|error| refused(&error))?;
            vec![]
        }
        What::Archive => told(&view.export(path, &mut output).map_err(|error| refused(&error))?),
    };
    let written = skipped
        .into_iter()
        .filter(|_| matches!(request.what, What::List | What::ListAll))
        .try_for_each(|words| line(&mut output, &FileEvent::Skipped(words)))
        .and_then(|()| output.flush());
    written.map_err(|error| Failure::new(Code::Machine, format!("cannot write: {error}")))
}

fn line(output: &mut impl Write, event: &FileEvent) -> io::Result<()> {
    let mut json = serde_json::to_vec(event)?;
    json.push(b'\n');
    output.write_all(&json)
}

fn told(summary: &Summary) -> Vec<String> {
    let mut told: Vec<String> = summary
        .first_skipped
        .iter()
        .map(|skipped| format!("{}: {}", text(&skipped.path), lith_guest::messages::clean(&skipped.why)))
        .collect();
    let more = summary.skipped.saturating_sub(told.len() as u64);
    if more > 0 {
        told.push(format!("{more} more were left out"));
    }
    told
}

fn text(bytes: &[u8]) -> String {
    lith_guest::messages::clean(&String::from_utf8_lossy(bytes))
}

fn file(entry: &Entry) -> VolumeFile {
    let (kind, target) = match &entry.kind {
        Kind::File => (FileKind::File, None),
        Kind::Folder => (FileKind::Folder, None),
        Kind::Symlink => (FileKind::Symlink, entry.target.as_deref().map(text)),
        Kind::Fifo => (FileKind::Fifo, None),
        Kind::Socket => (FileKind::Socket, None),
        Kind::CharDevice(_) => (FileKind::CharacterDevice, None),
        Kind::BlockDevice(_) => (FileKind::BlockDevice, None),
    };
    VolumeFile {
        path: text(&entry.path),
        kind,
        mode: u32::from(entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        size_bytes: entry.size,
        modified_ms: entry.modified.seconds.saturating_mul(1000),
        target,
    }
}
