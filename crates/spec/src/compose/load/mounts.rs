//! Mounts of a service: `volumes`, short and long.
//!
//! Owns their grammar, and what is a path of the host. Must not look at what stands at a path.

use lith_core::value::quoted;

use super::loader::Loader;
use super::paths;
use super::tree::{Class, Data, Value};
use super::units;
use crate::compose::project::{ServiceVolume, VolumeSource};
use crate::diagnostic::Code;
use crate::source::normal;
use crate::value::{Refusal, size};

/// `[source:]target[:options]`, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ShortMount<'t> {
    pub(super) source: Option<&'t str>,
    pub(super) target: &'t str,
    options: &'t str,
}

const EXAMPLE: &str = "write it as in `data:/var/lib/app` or `./config:/etc/app:ro`";

/// Takes a short mount apart.
pub(super) fn short(text: &str) -> Result<ShortMount<'_>, Refusal> {
    let refuse =
        |why: &str| Refusal::new(Code::BadPath, format!("{} is no mount: {why}", quoted(text))).hint(EXAMPLE);
    if text.is_empty() {
        return Err(refuse("it is empty"));
    }
    if text.len() <= 2 {
        return Ok(ShortMount { source: None, target: text, options: "" });
    }
    let sections = sections(text);
    if sections.contains(&"") {
        return Err(refuse("nothing stands between two colons"));
    }
    match sections[..] {
        [target] => Ok(ShortMount { source: None, target, options: "" }),
        [source, target] => Ok(ShortMount { source: Some(source), target, options: "" }),
        [source, target, options] => Ok(ShortMount { source: Some(source), target, options }),
        _ => Err(refuse("it has too many colons")),
    }
}

/// Cuts at colons, but for that of a Windows drive.
fn sections(text: &str) -> Vec<&str> {
    let mut sections = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(':') {
        let section = &text[start..at];
        let is_drive = section.chars().count() == 1 && section.starts_with(char::is_alphabetic);
        if !is_drive {
            sections.push(section);
            start = at + 1;
        }
    }
    sections.push(&text[start..]);
    sections
}

/// Whether a source is a path of the host, rather than the name of a volume.
fn is_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~']) || source.starts_with("\\\\") || is_drive(source)
}

fn is_drive(source: &str) -> bool {
    let mut characters = source.chars();
    characters.next().is_some_and(char::is_alphabetic) && characters.next() == Some(':')
}

/// Reads one mount.
pub(super) fn read(value: &Value, loader: &Loader<'_>) -> Result<ServiceVolume, Refusal> {
    match &value.data {
        Data::Scalar(scalar) => read_short(&scalar.text, value, loader),
        // What is no mapping at all was refused before, and lacks every key.
        Data::Map(_) | Data::Null | Data::List(_) => read_long(value, loader),
    }
}

fn read_short(text: &str, value: &Value, loader: &Loader<'_>) -> Result<ServiceVolume, Refusal> {
    let mount = short(text)?;
    let source = match mount.source {
        None => VolumeSource::Anonymous,
        Some(source) if is_path(source) => VolumeSource::Bind(host_path(source, value, loader)),
        Some(source) => VolumeSource::Named(source.to_owned()),
    };
    let mut volume = ServiceVolume {
        source,
        target: normal(mount.target),
        read_only: false,
        propagation: None,
        subpath: None,
        nocopy: false,
    };
    for option in mount.options.split(',') {
        match option {
            "ro" => volume.read_only = true,
            "rw" => volume.read_only = false,
            "nocopy" => volume.nocopy = true,
            "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
                volume.propagation = propagation(option);
            }
            // Compose lets through what it does not know, `z` and `cached` among them.
            _ => {}
        }
    }
    Ok(volume)
}

/// What is not the default.
fn propagation(text: &str) -> Option<String> {
    (!matches!(text, "" | "rprivate")).then(|| text.to_owned())
}

fn host_path(source: &str, value: &Value, loader: &Loader<'_>) -> String {
    if is_drive(source) || source.starts_with("\\\\") {
        return source.to_owned();
    }
    paths::shown(&loader.resolve(source, value.span))
}

fn read_long(value: &Value, loader: &Loader<'_>) -> Result<ServiceVolume, Refusal> {
    let field = |key: &str| value.get(key).and_then(Value::text).filter(|text| !text.is_empty());
    let missing = |key: &str| {
        Refusal::new(Code::MissingKey, format!("a mount needs `{key}`")).hint(format!("add `{key}:` here"))
    };
    let target = field("target").ok_or_else(|| missing("target"))?;
    let within = |group: &str, key: &str| value.get(group).and_then(|group| group.get(key));
    let switch = |value: Option<&Value>| {
        value.and_then(Value::text).map(units::switch).transpose().map(Option::unwrap_or_default)
    };
    let source = match field("type").unwrap_or("volume") {
        "bind" => {
            let source = field("source").ok_or_else(|| missing("source"))?;
            VolumeSource::Bind(host_path(source, value.get("source").unwrap_or(value), loader))
        }
        "volume" => {
            field("source").map_or(VolumeSource::Anonymous, |name| VolumeSource::Named(name.to_owned()))
        }
        "tmpfs" => {
            let size = within("tmpfs", "size").and_then(Value::text).map(size::parse).transpose()?;
            let size = size.filter(|size| size.0 > 0);
            let mode = within("tmpfs", "mode").and_then(|mode| match &mode.data {
                Data::Scalar(scalar) => Some(units::mode(&scalar.text, scalar.class)),
                Data::Null | Data::List(_) | Data::Map(_) => None,
            });
            VolumeSource::Tmpfs { size, mode: mode.transpose()? }
        }
        other => VolumeSource::Other(other.to_owned()),
    };
    let text = |group: &str, key: &str| within(group, key).and_then(Value::text);
    Ok(ServiceVolume {
        source,
        target: normal(target),
        read_only: switch(value.get("read_only"))?,
        propagation: text("bind", "propagation").and_then(propagation),
        subpath: text("volume", "subpath").or(text("image", "subpath")).map(str::to_owned),
        nocopy: switch(within("volume", "nocopy"))?,
    })
}

/// A device: `source:target:permissions`.
pub(super) fn device(value: &Value) -> Option<String> {
    if let Data::Scalar(scalar) = &value.data {
        return (scalar.class == Class::Text).then(|| scalar.text.to_string());
    }
    let field = |key: &str| value.get(key).and_then(Value::text).filter(|text| !text.is_empty());
    let source = field("source")?;
    let parts = [Some(source), field("target"), field("permissions")];
    let target = parts[1].unwrap_or(source);
    Some(match parts[2] {
        Some(permissions) => format!("{source}:{target}:{permissions}"),
        None => format!("{source}:{target}"),
    })
}
