//! How instances go over to a new version: `update` of a group or a task.
//!
//! Owns its keys and their defaults.

use lith_core::job::COUNT_MAX;
use lith_core::job::process::{OnFailure, UPDATE_TIME_MAX, Update, UpdateOrder};

use super::fields::Fields;
use super::mapping;
use crate::diagnostic::Reporter;
use crate::keys::Level;
use crate::value::{duration, number, word};

/// Words of `order`.
pub(crate) const ORDERS: [(&str, UpdateOrder); 2] =
    [("stop-first", UpdateOrder::StopFirst), ("start-first", UpdateOrder::StartFirst)];
/// Words of `on_failure`.
pub(crate) const FAILURES: [(&str, OnFailure); 3] =
    [("pause", OnFailure::Pause), ("continue", OnFailure::Continue), ("rollback", OnFailure::Rollback)];

/// What `update` says; `None` when it is not given.
pub(super) fn update(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Option<Update> {
    let entry = fields.take("update")?;
    let want = "`update` is a mapping, such as `{ parallel: 2, delay: 10s }`";
    let entries = mapping(&entry.key, &entry.value, want, reporter)?;
    let mut fields = Fields::new(Level::Update, entries, reporter);
    let default = Update::default();
    let time = |text: &str| duration::up_to(text, UPDATE_TIME_MAX);
    Some(Update {
        parallel: fields
            .parse("parallel", reporter, |text| number::whole(text, 1, COUNT_MAX))
            .unwrap_or(default.parallel),
        delay: fields.parse("delay", reporter, time).unwrap_or(default.delay),
        watch: fields.parse("watch", reporter, time).unwrap_or(default.watch),
        order: fields.parse("order", reporter, |text| word(text, &ORDERS)).unwrap_or(default.order),
        on_failure: fields
            .parse("on_failure", reporter, |text| word(text, &FAILURES))
            .unwrap_or(default.on_failure),
    })
}
