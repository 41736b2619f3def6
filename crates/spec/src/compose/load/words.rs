//! Command lines in one text, split as Compose splits them.
//!
//! Owns that grammar. It is not the shell's: a bare `;`, `&`, `|`, `<` or `>` ends the command without a word, and a bare
//! `(` is refused. People's files rely on the first by accident, so whoever reads the result is told where it was cut.

/// A command line in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) words: Vec<String>,
    /// The character at which the rest was dropped.
    pub(super) cut_at: Option<char>,
}

#[derive(Default)]
struct State {
    words: Vec<String>,
    word: String,
    has_word: bool,
    is_escaped: bool,
    in_double: bool,
    in_single: bool,
    in_backquotes: bool,
    in_dollar: bool,
}

impl State {
    fn is_quoted(&self) -> bool {
        self.in_single || self.in_double || self.in_backquotes || self.in_dollar
    }

    fn push(&mut self, character: char) {
        self.has_word = true;
        self.word.push(character);
    }

    fn end_word(&mut self) {
        if std::mem::take(&mut self.has_word) {
            self.words.push(std::mem::take(&mut self.word));
        }
    }
}

/// Splits a text; `Err` says why it is no command line.
pub(super) fn split(text: &str) -> Result<Split, &'static str> {
    let mut state = State::default();
    let mut cut_at = None;
    for character in text.chars() {
        if std::mem::take(&mut state.is_escaped) {
            state.push(character);
            continue;
        }
        match character {
            '\\' if state.in_single => state.push('\\'),
            '\\' => state.is_escaped = true,
            ' ' | '\t' | '\r' | '\n' if state.is_quoted() => state.word.push(character),
            ' ' | '\t' | '\r' | '\n' => state.end_word(),
            ';' | '&' | '|' | '<' | '>' if !state.is_quoted() => {
                // `2>` is dropped with its number.
                if character == '>' && state.word.starts_with(|c: char| c.is_ascii_digit()) {
                    state.has_word = false;
                }
                cut_at = Some(character);
                break;
            }
            other => quote_or_push(&mut state, other)?,
        }
    }
    state.end_word();
    if state.is_escaped {
        return Err("a backslash at the end escapes nothing");
    }
    if state.is_quoted() {
        return Err("a quote or a bracket is never closed");
    }
    Ok(Split { words: state.words, cut_at })
}

fn quote_or_push(state: &mut State, character: char) -> Result<(), &'static str> {
    match character {
        '"' if !state.in_single && !state.in_dollar => {
            state.has_word |= state.in_double;
            state.in_double = !state.in_double;
            return Ok(());
        }
        '\'' if !state.in_double && !state.in_dollar => {
            state.has_word |= state.in_single;
            state.in_single = !state.in_single;
            return Ok(());
        }
        '`' if !state.in_single && !state.in_double && !state.in_dollar => {
            state.in_backquotes = !state.in_backquotes;
        }
        ')' if !state.in_single && !state.in_double && !state.in_backquotes => {
            state.in_dollar = !state.in_dollar;
        }
        '(' if !state.in_single && !state.in_double && !state.in_backquotes => {
            if state.in_dollar || !state.word.ends_with('$') {
                return Err("a `(` stands outside quotes, which only a shell understands");
            }
            state.in_dollar = true;
        }
        _ => {}
    }
    state.push(character);
    Ok(())
}
