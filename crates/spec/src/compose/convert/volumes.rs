//! Mounts: which disk, folder or file system in memory is where.
//!
//! Owns the volumes of the job, their names, and which are shared. What a path of the node becomes is in `binds`.

use std::collections::{BTreeMap, BTreeSet};

use lith_core::job::TaskSpec;
use lith_core::job::volume::{Mount, MountSource, Tmpfs, VOLUMES_MAX, VolumeSpec};
use lith_core::name::{TaskName, VolumeName, nearest_label};
use lith_core::value::{self as shared, quoted};

use super::names::unique;
use super::refusal::{self, refuse};
use super::{Decision, DecisionPlace, Work, binds, group, process};
use crate::compose::project::{Service, ServiceVolume, Volume, VolumeSource};
use crate::diagnostic::Code;
use crate::document::Span;
use crate::value::size;

/// The volumes of the job so far.
#[derive(Default)]
pub(super) struct Volumes {
    /// By what they are in the Compose file.
    by_origin: BTreeMap<Origin, VolumeName>,
    specs: BTreeMap<VolumeName, VolumeSpec>,
    /// Who mounts it.
    users: BTreeMap<VolumeName, Users>,
}

/// The services that mount a volume.
#[derive(Default)]
struct Users {
    services: BTreeSet<String>,
    /// Those of them that write.
    writers: BTreeSet<String>,
    /// Where the first of them says so.
    span: Span,
}

/// What a volume of the job is in the Compose file: two mounts of the same thing are mounts of one volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A volume by its name.
    Named(String),
    /// A volume without a name, of one service and target.
    Anonymous(String, String),
    /// A path beside the file.
    Path(String),
}

impl Volumes {
    /// The volumes that the job declares.
    pub(super) fn declared(&mut self) -> BTreeMap<VolumeName, VolumeSpec> {
        std::mem::take(&mut self.specs)
    }

    /// Paths beside the file that are volumes.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.by_origin.keys().filter_map(|origin| match origin {
            Origin::Path(path) => Some(path.as_str()),
            Origin::Named(_) | Origin::Anonymous(..) => None,
        })
    }
}

/// The volume that stands for something of the Compose file, made when it is met first; `None` when there are too many.
pub(super) fn volume(
    origin: Origin,
    wanted_name: &str,
    spec: VolumeSpec,
    comment: Option<String>,
    work: &mut Work<'_>,
) -> Option<VolumeName> {
    if let Some(name) = work.volumes.by_origin.get(&origin) {
        return Some(name.clone());
    }
    // One more than there may be is enough for the refusal.
    if work.volumes.specs.len() > VOLUMES_MAX {
        return None;
    }
    let label = nearest_label(wanted_name).unwrap_or_else(|| String::from("volume"));
    let label = unique(&label, |label| work.volumes.specs.keys().any(|name| name.as_str() == label));
    let name: VolumeName = label.parse().expect("a nearest label is a label");
    if let Some(comment) = comment {
        work.decisions.push(Decision { place: DecisionPlace::Volume(name.clone()), comment });
    }
    work.volumes.by_origin.insert(origin, name.clone());
    work.volumes.specs.insert(name.clone(), spec);
    Some(name)
}

/// Reads the mounts of a service.
pub(super) fn volumes(service: &Service, name: &TaskName, task: &mut TaskSpec, work: &mut Work<'_>) {
    if let Some(beyond) = service.volumes.get(VOLUMES_MAX) {
        let message = format!("{} mounts are more than {VOLUMES_MAX}", service.volumes.len());
        work.reporter.error(Code::TooMany, beyond.span, message, None);
    }
    for mount in service.volumes.iter().take(VOLUMES_MAX) {
        refusal::mount(&mount.value, mount.span, work);
        let target = target(&mount.value.target);
        let Some(target) = work.accept(Code::BadPath, mount.span, target) else { continue };
        let source = source(service, name, &mount.value, &target, mount.span, task, work);
        let Some(source) = source else { continue };
        if let MountSource::Volume(volume) = &source {
            let new = || Users { span: mount.span, ..Users::default() };
            let users = work.volumes.users.entry(volume.clone()).or_insert_with(new);
            users.services.insert(service.name.value.clone());
            if !mount.value.read_only {
                users.writers.insert(service.name.value.clone());
            }
        }
        task.volumes.push(Mount { source, target, is_read_only: mount.value.read_only });
    }
    for entry in &service.tmpfs {
        let parsed = shared::mount::tmpfs(&entry.value, |text| {
            size::parse(text)
                .map_err(|refusal| shared::Refusal { message: refusal.message, hint: refusal.hint })
        });
        let tmpfs = work.accept(Code::BadPath, entry.span, parsed);
        task.tmpfs.extend(tmpfs);
    }
    task.volumes.sort_by(|a, b| a.target.cmp(&b.target));
    task.tmpfs.sort_by(|a, b| a.target.cmp(&b.target));
}

/// Where something is mounted.
fn target(text: &str) -> Result<String, shared::Refusal> {
    // Compose takes a letter before a colon for a drive of Windows, and all of `v:/srv` for a place.
    let is_drive = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.get(1..2) == Some(":");
    shared::mount::place(text).map_err(|refusal| {
        if is_drive { refusal.hint("the name of a volume has two letters or more") } else { refusal }
    })
}

/// What is mounted; `None` when it is no volume, or refused.
fn source(
    service: &Service,
    name: &TaskName,
    mount: &ServiceVolume,
    target: &str,
    span: Span,
    task: &mut TaskSpec,
    work: &mut Work<'_>,
) -> Option<MountSource> {
    match &mount.source {
        VolumeSource::Named(volume) => named(volume, span, target, (name, task), work),
        VolumeSource::Anonymous => {
            let origin = Origin::Anonymous(service.name.value.clone(), target.to_owned());
            let comment = format!("without a name in Compose; {target} of {name}");
            let wanted = format!("{name}{target}");
            volume(origin, &wanted, VolumeSpec::default(), Some(comment), work).map(MountSource::Volume)
        }
        VolumeSource::Bind(path) => {
            let bind = binds::Bind { path, target, is_writable: !mount.read_only, span };
            binds::bind(&bind, name, task, work)
        }
        VolumeSource::Tmpfs { size, mode } => {
            task.tmpfs.push(Tmpfs { target: target.to_owned(), size: *size, mode: *mode });
            None
        }
        VolumeSource::Other(kind) => {
            refuse(Code::MountKind, span, format!("a mount of the type {}", quoted(kind)), work);
            None
        }
    }
}

/// A volume by its name.
fn named(
    name: &str,
    span: Span,
    target: &str,
    (task_name, task): (&TaskName, &mut TaskSpec),
    work: &mut Work<'_>,
) -> Option<MountSource> {
    let project = work.project;
    let may_make = work.options.create_missing_volumes;
    let Some(declared) = project.volumes.get(name) else {
        if !may_make {
            let message = format!("the file does not declare the volume {}", quoted(name));
            work.reporter.error(Code::UndeclaredVolume, span, message, undeclared_hint(name));
            return None;
        }
        let comment = Some(String::from("not declared in the Compose file"));
        let origin = Origin::Named(name.to_owned());
        return volume(origin, name, VolumeSpec::default(), comment, work).map(MountSource::Volume);
    };
    if declared.is_external && !may_make {
        let shown = declared.name.as_deref().unwrap_or(name);
        refuse(
            Code::ExternalVolume,
            declared.span,
            format!("the volume {} was made elsewhere", quoted(shown)),
            work,
        );
        return None;
    }
    match driver(declared, work)? {
        Driver::Disk => {
            let comment = declared.is_external.then(|| String::from("external in Compose; it begins empty"));
            let origin = Origin::Named(name.to_owned());
            volume(origin, name, VolumeSpec::default(), comment, work).map(MountSource::Volume)
        }
        Driver::Folder(path, span) => {
            let mount = binds::Bind { path: &path, target, is_writable: true, span };
            binds::bind(&mount, task_name, task, work)
        }
        Driver::Memory => {
            task.tmpfs.push(Tmpfs { target: target.to_owned(), size: None, mode: None });
            None
        }
    }
}

/// The two lines that declare it, or what was meant when it is no name.
fn undeclared_hint(name: &str) -> String {
    if name.contains('/') {
        return format!("for a folder beside the file write `./{name}`");
    }
    format!("add at the end of the file\nvolumes:\n  {name}:\nor pass `--create-missing-volumes`")
}

/// What a driver makes of a volume.
enum Driver {
    Disk,
    /// A folder of the node, or one beside the file.
    Folder(String, Span),
    Memory,
}

/// `local` with the options of a bind mount is the folder; with others it is a disk, or refused.
fn driver(volume: &Volume, work: &mut Work<'_>) -> Option<Driver> {
    if let Some(driver) = &volume.driver
        && !["", "local"].contains(&driver.value.as_str())
    {
        refuse(Code::VolumeDriver, driver.span, format!("the driver {}", quoted(&driver.value)), work);
        return None;
    }
    let option = |key: &str| volume.driver_opts.get(key).filter(|option| !option.value.is_empty());
    let is_bind = option("o")
        .is_some_and(|options| options.value.split(',').any(|option| option == "bind" || option == "rbind"));
    let kind = option("type");
    match (kind.map(|kind| kind.value.as_str()), option("device")) {
        (Some("tmpfs"), _) => Some(Driver::Memory),
        (None | Some("none" | "bind"), Some(device)) if is_bind || kind.is_some() => {
            Some(Driver::Folder(device.value.clone(), device.span))
        }
        (None | Some("none" | "bind"), None) => Some(Driver::Disk),
        (shown, device) => {
            let span = kind.or(device).map_or(volume.span, |option| option.span);
            let what = format!("a file system of the type {}", quoted(shown.unwrap_or("unknown")));
            refuse(Code::VolumeDriver, span, what, work);
            None
        }
    }
}

/// Marks volumes that several services mount, and refuses what cannot be shared.
pub(super) fn share(work: &mut Work<'_>) {
    let project = work.project;
    let users = std::mem::take(&mut work.volumes.users);
    for (name, Users { services, writers, span }) in users {
        let mounting = || project.services.iter().filter(|service| services.contains(&service.name.value));
        let odd = mounting().find(|service| group::count(service) != 1);
        if services.len() < 2 {
            if let Some(service) = odd.filter(|service| group::count(service) > 1) {
                let count = group::count(service);
                let message =
                    format!("each of the {count} instances has its own disk {}", quoted(name.as_str()));
                let hint = "Docker gives them one; if they need that, let one instance serve the others";
                work.reporter.warning(Code::Decided, span, message, hint);
            }
            continue;
        }
        if let Some(service) = odd {
            let count = group::count(service);
            let what = format!(
                "the volume {} belongs to {} services, and {} has {count} instances",
                quoted(name.as_str()),
                services.len(),
                quoted(&service.name.value)
            );
            refuse(Code::SharedVolume, span, what, work);
            continue;
        }
        let comment = if writers.len() > 1 {
            if let Some(spec) = work.volumes.specs.get_mut(&name) {
                spec.is_shared = true;
            }
            format!("written by {}", listed(&writers))
        } else {
            let holder = writers.first().or(services.first()).cloned().unwrap_or_default();
            let readers: BTreeSet<String> =
                services.into_iter().filter(|service| *service != holder).collect();
            let sees = if readers.len() == 1 {
                "sees it as it was at its own start"
            } else {
                "see it as it was at their own starts"
            };
            format!("held by {holder}; {} {sees}", listed(&readers))
        };
        work.decisions.push(Decision { place: DecisionPlace::Volume(name), comment });
    }
    if work.volumes.specs.len() > VOLUMES_MAX {
        let message = format!("the services mount more than {VOLUMES_MAX} volumes");
        let span = project.services.first().map(|service| service.name.span).unwrap_or_default();
        work.reporter.error(Code::TooMany, span, message, "split the file into several");
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Refuses two things at one place of a task.
pub(super) fn targets(service: &Service, task: &TaskSpec, work: &mut Work<'_>) {
    process::check_counts(service, task, work);
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let targets = task
        .volumes
        .iter()
        .map(|mount| &mount.target)
        .chain(task.tmpfs.iter().map(|tmpfs| &tmpfs.target))
        .chain(task.secrets.iter().map(|mount| &mount.target))
        .chain(task.configs.iter().map(|mount| &mount.target));
    for target in targets {
        if !taken.insert(target) {
            let message = format!("{} is mounted over twice", quoted(target));
            let place = service.volumes.iter().rev().find(|mount| mount.value.target == *target);
            let span = place.map_or(service.name.span, |mount| mount.span);
            work.reporter.error(Code::Repeated, span, message, "keep one of them");
        }
    }
}
