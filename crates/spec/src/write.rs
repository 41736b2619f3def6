//! The job as a file again, in one canonical form.
//!
//! Owns the layout: keys in the order of the reference page, nothing that is a default, quotes only where some reader of
//! YAML could misunderstand, short lists and mappings on one line. `read(to_yaml(job))` is `job`, given the same files and
//! variables.

use std::collections::{BTreeMap, BTreeSet};

use lith_core::job::file::{Content, FileSource};
use lith_core::job::volume::{MountSource, VOLUME_SIZE_DEFAULT, VolumeSpec};
use lith_core::job::{GroupSpec, JobSpec};
use lith_core::name::{FileName, TaskName, VolumeName};

use crate::read::ONLY_GROUP;
use crate::value::duration;

mod access;
mod page;
mod scalar;
mod task;

pub use access::{Access, access_to_yaml};
use page::Page;
pub(crate) use scalar::{scalar, value};

/// Words for the person who reads a written job, each a line without its `#`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comments {
    /// Above the job.
    pub job: Vec<String>,
    /// Above a volume.
    pub volumes: BTreeMap<VolumeName, Vec<String>>,
    /// Above a task.
    pub tasks: BTreeMap<TaskName, Vec<String>>,
    /// Above a key of a task; above the task itself when the key says what is the default anyway.
    pub keys: BTreeMap<(TaskName, String), Vec<String>>,
}

/// The job as a job file that could be deployed again.
#[must_use]
pub fn to_yaml(job: &JobSpec) -> String {
    to_yaml_with(job, &Comments::default())
}

/// The same with comments.
#[must_use]
pub fn to_yaml_with(job: &JobSpec, comments: &Comments) -> String {
    let mut page = Page::default();
    page.comments(0, &comments.job);
    page.pair(0, "job", &scalar(job.name.as_str()));
    volumes(&mut page, job, comments);
    files(&mut page, "secrets", &job.secrets);
    files(&mut page, "configs", &job.configs);
    if let Some(group) = only_group(job) {
        page.key(0, "tasks");
        task::tasks(&mut page, 1, group, comments);
        return page.text;
    }
    page.key(0, "groups");
    for (name, group) in &job.groups {
        page.key(1, &scalar(name.as_str()));
        if group.count != 1 {
            page.pair(2, "count", &group.count.to_string());
        }
        if !group.place.is_empty() {
            let nodes = group.place.iter().map(|node| scalar(node.as_str())).collect();
            page.list(2, "place", nodes);
        }
        if let Some(after) = group.failover_after {
            page.pair(2, "failover_after", &duration::display(after));
        }
        page.key(2, "tasks");
        task::tasks(&mut page, 3, group, comments);
    }
    page.text
}

/// The group that `tasks` alone would make.
fn only_group(job: &JobSpec) -> Option<&GroupSpec> {
    let (name, group) = job.groups.first_key_value()?;
    let is_plain = group.count == 1 && group.place.is_empty() && group.failover_after.is_none();
    (job.groups.len() == 1 && name.as_str() == ONLY_GROUP && is_plain).then_some(group)
}

fn volumes(page: &mut Page, job: &JobSpec, comments: &Comments) {
    let used: BTreeSet<&VolumeName> = job
        .tasks()
        .flat_map(|(_, _, task)| &task.volumes)
        .filter_map(|mount| match &mount.source {
            MountSource::Volume(name) => Some(name),
            MountSource::Host(_) => None,
        })
        .collect();
    let are_default = job.volumes.values().all(|volume| *volume == VolumeSpec::default());
    let says_nothing = are_default && job.volumes.keys().eq(used) && comments.volumes.is_empty();
    if says_nothing {
        return;
    }
    page.key(0, "volumes");
    for (name, volume) in &job.volumes {
        page.comments(1, comments.volumes.get(name).map(Vec::as_slice).unwrap_or_default());
        let mut pairs = Vec::new();
        if let Some(pool) = &volume.pool {
            pairs.push(("pool", scalar(pool.as_str())));
        }
        if volume.size != VOLUME_SIZE_DEFAULT {
            pairs.push(("size", volume.size.to_string()));
        }
        if let Some(lag) = volume.max_lag {
            pairs.push(("max_lag", duration::display(lag)));
        }
        if let Some(import) = &volume.import {
            pairs.push(("import", value(import)));
        }
        if volume.is_shared {
            pairs.push(("shared", String::from("true")));
        }
        if pairs.is_empty() {
            page.key(1, &scalar(name.as_str()));
        } else {
            page.map(1, &scalar(name.as_str()), &pairs);
        }
    }
}

fn files(page: &mut Page, key: &str, files: &BTreeMap<FileName, FileSource>) {
    if files.is_empty() {
        return;
    }
    if files.values().all(|source| *source == FileSource::Store) {
        return page.list(0, key, files.keys().map(|name| scalar(name.as_str())).collect());
    }
    page.key(0, key);
    for (name, source) in files {
        let name = scalar(name.as_str());
        match source {
            FileSource::Store => page.key(1, &name),
            FileSource::File { path, .. } => page.map(1, &name, &[("file", value(path))]),
            FileSource::Variable { name: variable, .. } => {
                page.map(1, &name, &[("variable", value(variable))]);
            }
            FileSource::Inline(content) => inline(page, &name, content),
        }
    }
}

fn inline(page: &mut Page, name: &str, Content(bytes): &Content) {
    let text = String::from_utf8_lossy(bytes);
    if std::str::from_utf8(bytes).is_err() {
        // No file can have said it: a job file holds text. A request can.
        page.comments(
            1,
            &[String::from("This content is not text: put it into a file beside this one, and name that.")],
        );
    }
    page.key(1, name);
    page.text_pair(2, "content", &text);
}
