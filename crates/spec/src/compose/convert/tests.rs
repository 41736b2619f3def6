//! Small projects of our own, one for each rule, and what comes of them.

use std::collections::{BTreeMap, BTreeSet};

use lith_core::job::file::FileSource;
use lith_core::job::{JobSpec, TaskSpec};

use super::{ConvertOptions, Converted, DecisionPlace, convert};
use crate::compose::load::{LoadInput, Loaded, load};
use crate::diagnostic::{Code, Colour, Diagnostics, Reporter};
use crate::read::check_job;
use crate::source::{Files, Named, PathKind, Variables};
use crate::write::to_yaml;

mod connections;
mod corpus;
mod mounts;
mod refusals;
mod tasks;
mod values;

/// A folder that exists in a test alone: what ends in `/` is a folder.
#[derive(Default)]
struct Folder(BTreeMap<&'static str, Vec<u8>>);

impl Folder {
    fn of<const N: usize>(files: [(&'static str, &'static str); N]) -> Self {
        Self(files.into_iter().map(|(path, text)| (path, text.as_bytes().to_vec())).collect())
    }
}

impl Files for Folder {
    fn kind(&self, path: &str) -> PathKind {
        if self.0.contains_key(path) {
            return PathKind::File;
        }
        let folder = format!("{path}/");
        if self.0.contains_key(folder.as_str()) { PathKind::Folder } else { PathKind::Absent }
    }

    fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
        match self.0.get(path) {
            Some(bytes) if bytes.len() <= bytes_max => Ok(bytes.clone()),
            Some(_) => Err(format!("it is longer than {bytes_max} bytes")),
            None => Err(String::from("there is no such file")),
        }
    }
}

/// What converting a text gives, and everything that is said; `value` is that of a variable that has none.
fn attempt_with(
    text: &str,
    value: Option<&dyn Fn(&str) -> String>,
    options: &ConvertOptions,
    files: &dyn Files,
) -> (Option<Converted>, Diagnostics) {
    let mut set = BTreeMap::new();
    // A report is bounded, and so is what one round tells of.
    for _ in 0..20 {
        let mut reporter = Reporter::default();
        let loaded = loaded(text, set.clone(), files, &mut reporter);
        let needed = loaded.iter().flat_map(|loaded| &loaded.needed);
        let needed = needed.filter(|needed| needed.is_required && !needed.is_given);
        let mut missing: BTreeSet<String> = needed.map(|needed| needed.name.clone()).collect();
        let diagnostics = reporter.finish();
        let told = [Code::MissingVariable, Code::UnsetVariable];
        let told = diagnostics.list.iter().filter(|found| told.contains(&found.code));
        missing.extend(told.filter_map(|found| Some(found.message.split('`').nth(1)?.to_owned())));
        // What has a default elsewhere in the file means that one: another value would contradict it.
        let defaults = loaded.iter().flat_map(|loaded| &loaded.needed).filter(|used| used.default.is_some());
        for used in defaults {
            missing.remove(&used.name);
        }
        missing.retain(|name| !set.contains_key(name));
        let Some(value) = value.filter(|_| !missing.is_empty()) else { break };
        set.extend(missing.into_iter().map(|name| (name.clone(), value(&name))));
    }
    let mut reporter = Reporter::default();
    let loaded = loaded(text, set, files, &mut reporter);
    let converted = loaded.and_then(|loaded| convert(&loaded.project, options, files, &mut reporter));
    assert_eq!(converted.is_none(), reporter.has_errors(), "a file is refused exactly with a reason");
    (converted, reporter.finish())
}

fn loaded(
    text: &str,
    set: BTreeMap<String, String>,
    files: &dyn Files,
    reporter: &mut Reporter,
) -> Option<Loaded> {
    let named = [Named { path: String::from("compose.yaml"), bytes: text.as_bytes().to_vec() }];
    let variables = Variables { set, ..Variables::default() };
    let input = LoadInput { named: &named, variables: &variables, profiles: &[], project_name: "shop" };
    load(&input, files, reporter)
}

/// What converting a text gives, and what a person is told.
fn attempt(text: &str, options: &ConvertOptions, files: &dyn Files) -> (Option<Converted>, String) {
    let (converted, diagnostics) = attempt_with(text, None, options, files);
    (converted, diagnostics.render(Colour::None))
}

fn options() -> ConvertOptions {
    ConvertOptions { folder_name: String::from("shop"), ..ConvertOptions::default() }
}

/// What converting a text gives, with nothing refused.
fn converted(text: &str) -> Converted {
    with(text, &options(), &Folder::default())
}

fn with(text: &str, options: &ConvertOptions, files: &dyn Files) -> Converted {
    let (converted, report) = attempt(text, options, files);
    let converted = converted.unwrap_or_else(|| panic!("{report}"));
    read_back(&converted.job, files);
    converted
}

/// The job file that is written for a job is accepted, and means that job.
fn read_back(job: &JobSpec, files: &dyn Files) {
    let text = to_yaml(job);
    let named = Named { path: String::from("job.yaml"), bytes: text.clone().into_bytes() };
    let given = job.secrets.values().chain(job.configs.values()).filter_map(|source| match source {
        FileSource::Variable { name, content } => {
            Some((name.clone(), String::from_utf8_lossy(&content.0).into_owned()))
        }
        FileSource::Store | FileSource::File { .. } | FileSource::Inline(_) => None,
    });
    let variables = Variables { set: given.collect(), ..Variables::default() };
    let reading = check_job(&[named], &variables, files);
    let report = reading.diagnostics.render(Colour::None);
    assert_eq!(reading.job.as_ref(), Some(job), "{text}{report}");
}

/// What a person is told about a text.
fn told(text: &str) -> String {
    attempt(text, &options(), &Folder::default()).1
}

/// A task of the job, in whichever group it is.
fn task<'a>(job: &'a JobSpec, name: &str) -> &'a TaskSpec {
    job.tasks().find(|(_, known, _)| known.as_str() == name).map(|(_, _, task)| task).expect("it is there")
}

/// Each decision in a line.
fn decisions(converted: &Converted) -> String {
    let line = |place: &DecisionPlace| match place {
        DecisionPlace::Job => String::from("job"),
        DecisionPlace::Volume(volume) => format!("volume {volume}"),
        DecisionPlace::Task { task, key } => format!("{task}.{key}"),
    };
    let lines = converted
        .decisions
        .iter()
        .map(|decision| format!("{}: {}\n", line(&decision.place), decision.comment));
    lines.collect()
}

/// Values in one line, as the job file has them.
fn words<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
