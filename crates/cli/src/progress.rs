//! What a person sees while waiting: one line that turns. On a terminal only, and never when quiet.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::args::Manner;

/// Time between two pictures of a spinner.
const TICK: Duration = Duration::from_millis(120);

/// A line that turns while something is waited for, and vanishes with this value.
#[derive(Debug)]
pub struct Spinner {
    bar: ProgressBar,
}

impl Spinner {
    /// Shows what is waited for, if anybody watches.
    #[must_use]
    pub fn start(manner: Manner, text: &str) -> Self {
        let is_watched = std::io::stderr().is_terminal() && !manner.is_quiet;
        let bar = if is_watched { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if is_watched {
            turn(&bar);
        }
        bar.set_message(text.to_owned());
        Self { bar }
    }

    /// Shows something else from now on.
    pub(crate) fn show(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Makes a bar one that turns beside its message.
pub(crate) fn turn(bar: &ProgressBar) {
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is valid"));
    bar.enable_steady_tick(TICK);
}
