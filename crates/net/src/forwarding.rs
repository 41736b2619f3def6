//! The host's `ip_forward` switch: turned on while guests run, put back afterwards.
//!
//! What it was is remembered in a file, so that a crash between does not lose it. The file holds the boot it was
//! written in: after a reboot the switch is whatever the host's own configuration made it, and is looked at anew.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::error::NetworkError;
use crate::interface;
use crate::ruleset::OtherForwarding;

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// First line of the file: its format and version.
const HEADING: &str = "lith network 1";

/// Finds out whether forwarding is on for lith alone, and remembers it before [`enable`] makes it so.
pub(crate) fn claim(file: &Path) -> Result<OtherForwarding, NetworkError> {
    if is_ours(file)? {
        return Ok(OtherForwarding::Dropped);
    }
    if interface::get(SWITCH)? != "0" {
        forget(file)?;
        return Ok(OtherForwarding::Untouched);
    }
    let content = format!("{HEADING}\nboot {}\nip_forward 0\n", interface::get(BOOT_ID)?);
    write_durably(file, &content)
        .map_err(|source| NetworkError::StateFile { path: file.to_owned(), source })?;
    Ok(OtherForwarding::Dropped)
}

/// Turns forwarding on. To be called when the rules are in force that keep the host from becoming a router.
pub(crate) fn enable() -> Result<(), NetworkError> {
    interface::set(SWITCH, "1")
}

/// Puts the switch back to what it was before [`claim`].
pub(crate) fn release(file: &Path) -> Result<(), NetworkError> {
    if is_ours(file)? {
        interface::set(SWITCH, "0")?;
    }
    forget(file)
}

/// Whether the file says that in this boot it was lith that turned forwarding on.
fn is_ours(file: &Path) -> Result<bool, NetworkError> {
    let content = match fs::read_to_string(file) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(NetworkError::StateFile { path: file.to_owned(), source }),
    };
    Ok(content == format!("{HEADING}\nboot {}\nip_forward 0\n", interface::get(BOOT_ID)?))
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
