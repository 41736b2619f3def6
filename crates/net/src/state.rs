//! The wanted state of the node's guest network, and what makes one impossible.
//!
//! Pure. The caller builds it from the tasks it runs; nothing here says why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use lith_core::connect::{Grant, NODE_GRANTS_MAX, Reach};
use lith_core::job::access::{Bandwidth, Egress};
use lith_core::job::{Port, Publish, Transport};
use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;

use crate::address::{Family, GuestNetwork};

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
    /// Virtual addresses.
    pub services: Vec<Service>,
    /// Who answers guests' questions for names; they are refused when `None`.
    pub resolver: Option<Resolver>,
}

/// Who answers questions for names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resolver {
    /// The node's port at which it answers, on [`GATEWAY`](crate::address::GATEWAY) and
    /// [`GATEWAY_6`](crate::address::GATEWAY_6).
    pub port: u16,
    /// Whose process reads what guests send, and whose its sockets are. It reaches other resolvers and nothing else.
    pub user: u32,
}

/// A virtual address with the guests that answer at it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Its number in the cluster.
    pub number: ServiceNumber,
    /// The guests among which new connections are spread. While there is none, it refuses at once.
    pub instances: Vec<Slot>,
}

/// A port of the node that leads to one of a guest, or consecutive ones that lead to the same numbers there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Redirect {
    /// Only on this address of the node, or on all of its family when it is 0.0.0.0 or `::`; on all of both when `None`.
    pub address: Option<IpAddr>,
    /// First port on the node.
    pub host_port: u16,
    /// First port in the guest; the same number unless there is one alone.
    pub guest_port: u16,
    /// How many ports follow one another.
    pub count: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

impl Guest {
    /// The guest in this slot that nobody reaches and that reaches nobody.
    #[must_use]
    pub fn closed(slot: Slot) -> Self {
        Self { slot, publishes: vec![], connects: vec![], services: vec![], egress: vec![], bandwidth: None }
    }
}

impl Guest {
    /// Whether it has a grant for another guest.
    pub(crate) fn may_reach(&self, target: Slot) -> bool {
        target != self.slot && self.connects.iter().any(|grant| grant.target == target)
    }
}

impl Redirect {
    /// Those of a published port: one where its numbers are kept, else one for each port of a range; none for `::1`, from
    /// which the kernel sends nothing out of the host.
    pub fn of(publish: Publish) -> impl Iterator<Item = Self> {
        let is_offered = publish.address != Some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        let is_whole = publish.host_port == publish.guest_port;
        let count = if is_whole { publish.count } else { 1 };
        let parts = publish.singly().take(match (is_offered, is_whole) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => usize::MAX,
        });
        parts.map(move |part| Self {
            address: publish.address,
            host_port: part.host_port,
            guest_port: part.guest_port,
            count,
            transport: part.transport,
        })
    }

    /// Whether it is offered on addresses of this family.
    pub(crate) fn is_on(&self, family: Family) -> bool {
        self.address.is_none_or(|address| Family::of(address) == family)
    }

    /// The one address that it is bound to, if there is one.
    pub(crate) fn bound(&self) -> Option<IpAddr> {
        self.address.filter(|address| !address.is_unspecified())
    }

    /// Last port on the node.
    pub(crate) fn host_last(&self) -> u16 {
        self.host_port.saturating_add(self.count.saturating_sub(1))
    }

    /// Whether all is within the numbers that ports have, and leads to the same ones if there are several.
    fn is_possible(&self) -> bool {
        let ends = |first: u16| first != 0 && first.checked_add(self.count.saturating_sub(1)).is_some();
        let is_kept = self.count == 1 || self.host_port == self.guest_port;
        self.count != 0 && ends(self.host_port) && ends(self.guest_port) && is_kept
    }
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        if self.count == 1 {
            write!(f, "{}:{}", self.host_port, self.guest_port)?;
        } else {
            let last = self.host_last();
            write!(f, "{}-{last}:{}-{last}", self.host_port, self.guest_port)?;
        }
        if self.transport == Transport::Udp { f.write_str("/udp") } else { Ok(()) }
    }
}

/// One guest: a TAP, what of it may be reached, and what it may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Its slot.
    pub slot: Slot,
    /// Its ports that are offered on the node's addresses.
    pub publishes: Vec<Redirect>,
    /// The guests to which it may open connections. One that does not exist refuses them at once.
    pub connects: Vec<Grant>,
    /// The services whose virtual address it may use. Ports and instances are those of `connects`.
    pub services: Vec<ServiceNumber>,
    /// What it may reach outside the cluster. Names give nothing by themselves: what they open is added as they are
    /// looked up.
    pub egress: Vec<Egress>,
    /// Most that it sends, and receives.
    pub bandwidth: Option<Bandwidth>,
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
        ours: Redirect,
        /// Its guest.
        our_slot: Slot,
        /// The publish that collides.
        theirs: Redirect,
        /// Its guest.
        their_slot: Slot,
    },
    /// A number that no port has, zero among them, which means "any" to the kernel; or a range that changes its numbers,
    /// which the kernel cannot do.
    #[error("publish {publish} of slot {slot} names impossible ports")]
    BadPublish {
        /// The publish.
        publish: Redirect,
        /// Its guest.
        slot: Slot,
    },
    /// The same in what a guest may reach.
    #[error("slot {slot} may reach impossible ports of slot {}", .grant.target)]
    BadGrant {
        /// What it may reach.
        grant: Grant,
        /// The guest that may.
        slot: Slot,
    },
    /// The same in what a guest may reach outside.
    #[error("slot {slot} may reach impossible ports at {entry}")]
    BadEgress {
        /// What it may reach.
        entry: Egress,
        /// The guest that may.
        slot: Slot,
    },
    /// Two lists of instances for one service.
    #[error("service {0} is listed twice")]
    ServiceTwice(ServiceNumber),
    /// More guests than there are slots cannot happen; more publishes than this is a mistake.
    #[error("{0} publishes are more than the {PUBLISHES_MAX} that a node offers")]
    TooManyPublishes(usize),
    /// Whoever grants this many has to leave some out before.
    #[error("{0} grants are more than the {NODE_GRANTS_MAX} that a node has")]
    TooManyGrants(usize),
}

impl StateError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::SlotTwice(_) | Self::ServiceTwice(_) => None,
            Self::Collision { .. } => {
                Some("publish one of them on another port or on another address".into())
            }
            Self::BadPublish { .. } | Self::BadGrant { .. } | Self::BadEgress { .. } => {
                Some("ports are 1 to 65535".into())
            }
            Self::TooManyPublishes(_) => Some("publish fewer ports on this node".into()),
            Self::TooManyGrants(_) => Some("let fewer tasks connect to each other on this node".into()),
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
        let grants: usize = self.guests.iter().map(|guest| guest.connects.len()).sum();
        if grants > NODE_GRANTS_MAX {
            return Err(StateError::TooManyGrants(grants));
        }
        let mut numbers = BTreeSet::new();
        if let Some(service) = self.services.iter().find(|service| !numbers.insert(service.number)) {
            return Err(StateError::ServiceTwice(service.number));
        }
        let mut slots = BTreeSet::new();
        for guest in &self.guests {
            let slot = guest.slot;
            if !slots.insert(slot) {
                return Err(StateError::SlotTwice(slot));
            }
            if let Some(publish) = guest.publishes.iter().find(|publish| !publish.is_possible()) {
                return Err(StateError::BadPublish { publish: *publish, slot });
            }
            if let Some(grant) = guest.connects.iter().find(|grant| !is_possible(grant)) {
                return Err(StateError::BadGrant { grant: *grant, slot });
            }
            if let Some(entry) = guest.egress.iter().find(|entry| !leads_somewhere(entry)) {
                return Err(StateError::BadEgress { entry: entry.clone(), slot });
            }
        }
        self.collision().map_or(Ok(()), Err)
    }

    /// Two publishes that claim one port of the node: each is compared with those before it, in order of their first
    /// ports, that reach furthest.
    fn collision(&self) -> Option<StateError> {
        let mut claims: Vec<(usize, Slot, Redirect)> = Vec::new();
        for guest in &self.guests {
            for publish in &guest.publishes {
                claims.push((claims.len(), guest.slot, *publish));
            }
        }
        claims.sort_by_key(|(index, _, publish)| (publish.transport, publish.host_port, *index));
        let collisions = Family::BOTH.into_iter().filter_map(|family| collision(&claims, family));
        let first = collisions.min_by_key(|(_, second)| second.0);
        first.map(|(ours, theirs)| StateError::Collision {
            ours: ours.2,
            our_slot: ours.1,
            theirs: theirs.2,
            their_slot: theirs.1,
        })
    }

    /// The instances of services that exist, of `slots`.
    pub(crate) fn instances(&self, slots: &BTreeSet<Slot>) -> BTreeMap<ServiceNumber, Vec<Slot>> {
        let of = |service: &Service| {
            let instances: BTreeSet<Slot> = service.instances.iter().copied().collect();
            (service.number, instances.intersection(slots).copied().collect())
        };
        self.services.iter().map(of).collect()
    }

    /// The slots of all guests.
    #[must_use]
    pub fn slots(&self) -> BTreeSet<Slot> {
        self.guests.iter().map(|guest| guest.slot).collect()
    }

    /// Every publish with its guest's slot, sorted.
    pub(crate) fn publishes(&self) -> BTreeSet<(Redirect, Slot)> {
        let of = |guest: &Guest| {
            let slot = guest.slot;
            guest.publishes.iter().map(move |publish| (*publish, slot)).collect::<Vec<_>>()
        };
        self.guests.iter().flat_map(of).collect()
    }
}

/// Position, guest and publish.
type Claim = (usize, Slot, Redirect);

/// The first two of the sorted claims that claim one port on addresses of a family, in the order they were made.
fn collision(claims: &[Claim], family: Family) -> Option<(Claim, Claim)> {
    let mut furthest = Furthest::default();
    for claim in claims.iter().filter(|(.., publish)| publish.is_on(family)) {
        if let Some(rival) = furthest.rival(&claim.2) {
            return Some(if rival.0 < claim.0 { (rival, *claim) } else { (*claim, rival) });
        }
        furthest.insert(*claim);
    }
    None
}

/// Of the publishes so far on addresses of one family, those that reach furthest.
#[derive(Default)]
struct Furthest {
    everywhere: Option<Claim>,
    /// On any address alone.
    somewhere: Option<Claim>,
    at: BTreeMap<IpAddr, Claim>,
}

impl Furthest {
    /// One that has a port of this publish, which does not begin before any so far.
    fn rival(&self, publish: &Redirect) -> Option<Claim> {
        let others = match publish.bound() {
            None => self.somewhere,
            Some(address) => self.at.get(&address).copied(),
        };
        let mut rivals = [self.everywhere, others].into_iter().flatten();
        rivals.find(|(.., rival)| {
            rival.transport == publish.transport && rival.host_last() >= publish.host_port
        })
    }

    fn insert(&mut self, claim: Claim) {
        let reaches_further = |before: &Claim| {
            before.2.transport != claim.2.transport || before.2.host_last() < claim.2.host_last()
        };
        let place = match claim.2.bound() {
            None => &mut self.everywhere,
            Some(address) => {
                if self.at.get(&address).is_none_or(reaches_further) {
                    self.at.insert(address, claim);
                }
                &mut self.somewhere
            }
        };
        if place.as_ref().is_none_or(reaches_further) {
            *place = Some(claim);
        }
    }
}

fn is_possible(grant: &Grant) -> bool {
    match grant.reach {
        Reach::Any => true,
        Reach::Ports(port) => are_ports(port),
    }
}

fn are_ports(port: Port) -> bool {
    port.number != 0 && port.number <= port.last
}

fn leads_somewhere(entry: &Egress) -> bool {
    match entry {
        Egress::Internet => true,
        Egress::Name { port, .. } | Egress::Network { port, .. } => port.is_none_or(are_ports),
    }
}

#[cfg(test)]
mod tests;
