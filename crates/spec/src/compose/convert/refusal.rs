//! What lith cannot honour, and says so.
//!
//! Owns the list of kinds of refusal, for messages and documentation alike, and the checks of a service that are about
//! sharing something with the node or with another container. Refusals of single values are beside those values.

use lith_core::value::quoted;

use super::Work;
use crate::compose::project::{Service, ServiceVolume, VolumeSource};
use crate::diagnostic::Code;
use crate::document::Span;

/// A kind of thing that a Compose file may say and lith refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusalKind {
    /// The code of its diagnostics.
    pub code: Code,
    /// What of Compose it is.
    pub what: &'static str,
    /// Why it is refused.
    pub why: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

macro_rules! kinds {
    ($($code:ident: $what:literal, $why:literal, $instead:literal;)*) => {
        /// Every kind, in the order of the documentation.
        pub const REFUSAL_KINDS: &[RefusalKind] = &[$(
            RefusalKind { code: Code::$code, what: $what, why: $why, instead: $instead },
        )*];
    };
}

kinds! {
    Empty:
        "a file all of whose services belong to profiles that are off",
        "there is nothing to run",
        "choose a profile with `--profile NAME`";
    BuildWithoutImage:
        "`build` without `image`",
        "lith runs images, it builds none",
        "build and push the image, then add its name beside `build`";
    HostNetwork:
        "`network_mode: host` without `ports`",
        "a task has a network of its own, and nothing says which of its ports are to be reached",
        "list them under `ports`";
    SharedNetwork:
        "`network_mode: service:…` and `container:…`",
        "each task is a machine with a network of its own",
        "put both programs into one image, or let them speak over the network by name";
    SharedNamespace:
        "`pid` and `ipc` with `host`, `service:…` or `container:…`",
        "a task sees neither processes nor memory of the node or of another task",
        "remove the key; for more shared memory inside the task set `shm_size`";
    MountPropagation:
        "`propagation` of a bind mount, other than private",
        "mounts made in a task stay in its machine",
        "remove it";
    EngineSocket:
        "the socket of a container engine, such as `docker.sock`",
        "there is no container engine here, and its socket would be the right to everything",
        "configure the program without it, or leave the service out";
    HostSystem:
        "`/`, `/proc`, `/sys`, `/dev`, `/run` of the node",
        "such a folder describes the node or controls it, and a task has its own",
        "mount the folder below that holds the data, or leave the service out";
    HostDevice:
        "`devices`, other than `/dev/fuse` and `/dev/net/tun`",
        "a device of the node is granted by the node's owner, not by a file",
        "remove it here, convert the file, and add `devices` to the job file";
    VolumesFrom:
        "`volumes_from`",
        "what is mounted is said by each task itself",
        "list the volumes of the other service under `volumes`";
    MountKind:
        "mounts of the types `npipe`, `cluster` and `image`, and a `subpath` of a volume",
        "a task mounts whole volumes, and folders that its node's owner allows",
        "mount the whole volume, or a volume of its own";
    UndeclaredVolume:
        "a volume that is not declared",
        "a slip of the finger would make an empty disk",
        "declare it under `volumes` at the top level, or pass `--create-missing-volumes`";
    ExternalVolume:
        "a volume with `external: true`",
        "an empty disk would take its place",
        "remove `external` to begin with an empty disk, or pass `--create-missing-volumes`";
    ExternalConfig:
        "a config with `external: true`",
        "the cluster keeps secrets, not configs",
        "give it a `file` or its `content`";
    VolumeDriver:
        "a `driver` of volumes other than `local`, and network file systems",
        "volumes are disks of the cluster",
        "remove `driver` and `driver_opts`, or mount the share on the node and name its folder";
    NetworkDriver:
        "networks of the drivers `macvlan`, `ipvlan` and `host`",
        "tasks have no address in the node's network",
        "remove `driver` and list what is to be reached under `ports`";
    SharedVolume:
        "a volume of several services, one of which has not exactly one instance",
        "tasks that share a disk are placed together, with one instance each",
        "remove `replicas`, or give each service a volume of its own";
    BadFile:
        "a file that is mounted, or the source of a secret or config, that cannot be read or is too large",
        "small files travel with the job",
        "put the file beside the Compose file, or mount the folder that holds it";
    MissingVariable:
        "a secret or config from a variable that is not given",
        "a job does not depend on your shell",
        "pass `--set NAME=value` or `--env-file FILE`";
}

/// Drivers under which a network is what lith has anyway.
const NETWORK_DRIVERS: [&str; 5] = ["", "default", "bridge", "overlay", "none"];

/// Refuses the code at a place, with what the list says to do.
pub(super) fn refuse(code: Code, span: Span, what: impl AsRef<str>, work: &mut Work<'_>) {
    let kind = REFUSAL_KINDS.iter().find(|kind| kind.code == code).expect("each kind is in the list");
    let message = format!("{}: {}", what.as_ref(), kind.why);
    work.reporter.error(code, span, message, kind.instead);
}

/// What of a service is about sharing with the node or another container.
pub(super) fn service(service: &Service, work: &mut Work<'_>) {
    network_mode(service, work);
    namespaces(service, work);
    if let Some(first) = service.volumes_from.first() {
        let hint = from_hint(first.value.as_str(), work);
        let message = format!("all volumes of {} cannot be taken over at once", quoted(&first.value));
        work.reporter.error(Code::VolumesFrom, first.span, message, hint);
    }
    for link in &service.external_links {
        let message =
            format!("nothing outside of the file is reached by itself, so {} is not", quoted(&link.value));
        let hint = "add `connects: [ JOB/TASK ]` to the job file that `lith convert` prints";
        work.reporter.warning(Code::NoEffect, link.span, message, hint);
    }
    for (key, span) in &service.ignored {
        work.notes.without_effect.add(key.clone(), *span);
    }
    if let Some(span) = service.deploy.placement {
        work.notes.without_effect.add("deploy.placement", span);
    }
    for attachment in service.networks.values().filter(|attachment| attachment.value.fixed_address.is_some())
    {
        work.notes.without_effect.add("fixed addresses", attachment.span);
    }
}

fn from_hint(source: &str, work: &Work<'_>) -> String {
    let name = source.split(':').next().unwrap_or(source);
    let services = &work.project.services;
    let volumes = services.iter().find(|service| service.name.value == name).map(|service| &service.volumes);
    let lines: Vec<String> = volumes
        .into_iter()
        .flatten()
        .filter_map(|mount| match &mount.value.source {
            VolumeSource::Named(source) | VolumeSource::Bind(source) => {
                Some(format!("{source}:{}", mount.value.target))
            }
            VolumeSource::Anonymous | VolumeSource::Tmpfs { .. } | VolumeSource::Other(_) => None,
        })
        .take(3)
        .collect();
    if lines.is_empty() {
        return String::from("list the volumes under `volumes` of this service");
    }
    format!("list them under `volumes` of this service: {}", lines.join(", "))
}

fn network_mode(service: &Service, work: &mut Work<'_>) {
    let Some(mode) = &service.network_mode else { return };
    match mode.value.as_str() {
        "" | "none" | "bridge" | "default" => {}
        "host" if service.ports.is_empty() => {
            let message = "nothing says which ports of it are to be reached: a task has a network of its own";
            let hint = "list them, such as `ports: [ \"8080:8080\" ]`; one that is not to be reached has `network_mode: bridge`";
            work.reporter.error(Code::HostNetwork, mode.span, message, hint);
        }
        "host" => {
            let message = "the task has a network of its own; the ports that it lists are published";
            let hint =
                "what it reaches as `localhost` in Compose, it reaches by the name of the service here";
            work.reporter.remark(Code::Decided, mode.span, message, hint);
            if let Some(name) = work.names.task(&service.name.value).cloned() {
                work.decide(
                    &name,
                    "publish",
                    "`network_mode: host` in Compose; what is not listed is not reached",
                );
            }
        }
        other if other.starts_with("service:") || other.starts_with("container:") => {
            refuse(Code::SharedNetwork, mode.span, quoted(other), work);
        }
        other => outside(other, mode.span, work),
    }
}

/// Networks of the project that are another thing than lith's.
pub(super) fn networks(work: &mut Work<'_>) {
    let project = work.project;
    for (name, network) in &project.networks {
        if network.is_external {
            outside(name, network.span, work);
        }
        if let Some(driver) = &network.driver
            && !NETWORK_DRIVERS.contains(&driver.value.as_str())
        {
            refuse(Code::NetworkDriver, driver.span, format!("the driver {}", quoted(&driver.value)), work);
        }
    }
}

/// A network that other projects share: its services reach each other here, and nothing else.
fn outside(name: &str, span: Span, work: &mut Work<'_>) {
    let message =
        format!("on {} only services of this file reach each other, nothing of other projects", quoted(name));
    let hint = "to reach a task of another job, add `connects: [ JOB/TASK ]` to the job file that `lith convert` prints";
    work.reporter.warning(Code::Decided, span, message, hint);
    work.decide_job(format!(
        "network {}: tasks of other jobs are reached by `connects: [ JOB/TASK ]`",
        quoted(name)
    ));
}

fn namespaces(service: &Service, work: &mut Work<'_>) {
    for (key, value) in &service.namespaces {
        let is_of_others = value.value.starts_with("service:") || value.value.starts_with("container:");
        let is_shared = match *key {
            "pid" | "ipc" => value.value == "host" || is_of_others,
            _ => is_of_others,
        };
        if is_shared {
            refuse(Code::SharedNamespace, value.span, format!("`{key}: {}`", value.value), work);
        } else {
            work.notes.without_effect.add(*key, value.span);
        }
    }
}

/// A device of the node.
pub(super) fn device(path: &str, span: Span, work: &mut Work<'_>) {
    refuse(Code::HostDevice, span, quoted(path), work);
}

/// What a mount says beside its source and target.
pub(super) fn mount(mount: &ServiceVolume, span: Span, work: &mut Work<'_>) {
    if let Some(propagation) = &mount.propagation
        && !["", "private", "rprivate"].contains(&propagation.as_str())
    {
        refuse(Code::MountPropagation, span, format!("propagation {}", quoted(propagation)), work);
    }
    if let Some(subpath) = mount.subpath.as_ref().filter(|subpath| !subpath.is_empty()) {
        refuse(Code::MountKind, span, format!("the folder {} of a volume", quoted(subpath)), work);
    }
    if mount.nocopy {
        work.notes.without_effect.add("nocopy", span);
    }
}
