//! Restart policies, in the words of `docker run --restart`.

use super::{Refusal, quoted};
use crate::job::RestartPolicy;

/// A restart policy. `unless-stopped` is `always`: a stopped task stays stopped under both.
///
/// # Errors
/// What is wrong with it, and what to write instead.
pub fn parse(text: &str) -> Result<RestartPolicy, Refusal> {
    let refusal = || Refusal::new(format!("{} is not a restart policy", quoted(text)));
    match text {
        "always" | "unless-stopped" => Ok(RestartPolicy::Always),
        "no" | "never" => Ok(RestartPolicy::Never),
        "on-failure" => Ok(RestartPolicy::OnFailure { retries_max: None }),
        _ => {
            let Some(retries) = text.strip_prefix("on-failure:") else {
                let hint = match text {
                    "false" => "did you mean `no`?",
                    "true" | "yes" => "did you mean `always`?",
                    "on_failure" | "onfailure" | "failure" => "did you mean `on-failure`?",
                    _ => "write `always`, `on-failure`, `on-failure:3` or `no`",
                };
                return Err(refusal().hint(hint));
            };
            let is_number = !retries.is_empty() && retries.bytes().all(|byte| byte.is_ascii_digit());
            match retries.parse::<u32>() {
                Ok(0) => Err(refusal().hint("write `no` for no restart, `on-failure` for no limit")),
                Ok(retries) if is_number => Ok(RestartPolicy::OnFailure { retries_max: Some(retries) }),
                _ => {
                    Err(refusal()
                        .hint("write the number of restarts after the colon, such as `on-failure:3`"))
                }
            }
        }
    }
}
