//! What a task offers, what it may reach, and what it waits for.
//!
//! Owns `ports`, `publish`, `expose`, `connects`, `egress`, `hosts` and `depends_on`. Whether the others are there is seen
//! across the job.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lith_core::capability;
use lith_core::job::access::{Connect, ENTRIES_MAX, Egress, Expose};
use lith_core::job::health::Condition;
use lith_core::job::{MEMBERS_MAX, PORTS_MAX, Port, Publish};
use lith_core::name::TaskName;
use lith_core::value::{self as shared, quoted};

use super::super::fields::{self, Fields, accepted, item_text};
use super::super::name;
use crate::diagnostic::{Code, Reporter};
use crate::document::{Kind, Node, Span};
use crate::value::{Refusal, coded, word};

/// Words of a condition.
const CONDITIONS: [(&str, Condition); 3] =
    [("started", Condition::Started), ("healthy", Condition::Healthy), ("completed", Condition::Completed)];

/// Ports that it listens on.
pub(super) fn ports(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Vec<Port> {
    let ports = fields.parse_list("ports", reporter, coded(Code::BadPort, shared::port::port));
    fields::sorted("ports", ports, PORTS_MAX, reporter)
}

/// Ports offered on the node, each with its place.
pub(super) fn publish(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Vec<(Publish, Span)> {
    let possible = |text: &str| {
        let publish = shared::port::publish(text)?;
        capability::impossible_publish(&publish).map_or(Ok(publish), Err)
    };
    let ports = fields.parse_list("publish", reporter, coded(Code::BadPublish, possible));
    placed("publish", ports, PORTS_MAX, reporter)
}

/// Names under which browsers find it, each with its place.
pub(super) fn expose(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Vec<(Expose, Span)> {
    let names = fields.parse_list("expose", reporter, coded(Code::BadAccess, shared::access::expose));
    placed("expose", names, ENTRIES_MAX, reporter)
}

/// What it may reach in the cluster, each with its place.
pub(super) fn connects(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Vec<(Connect, Span)> {
    let connects = fields.parse_list("connects", reporter, coded(Code::BadAccess, shared::access::connect));
    placed("connects", connects, ENTRIES_MAX, reporter)
}

fn placed<T>(key: &str, items: Vec<(T, &Node)>, most: usize, reporter: &mut Reporter) -> Vec<(T, Span)> {
    let items = fields::limited(key, items, most, reporter);
    items.into_iter().map(|(item, node)| (item, node.span)).collect()
}

/// What it may reach outside.
pub(super) fn egress(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Vec<Egress> {
    let possible = |text: &str| {
        let entry = shared::access::egress(text)?;
        capability::impossible_egress(&entry).map_or(Ok(entry), Err)
    };
    let egress = fields.parse_one_or_list("egress", reporter, coded(Code::BadAccess, possible));
    fields::sorted("egress", egress, ENTRIES_MAX, reporter)
}

/// Further lines of its `/etc/hosts`.
pub(super) fn hosts(fields: &mut Fields<'_>, reporter: &mut Reporter) -> BTreeMap<String, IpAddr> {
    let mut hosts = BTreeMap::new();
    let want = "`hosts` is a mapping of host names to addresses";
    let entries = fields.entries("hosts", want, reporter);
    if let Some(beyond) = entries.get(ENTRIES_MAX) {
        let message = format!("`hosts` holds {} entries; the limit is {ENTRIES_MAX}", entries.len());
        reporter.error(Code::TooMany, beyond.key.span, message, None);
    }
    for entry in entries.iter().take(ENTRIES_MAX) {
        let name = match coded(Code::BadAccess, shared::access::host_name)(&entry.key.text) {
            Ok(name) => Some(name),
            Err(refusal) => {
                reporter.error(refusal.code, entry.key.span, refusal.message, refusal.hint);
                None
            }
        };
        let Some(text) = fields::text(entry, reporter) else { continue };
        let address = text.parse().map_err(|_| {
            Refusal::new(Code::BadAccess, format!("{} is not an address", quoted(text)))
                .hint("write an address of IPv4 or IPv6, such as `192.168.1.20`")
        });
        hosts.extend(name.zip(accepted(address, &entry.value, reporter)));
    }
    hosts
}

/// What it waits for: a list of tasks, or a mapping of tasks to conditions.
pub(super) fn depends_on(
    fields: &mut Fields<'_>,
    reporter: &mut Reporter,
) -> Vec<(TaskName, Condition, Span)> {
    let Some(entry) = fields.take("depends_on") else { return Vec::new() };
    let mut found: Vec<(TaskName, Condition, Span)> = Vec::new();
    match &entry.value.kind {
        Kind::List(items) => {
            for item in items {
                let Some(text) = item_text(entry, item, reporter) else { continue };
                let name: Option<TaskName> = name(text, item.span, reporter);
                found.extend(name.map(|name| (name, Condition::Started, item.span)));
            }
        }
        Kind::Map(entries) => {
            for entry in entries {
                let name: Option<TaskName> = name(&entry.key.text, entry.key.span, reporter);
                let Some(text) = fields::text(entry, reporter) else { continue };
                let condition = accepted(condition(text), &entry.value, reporter);
                found.extend(name.zip(condition).map(|(name, condition)| (name, condition, entry.key.span)));
            }
        }
        Kind::Null | Kind::Text(_) => {
            let message = "`depends_on` takes a list of tasks, or a mapping of tasks to conditions";
            let hint = "write `depends_on: [ db ]`, or `depends_on: { db: healthy }`";
            reporter.error(Code::WrongType, entry.key.span, message, hint);
        }
    }
    if let Some((_, _, span)) = found.get(MEMBERS_MAX) {
        let message = format!("`depends_on` holds {} entries; the limit is {MEMBERS_MAX}", found.len());
        reporter.error(Code::TooMany, *span, message, None);
        found.truncate(MEMBERS_MAX);
    }
    found
}

fn condition(text: &str) -> Result<Condition, Refusal> {
    // Compose's words for the same.
    let known = match text.strip_prefix("service_") {
        Some("completed_successfully") => "completed",
        Some(rest) => rest,
        None => return word(text, &CONDITIONS),
    };
    let meant = CONDITIONS.iter().find(|(word, _)| *word == known);
    word(text, &CONDITIONS).map_err(|refusal| match meant {
        Some((word, _)) => refusal.hint(format!("write `{word}`")),
        None => refusal,
    })
}
