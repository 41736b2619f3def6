//! The part of a service that is compared: what a person sees of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use crate::compose::project::{At, DependencyCondition, PublishedPort, Service, ServiceVolume, VolumeSource};

/// Home of whoever asks the reference.
pub(super) const HOME: &str = "/nobody-home";

/// What is compared of a service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    environment: BTreeMap<String, String>,
    command: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    ports: Vec<String>,
    mounts: Vec<String>,
    depends_on: Vec<String>,
}

pub(super) fn ours(service: &Service, root: &Path) -> Summary {
    let words = |words: &Option<At<Vec<String>>>| words.as_ref().map(|words| words.value.clone());
    let mut depends_on: Vec<String> = service
        .depends_on
        .iter()
        .map(|At { value, .. }| {
            let condition = match value.condition {
                DependencyCondition::Started => "service_started",
                DependencyCondition::Healthy => "service_healthy",
                DependencyCondition::CompletedSuccessfully => "service_completed_successfully",
            };
            format!("{} {condition} {}", value.service, value.required)
        })
        .collect();
    depends_on.sort();
    let mut ports: Vec<String> = service.ports.iter().flat_map(|port| singly(&port.value)).collect();
    ports.sort();
    Summary {
        environment: service.environment.iter().map(|(name, at)| (name.clone(), at.value.clone())).collect(),
        command: words(&service.command),
        entrypoint: words(&service.entrypoint),
        ports,
        mounts: service.volumes.iter().map(|volume| mount(&volume.value, root)).collect(),
        depends_on,
    }
}

/// A range as the reference shows it: port by port, where both sides are ranges.
fn singly(port: &PublishedPort) -> Vec<String> {
    let address = port.address.clone().unwrap_or_default();
    let one = |published: String, target: u16| format!("{address}|{published}|{target}|{}", port.transport);
    let shown =
        |first: u16, last: u16| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let (first, last) = port.target;
    match port.published {
        Some((from, to)) if first == last => vec![one(shown(from, to), first)],
        Some((from, _)) => {
            (first..=last).map(|target| one((from + (target - first)).to_string(), target)).collect()
        }
        None => (first..=last).map(|target| one(String::new(), target)).collect(),
    }
}

fn mount(volume: &ServiceVolume, root: &Path) -> String {
    let source = match &volume.source {
        VolumeSource::Named(name) => format!("volume {name}"),
        VolumeSource::Anonymous => String::from("volume "),
        VolumeSource::Bind(path) => format!("bind {}", absolute(path, root)),
        VolumeSource::Tmpfs { .. } => String::from("tmpfs "),
        VolumeSource::Other(kind) => format!("{kind} "),
    };
    format!("{source} at {}{}", volume.target, if volume.read_only { " ro" } else { "" })
}

fn text(value: &Json) -> String {
    value
        .as_str()
        .map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
        .replace("$$", "$")
}

pub(super) fn theirs(service: &Json) -> Summary {
    let words = |key: &str| service[key].as_array().map(|words| words.iter().map(text).collect());
    let environment = service["environment"].as_object().into_iter().flatten();
    let list = |key: &str| service[key].as_array().cloned().unwrap_or_default();
    let mut ports: Vec<String> = list("ports")
        .iter()
        .map(|port| {
            let field = |key: &str| text(&port[key]);
            format!("{}|{}|{}|{}", field("host_ip"), field("published"), field("target"), field("protocol"))
        })
        .collect();
    ports.sort();
    let mounts = list("volumes");
    let mounts = mounts.iter().map(|volume| {
        let source = text(&volume["source"]);
        let source = if source.len() > 1 { source.trim_end_matches('/') } else { &source };
        let is_read_only = volume["read_only"].as_bool() == Some(true);
        let read_only = if is_read_only { " ro" } else { "" };
        format!("{} {source} at {}{read_only}", text(&volume["type"]), text(&volume["target"]))
    });
    let depends_on = service["depends_on"].as_object().into_iter().flatten();
    Summary {
        environment: environment
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        command: words("command"),
        entrypoint: words("entrypoint"),
        ports,
        mounts: mounts.collect(),
        depends_on: depends_on
            .map(|(name, on)| format!("{name} {} {}", text(&on["condition"]), text(&on["required"])))
            .collect(),
    }
}

/// A path of ours as the reference shows it: absolute.
fn absolute(path: &str, root: &Path) -> String {
    if let Some(inside) = path.strip_prefix('~') {
        return format!("{HOME}{inside}");
    }
    let mut absolute = if path.starts_with('/') { PathBuf::from("/") } else { root.to_owned() };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                absolute.pop();
            }
            name => absolute.push(name),
        }
    }
    absolute.to_string_lossy().into_owned()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(entrypoint) = &self.entrypoint {
            parts.push(format!("entrypoint {entrypoint:?}"));
        }
        if let Some(command) = &self.command {
            parts.push(format!("command {command:?}"));
        }
        parts.extend(self.environment.iter().map(|(name, value)| format!("{name}={value}")));
        parts.extend(self.ports.iter().map(|port| format!("port {port}")));
        parts.extend(self.mounts.iter().map(|mount| format!("mount {mount}")));
        parts.extend(self.depends_on.iter().map(|on| format!("after {on}")));
        f.write_str(&parts.join("; "))
    }
}
