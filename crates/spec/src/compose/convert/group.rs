//! Groups: what is placed on one node as a unit.
//!
//! Owns which task is in which group: all in one, but for services that want another number of instances than one.

use std::collections::BTreeMap;

use lith_core::job::{COUNT_MAX, GroupSpec, TaskSpec};
use lith_core::name::{GroupName, TaskName};
use lith_core::value::quoted;

use super::Work;
use super::names::unique;
use crate::compose::project::Service;
use crate::diagnostic::Code;
use crate::read::ONLY_GROUP;

/// How many instances a service wants; what it does not say, or says wrong, is one.
pub(super) fn count(service: &Service) -> u32 {
    let wanted = service.scale.as_ref().or(service.deploy.replicas.as_ref());
    wanted.map_or(1, |count| count.value.min(COUNT_MAX))
}

/// The groups of these tasks.
pub(super) fn groups(
    mut tasks: BTreeMap<TaskName, TaskSpec>,
    work: &mut Work<'_>,
) -> BTreeMap<GroupName, GroupSpec> {
    let mut groups: BTreeMap<GroupName, GroupSpec> = BTreeMap::new();
    let project = work.project;
    for service in &project.services {
        check_count(service, work);
        let count = count(service);
        let Some(name) = work.names.task(&service.name.value).cloned() else { continue };
        if count == 1 {
            continue;
        }
        let Some(task) = tasks.remove(&name) else { continue };
        let is_taken =
            |label: &str| label == ONLY_GROUP || (label != name.as_str() && work.names.holds(label));
        let label = unique(name.as_str(), is_taken);
        let group: GroupName = label.parse().expect("a task's name is a label");
        work.decide(&name, "image", "in a group of its own for its number of instances");
        groups.insert(group, GroupSpec { count, ..GroupSpec::new(BTreeMap::from([(name, task)])) });
    }
    if !tasks.is_empty() {
        let main: GroupName = ONLY_GROUP.parse().expect("the constant is a label");
        groups.insert(main, GroupSpec::new(tasks));
    }
    groups
}

fn check_count(service: &Service, work: &mut Work<'_>) {
    let wanted = service.scale.as_ref().or(service.deploy.replicas.as_ref());
    if let Some(count) = wanted.filter(|count| count.value > COUNT_MAX) {
        let message = format!("{} instances are more than {COUNT_MAX}", count.value);
        work.reporter.error(Code::OutOfRange, count.span, message, None);
    }
    let Some(mode) = &service.deploy.mode else { return };
    match mode.value.as_str() {
        "replicated" | "replicated-job" | "global-job" => {}
        "global" => {
            let message = "`mode: global` runs one instance here, not one on each node";
            work.reporter.warning(Code::NoEffect, mode.span, message, None);
        }
        other => {
            let message = format!("{} is not a mode of `deploy`", quoted(other));
            let hint = "its modes are replicated, global, replicated-job and global-job";
            work.reporter.error(Code::BadWord, mode.span, message, hint);
        }
    }
}
