//! Forwarding on the interfaces through which clients come: turned on while guests run, put back afterwards.
//!
//! A packet to a published port is forwarded, and the kernel decides by the interface it arrived at whether it forwards
//! at all. Where the host is a router already (`ip_forward`), nothing needs to be done. Where it is none, only the
//! interfaces that have an address are switched, one by one: the machine-wide switch would change settings of every
//! interface, and nobody could tell later whose it is. What arrives at a switched interface for somebody else than a
//! guest is dropped by the rules, so that the host does not become a router.
//!
//! Which interfaces were switched is remembered in a file, so that a crash does not lose it. The file holds the boot it
//! was written in: after a reboot the switches are whatever the host's own configuration made them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::NetworkError;
use crate::interface;

/// Whether the host is a router.
const ROUTER: &str = "/proc/sys/net/ipv4/ip_forward";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// First line of the file: its format and version.
const HEADING: &str = "lith network 1";
/// What begins each further line but that of the boot.
const ENTRY: &str = "forwarding ";

/// Finds out which interfaces forward, or have to, for lith alone, and remembers them before [`enable`] switches them.
pub(crate) fn claim(file: &Path) -> Result<BTreeSet<String>, NetworkError> {
    if is_router()? {
        forget(file)?;
        return Ok(BTreeSet::new());
    }
    let before = remembered(file)?;
    let mut switched = before.clone();
    for name in interface::addressed()? {
        if !forwards(&name)? {
            switched.insert(name);
        }
    }
    if switched != before {
        let mut content = format!("{HEADING}\nboot {}\n", interface::get(BOOT_ID)?);
        content.extend(switched.iter().flat_map(|name| [ENTRY, name, "\n"]));
        write_durably(file, &content)
            .map_err(|source| NetworkError::StateFile { path: file.to_owned(), source })?;
    }
    Ok(switched)
}

/// Turns forwarding on. To be called when the rules are in force that keep the host from becoming a router.
pub(crate) fn enable(switched: &BTreeSet<String>) -> Result<(), NetworkError> {
    switched.iter().try_for_each(|name| switch(name, "1"))
}

/// Puts back what it was before [`claim`]. A host that has become a router since keeps what it has.
pub(crate) fn release(file: &Path) -> Result<(), NetworkError> {
    if !is_router()? {
        remembered(file)?.iter().try_for_each(|name| switch(name, "0"))?;
    }
    forget(file)
}

fn is_router() -> Result<bool, NetworkError> {
    Ok(interface::get(ROUTER)? != "0")
}

fn setting(name: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{name}/forwarding")
}

fn forwards(name: &str) -> Result<bool, NetworkError> {
    Ok(interface::get(&setting(name))? != "0")
}

/// Interfaces come and go: one that is gone has nothing to be switched.
fn switch(name: &str, value: &str) -> Result<(), NetworkError> {
    match interface::set(&setting(name), value) {
        Err(NetworkError::Setting { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// The interfaces that, so the file says, lith switched in this boot.
fn remembered(file: &Path) -> Result<BTreeSet<String>, NetworkError> {
    let content = match fs::read_to_string(file) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(source) => return Err(NetworkError::StateFile { path: file.to_owned(), source }),
    };
    let boot = format!("boot {}", interface::get(BOOT_ID)?);
    let mut lines = content.lines();
    if lines.next() != Some(HEADING) || lines.next() != Some(&boot) {
        return Ok(BTreeSet::new());
    }
    Ok(lines.filter_map(|line| line.strip_prefix(ENTRY)).map(str::to_owned).collect())
}

fn forget(file: &Path) -> Result<(), NetworkError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(NetworkError::StateFile { path: file.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn write_durably(file: &Path, content: &str) -> io::Result<()> {
    let folder = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = file.with_extension("new");
    let mut handle = File::create(&temporary)?;
    handle.write_all(content.as_bytes())?;
    handle.sync_all()?;
    fs::rename(&temporary, file)?;
    File::open(folder)?.sync_all()
}
