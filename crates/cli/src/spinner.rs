//! One line that says what is waited for, on a terminal only. It decides nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::table::cut;
use crate::terminal::{Terminal, printable};

/// Time between two pictures.
pub(crate) const TICK: Duration = Duration::from_millis(120);
/// Characters at most: narrow terminals wrap what is longer, and then redrawing fails.
const CHARS_MAX: usize = 76;

/// Whether a person wants to see what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Talk {
    /// Where standard error is a terminal.
    #[default]
    Progress,
    /// Nothing but data and errors.
    Quiet,
}

/// A line on standard error, redrawn in place and gone when this is dropped; nothing where nobody watches.
#[derive(Debug)]
pub struct Spinner {
    bar: Option<ProgressBar>,
}

impl Spinner {
    /// A line with this text.
    #[must_use]
    pub fn new(talk: Talk, text: &str) -> Self {
        let is_watched = talk == Talk::Progress && Terminal::ask(false).is_stderr;
        let bar = is_watched.then(|| {
            let bar = ProgressBar::new_spinner();
            turn(&bar);
            bar
        });
        let spinner = Self { bar };
        spinner.say(text);
        spinner
    }

    /// Another text.
    pub fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(cut(&printable(text), Some(CHARS_MAX)));
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Makes a bar one that turns beside its message.
pub(crate) fn turn(bar: &ProgressBar) {
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is valid"));
    bar.enable_steady_tick(TICK);
}
