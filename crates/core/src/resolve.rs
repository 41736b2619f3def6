//! What a guest may learn of names, and which addresses what it learns opens to it.
//!
//! Pure. Must not know how a question is asked or packed, nor how an address is opened. A name that a guest has no right
//! to is an answer of this module alone: it is never asked outside, where it would be seen.
//!
//! ```text
//! question ── decide ──▶ Local: answered at once
//!                   ├──▶ Refuse: answered at once, and told
//!                   └──▶ Ask ── somebody asks ── admit ──▶ records that may pass, openings that come before them
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::egress::{self, Range};
use crate::job::Port;
use crate::job::access::Egress;
use crate::name::JobName;
use crate::slot::Slot;

/// Below this zone every job has one of its own. `.internal` is reserved for private use by ICANN (2024).
pub const ZONE: &str = "lith.internal";
/// How long an answer about the cluster's own names is good: targets come and go, their virtual addresses stay.
pub const LOCAL_TTL_S: u32 = 30;
/// Least time that an answer from outside is good. Shorter ones make a program ask for each connection; longer than a
/// failover by name takes anyway nobody waits.
pub const TTL_MIN_S: u32 = 5;
/// Most: rights are looked at again with each question, and a cluster forgets a change of a name after an hour.
pub const TTL_MAX_S: u32 = 3_600;
/// How much longer than the answer an address stays open: programs and their libraries keep addresses beyond their time,
/// and what they begin in the last second of it must come about.
pub const GRACE: Duration = Duration::from_secs(300);
/// Most openings by one answer: a name with more addresses than this and several ports gives only some of them.
pub const ANSWER_OPENINGS_MAX: usize = 64;
/// Longest chain of aliases that is followed, as resolvers do.
const ALIASES_MAX: usize = 16;

/// Names that mean something on a local network only, so that nobody outside can answer for them: special use (RFC 6761,
/// RFC 6762 with its appendix G, RFC 7686, RFC 8375, RFC 9476) and what ICANN has reserved or will not give away.
const NOT_PUBLIC: [&str; 14] = [
    "alt",
    "arpa",
    "corp",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localhost",
    "mail",
    "onion",
    "private",
    "test",
];

/// What one guest may learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePolicy {
    /// The guest's.
    pub slot: Slot,
    /// Its job, which gives its search domain.
    pub job: JobName,
    /// The guest's own names, the first of which its addresses lead back to.
    pub own: Vec<String>,
    /// The guest's own addresses.
    pub addresses: Vec<IpAddr>,
    /// Names of what it connects to, in lower case and without search domain, with the addresses for each.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// What it may reach outside the cluster.
    pub egress: Vec<Egress>,
}

/// The type of record that a question is about, by its number in DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// An address of IPv4.
    pub const A: Self = Self(1);
    /// An alias.
    pub const CNAME: Self = Self(5);
    /// A name for an address.
    pub const PTR: Self = Self(12);
    /// An address of IPv6.
    pub const AAAA: Self = Self(28);
    /// A signature.
    pub const RRSIG: Self = Self(46);

    /// Whether there are records of this type: questions for whole zones or for everything at once have numbers of their
    /// own (RFC 6895, section 3.1), and what belongs to a message is none either.
    #[must_use]
    pub fn is_of_records(self) -> bool {
        const OPT: u16 = 41;
        self.0 != 0 && self.0 != OPT && !(128..=255).contains(&self.0)
    }
}

/// What is to be done with a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The answer is known here.
    Local(Local),
    /// The node's own resolvers are to be asked, and [`NamePolicy::admit`] says what of their answer may pass.
    Ask,
    /// It gets none.
    Refuse(Refusal),
}

/// An answer that is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// The addresses of a name, of the type asked for; there may be none of it.
    Addresses(Vec<IpAddr>),
    /// The name of an address.
    Name(String),
    /// The name is there, and has nothing of what was asked for.
    Nothing,
}

/// Why a name gives nothing, or not everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The guest neither connects to something of this name nor has egress to it.
    NotDeclared,
    /// The name means nothing outside of a local network.
    NotPublic,
    /// A question for everything at once, or for a whole zone.
    Kind,
    /// The name leads to an address that is not public and that the guest's egress does not write out.
    PrivateAddress,
    /// More addresses are open to the guest than it may have at once.
    TooManyAddresses,
    /// The guest asks more than is answered.
    TooManyQuestions,
}

/// An address that is open to a guest because a name that it may reach has led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opening {
    /// The guest's.
    pub slot: Slot,
    /// Where it may go.
    pub address: IpAddr,
    /// The only ports; every one when `None`.
    pub port: Option<Port>,
    /// For how long, from now.
    pub lifetime: Duration,
}

/// A record of an answer from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The name that it is about.
    pub owner: &'a str,
    /// Its type.
    pub kind: Kind,
    /// How long it is good, in seconds.
    pub ttl_s: u32,
    /// What it says.
    pub content: Content<'a>,
}

/// What a record says, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// An address.
    Address(IpAddr),
    /// That its owner is another name for this one.
    Alias(&'a str),
    /// Something else.
    Other,
}

/// What of an answer may pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Positions of the records that may pass, in order, with the seconds that they are good for.
    pub kept: Vec<(usize, u32)>,
    /// The addresses among them, with the seconds that they are good for.
    pub addresses: Vec<(IpAddr, u32)>,
    /// What must be open before the answer leaves.
    pub openings: Vec<Opening>,
    /// Addresses that were taken out because they are not public.
    pub private: Vec<IpAddr>,
    /// Whether some were left out because there are too many.
    pub is_cut: bool,
}

impl NamePolicy {
    /// The domain in which names without a dot are looked for.
    #[must_use]
    pub fn search_domain(&self) -> String {
        search_domain(&self.job)
    }

    /// What is to be done with a question. Of the name, which is without its final dot, the case does not matter.
    #[must_use]
    pub fn decide(&self, name: &str, kind: Kind) -> Decision {
        let name = name.to_ascii_lowercase();
        if !kind.is_of_records() {
            return Decision::Refuse(Refusal::Kind);
        }
        if let Some(addresses) = self.addresses_of(&name) {
            let asked = addresses.into_iter().filter(|address| kind_of(*address) == kind);
            return Decision::Local(Local::Addresses(asked.collect()));
        }
        if name == ZONE || name == self.search_domain() {
            return Decision::Local(Local::Nothing);
        }
        if name.strip_suffix(ZONE).is_some_and(|rest| rest.ends_with('.')) {
            // Nobody else knows this zone, whatever is written for `.internal`.
            return Decision::Refuse(Refusal::NotDeclared);
        }
        if let Some(address) = reversed(&name) {
            return self.decide_reverse(&name, address, kind);
        }
        self.decide_outside(&name)
    }

    fn decide_reverse(&self, name: &str, address: IpAddr, kind: Kind) -> Decision {
        if let Some(found) = self.name_of(address) {
            let answer = if kind == Kind::PTR { Local::Name(found) } else { Local::Nothing };
            return Decision::Local(answer);
        }
        if egress::is_public(address) && self.egress.contains(&Egress::Internet) {
            return Decision::Ask;
        }
        self.decide_outside(name)
    }

    fn decide_outside(&self, name: &str) -> Decision {
        let is_local = !is_public_name(name);
        // What is local somewhere is meant only by an entry that says so itself.
        let means = |entry: &str| {
            egress::name_matches(entry, name)
                && (!is_local || !is_public_name(entry.strip_prefix("*.").unwrap_or(entry)))
        };
        let is_named = self.egress.iter().any(|entry| match entry {
            Egress::Name { name, .. } => means(name),
            Egress::Internet | Egress::Network { .. } => false,
        });
        match (is_named, self.egress.contains(&Egress::Internet)) {
            (true, _) => Decision::Ask,
            (false, true) if !is_local => Decision::Ask,
            (false, true) => Decision::Refuse(Refusal::NotPublic),
            (false, false) => Decision::Refuse(Refusal::NotDeclared),
        }
    }

    /// The addresses of a local name, in lower case; `None` when this guest has none of it.
    fn addresses_of(&self, name: &str) -> Option<Vec<IpAddr>> {
        if name == "localhost" || name.ends_with(".localhost") {
            return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let known = |name: &str| {
            let is_own = || self.own.iter().any(|own| own.eq_ignore_ascii_case(name));
            self.names.get(name).or_else(|| is_own().then_some(&self.addresses)).cloned()
        };
        known(name).or_else(|| known(self.relative(name)?))
    }

    /// The name within its search domain; for `task.job` within the zone of all jobs.
    fn relative<'a>(&self, name: &'a str) -> Option<&'a str> {
        let within = |domain: &str| name.strip_suffix(domain)?.strip_suffix('.');
        within(&self.search_domain()).or_else(|| within(ZONE).filter(|rest| rest.contains('.')))
    }

    /// The whole name that an address of what the guest may see leads back to.
    fn name_of(&self, address: IpAddr) -> Option<String> {
        if address.is_loopback() {
            return Some("localhost".to_owned());
        }
        let own = self.own.first().filter(|_| self.addresses.contains(&address));
        let named = || self.names.iter().find(|(_, addresses)| addresses.contains(&address));
        let name = own.or_else(|| named().map(|(name, _)| name))?;
        Some(format!("{name}.{}", self.search_domain()))
    }

    /// The name as somebody would declare it: without the search domain that the guest's library may have added.
    #[must_use]
    pub fn plain<'a>(&self, name: &'a str) -> &'a str {
        self.relative(name).unwrap_or(name)
    }

    /// What of an answer may pass, and what must be open before it does. `node` is what no name ever opens: the node's own
    /// addresses and the cluster's.
    #[must_use]
    pub fn admit(
        &self,
        (name, kind): (&str, Kind),
        records: &[Record<'_>],
        node: &[Range<IpAddr>],
    ) -> Admitted {
        let chain = chain(name, kind, records);
        let mut admitted = Admitted::default();
        for (position, record) in records.iter().enumerate() {
            let is_signature = record.kind == Kind::RRSIG;
            let is_asked = record.kind == kind || record.kind == Kind::CNAME || is_signature;
            if !is_asked || !chain.iter().any(|owner| owner.eq_ignore_ascii_case(record.owner)) {
                continue;
            }
            let ttl_s = record.ttl_s.clamp(TTL_MIN_S, TTL_MAX_S);
            if let Content::Address(address) = record.content {
                if !self.admits(address) {
                    admitted.private.push(address);
                    continue;
                }
                let openings = self.openings(name, address, ttl_s, node);
                if admitted.openings.len().saturating_add(openings.len()) > ANSWER_OPENINGS_MAX {
                    admitted.is_cut = true;
                    continue;
                }
                admitted.openings.extend(openings);
                admitted.addresses.push((address, ttl_s));
            }
            admitted.kept.push((position, ttl_s));
        }
        admitted
    }

    /// Whether an address may be told to the guest: those that are not public only where they are written out.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let is_written = |entry: &Egress| match entry {
            Egress::Network { address: first, prefix, .. } => egress::holds((*first, *prefix), address),
            Egress::Internet | Egress::Name { .. } => false,
        };
        egress::is_public(address) || self.egress.iter().any(is_written)
    }

    /// What an address to which a name has led opens: nothing that is open already, that no entry names, or that is not
    /// public, for that must be written out, and is open then.
    #[must_use]
    pub fn openings(&self, name: &str, address: IpAddr, ttl_s: u32, node: &[Range<IpAddr>]) -> Vec<Opening> {
        let is_open = |entry: &Egress| match entry {
            Egress::Internet => true,
            Egress::Network { address: first, prefix, port: None } => {
                egress::holds((*first, *prefix), address)
            }
            Egress::Network { port: Some(_), .. } | Egress::Name { .. } => false,
        };
        let is_closed =
            !egress::is_public(address) || node.iter().any(|range| egress::holds(*range, address));
        if is_closed || self.egress.iter().any(is_open) {
            return Vec::new();
        }
        let named = self.egress.iter().filter_map(|entry| match entry {
            Egress::Name { name: entry, port } => egress::name_matches(entry, name).then_some(*port),
            Egress::Internet | Egress::Network { .. } => None,
        });
        let mut ports: BTreeSet<Option<Port>> = named.collect();
        if ports.contains(&None) {
            ports = BTreeSet::from([None]);
        }
        let lifetime = Duration::from_secs(ttl_s.clamp(TTL_MIN_S, TTL_MAX_S).into()) + GRACE;
        let opening = |port| Opening { slot: self.slot, address, port, lifetime };
        ports.into_iter().map(opening).collect()
    }
}

/// The domain in which tasks of a job find each other by name.
#[must_use]
pub fn search_domain(job: &JobName) -> String {
    format!("{job}.{ZONE}")
}

/// The question's name with those that it is another name for, as far as the answer says.
fn chain<'a>(name: &'a str, kind: Kind, records: &[Record<'a>]) -> Vec<&'a str> {
    let mut chain = vec![name];
    while kind != Kind::CNAME && chain.len() <= ALIASES_MAX {
        let last = chain.last().copied().unwrap_or(name);
        let next = records.iter().find_map(|record| match record.content {
            Content::Alias(target) if record.owner.eq_ignore_ascii_case(last) => Some(target),
            Content::Alias(_) | Content::Address(_) | Content::Other => None,
        });
        match next {
            Some(target) if !chain.iter().any(|one| one.eq_ignore_ascii_case(target)) => chain.push(target),
            _ => break,
        }
    }
    chain
}

/// The type of the record that holds an address.
#[must_use]
pub fn kind_of(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(_) => Kind::A,
        IpAddr::V6(_) => Kind::AAAA,
    }
}

/// Whether a name may mean the same everywhere: one of several labels whose last ones are not of a local network.
fn is_public_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_whole = name.split('.').all(|label| !label.is_empty());
    is_whole && name.contains('.') && !NOT_PUBLIC.iter().any(|zone| zone.eq_ignore_ascii_case(last))
}

/// The address that a name of a reverse zone (RFC 1035, section 3.5; RFC 3596, section 2.5) stands for, if it is whole.
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let forward: Vec<&str> = labels.rsplit('.').collect();
        return forward.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let labels: Vec<&str> = name.strip_suffix(".ip6.arpa")?.rsplit('.').collect();
    let is_digit = |label: &&str| label.len() == 1 && label.bytes().all(|byte| byte.is_ascii_hexdigit());
    if labels.len() != 32 || !labels.iter().all(is_digit) {
        return None;
    }
    u128::from_str_radix(&labels.concat(), 16).ok().map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
}

#[cfg(test)]
mod tests;
