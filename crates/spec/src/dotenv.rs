//! Files of variables: `.env`, `env_file`, `--env-file`.
//!
//! Owns their grammar: `NAME=value`, `export`, comments, quotes over several lines, escapes. Must not fill in variables: it
//! says of each value whether that is to be done.

/// One line of such a file, or several where quotes span them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<'t> {
    pub(crate) name: &'t str,
    /// Offset of the name.
    pub(crate) at: usize,
    pub(crate) value: Setting,
}

/// What an entry says of its variable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// The value is taken from outside.
    Inherited,
    /// Exactly this, in single quotes.
    Verbatim(String),
    /// This, once variables are put in.
    Template(String),
}

/// Why a text is no file of variables.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) at: usize,
    pub(crate) message: &'static str,
    pub(crate) hint: &'static str,
}

const EXAMPLE: &str = "write each variable in a line of its own, as in `NAME=value`";

/// Every entry, in order.
pub(crate) fn parse(text: &str) -> Result<Vec<Entry<'_>>, Malformed> {
    let mut entries = Vec::new();
    let mut at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    while let Some(start) = next_statement(text, at) {
        let (entry, end) = statement(text, start)?;
        entries.push(entry);
        at = end;
    }
    Ok(entries)
}

/// Where the next statement starts: white space and lines of comment are skipped.
fn next_statement(text: &str, mut at: usize) -> Option<usize> {
    loop {
        let rest = &text[at..];
        at += rest.len() - rest.trim_start().len();
        let rest = &text[at..];
        if rest.is_empty() {
            return None;
        }
        if !rest.starts_with('#') {
            return Some(at);
        }
        at += rest.find('\n')?;
    }
}

/// White space within a line.
fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

/// The statement at an offset, and where it ends.
fn statement(text: &str, start: usize) -> Result<(Entry<'_>, usize), Malformed> {
    let mut at = start;
    if let Some(after) = text[start..].strip_prefix("export").filter(|after| after.starts_with(is_blank)) {
        at = text.len() - after.trim_start_matches(is_blank).len();
    }
    let rest = &text[at..];
    let end = rest
        .find(|c: char| !(is_blank(c) || matches!(c, '_' | '.' | '-' | '[' | ']') || c.is_alphanumeric()));
    let end = end.unwrap_or(rest.len());
    let name = rest[..end].trim_end();
    let malformed = |message| Malformed { at, message, hint: EXAMPLE };
    if name.contains(is_blank) {
        return Err(malformed("the name of a variable holds a space here"));
    }
    let after = at + end;
    match text[after..].chars().next() {
        None | Some('\n') => {
            if name.is_empty() {
                return Err(malformed("a variable has no name here"));
            }
            Ok((Entry { name, at, value: Setting::Inherited }, after))
        }
        Some('=' | ':') if name.is_empty() => Err(malformed("a variable has no name here")),
        Some('=' | ':') => {
            let blank = text[after + 1..].len() - text[after + 1..].trim_start_matches(is_blank).len();
            let (value, end) = value(text, after + 1 + blank)?;
            Ok((Entry { name, at, value }, end))
        }
        Some(_) => Err(Malformed {
            at: after,
            message: "this character cannot stand in the name of a variable",
            hint: EXAMPLE,
        }),
    }
}

/// The value at an offset, and where it ends.
fn value(text: &str, start: usize) -> Result<(Setting, usize), Malformed> {
    let rest = &text[start..];
    match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted(text, start, quote),
        Some(_) | None => {
            let line = rest.split('\n').next().unwrap_or(rest);
            let shown = line.split(" #").next().unwrap_or(line).trim_end();
            Ok((Setting::Template(shown.to_owned()), start + line.len()))
        }
    }
}

/// A value in quotes, which may hold line breaks, and its own quote after a backslash.
fn quoted(text: &str, start: usize, quote: char) -> Result<(Setting, usize), Malformed> {
    let mut value = String::new();
    let mut is_escaped = false;
    for (at, character) in text[start + 1..].char_indices() {
        if character == quote && !is_escaped {
            let end = start + 1 + at + 1;
            let setting =
                if quote == '"' { Setting::Template(unescaped(&value)) } else { Setting::Verbatim(value) };
            return Ok((setting, end));
        }
        if character == '\\' && !is_escaped {
            is_escaped = true;
            continue;
        }
        if is_escaped && character != quote {
            value.push('\\');
        }
        is_escaped = false;
        value.push(character);
    }
    Err(Malformed {
        at: start,
        message: "a quoted value starts here and never ends",
        hint: "close the quote; one inside the value is written with a backslash before it",
    })
}

/// Escapes of the shell in double quotes; `\$` stays a `$` that starts no variable.
fn unescaped(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        value.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (replacement, length) = match after.bytes().next() {
            Some(b'a') => ("\u{7}", 1),
            Some(b'b') => ("\u{8}", 1),
            Some(b'f') => ("\u{c}", 1),
            Some(b'n') => ("\n", 1),
            Some(b'r') => ("\r", 1),
            Some(b't') => ("\t", 1),
            Some(b'v') => ("\u{b}", 1),
            Some(b'"') => ("\"", 1),
            Some(b'\\') => ("\\", 1),
            Some(b'$') => ("$$", 1),
            Some(b'0') => match octal(&after[1..]) {
                Some(character) => {
                    value.push(character);
                    ("", 4)
                }
                None => ("\\", 0),
            },
            Some(_) | None => ("\\", 0),
        };
        value.push_str(replacement);
        rest = &after[length..];
    }
    value.push_str(rest);
    value
}

/// The character of three octal digits.
fn octal(text: &str) -> Option<char> {
    let digits = text.get(..3).filter(|digits| digits.bytes().all(|byte| matches!(byte, b'0'..=b'7')))?;
    u8::from_str_radix(digits, 8).ok().map(char::from)
}
