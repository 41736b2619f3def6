//! Command lines: text into words, by the quoting rules of the POSIX shell (2.2) and nothing else of it.
//!
//! Written here because the crates for it drop what follows a `#`, which no exec form does, and cannot tell a quoted
//! operator from a bare one.

use lith_core::value::quoted;

use super::Refusal;
use crate::diagnostic::Code;

/// Words that only a shell understands.
const OPERATORS: [&str; 10] = ["&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1", "2>"];

/// A command line in words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) words: Vec<String>,
    /// The first bare word that only a shell understands.
    pub(crate) operator: Option<String>,
}

/// Splits at white space outside quotes; removes quotes and backslashes.
pub(crate) fn split(text: &str) -> Result<Split, Refusal> {
    word(text)?;
    let mut split = Split { words: Vec::new(), operator: None };
    let mut rest = text.chars();
    let mut current: Option<Word> = None;
    while let Some(character) = rest.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => split.push(current.take()),
            '\'' => current.get_or_insert_default().quoted(single(&mut rest)?),
            '"' => current.get_or_insert_default().quoted(double(&mut rest)?),
            '\\' => match rest.next() {
                Some('\n') => {}
                Some(escaped) => current.get_or_insert_default().quoted(escaped.to_string()),
                None => return Err(unfinished("a backslash at the end escapes nothing")),
            },
            bare => current.get_or_insert_default().text.push(bare),
        }
    }
    split.push(current.take());
    Ok(split)
}

/// Checks one word of a command line.
pub(crate) fn word(text: &str) -> Result<String, Refusal> {
    if text.contains('\0') {
        let message = format!("{} holds a NUL character, which no process can be given", quoted(text));
        return Err(Refusal::new(Code::BadCommand, message));
    }
    Ok(text.to_owned())
}

#[derive(Default)]
struct Word {
    text: String,
    is_quoted: bool,
}

impl Word {
    fn quoted(&mut self, text: String) {
        self.text.push_str(&text);
        self.is_quoted = true;
    }
}

impl Split {
    fn push(&mut self, word: Option<Word>) {
        let Some(word) = word else { return };
        if self.operator.is_none() && !word.is_quoted && OPERATORS.contains(&word.text.as_str()) {
            self.operator = Some(word.text.clone());
        }
        self.words.push(word.text);
    }
}

fn single(rest: &mut std::str::Chars<'_>) -> Result<String, Refusal> {
    let (inside, after) =
        rest.as_str().split_once('\'').ok_or_else(|| unfinished("a `'` is never closed"))?;
    *rest = after.chars();
    Ok(inside.to_owned())
}

/// Inside double quotes a backslash is special only before these four and a line break.
fn double(rest: &mut std::str::Chars<'_>) -> Result<String, Refusal> {
    let never_closed = || unfinished("a `\"` is never closed");
    let mut inside = String::new();
    loop {
        match rest.next().ok_or_else(never_closed)? {
            '"' => return Ok(inside),
            '\\' => match rest.next().ok_or_else(never_closed)? {
                '\n' => {}
                escaped @ ('$' | '`' | '"' | '\\') => inside.push(escaped),
                other => inside.extend(['\\', other]),
            },
            plain => inside.push(plain),
        }
    }
}

fn unfinished(what: &str) -> Refusal {
    let message = format!("the command cannot be split into words: {what}");
    Refusal::new(Code::BadCommand, message).hint("write it as a list of words, such as `[ echo, \"it's\" ]`")
}
