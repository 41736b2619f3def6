//! The groups of a job and the tasks in them.
//!
//! Owns the keys of a group, what it gives its tasks as their defaults, and the record of every task's name.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use lith_core::job::process::Update;
use lith_core::job::{COUNT_MAX, FAILOVER_AFTER_MAX, GroupSpec, MEMBERS_MAX, RestartPolicy, TaskSpec};
use lith_core::name::{GroupName, NodeName, TaskName};
use lith_core::value::{quoted, restart};

use super::collision::Published;
use super::fields::{self, Fields, item_text};
use super::outside::Outside;
use super::task::{self, Marks};
use super::update::update;
use super::{ONLY_GROUP, mapping, members, name};
use crate::diagnostic::{Code, Reporter};
use crate::document::{Entry, Kind, Node, Span};
use crate::keys::Level;
use crate::value::{coded, duration, number};

/// What was read of the tasks so far, across groups.
#[derive(Default)]
pub(super) struct Tasks {
    published: Published,
    /// Every task that is declared, also one that was refused.
    pub(super) declared: BTreeMap<Rc<str>, Span>,
    /// Where each task names something of the job.
    pub(super) marks: BTreeMap<TaskName, Marks>,
}

/// What a group gives its tasks.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    pub(super) restart: RestartPolicy,
    pub(super) update: Option<Update>,
    count: u32,
}

/// The group of a job whose tasks stand directly under it.
pub(super) fn only_group(
    entry: &Entry,
    tasks: &mut Tasks,
    outside: &mut Outside<'_>,
    reporter: &mut Reporter,
) -> Option<BTreeMap<GroupName, GroupSpec>> {
    let name: GroupName = ONLY_GROUP.parse().expect("the constant is a label");
    let defaults = Defaults { restart: RestartPolicy::default(), update: None, count: 1 };
    let read = tasks.read(entry, defaults, outside, reporter)?;
    Some(BTreeMap::from([(name, GroupSpec::new(read))]))
}

/// The groups of a job.
pub(super) fn groups(
    groups: &Entry,
    tasks: &mut Tasks,
    outside: &mut Outside<'_>,
    reporter: &mut Reporter,
) -> Option<BTreeMap<GroupName, GroupSpec>> {
    let mut read = BTreeMap::new();
    for entry in some(groups, "group", reporter)? {
        let name = name(&entry.key.text, entry.key.span, reporter);
        let group = group(entry, tasks, outside, reporter);
        read.extend(name.zip(group));
    }
    Some(read)
}

/// The members of a level of which at least one must be there.
fn some<'a>(entry: &'a Entry, noun: &str, reporter: &mut Reporter) -> Option<&'a [Entry]> {
    let entries = members(entry, noun, MEMBERS_MAX, reporter)?;
    if entries.is_empty() {
        let message = format!("`{noun}s` names no {noun}");
        reporter.error(Code::MissingKey, entry.key.span, message, format!("declare at least one {noun}"));
        return None;
    }
    Some(entries)
}

fn group(
    entry: &Entry,
    tasks: &mut Tasks,
    outside: &mut Outside<'_>,
    reporter: &mut Reporter,
) -> Option<GroupSpec> {
    let entries = mapping(&entry.key, &entry.value, "a group is a mapping with `tasks`", reporter)?;
    let mut fields = Fields::new(Level::Group, entries, reporter);
    let count = fields.parse("count", reporter, |text| number::whole(text, 0, COUNT_MAX)).unwrap_or(1);
    let place = place(&mut fields, reporter);
    let failover_after =
        fields.parse("failover_after", reporter, |text| duration::up_to(text, FAILOVER_AFTER_MAX));
    let restart =
        fields.parse("restart", reporter, coded(Code::BadRestart, restart::parse)).unwrap_or_default();
    let update = update(&mut fields, reporter);
    let Some(own) = fields.take("tasks") else {
        let message = format!("the group {} has no tasks", quoted(&entry.key.text));
        let hint = "add `tasks:` with a name and an `image` for each";
        reporter.error(Code::MissingKey, entry.key.span, message, hint);
        return None;
    };
    let tasks = tasks.read(own, Defaults { restart, update, count }, outside, reporter)?;
    Some(GroupSpec { count, place, failover_after, tasks })
}

fn place(fields: &mut Fields<'_>, reporter: &mut Reporter) -> BTreeSet<NodeName> {
    let Some(entry) = fields.take("place") else { return BTreeSet::new() };
    let items: &[Rc<Node>] = match &entry.value.kind {
        Kind::List(items) => items,
        Kind::Text(_) => std::slice::from_ref(&entry.value),
        Kind::Null | Kind::Map(_) => {
            let message = "`place` takes the name of a node, or a list of names; this is a mapping";
            reporter.error(Code::WrongType, entry.key.span, message, None);
            return BTreeSet::new();
        }
    };
    let mut nodes = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = item_text(entry, item, reporter) else { continue };
        if let Some(name) = name(text, item.span, reporter) {
            nodes.push((name, &**item));
        }
    }
    fields::sorted("place", nodes, MEMBERS_MAX, reporter).into_iter().collect()
}

impl Tasks {
    fn read(
        &mut self,
        entry: &Entry,
        defaults: Defaults,
        outside: &mut Outside<'_>,
        reporter: &mut Reporter,
    ) -> Option<BTreeMap<TaskName, TaskSpec>> {
        let mut read = BTreeMap::new();
        for entry in some(entry, "task", reporter)? {
            let name: Option<TaskName> = name(&entry.key.text, entry.key.span, reporter);
            self.declare(entry, reporter);
            let Some(task) = task::task(entry, defaults, outside, reporter) else { continue };
            for (publish, span) in &task.published {
                self.published.add(&entry.key.text, defaults.count, *publish, *span, reporter);
            }
            if let Some(name) = name {
                self.marks.insert(name.clone(), task.marks);
                read.insert(name, task.spec);
            }
        }
        Some(read)
    }

    /// Keeps a task's name; tasks find each other by it, whatever group they are in.
    fn declare(&mut self, entry: &Entry, reporter: &mut Reporter) {
        let span = entry.key.span;
        if let Some(first) = self.declared.get(&entry.key.text) {
            let message = format!("two groups have a task {}", quoted(&entry.key.text));
            let hint = format!(
                "the first stands in {}; tasks find each other by their names: give one another name",
                reporter.place(*first, span)
            );
            return reporter.error(Code::DuplicateKey, span, message, hint);
        }
        self.declared.insert(Rc::clone(&entry.key.text), span);
    }
}
