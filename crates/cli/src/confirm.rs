//! A person's yes before something that costs. Whether it is needed and can be had is decided without a terminal.

use std::io::{BufRead, IsTerminal, Write};

use lith_api::error::Code;

use crate::context::Context;
use crate::error::Error;
use crate::terminal::printable;

/// Whether a person has agreed already, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yes {
    /// By `--yes`.
    Said,
    /// Not yet.
    NotSaid,
}

impl Yes {
    /// From the flag.
    pub(crate) fn from_flag(yes: bool) -> Self {
        if yes { Self::Said } else { Self::NotSaid }
    }
}

/// What becomes of a command that costs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Go,
    Ask,
    /// Nobody is there to be asked.
    Refuse,
}

fn rule(yes: Yes, is_terminal: bool) -> Rule {
    match (yes, is_terminal) {
        (Yes::Said, _) => Rule::Go,
        (Yes::NotSaid, true) => Rule::Ask,
        (Yes::NotSaid, false) => Rule::Refuse,
    }
}

/// Says what will happen, and asks; `what` is made of sentences. Without a terminal nobody can say yes but `--yes`.
///
/// Whether it was agreed to.
pub(crate) fn confirm(context: &Context, what: &str, yes: Yes) -> Result<bool, Error> {
    let what = printable(what);
    let is_terminal = context.terminal.is_stderr && std::io::stdin().is_terminal();
    match rule(yes, is_terminal) {
        Rule::Go => {
            if !context.json {
                context.say(&what);
            }
            Ok(true)
        }
        Rule::Ask => {
            let mut stderr = std::io::stderr();
            let mut answer = String::new();
            let asked = write!(stderr, "{what}\nGo on? [y/N] ")
                .and_then(|()| stderr.flush())
                .and_then(|()| std::io::stdin().lock().read_line(&mut answer));
            asked.map_err(|error| {
                Error::new(Code::Machine, format!("cannot ask: {error}"), "say `--yes` if it is meant")
            })?;
            let is_agreed = is_yes(&answer);
            if !is_agreed {
                context.say("nothing was done");
            }
            Ok(is_agreed)
        }
        Rule::Refuse => {
            let message = format!("nobody is there to be asked: {}", what.trim_end_matches('.'));
            Err(Error::new(Code::Invalid, message, "say `--yes` if that is meant"))
        }
    }
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked() {
        assert_eq!(rule(Yes::Said, true), Rule::Go);
        assert_eq!(rule(Yes::Said, false), Rule::Go);
        assert_eq!(rule(Yes::NotSaid, true), Rule::Ask);
        assert_eq!(rule(Yes::NotSaid, false), Rule::Refuse);
        assert_eq!(Yes::from_flag(true), Yes::Said);
    }

    #[test]
    fn answers() {
        for yes in ["y\n", "Y", " yes \r\n", "YES"] {
            assert!(is_yes(yes), "{yes}");
        }
        for no in ["", "\n", "n", "yep", "no\n"] {
            assert!(!is_yes(no), "{no}");
        }
    }
}
