//! Running `nft`, `ip` and `unshare`: input, output, a deadline.
//!
//! Must not know what the commands mean.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long a program may take. They take milliseconds; one that waits for a lock that nobody will release must not
/// hold up the node for ever.
const DEADLINE: Duration = Duration::from_secs(30);

/// A program that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be run, or its pipes broke.
    #[error("run {program}")]
    Run {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was killed because it took too long.
    #[error("{program} {arguments} took longer than {} s", DEADLINE.as_secs())]
    Deadline {
        /// The program.
        program: &'static str,
        /// Its arguments.
        arguments: String,
    },
    /// It said that it failed.
    #[error("{program} {arguments} failed ({status}): {said}")]
    Failed {
        /// The program.
        program: &'static str,
        /// Its arguments.
        arguments: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to stderr.
        said: String,
    },
}

impl CommandError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Run { program, source } if source.kind() == io::ErrorKind::NotFound => {
                let package = match *program {
                    "nft" => "nftables",
                    "ip" => "iproute2",
                    other => other,
                };
                Some(format!("install it: apt-get install {package}"))
            }
            Self::Run { .. } => None,
            Self::Deadline { program, .. } => Some(format!("look for another {program} that hangs")),
            Self::Failed { said, .. } if said.contains("ermitted") => Some("run as root".into()),
            Self::Failed { .. } => Some("run `lith doctor` to see what this machine lacks".into()),
        }
    }
}

/// Runs a program with `input` on its stdin and gives what it wrote to stdout.
///
/// # Errors
/// It cannot be run, takes too long or fails.
pub(crate) fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String, CommandError> {
    let broken = |source| CommandError::Run { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(broken)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (finished, output, said) = thread::scope(|scope| {
        // A program that fails early closes its stdin; its exit status tells more than the broken pipe.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        let output = scope.spawn(move || read_all(stdout));
        let said = scope.spawn(move || read_all(stderr));
        let finished = wait(&mut child);
        (finished, output.join().unwrap_or_default(), said.join().unwrap_or_default())
    });
    let arguments = arguments.join(" ");
    let Some(status) = finished.map_err(broken)? else {
        return Err(CommandError::Deadline { program, arguments });
    };
    if !status.success() {
        return Err(CommandError::Failed { program, arguments, status, said: said.trim().to_owned() });
    }
    Ok(output)
}

/// Waits until the child has ended; kills it and gives `None` at the deadline.
fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let ended = match wait_for_exit(child) {
        Ok(ended) => ended,
        Err(error) => {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
    };
    if !ended {
        child.kill()?;
        child.wait()?;
        return Ok(None);
    }
    child.wait().map(Some)
}

fn wait_for_exit(child: &Child) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let handle: OwnedFd = pidfd_open(pid, PidfdFlags::empty())?;
    let timeout = Timespec::try_from(DEADLINE).map_err(|_| io::ErrorKind::InvalidInput)?;
    loop {
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read before an error is still worth showing.
        _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_failure() {
        assert_eq!(run("cat", &[], "text").unwrap(), "text");
        let error = run("sh", &["-c", "echo no >&2; exit 3"], "").unwrap_err();
        assert_eq!(error.to_string(), "sh -c echo no >&2; exit 3 failed (exit status: 3): no");
        let error = run("no-such-program", &[], "").unwrap_err();
        assert_eq!(error.to_string(), "run no-such-program");
        assert!(error.hint().is_some());
    }
}
