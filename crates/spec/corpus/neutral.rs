//! What variables of real files are given: for the test that judges them and for the program that measures them, which have
//! to mean the same.

/// Values for variables that have no default: a port where a port is meant, and so on. They are the neutral values that
/// the files need to be read at all; the reference was given some, too.
pub(crate) fn neutral(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| upper.contains(word));
    if has(&["PORT"]) {
        // Each another one: equal ones would collide.
        let sum = name.bytes().fold(0u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(u16::from(byte)));
        return (10_000 + sum % 20_000).to_string();
    }
    let value = match () {
        () if upper.ends_with("SOCKET_LOCATION") => "/var/run/docker.sock",
        () if has(&["DIR", "PATH", "FOLDER", "ROOT", "LOCATION", "HOME", "CONFIG", "DEV"]) => "/srv/neutral",
        () if has(&["UID", "GID", "TAG", "VERSION", "SIZE"]) => "1",
        // The type and options of a volume: frappe's own for a folder of the node.
        () if upper.ends_with("_TYPE") => "none",
        () if upper.ends_with("_OPTS") => "bind",
        () => "neutral",
    };
    value.to_owned()
}
