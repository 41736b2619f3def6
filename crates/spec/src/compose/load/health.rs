//! The health check of a service.
//!
//! Owns its forms. Must not decide how one is run.

use super::reader::Reader;
use super::tree::{Data, Value};
use crate::compose::project::{At, HealthCheck, HealthTest};
use crate::diagnostic::Code;
use crate::value::Refusal;

const EXAMPLE: &str =
    "write `[\"CMD\", \"curl\", \"-f\", \"http://localhost/\"]`, or the command as one text";

impl Reader<'_, '_> {
    /// `healthcheck` of a service.
    pub(super) fn health_check(&mut self, service: &Value) -> Option<At<HealthCheck>> {
        let value = service.given("healthcheck")?;
        let test = value.given("test").map(|test| (test.span, health_test(test)));
        let test = match test {
            None => HealthTest::OfTheImage,
            Some((_, Ok(test))) => test,
            Some((span, Err(refusal))) => {
                self.refuse(refusal, span);
                return None;
            }
        };
        let is_off = self.switch(value.given("disable")).is_some_and(|disable| disable.value);
        let mut time = |key: &str| {
            let time = self.duration(value.given(key)).map(|time| time.value);
            time.filter(|time| !time.is_zero())
        };
        let (interval, timeout) = (time("interval"), time("timeout"));
        let (start_period, start_interval) = (time("start_period"), time("start_interval"));
        let retries = self.count(value.given("retries")).map(|retries| retries.value);
        let check = HealthCheck {
            test: if is_off { HealthTest::Off } else { test },
            interval,
            timeout,
            retries: retries.filter(|retries| *retries > 0),
            start_period,
            start_interval,
        };
        Some(At::new(check, value.span))
    }
}

fn health_test(value: &Value) -> Result<HealthTest, Refusal> {
    let refuse = |message: &str| Err(Refusal::new(Code::BadHealth, message).hint(EXAMPLE));
    let items = match &value.data {
        Data::Scalar(scalar) => return Ok(HealthTest::Shell(scalar.text.to_string())),
        Data::List(items) => items,
        Data::Null | Data::Map(_) => return Ok(HealthTest::OfTheImage),
    };
    let words: Vec<String> = items.iter().filter_map(|item| item.text().map(str::to_owned)).collect();
    let Some((kind, words)) = words.split_first() else { return Ok(HealthTest::OfTheImage) };
    match kind.as_str() {
        "NONE" => Ok(HealthTest::Off),
        "CMD" if words.is_empty() => refuse("the health check names no command after `CMD`"),
        "CMD" => Ok(HealthTest::Command(words.to_vec())),
        "CMD-SHELL" => match words.first() {
            Some(command) => Ok(HealthTest::Shell(command.clone())),
            None => refuse("the health check names no command after `CMD-SHELL`"),
        },
        _ => refuse("a list as a health check starts with `CMD`, `CMD-SHELL` or `NONE`"),
    }
}
