//! Paths as Compose files write them.
//!
//! Owns their arithmetic, which is of text alone: relative ones are relative to the folder of the first file, and are
//! written without a leading `./`. Must not look at what stands there.

use crate::source::normal;

/// A path against the folder that it is relative to. Absolute paths, and those of a person's home, stay as they are but
/// for `.` and `..`.
pub(super) fn join(folder: &str, path: &str) -> String {
    if path.starts_with('~') || is_remote(path) {
        return path.to_owned();
    }
    if path.starts_with('/') || folder.is_empty() {
        return normal(path);
    }
    normal(&format!("{folder}/{path}"))
}

/// The folder of a path, as [`join`] takes it.
pub(super) fn folder(path: &str) -> String {
    match path.rfind('/') {
        Some(0) => String::from("/"),
        Some(at) => normal(&path[..at]),
        None => String::new(),
    }
}

/// A path of the host as a project shows it: what is relative begins with `.`.
pub(super) fn shown(path: &str) -> String {
    let is_rooted = path.starts_with(['/', '~']);
    let is_dotted = path == "." || path == ".." || path.starts_with("../");
    if is_rooted || is_dotted { path.to_owned() } else { format!("./{path}") }
}

/// Whether the text names something that is fetched, rather than a file.
pub(super) fn is_remote(path: &str) -> bool {
    path.contains("://") || path.starts_with("git@") || path.starts_with("github.com/")
}

#[cfg(test)]
mod tests {
    use super::{folder, join, normal, shown};

    #[test]
    fn arithmetic() {
        for (base, path, joined) in [
            ("", "a", "a"),
            ("", "./a/./b", "a/b"),
            ("sub", "../a", "a"),
            ("sub", "../../a", "../a"),
            ("../x", "y", "../x/y"),
            ("sub", "/etc/../x", "/x"),
            ("sub", "~/x", "~/x"),
            ("sub", "..", "."),
            ("/", "x", "/x"),
            ("", "/../x", "/x"),
            ("sub", "https://h//x", "https://h//x"),
        ] {
            assert_eq!(join(base, path), joined, "{base} {path}");
        }
        for (path, of) in [("a", ""), ("a/b", "a"), ("/a", "/"), ("../a/b", "../a"), ("./a", ".")] {
            assert_eq!(folder(path), of, "{path}");
        }
        assert_eq!(normal(""), ".");
        for (path, as_shown) in [("a", "./a"), (".", "."), ("../a", "../a"), ("..a", "./..a"), ("/a", "/a")] {
            assert_eq!(shown(path), as_shown);
        }
    }
}
