//! `lith up --detach`: the daemon in the background, returned from when it answers.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lith_api::client::Client;
use lith_api::error::{Code, Failure};
use lith_api::node::Version;
use lith_cli::{Spinner, UpArgs};

use crate::up;

/// A daemon answers within a fraction of a second; on a small board whose disk sleeps, in some.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Between looks.
const INTERVAL: Duration = Duration::from_millis(20);
/// A log that is longer at a start makes room for a new one, and replaces the one before it: a daemon logs changes, so
/// that this holds years of a quiet one.
const LOG_BYTES_MAX: u64 = 16 << 20;

/// Starts the daemon in a session of its own and waits until it answers.
///
/// # Errors
/// What the daemon had to say when it ended instead.
pub fn up(args: &UpArgs) -> Result<(), Failure> {
    up::require_root()?;
    // Here a mistake is said at once; the daemon would say it to its log.
    up::log_filter(args.log.as_deref())?;
    let layout = up::prepare(&args.data_dir, &args.run_dir)?;
    let path = layout.log();
    let failed =
        |what: &str, error: std::io::Error| Failure::new(Code::Machine, format!("cannot {what}: {error}"));
    rotate(&path, &layout.log_old(), LOG_BYTES_MAX)
        .map_err(|error| failed(&format!("rename {}", path.display()), error))?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed(&format!("open {}", path.display()), error))?;
    let start = log.metadata().map_or(0, |metadata| metadata.len());
    let program = std::env::current_exe().map_err(|error| failed("find the program", error))?;
    let mut command = Command::new(program);
    command.arg("up").arg("--data-dir").arg(&layout.data).arg("--run-dir").arg(&layout.run);
    command.arg("--guest-network").arg(args.guest_network.to_string());
    let options = [("--node", &args.node), ("--log", &args.log)];
    for (flag, value) in options.into_iter().filter_map(|(flag, value)| Some((flag, value.as_ref()?))) {
        command.arg(flag).arg(value);
    }
    for pool in &args.pools {
        command.arg("--pool").arg(pool);
    }
    if args.trust_database {
        command.arg("--trust-database");
    }
    if let Some(kernel) = &args.kernel {
        command.arg("--kernel").arg(up::absolute(kernel)?);
    }
    // A process group of its own: Ctrl-C in this terminal is not meant for the daemon.
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .current_dir("/")
        .process_group(0)
        .spawn()
        .map_err(|error| failed("start the daemon", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("start threads", error))?;
    let _spinner = Spinner::new(args.manner.talk, "starting lith");
    runtime.block_on(wait(child, &Client::new(&layout.socket()), &path, start))
}

fn rotate(path: &Path, old: &Path, bytes_max: u64) -> std::io::Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > bytes_max => std::fs::rename(path, old),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn wait(mut child: Child, client: &Client, log: &Path, start: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + ANSWER_DEADLINE;
    loop {
        // An older daemon's answer is not this one's.
        if let Ok(version) = client.get::<Version>("/v1/version").await
            && version.pid == child.id()
        {
            return Ok(());
        }
        if let Ok(Some(_)) = child.try_wait() {
            return Err(said(log, start));
        }
        if Instant::now() >= deadline {
            let message = format!("the daemon does not answer after {} s", ANSWER_DEADLINE.as_secs());
            return Err(Failure::new(Code::Machine, message).hint(format!("see {}", log.display())));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What a daemon that ended had to say: its last error and hint.
fn said(log: &Path, start: u64) -> Failure {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(usize::try_from(start).unwrap_or(0)..).unwrap_or_default())
        .into_owned();
    let find =
        |prefix: &str| text.lines().rev().find_map(|line| line.strip_prefix(prefix).map(str::to_owned));
    let message = find("error: ").unwrap_or_else(|| "the daemon ended at once".to_owned());
    let hint = find("hint: ").unwrap_or_else(|| format!("see {}", log.display()));
    Failure::new(Code::Machine, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_put_aside_once() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("lith.log"), folder.path().join("lith.log.old"));
        rotate(&path, &old, 3).unwrap();
        std::fs::write(&path, "abc").unwrap();
        rotate(&path, &old, 3).unwrap();
        assert!(path.exists() && !old.exists());
        std::fs::write(&path, "abcd").unwrap();
        std::fs::write(&old, "before").unwrap();
        rotate(&path, &old, 3).unwrap();
        assert!(!path.exists());
        assert_eq!(std::fs::read(&old).unwrap(), b"abcd");
    }
}
