//! What every command has at hand: the client, the terminal, and the ways to print.

use std::io::Write;

use lith_api::client::Client;
use serde::Serialize;

use crate::args::Globals;
use crate::error::Error;
use crate::spinner::Talk;
use crate::table::Table;
use crate::terminal::Terminal;

/// What every command has at hand.
#[derive(Debug)]
pub(crate) struct Context {
    /// The server.
    pub(crate) client: Client,
    /// The streams of this process.
    pub(crate) terminal: Terminal,
    /// Print JSON instead of text.
    pub(crate) json: bool,
    /// Print no progress and no confirmations.
    pub(crate) quiet: bool,
}

impl Context {
    /// Of a command with these flags.
    pub(crate) fn new(globals: &Globals) -> Self {
        Self {
            client: Client::new(&globals.socket()),
            terminal: Terminal::ask(globals.no_color),
            json: globals.json,
            quiet: globals.quiet,
        }
    }

    /// Whether a person sees progress.
    pub(crate) fn is_watched(&self) -> bool {
        self.terminal.is_stderr && !self.quiet && !self.json
    }

    /// The same for a line of progress.
    pub(crate) fn talk(&self) -> Talk {
        if self.is_watched() { Talk::Progress } else { Talk::Quiet }
    }

    /// Prints data.
    pub(crate) fn print(&self, text: &str) -> Result<(), Error> {
        write_out(text.as_bytes())
    }

    /// Prints data as JSON, for people to read too.
    pub(crate) fn print_json(&self, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(value).expect("wire types always encode");
        self.print(&format!("{text}\n"))
    }

    /// Prints one of many values as a line of JSON.
    pub(crate) fn print_json_line(&self, value: &impl Serialize) -> Result<(), Error> {
        let text = serde_json::to_string(value).expect("wire types always encode");
        self.print(&format!("{text}\n"))
    }

    /// Prints a table.
    pub(crate) fn print_table(&self, table: &Table) -> Result<(), Error> {
        self.print(&table.render(self.terminal.width(), self.terminal.stdout))
    }

    /// Says why something did not succeed, when others go on; returns what it would make the command exit with.
    pub(crate) fn report(&self, error: &Error) -> u8 {
        say(error.text(self.terminal.stderr).trim_end());
        error.exit_code()
    }

    /// Says that something was done. Talk, not data: on standard error, and not when quiet.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }
}

/// Writes to standard output; a reader that went away is [`Error::Closed`].
pub(crate) fn write_out(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| Error::output(&error))
}

/// Writes a line to standard error. When nobody reads it, nobody misses it.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
