//! The one place that reads the clock for decisions.

use std::time::{Duration, SystemTime};

use lith_core::time::Time;

/// Now, by the machine's clock.
#[must_use]
pub fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
