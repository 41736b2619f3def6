//! `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.
//!
//! Their text is pure. A file is replaced by renaming, so a symlink of that name in the image is replaced and not
//! followed.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use lith_guest::messages::{BootConfig, BootStep, HostEntry};

use crate::failure::{During, Failure};

const HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// Writes all three. To be run in the task's root.
pub(crate) fn write(config: &BootConfig) -> Result<(), Failure> {
    fs::create_dir_all("/etc").during(BootStep::Files, "make /etc")?;
    let address = config.network.as_ref().map(|network| network.address);
    let files = [
        ("/etc/hostname", format!("{}\n", config.hostname)),
        ("/etc/hosts", hosts(&config.hostname, address, &config.extra_hosts)),
        ("/etc/resolv.conf", resolvers(&config.resolvers, &config.search_domains)),
    ];
    for (path, text) in files {
        replace(path, &text).during(BootStep::Files, format_args!("write {path}"))?;
    }
    Ok(())
}

/// Writes a file in the place of what was there.
pub(crate) fn replace(path: &str, text: &str) -> io::Result<()> {
    let temporary = format!("{path}.lith");
    // Not followed either, should the image have one of that name.
    let _ = fs::remove_file(&temporary);
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}

fn hosts(hostname: &str, address: Option<Ipv4Addr>, extra: &[HostEntry]) -> String {
    let mut text = HOSTS.to_owned();
    let own = address.map(|address| (IpAddr::V4(address), hostname));
    let extra = extra.iter().map(|entry| (entry.address, entry.name.as_str()));
    for (address, name) in own.into_iter().chain(extra) {
        writeln!(text, "{address}\t{name}").expect("writing to a string cannot fail");
    }
    text
}

/// As Docker writes it for networks of a project: names are asked for as they are before a domain is added.
fn resolvers(addresses: &[Ipv4Addr], search_domains: &[String]) -> String {
    let mut text: String = addresses.iter().map(|address| format!("nameserver {address}\n")).collect();
    if !search_domains.is_empty() {
        writeln!(text, "search {}", search_domains.join(" ")).expect("writing to a string cannot fail");
    }
    if !text.is_empty() {
        text.push_str("options ndots:0\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::os::unix::fs::symlink;

    use lith_guest::messages::HostEntry;

    use super::{HOSTS, hosts, replace, resolvers};

    #[test]
    fn texts() {
        assert_eq!(hosts("odin", None, &[]), HOSTS);
        let entry =
            |name: &str, address: &str| HostEntry { name: name.into(), address: address.parse().unwrap() };
        let entries = [entry("db", "10.0.0.2"), entry("six", "2001:db8::1")];
        let text = hosts("odin", Some(Ipv4Addr::new(10, 0, 0, 1)), &entries);
        assert_eq!(text, format!("{HOSTS}10.0.0.1\todin\n10.0.0.2\tdb\n2001:db8::1\tsix\n"));
        assert_eq!(resolvers(&[], &[]), "");
        let gateway = [Ipv4Addr::new(169, 254, 83, 1)];
        assert_eq!(resolvers(&gateway, &[]), "nameserver 169.254.83.1\noptions ndots:0\n");
        assert_eq!(
            resolvers(&gateway, &["shop.lith.internal".to_owned()]),
            "nameserver 169.254.83.1\nsearch shop.lith.internal\noptions ndots:0\n"
        );
    }

    #[test]
    fn a_symlink_is_replaced_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("resolv.conf"));
        std::fs::write(&victim, "precious").unwrap();
        symlink(&victim, &path).unwrap();
        symlink(&victim, folder.path().join("resolv.conf.lith")).unwrap();
        replace(path.to_str().unwrap(), "new").unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
    }
}
