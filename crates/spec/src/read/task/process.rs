//! The process of a task: when it runs, its command line, who it is, and what its machine looks like to it.
//!
//! Owns those keys. Must not know its environment, which has a module of its own.

use lith_core::job::process::{SCHEDULE_BYTES_MAX, TaskKind};
use lith_core::job::{Bytes, MEMBERS_MAX, SHM_SIZE_MAX, TaskSpec};
use lith_core::value::{self as shared, quoted};

use super::super::fields::{self, Fields, accepted, item_text};
use crate::diagnostic::{Code, Reporter};
use crate::document::Kind;
use crate::value::{self, Refusal, coded};

/// Words of `kind`.
const KINDS: [(&str, Kinds); 3] =
    [("service", Kinds::Service), ("once", Kinds::Once), ("periodic", Kinds::Periodic)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kinds {
    Service,
    Once,
    Periodic,
}

/// The task with what its file says about its process.
pub(super) fn process(bare: TaskSpec, fields: &mut Fields<'_>, reporter: &mut Reporter) -> TaskSpec {
    let groups = fields.parse_list("groups", reporter, coded(Code::BadUser, shared::process::group));
    let devices = fields.parse_list("devices", reporter, coded(Code::BadDevice, shared::mount::device));
    TaskSpec {
        kind: kind(fields, reporter),
        entrypoint: words(fields, "entrypoint", reporter),
        command: words(fields, "command", reporter),
        user: fields.parse("user", reporter, coded(Code::BadUser, shared::user::parse)),
        groups: fields::sorted("groups", groups, MEMBERS_MAX, reporter),
        working_dir: fields.parse("working_dir", reporter, coded(Code::BadPath, shared::path::absolute)),
        hostname: fields.parse("hostname", reporter, coded(Code::BadAccess, shared::access::host_name)),
        timezone: fields.parse("timezone", reporter, coded(Code::BadTimezone, shared::process::timezone)),
        gpu: fields.parse("gpu", reporter, coded(Code::BadNumber, shared::process::gpu)),
        devices: fields::sorted("devices", devices, MEMBERS_MAX, reporter),
        shm_size: fields.parse("shm_size", reporter, |text| {
            value::size::within("/dev/shm", text, Bytes(1), SHM_SIZE_MAX)
        }),
        is_read_only: fields.switch("read_only", reporter),
        ..bare
    }
}

fn kind(fields: &mut Fields<'_>, reporter: &mut Reporter) -> TaskKind {
    let kind = fields.parse("kind", reporter, |text| value::word(text, &KINDS));
    let written = fields.take("kind");
    let schedule = fields.take("schedule");
    match (kind, schedule) {
        (Some(Kinds::Periodic), None) => {
            if let Some(written) = written {
                let message = "a periodic task needs a schedule";
                let hint = "add `schedule:`, such as `schedule: 30 3 * * *` for each night at 3:30";
                reporter.error(Code::MissingKey, written.key.span, message, hint);
            }
            TaskKind::Service
        }
        (Some(Kinds::Periodic), Some(_)) => {
            let schedule = fields.parse("schedule", reporter, schedule_text);
            schedule.map_or(TaskKind::Service, |schedule| TaskKind::Periodic { schedule })
        }
        (kind, Some(schedule)) => {
            // A kind that was refused may have been meant as the right one.
            if kind.is_some() || written.is_none() {
                let message = "only a periodic task has a schedule";
                reporter.error(Code::ConflictingKeys, schedule.key.span, message, "add `kind: periodic`");
            }
            TaskKind::Service
        }
        (Some(Kinds::Once), None) => TaskKind::Once,
        (Some(Kinds::Service) | None, None) => TaskKind::Service,
    }
}

fn schedule_text(text: &str) -> Result<String, Refusal> {
    if text.len() > SCHEDULE_BYTES_MAX {
        let message = format!("the schedule is longer than {SCHEDULE_BYTES_MAX} bytes");
        return Err(Refusal::new(Code::BadSchedule, message));
    }
    coded(Code::BadSchedule, shared::process::schedule)(text)
}

/// A command line: a list of words, or text that is split into words as a shell does.
pub(super) fn words(fields: &mut Fields<'_>, key: &str, reporter: &mut Reporter) -> Option<Vec<String>> {
    let entry = fields.take(key)?;
    if let Kind::Text(text) = &entry.value.kind {
        let split = accepted(value::words::split(text), &entry.value, reporter)?;
        if let Some(operator) = &split.operator {
            let message = format!("{} means nothing here: no shell reads `{key}`", quoted(operator));
            let hint = format!("write `{key}: [ sh, -c, \"…\" ]` if the image has a shell");
            reporter.warning(Code::ShellSyntax, entry.value.span, message, hint);
        }
        return Some(split.words);
    }
    let mut words = Vec::new();
    for item in fields::list(entry, reporter)? {
        let Some(text) = item_text(entry, item, reporter) else { continue };
        words.extend(accepted(value::words::word(text), item, reporter));
    }
    Some(words)
}
