//! Image references, as far as they can be judged without asking anyone: `nginx`, `registry.example:5000/a/b:1.2@sha256:…`.
//!
//! The grammar is that of the distribution project's `reference` package. The reference is kept as written; what it
//! stands for is not decided here.

use super::{Refusal, quoted};

/// Longest name without tag and digest (`NameTotalLengthMax`).
const NAME_BYTES_MAX: usize = 255;
/// Longest tag.
const TAG_BYTES_MAX: usize = 128;

/// An image reference.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn parse(text: &str) -> Result<String, Refusal> {
    let refusal = |why: &str| Refusal::new(format!("{} is not an image reference: {why}", quoted(text)));
    if let Some((scheme, rest)) = text.split_once("://") {
        let refusal = refusal("it names a protocol");
        let is_plain = matches!(scheme, "http" | "https" | "docker") && parse(rest).is_ok();
        return Err(if is_plain { refusal.hint(format!("write `{rest}`")) } else { refusal });
    }
    if text.chars().any(char::is_whitespace) {
        return Err(refusal("it holds a space"));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err(
            refusal("what follows `@` is no digest").hint("a digest is `sha256:` and 64 digits 0-9, a-f")
        );
    }
    let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[path_start..].find(':') {
        Some(colon) => (&rest[..path_start + colon], Some(&rest[path_start + colon + 1..])),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(refusal("what follows the last `:` is no tag")
            .hint("tags hold letters, digits, `_`, `.` and `-`"));
    }
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let hint = "names are 1 to 255 characters long, such as `nginx` or `registry.example/team/app`";
        return Err(refusal("the name is missing or too long").hint(hint));
    }
    check_name(name).map_err(|why| match why {
        NameFault::Capitals => {
            refusal("names are in lower case").hint(format!("did you mean `{}`?", lowered(text, name)))
        }
        NameFault::Form => refusal("parts of a name hold a-z, 0-9, and single `.`, `_`, `-` between them"),
    })?;
    Ok(text.to_owned())
}

enum NameFault {
    Capitals,
    Form,
}

/// Checks the host, if the first part is one, and the path.
fn check_name(name: &str) -> Result<(), NameFault> {
    let path = match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => {
            if !is_host(first) {
                return Err(NameFault::Form);
            }
            path
        }
        _ => name,
    };
    if path.split('/').all(is_component) {
        return Ok(());
    }
    let lower = path.to_ascii_lowercase();
    Err(if lower.split('/').all(is_component) { NameFault::Capitals } else { NameFault::Form })
}

/// The reference with its name in lower case.
fn lowered(text: &str, name: &str) -> String {
    format!("{}{}", name.to_ascii_lowercase(), &text[name.len()..])
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        let word = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        word && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// Lower-case words joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut separator = String::new();
    let mut follows_word = false;
    for byte in text.bytes() {
        if word(byte) {
            let joins =
                matches!(separator.as_str(), "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
            if !joins || (!separator.is_empty() && !follows_word) {
                return false;
            }
            separator.clear();
            follows_word = true;
        } else if matches!(byte, b'.' | b'_' | b'-') {
            separator.push(char::from(byte));
        } else {
            return false;
        }
    }
    follows_word && separator.is_empty()
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let inside = text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    inside && text.len() <= TAG_BYTES_MAX && text.bytes().next().is_some_and(word)
}

fn is_digest(text: &str) -> bool {
    let hex_len = match text.split_once(':') {
        Some(("sha256", hex)) => Some((hex, 64)),
        Some(("sha512", hex)) => Some((hex, 128)),
        _ => None,
    };
    hex_len.is_some_and(|(hex, length)| {
        hex.len() == length && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}
