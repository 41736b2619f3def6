//! Starts a supervisor as a process of its own. Owns the convention between the two: the arguments are those given,
//! then the configuration's path, then the number of the TAP descriptor when there is one.

use super::{ShimConfig, ShimError, sys};
use crate::durable;
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const CONFIG: &str = "shim.json";
/// What the supervisor itself has to say; truncated at each start, and it says little.
const COMPLAINTS: &str = "shim.log";

/// Starts `program arguments… <configuration> [<TAP descriptor>]` as the supervisor of a task. It outlives the caller;
/// while the caller lives, it must wait for the child, lest a zombie stays.
///
/// # Errors
/// The folders or the configuration cannot be written, or the program cannot be started.
pub fn launch(
    program: &Path,
    arguments: &[&str],
    config: &ShimConfig,
    tap: Option<OwnedFd>,
) -> Result<Child, ShimError> {
    config.check()?;
    for folder in [&config.task_dir, &config.run_dir] {
        std::fs::create_dir_all(folder).map_err(ShimError::file("make", folder))?;
    }
    let path = config.task_dir.join(CONFIG);
    let json =
        serde_json::to_vec(config).map_err(|error| ShimError::Config { problem: error.to_string() })?;
    // The environment of a task holds passwords.
    durable::write(&path, &json, 0o600).map_err(ShimError::file("write", &path))?;
    let complaints_path = config.task_dir.join(COMPLAINTS);
    let complaints = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&complaints_path)
        .map_err(ShimError::file("open", &complaints_path))?;
    let mut command = Command::new(program);
    command.args(arguments).arg(&path).current_dir("/").env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints);
    if let Some(tap) = &tap {
        command.arg(tap.as_raw_fd().to_string());
    }
    sys::detach(&mut command, tap.as_ref().map(AsRawFd::as_raw_fd));
    command.spawn().map_err(ShimError::file("start", program))
}

/// Takes over the TAP device that [`launch`] handed to this process. Call it once, before anything else opens files.
///
/// # Errors
/// No such descriptor is open.
pub fn inherited_tap(descriptor: RawFd) -> Result<OwnedFd, ShimError> {
    sys::adopt(descriptor).map_err(|error| ShimError::Config {
        problem: format!("no TAP device was handed over as descriptor {descriptor}: {error}"),
    })
}
