//! Paths in the guest.

use super::Refusal;
use crate::diagnostic::{Code, quoted};

/// Longest path that Linux takes, without its closing NUL (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4095;

/// An absolute path.
pub(crate) fn absolute(text: &str) -> Result<String, Refusal> {
    if text.contains('\0') || text.len() > PATH_BYTES_MAX {
        return Err(Refusal::new(Code::BadPath, format!("{} is not a path", quoted(text))));
    }
    if !text.starts_with('/') {
        let refusal = Refusal::new(Code::BadPath, format!("{} is not an absolute path", quoted(text)));
        return Err(if text.is_empty() { refusal } else { refusal.hint("start it with `/`") });
    }
    Ok(text.to_owned())
}
