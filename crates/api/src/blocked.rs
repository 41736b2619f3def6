//! What tasks tried and were refused, on the wire.

use lith_core::blocked::allow::Allow;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What the tasks of a job tried to reach and were refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Blocked {
    /// The node's clock, in milliseconds since the Unix epoch: where to go on from with `since_ms`.
    pub now_ms: u64,
    /// Each thing that was tried, by task, the newest first.
    pub attempts: Vec<Attempt>,
    /// Attempts that there was no room to remember one by one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: u64,
    /// Why not everything is noticed, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind: Option<String>,
}

/// Something that a task tried and was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// The task, as `job.group.index.task`.
    pub task: String,
    /// Whether it asked for a name, or sent something.
    pub kind: Kind,
    /// What: a name, or an address with its port such as `192.0.2.1:443`, `[2001:db8::1]:53/udp`.
    pub what: String,
    /// How often, at least.
    pub times: u64,
    /// For the first time, in milliseconds since the Unix epoch.
    pub first_ms: u64,
    /// For the last time.
    pub last_ms: u64,
    /// What would allow it, for people: a line of the job file, or why there is none.
    pub allow_with: String,
    /// The entry of the task's `connects` that would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connects: Option<String>,
    /// The entry of its `egress` that would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<String>,
    /// The port that the task named in `connects`, one of the same job, has to declare in its `ports` for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ports: Option<String>,
}

/// How something was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// By asking what a name leads to.
    Name,
    /// By sending something.
    Flow,
}

/// Which attempts are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct BlockedQuery {
    /// Only what was tried at or after this many milliseconds since the Unix epoch.
    #[serde(default)]
    pub since_ms: u64,
}

impl Attempt {
    /// The attempt with what would allow it.
    #[must_use]
    pub fn allowed_with(self, allow: &Allow) -> Self {
        let allow_with = allow.to_string();
        match allow {
            Allow::Connect { connect, undeclared } => Self {
                allow_with,
                connects: Some(connect.to_string()),
                target_ports: undeclared.map(|port| port.to_string()),
                ..self
            },
            Allow::Egress(entry) => Self { allow_with, egress: Some(entry.to_string()), ..self },
            Allow::ByHand(_) | Allow::Never(_) => Self { allow_with, ..self },
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
