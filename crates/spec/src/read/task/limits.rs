//! What bounds a task: the size of its log, the limits of its process, the settings of its kernel.
//!
//! Owns `logging`, `ulimits` and `sysctls`.

use std::collections::BTreeMap;

use lith_core::job::process::{Logging, Ulimit};
use lith_core::job::{LOG_FILES_MAX, LOG_SIZE_MAX, LOG_SIZE_MIN, MEMBERS_MAX, TaskSpec};
use lith_core::value::{self as shared, quoted};

use super::super::fields::{self, Fields, accepted};
use crate::diagnostic::{Code, Reporter};
use crate::document::{Entry, Kind};
use crate::keys::{Level, nearest};
use crate::value::{self, coded, number, size};

/// The task with what its file says about its bounds.
pub(super) fn limits(task: TaskSpec, fields: &mut Fields<'_>, reporter: &mut Reporter) -> TaskSpec {
    TaskSpec {
        logging: logging(fields, reporter),
        ulimits: ulimits(fields, reporter),
        sysctls: sysctls(fields, reporter),
        ..task
    }
}

fn logging(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Logging {
    let want = "`logging` is a mapping, such as `{ max_size: 10M, max_files: 3 }`";
    let entries = fields.entries("logging", want, reporter);
    let mut fields = Fields::new(Level::Logging, entries, reporter);
    Logging {
        max_size: fields
            .parse("max_size", reporter, |text| size::within("log", text, LOG_SIZE_MIN, LOG_SIZE_MAX)),
        max_files: fields.parse("max_files", reporter, |text| number::whole(text, 1, LOG_FILES_MAX)),
    }
}

fn ulimits(fields: &mut Fields<'_>, reporter: &mut Reporter) -> BTreeMap<String, Ulimit> {
    let mut ulimits = BTreeMap::new();
    let want = "`ulimits` is a mapping of limits to numbers, such as `{ nofile: 65536 }`";
    for entry in fields.entries("ulimits", want, reporter) {
        let name = &*entry.key.text;
        if !shared::process::ULIMITS.contains(&name) {
            if reporter.is_full() {
                break;
            }
            let message = format!("{} is not a limit of a process", quoted(name));
            let folded = name.to_ascii_lowercase();
            let folded = folded.strip_prefix("rlimit_").unwrap_or(&folded);
            let hint = match nearest(folded, shared::process::ULIMITS.into_iter()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("the limits are {}", shared::process::ULIMITS.join(", ")),
            };
            reporter.error(Code::BadLimit, entry.key.span, message, hint);
            continue;
        }
        let limit = ulimit(entry, reporter);
        ulimits.extend(limit.map(|limit| (name.to_owned(), limit)));
    }
    ulimits
}

fn ulimit(entry: &Entry, reporter: &mut Reporter) -> Option<Ulimit> {
    let Kind::Map(entries) = &entry.value.kind else {
        let text = fields::text(entry, reporter)?;
        return accepted(coded(Code::BadLimit, shared::process::ulimit)(text), &entry.value, reporter);
    };
    let mut fields = Fields::new(Level::Ulimit, entries, reporter);
    let (Some(soft), Some(hard)) = (fields.take("soft"), fields.take("hard")) else {
        let message = format!("the limit {} is given with `soft` and `hard`", quoted(&entry.key.text));
        let hint = format!("write both, or one number for both: `{}: 65536`", entry.key.text);
        reporter.error(Code::MissingKey, entry.key.span, message, hint);
        return None;
    };
    let both = format!("{}:{}", fields::text(soft, reporter)?, fields::text(hard, reporter)?);
    let limit = coded(Code::BadLimit, shared::process::ulimit)(&both);
    accepted(limit, &hard.value, reporter)
}

fn sysctls(fields: &mut Fields<'_>, reporter: &mut Reporter) -> BTreeMap<String, String> {
    let mut sysctls = BTreeMap::new();
    let want = "`sysctls` is a mapping of settings to values, such as `{ net.core.somaxconn: 1024 }`";
    let entries = fields.entries("sysctls", want, reporter);
    if let Some(beyond) = entries.get(MEMBERS_MAX) {
        let message = format!("`sysctls` holds {} entries; the limit is {MEMBERS_MAX}", entries.len());
        reporter.error(Code::TooMany, beyond.key.span, message, None);
    }
    for entry in entries.iter().take(MEMBERS_MAX) {
        if let Err(refusal) = shared::process::sysctl(&entry.key.text) {
            reporter.error(Code::BadLimit, entry.key.span, refusal.message, refusal.hint);
            continue;
        }
        let Some(text) = fields::text(entry, reporter) else { continue };
        let value = accepted(value::text(text), &entry.value, reporter);
        sysctls.extend(value.map(|value| (entry.key.text.to_string(), value)));
    }
    sysctls
}
