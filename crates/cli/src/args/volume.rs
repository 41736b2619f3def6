//! The grammar of `volume …` and `pool …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::size::{Growth, parse_growth};
use crate::time;

const LS_EXAMPLES: &str = "\
Examples:
  lith volume ls
  lith volume ls -l shop.data:/pgdata --at 10m";

const RESTORE_EXAMPLES: &str = "\
Examples:
  lith volume restore shop.data --at 03:00
  lith volume restore --job shop --snapshot before-upgrade";

const CP_EXAMPLES: &str = "\
Examples:
  lith volume cp shop.data:/pgdata/postgresql.conf .
  lith volume cp shop.data:/uploads/. uploads --at 2h";

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum VolumeCommand {
    /// List volumes, also those of removed jobs; with `VOLUME[:PATH]`, the files in one
    Ls(VolumeLsArgs),
    /// List the checkpoints of a volume, the newest first
    Checkpoints(CheckpointsArgs),
    /// Give volumes as they are now a name, under which they are kept, all at one instant
    Snapshot(SnapshotArgs),
    /// List snapshots
    Snapshots {
        /// Only those of this volume.
        #[arg(value_name = "VOLUME")]
        volume: Option<String>,
    },
    /// Take a snapshot's name away; its checkpoint goes with the others
    SnapshotRm {
        /// The volume.
        #[arg(value_name = "VOLUME")]
        volume: String,
        /// The snapshot.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Make volumes what they were; their tasks are stopped meanwhile
    Restore(RestoreArgs),
    /// Make a new volume with what another one holds or held
    Clone(CloneArgs),
    /// Let a volume hold more
    Grow {
        /// The volume.
        #[arg(value_name = "VOLUME")]
        volume: String,
        /// Its new size, such as `20G`, or what it gets besides, such as `+5G`.
        #[arg(value_name = "SIZE", value_parser = parse_growth)]
        size: Growth,
    },
    /// Remove volumes that no job declares; for 7 days they can be brought back
    Rm(VolumeRmArgs),
    /// Bring a removed volume back
    Unrm {
        /// The volume, as `volume ls --removed` shows it.
        #[arg(value_name = "VOLUME")]
        volume: String,
    },
    /// Print a file of a volume
    Cat {
        /// The volume and a path in it.
        #[arg(value_name = "VOLUME:PATH")]
        file: String,
        #[command(flatten)]
        point: PointArgs,
    },
    /// Copy files out of a volume
    Cp(VolumeCpArgs),
    /// Write all files of a volume as one tar archive
    Export {
        /// The volume.
        #[arg(value_name = "VOLUME")]
        volume: String,
        /// The archive; `-` is standard output.
        #[arg(value_name = "FILE", default_value = "-")]
        file: PathBuf,
        #[command(flatten)]
        point: PointArgs,
    },
    /// Let a volume that has no disk yet start with the content of a folder or tar archive
    Import {
        /// The volume, JOB.VOLUME.INDEX; its job need not be deployed yet.
        #[arg(value_name = "VOLUME")]
        volume: String,
        /// A folder, a tar archive, or `-` for an archive on standard input.
        #[arg(value_name = "SOURCE")]
        source: PathBuf,
    },
    /// Read a volume with its whole history, and say whether it is damaged
    Check {
        /// The volume.
        #[arg(value_name = "VOLUME")]
        volume: String,
    },
    /// Go on without a history that is damaged; its files are put aside, and deleted after a week
    ForgetHistory {
        /// The volume.
        #[arg(value_name = "VOLUME")]
        volume: String,
        /// Also when a restore has not ended: the disk stays as far as that came.
        #[arg(long)]
        half_restored: bool,
        /// Do not ask before.
        #[arg(short, long)]
        yes: bool,
    },
}

/// A point in the history of a volume; at most one of these is given.
#[derive(Debug, Clone, Default, Args)]
#[group(multiple = false)]
pub(crate) struct PointArgs {
    /// As of this time: `03:00`, `2026-01-31T12:00`, `2026-01-31T12:00:00Z`, or a time ago such as `10m`.
    #[arg(long, value_name = "TIME", value_parser = time::parse_when)]
    pub(crate) at: Option<time::When>,
    /// As of the checkpoint with this number.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) checkpoint: Option<u64>,
    /// As of the snapshot with this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) snapshot: Option<String>,
}

/// Which volumes: by their names, or all of one instance of a job.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChosenArgs {
    /// The volumes: JOB.VOLUME.INDEX, or less of that where it leaves no doubt.
    #[arg(value_name = "VOLUME", required_unless_present = "job", conflicts_with = "job")]
    pub(crate) volumes: Vec<String>,
    /// All volumes of this job.
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<String>,
    /// The instance whose volumes they are, when the job has several.
    #[arg(long, value_name = "INDEX", requires = "job", conflicts_with = "volumes")]
    pub(crate) index: Option<u32>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = LS_EXAMPLES)]
pub(crate) struct VolumeLsArgs {
    /// Look into this volume, at its root or at a path; all volumes are listed when not given.
    #[arg(value_name = "VOLUME[:PATH]")]
    pub(crate) place: Option<String>,
    /// With rights, owner, size and time of the last change.
    #[arg(short, long, requires = "place")]
    pub(crate) long: bool,
    /// With everything below.
    #[arg(short = 'R', long, requires = "place")]
    pub(crate) recursive: bool,
    /// List removed volumes that can still be brought back.
    #[arg(long, conflicts_with = "place")]
    pub(crate) removed: bool,
    #[command(flatten)]
    pub(crate) point: PointArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CheckpointsArgs {
    /// The volume.
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: String,
    /// Only those since a time ago, such as `1h`, or since a moment, such as `2026-01-31T12:00:00Z`.
    #[arg(long, value_name = "WHEN", value_parser = time::parse_since)]
    pub(crate) since: Option<time::Since>,
    /// So many of the newest; 20 by default, and all with `--json`.
    #[arg(long, short = 'n', value_name = "COUNT")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    pub(crate) chosen: ChosenArgs,
    /// What to call it.
    #[arg(long, value_name = "NAME", required = true)]
    pub(crate) name: String,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) chosen: ChosenArgs,
    #[command(flatten)]
    pub(crate) point: PointArgs,
    /// Do not ask before.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CloneArgs {
    /// The volume.
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: String,
    /// The new one, JOB.VOLUME.INDEX, as a job will declare it; JOB.VOLUME is that of the first instance.
    #[arg(value_name = "NEW")]
    pub(crate) new: String,
    #[command(flatten)]
    pub(crate) point: PointArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct VolumeRmArgs {
    /// The volumes: JOB.VOLUME.INDEX, or less of that where it leaves no doubt.
    #[arg(value_name = "VOLUME", required = true)]
    pub(crate) volumes: Vec<String>,
    /// Delete what they hold at once, for good. Takes volumes that are removed already, too.
    #[arg(long)]
    pub(crate) now: bool,
    /// Do not ask before.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = CP_EXAMPLES)]
pub(crate) struct VolumeCpArgs {
    /// Replace files that are there already. A file that is named itself is replaced without.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// The volume and a path in it.
    #[arg(value_name = "VOLUME:PATH")]
    pub(crate) source: String,
    /// A path here, or `-` for a tar archive on standard output.
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) point: PointArgs,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PoolCommand {
    /// List pools, the folders that nodes offer for volumes
    Ls,
}
