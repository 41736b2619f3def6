//! The packet filter as a thing that can be compared: two models differ where the rules do.

use std::collections::BTreeMap;

use lith_core::job::access::{BANDWIDTH_MAX, BANDWIDTH_MIN, Bandwidth, Egress};
use lith_core::slot::Slot;

use super::elements::{Chains, Collector, Elements, tap};
use super::{OWNER, Surroundings, chains, comment, words};
use crate::address::{self, Family};
use crate::opened;
use crate::state::{Guest, NetworkState, StateError};

/// A set of a guest, as its declaration says it.
pub(super) type Sets = BTreeMap<String, String>;

/// Both tables. Pure data; [`first`](Self::first), [`whole`](Self::whole) and [`difference`](Self::difference) make it text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Who owns the tables. A change of this or of the constants is no difference but a replacement.
    pub(super) comment: String,
    /// Constants.
    pub(super) fixed: String,
    /// The rules on each TAP.
    pub(super) ingress: BTreeMap<Slot, Vec<String>>,
    /// By name, what limits what a guest receives.
    pub(super) limits: BTreeMap<String, String>,
    /// Those of single guests, which the resolver fills.
    pub(super) sets: Sets,
    /// Those of single guests and services, and what is not there without need. One that hangs on a hook says so in its first
    /// line.
    pub(super) chains: Chains,
    pub(super) elements: Elements,
}

impl Model {
    /// The rules of a state. `owner` says whose the tables are, in a comment.
    ///
    /// # Errors
    /// A state that is impossible.
    pub fn new(state: &NetworkState, owner: &str, surroundings: &Surroundings) -> Result<Self, StateError> {
        state.validate()?;
        let Collector { mut elements, mut chains } = Collector::new(state, surroundings);
        let (mut ingress, mut limits, mut sets) = (BTreeMap::new(), BTreeMap::new(), Sets::new());
        let put = |elements: &mut Elements, set: &str, slot, value| {
            elements.entry(set.to_owned()).or_default().insert(tap(slot), value);
        };
        for guest in &state.guests {
            ingress.insert(guest.slot, ingress_rules(state, guest));
            if let Some(bandwidth) = guest.bandwidth {
                // With the rate in its name: a limit that an element leads to cannot be changed.
                let name = format!("{}_{}", address::tap_name(guest.slot), bandwidth.0);
                put(&mut elements, "bandwidth", guest.slot, format!("\"{name}\""));
                limits.insert(name, rate(bandwidth));
            }
            if guest.egress.iter().any(|entry| matches!(entry, Egress::Name { .. })) {
                let name = format!("names_{}", guest.slot);
                put(&mut elements, "names", guest.slot, format!("goto {name}"));
                chains.insert(name, names_rules(guest.slot));
                sets.extend(opened::declarations(guest.slot));
            }
        }
        // Each packet of every guest would pay for it.
        if !limits.is_empty() {
            chains.insert("bandwidth_of_guests".to_owned(), bandwidth_rules());
        }
        let comment = format!("  comment \"{OWNER}{}\"\n", comment(owner));
        Ok(Self { comment, fixed: chains::text(state), ingress, limits, sets, chains, elements })
    }

    /// Whether names can open addresses to this guest.
    pub(crate) fn has_names(&self, slot: Slot) -> bool {
        self.has_set(&opened::set_name(slot, Family::V4, true))
    }

    /// Whether this set of a guest is there.
    pub(crate) fn has_set(&self, name: &str) -> bool {
        self.sets.contains_key(name)
    }
}

/// Rules 1 and 13, at the earliest hook: before connection tracking, and before anything else sees the frame. Matching on the
/// frame's own type field makes a VLAN tag, even one of zero, fail the match.
fn ingress_rules(state: &NetworkState, guest: &Guest) -> Vec<String> {
    let mac = address::guest_mac(guest.slot);
    let limit = guest.bandwidth.map(|bandwidth| format!("limit {} drop", rate(bandwidth)));
    let sources = Family::BOTH.map(|family| {
        let (ip, ..) = words(family);
        let source = state.network.guest_address_of(guest.slot, family);
        format!("ether type {ip} ether saddr {mac} {ip} saddr {source} accept")
    });
    limit.into_iter().chain(sources).collect()
}

/// What may come at once beyond what the kernel lets a guest save up by itself, which is a second's worth: it passes several
/// packets of a connection on as one of up to this many bytes, which must fit in.
const BURST_BYTES: u64 = 64 << 10;

/// As `nft` says it.
fn rate(bandwidth: Bandwidth) -> String {
    let bytes = bandwidth.0.clamp(BANDWIDTH_MIN.0, BANDWIDTH_MAX.0) / 8;
    format!("rate over {bytes} bytes/second burst {BURST_BYTES} bytes")
}

/// Rule 13, of what guests receive.
fn bandwidth_rules() -> Vec<String> {
    let rules = [
        "type filter hook postrouting priority filter; policy accept;",
        "limit name oifname map @bandwidth drop",
    ];
    rules.map(str::to_owned).to_vec()
}

/// What names have opened to a guest.
fn names_rules(slot: Slot) -> Vec<String> {
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let (ip, ..) = words(family);
        rules.push(format!("{ip} daddr @{} jump any_port", opened::set_name(slot, family, true)));
        rules.push(format!(
            "{ip} daddr . meta l4proto . th dport @{} goto opened",
            opened::set_name(slot, family, false)
        ));
    }
    rules.push("goto refuse_out".to_owned());
    rules
}
