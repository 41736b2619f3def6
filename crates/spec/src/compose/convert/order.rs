//! Order: what a task waits for, and what happens when it ends.
//!
//! Owns `depends_on`, the order that `links` imply, and tasks that run once. Both sides of each relation must have been
//! converted before; circles are refused where files are loaded.

use std::collections::BTreeMap;

use lith_core::job::health::{Condition, Health};
use lith_core::job::process::TaskKind;
use lith_core::job::{RestartPolicy, TaskSpec};
use lith_core::name::TaskName;
use lith_core::value::quoted;

use super::{Work, group};
use crate::compose::project::{Dependency, DependencyCondition, Service};
use crate::diagnostic::Code;
use crate::document::Span;

/// Puts the tasks in order.
pub(super) fn order(tasks: &mut BTreeMap<TaskName, TaskSpec>, work: &mut Work<'_>) {
    let project = work.project;
    for service in &project.services {
        let Some(name) = work.names.task(&service.name.value).cloned() else { continue };
        let mut wanted: BTreeMap<TaskName, Condition> = BTreeMap::new();
        for dependency in &service.depends_on {
            if let Some(target) = target(&dependency.value, dependency.span, work) {
                wanted.insert(target, condition(dependency.value.condition));
            }
        }
        // A link is an order too, and the weakest one.
        for link in &service.links {
            let linked = Dependency {
                service: link.value.0.clone(),
                condition: DependencyCondition::Started,
                required: true,
            };
            if let Some(target) = target(&linked, link.span, work).filter(|target| *target != name) {
                wanted.entry(target).or_insert(Condition::Started);
            }
        }
        for target in wanted.iter().filter(|(_, condition)| **condition == Condition::Completed) {
            if let Some(task) = tasks.get_mut(target.0) {
                task.kind = TaskKind::Once;
            }
        }
        if let Some(task) = tasks.get_mut(&name) {
            task.depends_on = wanted;
        }
    }
    job_modes(tasks, work);
    once(tasks, work);
    never_healthy(tasks, work);
}

/// The task to wait for; `None` when there is nothing to wait for.
fn target(dependency: &Dependency, span: Span, work: &mut Work<'_>) -> Option<TaskName> {
    let services = &work.project.services;
    let Some(service) = services.iter().find(|service| service.name.value == dependency.service) else {
        if dependency.required {
            missing(&dependency.service, span, work);
        }
        return None;
    };
    if group::count(service) == 0 {
        let message = format!("{} has no instance, so it is not waited for", quoted(&dependency.service));
        work.reporter.remark(Code::Decided, span, message, None);
        return None;
    }
    work.names.task(&dependency.service).cloned()
}

/// A service whose profile is off, though another one is linked to it.
fn missing(service: &str, span: Span, work: &mut Work<'_>) {
    let inactive = work.project.inactive.iter().find(|(name, _)| name == service);
    let (_, profiles) = inactive.expect("loading refuses the name of no service");
    let message = format!("{} is left out since its profile is off", quoted(service));
    let profile = profiles.first().expect("without a profile it would not be left out");
    let hint = format!("choose it with `--profile {profile}`, or remove the link");
    work.reporter.error(Code::UnknownReference, span, message, hint);
}

fn condition(condition: DependencyCondition) -> Condition {
    match condition {
        DependencyCondition::Started => Condition::Started,
        DependencyCondition::Healthy => Condition::Healthy,
        DependencyCondition::CompletedSuccessfully => Condition::Completed,
    }
}

/// `deploy.mode: replicated-job` says that a service ends.
fn job_modes(tasks: &mut BTreeMap<TaskName, TaskSpec>, work: &Work<'_>) {
    let ends = |service: &&Service| {
        let mode = service.deploy.mode.as_ref().map(|mode| mode.value.as_str());
        matches!(mode, Some("replicated-job" | "global-job"))
    };
    for service in work.project.services.iter().filter(ends) {
        if let Some(task) = work.names.task(&service.name.value).and_then(|name| tasks.get_mut(name)) {
            task.kind = TaskKind::Once;
        }
    }
}

/// What runs once is not started again when it has done its work.
fn once(tasks: &mut BTreeMap<TaskName, TaskSpec>, work: &mut Work<'_>) {
    for (name, task) in tasks.iter_mut().filter(|(_, task)| task.kind == TaskKind::Once) {
        work.decide(name, "kind", "others wait until it has completed");
        if task.restart == RestartPolicy::Always {
            task.restart = RestartPolicy::OnFailure { retries_max: None };
            work.decide(name, "restart", "`always` in Compose: what has completed is not started again");
        }
    }
}

/// Refuses to wait for the health of a task that is never asked for it.
fn never_healthy(tasks: &BTreeMap<TaskName, TaskSpec>, work: &mut Work<'_>) {
    let project = work.project;
    for dependency in project.services.iter().flat_map(|service| &service.depends_on) {
        let target = &dependency.value.service;
        let task = work.names.task(target).and_then(|name| tasks.get(name));
        let is_off = task.is_some_and(|task| task.health == Some(Health::Off));
        if is_off && dependency.value.condition == DependencyCondition::Healthy {
            let message = format!("{} is never healthy, for its check is disabled", quoted(target));
            let hint = "wait for `service_started`, or give it a check";
            work.reporter.error(Code::BadHealth, dependency.span, message, hint);
        }
    }
}
