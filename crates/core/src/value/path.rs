//! Paths in the guest.

use super::{Refusal, quoted};

/// Longest path that Linux takes, without its closing NUL (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4095;

/// An absolute path.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn absolute(text: &str) -> Result<String, Refusal> {
    if text.contains('\0') || text.len() > PATH_BYTES_MAX {
        return Err(Refusal::new(format!("{} is not a path", quoted(text))));
    }
    if !text.starts_with('/') {
        let refusal = Refusal::new(format!("{} is not an absolute path", quoted(text)));
        return Err(if text.is_empty() { refusal } else { refusal.hint("start it with `/`") });
    }
    Ok(text.to_owned())
}
