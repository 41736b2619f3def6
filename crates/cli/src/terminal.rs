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

/// Lines of others on a terminal: tabs and colours stay, everything else that a terminal would obey is left out.
pub(crate) fn harmless(text: &str) -> String {
    let (mut shown, mut rest, mut has_colour) = (String::new(), text, false);
    while let Some(start) = rest.find(|c: char| c.is_control() && c != '\t') {
        shown.push_str(&rest[..start]);
        rest = &rest[start..];
        let (length, is_colour) = control(rest);
        if is_colour {
            shown.push_str(&rest[..length]);
        }
        has_colour |= is_colour;
        rest = &rest[length..];
    }
    shown.push_str(rest);
    if has_colour {
        // What comes next has colours of its own.
        shown.push_str("\x1b[0m");
    }
    shown
}

/// Bytes of the control sequence (ECMA-48) at the beginning of `text`, and whether it sets colours.
fn control(text: &str) -> (usize, bool) {
    let bytes = text.as_bytes();
    let first = text.chars().next().map_or(0, char::len_utf8);
    let find = |from: usize, stops: fn(&u8) -> bool| {
        bytes.iter().skip(from).position(stops).map_or(bytes.len(), |position| from + position)
    };
    match (bytes.first(), bytes.get(1)) {
        (Some(0x1b), Some(b'[')) => {
            let end = find(2, |byte| !(0x20..=0x3f).contains(byte));
            let is_colour = bytes.get(end) == Some(&b'm')
                && bytes[2..end].iter().all(|byte| byte.is_ascii_digit() || b";:".contains(byte));
            let has_end = bytes.get(end).is_some_and(|byte| (0x40..=0x7e).contains(byte));
            (end + usize::from(has_end), is_colour)
        }
        // A string, such as a window's title; without its end it takes the rest of the line.
        (Some(0x1b), Some(b']' | b'P' | b'X' | b'^' | b'_')) => {
            let end = find(2, |byte| matches!(byte, 0x07 | 0x1b));
            let length = match (bytes.get(end), bytes.get(end + 1)) {
                (Some(0x07), _) => end + 1,
                (Some(0x1b), Some(b'\\')) => end + 2,
                _ => end,
            };
            (length, false)
        }
        (Some(0x1b), Some(0x20..=0x7e)) => {
            let end = find(1, |byte| !(0x20..=0x2f).contains(byte));
            let has_end = bytes.get(end).is_some_and(|byte| (0x30..=0x7e).contains(byte));
            (end + usize::from(has_end), false)
        }
        _ => (first, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_commanded() {
        let check = |text: &str, expect: &str| assert_eq!(harmless(text), expect, "{text:?}");
        check("plain\tünïcode", "plain\tünïcode");
        check("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m\x1b[0m");
        check("\x1b[38:5:1mred", "\x1b[38:5:1mred\x1b[0m");
        check("a\x1b[2Jb\x1b[10;20Hc\x1b[?25ld", "abcd");
        check("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab");
        check("\x1b]52;c;never ended", "");
        check("a\rb\x08\x07\u{9b}2Jc\x7f", "ab2Jc");
        check("\x1bcreset\x1b(0\x1b7x", "resetx");
        check("\x1b[>1mkeys\x1b[", "keys");
        check("\x1b", "");
        check("\x1b[3ü", "ü");
        check("\x1bü", "ü");
    }
}
