//! From an image's configuration and a job's overrides to the process to run, by Docker's rules.
//!
//! Owns the merge and the lookup of a variable. Pure; must not look at any file: users and executables are found in
//! the guest, where the image's files are.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::signal::{Signal, UnknownSignal};

/// PATH of a process whose image and job set none, as Docker has it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `NAME=value` strings. `Debug` shows names only, for values are often secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Environment(pub Vec<String>);

impl Environment {
    /// The value of the last variable called `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .filter_map(|entry| entry.split_once('='))
            .find_map(|(known, value)| (known == name).then_some(value))
    }

    /// This environment with `changes` on top: a known name keeps its place and gets the new value, a new one comes
    /// last, a name without `=` removes the variable.
    pub fn with(mut self, changes: &Environment) -> Environment {
        for change in &changes.0 {
            let name = name_of(change);
            match (change.contains('='), self.0.iter().position(|entry| name_of(entry) == name)) {
                (true, Some(place)) => self.0[place].clone_from(change),
                (true, None) => self.0.push(change.clone()),
                (false, Some(place)) => drop(self.0.remove(place)),
                (false, None) => {}
            }
        }
        self
    }
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|entry| name_of(entry))).finish()
    }
}

/// The part of an OCI image configuration (`config` of the image specification) that concerns its process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program when there is no entrypoint.
    pub cmd: Vec<String>,
    /// Variables.
    pub env: Environment,
    /// User, `user:group`, by name or number; empty means root.
    pub user: String,
    /// Working directory; empty means `/`.
    pub working_dir: String,
    /// Directories that the image declares as volumes.
    pub volumes: Vec<String>,
    /// Signal that asks the process to stop; none means SIGTERM.
    pub stop_signal: Option<String>,
}

/// What a job says instead of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// In place of the image's entrypoint, and then the image's cmd counts no more. Empty: no entrypoint, and the
    /// image's cmd stays.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's cmd.
    pub cmd: Option<Vec<String>>,
    /// Variables on top of the image's.
    pub env: Environment,
    /// In place of the image's user.
    pub user: Option<String>,
    /// In place of the image's working directory.
    pub working_dir: Option<String>,
    /// In place of the image's stop signal.
    pub stop_signal: Option<String>,
}

/// The process to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// Program and arguments, at least the program.
    pub argv: Vec<String>,
    /// Variables; PATH and HOSTNAME are always among them, HOME only when image or job set it.
    pub env: Environment,
    /// User, `user:group`; empty means root.
    pub user: String,
    /// Absolute path.
    pub working_dir: String,
    /// Absolute paths of declared volumes.
    pub volumes: Vec<String>,
    /// Signal that asks it to stop.
    pub stop_signal: Signal,
}

/// A configuration that makes no process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Neither image nor job names a program.
    #[error("no command: neither the image nor the job says what to run")]
    NoCommand,
    /// A text holds a zero byte, which no process can be given.
    #[error("{what} holds a zero byte")]
    ZeroByte {
        /// Which text.
        what: &'static str,
    },
    /// The stop signal is unknown.
    #[error("bad stop signal")]
    StopSignal {
        /// Which.
        #[source]
        source: UnknownSignal,
    },
}

impl MergeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            MergeError::NoCommand => Some("add `command:` to the task".to_owned()),
            MergeError::ZeroByte { .. } => None,
            MergeError::StopSignal { source } => source.hint(),
        }
    }
}

/// Merges by Docker's rules (`docker run`, and Compose's for the overrides).
///
/// # Errors
/// [`MergeError`] when there is nothing to run or it cannot be run anywhere.
pub fn merge(image: &ImageConfig, overrides: &Overrides, hostname: &str) -> Result<ProcessSpec, MergeError> {
    let argv = merge_argv(image, overrides);
    if argv.is_empty() {
        return Err(MergeError::NoCommand);
    }
    let base = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    let env = Environment(base).with(&image.env).with(&overrides.env);
    let working_dir = absolute(overrides.working_dir.as_deref().unwrap_or(&image.working_dir));
    let stop_signal = overrides.stop_signal.as_ref().or(image.stop_signal.as_ref());
    let stop_signal = match stop_signal.map(|text| text.trim()).filter(|text| !text.is_empty()) {
        Some(text) => Signal::parse(text).map_err(|source| MergeError::StopSignal { source })?,
        None => Signal::TERM,
    };
    let user = overrides.user.clone().unwrap_or_else(|| image.user.clone());
    let volumes: Vec<String> = image.volumes.iter().map(|path| absolute(path)).collect();
    let spec = ProcessSpec { argv, env, user, working_dir, volumes, stop_signal };
    check_zero_bytes(&spec)?;
    Ok(spec)
}

fn merge_argv(image: &ImageConfig, overrides: &Overrides) -> Vec<String> {
    let (entrypoint, keeps_cmd) = match &overrides.entrypoint {
        None => (image.entrypoint.as_slice(), true),
        Some(entrypoint) if entrypoint.is_empty() => (entrypoint.as_slice(), true),
        // `--entrypoint ""`: cleared, and the image's cmd with it.
        Some(entrypoint) if entrypoint.len() == 1 && entrypoint[0].is_empty() => (&[] as &[String], false),
        Some(entrypoint) => (entrypoint.as_slice(), false),
    };
    let cmd = match &overrides.cmd {
        Some(cmd) => cmd.as_slice(),
        None if keeps_cmd => image.cmd.as_slice(),
        None => &[],
    };
    entrypoint.iter().chain(cmd).cloned().collect()
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn check_zero_bytes(spec: &ProcessSpec) -> Result<(), MergeError> {
    let groups: [(&'static str, &[String]); 3] =
        [("the command", &spec.argv), ("the environment", &spec.env.0), ("a declared volume", &spec.volumes)];
    for (what, texts) in groups {
        if texts.iter().any(|text| text.contains('\0')) {
            return Err(MergeError::ZeroByte { what });
        }
    }
    for (what, text) in [("the user", &spec.user), ("the working directory", &spec.working_dir)] {
        if text.contains('\0') {
            return Err(MergeError::ZeroByte { what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Environment, ImageConfig, MergeError, Overrides, merge};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn env(entries: &[&str]) -> Environment {
        Environment(entries.iter().map(|entry| (*entry).to_owned()).collect())
    }

    /// `None` as an override means that the job says nothing.
    fn check_argv(image: (&str, &str), job: (Option<&str>, Option<&str>), expect: Result<&str, MergeError>) {
        let config =
            ImageConfig { entrypoint: words(image.0), cmd: words(image.1), ..ImageConfig::default() };
        let overrides =
            Overrides { entrypoint: job.0.map(words), cmd: job.1.map(words), ..Overrides::default() };
        let argv = merge(&config, &overrides, "h").map(|spec| spec.argv.join(" "));
        assert_eq!(argv, expect.map(str::to_owned), "{image:?} {job:?}");
    }

    #[test]
    fn entrypoint_and_cmd() {
        check_argv(("", "sh"), (None, None), Ok("sh"));
        check_argv(("entry", "a b"), (None, None), Ok("entry a b"));
        check_argv(("entry", "a b"), (None, Some("c")), Ok("entry c"));
        check_argv(("entry", "a b"), (None, Some("")), Ok("entry"));
        check_argv(("entry", "a b"), (Some("other"), None), Ok("other"));
        check_argv(("entry", "a b"), (Some("other x"), Some("c")), Ok("other x c"));
        check_argv(("entry", "a b"), (Some(""), None), Ok("a b"));
        check_argv(("entry", "a b"), (Some(""), Some("c")), Ok("c"));
        check_argv(("entry", ""), (Some(""), None), Err(MergeError::NoCommand));
        check_argv(("", ""), (None, None), Err(MergeError::NoCommand));
    }

    #[test]
    fn an_empty_entrypoint_clears_the_cmd_too() {
        let config = ImageConfig { entrypoint: words("entry"), cmd: words("a"), ..ImageConfig::default() };
        let overrides = Overrides { entrypoint: Some(vec![String::new()]), ..Overrides::default() };
        assert_eq!(merge(&config, &overrides, "h"), Err(MergeError::NoCommand));
    }

    #[test]
    fn environment() {
        let check = |image: &[&str], job: &[&str], expect: &[&str]| {
            let config = ImageConfig { cmd: words("x"), env: env(image), ..ImageConfig::default() };
            let overrides = Overrides { env: env(job), ..Overrides::default() };
            assert_eq!(merge(&config, &overrides, "odin").unwrap().env.0, expect, "{image:?} {job:?}");
        };
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        check(&[], &[], &[path, "HOSTNAME=odin"]);
        check(&["PATH=/app"], &["A=1"], &["PATH=/app", "HOSTNAME=odin", "A=1"]);
        check(&["A=1", "B=2"], &["A=3=4"], &[path, "HOSTNAME=odin", "A=3=4", "B=2"]);
        check(&["A=1"], &["A", "B"], &[path, "HOSTNAME=odin"]);
        check(&["A="], &[], &[path, "HOSTNAME=odin", "A="]);
    }

    #[test]
    fn the_rest() {
        let config = ImageConfig {
            cmd: words("x"),
            user: "app".into(),
            working_dir: "srv".into(),
            volumes: vec!["data".into()],
            stop_signal: Some("SIGQUIT".into()),
            ..ImageConfig::default()
        };
        let spec = merge(&config, &Overrides::default(), "h").unwrap();
        assert_eq!(
            (spec.user.as_str(), spec.working_dir.as_str(), spec.stop_signal.0, spec.volumes.concat()),
            ("app", "/srv", 3, "/data".into())
        );
        let overrides = Overrides {
            user: Some("0:5".into()),
            working_dir: Some("/tmp".into()),
            stop_signal: Some("2".into()),
            ..Overrides::default()
        };
        let spec = merge(&config, &overrides, "h").unwrap();
        assert_eq!((spec.user.as_str(), spec.working_dir.as_str(), spec.stop_signal.0), ("0:5", "/tmp", 2));
    }

    #[test]
    fn refused() {
        let overrides = |change: fn(&mut Overrides)| {
            let mut overrides = Overrides { cmd: Some(words("x")), ..Overrides::default() };
            change(&mut overrides);
            merge(&ImageConfig::default(), &overrides, "h").unwrap_err().to_string()
        };
        assert_eq!(overrides(|job| job.stop_signal = Some("SIGNOPE".into())), "bad stop signal");
        assert_eq!(overrides(|job| job.user = Some("a\0".into())), "the user holds a zero byte");
        assert_eq!(overrides(|job| job.env.0.push("A=\0".into())), "the environment holds a zero byte");
    }

    #[test]
    fn values_are_not_shown() {
        assert_eq!(format!("{:?}", env(&["PASSWORD=secret"])), r#"["PASSWORD"]"#);
    }
}
