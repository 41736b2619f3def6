//! Why a command did not succeed, and how that is said.

use std::io;

use lith_api::error::{Code, Failure};
use lith_spec::Diagnostics;

use crate::exit;
use crate::terminal::Paint;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server refused, or something on this side failed.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The words make no sense together, which the grammar alone could not see.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to type instead.
        hint: String,
    },
    /// The job file is not valid.
    #[error("{0}")]
    File(Box<Diagnostics>),
    /// What was waited for did not come true.
    #[error("{failure}")]
    NotReady {
        /// Why.
        failure: Failure,
        /// The end of the task's log.
        log: Vec<String>,
    },
    /// Nobody reads our output any more, as with `| head`. Not a failure.
    #[error("the reader of the output is gone")]
    Closed,
    /// The person pressed Ctrl-C; the text says what goes on without us.
    #[error("{0}")]
    Interrupted(String),
}

impl Error {
    /// A failure of this side.
    pub(crate) fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failure(Failure::new(code, message).hint(hint))
    }

    /// A mistake on the command line.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    /// Something that failed while writing to standard output.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        let message = format!("cannot write to standard output: {error}");
        Self::new(Code::Machine, message, "see whether the disk or the terminal behind it is gone or full")
    }

    /// A local file that cannot be used.
    pub(crate) fn local(what: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let path = path.display();
        let hint = match error.kind() {
            io::ErrorKind::NotFound => format!("`{path}` is looked for on this machine: check the path"),
            io::ErrorKind::PermissionDenied => "run this command as a user who may, such as root".to_owned(),
            io::ErrorKind::StorageFull => "free some space, then try again".to_owned(),
            _ => format!("check what `{path}` is"),
        };
        let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Machine };
        Self::new(code, format!("cannot {what} `{path}`: {error}"), hint)
    }

    /// What the process exits with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failure(failure) if failure.code == Code::Internal => exit::FAULT,
            Self::Failure(_) | Self::File(_) | Self::NotReady { .. } => exit::FAILED,
            Self::Usage { .. } => exit::USAGE,
            Self::Closed => exit::DONE,
            Self::Interrupted(_) => exit::INTERRUPTED,
        }
    }

    /// The text for standard error, with its line ends.
    pub(crate) fn text(&self, paint: Paint) -> String {
        match self {
            Self::Failure(failure) => failure_text(failure, &[], paint),
            Self::NotReady { failure, log } => failure_text(failure, log, paint),
            Self::Usage { message, hint } => {
                format!("{} {message}\n{} {hint}\n", paint.red("error:"), paint.cyan("hint:"))
            }
            Self::File(diagnostics) => {
                format!("{}\n", diagnostics.render(paint.diagnostics()).trim_end_matches('\n'))
            }
            Self::Closed => String::new(),
            Self::Interrupted(text) => format!("{text}\n"),
        }
    }
}

/// A failure as people see it: what, the end of a log if one helps, then what to do.
pub(crate) fn failure_text(failure: &Failure, log: &[String], paint: Paint) -> String {
    let code = failure.code;
    let error = paint.red("error:");
    let mut text = format!("{error} {} {}\n", failure.message, paint.dim(&format!("[{code}]")));
    if !log.is_empty() {
        text.push_str("its last lines:\n");
        text.extend(log.iter().map(|line| format!("  {line}\n")));
    }
    let explain = || format!("`lith explain {code}` says more");
    let hint = failure.hint.clone().unwrap_or_else(explain);
    text.push_str(&format!("{} {hint}\n", paint.cyan("hint:")));
    if let Some(request) = failure.request.as_ref().filter(|_| code == Code::Internal) {
        text.push_str(&format!("the server's log has the cause under request {request}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_and_what_next() {
        let check = |failure: Failure, expected: &str| {
            assert_eq!(Error::from(failure).text(Paint::PLAIN), expected);
        };
        check(
            Failure::new(Code::NotFound, "there is no job \"shop\"").hint("`lith job ls` lists them"),
            "error: there is no job \"shop\" [E0002]\nhint: `lith job ls` lists them\n",
        );
        check(
            Failure {
                request: Some("r7".to_owned()),
                ..Failure::new(Code::Internal, "cannot read the database")
            },
            "error: cannot read the database [E0009]\nhint: `lith explain E0009` says more\n\
             the server's log has the cause under request r7\n",
        );
        check(
            Failure { request: Some("r8".to_owned()), ..Failure::new(Code::Invalid, "no").hint("yes") },
            "error: no [E0001]\nhint: yes\n",
        );
    }

    #[test]
    fn exit_codes() {
        assert_eq!(Error::from(Failure::new(Code::Internal, "x")).exit_code(), 3);
        assert_eq!(Error::from(Failure::new(Code::NotFound, "x")).exit_code(), 1);
        assert_eq!(Error::usage("x", "y").exit_code(), 2);
        assert_eq!(Error::output(&io::ErrorKind::BrokenPipe.into()).exit_code(), 0);
        assert_eq!(Error::Interrupted(String::new()).exit_code(), 130);
    }
}
