//! Users: `name`, `1000`, `name:group`, `1000:1000`.
//!
//! Whether the image knows the name is seen in the guest.

use super::{Refusal, quoted};

/// Longest user or group name that useradd(8) and groupadd(8) make, with room for names from elsewhere.
const NAME_BYTES_MAX: usize = 256;

/// A user, and after a colon a group.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn parse(text: &str) -> Result<String, Refusal> {
    let refusal = || Refusal::new(format!("{} is not a user", quoted(text)));
    let example = "write a name or number, and a group after a colon: `www-data`, `1000:1000`";
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let well_formed = |part: &str| {
        let clean = !part.chars().any(|c| c.is_whitespace() || c.is_control() || c == ':' || c == '/');
        clean && !part.is_empty() && part.len() <= NAME_BYTES_MAX
    };
    if !well_formed(user) || !group.is_none_or(well_formed) {
        return Err(refusal().hint(example));
    }
    for part in std::iter::once(user).chain(group) {
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        // The highest number means "no user" to the kernel.
        if is_number && !part.parse::<u32>().is_ok_and(|id| id != u32::MAX) {
            return Err(refusal().hint(format!("numbers of users and groups are 0 to {}", u32::MAX - 1)));
        }
    }
    Ok(text.to_owned())
}
