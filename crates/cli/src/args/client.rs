//! The grammar of the commands that talk to the server.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::{FileArgs, FmtArgs, PoolCommand, VolumeCommand};
use crate::time;

/// Time that `deploy` and its kin wait: a large image over a slow line, and a first start that fills a database.
const TIMEOUT_DEFAULT: &str = "5m";

/// A command for the server.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Make the server run what a job file or Compose file declares, and wait until it answers
    Deploy(DeployArgs),
    /// Show what `deploy` would change, and change nothing
    Plan(FileArgs),
    /// Read a job file or Compose file and say what is wrong with it; needs no server
    Check(FileArgs),
    /// Print a Compose file as a job file, with a comment for each decision; needs no server
    Convert(FileArgs),
    /// Lay job files out in the usual way: indentation, quotes, order of keys; needs no server
    Fmt(FmtArgs),
    /// Print the JSON schema of job files, for editors
    Schema,
    /// List tasks
    Ps(PsArgs),
    /// Show what running tasks use: memory, CPU time, disk
    Stats(StatsArgs),
    /// List jobs, or show one as a job file
    #[command(subcommand)]
    Job(JobCommand),
    /// Print what tasks wrote
    Logs(LogsArgs),
    /// Run a command in a task's machine
    Exec(ExecArgs),
    /// Copy files into or out of a task
    Cp(CpArgs),
    /// Stop jobs or tasks, and keep everything they have
    Stop(AskArgs),
    /// Start what was stopped or has finished
    Start(AskArgs),
    /// Stop and start jobs or tasks
    Restart(AskArgs),
    /// Remove jobs with everything they have but their volumes
    Rm(RmArgs),
    /// Work with volumes, which stay when their job goes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Work with pools, in which volumes lie
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Work with the images of this machine
    #[command(subcommand)]
    Image(ImageCommand),
    /// Work with registries: logins, and which may speak plain HTTP
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Show what happens, as it happens
    Events(EventsArgs),
    /// Print the version of this program and of the server
    Version,
    /// Explain an error code, such as E0002
    Explain {
        /// The code.
        code: String,
    },
    /// Print completions for a shell
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Print names, for completions
    #[command(name = "__names", hide = true)]
    Names {
        /// Of what.
        kind: NameKind,
    },
}

/// What names are completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NameKind {
    /// Of jobs.
    Jobs,
    /// Of tasks, and jobs for all of their tasks.
    Tasks,
    /// Of images.
    Images,
    /// Of volumes.
    Volumes,
}

/// How long to wait for what was asked.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitArgs {
    /// Return as soon as the server has accepted it.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Give up waiting after this time.
    #[arg(long, value_name = "TIME", default_value = TIMEOUT_DEFAULT, value_parser = time::parse_duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DeployArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PsArgs {
    /// Only tasks of this job, whatever their state.
    pub(crate) job: Option<String>,
    /// Also tasks that were stopped or have finished.
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StatsArgs {
    /// JOB for all of its tasks, JOB/TASK, or JOB/GROUP/TASK; all tasks when not given.
    #[arg(value_name = "JOB[/TASK]")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum JobCommand {
    /// List jobs
    Ls,
    /// Print a job as a job file
    Show {
        /// The job.
        job: String,
    },
    /// List what the tasks of a job tried to reach and were refused, with the line that would allow it
    Blocked(BlockedArgs),
    /// Watch what the tasks of a job are refused, and print the `connects` and `egress` that they lack; opens nothing
    Learn(LearnArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BlockedArgs {
    /// The job.
    pub(crate) job: String,
    /// Only what was tried since a time ago, such as `10m`, or since a moment, such as `2026-01-31T12:00:00Z`. By default
    /// all that is remembered: a day.
    #[arg(long, value_name = "WHEN", value_parser = time::parse_since)]
    pub(crate) since: Option<time::Since>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LearnArgs {
    /// The job.
    pub(crate) job: String,
    /// How long to watch. Ctrl-C ends it earlier, and prints what is known by then.
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = time::parse_duration)]
    pub(crate) duration: Duration,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LogsArgs {
    /// JOB for all of its tasks, JOB/TASK, or JOB/GROUP/TASK; .N at the end names an instance.
    #[arg(value_name = "JOB[/TASK]")]
    pub(crate) name: String,
    /// Go on printing lines as they are written.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only lines since a time ago, such as `10m`, or since a moment, such as `2026-01-31T12:00:00Z`.
    #[arg(long, value_name = "WHEN", value_parser = time::parse_since)]
    pub(crate) since: Option<time::Since>,
    /// Only so many of the last lines of each task.
    #[arg(long, short = 'n', value_name = "LINES")]
    pub(crate) tail: Option<u64>,
    /// Print when each line was written, and on which stream.
    #[arg(short, long)]
    pub(crate) timestamps: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ExecArgs {
    /// Hand standard input to the command.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal. Both are the default when standard input and output are a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Never give it a terminal.
    #[arg(short = 'T', long, conflicts_with = "tty")]
    pub(crate) no_tty: bool,
    /// Run it as this user.
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Run it in this folder.
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) workdir: Option<String>,
    /// Add a variable to its environment.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) env: Vec<String>,
    /// JOB when it has one task, JOB/TASK, or JOB/GROUP/TASK; .N at the end names an instance.
    #[arg(value_name = "TASK")]
    pub(crate) name: String,
    /// The command and its arguments.
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CpArgs {
    /// Replace files that are there already. A file that is named itself is replaced without.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// A path here, TASK:PATH, or `-` for a tar archive on standard input.
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// TASK:PATH, a path here, or `-` for a tar archive on standard output.
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AskArgs {
    /// JOB for all of its tasks, JOB/TASK, or JOB/GROUP/TASK.
    #[arg(value_name = "JOB[/TASK]", required = true)]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RmArgs {
    /// The jobs.
    #[arg(value_name = "JOB", required = true)]
    pub(crate) names: Vec<String>,
    /// Also remove their volumes; for 7 days those can be brought back.
    #[arg(long, conflicts_with = "no_wait")]
    pub(crate) volumes: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ImageCommand {
    /// List the images of this machine
    Ls,
    /// Fetch an image from its registry
    Pull(PullArgs),
    /// Take in an OCI layout (a folder or a tar archive) or the output of `docker save`
    Load {
        /// A folder, a file, or `-` for standard input.
        path: PathBuf,
        /// Name to give it, when it has none of its own.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Remove images
    Rm {
        /// Names or digests.
        #[arg(value_name = "IMAGE", required = true)]
        images: Vec<String>,
    },
    /// Remove images that no job uses and that lost their name to a newer one
    Gc {
        /// Also those that have a name, pulled or loaded by hand.
        #[arg(long)]
        all: bool,
    },
    /// Read an image again and compare it with its digest
    Verify {
        /// Names or digests; all images when none is given.
        #[arg(value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Print what is known of an image, as JSON
    Inspect {
        /// Name or digest.
        image: String,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PullArgs {
    /// The image, such as `nginx:1.27`.
    pub(crate) image: String,
    /// Speak plain HTTP to the registry, this once.
    #[arg(long)]
    pub(crate) plain_http: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RegistryCommand {
    /// List registries with a login, and those that may speak plain HTTP
    Ls,
    /// Keep a name and password for a registry
    Login(LoginArgs),
    /// Forget them
    Logout {
        /// The registry, such as `registry.example:5000`.
        host: String,
    },
    /// Let a registry without TLS be asked over plain HTTP from now on
    AllowHttp {
        /// The registry, such as `registry.example:5000`.
        host: String,
    },
    /// Want TLS with a registry again
    RefuseHttp {
        /// The registry, such as `registry.example:5000`.
        host: String,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LoginArgs {
    /// The registry, such as `registry.example:5000`.
    pub(crate) host: String,
    /// User name; asked for when not given.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Read the password from standard input.
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Speak plain HTTP to the registry, now and from now on.
    #[arg(long)]
    pub(crate) plain_http: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct EventsArgs {
    /// Only events of this job.
    pub(crate) job: Option<String>,
    /// First those since a time ago, such as `1h`, or since a moment, such as `2026-01-31T12:00:00Z`.
    #[arg(long, value_name = "WHEN", value_parser = time::parse_since)]
    pub(crate) since: Option<time::Since>,
    /// First all that are kept.
    #[arg(short, long, conflicts_with = "since")]
    pub(crate) all: bool,
}

pub(super) fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("a variable is written NAME=VALUE".to_owned()),
    }
}
