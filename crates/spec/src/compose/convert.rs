//! From a Compose project to a job.
//!
//! Owns the order of the conversion and its result; each rule is in a module of its own below. Goes on after a refusal, so
//! that one conversion finds them all; a job results only when nothing is refused. Must not open a file itself, nor know
//! how a text of Compose is read.

use std::collections::BTreeMap;

use lith_core::job::file::FileSource;
use lith_core::job::{JobSpec, MEMBERS_MAX, TaskSpec};
use lith_core::name::{FileName, TaskName, VolumeName};
use lith_core::value as shared;

use super::project::{Project, Service};
use crate::diagnostic::{Code, Reporter};
use crate::document::Span;
use crate::source::Files;
use names::Names;
use notes::Notes;
use volumes::Volumes;

mod binds;
mod connect;
mod evidence;
mod files;
mod group;
mod health;
mod limits;
mod names;
mod notes;
mod order;
mod ports;
mod process;
pub(crate) mod refusal;
mod volumes;

pub(crate) use connect::Connection;

#[cfg(test)]
mod tests;

/// What whoever converts decides.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConvertOptions {
    /// Name of the job, whatever the file says.
    pub(crate) name: Option<String>,
    /// Name of the folder that the first file is in; the job's when nothing else names it.
    pub(crate) folder_name: String,
    /// Whether only those connections are kept that something in the file speaks for.
    pub(crate) narrow: bool,
    /// Whether volumes that the file does not declare are made.
    pub(crate) create_missing_volumes: bool,
    /// What becomes of folders beside the file.
    pub(crate) binds: Binds,
    /// The time zone of whoever converts.
    pub(crate) timezone: Option<String>,
}

/// What becomes of a folder beside the file that a service mounts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Binds {
    /// A disk that starts with its content.
    #[default]
    Import,
    /// The folder itself, shared with the task.
    Host {
        /// The folder that the first file is in; absolute.
        folder: String,
    },
}

/// What a conversion gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Converted {
    pub(crate) job: JobSpec,
    /// What was decided, for the comments of a job file.
    pub(crate) decisions: Vec<Decision>,
    /// Which task may reach which, in order of their names.
    pub(crate) connections: Vec<connect::Connection>,
}

/// One thing that the Compose file leaves open, or that is otherwise here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) place: DecisionPlace,
    /// One line.
    pub(crate) comment: String,
}

/// Where a decision shows in the job file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DecisionPlace {
    /// At its top.
    Job,
    /// At a volume.
    Volume(VolumeName),
    /// At a key of a task.
    Task {
        /// The task.
        task: TaskName,
        /// The key as the job file has it.
        key: &'static str,
    },
}

/// Makes a job of a project; `None` when something of it is refused, which the reporter then knows.
pub(crate) fn convert(
    project: &Project,
    options: &ConvertOptions,
    files: &dyn Files,
    reporter: &mut Reporter,
) -> Option<Converted> {
    let mut work = Work::new(project, options, files, reporter);
    let job_name = names::job(&mut work);
    if !has_services(&mut work) {
        return None;
    }
    refusal::networks(&mut work);
    let mut tasks: BTreeMap<TaskName, TaskSpec> = BTreeMap::new();
    for service in &project.services {
        let Some(name) = work.names.task(&service.name.value).cloned() else { continue };
        let task = task(service, &name, &mut work);
        tasks.insert(name, task);
    }
    order::order(&mut tasks, &mut work);
    let connections = connect::connect(&mut tasks, &mut work);
    volumes::share(&mut work);
    ports::collisions(&tasks, &mut work);
    let groups = group::groups(tasks, &mut work);
    if work.reporter.has_errors() {
        // What is decided about a job that does not come about is nobody's concern.
        return None;
    }
    for variable in &project.unset {
        work.notes.unset.add(variable.value.clone(), variable.span);
    }
    notes::notes(&mut work);
    let (volumes, secrets, configs) = (work.volumes.declared(), work.secrets, work.configs);
    let decisions = work.decisions;
    let job = JobSpec { volumes, secrets, configs, ..JobSpec::new(job_name?, groups) };
    Some(Converted { job, decisions, connections })
}

/// Whether there is something to run, and no more than a job holds.
fn has_services(work: &mut Work<'_>) -> bool {
    let services = &work.project.services;
    if let Some(beyond) = services.get(MEMBERS_MAX) {
        let message = format!("there are {} services; the limit is {MEMBERS_MAX}", services.len());
        work.reporter.error(Code::TooMany, beyond.name.span, message, "split them into several files");
        return false;
    }
    if services.is_empty() {
        let hint = match work.project.inactive.first() {
            Some((service, profiles)) => format!(
                "{} belongs to a profile: choose it with `--profile {}`",
                shared::quoted(service),
                profiles.first().map_or("NAME", String::as_str)
            ),
            None => String::from("add `services:` with a name and an `image` for each"),
        };
        let span = work.project.name.as_ref().map(|name| name.span).unwrap_or_default();
        work.reporter.error(Code::Empty, span, "the file has no service to run", hint);
    }
    !services.is_empty()
}

/// One service as a task, but for what others have to do with it.
fn task(service: &Service, name: &TaskName, work: &mut Work<'_>) -> TaskSpec {
    refusal::service(service, work);
    let mut task = TaskSpec::new(process::image(service, name, work).unwrap_or_default());
    process::process(service, name, &mut task, work);
    health::health(service, &mut task, work);
    limits::limits(service, name, &mut task, work);
    ports::ports(service, name, &mut task, work);
    volumes::volumes(service, name, &mut task, work);
    files::files(service, &mut task, work);
    volumes::targets(service, &task, work);
    task
}

/// What a conversion has so far.
struct Work<'a> {
    project: &'a Project,
    options: &'a ConvertOptions,
    files: &'a dyn Files,
    reporter: &'a mut Reporter,
    names: Names<'a>,
    volumes: Volumes,
    secrets: BTreeMap<FileName, FileSource>,
    configs: BTreeMap<FileName, FileSource>,
    notes: Notes,
    decisions: Vec<Decision>,
}

impl<'a> Work<'a> {
    fn new(
        project: &'a Project,
        options: &'a ConvertOptions,
        files: &'a dyn Files,
        reporter: &'a mut Reporter,
    ) -> Self {
        let mut decisions = Vec::new();
        let names = Names::of(project, &mut decisions, reporter);
        Self {
            project,
            options,
            files,
            reporter,
            names,
            volumes: Volumes::default(),
            secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            notes: Notes::default(),
            decisions,
        }
    }

    /// The value, or a report of why it is none.
    fn accept<T>(&mut self, code: Code, span: Span, parsed: Result<T, shared::Refusal>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(shared::Refusal { message, hint }) => {
                self.reporter.error(code, span, message, hint);
                None
            }
        }
    }

    fn decide_job(&mut self, comment: impl Into<String>) {
        self.decisions.push(Decision { place: DecisionPlace::Job, comment: comment.into() });
    }

    fn decide(&mut self, task: &TaskName, key: &'static str, comment: impl Into<String>) {
        let place = DecisionPlace::Task { task: task.clone(), key };
        self.decisions.push(Decision { place, comment: comment.into() });
    }
}
