//! What a check of a task's health asks: `":8080/health"`.

use lith_core::job::health::Probe;
use lith_core::value::quoted;

use super::Refusal;
use crate::diagnostic::Code;

const EXAMPLE: &str = "write the port and the path, such as `\":8080/health\"`";

/// A port of the task and a path.
pub(crate) fn http(text: &str) -> Result<Probe, Refusal> {
    let refusal = || Refusal::new(Code::BadHealth, format!("{} is not a port and a path", quoted(text)));
    if let Some((_, rest)) = text.split_once("://") {
        let at = rest.find([':', '/']).unwrap_or(rest.len());
        let port_and_path =
            if rest[at..].starts_with(':') { rest[at..].to_owned() } else { format!(":80{}", &rest[at..]) };
        let hint = format!("the task itself is asked: write `\"{port_and_path}\"`");
        return Err(if http(&port_and_path).is_ok() {
            refusal().hint(hint)
        } else {
            refusal().hint(EXAMPLE)
        });
    }
    let Some(rest) = text.strip_prefix(':') else { return Err(refusal().hint(EXAMPLE)) };
    let slash = rest.find('/').unwrap_or(rest.len());
    let port = port(&rest[..slash])?;
    let path = if slash == rest.len() { "/" } else { &rest[slash..] };
    if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(refusal().hint("a path holds no spaces; write `%20` for one"));
    }
    Ok(Probe::Http { port, path: path.to_owned() })
}

/// A port of the task.
pub(crate) fn port(text: &str) -> Result<u16, Refusal> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = is_number.then(|| text.parse().ok()).flatten().filter(|port: &u16| *port != 0);
    port.ok_or_else(|| {
        Refusal::new(Code::BadPort, format!("{} is not a port", quoted(text))).hint("ports are 1 to 65535")
    })
}
