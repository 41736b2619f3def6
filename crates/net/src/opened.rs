//! Addresses that a guest may reach because its own questions for names returned them, for as long as the answers hold.
//!
//! They stand in sets of the guest's own, which the kernel empties as time passes and which hold so many at most. Whoever
//! answers the questions puts them there; [`Network::apply`](crate::Network::apply) makes and removes the sets. Must not
//! know names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use lith_core::job::Port;
use lith_core::slot::Slot;

use crate::address::Family;
use crate::command::{CommandError, run};
use crate::ruleset::{element, kind_of_address};

/// Most addresses, or addresses with ports, of each family that are open to a guest at a time: a browser opens hundreds, and
/// who asks for more than this is looking for something else.
pub const OPENED_MAX: usize = 4096;
/// Most ports of one entry of an egress that can stand beside a name: each is an element for each address.
pub const PORTS_MAX: u16 = 16;
/// Longest that an address stays open without being asked for again: names that say longer are rare, and may lie.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What the names of the sets begin with, and no others do.
pub(crate) const SET_PREFIX: &str = "opened_";

/// An address that is open to a guest: [`PORTS_MAX`] ports at most, for [`LIFETIME_MAX`] at most.
pub use lith_core::resolve::Opening as Opened;

/// Addresses that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// More ports than can stand beside a name; nothing was opened.
    #[error("open {} ports of {address}, which are more than {PORTS_MAX}", u32::from(.port.last.saturating_sub(.port.number)).saturating_add(1))]
    TooManyPorts {
        /// The address.
        address: IpAddr,
        /// The ports.
        port: Port,
    },
    /// The packet filter did not take those of some guests: they are gone, their egress has no names, or they have too many
    /// addresses open. Those of all others were opened.
    #[error("open addresses to {} guests", .0.len())]
    Refused(BTreeMap<Slot, CommandError>),
}

/// Opens addresses, or prolongs those that are open; one that is open for longer is shortened. Blocks for some milliseconds.
///
/// # Errors
/// As [`OpenError`] says.
pub fn open(opened: &[Opened]) -> Result<(), OpenError> {
    if let Some(Opened { address, port: Some(port), .. }) = opened.iter().find(|entry| !has_few_ports(entry))
    {
        return Err(OpenError::TooManyPorts { address: *address, port: *port });
    }
    if opened.is_empty() || put(opened).is_ok() {
        return Ok(());
    }
    // One guest's mistake must not be another one's: each for itself.
    let mut by_slot: BTreeMap<Slot, Vec<Opened>> = BTreeMap::new();
    for entry in opened {
        by_slot.entry(entry.slot).or_default().push(*entry);
    }
    let failed: BTreeMap<Slot, CommandError> =
        by_slot.into_iter().filter_map(|(slot, own)| put(&own).err().map(|error| (slot, error))).collect();
    if failed.is_empty() { Ok(()) } else { Err(OpenError::Refused(failed)) }
}

fn put(opened: &[Opened]) -> Result<(), CommandError> {
    run("nft", &["-f", "-"], &script(opened, |_| true)).map(drop)
}

/// Whether an entry has no more ports than can stand beside a name.
#[must_use]
pub fn has_few_ports(entry: &Opened) -> bool {
    entry.port.is_none_or(|port| port.last.saturating_sub(port.number) < PORTS_MAX)
}

/// The commands that open addresses, of which those are left out that `has_set` does not know a set for, and those beyond what
/// a set takes.
pub(crate) fn script(opened: &[Opened], has_set: impl Fn(&str) -> bool) -> String {
    let mut sets: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for entry in opened.iter().filter(|entry| has_few_ports(entry)) {
        let name = set_name(entry.slot, Family::of(entry.address), entry.port.is_none());
        if !has_set(&name) {
            continue;
        }
        let seconds = entry.lifetime.min(LIFETIME_MAX).as_secs().max(1);
        let elements = sets.entry(name).or_default();
        for key in keys(entry) {
            if elements.len() < OPENED_MAX || elements.contains_key(&key) {
                elements.insert(key, seconds);
            }
        }
    }
    let mut script = String::new();
    for (set, elements) in sets {
        // Older kernels leave an element that exists as it is, so that it is removed first, and added before that so that it is
        // there to be removed.
        let with = |(key, seconds): (&String, &u64)| format!("{key} timeout {seconds}s");
        let timed: Vec<String> = elements.iter().map(with).collect();
        let keys: Vec<String> = elements.into_keys().collect();
        let (timed, keys) = (timed.join(", "), keys.join(", "));
        _ = writeln!(script, "add element inet lith {set} {{ {timed} }}");
        _ = writeln!(script, "delete element inet lith {set} {{ {keys} }}");
        _ = writeln!(script, "add element inet lith {set} {{ {timed} }}");
    }
    script
}

fn keys(entry: &Opened) -> Vec<String> {
    let Opened { address, .. } = entry;
    let Some(port) = entry.port else { return vec![address.to_string()] };
    let key = |number| format!("{address} . {}", element(Port { number, last: number, ..port }));
    (port.number..=port.last).map(key).collect()
}

/// The name of a guest's set: of addresses open at every port (`is_whole`), or of addresses with ports.
pub(crate) fn set_name(slot: Slot, family: Family, is_whole: bool) -> String {
    let version = match family {
        Family::V4 => 4,
        Family::V6 => 6,
    };
    let whole = if is_whole { "whole_" } else { "" };
    format!("{SET_PREFIX}{whole}{slot}_{version}")
}

/// The sets of a guest, by name.
pub(crate) fn declarations(slot: Slot) -> impl Iterator<Item = (String, String)> {
    Family::BOTH.into_iter().flat_map(move |family| {
        [true, false].map(|is_whole| {
            let ports = if is_whole { "" } else { " . inet_proto . inet_service" };
            let kind = kind_of_address(family);
            let declaration = format!("type {kind}{ports}; size {OPENED_MAX}; flags timeout;");
            (set_name(slot, family, is_whole), declaration)
        })
    })
}

#[cfg(test)]
mod tests {
    use lith_core::job::Transport;

    use super::*;

    #[test]
    fn what_is_opened() {
        let slot = Slot::new(7).unwrap();
        let entry = |address: &str, port: Option<(u16, u16)>, seconds| Opened {
            slot,
            address: address.parse().unwrap(),
            port: port.map(|(number, last)| Port { number, last, transport: Transport::Tcp }),
            lifetime: Duration::from_secs(seconds),
        };
        let entries = [
            entry("1.1.1.1", Some((443, 444)), 60),
            entry("2606:4700::1111", None, 1_000_000),
            entry("1.1.1.1", None, 0),
        ];
        let script = script(&entries, |name| name != "opened_whole_7_4");
        assert_eq!(
            script,
            "add element inet lith opened_7_4 { 1.1.1.1 . tcp . 443 timeout 60s, 1.1.1.1 . tcp . 444 timeout 60s }\n\
             delete element inet lith opened_7_4 { 1.1.1.1 . tcp . 443, 1.1.1.1 . tcp . 444 }\n\
             add element inet lith opened_7_4 { 1.1.1.1 . tcp . 443 timeout 60s, 1.1.1.1 . tcp . 444 timeout 60s }\n\
             add element inet lith opened_whole_7_6 { 2606:4700::1111 timeout 86400s }\n\
             delete element inet lith opened_whole_7_6 { 2606:4700::1111 }\n\
             add element inet lith opened_whole_7_6 { 2606:4700::1111 timeout 86400s }\n"
        );
        let error = open(&[entry("1.1.1.1", Some((1, 17)), 60)]).unwrap_err();
        assert_eq!(error.to_string(), "open 17 ports of 1.1.1.1, which are more than 16");
    }
}
