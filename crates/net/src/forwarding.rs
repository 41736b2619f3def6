//! Forwarding on the interfaces through which clients come: turned on while guests run, put back afterwards.
//!
//! A packet to a published port is forwarded, and so is an answer to what a guest asked outside; the kernel decides by the
//! interface it arrived at whether it forwards at all. Where the host is a router already, nothing needs to be done. Where it
//! is none, only the interfaces that have an address are switched, one by one: the machine-wide switch would change settings
//! of every interface, and nobody could tell later whose it is. What arrives at a switched interface for somebody else than a
//! guest is dropped by the rules, so that the host does not become a router.
//!
//! Of IPv6 only Linux 6.17 and newer can switch interfaces (`force_forwarding`). Older ones are switched as a whole, which
//! makes interfaces deaf to router advertisements that listen to them only while the host is no router (`accept_ra` 1), and
//! might cost a home server its address: those are told to listen all the same (2) before.
//!
//! What was switched is remembered in a file, so that a crash does not lose it. The file holds the boot it was written in:
//! after a reboot the switches are whatever the host's own configuration made them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::address::{self, Family};
use crate::error::NetworkError;
use crate::interface;
use crate::own::{Own, ways};

/// Whether the host is a router.
const ROUTER: &str = "/proc/sys/net/ipv4/ip_forward";
const ROUTER_6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
/// Exists where interfaces can be switched one by one.
const FORCE_6: &str = "/proc/sys/net/ipv6/conf/default/force_forwarding";
const INTERFACES_6: &str = "/proc/sys/net/ipv6/conf";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// First line of the file: its format and version.
const HEADING: &str = "lith network 1";

/// A setting of the host that lith changed. Each is a line of the file, after the heading and the boot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Switch {
    /// IPv4 of an interface.
    Interface(String),
    /// IPv6 of an interface.
    Interface6(String),
    /// IPv6 of the machine.
    Machine6,
    /// An interface listens to router advertisements though the host is a router.
    Listens(String),
}

impl Switch {
    fn line(&self) -> String {
        match self {
            Self::Interface(name) => format!("forwarding {name}"),
            Self::Interface6(name) => format!("forwarding6 {name}"),
            Self::Machine6 => "router6".to_owned(),
            Self::Listens(name) => format!("listens {name}"),
        }
    }

    fn read(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            Some(("forwarding", name)) => Some(Self::Interface(name.to_owned())),
            Some(("forwarding6", name)) => Some(Self::Interface6(name.to_owned())),
            Some(("listens", name)) => Some(Self::Listens(name.to_owned())),
            None if line == "router6" => Some(Self::Machine6),
            _ => None,
        }
    }

    fn setting(&self) -> String {
        match self {
            Self::Interface(name) => format!("/proc/sys/net/ipv4/conf/{name}/forwarding"),
            Self::Interface6(name) => format!("{INTERFACES_6}/{name}/force_forwarding"),
            Self::Machine6 => ROUTER_6.to_owned(),
            Self::Listens(name) => format!("{INTERFACES_6}/{name}/accept_ra"),
        }
    }

    /// What it is switched to, and what it was before.
    fn values(&self) -> (&'static str, &'static str) {
        match self {
            Self::Interface(_) | Self::Interface6(_) | Self::Machine6 => ("1", "0"),
            Self::Listens(_) => ("2", "1"),
        }
    }
}

/// How IPv6 is made to be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// Interface by interface.
    Interfaces,
    /// On the whole machine.
    Machine,
}

impl Means {
    /// What this kernel can do.
    pub(crate) fn of_kernel() -> Self {
        if fs::exists(FORCE_6).unwrap_or(false) { Self::Interfaces } else { Self::Machine }
    }
}

/// What forwards for lith alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    switches: BTreeSet<Switch>,
    /// Interfaces that must not become ways to others.
    pub(crate) switched: BTreeSet<String>,
    pub(crate) switched_6: BTreeSet<String>,
}

/// Finds out what forwards, or has to, for lith alone, and remembers it before [`enable`] switches it.
pub(crate) fn claim(file: &Path, own: &[Own], means: Means) -> Result<Claim, NetworkError> {
    let before = remembered(file)?;
    let mut switches = claim_4(&before, own)?;
    let (switches_6, switched_6) = claim_6(&before, own, means)?;
    switches.extend(switches_6);
    let switched = switches.iter().filter_map(|switch| match switch {
        Switch::Interface(name) => Some(name.clone()),
        Switch::Interface6(_) | Switch::Machine6 | Switch::Listens(_) => None,
    });
    let claim = Claim { switched: switched.collect(), switched_6, switches };
    if claim.switches.is_empty() {
        // What it says may be of another boot.
        forget(file)?;
    } else if claim.switches != before {
        remember(file, &claim.switches)?;
    }
    Ok(claim)
}

fn claim_4(before: &BTreeSet<Switch>, own: &[Own]) -> Result<BTreeSet<Switch>, NetworkError> {
    if interface::get(ROUTER)? != "0" {
        return Ok(BTreeSet::new());
    }
    let is_of_family = |switch: &&Switch| matches!(switch, Switch::Interface(_));
    let mut switches: BTreeSet<Switch> = before.iter().filter(is_of_family).cloned().collect();
    for name in ways(own, Family::V4) {
        let switch = Switch::Interface(name);
        if read(&switch)?.as_deref() == Some("0") {
            switches.insert(switch);
        }
    }
    Ok(switches)
}

/// The switches of IPv6, and the interfaces that forward for lith alone.
fn claim_6(
    before: &BTreeSet<Switch>,
    own: &[Own],
    means: Means,
) -> Result<(BTreeSet<Switch>, BTreeSet<String>), NetworkError> {
    let nothing = (BTreeSet::new(), BTreeSet::new());
    if !interface::has_ipv6() {
        return Ok(nothing);
    }
    let is_router = interface::get(ROUTER_6)? != "0";
    if is_router && !before.contains(&Switch::Machine6) {
        return Ok(nothing);
    }
    let names = ways(own, Family::V6);
    let mut switches: BTreeSet<Switch> =
        before.iter().filter(|switch| !matches!(switch, Switch::Interface(_))).cloned().collect();
    if means == Means::Interfaces && !is_router {
        for name in names {
            let switch = Switch::Interface6(name);
            if read(&switch)?.as_deref() == Some("0") {
                switches.insert(switch);
            }
        }
        let switched = switches.iter().filter_map(|switch| match switch {
            Switch::Interface6(name) => Some(name.clone()),
            Switch::Interface(_) | Switch::Machine6 | Switch::Listens(_) => None,
        });
        let switched = switched.collect();
        return Ok((switches, switched));
    }
    for name in interfaces_6()? {
        let switch = Switch::Listens(name);
        if read(&switch)?.as_deref() == Some("1") {
            switches.insert(switch);
        }
    }
    switches.insert(Switch::Machine6);
    Ok((switches, names))
}

/// All interfaces with IPv6 but ours. The setting of new ones too, so that they listen as well.
fn interfaces_6() -> Result<Vec<String>, NetworkError> {
    let failed = |source| NetworkError::Setting { path: INTERFACES_6.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(INTERFACES_6).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        // Switching `all` would switch each one, among them those that do not listen.
        if name != "all" && address::slot_of_tap(name).is_none() {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Turns forwarding on. To be called when the rules are in force that keep the host from becoming a router.
pub(crate) fn enable(claim: &Claim) -> Result<(), NetworkError> {
    // Who listens is told before the machine becomes a router.
    let (machine, others): (Vec<_>, Vec<_>) =
        claim.switches.iter().partition(|switch| **switch == Switch::Machine6);
    others.into_iter().chain(machine).try_for_each(|switch| write(switch, switch.values().0))
}

/// Puts back what it was before [`claim`]. A host that has become a router since keeps what it has.
pub(crate) fn release(file: &Path) -> Result<(), NetworkError> {
    let switches = remembered(file)?;
    let is_router = interface::get(ROUTER)? != "0";
    // The machine first: as long as it is a router, nobody listens who was told to do so before.
    let (machine, others): (Vec<_>, Vec<_>) =
        switches.iter().partition(|switch| **switch == Switch::Machine6);
    for switch in machine.into_iter().chain(others) {
        let stays = is_router && matches!(switch, Switch::Interface(_));
        // What somebody else has changed since is theirs.
        if !stays && read(switch)?.as_deref() == Some(switch.values().0) {
            write(switch, switch.values().1)?;
        }
    }
    forget(file)
}

/// `None` where there is no such setting: interfaces come and go.
fn read(switch: &Switch) -> Result<Option<String>, NetworkError> {
    match interface::get(&switch.setting()) {
        Ok(value) => Ok(Some(value)),
        Err(NetworkError::Setting { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Interfaces come and go: one that is gone has nothing to be switched.
fn write(switch: &Switch, value: &str) -> Result<(), NetworkError> {
    match interface::set(&switch.setting(), value) {
        Err(NetworkError::Setting { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// What, so the file says, lith switched in this boot.
fn remembered(file: &Path) -> Result<BTreeSet<Switch>, NetworkError> {
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
    Ok(lines.filter_map(Switch::read).collect())
}

fn remember(file: &Path, switches: &BTreeSet<Switch>) -> Result<(), NetworkError> {
    let mut content = format!("{HEADING}\nboot {}\n", interface::get(BOOT_ID)?);
    for switch in switches {
        content.push_str(&switch.line());
        content.push('\n');
    }
    write_durably(file, &content).map_err(|source| NetworkError::StateFile { path: file.to_owned(), source })
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
