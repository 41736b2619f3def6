//! From a guest's message to its answer. Owns who is who, what is asked outside and how much of it at once, and that an
//! address is open before the answer that names it leaves.
//!
//! ```text
//! message ── begin ──▶ Reply (a name of ours, a refusal, or known and open) ──▶ the guest
//!                 └──▶ Ask ── finish: ask outside, admit, open ───────────────▶ the guest
//! ```

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use hickory_proto::rr::RData;
use lith_core::egress::Range;
use lith_core::job::Port;
use lith_core::resolve::{Decision, Kind, NamePolicy, Opening, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cache::{Cache, Found, Key};
use crate::form::{Outcome, Policy, PolicyError, Refused};
use crate::limit::Bucket;
use crate::link::Link;
use crate::message::{self, Code, Parsed, Question, Reply, Transport, Want, Written};
use crate::openings;
use crate::refused::RefusedNames;
use crate::upstream::Upstream;

/// Questions of all guests that are being asked outside at a time.
const ASKING_MAX: usize = 512;
/// Of one guest: others must be able to ask, too, when its resolver does not answer.
const GUEST_ASKING_MAX: usize = 128;
/// Connections of one guest: a library has one or two.
const GUEST_CONNECTIONS_MAX: usize = 8;

/// A guest as it may ask now. When its policy changes, another one takes its place.
#[derive(Debug)]
pub(crate) struct Guest {
    task: String,
    policy: NamePolicy,
    node: Arc<[Range<IpAddr>]>,
    bucket: Mutex<Bucket>,
    /// Questions that were too many, since this was told: counted apart, for under a flood nothing is as cheap.
    unanswered: AtomicU64,
    asking: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    open: Mutex<HashMap<(IpAddr, Option<Port>), Instant>>,
}

/// The guests by the addresses from which they ask.
type Guests = HashMap<IpAddr, Arc<Guest>>;

/// Answers questions.
#[derive(Debug)]
pub(crate) struct Answering {
    guests: RwLock<Guests>,
    upstream: Upstream,
    cache: Mutex<Cache>,
    refused: Mutex<RefusedNames>,
    asking: Arc<Semaphore>,
    link: Link,
}

/// What becomes of a message at once.
#[derive(Debug)]
pub(crate) enum Begun {
    /// It is answered.
    Reply(Vec<u8>),
    /// Somebody else has to be asked.
    Ask(Box<Asking>),
    /// Nothing.
    Nothing,
}

/// A question that is being asked outside.
#[derive(Debug)]
pub(crate) struct Asking {
    guest: Arc<Guest>,
    question: Box<Question>,
    transport: Transport,
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// An answer, and what is not open yet of what it names.
struct Concluded {
    reply: Reply,
    addresses: Vec<(IpAddr, u32)>,
    missing: Vec<Opening>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guest {
    fn new(task: String, policy: NamePolicy, node: Arc<[Range<IpAddr>]>) -> Self {
        Self {
            task,
            policy,
            node,
            bucket: Mutex::new(Bucket::new(Instant::now())),
            unanswered: AtomicU64::new(0),
            asking: Arc::new(Semaphore::new(GUEST_ASKING_MAX)),
            connections: Arc::new(Semaphore::new(GUEST_CONNECTIONS_MAX)),
            open: Mutex::default(),
        }
    }

    /// A place for a further connection, if there is one.
    pub(crate) fn connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    /// Those of the openings that are not open for long enough.
    fn missing(&self, mut openings: Vec<Opening>, now: Instant) -> Vec<Opening> {
        let open = lock(&self.open);
        openings.retain(|opening| {
            let until = open.get(&(opening.address, opening.port));
            let left = until.map(|until| until.saturating_duration_since(now));
            !left.is_some_and(|left| openings::is_enough(left, opening))
        });
        openings
    }

    fn remember(&self, openings: &[Opening], now: Instant) {
        let mut open = lock(&self.open);
        open.retain(|_, until| *until > now);
        open.extend(openings.iter().map(|one| ((one.address, one.port), now + one.lifetime)));
    }
}

impl Answering {
    /// For nobody yet.
    pub(crate) fn new(link: Link) -> Self {
        Self {
            guests: RwLock::default(),
            upstream: Upstream::new(),
            cache: Mutex::default(),
            refused: Mutex::default(),
            asking: Arc::new(Semaphore::new(ASKING_MAX)),
            link,
        }
    }

    /// The channel to the parent.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Asks these about names outside from now on.
    pub(crate) fn set_upstreams(&self, servers: Vec<SocketAddr>) {
        self.upstream.set(servers);
        lock(&self.cache).clear();
    }

    /// Answers by this policy from now on. Of a guest for which nothing changes, what it was asked and opened stays.
    ///
    /// # Errors
    /// It cannot be; the one before stays.
    pub(crate) fn set_policy(&self, policy: &Policy) -> Result<(), PolicyError> {
        let node: Arc<[Range<IpAddr>]> = policy.node_ranges().into();
        let wanted = policy.guests()?;
        let mut guests = self.guests.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = Guests::new();
        for (task, policy) in wanted.into_values() {
            let before = policy.addresses.iter().find_map(|address| guests.get(address));
            let is_same =
                |guest: &&Arc<Guest>| guest.task == task && guest.policy == policy && guest.node == node;
            let guest = before
                .filter(is_same)
                .cloned()
                .unwrap_or_else(|| Arc::new(Guest::new(task, policy, Arc::clone(&node))));
            new.extend(guest.policy.addresses.iter().map(|address| (*address, Arc::clone(&guest))));
        }
        *guests = new;
        Ok(())
    }

    /// Whoever asks from this address.
    pub(crate) fn guest(&self, address: IpAddr) -> Option<Arc<Guest>> {
        self.guests.read().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }

    /// What was refused since this was asked last.
    pub(crate) fn drain_refused(&self) -> Vec<Refused> {
        let guests = self.guests.read().unwrap_or_else(PoisonError::into_inner);
        for guest in guests.values() {
            let count = guest.unanswered.swap(0, Ordering::Relaxed);
            if count > 0 {
                self.count(guest, "", Refusal::TooManyQuestions, None, count);
            }
        }
        lock(&self.refused).drain()
    }

    fn refuse(&self, guest: &Guest, name: &str, refusal: Refusal, address: Option<IpAddr>) {
        self.count(guest, name, refusal, address, 1);
    }

    fn count(&self, guest: &Guest, name: &str, refusal: Refusal, address: Option<IpAddr>, count: u64) {
        lock(&self.refused).add(Refused {
            slot: guest.policy.slot.number(),
            task: guest.task.clone(),
            name: guest.policy.plain(name).to_owned(),
            reason: refusal.into(),
            address,
            count,
        });
    }

    /// What becomes of a message at once.
    pub(crate) fn begin(&self, guest: &Arc<Guest>, bytes: &[u8], transport: Transport) -> Begun {
        if !lock(&guest.bucket).take(Instant::now()) {
            guest.unanswered.fetch_add(1, Ordering::Relaxed);
            return Begun::Nothing;
        }
        let question = match message::parse(bytes) {
            Parsed::Question(question) => question,
            Parsed::Reply(bytes) => return Begun::Reply(bytes),
            Parsed::Nothing => return Begun::Nothing,
        };
        let Some(name) = &question.name else {
            // Nobody can have declared it.
            return Begun::Reply(question.pack(&of(Code::NoSuchName), transport));
        };
        match guest.policy.decide(name, question.kind) {
            Decision::Local(local) => {
                let records = message::local_records(question.query(), &local);
                let reply = Reply { records, is_local: true, ..Reply::default() };
                Begun::Reply(question.pack(&reply, transport))
            }
            Decision::Refuse(refusal) => {
                // Where nobody outside answers, libraries try what is declared within the search domain, too.
                let plain = guest.policy.decide(guest.policy.plain(name), question.kind);
                if plain != Decision::Ask {
                    self.refuse(guest, name, refusal, None);
                }
                Begun::Reply(question.pack(&of(code(refusal)), transport))
            }
            Decision::Ask => self.begin_outside(guest, question, transport),
        }
    }

    fn begin_outside(&self, guest: &Arc<Guest>, question: Box<Question>, transport: Transport) -> Begun {
        let now = Instant::now();
        let known = key(&question).and_then(|key| lock(&self.cache).get(&key, now));
        if let Some(found) = known {
            let concluded = self.conclude(guest, &question, &found, now);
            if concluded.missing.is_empty() {
                return Begun::Reply(question.pack(&concluded.reply, transport));
            }
        }
        let own = Arc::clone(&guest.asking).try_acquire_owned();
        let (Ok(own), Ok(all)) = (own, Arc::clone(&self.asking).try_acquire_owned()) else {
            guest.unanswered.fetch_add(1, Ordering::Relaxed);
            return Begun::Reply(question.pack(&of(Code::Failed), transport));
        };
        Begun::Ask(Box::new(Asking { guest: Arc::clone(guest), question, transport, _permits: (own, all) }))
    }

    /// The answer to a question for which somebody else has to be asked.
    pub(crate) async fn finish(&self, asking: Asking) -> Vec<u8> {
        let Asking { guest, question, transport, _permits } = asking;
        let reply = self.reply(&guest, &question).await.unwrap_or_else(of);
        question.pack(&reply, transport)
    }

    async fn reply(&self, guest: &Guest, question: &Question) -> Result<Reply, Code> {
        let key = key(question).ok_or(Code::Failed)?;
        let known = lock(&self.cache).get(&key, Instant::now());
        let found = match known {
            Some(found) => found,
            None => {
                let asked = self.upstream.ask(question.query(), key.want).await;
                let found = Arc::new(asked.map_err(|_| Code::Failed)?);
                lock(&self.cache).insert(key.clone(), Arc::clone(&found));
                found
            }
        };
        let now = Instant::now();
        let Concluded { reply, addresses, missing } = self.conclude(guest, question, &found, now);
        if missing.is_empty() {
            return Ok(reply);
        }
        let whose = (guest.policy.slot.number(), guest.task.as_str());
        match self.link.open(whose, &key.name, &addresses).await {
            Outcome::Opened => {
                guest.remember(&missing, now);
                Ok(reply)
            }
            Outcome::TooMany => {
                self.refuse(guest, &key.name, Refusal::TooManyAddresses, None);
                Err(Code::Failed)
            }
            Outcome::Refused => Err(Code::Failed),
        }
    }

    /// What of an answer this guest may have.
    fn conclude(&self, guest: &Guest, question: &Question, found: &Found, now: Instant) -> Concluded {
        let name = question.name.as_deref().unwrap_or_default();
        let written: Vec<Written> = found.records.iter().map(Written::new).collect();
        let seen: Vec<_> =
            written.iter().zip(&found.records).map(|(written, record)| written.seen(record)).collect();
        let admitted = guest.policy.admit((name, question.kind), &seen, &guest.node);
        for address in &admitted.private {
            self.refuse(guest, name, Refusal::PrivateAddress, Some(*address));
        }
        if admitted.is_cut {
            self.refuse(guest, name, Refusal::TooManyAddresses, None);
        }
        let is_whole = admitted.kept.len() == found.records.len();
        let mut reply = Reply {
            code: found.code,
            is_local: false,
            is_authentic: found.is_authentic && is_whole,
            records: Vec::new(),
        };
        let wants_signatures = question.wants_signatures() || question.kind == Kind::RRSIG;
        for (position, ttl_s) in admitted.kept {
            let mut record = found.records[position].clone();
            let is_signature = seen[position].kind == Kind::RRSIG;
            // With something taken out, no signature of it holds.
            if is_signature && !(wants_signatures && admitted.private.is_empty() && !admitted.is_cut) {
                continue;
            }
            record.ttl = ttl_s.min(found.ttl_s(&record, now)).max(lith_core::resolve::TTL_MIN_S);
            reply.records.push(record);
        }
        if !admitted.private.is_empty() && !reply.records.iter().any(is_address) {
            // Not an alias that leads to nothing, either.
            reply.records.clear();
        }
        let missing = guest.missing(admitted.openings, now);
        Concluded { reply, addresses: admitted.addresses, missing }
    }
}

fn is_address(record: &hickory_proto::rr::Record) -> bool {
    matches!(record.data, RData::A(_) | RData::AAAA(_))
}

fn of(code: Code) -> Reply {
    Reply { code, ..Reply::default() }
}

fn code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::NotDeclared | Refusal::NotPublic => Code::NoSuchName,
        Refusal::Kind => Code::Refused,
        Refusal::PrivateAddress | Refusal::TooManyAddresses | Refusal::TooManyQuestions => Code::Failed,
    }
}

fn key(question: &Question) -> Option<Key> {
    let want =
        Want { signatures: question.wants_signatures(), checking_disabled: question.checking_disabled };
    Some(Key { name: question.name.clone()?, kind: question.kind, want })
}

#[cfg(test)]
mod tests;
