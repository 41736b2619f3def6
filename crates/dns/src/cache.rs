//! Answers of other resolvers, kept for their time. Owns how many; pure. Who may see one is decided anew each time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::rr::Record;
use lith_core::resolve::{Kind, TTL_MAX_S, TTL_MIN_S};

use crate::message::{Code, Want};

/// Most answers: a node's guests ask for some hundred names.
const ANSWERS_MAX: usize = 2_048;
/// Largest answer that is kept, so that all of them together take some megabytes.
const BYTES_MAX: usize = 2_048;
/// Longest time for which it is remembered that a name is not there: somebody may be making it (RFC 2308 allows hours).
const NEGATIVE_MAX_S: u32 = 300;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The name in lower case.
    pub(crate) name: String,
    /// The type of record.
    pub(crate) kind: Kind,
    /// How it was wanted.
    pub(crate) want: Want,
}

/// An answer of another resolver.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// What it says.
    pub(crate) code: Code,
    /// Whether it was verified.
    pub(crate) is_authentic: bool,
    /// The records of its answer section.
    pub(crate) records: Vec<Record>,
    /// How long it is good, when it has no records.
    pub(crate) negative_s: u32,
    /// Its size, bytes.
    pub(crate) bytes: usize,
    /// When it came.
    pub(crate) at: Instant,
}

impl Found {
    /// How long it is good.
    fn lifetime(&self) -> Duration {
        let shortest = self.records.iter().map(|record| record.ttl).min();
        let seconds = shortest.map_or(self.negative_s.min(NEGATIVE_MAX_S), |seconds| seconds.min(TTL_MAX_S));
        Duration::from_secs(seconds.max(TTL_MIN_S).into())
    }

    /// What is left of a record's time.
    pub(crate) fn ttl_s(&self, record: &Record, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.at).as_secs();
        record.ttl.saturating_sub(u32::try_from(age).unwrap_or(u32::MAX))
    }
}

/// The answers.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    answers: HashMap<Key, Arc<Found>>,
    /// Oldest first; those of the map and no others.
    order: VecDeque<Key>,
}

impl Cache {
    /// An answer that is still good.
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<Arc<Found>> {
        let found = self.answers.get(key)?;
        (now.saturating_duration_since(found.at) < found.lifetime()).then(|| Arc::clone(found))
    }

    /// Keeps an answer, in the place of the oldest one if there is no room.
    pub(crate) fn insert(&mut self, key: Key, found: Arc<Found>) {
        if found.bytes > BYTES_MAX || !matches!(found.code, Code::Found | Code::NoSuchName) {
            return;
        }
        if self.answers.insert(key.clone(), found).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > ANSWERS_MAX {
            let oldest = self.order.pop_front();
            oldest.map(|key| self.answers.remove(&key));
        }
    }

    /// Forgets all, as when others are asked from now on.
    pub(crate) fn clear(&mut self) {
        self.answers.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        let want = Want { signatures: false, checking_disabled: false };
        Key { name: name.to_owned(), kind: Kind::A, want }
    }

    fn found(code: Code, negative_s: u32, at: Instant) -> Arc<Found> {
        Arc::new(Found { code, is_authentic: false, records: vec![], negative_s, bytes: 100, at })
    }

    #[test]
    fn answers_have_their_time() {
        let now = Instant::now();
        let mut cache = Cache::default();
        let check = |cache: &Cache, name: &str, seconds: u64, expected: bool| {
            let is_there = cache.get(&key(name), now + Duration::from_secs(seconds)).is_some();
            assert_eq!(is_there, expected, "{name} after {seconds}");
        };
        cache.insert(key("short"), found(Code::NoSuchName, 0, now));
        cache.insert(key("long"), found(Code::Found, 1_000_000, now));
        cache.insert(key("failed"), found(Code::Failed, 60, now));
        check(&cache, "short", 4, true);
        check(&cache, "short", 5, false);
        check(&cache, "long", 299, true);
        check(&cache, "long", 300, false);
        check(&cache, "failed", 0, false);
    }

    #[test]
    fn there_is_only_so_much_room() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for number in 0..ANSWERS_MAX * 2 {
            cache.insert(key(&number.to_string()), found(Code::Found, 60, now));
            cache.insert(key(&number.to_string()), found(Code::Found, 60, now));
        }
        assert_eq!((cache.answers.len(), cache.order.len()), (ANSWERS_MAX, ANSWERS_MAX));
        assert!(cache.get(&key(&(ANSWERS_MAX * 2 - 1).to_string()), now).is_some());
    }
}
