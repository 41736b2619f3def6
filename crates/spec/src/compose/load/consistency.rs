//! What holds across a whole project: every name means something, nothing waits for itself, and no two keys of a service
//! contradict each other.
//!
//! Owns these rules. Volumes that nobody declares are the converter's matter. Must not change a project.

use std::collections::{HashMap, HashSet};

use lith_core::value::quoted;

use super::shape::meant;
use crate::compose::project::{At, Project, Service};
use crate::diagnostic::{Code, Reporter};
use crate::document::Span;

/// Checks a project; `broken` are services that an earlier step could not make whole.
pub(super) fn check(project: &Project, broken: &HashSet<String>, reporter: &mut Reporter) {
    let names = Names {
        active: project.services.iter().map(|service| service.name.value.as_str()).collect(),
        inactive: project
            .inactive
            .iter()
            .map(|(name, profiles)| (name.as_str(), profiles.as_slice()))
            .collect(),
    };
    for service in &project.services {
        if !broken.contains(&service.name.value) {
            check_source(service, reporter);
        }
        check_networks(project, service, reporter);
        check_files(project, service, reporter);
        check_dependencies(&names, service, reporter);
        check_pairs(service, reporter);
        check_targets(service, reporter);
    }
    check_circles(project, reporter);
}

struct Names<'p> {
    active: HashSet<&'p str>,
    inactive: HashMap<&'p str, &'p [String]>,
}

fn check_source(service: &Service, reporter: &mut Reporter) {
    if service.image.is_some() || service.build.is_some() {
        return;
    }
    let name = &service.name.value;
    if let Some((_, span)) = service.ignored.iter().find(|(key, _)| key == "provider") {
        let message = format!("the service {} is made by a program beside Compose", quoted(name));
        reporter.error(Code::UnsupportedKey, *span, message, "lith runs images; name one with `image`");
        return;
    }
    let message = format!("the service {} has neither `image` nor `build`", quoted(name));
    let hint = "name an image, or the file that this one is to be read over before it";
    reporter.error(Code::MissingKey, service.name.span, message, hint);
}

fn unknown<'n>(
    kind: &str,
    name: &At<&str>,
    known: impl Iterator<Item = &'n str>,
    fix: &str,
    reporter: &mut Reporter,
) {
    let message = format!("the file has no {kind} {}", quoted(name.value));
    let near = if reporter.is_full() { None } else { meant(name.value, known) };
    let hint = match near {
        Some(known) => format!("did you mean `{known}`?"),
        None => fix.to_owned(),
    };
    reporter.error(Code::UnknownReference, name.span, message, hint);
}

fn check_networks(project: &Project, service: &Service, reporter: &mut Reporter) {
    if let Some(mode) = &service.network_mode
        && let Some(network) = service.networks.values().next()
    {
        let hint = format!("keep `networks`, or `network_mode: {}`", mode.value);
        let message = "`networks` and `network_mode` exclude each other";
        reporter.error(Code::ConflictingKeys, network.span, message, hint);
    }
    for (name, network) in &service.networks {
        if name != "default" && !project.networks.contains_key(name) {
            let known = project.networks.keys().map(String::as_str).chain(["default"]);
            let fix = format!("declare it: `{name}:` below `networks:` at the top of the file");
            unknown("network", &At::new(name, network.span), known, &fix, reporter);
        }
    }
}

fn check_files(project: &Project, service: &Service, reporter: &mut Reporter) {
    let groups =
        [("secret", &service.secrets, &project.secrets), ("config", &service.configs, &project.configs)];
    for (kind, uses, declared) in groups {
        for file_use in uses {
            let name = file_use.value.source.as_str();
            if !declared.contains_key(name) {
                let fix = format!("declare it: `{name}:` below `{kind}s:` at the top of the file");
                let known = declared.keys().map(String::as_str);
                unknown(kind, &At::new(name, file_use.span), known, &fix, reporter);
            }
        }
    }
}

fn check_dependencies(names: &Names<'_>, service: &Service, reporter: &mut Reporter) {
    for dependency in &service.depends_on {
        let other = dependency.value.service.as_str();
        if names.active.contains(other) {
            continue;
        }
        let Some(profiles) = names.inactive.get(other) else {
            let known = names.active.iter().copied();
            let fix = "name a service of the project";
            unknown("service", &At::new(other, dependency.span), known, fix, reporter);
            continue;
        };
        if dependency.value.required {
            let message = format!(
                "{} needs {}, which is left out since its profile is off",
                quoted(&service.name.value),
                quoted(other)
            );
            let profile = profiles.first().map_or("*", String::as_str);
            let hint = format!("switch it on with `--profile {profile}`, or write `required: false`");
            reporter.error(Code::UnknownReference, dependency.span, message, hint);
        }
    }
}

fn check_pairs(service: &Service, reporter: &mut Reporter) {
    let deploy = &service.deploy;
    let mut conflict = |span: Span, one: &str, other: &str| {
        let message = format!("`{one}` and `deploy.{other}` say different things");
        reporter.error(Code::ConflictingKeys, span, message, "keep one of them");
    };
    if let (Some(scale), Some(replicas)) = (&service.scale, &deploy.replicas)
        && scale.value != replicas.value
    {
        conflict(scale.span, "scale", "replicas");
    }
    if let (Some(cpus), Some(limit)) = (&service.cpus, &deploy.cpu_limit)
        && cpus.value != limit.value
    {
        conflict(cpus.span, "cpus", "resources.limits.cpus");
    }
    if let (Some(memory), Some(limit)) = (&service.mem_limit, &deploy.memory_limit)
        && memory.value != limit.value
    {
        conflict(memory.span, "mem_limit", "resources.limits.memory");
    }
    let replicas = service.scale.as_ref().or(deploy.replicas.as_ref());
    if let (Some(name), Some(replicas)) = (&service.container_name, replicas)
        && replicas.value > 1
    {
        let message = format!("{} containers cannot all be called {}", replicas.value, quoted(&name.value));
        let hint = "remove `container_name`; the service's own name reaches them";
        reporter.error(Code::ConflictingKeys, name.span, message, hint);
    }
}

/// No two mounts of a service at one path.
fn check_targets(service: &Service, reporter: &mut Reporter) {
    let tmpfs =
        service.tmpfs.iter().map(|tmpfs| (tmpfs.value.split(':').next().unwrap_or_default(), tmpfs.span));
    let volumes = service.volumes.iter().map(|volume| (volume.value.target.as_str(), volume.span));
    let mut seen = HashSet::new();
    for (target, span) in tmpfs.chain(volumes) {
        if !seen.insert(target) {
            let message = format!("something is already mounted at {}", quoted(target));
            reporter.error(Code::Repeated, span, message, "keep one of the mounts");
        }
    }
}

/// How far the search for circles has come with a service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Fresh,
    Open,
    Closed,
}

/// Finds services that wait for each other, without recursion: chains may be as long as the file.
fn check_circles(project: &Project, reporter: &mut Reporter) {
    let places: HashMap<&str, usize> =
        project.services.iter().enumerate().map(|(at, service)| (service.name.value.as_str(), at)).collect();
    let mut marks = vec![Mark::Fresh; project.services.len()];
    for start in 0..project.services.len() {
        if marks[start] != Mark::Fresh {
            continue;
        }
        marks[start] = Mark::Open;
        let mut path = vec![(start, 0)];
        while let Some((at, next)) = path.last_mut() {
            let at = *at;
            let Some(dependency) = project.services[at].depends_on.get(*next) else {
                marks[at] = Mark::Closed;
                path.pop();
                continue;
            };
            *next += 1;
            let Some(other) = places.get(dependency.value.service.as_str()).copied() else { continue };
            match marks[other] {
                Mark::Fresh => {
                    marks[other] = Mark::Open;
                    path.push((other, 0));
                }
                Mark::Open => report_circle(project, &path, other, dependency.span, reporter),
                Mark::Closed => {}
            }
        }
    }
}

fn report_circle(
    project: &Project,
    path: &[(usize, usize)],
    back_to: usize,
    span: Span,
    reporter: &mut Reporter,
) {
    let name = |at: usize| project.services[at].name.value.as_str();
    let start = path.iter().position(|(at, _)| *at == back_to).unwrap_or(0);
    let mut circle: Vec<&str> = path[start..].iter().map(|(at, _)| name(*at)).collect();
    circle.push(name(back_to));
    let message = format!("services wait for each other: {}", quoted(&circle.join(" → ")));
    reporter.error(Code::Circle, span, message, "remove one of these dependencies");
}
