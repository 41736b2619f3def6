//! How long an agent that stops everything goes on trying. Pure: time is an argument.

use std::time::{Duration, Instant};

use lith_core::name::TaskId;
use lith_core::task::STOP_MARGIN;
use lith_net::NetworkError;

use super::state::StateError;

/// Attempts in a row that may fail. A firewall that another program holds, or a disk that somebody is just cleaning, is
/// back by then; a program that is missing is not.
const FAILURES_MAX: u32 = 3;
/// Time beyond the longest stop for ending machines by force, which is asked for again and again.
const FORCE_MARGIN: Duration = Duration::from_secs(30);

/// Why not everything was stopped and removed.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// Devices or rules stay.
    #[error("the network cannot be removed")]
    Network {
        /// Why.
        #[source]
        source: NetworkError,
    },
    /// What was done could not be remembered.
    #[error("the agent cannot go on")]
    State {
        /// Why.
        #[source]
        source: StateError,
    },
    /// A task's machine or its supervisor goes on.
    #[error("task {id} does not end")]
    Task {
        /// The task.
        id: TaskId,
    },
}

impl DrainError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Network { source } => source.hint(),
            Self::State { .. } => None,
            Self::Task { id } => Some(format!(
                "look for its supervisor with `ps ax | grep {id}`, end it with `kill -9`, then run `lith down` again"
            )),
        }
    }
}

/// What is left of the agent's patience.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
    due: Option<Instant>,
}

impl Patience {
    /// After a round: `living` are tasks that have not ended, of which the slowest may take `grace`.
    pub(super) fn judge(
        &mut self,
        failure: Option<DrainError>,
        living: &[TaskId],
        grace: Duration,
        now: Instant,
    ) -> Result<(), DrainError> {
        let due = *self.due.get_or_insert(now + grace + STOP_MARGIN + FORCE_MARGIN);
        self.failures = if failure.is_some() { self.failures + 1 } else { 0 };
        match (failure, living.first()) {
            (Some(failure), None) if self.failures >= FAILURES_MAX => Err(failure),
            // Tasks that still stop come first, whatever else fails.
            (Some(failure), Some(_)) if now >= due => Err(failure),
            (None, Some(id)) if now >= due => Err(DrainError::Task { id: id.clone() }),
            (_, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn network() -> Option<DrainError> {
        Some(DrainError::Network { source: NetworkError::Foreign { owner: "other".to_owned() } })
    }

    #[test]
    fn patience_ends() {
        let now = Instant::now();
        let late = now + GRACE + STOP_MARGIN + FORCE_MARGIN;
        let task: TaskId = "shop.main.0.web".parse().unwrap();
        let living = std::slice::from_ref(&task);
        let mut patience = Patience::default();
        assert!(patience.judge(None, living, GRACE, now).is_ok());
        assert!(patience.judge(None, living, GRACE, late - Duration::from_secs(1)).is_ok());
        let error = patience.judge(None, living, GRACE, late).unwrap_err();
        assert_eq!(error.to_string(), "task shop.main.0.web does not end");
        let mut patience = Patience::default();
        for _ in 1..FAILURES_MAX {
            assert!(patience.judge(network(), &[], GRACE, now).is_ok());
        }
        assert!(patience.judge(network(), living, GRACE, now).is_ok(), "tasks come first");
        assert!(patience.judge(network(), &[], GRACE, now).is_err());
        let mut patience = Patience::default();
        for failure in [network(), None, network(), None, network()] {
            assert!(patience.judge(failure, &[], GRACE, now).is_ok(), "not in a row");
        }
    }
}
