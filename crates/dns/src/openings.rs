//! What is open to guests because names have led there. Owns how much that may be; pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lith_core::job::Port;
use lith_core::resolve::{NamePolicy, Opening};
use lith_core::slot::Slot;

/// Most openings of a guest at a time: hours of a browser are a few hundred; the packet filter holds as many for each of a
/// thousand guests.
pub(crate) const GUEST_OPENINGS_MAX: usize = 1_024;

/// What is open, by whose it is and where.
#[derive(Debug, Default)]
pub(crate) struct Openings {
    guests: BTreeMap<Slot, BTreeMap<Place, Open>>,
}

type Place = (IpAddr, Option<Port>);

#[derive(Debug, Clone)]
struct Open {
    until: Instant,
    /// The name that led there last.
    name: String,
}

impl Openings {
    /// Whether these may be added to what is open: all of one guest.
    pub(crate) fn has_room(&mut self, openings: &[Opening], now: Instant) -> bool {
        let Some(slot) = openings.first().map(|opening| opening.slot) else {
            return true;
        };
        let Some(open) = self.guests.get_mut(&slot) else {
            return openings.len() <= GUEST_OPENINGS_MAX;
        };
        open.retain(|_, open| open.until > now);
        let new = openings.iter().filter(|opening| !open.contains_key(&(opening.address, opening.port)));
        open.len().saturating_add(new.count()) <= GUEST_OPENINGS_MAX
    }

    /// Remembers that these are open because of a name. What is open for longer stays so.
    pub(crate) fn add(&mut self, name: &str, openings: &[Opening], now: Instant) {
        for opening in openings {
            let guest = self.guests.entry(opening.slot).or_default();
            let place = (opening.address, opening.port);
            let open = guest.entry(place).or_insert_with(|| Open { until: now, name: String::new() });
            open.until = open.until.max(now + opening.lifetime);
            name.clone_into(&mut open.name);
        }
    }

    /// For how much longer something is open.
    pub(crate) fn left(
        &self,
        slot: Slot,
        address: IpAddr,
        port: Option<Port>,
        now: Instant,
    ) -> Option<Duration> {
        let open = self.guests.get(&slot)?.get(&(address, port))?;
        Some(open.until.saturating_duration_since(now))
    }

    /// All that is open, with the name that led there and what is left of its time.
    pub(crate) fn list(&mut self, now: Instant) -> Vec<(String, Opening)> {
        self.retain(|_, _, _, until| until > now);
        let mut list = Vec::new();
        for (slot, guest) in &self.guests {
            for ((address, port), open) in guest {
                let lifetime = open.until.saturating_duration_since(now);
                list.push((
                    open.name.clone(),
                    Opening { slot: *slot, address: *address, port: *port, lifetime },
                ));
            }
        }
        list
    }

    /// Forgets what its guest may not have any more, because of the name that led there.
    pub(crate) fn keep_allowed(&mut self, allows: impl Fn(Slot, &str, IpAddr, Option<Port>) -> bool) {
        self.retain(|slot, name, (address, port), _| allows(slot, name, address, port));
    }

    fn retain(&mut self, is_kept: impl Fn(Slot, &str, Place, Instant) -> bool) {
        self.guests.retain(|slot, guest| {
            guest.retain(|place, open| is_kept(*slot, &open.name, *place, open.until));
            !guest.is_empty()
        });
    }

    /// Forgets all of a guest.
    pub(crate) fn forget(&mut self, slot: Slot) {
        self.guests.remove(&slot);
    }
}

/// What a name has led to, as this guest's egress allows it: whatever the half that asked wants, only what its policy
/// says is opened.
pub(crate) fn allowed(
    policy: &NamePolicy,
    name: &str,
    addresses: &[(IpAddr, u32)],
    node: &[lith_core::egress::Range<IpAddr>],
) -> Vec<Opening> {
    let of = |(address, ttl_s): &(IpAddr, u32)| policy.openings(name, *address, *ttl_s, node);
    let mut openings: Vec<Opening> = addresses.iter().flat_map(of).collect();
    openings.truncate(lith_core::resolve::ANSWER_OPENINGS_MAX);
    openings
}

/// Whether an opening is good for so long that it need not be made again for an answer of this time: it covers the answer
/// and half of what is allowed beyond.
pub(crate) fn is_enough(left: Duration, opening: &Opening) -> bool {
    left + lith_core::resolve::GRACE / 2 >= opening.lifetime
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(slot: u16, last: u8, seconds: u64) -> Opening {
        Opening {
            slot: Slot::new(slot).unwrap(),
            address: IpAddr::from([11, 0, 0, last]),
            port: None,
            lifetime: Duration::from_secs(seconds),
        }
    }

    fn list(openings: &mut Openings, now: Instant) -> Vec<Opening> {
        openings.list(now).into_iter().map(|(_, opening)| opening).collect()
    }

    #[test]
    fn times_are_prolonged_and_run_out() {
        let now = Instant::now();
        let mut openings = Openings::default();
        openings.add("a.example", &[opening(1, 1, 100), opening(1, 2, 10)], now);
        let later = now + Duration::from_secs(20);
        openings.add("a.example", &[opening(1, 1, 10)], later);
        assert_eq!(list(&mut openings, later), [opening(1, 1, 80)]);
        openings.add("a.example", &[opening(1, 1, 90)], later);
        assert_eq!(list(&mut openings, later), [opening(1, 1, 90)]);
        openings.add("a.example", &[opening(2, 1, 90)], later);
        openings.forget(Slot::new(1).unwrap());
        assert_eq!(list(&mut openings, later), [opening(2, 1, 90)]);
        assert_eq!(list(&mut openings, later + Duration::from_secs(90)), []);
    }

    #[test]
    fn a_guest_has_only_so_many() {
        let now = Instant::now();
        let mut openings = Openings::default();
        let many: Vec<Opening> = (0..GUEST_OPENINGS_MAX)
            .map(|number| Opening {
                address: IpAddr::from(u32::try_from(number).unwrap().to_be_bytes()),
                ..opening(1, 0, 10)
            })
            .collect();
        assert!(openings.has_room(&many, now));
        openings.add("a.example", &many, now);
        assert!(openings.has_room(&many, now), "those that are open already may be prolonged");
        assert!(!openings.has_room(&[opening(1, 1, 10)], now));
        assert!(openings.has_room(&[opening(2, 1, 10)], now));
        assert!(openings.has_room(&[opening(1, 1, 10)], now + Duration::from_secs(10)));
    }
}
