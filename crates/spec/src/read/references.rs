//! What holds across the whole job: every name means something, and nothing excludes something else.
//!
//! Owns those checks. What is wrong in one task alone was said when it was read.

use std::collections::BTreeMap;
use std::rc::Rc;

use lith_core::job::access::ConnectPorts;
use lith_core::job::health::Condition;
use lith_core::job::volume::MountSource;
use lith_core::job::{JobSpec, Port, TaskSpec, Transport, circle};
use lith_core::name::{TaskName, VolumeName};
use lith_core::value::quoted;

use super::group::Tasks;
use super::task::{Marks, is_unchecked};
use crate::diagnostic::{Code, Reporter};
use crate::document::Span;
use crate::keys::nearest;

/// Names that the job declares, as they are written, with their places.
pub(super) struct Declared {
    /// `None` when the job declares none: each that is used is one.
    pub(super) volumes: Option<BTreeMap<Rc<str>, Span>>,
    pub(super) secrets: BTreeMap<Rc<str>, Span>,
    pub(super) configs: BTreeMap<Rc<str>, Span>,
}

/// Reports what does not hold.
pub(super) fn check(job: &JobSpec, declared: &Declared, tasks: &Tasks, reporter: &mut Reporter) {
    let specs: BTreeMap<&TaskName, &TaskSpec> = job.tasks().map(|(_, name, spec)| (name, spec)).collect();
    for (name, marks) in &tasks.marks {
        if reporter.is_full() {
            return;
        }
        if let Some(volumes) = &declared.volumes {
            for (mount, span) in &marks.volumes {
                if let MountSource::Volume(volume) = &mount.source {
                    known("volume", "volumes", volume.as_str(), *span, volumes, reporter);
                }
            }
        }
        for (used, span) in &marks.secrets {
            known("secret", "secrets", used.source.as_str(), *span, &declared.secrets, reporter);
        }
        for (used, span) in &marks.configs {
            known("config", "configs", used.source.as_str(), *span, &declared.configs, reporter);
        }
        if let Some(spec) = specs.get(name) {
            exposed(name, spec, marks, reporter);
        }
        connected(marks, &specs, tasks, reporter);
        awaited(marks, &specs, tasks, reporter);
    }
    written_once(job, tasks, reporter);
    if let Some(circle) = circle(job) {
        report_circle(&circle, tasks, reporter);
    }
}

/// Reports a name that is not declared.
fn known(
    noun: &str,
    key: &str,
    name: &str,
    span: Span,
    declared: &BTreeMap<Rc<str>, Span>,
    reporter: &mut Reporter,
) {
    if declared.contains_key(name) || reporter.is_full() {
        return;
    }
    let hint = match nearest(name, declared.keys().map(|name| &**name)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if key == "volumes" => format!("add `{name}:` below `volumes:` of the job"),
        None if key == "secrets" => {
            format!("add `secrets: [ {name} ]` to the job, or below it where its content comes from")
        }
        None if key == "configs" => format!("add `configs: {{ {name}: {{ file: ./{name} }} }}` to the job"),
        None => format!("add a {noun} of this name to the job"),
    };
    reporter.error(Code::UnknownReference, span, format!("the job has no {noun} {}", quoted(name)), hint);
}

/// A browser must be led to a port on which something listens.
fn exposed(name: &TaskName, spec: &TaskSpec, marks: &Marks, reporter: &mut Reporter) {
    for (expose, span) in &marks.expose {
        if !listens(spec, Port::one(expose.port, Transport::Tcp)) {
            let message = format!("{} does not declare port {}", quoted(name.as_str()), expose.port);
            let hint = format!("add `ports: [ {} ]` to the task", expose.port);
            reporter.error(Code::UnknownReference, *span, message, hint);
        }
    }
}

/// Whether the task says that it listens on all of these ports.
fn listens(spec: &TaskSpec, port: Port) -> bool {
    let listed = spec.ports.iter().map(|port| (port.number, port.last, port.transport));
    let published =
        spec.publish.iter().map(|publish| (publish.guest_port, publish.guest_last(), publish.transport));
    listed.chain(published).any(|(first, last, transport)| {
        transport == port.transport && first <= port.number && port.last <= last
    })
}

fn connected(marks: &Marks, specs: &BTreeMap<&TaskName, &TaskSpec>, tasks: &Tasks, reporter: &mut Reporter) {
    for (connect, span) in marks.connects.iter().filter(|(connect, _)| connect.job.is_none()) {
        let target = connect.task.as_str();
        known("task", "tasks", target, *span, &tasks.declared, reporter);
        let Some(spec) = specs.get(&connect.task) else { continue };
        match &connect.ports {
            ConnectPorts::Any => {}
            ConnectPorts::Declared if spec.ports.is_empty() => {
                let message = format!("{} declares no ports, so this reaches nothing", quoted(target));
                let hint = match spec.publish.first() {
                    Some(publish) => {
                        format!(
                            "add `ports: [ {} ]` to `{target}`, or write `{target}:*` for all",
                            publish.guest_port
                        )
                    }
                    None => format!("add `ports:` to `{target}`, or write `{target}:*` for all"),
                };
                reporter.error(Code::UnknownReference, *span, message, hint);
            }
            ConnectPorts::Declared => {}
            ConnectPorts::One(port) if !listens(spec, *port) => {
                let message = format!("{} does not declare port {port}", quoted(target));
                let declared: Vec<String> = spec.ports.iter().map(ToString::to_string).collect();
                let hint = if declared.is_empty() {
                    format!("add `ports: [ {port} ]` to `{target}`")
                } else {
                    format!("its ports are {}; add this one if it listens there too", declared.join(", "))
                };
                reporter.error(Code::UnknownReference, *span, message, hint);
            }
            ConnectPorts::One(_) => {}
        }
    }
}

fn awaited(marks: &Marks, specs: &BTreeMap<&TaskName, &TaskSpec>, tasks: &Tasks, reporter: &mut Reporter) {
    for (target, condition, span) in &marks.depends_on {
        known("task", "tasks", target.as_str(), *span, &tasks.declared, reporter);
        let is_unchecked = specs.get(target).is_some_and(|spec| is_unchecked(spec));
        if *condition == Condition::Healthy && is_unchecked {
            let message = format!("{} is never healthy: its `health` is `none`", quoted(target.as_str()));
            reporter.error(
                Code::UnknownReference,
                *span,
                message,
                format!("give `{target}` a check, or wait for `started`"),
            );
        }
    }
}

/// A disk that two machines write to is lost, unless it is one that is made for that.
fn written_once(job: &JobSpec, tasks: &Tasks, reporter: &mut Reporter) {
    let mut writers: BTreeMap<&VolumeName, Vec<(Span, &TaskName)>> = BTreeMap::new();
    for (name, marks) in &tasks.marks {
        for (mount, span) in &marks.volumes {
            let MountSource::Volume(volume) = &mount.source else { continue };
            let holders = writers.entry(volume).or_default();
            // A task may mount one disk at two places.
            if !mount.is_read_only && holders.last().is_none_or(|(_, last)| *last != name) {
                holders.push((*span, name));
            }
        }
    }
    for (volume, mut holders) in writers {
        if job.volumes.get(volume).is_none_or(|spec| spec.is_shared) {
            continue;
        }
        holders.sort_unstable();
        let mut holders = holders.into_iter();
        let Some((_, first)) = holders.next() else { continue };
        for (span, _) in holders {
            let message = format!(
                "the disk {} is written by {} already",
                quoted(volume.as_str()),
                quoted(first.as_str())
            );
            let hint =
                format!("write `volumes: {{ {volume}: {{ shared: true }} }}` in the job, or use two disks");
            reporter.error(Code::SharedDisk, span, message, hint);
        }
    }
}

fn report_circle(circle: &[TaskName], tasks: &Tasks, reporter: &mut Reporter) {
    let (Some(first), Some(next)) = (circle.first(), circle.get(1).or(circle.first())) else { return };
    let places = tasks.marks.get(first).map(|marks| marks.depends_on.as_slice()).unwrap_or_default();
    let Some((_, _, span)) = places.iter().find(|(target, _, _)| target == next) else { return };
    let (message, hint) = if circle.len() == 1 {
        (format!("{} waits for itself", quoted(first.as_str())), "remove it from `depends_on`")
    } else {
        let names: Vec<String> =
            circle.iter().take(SHOWN_MAX).chain([first]).map(|name| quoted(name.as_str())).collect();
        let dots = if circle.len() > SHOWN_MAX { ", with others between" } else { "" };
        let message = format!("tasks wait for each other, so none can start: {}{dots}", names.join(" → "));
        (message, "remove one of these from `depends_on`")
    };
    reporter.error(Code::Circle, *span, message, hint);
}

/// Most tasks of a circle that a message names.
const SHOWN_MAX: usize = 8;
