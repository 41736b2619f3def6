//! The keys of a job.
//!
//! Owns what a job must have, and which names it declares.

use std::collections::BTreeMap;
use std::rc::Rc;

use lith_core::job::JobSpec;
use lith_core::job::volume::{MountSource, VOLUMES_MAX, VolumeSpec};
use lith_core::name::VolumeName;

use super::fields::{self, Fields};
use super::file::{self, FileKind};
use super::group::{self, Tasks};
use super::outside::Outside;
use super::references::{Declared, check};
use super::{name, volume};
use crate::diagnostic::{Code, Reporter};
use crate::document::{Entry, Kind, Span};
use crate::keys::Level;

/// The job that the keys of all its files make.
pub(super) fn job(entries: &[Entry], outside: &mut Outside<'_>, reporter: &mut Reporter) -> Option<JobSpec> {
    if let Some(services) = entries.iter().find(|entry| &*entry.key.text == "services") {
        reporter.error(
            Code::UnsupportedKey,
            services.key.span,
            "`services` is a key of a Compose file, not of a job",
            "call it `tasks` in a job file; a Compose file has neither `job` nor `tasks` nor `groups`",
        );
        return None;
    }
    let mut fields = Fields::new(Level::Job, entries, reporter);
    let place = entries.first().map_or(Span::default(), |entry| entry.key.span);
    let job_name = match fields.take("job") {
        Some(entry) => fields::text(entry, reporter).and_then(|text| name(text, entry.value.span, reporter)),
        None => {
            let message = "the job has no name";
            reporter.error(Code::MissingKey, place, message, "add a line such as `job: hello` at the top");
            None
        }
    };
    let volumes = fields.take("volumes");
    let secrets = fields.take("secrets");
    let configs = fields.take("configs");
    let declared = Declared {
        volumes: volumes.map(|entry| names(Some(entry))),
        secrets: names(secrets),
        configs: names(configs),
    };
    let mut volumes = volumes.map(|entry| volume::volumes(entry, outside, reporter)).unwrap_or_default();
    let mut files = |kind, entry: Option<&Entry>, reporter: &mut Reporter| {
        entry.map(|entry| file::sources(kind, entry, outside, reporter)).unwrap_or_default()
    };
    let secrets = files(FileKind::Secret, secrets, reporter);
    let configs = files(FileKind::Config, configs, reporter);
    let mut tasks = Tasks::default();
    let groups = match (fields.take("groups"), fields.take("tasks")) {
        (Some(groups), None) => group::groups(groups, &mut tasks, outside, reporter),
        (None, Some(only)) => group::only_group(only, &mut tasks, outside, reporter),
        (Some(groups), Some(tasks)) => {
            let second = groups.key.span.max(tasks.key.span);
            let hint = "`tasks` is short for one group: move these tasks into a group of their own";
            reporter.error(Code::ConflictingKeys, second, "a job has either `groups` or `tasks`", hint);
            None
        }
        (None, None) => {
            let hint = "add `tasks:` with a name and an `image` for each, such as `tasks: { web: { image: nginx } }`";
            reporter.error(Code::MissingKey, place, "the job has no tasks", hint);
            None
        }
    }?;
    if declared.volumes.is_none() {
        volumes = used_volumes(&tasks, reporter);
    }
    // A job whose name was refused still has references to check.
    let nameless = "job".parse().expect("the word is a label");
    let is_named = job_name.is_some();
    let job = JobSpec { volumes, secrets, configs, ..JobSpec::new(job_name.unwrap_or(nameless), groups) };
    check(&job, &declared, &tasks, reporter);
    is_named.then_some(job)
}

/// Names of members as they are written, also of those that are refused.
fn names(entry: Option<&Entry>) -> BTreeMap<Rc<str>, Span> {
    let Some(entry) = entry else { return BTreeMap::new() };
    match &entry.value.kind {
        Kind::Map(entries) => {
            entries.iter().map(|entry| (Rc::clone(&entry.key.text), entry.key.span)).collect()
        }
        Kind::List(items) => {
            let texts = items.iter().filter_map(|item| match &item.kind {
                Kind::Text(text) => Some((Rc::clone(text), item.span)),
                Kind::Null | Kind::List(_) | Kind::Map(_) => None,
            });
            texts.collect()
        }
        Kind::Null | Kind::Text(_) => BTreeMap::new(),
    }
}

/// The volumes of a job that declares none: each that a task mounts.
fn used_volumes(tasks: &Tasks, reporter: &mut Reporter) -> BTreeMap<VolumeName, VolumeSpec> {
    let mut volumes = BTreeMap::new();
    for (mount, span) in tasks.marks.values().flat_map(|marks| &marks.volumes) {
        let MountSource::Volume(name) = &mount.source else { continue };
        if volumes.len() == VOLUMES_MAX && !volumes.contains_key(name) {
            let message = format!("the tasks mount more than {VOLUMES_MAX} volumes");
            reporter.error(Code::TooMany, *span, message, "split them into several jobs");
            break;
        }
        volumes.insert(name.clone(), VolumeSpec::default());
    }
    volumes
}
