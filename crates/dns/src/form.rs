//! What is sent between the agent and the resolver, and between the resolver's two halves: JSON with a version.
//!
//! Owns the forms and their conversions. What comes from the half that reads guests' messages is hostile.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lith_core::egress::Range;
use lith_core::job::{Port, Transport};
use lith_core::resolve::{NamePolicy, Opening, Refusal};
use lith_core::slot::{SLOT_MAX, Slot};
use lith_core::value::access;
use serde::{Deserialize, Serialize};

/// The version of these forms. A resolver of another one is replaced.
pub const VERSION: u32 = 1;
/// Most names of a guest, aliases and its own included: twice what a job may declare.
pub const NAMES_MAX: usize = 1_024;
/// Longest name, bytes, as DNS has it.
pub const NAME_BYTES_MAX: usize = 253;

/// What all guests of the node may learn: the whole of it, in the place of what was sent before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What no name ever opens: the node's own addresses and the cluster's, as first address and length of the prefix.
    #[serde(default)]
    pub node: Vec<(IpAddr, u8)>,
    /// The guests.
    pub guests: Vec<Guest>,
}

/// What one guest may learn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guest {
    /// Its slot.
    pub slot: u16,
    /// Who it is. With another one in the slot, nothing that was opened before is its own.
    pub task: String,
    /// Its job.
    pub job: String,
    /// Its own names.
    pub own: Vec<String>,
    /// Its addresses, from which it asks.
    pub addresses: Vec<IpAddr>,
    /// The names of what it connects to, with their addresses.
    #[serde(default)]
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// What it may reach outside the cluster, as the job file writes it.
    #[serde(default)]
    pub egress: Vec<String>,
}

/// A policy that cannot be put in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A guest's part is wrong.
    #[error("the names of slot {slot} cannot be used: {problem}")]
    Guest {
        /// Its slot, as it was sent.
        slot: u16,
        /// What is wrong.
        problem: String,
    },
    /// Two guests with one slot or one address.
    #[error("slot {0} or an address of it is given to two guests")]
    Twice(u16),
}

impl Guest {
    /// The valid form.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn policy(&self) -> Result<NamePolicy, PolicyError> {
        let wrong = |problem: String| PolicyError::Guest { slot: self.slot, problem };
        let slot = Slot::new(self.slot).ok_or_else(|| wrong(format!("slots are 1 to {SLOT_MAX}")))?;
        if self.names.len() > NAMES_MAX || self.own.len() > NAMES_MAX {
            return Err(wrong(format!("they are more than {NAMES_MAX}")));
        }
        let mut names = BTreeMap::new();
        for (name, addresses) in &self.names {
            names.insert(name.to_ascii_lowercase(), addresses.clone());
        }
        let entry = |text: &String| access::egress(text).map_err(|refusal| wrong(refusal.message));
        Ok(NamePolicy {
            slot,
            job: self.job.parse().map_err(|error| wrong(format!("{error}")))?,
            own: self.own.clone(),
            addresses: self.addresses.clone(),
            names,
            egress: self.egress.iter().map(entry).collect::<Result<_, _>>()?,
        })
    }
}

impl Policy {
    /// The valid forms, with whose each is.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn guests(&self) -> Result<BTreeMap<Slot, (String, NamePolicy)>, PolicyError> {
        let mut guests = BTreeMap::new();
        let mut addresses = std::collections::BTreeSet::new();
        for guest in &self.guests {
            let policy = guest.policy()?;
            let is_new = policy.addresses.iter().all(|address| addresses.insert(*address));
            if !is_new || guests.insert(policy.slot, (guest.task.clone(), policy)).is_some() {
                return Err(PolicyError::Twice(guest.slot));
            }
        }
        Ok(guests)
    }

    /// What no name ever opens.
    #[must_use]
    pub fn node_ranges(&self) -> Vec<Range<IpAddr>> {
        self.node.clone()
    }
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrittenTransport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// An address that is open to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenOpening {
    /// Its slot.
    pub slot: u16,
    /// The name that led there last.
    pub name: String,
    /// Where it may go.
    pub address: IpAddr,
    /// First and last port; every one when there are none.
    pub ports: Option<(u16, u16, WrittenTransport)>,
    /// For how much longer, milliseconds.
    pub lifetime_ms: u64,
}

impl WrittenOpening {
    /// The written form of what a name has opened.
    #[must_use]
    pub fn new(name: &str, opening: Opening) -> Self {
        let transport = |transport| match transport {
            Transport::Tcp => WrittenTransport::Tcp,
            Transport::Udp => WrittenTransport::Udp,
        };
        let ports = opening.port.map(|port| (port.number, port.last, transport(port.transport)));
        let lifetime_ms = u64::try_from(opening.lifetime.as_millis()).unwrap_or(u64::MAX);
        let (slot, name) = (opening.slot.number(), name.to_owned());
        Self { slot, name, address: opening.address, ports, lifetime_ms }
    }

    /// The valid form; `None` for a slot that there is not.
    #[must_use]
    pub fn opening(&self) -> Option<Opening> {
        let transport = |transport| match transport {
            WrittenTransport::Tcp => Transport::Tcp,
            WrittenTransport::Udp => Transport::Udp,
        };
        let port = self.ports.map(|(number, last, kind)| Port { number, last, transport: transport(kind) });
        Some(Opening {
            slot: Slot::new(self.slot)?,
            address: self.address,
            port,
            lifetime: Duration::from_millis(self.lifetime_ms),
        })
    }
}

/// Why a name gave nothing, or not everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// [`Refusal::NotDeclared`].
    NotDeclared,
    /// [`Refusal::NotPublic`].
    NotPublic,
    /// [`Refusal::Kind`].
    Kind,
    /// [`Refusal::PrivateAddress`].
    PrivateAddress,
    /// [`Refusal::TooManyAddresses`].
    TooManyAddresses,
    /// [`Refusal::TooManyQuestions`].
    TooManyQuestions,
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotDeclared => Self::NotDeclared,
            Refusal::NotPublic => Self::NotPublic,
            Refusal::Kind => Self::Kind,
            Refusal::PrivateAddress => Self::PrivateAddress,
            Refusal::TooManyAddresses => Self::TooManyAddresses,
            Refusal::TooManyQuestions => Self::TooManyQuestions,
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::NotDeclared => Self::NotDeclared,
            Reason::NotPublic => Self::NotPublic,
            Reason::Kind => Self::Kind,
            Reason::PrivateAddress => Self::PrivateAddress,
            Reason::TooManyAddresses => Self::TooManyAddresses,
            Reason::TooManyQuestions => Self::TooManyQuestions,
        }
    }
}

/// A name that was refused to a guest, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The guest's slot.
    pub slot: u16,
    /// Who it is.
    pub task: String,
    /// The name as it would be declared; empty when it is about none.
    pub name: String,
    /// Why.
    pub reason: Reason,
    /// A private address to which it led.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// How often.
    pub count: u64,
}

/// What the privileged half says to the other one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToChild {
    /// What guests may learn from now on.
    Policy {
        /// Counts up, for [`ToParent::Applied`].
        number: u64,
        /// The policy.
        policy: Policy,
    },
    /// Whom to ask about names outside, in order.
    Upstreams(Vec<std::net::SocketAddr>),
    /// What became of an [`ToParent::Open`].
    Opened {
        /// Its number.
        number: u64,
        /// The outcome.
        outcome: Outcome,
    },
}

/// What became of addresses that were to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All are open.
    Opened,
    /// The guest has too many.
    TooMany,
    /// They must not be, or could not be.
    Refused,
}

/// What the half that reads guests' messages says to the privileged one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToParent {
    /// It answers.
    Ready,
    /// It answers by the policy of this number.
    Applied(u64),
    /// A name has led to addresses.
    Open {
        /// Counts up, for the answer.
        number: u64,
        /// Whose name it is.
        slot: u16,
        /// Who asked.
        task: String,
        /// The name that was asked for.
        name: String,
        /// The addresses, with the seconds that the answer is good for.
        addresses: Vec<(IpAddr, u32)>,
    },
    /// What was refused since the last time.
    Refused(Vec<Refused>),
}

/// What the agent asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Who are you?
    Hello,
    /// What guests may learn from now on.
    Policy(Policy),
    /// What is open?
    Openings,
    /// What was refused since this was asked last?
    Refused,
    /// The connection stays; a line comes when something was refused, and its end is the resolver's.
    Watch,
    /// What would a successor need to know?
    State,
    /// A successor is ready: what does it need to know? Then end.
    Yield,
    /// End.
    End,
}

/// What the resolver answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Hello`].
    Hello(Hello),
    /// It is done.
    Done,
    /// To [`Request::Openings`].
    Openings(Vec<WrittenOpening>),
    /// To [`Request::Refused`].
    Refused(Vec<Refused>),
    /// To [`Request::State`] and [`Request::Yield`].
    State(State),
    /// It is not done.
    Failed(String),
}

/// Who a resolver is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version of these forms.
    pub version: u32,
    /// The port at which it answers.
    pub port: u16,
    /// Device and number of the file that it runs.
    pub program: (u64, u64),
    /// Its process.
    pub pid: u32,
    /// The process of its half that reads guests' messages, if it runs.
    pub child: Option<u32>,
}

/// What a successor needs to know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What guests may learn.
    pub policy: Option<Policy>,
    /// What is open.
    pub openings: Vec<WrittenOpening>,
    /// What was refused, and not yet told.
    pub refused: Vec<Refused>,
}
