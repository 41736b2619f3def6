//! What is mounted into a task.
//!
//! Owns `volumes` and `tmpfs`, and that each place of its file system is taken once.

use std::collections::BTreeMap;

use lith_core::job::file::FileMount;
use lith_core::job::volume::{Mount, Tmpfs, VOLUMES_MAX};
use lith_core::job::{Bytes, MEMBERS_MAX, MEMORY_MAX};
use lith_core::value::{self as shared, quoted};

use super::super::fields::{self, Fields};
use crate::diagnostic::{Code, Reporter};
use crate::document::Span;
use crate::value::{Refusal, coded, size};

/// Where volumes are mounted, in order of target.
pub(super) fn volumes(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Vec<(Mount, Span)> {
    let mounts = fields.parse_list("volumes", reporter, coded(Code::BadMount, shared::mount::mount));
    let mounts = fields::limited("volumes", mounts, VOLUMES_MAX, reporter);
    let mut mounts: Vec<(Mount, Span)> = mounts.into_iter().map(|(mount, node)| (mount, node.span)).collect();
    mounts.sort_by(|a, b| a.0.target.cmp(&b.0.target));
    mounts
}

/// File systems in memory, in order of target.
pub(super) fn tmpfs(fields: &mut Fields<'_>, reporter: &mut Reporter) -> Vec<(Tmpfs, Span)> {
    let mounts = fields.parse_one_or_list("tmpfs", reporter, parse_tmpfs);
    let mounts = fields::limited("tmpfs", mounts, MEMBERS_MAX, reporter);
    let mut mounts: Vec<(Tmpfs, Span)> = mounts.into_iter().map(|(mount, node)| (mount, node.span)).collect();
    mounts.sort_by(|a, b| a.0.target.cmp(&b.0.target));
    mounts
}

fn parse_tmpfs(text: &str) -> Result<Tmpfs, Refusal> {
    let size = |text: &str| {
        let within = size::within("a file system in memory", text, Bytes(1), MEMORY_MAX);
        within.map_err(|Refusal { message, hint, .. }| shared::Refusal { message, hint })
    };
    coded(Code::BadMount, |text: &str| shared::mount::tmpfs(text, size))(text)
}

/// Reports every place that is taken twice.
pub(super) fn check_places(
    volumes: &[(Mount, Span)],
    tmpfs: &[(Tmpfs, Span)],
    files: &[&[(FileMount, Span)]],
    reporter: &mut Reporter,
) {
    let volumes = volumes.iter().map(|(mount, span)| (*span, &mount.target));
    let tmpfs = tmpfs.iter().map(|(mount, span)| (*span, &mount.target));
    let files = files.iter().flat_map(|files| files.iter().map(|(mount, span)| (*span, &mount.target)));
    let mut places: Vec<(Span, &String)> = volumes.chain(tmpfs).chain(files).collect();
    places.sort_unstable();
    let mut taken: BTreeMap<&String, Span> = BTreeMap::new();
    for (span, target) in places {
        if let Some(first) = taken.get(target) {
            let message = format!("{} is mounted over twice", quoted(target));
            let hint =
                format!("the first is in {}; give one of them another path", reporter.place(*first, span));
            reporter.error(Code::MountCollision, span, message, hint);
        } else {
            taken.insert(target, span);
        }
    }
}
