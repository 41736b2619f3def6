//! Paths of the node, and paths beside the file, that a service mounts.
//!
//! Owns what each of them becomes: a disk, a disk that starts with a folder's content, a shared folder, a config, a setting
//! of the task, or a refusal. A path is judged as text; what stands there is asked of [`Files`](crate::source::Files).

use lith_core::job::TaskSpec;
use lith_core::job::volume::{MountSource, VolumeSpec};
use lith_core::name::TaskName;
use lith_core::value::{process, quoted};

use super::refusal::refuse;
use super::volumes::{Origin, volume};
use super::{Binds, Work, files};
use crate::diagnostic::Code;
use crate::document::Span;
use crate::source::{PathKind, normal};

/// Names of the sockets of container engines, wherever they are.
const ENGINE_SOCKETS: [&str; 4] = ["docker.sock", "podman.sock", "containerd.sock", "crio.sock"];
/// Folders that describe or control the node, as do those below them.
const HOST_SYSTEM: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/var/run", "/boot"];
/// What a guest's own kernel has, or has no use for.
const OF_THE_GUEST: [&str; 6] =
    ["/sys/fs/cgroup", "/lib/modules", "/usr/lib/modules", "/usr/src", "/dev/shm", "/proc/sys/net"];
/// Where time zones are kept.
const ZONES: &str = "/usr/share/zoneinfo/";
/// Ends of names that are files rather than folders.
const FILE_ENDS: [&str; 17] = [
    "cfg", "cnf", "conf", "crt", "env", "html", "ini", "js", "json", "key", "pem", "php", "sh", "sql",
    "toml", "yaml", "yml",
];

/// A path that is mounted.
pub(super) struct Bind<'a> {
    pub(super) path: &'a str,
    pub(super) target: &'a str,
    pub(super) is_writable: bool,
    pub(super) span: Span,
}

/// What is mounted for a path; `None` when it becomes something else than a mount, or is refused.
pub(super) fn bind(
    bind: &Bind<'_>,
    name: &TaskName,
    task: &mut TaskSpec,
    work: &mut Work<'_>,
) -> Option<MountSource> {
    let path = normal(bind.path);
    let bind = Bind { path: &path, ..*bind };
    if path.starts_with('/') {
        return absolute(&bind, name, task, work);
    }
    match work.files.kind(&path) {
        PathKind::File => {
            let file = files::Bound { path: &path, target: bind.target, is_writable: bind.is_writable };
            files::bound(&file, bind.span, name, task, work);
            None
        }
        PathKind::Folder => folder(&path, bind.span, work),
        PathKind::Absent => absent(&path, bind.target, bind.span, work),
    }
}

/// A folder beside the file.
fn folder(path: &str, span: Span, work: &mut Work<'_>) -> Option<MountSource> {
    let shown = shown(path);
    match &work.options.binds {
        Binds::Import => {
            overlaps(path, span, work);
            let spec = VolumeSpec { import: Some(shown.clone()), ..VolumeSpec::default() };
            work.notes.imported.add(shown.clone(), span);
            let comment = Some(format!("{shown} in Compose; imported once"));
            volume(Origin::Path(path.to_owned()), &label(path), spec, comment, work).map(MountSource::Volume)
        }
        Binds::Host { folder } if path.starts_with('~') => {
            let message = format!("{} is the home of whoever types, and no folder of the node", quoted(path));
            let hint = format!("write the whole path, or one beside the file in {}", quoted(folder));
            work.reporter.error(Code::BadPath, span, message, hint);
            None
        }
        Binds::Host { folder } => {
            let whole = normal(&format!("{folder}/{path}"));
            host(&whole, span, work)
        }
    }
}

/// Nothing is there: a disk of its own, as Docker makes a folder.
fn absent(path: &str, target: &str, span: Span, work: &mut Work<'_>) -> Option<MountSource> {
    let shown = shown(path);
    let is_file = |text: &str| {
        let last = text.rsplit('/').next().unwrap_or(text);
        last.rsplit_once('.').is_some_and(|(stem, end)| !stem.is_empty() && FILE_ENDS.contains(&end))
    };
    if is_file(path) && is_file(target) {
        let message =
            format!("{} is not there, so an empty disk is mounted at {}", quoted(&shown), quoted(target));
        let hint = "if it is a file, put it beside the Compose file first";
        work.reporter.warning(Code::Decided, span, message, hint);
    }
    overlaps(path, span, work);
    let comment = Some(format!("{shown} in Compose; nothing was there"));
    let origin = Origin::Path(path.to_owned());
    volume(origin, &label(path), VolumeSpec::default(), comment, work).map(MountSource::Volume)
}

/// A folder inside another one is a disk of its own here: what is written into one is not in the other.
fn overlaps(path: &str, span: Span, work: &mut Work<'_>) {
    let inside = |inner: &str, outer: &str| {
        outer == "." || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
    };
    let other = work
        .volumes
        .paths()
        .find(|other| *other != path && (inside(path, other) || inside(other, path)))
        .map(shown);
    if let Some(other) = other {
        let message = format!("{} and {} are disks of their own here", quoted(&shown(path)), quoted(&other));
        let hint = "what is written into one is not seen in the other, as it is in Compose";
        work.reporter.warning(Code::Decided, span, message, hint);
    }
}

/// A path of the node.
fn absolute(
    bind: &Bind<'_>,
    name: &TaskName,
    task: &mut TaskSpec,
    work: &mut Work<'_>,
) -> Option<MountSource> {
    let Bind { path, target, span, .. } = *bind;
    let last = path.rsplit('/').next().unwrap_or(path);
    let is_within =
        |folder: &str| path == folder || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    if ENGINE_SOCKETS.contains(&last) {
        refuse(Code::EngineSocket, span, quoted(path), work);
        return None;
    }
    if path == "/etc/localtime" || path == "/etc/timezone" || path.starts_with(ZONES) {
        timezone(path, span, name, task, work);
        return None;
    }
    if path == "/dev/net/tun" || path == "/dev/fuse" {
        let device = lith_core::value::mount::device(path);
        work.notes.granted.add(path, span);
        let device = work.accept(Code::BadPath, span, device)?;
        if !task.devices.contains(&device) {
            task.devices.push(device);
        }
        return None;
    }
    if OF_THE_GUEST.iter().any(|folder| is_within(folder)) && target.starts_with(path.trim_end_matches('/')) {
        work.notes.of_the_guest.add(path, span);
        return None;
    }
    if path == "/" || HOST_SYSTEM.iter().any(|folder| is_within(folder)) {
        let is_device = path.starts_with("/dev/");
        let code = if is_device { Code::HostDevice } else { Code::HostSystem };
        refuse(code, span, quoted(path), work);
        return None;
    }
    host(path, span, work)
}

/// A folder of the node, which its owner must allow.
fn host(path: &str, span: Span, work: &mut Work<'_>) -> Option<MountSource> {
    let path = work.accept(Code::BadPath, span, lith_core::value::mount::place(path))?;
    work.notes.host_folders.add(path.clone(), span);
    Some(MountSource::Host(path))
}

/// The node's time zone becomes a setting of the task.
fn timezone(path: &str, span: Span, name: &TaskName, task: &mut TaskSpec, work: &mut Work<'_>) {
    work.notes.timezone.add(path, span);
    let is_zone = |zone: &&String| process::timezone(zone).is_ok();
    let named = path.strip_prefix(ZONES).map(str::to_owned);
    let zone = named
        .as_ref()
        .or(task.env.get("TZ"))
        .filter(is_zone)
        .or(work.options.timezone.as_ref().filter(is_zone))
        .cloned();
    if task.timezone.is_none() && zone.is_some() {
        work.decide(name, "timezone", format!("in place of {path}"));
        task.timezone = zone;
    }
}

/// A path beside the file as a person writes it.
fn shown(path: &str) -> String {
    if path.starts_with(['.', '~']) { path.to_owned() } else { format!("./{path}") }
}

/// The path as the name of a volume: of a long one the end, which says most.
fn label(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| *part != ".." && *part != "~").collect();
    let end = parts.len().saturating_sub(3);
    let label = parts[end..].join("-");
    if label.trim_matches('.').is_empty() { String::from("folder") } else { label }
}
