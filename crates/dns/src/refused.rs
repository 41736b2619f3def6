//! Names that were refused, counted. Owns how many are kept; pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::form::{NAME_BYTES_MAX, Reason, Refused};

/// Most different names of a guest that are kept until they are told: more are a scan, of which the first tell enough.
const GUEST_NAMES_MAX: usize = 64;
/// Most of all guests together.
const NAMES_MAX: usize = 4_096;

/// Whose, which, why, and the private address.
type Key = (u16, String, String, Reason, Option<IpAddr>);

/// What was refused since it was told last.
#[derive(Debug, Default)]
pub(crate) struct RefusedNames {
    counts: BTreeMap<Key, u64>,
    per_guest: BTreeMap<u16, usize>,
}

impl RefusedNames {
    /// Counts one. What there is no room for is not told: what is kept of the guest says that it asks too much.
    pub(crate) fn add(&mut self, refused: Refused) {
        let Refused { slot, task, name, reason, address, count } = refused;
        let key = (slot, task, name, reason, address);
        if let Some(counted) = self.counts.get_mut(&key) {
            *counted = counted.saturating_add(count);
            return;
        }
        let of_guest = self.per_guest.entry(slot).or_default();
        if *of_guest < GUEST_NAMES_MAX && self.counts.len() < NAMES_MAX {
            *of_guest += 1;
            self.counts.insert(key, count);
        }
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// What there is to tell.
    pub(crate) fn list(&self) -> Vec<Refused> {
        let refused = |(key, count): (&Key, &u64)| {
            let (slot, task, name, reason, address) = key.clone();
            Refused { slot, task, name, reason, address, count: *count }
        };
        self.counts.iter().map(refused).collect()
    }

    /// What there is to tell, which is forgotten.
    pub(crate) fn drain(&mut self) -> Vec<Refused> {
        let list = self.list();
        *self = Self::default();
        list
    }
}

/// Whether what the child calls a name may be told further: it is as long as a name may be, and can be shown.
pub(crate) fn is_plausible(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(slot: u16, name: &str) -> Refused {
        let (task, name) = ("web".to_owned(), name.to_owned());
        Refused { slot, task, name, reason: Reason::NotDeclared, address: None, count: 1 }
    }

    #[test]
    fn a_scan_of_one_guest_leaves_room_for_others() {
        let mut names = RefusedNames::default();
        for number in 0..10_000 {
            names.add(refused(1, &format!("host{number}.example.org")));
        }
        for _ in 0..3 {
            names.add(refused(2, "example.org"));
        }
        let told = names.drain();
        assert_eq!(told.len(), GUEST_NAMES_MAX + 1);
        assert_eq!(told.last(), Some(&Refused { count: 3, ..refused(2, "example.org") }));
        assert!(names.is_empty());
    }

    #[test]
    fn what_cannot_be_shown_is_not_told() {
        assert!(is_plausible("a.example.org"));
        assert!(!is_plausible("\u{1b}[31m"));
        assert!(!is_plausible(&"a".repeat(254)));
    }
}
