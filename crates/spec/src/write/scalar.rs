//! Single values as YAML.
//!
//! Owns when quotes are needed: where some reader of YAML could misunderstand.

use crate::variables::escaped;

/// A value as a YAML scalar, with each `$` that would start a variable made harmless.
pub(crate) fn value(text: &str) -> String {
    scalar(&escaped(text))
}

/// Text as a YAML scalar that every reader takes for that text.
pub(crate) fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            ' '..='~' => quoted.push(character),
            // Letters of all languages stand as they are; what is invisible, or a line break to some reader, is escaped.
            _ if character.is_alphanumeric() => quoted.push(character),
            _ => quoted.push_str(&escape(u32::from(character))),
        }
    }
    quoted.push('"');
    quoted
}

fn escape(code: u32) -> String {
    match code {
        0..=0xff => format!("\\x{code:02x}"),
        0x100..=0xffff => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    }
}

/// Whether the text, unquoted, is text to every reader of YAML: no number, no date, no word with a meaning.
fn is_plain(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        || text.starts_with("./")
        || text.starts_with("../")
        || is_quantity(text);
    let is_simple = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./+@=".contains(&byte);
    // A colon inside is harmless when something follows it that is no space, as in `nginx:1.27`.
    let colons_are_inside = !text.ends_with(':');
    let is_word = matches!(
        text.to_ascii_lowercase().as_str(),
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null" | "nan" | "inf"
    );
    let inside = text.bytes().all(|byte| is_simple(byte) || byte == b':');
    starts_well && inside && colons_are_inside && !is_word
}

/// Digits and a unit of one letter: `1G`, `30s`.
fn is_quantity(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| "KMGTsmh".contains(c));
    text.len() == digits.len() + 1 && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The lines of a text that can be written as they are, below a `|`; `None` when quotes with escapes are needed.
pub(super) fn literal(text: &str) -> Option<(&'static str, Vec<&str>)> {
    let (header, body) = match text.strip_suffix('\n') {
        Some(body) => ("|", body),
        None => ("|-", text),
    };
    let lines: Vec<&str> = body.split('\n').collect();
    // White space at the edges is what readers, editors and people lose.
    let is_kept = |line: &&str| {
        let is_shown = line.chars().all(|c| matches!(c, ' '..='~') || c.is_alphanumeric());
        is_shown && !line.ends_with(' ')
    };
    let first = lines.first().filter(|line| !line.is_empty() && !line.starts_with(' '))?;
    let last = lines.last().filter(|line| !line.is_empty())?;
    let is_long = lines.len() > 1 && !first.is_empty() && !last.is_empty();
    (is_long && lines.iter().all(is_kept)).then_some((header, lines))
}
