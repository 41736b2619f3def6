//! What tasks tried and were refused: counted, bounded, told at a pace that people can read.
//!
//! Pure: time is an argument. Must not know how a refusal is noticed. What would allow it is worked out in [`allow`](mod@allow).
//!
//! ```text
//!   attempt ──▶ note ──▶ the first of its kind ──▶ Notice::First, a few in each window
//!                 │                                      │ the others of the window
//!                 ▼                                      ▼
//!              records (what, when, how often)       Notice::More, at most one in each window
//! ```

pub mod allow;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::job::Transport;
use crate::name::{JobName, TaskId};
pub use crate::resolve::Refusal as NameRefusal;
use crate::time::Time;

/// Most things that are remembered of one task: more than anybody reads, and a scan of a network fills it.
pub const TASK_RECORDS_MAX: usize = 200;
/// Most that are remembered on a node: some megabytes.
pub const NODE_RECORDS_MAX: usize = 10_000;
/// What was last tried longer ago than this is forgotten: whoever looks into yesterday's trouble still finds it.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// What was last tried longer ago than this makes room for what is tried now, where there is no other.
const STALE: Duration = Duration::from_secs(600);
/// In each window of this length a task is told of a few times, and once in sum.
pub const WINDOW: Duration = Duration::from_secs(600);
/// Of what a task tries for the first time, so many are told one by one in a window.
pub const FIRST_MAX: u32 = 5;
/// Most addresses whose names are remembered for a node.
pub const NAMED_ADDRESSES_MAX: usize = 20_000;
/// Longest name that is kept: what DNS allows (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// How a packet is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP or UDP.
    Ported(Transport),
    /// Another one, by its number of the IANA registry: 1 for ICMP, 58 for that of IPv6.
    Other(u8),
}

impl Protocol {
    /// The protocol with this number.
    #[must_use]
    pub fn of_number(number: u8) -> Self {
        match number {
            6 => Self::Ported(Transport::Tcp),
            17 => Self::Ported(Transport::Udp),
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ported(transport) => transport.fmt(f),
            Self::Other(1 | 58) => f.write_str("ping"),
            Self::Other(number) => write!(f, "protocol {number}"),
        }
    }
}

/// Something that a task tried and was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attempt {
    /// To send something.
    Flow {
        /// Where to.
        address: IpAddr,
        /// To which port; `None` for protocols without ports, and for parts of packets that do not say.
        port: Option<u16>,
        /// By which protocol.
        protocol: Protocol,
    },
    /// To learn what a name leads to.
    Name {
        /// The name in lower case, without a final dot.
        name: String,
        /// Why it was not told.
        refusal: NameRefusal,
    },
}

impl Attempt {
    /// The question for a name, as it is kept: in lower case, without a final dot, cut at the length that names have.
    #[must_use]
    pub fn name(name: &str, refusal: NameRefusal) -> Self {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let name = name.chars().filter(|letter| !letter.is_control()).collect::<String>();
        let end = name.char_indices().map(|(at, _)| at).take_while(|at| *at <= NAME_BYTES_MAX).last();
        let cut = if name.len() > NAME_BYTES_MAX { end.unwrap_or(0) } else { name.len() };
        Self::Name { name: name.get(..cut).unwrap_or_default().to_owned(), refusal }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, .. } => f.write_str(name),
            Self::Flow { address, port: Some(port), protocol: Protocol::Ported(Transport::Tcp) } => {
                SocketAddr::new(*address, *port).fmt(f)
            }
            Self::Flow { address, port: Some(port), protocol } => {
                write!(f, "{}/{protocol}", SocketAddr::new(*address, *port))
            }
            Self::Flow { address, port: None, protocol } => write!(f, "{address} ({protocol})"),
        }
    }
}

/// How often something was tried, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// For the first time.
    pub first: Time,
    /// For the last time.
    pub last: Time,
    /// How often, at least: what comes too fast is not seen one by one.
    pub count: u64,
}

/// Something to tell people of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A task has tried something for the first time.
    First {
        /// The task.
        task: TaskId,
        /// What.
        attempt: Attempt,
    },
    /// What came on top in the window that has ended.
    More {
        /// The task.
        task: TaskId,
        /// Attempts that were not told one by one.
        attempts: u64,
    },
}

/// What is remembered of one task.
#[derive(Debug, Default)]
struct Tried {
    records: BTreeMap<Attempt, Record>,
    /// Attempts that there was no room for.
    omitted: u64,
    /// When the window began that is told of now.
    window: Option<Time>,
    /// First attempts told in it.
    told: u32,
    /// Attempts in it that were not told.
    untold: u64,
}

/// What the tasks of a node tried and were refused.
#[derive(Debug, Default)]
pub struct Blocked {
    tasks: BTreeMap<TaskId, Tried>,
    records: usize,
}

impl Blocked {
    /// Takes note of `count` attempts of the same. Says when people should be told.
    pub fn note(&mut self, task: &TaskId, attempt: Attempt, count: u64, now: Time) -> Option<Notice> {
        let tried = self.tasks.entry(task.clone()).or_default();
        let before = tried.records.len();
        let is_new = tried.count(&attempt, count, now, self.records < NODE_RECORDS_MAX);
        self.records = self.records.saturating_sub(before).saturating_add(tried.records.len());
        let window = *tried.window.get_or_insert(now);
        // A window that has ended and is not told of yet goes on until it is.
        let is_told = is_new && tried.told < FIRST_MAX && now.since(window) < WINDOW;
        if is_told {
            tried.told += 1;
            tried.untold = tried.untold.saturating_add(count.saturating_sub(1));
            return Some(Notice::First { task: task.clone(), attempt });
        }
        tried.untold = tried.untold.saturating_add(count);
        None
    }

    /// Ends windows that are over and says what is to be told of them; forgets what is long past.
    pub fn end_windows(&mut self, now: Time) -> Vec<Notice> {
        let mut notices = Vec::new();
        for (task, tried) in &mut self.tasks {
            tried.records.retain(|_, record| now.since(record.last) < REMEMBERED);
            if tried.window.is_none_or(|window| now.since(window) < WINDOW) {
                continue;
            }
            (tried.window, tried.told) = (None, 0);
            match std::mem::take(&mut tried.untold) {
                0 => {}
                attempts => notices.push(Notice::More { task: task.clone(), attempts }),
            }
        }
        self.tasks.retain(|_, tried| tried.window.is_some() || !tried.records.is_empty());
        self.records = self.tasks.values().map(|tried| tried.records.len()).sum();
        notices
    }

    /// Forgets all tasks but these: another one may have the name of a former one.
    pub fn keep(&mut self, tasks: &BTreeSet<TaskId>) {
        self.tasks.retain(|task, _| tasks.contains(task));
        self.records = self.tasks.values().map(|tried| tried.records.len()).sum();
    }

    /// What the tasks of a job tried at or after a time, the newest first for each task.
    #[must_use]
    pub fn of_job(&self, job: &JobName, since: Time) -> Vec<(&TaskId, &Attempt, &Record)> {
        let tasks = self.tasks.iter().filter(|(task, _)| task.alloc.job == *job);
        let mut found: Vec<_> = tasks
            .flat_map(|(task, tried)| {
                tried.records.iter().map(move |(attempt, record)| (task, attempt, record))
            })
            .filter(|(.., record)| record.last >= since)
            .collect();
        found.sort_by_key(|(task, attempt, record)| (*task, std::cmp::Reverse(record.last), *attempt));
        found
    }

    /// Attempts of the tasks of a job that there was no room for.
    #[must_use]
    pub fn omitted(&self, job: &JobName) -> u64 {
        let tasks = self.tasks.iter().filter(|(task, _)| task.alloc.job == *job);
        tasks.map(|(_, tried)| tried.omitted).fold(0, u64::saturating_add)
    }
}

impl Tried {
    /// Counts attempts; says whether there was none of the kind before.
    fn count(&mut self, attempt: &Attempt, count: u64, now: Time, has_node_room: bool) -> bool {
        if let Some(record) = self.records.get_mut(attempt) {
            record.last = record.last.max(now);
            record.count = record.count.saturating_add(count);
            return false;
        }
        let has_room = has_node_room && self.records.len() < TASK_RECORDS_MAX;
        if !has_room && !self.make_room(now) {
            self.omitted = self.omitted.saturating_add(count);
            return false;
        }
        self.records.insert(attempt.clone(), Record { first: now, last: now, count });
        true
    }

    /// Forgets what was tried longest ago, if that is some time.
    fn make_room(&mut self, now: Time) -> bool {
        let oldest = self.records.iter().min_by_key(|(_, record)| record.last);
        let Some((attempt, record)) = oldest else { return false };
        if now.since(record.last) < STALE {
            return false;
        }
        let (attempt, count) = (attempt.clone(), record.count);
        self.records.remove(&attempt);
        self.omitted = self.omitted.saturating_add(count);
        true
    }
}

/// Under which names tasks have lately learned addresses of outside.
#[derive(Debug, Default)]
pub struct Names {
    /// By address, the name and when it led there last.
    of: BTreeMap<IpAddr, (String, Time)>,
}

impl Names {
    /// Takes note that a name led to an address.
    pub fn note(&mut self, name: &str, address: IpAddr, now: Time) {
        if self.of.len() >= NAMED_ADDRESSES_MAX && !self.of.contains_key(&address) {
            self.of.retain(|_, (_, last)| now.since(*last) < WINDOW);
            if self.of.len() >= NAMED_ADDRESSES_MAX {
                return;
            }
        }
        let Attempt::Name { name, .. } = Attempt::name(name, NameRefusal::NotDeclared) else { return };
        self.of.insert(address, (name, now));
    }

    /// The name that led to an address last, if one did in the time that refusals are remembered.
    #[must_use]
    pub fn of(&self, address: IpAddr, now: Time) -> Option<&str> {
        let (name, last) = self.of.get(&address)?;
        (now.since(*last) < REMEMBERED).then_some(name.as_str())
    }
}

#[cfg(test)]
mod tests;
