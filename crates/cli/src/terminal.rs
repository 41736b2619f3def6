//! What the terminal can do: colours, width, and whether there is one.

use std::io::IsTerminal;

use rustix::termios::tcgetwinsize;

/// Width to format for when nobody tells.
const WIDTH_DEFAULT: usize = 100;
/// Below this a table is unreadable however it is cut.
const WIDTH_MIN: usize = 40;

/// The streams of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// Standard output is one.
    pub(crate) is_stdout: bool,
    /// Standard error is one.
    pub(crate) is_stderr: bool,
    /// Colours for standard output.
    pub(crate) stdout: Paint,
    /// Colours for standard error.
    pub(crate) stderr: Paint,
}

impl Terminal {
    /// Asks the machine.
    pub(crate) fn ask(no_color: bool) -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let may_paint = !no_color && !is_set("NO_COLOR") && !is_dumb;
        let (is_stdout, is_stderr) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        Self {
            is_stdout,
            is_stderr,
            stdout: Paint { is_on: may_paint && is_stdout },
            stderr: Paint { is_on: may_paint && is_stderr },
        }
    }

    /// Characters in a line of standard output; `None` when it is no terminal, and lines may be of any length.
    pub(crate) fn width(self) -> Option<usize> {
        if !self.is_stdout {
            return None;
        }
        let columns = tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        Some(if columns == 0 { WIDTH_DEFAULT } else { columns.max(WIDTH_MIN) })
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint {
    is_on: bool,
}

impl Paint {
    /// No colours.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { is_on: false };

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// The same choice for the job file's diagnostics.
    pub(crate) fn diagnostics(self) -> lith_spec::Colour {
        if self.is_on { lith_spec::Colour::Ansi } else { lith_spec::Colour::None }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text of others, safe to show: a task's sentences must not move the cursor or set the window's title.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
