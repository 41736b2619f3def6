//! Where a person reaches a published port. Pure.

/// Ports on which servers speak HTTP by custom: a link is worth more than a number.
const HTTP_PORTS: [&str; 9] = ["80", "3000", "5000", "8000", "8008", "8080", "8081", "8888", "9000"];
const HTTPS_PORTS: [&str; 2] = ["443", "8443"];

/// What to open for a published port such as `127.0.0.1:8080:80`: a link where the port speaks HTTP by custom,
/// `127.0.0.1:5432` elsewhere.
pub(crate) fn link(publish: &str) -> String {
    let (ports, transport) = publish.split_once('/').unwrap_or((publish, "tcp"));
    let parts: Vec<&str> = ports.split(':').collect();
    let (address, host, guest) = match parts[..] {
        // Not `localhost`: that is IPv6 first on many machines, and lith publishes on IPv4.
        [host, guest] => ("127.0.0.1", host, guest),
        ["0.0.0.0", host, guest] => ("127.0.0.1", host, guest),
        [address, host, guest] => (address, host, guest),
        _ => return publish.to_owned(),
    };
    if transport != "tcp" {
        return format!("{address}:{host}/{transport}");
    }
    if HTTP_PORTS.contains(&guest) {
        let port = if host == "80" { String::new() } else { format!(":{host}") };
        return format!("http://{address}{port}");
    }
    if HTTPS_PORTS.contains(&guest) {
        let port = if host == "443" { String::new() } else { format!(":{host}") };
        return format!("https://{address}{port}");
    }
    format!("{address}:{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        let check = |publish: &str, expected: &str| assert_eq!(link(publish), expected);
        check("8080:80", "http://127.0.0.1:8080");
        check("80:8080", "http://127.0.0.1");
        check("0.0.0.0:81:80", "http://127.0.0.1:81");
        check("127.0.0.1:8080:80", "http://127.0.0.1:8080");
        check("443:443", "https://127.0.0.1");
        check("5432:5432", "127.0.0.1:5432");
        check("53:53/udp", "127.0.0.1:53/udp");
    }
}
