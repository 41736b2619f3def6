//! What the agent and a supervisor say on the supervisor's socket: the frames of the guest channel, one request per
//! connection, everything on channel 0. Owns these messages; both ends come from one build, but a supervisor may be
//! older than the agent, so an unknown request is an answer, not a broken connection.
//!
//! ```text
//!  agent                                   supervisor
//!  Open(ShimRequest) ───────────────────▶
//!                    ◀─────────────────── Control(TaskState)…      for Watch, now and at each change
//!  Data, Eof, Control ──────────────────▶ ◀── Data, Eof             for Exec and copies, relayed with back-pressure
//!                    ◀─────────────────── Close(Answer)
//! ```

use lith_guest::messages::{Outcome, Request, Stats};
use lith_guest::signal::Signal;

/// The channel of every frame on the socket.
pub(super) const CHANNEL: u32 = 0;

/// The one request of a connection.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ShimRequest {
    /// The state now, and each change.
    Watch,
    /// Ask the process to stop.
    Stop { signal: Option<Signal>, grace_ms: u64 },
    /// End the machine.
    Kill,
    /// Send the process a signal.
    Signal { signal: Signal },
    /// Ask for figures.
    Stats,
    /// Something that the guest does on a channel of its own.
    Guest(Request),
}

/// The end of a connection.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// Accepted. For `Watch`: the machine is gone.
    Done,
    /// The guest's figures.
    Stats(Stats),
    /// How the guest's channel ended.
    Outcome(Outcome),
    /// Not possible now; a sentence.
    Refused { message: String },
}
