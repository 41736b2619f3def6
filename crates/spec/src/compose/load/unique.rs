//! Lists in which a later item takes the place of an earlier one of the same key.
//!
//! Owns which lists these are, and the key of each: the path in the container for mounts, the ports for ports, and so on.
//! The later item stands where the earlier one stood. Must not judge values.

use std::collections::HashMap;

use super::mounts;
use super::tree::{Data, Value};

/// Makes the lists of each service unique.
pub(super) fn unify(root: &mut Value) {
    let Data::Map(members) = &mut root.data else { return };
    let services = members.iter_mut().filter(|member| &*member.key.text == "services");
    for services in services {
        let Data::Map(services) = &mut services.value.data else { continue };
        for service in services {
            let Data::Map(members) = &mut service.value.data else { continue };
            for member in members {
                unify_member(&member.key.text, &mut member.value);
            }
        }
    }
}

fn unify_member(key: &str, value: &mut Value) {
    if key == "networks" {
        if let Data::Map(networks) = &mut value.data {
            for network in networks {
                let Data::Map(members) = &mut network.value.data else { continue };
                let lists = members.iter_mut();
                lists
                    .filter(|member| matches!(&*member.key.text, "aliases" | "link_local_ips"))
                    .for_each(|member| keep_last(&mut member.value, name));
            }
        }
        return;
    }
    let key_of: fn(&Value) -> Option<String> = match key {
        "annotations" | "cap_add" | "cap_drop" | "dns" | "dns_opt" | "dns_search" | "environment"
        | "labels" | "links" | "profiles" | "sysctls" | "tmpfs" => name,
        "expose" => whole,
        "env_file" => path,
        "volumes" => mount,
        "devices" => device,
        "ports" => port,
        "secrets" => |item| file_use(item, "/run/secrets"),
        "configs" => |item| file_use(item, ""),
        _ => return,
    };
    keep_last(value, key_of);
}

/// Of items with the same key the last one, in the place of the first; items without a key all stay.
fn keep_last(value: &mut Value, key_of: fn(&Value) -> Option<String>) {
    let Data::List(items) = &mut value.data else { return };
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Value> = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        let Some(key) = key_of(&item) else {
            kept.push(item);
            continue;
        };
        match places.get(&key) {
            Some(at) => kept[*at] = item,
            None => {
                places.insert(key, kept.len());
                kept.push(item);
            }
        }
    }
    *items = kept;
}

/// What stands before `=`.
fn name(item: &Value) -> Option<String> {
    let text = item.text()?;
    Some(text.split_once('=').map_or(text, |(name, _)| name).to_owned())
}

fn whole(item: &Value) -> Option<String> {
    item.text().map(str::to_owned)
}

fn path(item: &Value) -> Option<String> {
    item.text().or_else(|| item.get("path")?.text()).map(str::to_owned)
}

fn mount(item: &Value) -> Option<String> {
    if let Some(text) = item.text() {
        return mounts::short(text).ok().map(|mount| mount.target.to_owned());
    }
    item.get("target")?.text().map(str::to_owned)
}

fn device(item: &Value) -> Option<String> {
    if let Some(text) = item.text() {
        let mut parts = text.split(':');
        let first = parts.next()?;
        return Some(parts.next().unwrap_or(first).to_owned());
    }
    item.get("target")?.text().map(str::to_owned)
}

fn port(item: &Value) -> Option<String> {
    if let Some(text) = item.text() {
        return Some(text.to_owned());
    }
    let field = |key: &str, default: &str| item.get(key).and_then(Value::text).unwrap_or(default).to_owned();
    let target = item.get("target")?.text()?.to_owned();
    let (address, protocol) = (field("host_ip", "0.0.0.0"), field("protocol", "tcp"));
    Some(format!("{address}|{}|{target}|{protocol}", field("published", "")))
}

fn file_use(item: &Value, folder: &str) -> Option<String> {
    let source = |text: &str| format!("{folder}/{text}");
    if let Some(text) = item.text() {
        return Some(source(text));
    }
    match item.get("target").and_then(Value::text) {
        Some(target) => Some(target.to_owned()),
        None => item.get("source")?.text().map(source),
    }
}
