//! One task of the job file.
//!
//! Owns the order in which the keys of a task are read, and their defaults; families of keys are in the modules below. What
//! holds across tasks is not seen here: the task says what it names, and where.

use lith_core::job::access::{Connect, Expose};
use lith_core::job::file::FileMount;
use lith_core::job::health::{Condition, Health};
use lith_core::job::volume::Mount;
use lith_core::job::{CPUS_DEFAULT, MEMORY_DEFAULT, Publish, STOP_GRACE_DEFAULT, STOP_GRACE_MAX, TaskSpec};
use lith_core::job::{MEMORY_MAX, MEMORY_MIN};
use lith_core::name::TaskName;
use lith_core::value::{self as shared, quoted};

use super::fields::Fields;
use super::group::Defaults;
use super::mapping;
use super::outside::Outside;
use super::update::update;
use crate::diagnostic::{Code, Reporter};
use crate::document::{Entry, Span};
use crate::keys::Level;
use crate::value::{self, coded};

mod access;
mod env;
mod health;
mod limits;
mod mounts;
mod process;

/// A task, and where it names something that others have too.
pub(super) struct Task {
    pub(super) spec: TaskSpec,
    pub(super) published: Vec<(Publish, Span)>,
    pub(super) marks: Marks,
}

/// Where a task names something of the job.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) volumes: Vec<(Mount, Span)>,
    pub(super) secrets: Vec<(FileMount, Span)>,
    pub(super) configs: Vec<(FileMount, Span)>,
    pub(super) connects: Vec<(Connect, Span)>,
    pub(super) depends_on: Vec<(TaskName, Condition, Span)>,
    pub(super) expose: Vec<(Expose, Span)>,
}

/// Reads a task. A refused value is reported and replaced by its default, so that reading goes on; `None` when not even
/// that is possible.
pub(super) fn task(
    entry: &Entry,
    defaults: Defaults,
    outside: &mut Outside<'_>,
    reporter: &mut Reporter,
) -> Option<Task> {
    let entries = mapping(&entry.key, &entry.value, "a task is a mapping with an `image`", reporter)?;
    let fields = &mut Fields::new(Level::Task, entries, reporter);
    let image = image(fields, entry, reporter);
    let published = access::publish(fields, reporter);
    let volumes = mounts::volumes(fields, reporter);
    let tmpfs = mounts::tmpfs(fields, reporter);
    let secrets = super::file::uses(super::file::FileKind::Secret, fields, reporter);
    let configs = super::file::uses(super::file::FileKind::Config, fields, reporter);
    mounts::check_places(&volumes, &tmpfs, &[&secrets, &configs], reporter);
    let connects = access::connects(fields, reporter);
    let expose = access::expose(fields, reporter);
    let depends_on = access::depends_on(fields, reporter);
    let bare = TaskSpec::new(image.unwrap_or_default());
    let spec = TaskSpec {
        env: env::env(fields, outside, reporter),
        memory: fields
            .parse("memory", reporter, |text| value::size::within("memory", text, MEMORY_MIN, MEMORY_MAX))
            .unwrap_or(MEMORY_DEFAULT),
        cpus: fields.parse("cpus", reporter, value::number::cpus).unwrap_or(CPUS_DEFAULT),
        volumes: values(&volumes),
        tmpfs: tmpfs.into_iter().map(|(tmpfs, _)| tmpfs).collect(),
        secrets: values(&secrets),
        configs: values(&configs),
        ports: access::ports(fields, reporter),
        publish: in_order(values(&published)),
        expose: in_order(values(&expose)),
        connects: in_order(values(&connects)),
        egress: access::egress(fields, reporter),
        bandwidth: fields.parse("bandwidth", reporter, coded(Code::BadBandwidth, shared::bandwidth::parse)),
        hosts: access::hosts(fields, reporter),
        health: health::health(fields, reporter),
        depends_on: depends_on.iter().map(|(name, condition, _)| (name.clone(), *condition)).collect(),
        restart: fields
            .parse("restart", reporter, coded(Code::BadRestart, shared::restart::parse))
            .unwrap_or(defaults.restart),
        stop_signal: fields.parse("stop_signal", reporter, value::signal),
        stop_grace: fields
            .parse("stop_grace", reporter, |text| value::duration::up_to(text, STOP_GRACE_MAX))
            .unwrap_or(STOP_GRACE_DEFAULT),
        update: update(fields, reporter).or(defaults.update),
        ..process::process(bare, fields, reporter)
    };
    let spec = limits::limits(spec, fields, reporter);
    let marks = Marks { volumes, secrets, configs, connects, depends_on, expose };
    Some(Task { spec, published, marks })
}

fn image(fields: &mut Fields<'_>, entry: &Entry, reporter: &mut Reporter) -> Option<String> {
    if fields.take("image").is_none() {
        let message = format!("the task {} has no image", quoted(&entry.key.text));
        reporter.error(Code::MissingKey, entry.key.span, message, "add a line such as `image: nginx:1.27`");
        return None;
    }
    fields.parse("image", reporter, coded(Code::BadImage, shared::image::parse))
}

fn values<T: Clone>(marked: &[(T, Span)]) -> Vec<T> {
    marked.iter().map(|(value, _)| value.clone()).collect()
}

/// The valid form of a list whose order means nothing.
fn in_order<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items.dedup();
    items
}

/// Whether the task's check has been switched off.
pub(super) fn is_unchecked(task: &TaskSpec) -> bool {
    matches!(task.health, Some(Health::Off))
}
