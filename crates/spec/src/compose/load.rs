//! Loading: from Compose files to one project.
//!
//! Owns the order of the steps, which is Compose's own. Each file is decoded, its variables are put in, what it includes and
//! extends is merged, and it is laid over the files before it (`model`); then profiles choose services, values get their
//! types, and what holds across the project is checked. Goes on after a mistake, so that one loading finds them all. Must
//! not open a file by itself, nor judge what lith can honour.

use std::collections::HashSet;
use std::rc::Rc;

use super::project::{At, Needed, Project};
use crate::diagnostic::{Code, Reporter};
use crate::document::{Kind, Node, Span};
use crate::source::{FILES_MAX, Files, Named, PathKind, Variables};
use loader::Loader;
use model::model;
use reader::{Reader, text, texts};
use resources::{Contents, FileKind};
use tree::{Data, Value};
use variables::Scope;

mod consistency;
mod decode;
mod deploy;
mod environment;
mod extends;
mod health;
mod include;
mod interpolate;
mod loader;
mod merge;
mod model;
mod mounts;
mod paths;
mod ports;
mod reader;
mod resources;
mod scalar;
mod schema;
mod service;
mod shape;
#[cfg(test)]
mod tests;
mod tree;
mod unique;
mod units;
mod variables;
mod words;

/// The variable that Compose gives every project.
const PROJECT_NAME: &str = "COMPOSE_PROJECT_NAME";

/// What is loaded. Paths in the files are relative to the folder of the first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoadInput<'i> {
    /// The files, each laid over those before it.
    pub(crate) named: &'i [Named],
    /// Values of variables.
    pub(crate) variables: &'i Variables,
    /// Profiles that are on; `*` is all.
    pub(crate) profiles: &'i [String],
    /// What the project is called unless a file says otherwise: the folder's name.
    pub(crate) project_name: &'i str,
}

/// What loading gives.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) project: Project,
    /// Variables that the files use, in the order of their first use.
    pub(crate) needed: Vec<Needed>,
}

/// Loads a project; `None` when the reporter was told of errors.
pub(crate) fn load(input: &LoadInput<'_>, files: &dyn Files, reporter: &mut Reporter) -> Option<Loaded> {
    let mut loader = Loader::new(files, reporter);
    let project = load_project(input, &mut loader);
    let needed = loader.take_needed();
    let project = project.filter(|_| !loader.reporter.has_errors())?;
    Some(Loaded { project, needed })
}

fn load_project(input: &LoadInput<'_>, loader: &mut Loader<'_>) -> Option<Project> {
    let count = input.named.len();
    if count == 0 || count > FILES_MAX {
        let file = loader.reporter.add_file("compose.yaml", "");
        let message = format!("a project is read from 1 to {FILES_MAX} files; these are {count}");
        loader.reporter.error(Code::TooMany, Span { file, ..Span::default() }, message, None);
        return None;
    }
    let mut documents = Vec::new();
    for named in input.named {
        if let Some(id) = loader.add(&named.path, &named.bytes, "") {
            documents.extend(loader.documents(id));
        }
    }
    let mut scope = project_scope(input, loader);
    name_project(input, &documents, &mut scope);
    let first = input.named.first()?;
    let own_path = first.path.rsplit('/').next().unwrap_or(&first.path).to_owned();
    let root = model(&documents, &scope, &mut vec![own_path], loader)?;
    Some(read_project(&root, input, &scope, loader))
}

/// The variables of the project: what was set, then the files of variables.
fn project_scope(input: &LoadInput<'_>, loader: &mut Loader<'_>) -> Scope {
    let mut set = Scope::default();
    for (name, value) in &input.variables.set {
        set.set(name, value);
    }
    let mut of_files = Scope::default();
    for named in input.variables.env_files.iter().take(FILES_MAX) {
        if let Some(id) = loader.add(&named.path, &named.bytes, "") {
            loader.variables(id, &[&set], &mut of_files);
        }
    }
    let default = ".env";
    if input.variables.env_files.is_empty() && loader.files.kind(default) == PathKind::File {
        // Nobody named it: the place of a complaint is the file itself.
        let span = Span::default();
        if let Some(id) = loader.open_variables(default, span) {
            loader.variables(id, &[&set], &mut of_files);
        }
    }
    set.over(of_files)
}

/// Gives `COMPOSE_PROJECT_NAME` its value: what the last file with a name says, else what the caller knows. What is wrong
/// with a name is said where its file is decoded.
fn name_project(input: &LoadInput<'_>, documents: &[Rc<Node>], scope: &mut Scope) {
    let named = documents.iter().rev().find_map(|document| name_in(document));
    let filled = named.and_then(|name| interpolate::quietly(&name, |variable| scope.get(variable).cloned()));
    match filled.map(|name| normal_name(&name)).filter(|name| !name.is_empty()) {
        Some(name) => scope.set(PROJECT_NAME, &name),
        None => scope.set_default(PROJECT_NAME, &normal_name(input.project_name)),
    }
}

fn name_in(document: &Node) -> Option<Rc<str>> {
    let Kind::Map(entries) = &document.kind else { return None };
    let entry = entries.iter().find(|entry| &*entry.key.text == "name")?;
    match &entry.value.kind {
        Kind::Text(text) if !text.is_empty() => Some(Rc::clone(text)),
        Kind::Text(_) | Kind::Null | Kind::List(_) | Kind::Map(_) => None,
    }
}

/// A name with only what a project's name may hold.
fn normal_name(name: &str) -> String {
    let small = name.to_lowercase();
    let is_kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    small.chars().filter(is_kept).collect::<String>().trim_start_matches(['_', '-']).to_owned()
}

fn read_project(root: &Value, input: &LoadInput<'_>, scope: &Scope, loader: &mut Loader<'_>) -> Project {
    let mut reader = Reader { loader, scope };
    let mut contents = Contents::default();
    let mut project = Project {
        name: text(root.given("name")).map(|name| At::new(normal_name(&name.value), name.span)),
        networks: reader.networks(root),
        volumes: reader.volumes_of_project(root),
        secrets: reader.file_objects(root, FileKind::Secret, &mut contents),
        configs: reader.file_objects(root, FileKind::Config, &mut contents),
        ..Project::default()
    };
    let mut broken = HashSet::new();
    for member in root.given("services").map(Value::members).unwrap_or_default() {
        if !matches!(member.value.data, Data::Map(_)) || member.value.get("extends").is_some() {
            broken.insert(member.key.text.to_string());
        }
        let profiles = texts(member.value.given("profiles"));
        let is_on = |profile: &At<String>| input.profiles.iter().any(|on| on == "*" || *on == profile.value);
        if profiles.is_empty() || profiles.iter().any(is_on) {
            project.services.push(reader.service(member));
        } else {
            let profiles = profiles.into_iter().map(|profile| profile.value).collect();
            project.inactive.push((member.key.text.to_string(), profiles));
        }
    }
    project.unset = std::mem::take(&mut loader.unset);
    consistency::check(&project, &broken, loader.reporter);
    project
}
