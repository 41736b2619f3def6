//! How this process knows its own changes of the packet filter among the notices of all: each puts a number of its own in a
//! set that nobody else writes to.
//!
//! Numbers and not the process that made the change, as the kernel's notices name it: the kernel counts processes otherwise
//! than a container does.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::ruleset::STAMP_SET;

/// How many are remembered: notices come at once.
const REMEMBERED: usize = 64;

static ISSUED: Mutex<Issued> = Mutex::new(Issued { count: 0, last: VecDeque::new() });

#[derive(Debug)]
struct Issued {
    /// How many there were.
    count: u64,
    /// The latest of them, in order.
    last: VecDeque<u32>,
}

/// The end of a script, which makes the change one of this process.
pub(crate) fn commands() -> String {
    let mut issued = ISSUED.lock().unwrap_or_else(PoisonError::into_inner);
    let [a, b, c, d, ..] = RandomState::new().hash_one(issued.count).to_ne_bytes();
    let number = u32::from_ne_bytes([a, b, c, d]);
    issued.last.push_back(number);
    issued.count = issued.count.saturating_add(1);
    if issued.last.len() > REMEMBERED {
        issued.last.pop_front();
    }
    format!("flush set inet lith {STAMP_SET}\nadd element inet lith {STAMP_SET} {{ {number} }}\n")
}

/// The how manieth change of this process a number stands for, in the byte order that the kernel has it in. Who has seen a
/// later one knows that this is not the change itself: it may come from a listing that somebody saved and restored.
pub(crate) fn position(number: &[u8]) -> Option<u64> {
    let number = u32::from_ne_bytes(number.try_into().ok()?);
    let issued = ISSUED.lock().unwrap_or_else(PoisonError::into_inner);
    let later = issued.last.iter().rev().position(|issued| *issued == number)?;
    issued.count.checked_sub(u64::try_from(later).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_numbers_are_known_for_a_while() {
        let issue = || -> u32 { commands().split(['{', '}']).nth(1).unwrap().trim().parse().unwrap() };
        let (first, second) = (issue(), issue());
        let place = |number: u32| position(&number.to_ne_bytes());
        assert!(place(first) < place(second) && place(first).is_some());
        assert_eq!(place(first.wrapping_add(1)), None);
        assert_eq!(position(&[]), None);
        (0..REMEMBERED).for_each(|_| drop(commands()));
        assert_eq!(place(first), None);
    }
}
