//! `include`: other Compose files, each with its own folder and variables, whose parts become parts of this one.
//!
//! Owns what an include says, and refuses circles. Where both have a part of one name, this file's lies over the included.
//! Must not merge services by itself.

use std::collections::HashMap;
use std::rc::Rc;

use lith_core::value::quoted;

use super::loader::Loader;
use super::merge;
use super::model::model;
use super::paths;
use super::reader::texts;
use super::schema;
use super::shape;
use super::tree::{Data, Member, Value};
use super::variables::Scope;
use crate::diagnostic::Code;
use crate::document::Span;
use crate::source::PathKind;

/// Parts of a file that are taken over.
const SECTIONS: [&str; 6] = ["services", "volumes", "networks", "secrets", "configs", "models"];

/// Takes over what a file includes; `chain` are the files that include it, by path.
pub(super) fn include(root: &mut Value, scope: &Scope, chain: &mut Vec<String>, loader: &mut Loader<'_>) {
    let Some(member) = root.take("include") else { return };
    if member.value.is_null() || member.value.is_reset() {
        return;
    }
    shape::check(&member.value, &schema::INCLUDES, "`include`", loader.reporter);
    for item in member.value.items() {
        if let Some(included) = included(item, scope, chain, loader) {
            take_over(root, included, loader);
        }
    }
}

/// Everything that one item includes, merged.
fn included(item: &Value, scope: &Scope, chain: &mut Vec<String>, loader: &mut Loader<'_>) -> Option<Value> {
    let named = if item.text().is_some() { texts(Some(item)) } else { texts(item.given("path")) };
    let paths: Vec<(String, Span)> =
        named.iter().map(|path| (loader.resolve(&path.value, path.span), path.span)).collect();
    let (first, first_span) = paths.first()?.clone();
    if chain.contains(&first) {
        let message = format!("the file {} includes itself in the end", quoted(&first));
        loader.reporter.error(Code::Circle, first_span, message, "remove one of the includes");
        return None;
    }
    let folder = match item.given("project_directory") {
        Some(folder) => loader.resolve(folder.text()?, folder.span),
        None => paths::folder(&first),
    };
    let folder = if folder == "." { String::new() } else { folder };
    let inner = variables(item, &folder, scope, loader);
    let mut documents = Vec::with_capacity(paths.len());
    for (path, span) in &paths {
        let file = loader.open(path, &folder, *span)?;
        documents.extend(loader.documents(file));
    }
    chain.push(first);
    let model = model(&documents, &inner, chain, loader);
    chain.pop();
    model
}

/// The variables that an included file sees: those of this one, then its own.
fn variables(item: &Value, folder: &str, scope: &Scope, loader: &mut Loader<'_>) -> Scope {
    let mut own = Scope::default();
    let named = texts(item.given("env_file"));
    let mut files: Vec<(String, Span)> = Vec::new();
    if named.is_empty() {
        let path = paths::join(folder, ".env");
        if loader.files.kind(&path) == PathKind::File {
            files.push((path, item.span));
        }
    }
    files.extend(
        named
            .iter()
            .filter(|file| file.value != "/dev/null")
            .map(|file| (loader.resolve(&file.value, file.span), file.span)),
    );
    for (path, span) in files {
        if let Some(id) = loader.open_variables(&path, span) {
            loader.variables(id, &[scope], &mut own);
        }
    }
    scope.over(own)
}

/// Puts the parts of an included file below those of this one.
fn take_over(root: &mut Value, mut included: Value, loader: &mut Loader<'_>) {
    for name in SECTIONS {
        let Some(theirs) = included.take(name).filter(|member| !member.value.members().is_empty()) else {
            continue;
        };
        let Data::Map(sections) = &mut root.data else { return };
        let ours = sections.iter_mut().find(|member| &*member.key.text == name);
        match ours {
            None => sections.push(theirs),
            Some(ours) if ours.value.is_null() => ours.value = theirs.value,
            Some(ours) => take_over_section(name, &mut ours.value, theirs, loader),
        }
    }
}

fn take_over_section(section: &str, ours: &mut Value, theirs: Member, loader: &mut Loader<'_>) {
    let (Data::Map(ours), Data::Map(theirs)) = (&mut ours.data, theirs.value.data) else { return };
    let places = ours.iter().enumerate().map(|(at, member)| (Rc::clone(&member.key.text), at));
    let places: HashMap<Rc<str>, usize> = places.collect();
    for mut theirs in theirs {
        let Some(at) = places.get(&theirs.key.text) else {
            ours.push(theirs);
            continue;
        };
        let over = std::mem::replace(&mut ours[*at].value, Value::new(theirs.key.span, Data::Null));
        merge::clear_tagged(&mut theirs.value, &over);
        let mut path = vec![Rc::from(section), Rc::clone(&theirs.key.text)];
        ours[*at].value = merge::merge(theirs.value, over, &mut path, loader.reporter);
    }
}
