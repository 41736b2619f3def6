//! Waiting for conditions. Owns the deadline that tests share; a condition that does not come true is named with what
//! was seen last.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// How long what must happen may take: emulated machines share few processors with other tests.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(30);

/// Looks until `look` gives a value, and returns it; what it gives meanwhile as an error is what was seen instead.
pub fn eventually<T, E: Display>(what: &str, look: impl FnMut() -> Result<T, E>) -> T {
    eventually_within(DEADLINE, what, look)
}

/// The same with a deadline of its own.
pub fn eventually_within<T, E: Display>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let begin = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if begin.elapsed() >= deadline => {
                panic!("waited {} s in vain for {what}; last seen: {seen}", deadline.as_secs())
            }
            Err(_) => thread::sleep(INTERVAL),
        }
    }
}
