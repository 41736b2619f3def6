//! One task of the job file.
//!
//! Owns the keys of a task and their defaults; each value is parsed in `value`. What holds across tasks is not seen here.

use std::collections::BTreeMap;

use lith_core::job::{
    CPUS_DEFAULT, MEMORY_DEFAULT, PORTS_MAX, Port, Publish, RestartPolicy, STOP_GRACE_DEFAULT, TaskSpec,
};
use lith_core::value::{self as shared, quoted};

use super::fields::{self, Fields, accepted, item_text};
use super::keys::Level;
use super::mapping;
use crate::diagnostic::{Code, Reporter};
use crate::document::{Entry, Kind, Node, Span};
use crate::value::{self, Refusal, coded};

/// A task, and where it publishes.
pub(super) struct Task {
    pub(super) spec: TaskSpec,
    pub(super) published: Vec<(Publish, Span)>,
}

/// Reads a task; `restart` is what its group says. A refused value is reported and replaced by its default, so that
/// reading goes on; `None` when not even that is possible.
pub(super) fn task(entry: &Entry, restart: RestartPolicy, reporter: &mut Reporter) -> Option<Task> {
    let entries = mapping(&entry.key, &entry.value, "a task is a mapping with an `image`", reporter)?;
    let mut fields = Fields::new(Level::Task, entries, reporter);
    let image = image(&mut fields, entry, reporter);
    let published = publish(&mut fields, reporter);
    let spec = TaskSpec {
        image: image.unwrap_or_default(),
        entrypoint: words(&mut fields, "entrypoint", reporter),
        command: words(&mut fields, "command", reporter),
        env: env(&mut fields, reporter),
        user: fields.parse("user", reporter, coded(Code::BadUser, shared::user::parse)),
        working_dir: fields.parse("working_dir", reporter, coded(Code::BadPath, shared::path::absolute)),
        memory: fields.parse("memory", reporter, value::size::memory).unwrap_or(MEMORY_DEFAULT),
        cpus: fields.parse("cpus", reporter, value::number::cpus).unwrap_or(CPUS_DEFAULT),
        ports: ports(&mut fields, reporter),
        publish: in_order(published.iter().map(|(publish, _)| *publish).collect()),
        restart: fields
            .parse("restart", reporter, coded(Code::BadRestart, shared::restart::parse))
            .unwrap_or(restart),
        stop_signal: fields.parse("stop_signal", reporter, value::signal),
        stop_grace: fields
            .parse("stop_grace", reporter, value::duration::stop_grace)
            .unwrap_or(STOP_GRACE_DEFAULT),
    };
    Some(Task { spec, published })
}

fn image(fields: &mut Fields<'_>, entry: &Entry, reporter: &mut Reporter) -> Option<String> {
    if fields.take("image").is_none() {
        let message = format!("the task {} has no image", quoted(&entry.key.text));
        reporter.error(Code::MissingKey, entry.key.span, message, "add a line such as `image: nginx:1.27`");
        return None;
    }
    fields.parse("image", reporter, coded(Code::BadImage, shared::image::parse))
}

/// A command line: a list of words, or text that is split into words as a shell does.
fn words(fields: &mut Fields<'_>, key: &str, reporter: &mut Reporter) -> Option<Vec<String>> {
    let entry = fields.take(key)?;
    if let Kind::Text(text) = &entry.value.kind {
        let split = accepted(value::words::split(text), &entry.value, reporter)?;
        if let Some(operator) = &split.operator {
            let message = format!("{} means nothing here: no shell reads `{key}`", quoted(operator));
            let hint = format!("write `{key}: [ sh, -c, \"…\" ]` if the image has a shell");
            reporter.warning(Code::ShellSyntax, entry.value.span, message, hint);
        }
        return Some(split.words);
    }
    let mut words = Vec::new();
    for item in fields::list(entry, reporter)? {
        let Some(text) = item_text(entry, item, reporter) else { continue };
        words.extend(accepted(value::words::word(text), item, reporter));
    }
    Some(words)
}

/// The environment: a mapping, or a list of `KEY=value`.
fn env(fields: &mut Fields<'_>, reporter: &mut Reporter) -> BTreeMap<String, String> {
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

fn ports(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for (port, node) in limited(
        "ports",
        fields.parse_list("ports", reporter, coded(Code::BadPort, shared::port::port)),
        reporter,
    ) {
        if ports.contains(&port) {
            reporter.warning(Code::Repeated, node.span, format!("port {port} is already in this list"), None);
        } else {
            ports.push(port);
        }
    }
    in_order(ports)
}

/// The valid form of a list of ports.
fn in_order<T: Ord>(mut ports: Vec<T>) -> Vec<T> {
    ports.sort();
    ports.dedup();
    ports
}

fn publish(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Vec<(Publish, Span)> {
    let parsed = fields.parse_list("publish", reporter, coded(Code::BadPublish, shared::port::publish));
    limited("publish", parsed, reporter).into_iter().map(|(publish, node)| (publish, node.span)).collect()
}

fn limited<'a, T>(key: &str, mut items: Vec<(T, &'a Node)>, reporter: &mut Reporter) -> Vec<(T, &'a Node)> {
    if let Some((_, node)) = items.get(PORTS_MAX) {
        let message = format!("`{key}` holds {} ports; the limit is {PORTS_MAX}", items.len());
        reporter.error(Code::TooMany, node.span, message, None);
        items.truncate(PORTS_MAX);
    }
    items
}
