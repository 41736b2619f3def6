//! Starts a supervisor as a process of its own. Owns the convention between the two: the arguments are those given,
//! then the configuration's path, the number of the lock's descriptor, and that of the TAP's when there is one.

use super::record::Lock;
use super::{ShimConfig, ShimError, supervisor, sys};
use crate::durable;
use lith_core::chain::chain;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

const CONFIG: &str = "shim.json";
/// What the supervisor itself has to say; truncated at each start, and it says little.
const COMPLAINTS: &str = "shim.log";
/// Of which so much is read: a sentence.
const COMPLAINT_BYTES_MAX: u64 = 4096;

/// What a supervisor gets from the agent beside its configuration.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) lock: Lock,
    pub(super) tap: Option<OwnedFd>,
}

/// Starts `program arguments… <configuration> <lock> [<TAP>]` as the supervisor of a task. It outlives the caller;
/// while the caller lives, it must wait for the child, lest a zombie stays. From the return of this function on, and
/// until the supervisor is gone, [`find`](super::find) finds it.
///
/// # Errors
/// The task has a supervisor, the folders or the configuration cannot be written, or the program cannot be started.
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
    let lock = Lock::take(&config.name, &config.task_dir)?;
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
    let mut descriptors = vec![lock.file().as_raw_fd()];
    descriptors.extend(tap.as_ref().map(AsRawFd::as_raw_fd));
    command.args(descriptors.iter().map(ToString::to_string));
    sys::detach(&mut command, descriptors);
    command.spawn().map_err(ShimError::file("start", program))
}

/// The whole of a supervisor's process: runs one boot of a task to its end, with the arguments that [`launch`] added. To
/// be called once, on the main thread, before anything else opens files: the machine dies with that thread.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    match inherited(arguments).and_then(|(config, inherited)| supervisor::run(config, inherited)) {
        // How the task ended is in its record; that the supervisor could do its work is all that this tells.
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            // Its standard error is a file of the task; nobody is left to tell when this fails.
            let _ = std::io::stderr().write_all(format!("{}\n", chain(&error)).as_bytes());
            ExitCode::FAILURE
        }
    }
}

/// The supervisor's end of [`launch`]: reads the configuration and takes over the descriptors that `arguments` name.
fn inherited(arguments: &[String]) -> Result<(ShimConfig, Inherited), ShimError> {
    let (path, lock, tap) = match arguments {
        [path, lock] => (path, lock, None),
        [path, lock, tap] => (path, lock, Some(tap)),
        _ => return Err(ShimError::Config { problem: "a supervisor is started by lith itself".to_owned() }),
    };
    let lock = Lock::adopt(adopt(lock)?)?;
    let tap = tap.map(|tap| adopt(tap)).transpose()?;
    let config = ShimConfig::read(Path::new(path))?;
    config.check()?;
    Ok((config, Inherited { lock, tap }))
}

fn adopt(number: &str) -> Result<OwnedFd, ShimError> {
    let failed = |why: String| ShimError::Config { problem: format!("descriptor {number}: {why}") };
    let descriptor = number.parse().map_err(|_| failed("no number".to_owned()))?;
    sys::adopt(descriptor).map_err(|error| failed(error.to_string()))
}

/// What a supervisor that left no record had to say last, if anything.
#[must_use]
pub fn complaint(task_dir: &Path) -> Option<String> {
    let mut text = String::new();
    let file = std::fs::File::open(task_dir.join(COMPLAINTS)).ok()?;
    // A text that is cut in the middle of a character is as good as none.
    file.take(COMPLAINT_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}
