//! The job as a file again, in one canonical form.
//!
//! Owns the layout: keys in the order of the reference page, nothing that is a default, quotes only where some reader of
//! YAML could misunderstand. `read(to_yaml(job))` is `job`.

use lith_core::job::{
    CPUS_DEFAULT, GroupSpec, JobSpec, MEMORY_DEFAULT, RestartPolicy, STOP_GRACE_DEFAULT, TaskSpec,
};

use crate::read::ONLY_GROUP;
use crate::value::duration;

/// The job as a job file that could be deployed again.
#[must_use]
pub fn to_yaml(job: &JobSpec) -> String {
    let mut page = Page::default();
    page.pair(0, "job", &scalar(job.name.as_str()));
    if let Some(group) = only_group(job) {
        page.key(0, "tasks");
        tasks(&mut page, 1, group);
        return page.text;
    }
    page.key(0, "groups");
    for (name, group) in &job.groups {
        page.key(1, &scalar(name.as_str()));
        if group.count != 1 {
            page.pair(2, "count", &group.count.to_string());
        }
        page.key(2, "tasks");
        tasks(&mut page, 3, group);
    }
    page.text
}

/// The group that `tasks` alone would make.
fn only_group(job: &JobSpec) -> Option<&GroupSpec> {
    let (name, group) = job.groups.first_key_value()?;
    (job.groups.len() == 1 && name.as_str() == ONLY_GROUP && group.count == 1).then_some(group)
}

fn tasks(page: &mut Page, depth: usize, group: &GroupSpec) {
    for (name, spec) in &group.tasks {
        page.key(depth, &scalar(name.as_str()));
        task(page, depth + 1, spec);
    }
}

fn task(page: &mut Page, depth: usize, task: &TaskSpec) {
    page.pair(depth, "image", &scalar(&task.image));
    if let Some(entrypoint) = &task.entrypoint {
        page.pair(depth, "entrypoint", &list(entrypoint.iter().map(|word| scalar(word))));
    }
    if let Some(command) = &task.command {
        page.pair(depth, "command", &list(command.iter().map(|word| scalar(word))));
    }
    if !task.env.is_empty() {
        page.key(depth, "env");
        for (name, value) in &task.env {
            page.pair(depth + 1, &scalar(name), &scalar(value));
        }
    }
    if let Some(user) = &task.user {
        page.pair(depth, "user", &scalar(user));
    }
    if let Some(working_dir) = &task.working_dir {
        page.pair(depth, "working_dir", &scalar(working_dir));
    }
    if task.memory != MEMORY_DEFAULT {
        page.pair(depth, "memory", &task.memory.to_string());
    }
    if task.cpus != CPUS_DEFAULT {
        page.pair(depth, "cpus", &task.cpus.to_string());
    }
    if !task.ports.is_empty() {
        page.pair(depth, "ports", &list(task.ports.iter().map(ToString::to_string)));
    }
    if !task.publish.is_empty() {
        page.pair(depth, "publish", &list(task.publish.iter().map(|publish| format!("\"{publish}\""))));
    }
    if task.restart != RestartPolicy::default() {
        page.pair(depth, "restart", &scalar(&task.restart.to_string()));
    }
    if let Some(stop_signal) = &task.stop_signal {
        page.pair(depth, "stop_signal", &scalar(stop_signal));
    }
    if task.stop_grace != STOP_GRACE_DEFAULT {
        page.pair(depth, "stop_grace", &duration::display(task.stop_grace));
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn key(&mut self, depth: usize, key: &str) {
        self.text.push_str(&format!("{:indent$}{key}:\n", "", indent = 2 * depth));
    }

    fn pair(&mut self, depth: usize, key: &str, value: &str) {
        self.text.push_str(&format!("{:indent$}{key}: {value}\n", "", indent = 2 * depth));
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { String::from("[]") } else { format!("[ {} ]", items.join(", ")) }
}

/// Text as a YAML scalar that every reader takes for that text.
pub(crate) fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            ' '..='~' => quoted.push(character),
            // Letters of all languages stand as they are; what is invisible, or a line break to some reader, is escaped.
            _ if character.is_alphanumeric() => quoted.push(character),
            _ => quoted.push_str(&escape(u32::from(character))),
        }
    }
    quoted.push('"');
    quoted
}

fn escape(code: u32) -> String {
    match code {
        0..=0xff => format!("\\x{code:02x}"),
        0x100..=0xffff => format!("\\u{code:04x}"),
        _ => format!("\\U{code:08x}"),
    }
}

/// Whether the text, unquoted, is text to every reader of YAML: no number, no date, no word with a meaning.
fn is_plain(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_simple = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./+@=".contains(&byte);
    // A colon inside is harmless when something follows it that is no space, as in `nginx:1.27`.
    let colons_are_inside = !text.ends_with(':');
    let is_word = matches!(
        text.to_ascii_lowercase().as_str(),
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null" | "nan" | "inf"
    );
    let inside = text.bytes().all(|byte| is_simple(byte) || byte == b':');
    starts_well && inside && colons_are_inside && !is_word
}
