//! Environment variables.

use super::{Refusal, quoted};

/// Checks the name of a variable.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::new("a variable has no name"));
    }
    if name.contains('=') || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
        let message = format!("{} is not the name of a variable", quoted(name));
        return Err(Refusal::new(message).hint("names hold no `=` and no spaces"));
    }
    Ok(())
}

/// Checks the value of the variable `name`.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn value(name: &str, value: &str) -> Result<String, Refusal> {
    if value.contains('\0') {
        let message =
            format!("the value of {} holds a NUL character, which no process can be given", quoted(name));
        return Err(Refusal::new(message));
    }
    Ok(value.to_owned())
}

/// A variable written `NAME=value`.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn pair(text: &str) -> Result<(String, String), Refusal> {
    let Some((name, value)) = text.split_once('=') else {
        self::name(text)?;
        return Err(without_value(text, &format!("{text}=")));
    };
    self::name(name)?;
    Ok((name.to_owned(), self::value(name, value)?))
}

/// The refusal of a variable that has no value: Compose would take it from whoever types the command.
#[must_use]
pub fn without_value(name: &str, empty: &str) -> Refusal {
    let message = format!("the variable {} has no value", quoted(name));
    let hint =
        format!("a job does not depend on your shell: give the value, or {} for an empty one", quoted(empty));
    Refusal::new(message).hint(hint)
}
