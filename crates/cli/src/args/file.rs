//! The grammar of the commands that read job files and Compose files.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Which files are read, and with which variables.
#[derive(Debug, Clone, Args)]
pub(crate) struct FileArgs {
    /// Job file or Compose file; further ones add to it, or lie over it. `-` reads standard input. Without any, job.yaml,
    /// compose.yaml or docker-compose.yml of this folder, with its override.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The same, as `docker compose` takes it.
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "files")]
    pub(crate) also: Vec<PathBuf>,
    /// Give a variable of the file a value. The environment of this shell gives none.
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::client::variable)]
    pub(crate) set: Vec<String>,
    /// Read values of variables from this file, instead of `.env` beside the first file.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) compose: ComposeArgs,
}

impl FileArgs {
    /// The files that were named, in order.
    pub(crate) fn named(&self) -> &[PathBuf] {
        if self.files.is_empty() { &self.also } else { &self.files }
    }
}

/// Arguments of `lith fmt`.
#[derive(Debug, Clone, Args)]
pub(crate) struct FmtArgs {
    /// Job files; `-` lays standard input out on standard output. Without any, job.yaml of this folder.
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Change nothing; print the files that would change, and exit with 1 if there are any.
    #[arg(long)]
    pub(crate) check: bool,
}

/// What only Compose files need.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options for Compose files")]
pub(crate) struct ComposeArgs {
    /// Name of the job, instead of `name:` or the folder's.
    #[arg(short = 'p', long = "name", visible_alias = "project-name", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Also the services of this profile; `*` for all.
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Vec<String>,
    /// Connect only services that are seen to need each other.
    #[arg(long)]
    pub(crate) narrow: bool,
    /// Make volumes that services name and the file does not declare.
    #[arg(long)]
    pub(crate) create_missing_volumes: bool,
    /// What becomes of a folder of the project that a service mounts.
    #[arg(long, value_enum, default_value_t = Binds::Import)]
    pub(crate) binds: Binds,
}

/// What becomes of a folder of the project that a service mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Binds {
    /// A disk that starts with its content.
    Import,
    /// The folder itself, shared by the node.
    Host,
}
