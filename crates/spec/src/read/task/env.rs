//! The environment of a task.
//!
//! Owns `env` and `env_file`: every variable has a value here, and none comes from the shell of whoever deploys.

use std::collections::BTreeMap;

use lith_core::value::{self as shared, quoted};

use super::super::fields::{self, Fields, accepted, item_text};
use super::super::outside::Outside;
use crate::diagnostic::{Code, Reporter};
use crate::document::{Entry, Kind, Node};
use crate::source::FILES_MAX;
use crate::value::Refusal;

/// The environment: a mapping, or a list of `KEY=value`, over what files of variables say.
pub(super) fn env(
    fields: &mut Fields<'_>,
    outside: &mut Outside<'_>,
    reporter: &mut Reporter,
) -> BTreeMap<String, String> {
    let mut env = env_files(fields, outside, reporter);
    env.extend(own(fields, reporter));
    env
}

/// What the files of variables say, later ones winning.
fn env_files(
    fields: &mut Fields<'_>,
    outside: &mut Outside<'_>,
    reporter: &mut Reporter,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let files = fields.parse_one_or_list("env_file", reporter, path);
    for (file, node) in fields::limited("env_file", files, FILES_MAX, reporter) {
        let Some(variables) = outside.env_file(&file, node.span, reporter) else { continue };
        for (name, value) in variables.iter() {
            let checked = shared::env::name(name).and_then(|()| shared::env::value(name, value));
            match accepted(bad_env(checked), node, reporter) {
                Some(value) => env.insert(name.clone(), value),
                None => return env,
            };
        }
    }
    env
}

fn path(text: &str) -> Result<String, Refusal> {
    if text.is_empty() || text.contains('\0') {
        return Err(Refusal::new(Code::BadPath, format!("{} is not a path", quoted(text))));
    }
    Ok(text.to_owned())
}

fn own(fields: &mut Fields<'_>, reporter: &mut Reporter) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let Some(entry) = fields.take("env") else { return env };
    match &entry.value.kind {
        Kind::Map(entries) => {
            for variable in entries {
                let read = env_entry(variable, reporter);
                env.extend(read);
            }
        }
        Kind::List(items) => {
            for item in items {
                env_item(entry, item, &mut env, reporter);
            }
        }
        Kind::Null | Kind::Text(_) => {
            let message =
                "`env` takes a mapping of names to values, or a list of `NAME=value`; this is a single value";
            reporter.error(Code::WrongType, entry.key.span, message, None);
        }
    }
    env
}

fn bad_env<T>(parsed: Result<T, shared::Refusal>) -> Result<T, Refusal> {
    parsed.map_err(|refusal| Refusal::of(Code::BadEnv, refusal))
}

fn env_entry(variable: &Entry, reporter: &mut Reporter) -> Option<(String, String)> {
    let name = &variable.key.text;
    if let Err(refusal) = shared::env::name(name) {
        reporter.error(Code::BadEnv, variable.key.span, refusal.message, refusal.hint);
        return None;
    }
    match &variable.value.kind {
        Kind::Text(text) => {
            let value = accepted(bad_env(shared::env::value(name, text)), &variable.value, reporter)?;
            Some((name.to_string(), value))
        }
        Kind::Null => {
            let refusal = shared::env::without_value(name, &format!("{name}: \"\""));
            reporter.error(Code::BadEnv, variable.key.span, refusal.message, refusal.hint);
            None
        }
        Kind::List(_) | Kind::Map(_) => {
            let noun = variable.value.kind.noun();
            let message = format!("the variable {} takes a single value; this is {noun}", quoted(name));
            reporter.error(
                Code::WrongType,
                variable.key.span,
                message,
                "quote a value that is itself YAML or JSON",
            );
            None
        }
    }
}

fn env_item(entry: &Entry, item: &Node, env: &mut BTreeMap<String, String>, reporter: &mut Reporter) {
    let Some(text) = item_text(entry, item, reporter) else { return };
    let Some((name, value)) = accepted(bad_env(shared::env::pair(text)), item, reporter) else { return };
    if env.contains_key(&name) {
        let message = format!("the variable {} is set twice", quoted(&name));
        reporter.error(Code::DuplicateKey, item.span, message, "keep one of them");
        return;
    }
    env.insert(name, value);
}
