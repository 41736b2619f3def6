//! Signals: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
//!
//! Names are those of Linux (signal(7)). Numbers are not turned into names: they may differ between architectures.

use super::{Refusal, quoted};

/// Highest signal number of Linux.
const NUMBER_MAX: u32 = 64;

/// Real-time signals between the two ends that a C library leaves to programs: SIGRTMIN is 34, SIGRTMAX is 64.
const REAL_TIME_SPAN: u32 = 30;

/// Names of signals, without `SIG`.
pub const NAMES: [&str; 34] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "POLL", "PWR", "SYS",
];

/// A signal in its canonical form: `SIG` and the name in capitals, or the number.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn parse(text: &str) -> Result<String, Refusal> {
    let refusal = || Refusal::new(format!("{} is not a signal", quoted(text)));
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse::<u32>() {
            Ok(number) if (1..=NUMBER_MAX).contains(&number) => Ok(number.to_string()),
            _ => Err(refusal().hint(format!("signals are 1 to {NUMBER_MAX}"))),
        };
    }
    let capitals = text.to_ascii_uppercase();
    let name = capitals.strip_prefix("SIG").unwrap_or(&capitals);
    if NAMES.contains(&name) || is_real_time(name) {
        return Ok(format!("SIG{name}"));
    }
    Err(refusal().hint("write a name such as `SIGTERM` or `SIGRTMIN+3`, or a number"))
}

fn is_real_time(name: &str) -> bool {
    let offset = |rest: &str, sign: char| {
        let Some(digits) = rest.strip_prefix(sign) else { return rest.is_empty() };
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number && digits.parse::<u32>().is_ok_and(|number| number <= REAL_TIME_SPAN)
    };
    let from_min = name.strip_prefix("RTMIN").is_some_and(|rest| offset(rest, '+'));
    from_min || name.strip_prefix("RTMAX").is_some_and(|rest| offset(rest, '-'))
}
