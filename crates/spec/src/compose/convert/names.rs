//! Names: of the job, and of each service as a task.
//!
//! Owns which label stands for which text of the Compose file. Must not know what a name is used for.

use std::collections::{BTreeMap, BTreeSet};

use lith_core::job::MEMBERS_MAX;
use lith_core::name::{JobName, NAME_BYTES_MAX, TaskName, nearest_label};
use lith_core::value::quoted;

use super::{Decision, DecisionPlace, Work};
use crate::compose::project::{At, Project};
use crate::diagnostic::{Code, Reporter};
use crate::document::Span;
use crate::read;

/// Room for the number behind a name that is taken: more digits than there are members of a job.
const NUMBER_BYTES_MAX: usize = 6;

/// The name of each service as a task.
pub(super) struct Names<'a> {
    tasks: BTreeMap<&'a str, TaskName>,
}

impl<'a> Names<'a> {
    /// Services whose name is a label keep it; the others get the nearest one, with a number where that is taken.
    pub(super) fn of(project: &'a Project, decisions: &mut Vec<Decision>, reporter: &mut Reporter) -> Self {
        let mut tasks: BTreeMap<&str, TaskName> = BTreeMap::new();
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let mut others: Vec<&At<String>> = Vec::new();
        // More than a job holds are refused as a whole: they need no names.
        for service in project.services.iter().take(MEMBERS_MAX) {
            match service.name.value.parse::<TaskName>() {
                Ok(name) => {
                    taken.insert(name.to_string());
                    tasks.insert(&service.name.value, name);
                }
                Err(_) => others.push(&service.name),
            }
        }
        for service in others {
            let Some(label) = nearest_label(&service.value) else {
                let message = format!("{} cannot be the name of a task", quoted(&service.value));
                reporter.error(Code::BadName, service.span, message, "use a-z, 0-9 and `-`");
                continue;
            };
            let label = unique(&label, |label| taken.contains(label));
            let name: TaskName = label.parse().expect("a nearest label is a label");
            let comment = format!("{} in Compose; names are DNS labels here", quoted(&service.value));
            decisions
                .push(Decision { place: DecisionPlace::Task { task: name.clone(), key: "image" }, comment });
            taken.insert(label);
            tasks.insert(&service.value, name);
        }
        Self { tasks }
    }

    /// The task that stands for a service; `None` when there is no such service.
    pub(super) fn task(&self, service: &str) -> Option<&TaskName> {
        self.tasks.get(service)
    }

    /// Whether a task has this name.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.tasks.values().any(|task| task.as_str() == name)
    }
}

/// The name of the job: what whoever converts says, else the file, else its folder.
pub(super) fn job(work: &mut Work<'_>) -> Option<JobName> {
    if let Some(name) = &work.options.name {
        return read::name(name, Span::default(), work.reporter);
    }
    let (text, span) = match &work.project.name {
        Some(name) => (&name.value, name.span),
        None => (&work.options.folder_name, Span::default()),
    };
    let Some(label) = nearest_label(text) else {
        let message = format!("{} cannot be the name of a job", quoted(text));
        work.reporter.error(Code::BadName, span, message, "name it in the first line, such as `name: shop`");
        return None;
    };
    if label != *text {
        let comment = format!("{} in Compose; names are DNS labels here", quoted(text));
        work.decide_job(comment);
    }
    Some(label.parse().expect("a nearest label is a label"))
}

/// The label, or the label with the first number that makes it free.
pub(super) fn unique(label: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(label) {
        return label.to_owned();
    }
    let short = label.get(..NAME_BYTES_MAX - NUMBER_BYTES_MAX).unwrap_or(label).trim_end_matches('-');
    let numbered = (2u32..).map(|number| format!("{short}-{number}"));
    numbered.into_iter().find(|label| !is_taken(label)).expect("fewer names are taken than there are numbers")
}
