//! `deploy` of a service, and the accelerators that it asks for.
//!
//! Owns their forms. Must not judge what lith can honour.

use super::reader::{Reader, text, texts};
use super::tree::Value;
use crate::compose::project::{At, Deploy, UpdateConfig};
use crate::diagnostic::Code;
use crate::document::Span;
use crate::value::Refusal;

impl Reader<'_, '_> {
    /// `deploy` of a service.
    pub(super) fn deploy(&mut self, service: &Value) -> Deploy {
        let Some(value) = service.given("deploy") else { return Deploy::default() };
        let limits = value.given("resources").and_then(|resources| resources.given("limits"));
        let limit = |key: &str| limits.and_then(|limits| limits.given(key));
        Deploy {
            replicas: self.count(value.given("replicas")),
            mode: text(value.given("mode")).filter(|mode| mode.value != "replicated"),
            memory_limit: self.limit(limit("memory")),
            cpu_limit: self.cpus(limit("cpus")),
            restart: self.restart_policy(value),
            update: self.update_config(value),
            placement: value
                .given("placement")
                .filter(|placement| !placement.members().is_empty())
                .map(|placement| placement.span),
        }
    }

    fn restart_policy(&mut self, deploy: &Value) -> Option<At<(String, Option<u32>)>> {
        let policy = deploy.given("restart_policy")?;
        let attempts = self.count(policy.given("max_attempts")).map(|attempts| attempts.value);
        for key in ["delay", "window"] {
            self.duration(policy.given(key));
        }
        let condition = policy.given("condition").and_then(Value::text).unwrap_or("any");
        Some(At::new((condition.to_owned(), attempts), policy.span))
    }

    fn update_config(&mut self, deploy: &Value) -> Option<At<UpdateConfig>> {
        let config = deploy.given("update_config")?;
        let owned = |key: &str| text(config.given(key)).map(|text| text.value);
        let update = UpdateConfig {
            parallelism: self.count(config.given("parallelism")).map(|count| count.value),
            delay: self.duration(config.given("delay")).map(|delay| delay.value),
            monitor: self.duration(config.given("monitor")).map(|monitor| monitor.value),
            order: owned("order"),
            failure_action: text(config.given("failure_action")),
        };
        Some(At::new(update, config.span))
    }

    /// Accelerators: `gpus`, devices that `deploy` reserves, or the runtime that brings them.
    pub(super) fn gpus(&mut self, service: &Value) -> Option<At<Option<u32>>> {
        if let Some(gpus) = service.given("gpus") {
            if gpus.text().is_some() {
                return Some(At::new(None, gpus.span));
            }
            return self.requests(gpus.items().iter(), gpus.span);
        }
        let reserved = service
            .given("deploy")
            .and_then(|deploy| deploy.given("resources")?.given("reservations")?.given("devices"));
        if let Some(devices) = reserved {
            let is_gpu = |device: &&Value| {
                texts(device.given("capabilities")).iter().any(|capability| capability.value == "gpu")
            };
            let requests = devices.items().iter().filter(is_gpu);
            let gpus = self.requests(requests, devices.span);
            if gpus.is_some() {
                return gpus;
            }
        }
        let runtime = service.given("runtime").filter(|runtime| runtime.text() == Some("nvidia"))?;
        Some(At::new(None, runtime.span))
    }

    /// How many all requests ask for together; none for all.
    fn requests<'v>(
        &mut self,
        requests: impl Iterator<Item = &'v Value>,
        span: Span,
    ) -> Option<At<Option<u32>>> {
        let mut sum: Option<u32> = None;
        let mut is_all = false;
        for request in requests {
            let (count, ids) = (request.given("count"), request.given("device_ids"));
            if let (Some(_), Some(ids)) = (count, ids) {
                let refusal =
                    Refusal::new(Code::ConflictingKeys, "`count` and `device_ids` exclude each other");
                self.refuse(refusal.hint("keep one of them"), ids.span);
                continue;
            }
            let asked = match (count.and_then(Value::text), ids) {
                (None, Some(ids)) => u32::try_from(ids.items().len()).ok(),
                (Some(text), _) if !matches!(text.to_ascii_lowercase().as_str(), "all" | "-1") => {
                    self.count(count).map(|count| count.value)
                }
                (Some(_) | None, _) => None,
            };
            is_all |= asked.is_none();
            sum = Some(sum.unwrap_or(0).saturating_add(asked.unwrap_or(0)));
        }
        sum.map(|sum| At::new((!is_all).then_some(sum), span))
    }
}
