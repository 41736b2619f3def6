//! Interpolation: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `${NAME:+alternative}` and `$$`.
//!
//! Owns the grammar, and what each form becomes. A template is parsed once, in linear time, and then filled in; a word
//! inside braces is a template again. Must not know where variables come from: it asks.

use std::fmt::Write;
use std::rc::Rc;

/// Deepest nesting of `${…}` within each other: far above any that a person can read.
const NESTING_MAX: usize = 16;
/// Most bytes that a value may become: the longest text that Linux gives a process as one argument or variable.
pub(super) const VALUE_BYTES_MAX: usize = 128 << 10;

/// A piece of a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Literal(&'t str),
    Variable(Variable<'t>),
}

/// A place that a variable fills.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Variable<'t> {
    /// Offset of its `$` in the text.
    pub(super) at: usize,
    /// Bytes from its `$` to its end.
    pub(super) length: usize,
    pub(super) name: &'t str,
    pub(super) form: Form<'t>,
}

/// What happens with the value of a variable.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form<'t> {
    /// It is put in.
    Plain,
    /// `-`: the word is put in when there is none.
    Default(Word<'t>),
    /// `+`: the word is put in when there is one, and else nothing.
    Alternative(Word<'t>),
    /// `?`: without one the file is refused, with the word.
    Required(Word<'t>),
}

/// What follows an operator.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Word<'t> {
    /// `:`: an empty value is as none.
    pub(super) is_strict: bool,
    /// As written.
    pub(super) text: &'t str,
    pub(super) parts: Vec<Part<'t>>,
}

/// A text that is no template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Offset of the `$` that starts nothing.
    pub(super) at: usize,
    pub(super) reason: &'static str,
}

/// What a template asks for: values of variables, and a place for what was noticed.
pub(super) trait Source {
    /// The value of a variable that is about to be put in.
    fn value(&mut self, variable: &Variable<'_>) -> Option<Rc<str>>;

    /// A variable whose place was not filled, since the word around it was not needed.
    fn passed_over(&mut self, variable: &Variable<'_>);

    /// A variable that must have a value has none; with the message.
    fn missing(&mut self, variable: &Variable<'_>, message: &str);
}

/// The value has become longer than [`VALUE_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Takes a text apart; `offset` is where it starts in the whole.
pub(super) fn parse(text: &str) -> Result<Vec<Part<'_>>, Malformed> {
    parse_within(text, 0, 0)
}

fn parse_within(text: &str, offset: usize, depth: usize) -> Result<Vec<Part<'_>>, Malformed> {
    let mut parts = Vec::new();
    let mut literal = 0;
    let mut at = 0;
    while let Some(found) = text[at..].find('$') {
        let dollar = at + found;
        let after = &text[dollar + 1..];
        let length = if after.starts_with('$') {
            push(&mut parts, &text[literal..=dollar]);
            literal = dollar + 2;
            at = literal;
            continue;
        } else if let Some(inside) = after.strip_prefix('{') {
            let (variable, length) = braced(inside, offset + dollar, depth)?;
            push(&mut parts, &text[literal..dollar]);
            parts.push(Part::Variable(variable));
            length
        } else {
            let name = name(after);
            if name.is_empty() {
                at = dollar + 1;
                continue;
            }
            push(&mut parts, &text[literal..dollar]);
            let length = name.len() + 1;
            let at = offset + dollar;
            parts.push(Part::Variable(Variable { at, length, name, form: Form::Plain }));
            length
        };
        literal = dollar + length;
        at = literal;
    }
    push(&mut parts, &text[literal..]);
    Ok(parts)
}

fn push<'t>(parts: &mut Vec<Part<'t>>, literal: &'t str) {
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
}

/// The name at the start of a text: ASCII letters, digits and `_`, no digit first.
fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..end] }
}

/// A variable in braces, of which `inside` starts after `${`, and its length with them.
fn braced(inside: &str, at: usize, depth: usize) -> Result<(Variable<'_>, usize), Malformed> {
    let malformed = |reason| Malformed { at, reason };
    let name = name(inside);
    if name.is_empty() {
        return Err(malformed("no name of a variable follows `${`"));
    }
    let after = &inside[name.len()..];
    if after.starts_with('}') {
        let length = name.len() + 3;
        return Ok((Variable { at, length, name, form: Form::Plain }, length));
    }
    let (is_strict, operator) = match after.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, after),
    };
    let Some(kind) = operator.chars().next().filter(|c| matches!(c, '-' | '+' | '?')) else {
        return Err(malformed("a variable in braces ends with `}`, or goes on with `:-`, `:?` or `:+`"));
    };
    if depth == NESTING_MAX {
        return Err(malformed("variables are nested too deep here"));
    }
    let rest = &operator[1..];
    let end = end_of_word(rest).ok_or_else(|| malformed("the `{` is not closed in this line"))?;
    let before = inside.len() - rest.len() + 2;
    let text = &rest[..end];
    let parts = parse_within(text, at + before, depth + 1)?;
    let word = Word { is_strict, text, parts };
    let form = match kind {
        '-' => Form::Default(word),
        '+' => Form::Alternative(word),
        _ => Form::Required(word),
    };
    let length = before + end + 1;
    Ok((Variable { at, length, name, form }, length))
}

/// Where the `}` is that closes the braces before this text: the one that balances it, else the last of the line, so that a
/// lone `{` may stand in a word.
fn end_of_word(text: &str) -> Option<usize> {
    let line = text.split('\n').next().unwrap_or(text);
    let mut open = 1;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    line.rfind('}')
}

/// A text with the values of its variables, where nobody is told of any: `None` when it cannot be filled in.
pub(super) fn quietly(text: &str, value: impl Fn(&str) -> Option<Rc<str>>) -> Option<String> {
    struct Quiet<F>(F, bool);
    impl<F: Fn(&str) -> Option<Rc<str>>> Source for Quiet<F> {
        fn value(&mut self, variable: &Variable<'_>) -> Option<Rc<str>> {
            self.0(variable.name)
        }

        fn passed_over(&mut self, _: &Variable<'_>) {}

        fn missing(&mut self, _: &Variable<'_>, _: &str) {
            self.1 = true;
        }
    }
    let mut source = Quiet(value, false);
    let filled = fill(&parse(text).ok()?, &mut source).ok()?;
    (!source.1).then_some(filled)
}

/// Fills a template in.
pub(super) fn fill(parts: &[Part<'_>], source: &mut impl Source) -> Result<String, TooLong> {
    let mut text = String::new();
    fill_into(&mut text, parts, source)?;
    Ok(text)
}

fn fill_into(text: &mut String, parts: &[Part<'_>], source: &mut impl Source) -> Result<(), TooLong> {
    for part in parts {
        match part {
            Part::Literal(literal) => text.push_str(literal),
            Part::Variable(variable) => fill_variable(text, variable, source)?,
        }
        if text.len() > VALUE_BYTES_MAX {
            return Err(TooLong);
        }
    }
    Ok(())
}

fn fill_variable(
    text: &mut String,
    variable: &Variable<'_>,
    source: &mut impl Source,
) -> Result<(), TooLong> {
    let value = source.value(variable);
    let (word, is_wanted) = match &variable.form {
        Form::Plain => {
            text.push_str(value.as_deref().unwrap_or_default());
            return Ok(());
        }
        Form::Alternative(word) => {
            let is_wanted = value.is_some_and(|value| !(word.is_strict && value.is_empty()));
            (word, is_wanted)
        }
        Form::Default(word) | Form::Required(word) => match value {
            Some(value) if !(word.is_strict && value.is_empty()) => {
                text.push_str(&value);
                (word, false)
            }
            Some(_) | None => (word, true),
        },
    };
    if !is_wanted {
        pass_over(&word.parts, source);
    } else if matches!(variable.form, Form::Required(_)) {
        let message = fill(&word.parts, source)?;
        source.missing(variable, &message);
    } else {
        fill_into(text, &word.parts, source)?;
    }
    Ok(())
}

/// Tells of each variable of a word that is not put in.
fn pass_over(parts: &[Part<'_>], source: &mut impl Source) {
    for part in parts {
        let Part::Variable(variable) = part else { continue };
        source.passed_over(variable);
        match &variable.form {
            Form::Plain => {}
            Form::Default(word) | Form::Alternative(word) | Form::Required(word) => {
                pass_over(&word.parts, source)
            }
        }
    }
}

/// What to write instead of a text that is no template.
pub(super) fn advice(reason: &str) -> String {
    if reason.contains("nested") {
        return String::from("give the inner ones values of their own");
    }
    let mut hint = String::from("write `$$` for a `$` that starts no variable");
    if reason.contains("closed") {
        let _ = write!(hint, ", and keep a default in one line");
    }
    hint
}
