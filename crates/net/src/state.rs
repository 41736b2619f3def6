//! The wanted state of the node's guest network, and what makes one impossible.
//!
//! Pure. The caller builds it from the tasks it runs; nothing here says why.

use std::collections::{BTreeMap, BTreeSet};

use lith_core::job::{Publish, Transport};
use lith_core::slot::Slot;

use crate::address::GuestNetwork;

/// Most publishes on a node: both transports' ports once each. More cannot be had without addresses, and the bound
/// keeps the generated script within what `nft` takes in one transaction.
const PUBLISHES_MAX: usize = 2 * 65_535;

/// Everything that should exist. Order of guests and publishes does not matter.
///
/// A slot that passes from one task to another must be absent from one applied state in between: only then are flows
/// to its former owner forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkState {
    /// Where guests' addresses come from.
    pub network: GuestNetwork,
    /// The guests.
    pub guests: Vec<Guest>,
}

/// One guest: a TAP, and what of it may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Its slot.
    pub slot: Slot,
    /// Its ports that are offered on the node's addresses.
    pub publishes: Vec<Publish>,
}

/// A state that cannot be put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Two guests with one slot.
    #[error("slot {0} is given to two guests")]
    SlotTwice(Slot),
    /// Two publishes that claim one port of the node.
    #[error("publish {theirs} of slot {their_slot} collides with {ours} of slot {our_slot}")]
    Collision {
        /// The publish that came first.
        ours: Publish,
        /// Its guest.
        our_slot: Slot,
        /// The publish that collides.
        theirs: Publish,
        /// Its guest.
        their_slot: Slot,
    },
    /// A port number of zero, which means "any" to the kernel.
    #[error("publish {publish} of slot {slot} has a port of zero")]
    PortZero {
        /// The publish.
        publish: Publish,
        /// Its guest.
        slot: Slot,
    },
    /// More guests than there are slots cannot happen; more publishes than this is a mistake.
    #[error("{0} publishes are more than the {PUBLISHES_MAX} that a node offers")]
    TooManyPublishes(usize),
}

impl StateError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::SlotTwice(_) => None,
            Self::Collision { .. } => {
                Some("publish one of them on another port or on another address".into())
            }
            Self::PortZero { .. } => Some("ports are 1 to 65535".into()),
            Self::TooManyPublishes(_) => Some("publish fewer ports on this node".into()),
        }
    }
}

impl NetworkState {
    /// Whether the state can be put in force.
    ///
    /// # Errors
    /// The first thing that makes it impossible.
    pub fn validate(&self) -> Result<(), StateError> {
        let publishes: usize = self.guests.iter().map(|guest| guest.publishes.len()).sum();
        if publishes > PUBLISHES_MAX {
            return Err(StateError::TooManyPublishes(publishes));
        }
        let mut slots = BTreeSet::new();
        let mut claims: BTreeMap<(Transport, u16), Vec<(Slot, Publish)>> = BTreeMap::new();
        for guest in &self.guests {
            if !slots.insert(guest.slot) {
                return Err(StateError::SlotTwice(guest.slot));
            }
            for publish in guest.publishes.iter().copied().map(normalised) {
                if publish.host_port == 0 || publish.guest_port == 0 {
                    return Err(StateError::PortZero { publish, slot: guest.slot });
                }
                let rivals = claims.entry((publish.transport, publish.host_port)).or_default();
                if let Some((slot, rival)) = rivals.iter().find(|(_, rival)| rival.collides_with(&publish)) {
                    return Err(StateError::Collision {
                        ours: *rival,
                        our_slot: *slot,
                        theirs: publish,
                        their_slot: guest.slot,
                    });
                }
                rivals.push((guest.slot, publish));
            }
        }
        Ok(())
    }

    /// The slots of all guests.
    #[must_use]
    pub fn slots(&self) -> BTreeSet<Slot> {
        self.guests.iter().map(|guest| guest.slot).collect()
    }

    /// Every publish with its guest's slot, sorted.
    pub(crate) fn publishes(&self) -> BTreeSet<(Publish, Slot)> {
        let of = |guest: &Guest| {
            let slot = guest.slot;
            guest.publishes.iter().map(move |publish| (normalised(*publish), slot)).collect::<Vec<_>>()
        };
        self.guests.iter().flat_map(of).collect()
    }
}

/// The same publish with the address 0.0.0.0 written as what it means: all of them.
fn normalised(publish: Publish) -> Publish {
    Publish { address: publish.address.filter(|address| !address.is_unspecified()), ..publish }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slot, then publishes: address, port of the node, port of the guest, transport.
    type PlainGuest<'a> = (u16, &'a [(&'a str, u16, u16, Transport)]);

    fn state(guests: &[PlainGuest<'_>]) -> NetworkState {
        let publish = |(address, host_port, guest_port, transport): &(&str, u16, u16, Transport)| Publish {
            address: address.parse().ok(),
            host_port: *host_port,
            guest_port: *guest_port,
            transport: *transport,
        };
        let guest = |(slot, publishes): &PlainGuest<'_>| Guest {
            slot: Slot::new(*slot).unwrap(),
            publishes: publishes.iter().map(publish).collect(),
        };
        NetworkState { network: GuestNetwork::default(), guests: guests.iter().map(guest).collect() }
    }

    #[test]
    fn possible_states() {
        let check = |guests: &[PlainGuest<'_>]| assert_eq!(state(guests).validate(), Ok(()));
        check(&[]);
        check(&[
            (1, &[("", 80, 80, Transport::Tcp), ("", 80, 80, Transport::Udp)]),
            (2, &[("", 81, 80, Transport::Tcp)]),
        ]);
        check(&[
            (1, &[("127.0.0.1", 80, 80, Transport::Tcp)]),
            (2, &[("192.0.2.1", 80, 80, Transport::Tcp)]),
        ]);
    }

    #[test]
    fn impossible_states() {
        let check = |guests: &[PlainGuest<'_>], message: &str| {
            assert_eq!(state(guests).validate().unwrap_err().to_string(), message);
        };
        check(&[(1, &[]), (1, &[])], "slot 1 is given to two guests");
        check(
            &[(1, &[("", 80, 80, Transport::Tcp)]), (2, &[("127.0.0.1", 80, 8080, Transport::Tcp)])],
            "publish 127.0.0.1:80:8080 of slot 2 collides with 80:80 of slot 1",
        );
        check(
            &[(1, &[("0.0.0.0", 80, 80, Transport::Udp)]), (2, &[("127.0.0.1", 80, 8080, Transport::Udp)])],
            "publish 127.0.0.1:80:8080/udp of slot 2 collides with 80:80/udp of slot 1",
        );
        check(&[(1, &[("", 0, 80, Transport::Tcp)])], "publish 0:80 of slot 1 has a port of zero");
    }
}
