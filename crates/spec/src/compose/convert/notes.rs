//! What is said once for the whole file: what is granted, what has no effect.
//!
//! Owns the collection of such remarks while services are converted, and their words.

use std::collections::BTreeSet;

use super::Work;
use crate::diagnostic::Code;
use crate::document::Span;

/// Most names in one list: a remark is read, not searched.
const LISTED_MAX: usize = 12;

/// What is said in the end.
#[derive(Default)]
pub(super) struct Notes {
    /// Rights inside the task's own machine.
    pub(super) granted: Gathered,
    /// Keys without effect.
    pub(super) without_effect: Gathered,
    /// Services that may reach the internet.
    pub(super) internet: Gathered,
    /// Entries of `extra_hosts` that stand for the node.
    pub(super) host_gateway: Gathered,
    /// Mounts that the guest's own kernel has anyway.
    pub(super) of_the_guest: Gathered,
    /// Images of services that Compose builds.
    pub(super) fetched: Gathered,
    /// Folders beside the file whose content is imported.
    pub(super) imported: Gathered,
    /// Variables that services only name, and that nothing gives a value.
    pub(super) unset: Gathered,
    /// Folders of the node.
    pub(super) host_folders: Gathered,
    /// Mounts of the node's time zone.
    pub(super) timezone: Gathered,
}

/// Names gathered over the file, and where the first of them stands.
#[derive(Default)]
pub(super) struct Gathered {
    names: BTreeSet<String>,
    first: Option<Span>,
}

impl Gathered {
    pub(super) fn add(&mut self, name: impl Into<String>, span: Span) {
        self.names.insert(name.into());
        self.first = Some(self.first.map_or(span, |first| first.min(span)));
    }

    /// Where to point, and the names in one line.
    fn listed(&self) -> Option<(Span, String)> {
        let shown: Vec<&str> = self.names.iter().take(LISTED_MAX).map(String::as_str).collect();
        let more = self.names.len() - shown.len();
        let tail = if more == 0 { String::new() } else { format!(" and {more} more") };
        Some((self.first?, format!("{}{tail}", shown.join(", "))))
    }
}

/// Says what was gathered.
pub(super) fn notes(work: &mut Work<'_>) {
    let notes = std::mem::take(&mut work.notes);
    if let Some((span, names)) = notes.without_effect.listed() {
        let message = format!("these keys have no effect here: {names}");
        work.reporter.remark(Code::NoEffect, span, message, None);
        work.decide_job(format!("no effect here, left out: {names}"));
    }
    if let Some((span, names)) = notes.granted.listed() {
        let message =
            format!("granted inside the task's own machine, where it reaches nothing else: {names}");
        work.reporter.remark(Code::Decided, span, message, None);
        work.decide_job(format!("a task has these rights in its own machine anyway: {names}"));
    }
    if let Some((span, names)) = notes.of_the_guest.listed() {
        let message = format!("not mounted, for each task has a kernel of its own: {names}");
        work.reporter.remark(Code::NoEffect, span, message, None);
        work.decide_job(format!("not mounted, for each task has a kernel of its own: {names}"));
    }
    if let Some((span, names)) = notes.fetched.listed() {
        let message = format!("these images are fetched, not built here: {names}");
        let hint = "build them where you do, and push them to a registry that the node reaches";
        work.reporter.remark(Code::Decided, span, message, hint);
    }
    network(&notes, work);
    mounts(&notes, work);
}

fn network(notes: &Notes, work: &mut Work<'_>) {
    if let Some((span, names)) = notes.internet.listed() {
        let message = format!("Compose implies it, so these may reach the internet: {names}");
        let hint = "to take it away, put a service on networks with `internal: true` alone";
        work.reporter.remark(Code::Decided, span, message, hint);
        work.decide_job("Compose implies `egress: [ internet ]`; remove it where a task needs none");
    }
    if let Some((span, names)) = notes.host_gateway.listed() {
        let message = format!("left out, for the node cannot be reached from a task: {names}");
        let hint = "let the other side be a task, or a machine with an address of its own";
        work.reporter.warning(Code::NoEffect, span, message, hint);
        work.decide_job(format!("`host-gateway` left out: {names}"));
    }
}

fn mounts(notes: &Notes, work: &mut Work<'_>) {
    if let Some((span, names)) = notes.unset.listed() {
        let message = format!("no task gets these variables, for they have no value: {names}");
        let hint = "give them with `--set NAME=value`, or in a `.env` file";
        work.reporter.remark(Code::NoEffect, span, message, hint);
    }
    if let Some((span, names)) = notes.imported.listed() {
        let message = format!("disks that start with the content of these folders: {names}");
        let hint = "later changes of a folder do not reach its disk; `lith cp` brings them there";
        work.reporter.remark(Code::Decided, span, message, hint);
    }
    if let Some((span, names)) = notes.host_folders.listed() {
        let message = format!("folders of the node, which its owner must have allowed: {names}");
        let hint = "for a disk instead, write the name of a volume in front of the colon";
        work.reporter.remark(Code::Decided, span, message, hint);
    }
    if let Some((span, names)) = notes.timezone.listed() {
        let message = format!("the time zone is a setting of the task, so this is not mounted: {names}");
        work.reporter.remark(Code::Decided, span, message, "set `TZ` to have another one");
    }
}
