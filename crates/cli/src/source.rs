//! Job files and Compose files on this machine: found, opened, and handed to `lith-spec`.
//!
//! Owns the way from arguments to a job. What a file means is not known here.

use std::io::Read;
use std::path::{Path, PathBuf};

use lith_api::job::JobSpec;
use lith_spec::{
    Binds, Comments, ComposeOptions, ComposeReading, Files, Named, PathKind, Reading, Variables,
};

use crate::args::{self, FileArgs};
use crate::context::{Context, say};
use crate::error::Error;

/// Most of a file that is read: far above what the reader accepts, so that it is the reader who refuses.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Files that are looked for when none is named, in order; with those of Compose goes its override.
const NAMES: [&str; 6] =
    ["job.yaml", "job.yml", "compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// What was read, in either language.
pub(crate) struct Source {
    /// What the first file is called.
    pub(crate) name: String,
    pub(crate) is_compose: bool,
    /// The files beside it.
    outside: Outside,
    /// Of a job file, too: it has neither decisions nor connections.
    pub(crate) reading: ComposeReading,
}

/// Reads the files that the arguments name.
pub(crate) fn read(args: &FileArgs) -> Result<Source, Error> {
    let paths = if args.named().is_empty() { found()? } else { args.named().to_vec() };
    read_paths(&paths, args)
}

/// Reads these files, with the options of the arguments.
pub(crate) fn read_paths(paths: &[PathBuf], args: &FileArgs) -> Result<Source, Error> {
    let files = paths.iter().map(|path| named(path, "read the job file")).collect::<Result<Vec<_>, _>>()?;
    let env_files = args.env_file.iter().map(|path| named(path, "read the file of variables"));
    let variables = Variables {
        set: args.set.iter().filter_map(|pair| pair.split_once('=')).map(owned).collect(),
        env_files: env_files.collect::<Result<_, _>>()?,
    };
    let outside = Outside::beside(&paths[0]);
    let name = files[0].path.clone();
    if lith_spec::is_compose(&files[0]) {
        let reading = lith_spec::check_compose(&files, &options(args, &outside), &variables, &outside);
        return Ok(Source { name, is_compose: true, outside, reading });
    }
    refuse_compose_options(args)?;
    let Reading { job, diagnostics } = lith_spec::check_job(&files, &variables, &outside);
    let (comments, connections, variables) = (Comments::default(), vec![], vec![]);
    let reading = ComposeReading { job, diagnostics, comments, connections, variables };
    Ok(Source { name, is_compose: false, outside, reading })
}

/// A job that was accepted.
pub(crate) struct Accepted {
    /// As it travels.
    pub(crate) spec: JobSpec,
    /// As a job file.
    pub(crate) text: String,
    /// The files beside it.
    pub(crate) outside: Outside,
}

impl Source {
    /// The job; what is wrong is returned, what else was found is said.
    pub(crate) fn accepted(self, context: &Context) -> Result<Accepted, Error> {
        let ComposeReading { job, diagnostics, comments, .. } = self.reading;
        let Some(job) = job else { return Err(Error::File(Box::new(diagnostics))) };
        if !diagnostics.list.is_empty() && !context.quiet {
            say(diagnostics.render_brief(context.terminal.stderr.diagnostics()).trim_end());
        }
        let (spec, text) = (JobSpec::from(&job), lith_spec::to_yaml_with(&job, &comments));
        Ok(Accepted { spec, text, outside: self.outside })
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The job file of this folder.
pub(crate) fn found_job() -> Result<PathBuf, Error> {
    let name = NAMES.into_iter().find(|name| name.starts_with("job.") && Path::new(name).is_file());
    let message = "no file is named, and this folder holds no job.yaml";
    name.map(PathBuf::from).ok_or_else(|| Error::usage(message, "name a file, as in `lith fmt job.yaml`"))
}

/// The Compose file of this folder, with its override; a job file has nothing to be converted.
pub(crate) fn found_compose() -> Result<Vec<PathBuf>, Error> {
    let name = NAMES.into_iter().find(|name| name.contains("compose") && Path::new(name).is_file());
    let name = name.ok_or_else(|| {
        let message = "no file is named, and this folder holds neither compose.yaml nor docker-compose.yml";
        Error::usage(message, "name a file, as in `lith convert compose.yaml`")
    })?;
    Ok(with_override(name))
}

/// The file of this folder that would be meant.
fn found() -> Result<Vec<PathBuf>, Error> {
    let name = NAMES.into_iter().find(|name| Path::new(name).is_file()).ok_or_else(|| {
        let message =
            "no file is named, and this folder holds none of job.yaml, compose.yaml, docker-compose.yml";
        Error::usage(message, "name a file, as in `lith deploy job.yaml`")
    })?;
    Ok(with_override(name))
}

fn with_override(name: &str) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from(name)];
    if let Some((stem, ending)) = name.rsplit_once('.').filter(|(stem, _)| stem.ends_with("compose")) {
        let overrides =
            [ending, "yaml", "yml"].map(|ending| PathBuf::from(format!("{stem}.override.{ending}")));
        paths.extend(overrides.into_iter().find(|path| path.is_file()));
    }
    paths
}

fn options(args: &FileArgs, outside: &Outside) -> ComposeOptions {
    ComposeOptions {
        name: args.compose.name.clone(),
        folder: outside.absolute(),
        profiles: args.compose.profile.clone(),
        narrow: args.compose.narrow,
        create_missing_volumes: args.compose.create_missing_volumes,
        binds: match args.compose.binds {
            args::Binds::Import => Binds::Import,
            args::Binds::Host => Binds::Host,
        },
        timezone: timezone(),
    }
}

/// Options of Compose files mean nothing for a job file: better said than ignored.
fn refuse_compose_options(args: &FileArgs) -> Result<(), Error> {
    let compose = &args.compose;
    let given = [
        ("--name", compose.name.is_some()),
        ("--profile", !compose.profile.is_empty()),
        ("--narrow", compose.narrow),
        ("--create-missing-volumes", compose.create_missing_volumes),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((flag, _)) => {
            let message = format!("{flag} is for Compose files, and this is a job file");
            Err(Error::usage(message, format!("leave {flag} out")))
        }
    }
}

/// This machine's time zone: that of services which mount its `/etc/localtime`.
fn timezone() -> Option<String> {
    let target = std::fs::canonicalize("/etc/localtime").ok()?;
    let name = target.strip_prefix("/usr/share/zoneinfo").ok()?;
    name.to_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Path to show, and content.
pub(crate) fn named(path: &Path, what: &str) -> Result<Named, Error> {
    let local = |error: &std::io::Error| Error::local(what, path, error);
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| local(&error))?;
        return Ok(Named { path: "standard input".to_owned(), bytes });
    }
    let opened = std::fs::File::open(path).map_err(|error| local(&error))?;
    opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| local(&error))?;
    Ok(Named { path: path.display().to_string(), bytes })
}

/// The files beside the first one.
pub(crate) struct Outside {
    folder: PathBuf,
}

impl Outside {
    fn beside(path: &Path) -> Self {
        let folder = path.parent().filter(|_| path != Path::new("-")).map(Path::to_path_buf);
        Self { folder: folder.unwrap_or_default() }
    }

    /// The folder's whole path.
    fn absolute(&self) -> String {
        let here = if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder };
        std::fs::canonicalize(here).unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Where a path of the file leads.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        match path.strip_prefix("~/").zip(std::env::var_os("HOME")) {
            Some((rest, home)) => Path::new(&home).join(rest),
            None => self.folder.join(path),
        }
    }
}

impl Files for Outside {
    fn kind(&self, path: &str) -> PathKind {
        match std::fs::metadata(self.path(path)) {
            Ok(metadata) if metadata.is_dir() => PathKind::Folder,
            Ok(_) => PathKind::File,
            Err(_) => PathKind::Absent,
        }
    }

    fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
        let file = std::fs::File::open(self.path(path)).map_err(|error| error.to_string())?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err("it is not a file".to_owned());
        }
        let most = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() > bytes_max {
            return Err(format!("it is larger than {bytes_max} bytes"));
        }
        Ok(bytes)
    }
}
