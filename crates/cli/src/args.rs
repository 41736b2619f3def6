//! The grammar of the command line, as clap sees it, and what comes out of it.
//!
//! Parsing is pure but for the environment variables that a flag names; nothing here opens a file or asks what the
//! terminal can do.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::spinner::Talk;

mod client;
mod file;
mod volume;

pub(crate) use file::{Binds, FileArgs, FmtArgs};

pub(crate) use client::{
    AskArgs, BlockedArgs, Command, CpArgs, DeployArgs, EventsArgs, ExecArgs, ImageCommand, JobCommand,
    LearnArgs, LoginArgs, LogsArgs, NameKind, PsArgs, PullArgs, RegistryCommand, RmArgs, StatsArgs, WaitArgs,
};
pub(crate) use volume::{
    CheckpointsArgs, ChosenArgs, CloneArgs, PointArgs, PoolCommand, RestoreArgs, SnapshotArgs, VolumeCommand,
    VolumeCpArgs, VolumeLsArgs, VolumeRmArgs,
};

/// Where lith keeps what must survive a reboot.
pub const DATA_DIR_DEFAULT: &str = "/var/lib/lith";
/// Where lith keeps sockets and the like.
pub const RUN_DIR_DEFAULT: &str = "/run/lith";
/// Name of the server's socket in the run folder.
pub const SOCKET_NAME: &str = "lith.sock";

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 a fault of lith itself, 130 interrupted.
`lith exec` exits as the process it ran does.";

/// What was asked for.
#[derive(Debug, Clone)]
pub enum Invocation {
    /// Run server and agent.
    Up(UpArgs),
    /// Stop them and every task.
    Down(DownArgs),
    /// Check the machine.
    Doctor(DoctorArgs),
    /// Anything that only talks to the server; carried out by [`crate::run()`].
    Client(ClientCommand),
}

/// How much is said, and how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    /// No colours.
    pub no_color: bool,
    /// Whether progress is shown.
    pub talk: Talk,
}

/// Arguments of `lith up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Folder for images, disks and the database.
    #[arg(long, env = "LITH_DATA_DIR", hide_env_values = true, value_name = "FOLDER", default_value = DATA_DIR_DEFAULT)]
    pub data_dir: PathBuf,
    // Filled from the global flag, so that the caller finds it in one place.
    /// Folder for sockets.
    #[arg(skip)]
    pub run_dir: PathBuf,
    /// Name of this node, kept from its first start on; the host name by default.
    #[arg(long, env = "LITH_NODE", hide_env_values = true, value_name = "NAME")]
    pub node: Option<String>,
    /// The /16 network of which every guest gets an address.
    #[arg(long, value_name = "ADDRESS", default_value = "10.83.0.0", value_parser = guest_network)]
    pub guest_network: Ipv4Addr,
    /// Guest kernel: the folder of an unpacked kernel package, with its modules. Found by itself when not given.
    #[arg(long, env = "LITH_KERNEL", hide_env_values = true, value_name = "FOLDER")]
    pub kernel: Option<PathBuf>,
    /// A folder for volumes, such as a mounted disk, with a name for it. May be given several times: new volumes go to the
    /// first one, unless their job names another. `default`, in the data folder, is there always. Behind the folder may stand
    /// how much history its volumes keep: `bulk=/tank/lith:history=72h:history-size=30%`; a day and 20% by default.
    #[arg(
        long = "pool",
        env = "LITH_POOLS",
        hide_env_values = true,
        value_name = "NAME=FOLDER",
        value_delimiter = ','
    )]
    pub pools: Vec<String>,
    /// Follow the database though it is new or an older copy: tasks that it does not declare are removed with their
    /// disks.
    #[arg(long)]
    pub trust_database: bool,
    /// Return as soon as the server answers, and leave it running in the background.
    #[arg(short, long)]
    pub detach: bool,
    /// Filled from the global flags.
    #[arg(skip)]
    pub manner: Manner,
    /// What to log, such as `info` or `warn,lith_net=debug`.
    #[arg(long, env = "LITH_LOG", hide_env_values = true, value_name = "FILTER")]
    pub log: Option<String>,
}

/// Arguments of `lith down`.
#[derive(Debug, Clone, Args)]
pub struct DownArgs {
    /// Folder for images, disks and the database, as given to `lith up`.
    #[arg(long, env = "LITH_DATA_DIR", hide_env_values = true, value_name = "FOLDER", default_value = DATA_DIR_DEFAULT)]
    pub data_dir: PathBuf,
    /// Folder for sockets.
    #[arg(skip)]
    pub run_dir: PathBuf,
    /// Also delete the data folder with all jobs, disks and images.
    #[arg(long)]
    pub purge: bool,
    /// Do not ask before deleting.
    #[arg(short, long)]
    pub yes: bool,
    /// Filled from the global flags.
    #[arg(skip)]
    pub manner: Manner,
}

/// Arguments of `lith doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Folder for images, disks and the database, as given to `lith up`.
    #[arg(long, env = "LITH_DATA_DIR", hide_env_values = true, value_name = "FOLDER", default_value = DATA_DIR_DEFAULT)]
    pub data_dir: PathBuf,
    /// Guest kernel, as given to `lith up`. A daemon that runs is asked instead.
    #[arg(long, env = "LITH_KERNEL", hide_env_values = true, value_name = "FOLDER")]
    pub kernel: Option<PathBuf>,
    /// Folder for sockets.
    #[arg(skip)]
    pub run_dir: PathBuf,
    /// Print JSON.
    #[arg(skip)]
    pub json: bool,
    /// Filled from the global flags.
    #[arg(skip)]
    pub manner: Manner,
}

/// A command for the server.
#[derive(Debug, Clone)]
pub struct ClientCommand {
    /// What holds for every command.
    pub globals: Globals,
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// Folder for sockets: which server to talk to.
    #[arg(
        long, global = true, env = "LITH_RUN_DIR", hide_env_values = true, value_name = "FOLDER", default_value = RUN_DIR_DEFAULT,
        help_heading = "Global options"
    )]
    pub run_dir: PathBuf,
    /// Print JSON instead of text.
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Print no colours; `NO_COLOR` does the same.
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_color: bool,
    /// Print no progress and no confirmations.
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

impl Globals {
    /// The server's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket(&self.run_dir)
    }

    /// How much is said. What prints JSON is read by a program, for which progress is noise.
    pub(crate) fn manner(&self) -> Manner {
        let talk = if self.quiet || self.json { Talk::Quiet } else { Talk::Progress };
        Manner { no_color: self.no_color, talk }
    }
}

/// The server's socket in a run folder.
#[must_use]
pub(crate) fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join(SOCKET_NAME)
}

#[derive(Debug, Parser)]
#[command(
    name = "lith",
    version,
    about = "Runs ordinary container images, each in its own virtual machine",
    after_help = AFTER_HELP,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Line {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Top,
}

#[derive(Debug, Subcommand)]
enum Top {
    /// Run lith on this machine: server and node in one process
    Up(UpArgs),
    /// Stop lith on this machine, with every task; jobs start again with the next `up`
    Down(DownArgs),
    #[command(flatten)]
    Client(Command),
    /// Check what lith needs of this machine, and say how to repair it
    Doctor(DoctorArgs),
}

/// Reads this process's command line. Help and mistakes are printed and end the process, as clap does it.
#[must_use]
pub fn parse() -> Invocation {
    parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Reads a command line; the first word is the program's name.
///
/// # Errors
/// What clap has to say: help, version, or what is wrong.
pub fn parse_from<I: IntoIterator<Item: Into<OsString> + Clone>>(line: I) -> Result<Invocation, clap::Error> {
    let Line { globals, command } = Line::try_parse_from(line)?;
    let manner = globals.manner();
    let Globals { run_dir, json, .. } = globals.clone();
    Ok(match command {
        Top::Up(up) => Invocation::Up(UpArgs { run_dir, manner, ..up }),
        Top::Down(down) => Invocation::Down(DownArgs { run_dir, manner, ..down }),
        Top::Doctor(doctor) => Invocation::Doctor(DoctorArgs { run_dir, json, manner, ..doctor }),
        Top::Client(command) => Invocation::Client(ClientCommand { globals, command }),
    })
}

/// The grammar itself, for completions and the reference page.
#[must_use]
pub fn command() -> clap::Command {
    Line::command()
}

/// The base of a /16 network that guests may have.
fn guest_network(text: &str) -> Result<Ipv4Addr, String> {
    let base = text.strip_suffix("/16").unwrap_or(text);
    let address: Ipv4Addr = base.parse().map_err(|_| format!("`{base}` is not an IPv4 address"))?;
    if address.octets()[2..] != [0, 0] {
        return Err("guests get a /16 network: its address ends with .0.0".to_owned());
    }
    if !address.is_private() {
        return Err(
            "guests get private addresses: choose within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"
                .to_owned(),
        );
    }
    Ok(address)
}

#[cfg(test)]
mod tests;
