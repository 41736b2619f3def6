//! The JSON schema is one, and says the same as the reader: what is accepted fits it, what has a wrong key does not.

#![expect(clippy::panic, reason = "a test fails by it")]

use std::collections::BTreeSet;
use std::path::Path;

use lith_spec::{check, json_schema};
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::from_str(&json_schema()).expect("the schema is JSON")
}

/// Whether a value fits a schema: the part of JSON Schema that ours uses.
fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(rules) = schema.as_object() else { return schema == &json!(true) };
    rules.iter().all(|(word, rule)| match word.as_str() {
        "$ref" => {
            let path = rule.as_str().and_then(|path| path.strip_prefix('#')).expect("references are local");
            fits(root, root.pointer(path).expect("references lead somewhere"), value)
        }
        "anyOf" => rule.as_array().expect("a list").iter().any(|schema| fits(root, schema, value)),
        "type" => match rule {
            Value::Array(types) => types.iter().any(|name| is_a(name, value)),
            name => is_a(name, value),
        },
        "properties" => value.as_object().is_none_or(|object| {
            object.iter().all(|(key, value)| rule.get(key).is_none_or(|schema| fits(root, schema, value)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|object| {
            let known = rules.get("properties");
            let others =
                object.iter().filter(|(key, _)| known.is_none_or(|known| known.get(key.as_str()).is_none()));
            others.into_iter().all(|(_, value)| rule != &json!(false) && fits(root, rule, value))
        }),
        "required" => value.as_object().is_none_or(|object| {
            rule.as_array()
                .expect("a list")
                .iter()
                .all(|key| object.contains_key(key.as_str().expect("text")))
        }),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| fits(root, rule, item))),
        "enum" => rule.as_array().expect("a list").contains(value),
        "const" => rule == value,
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().expect("a number")),
        "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().expect("a number")),
        "pattern" => value.as_str().is_none_or(|text| {
            let pattern = regex::Regex::new(rule.as_str().expect("text")).expect("the pattern is one");
            pattern.is_match(text)
        }),
        "$schema" | "title" | "description" | "$defs" => true,
        other => panic!("{other} is a word that this test does not know"),
    })
}

fn is_a(name: &Value, value: &Value) -> bool {
    match name.as_str().expect("text") {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// Reader and schema agree on a job that is written as JSON, which is YAML too.
fn check_agree(job: &Value, is_accepted: bool) {
    let text = serde_json::to_string_pretty(job).expect("JSON");
    let reading = check("job.yaml", &text);
    assert_eq!(!reading.diagnostics.has_errors(), is_accepted, "{text}\n{}", reading.diagnostics);
    let schema = schema();
    assert_eq!(fits(&schema, &schema, job), is_accepted, "{text}");
}

fn task(task: &Value) -> Value {
    let mut task = task.clone();
    if task.get("image").is_none() {
        task["image"] = json!("nginx");
    }
    json!({ "job": "j", "configs": { "app": { "content": "x" } }, "secrets": ["pw"], "tasks": { "t": task, "db": { "image": "x", "ports": [5432] } } })
}

#[test]
fn what_is_accepted_fits() {
    for lines in [
        json!({}),
        json!({ "memory": "1.5G", "cpus": 0.5, "stop_grace": "1m30s", "shm_size": 65536, "bandwidth": "50Mbit/s" }),
        json!({ "command": "a b", "entrypoint": ["a", 1, true] }),
        json!({ "env": { "A": 1, "B": "x", "C": true } }),
        json!({ "env": ["A=1"], "ports": [80, "53/udp", "9000-9010"], "publish": [8080, "127.0.0.1:80:80", "[fd00::7]:81:80/udp"] }),
        json!({ "health": "none", "egress": "internet", "tmpfs": "/tmp", "read_only": true }),
        json!({ "health": { "tcp": 5432, "every": "10s", "retries": 3 }, "egress": ["internet"] }),
        json!({ "depends_on": ["db"] }),
        json!({ "depends_on": { "db": "healthy" }, "connects": ["db:5432 as x"] }),
        json!({ "volumes": ["data:/srv", "/srv/x:/x:ro"], "ulimits": { "nofile": 5, "nproc": { "soft": 1, "hard": 2 } } }),
        json!({ "secrets": ["pw", { "source": "pw", "target": "/x", "uid": 0, "mode": "0400", "writable": false }], "configs": "app" }),
        json!({ "memory": null, "kind": "periodic", "schedule": "0 3 * * *", "gpu": "all" }),
        json!({ "update": { "parallel": 2, "order": "start-first" }, "logging": { "max_files": 3, "max_size": "10M" } }),
        json!({ "memory": "${MEMORY:-1G}", "cpus": "${CPUS:-2}", "read_only": "${RO:-true}", "kind": "${KIND:-once}" }),
    ] {
        check_agree(&task(&lines), true);
    }
    check_agree(
        &json!({ "job": "j", "volumes": { "data": null, "more": { "size": "1G", "shared": true } }, "groups": {
            "g": { "count": 0, "place": "node-1", "failover_after": "1m", "restart": "no", "update": {}, "tasks": { "t": { "image": "x" } } } } }),
        true,
    );
}

#[test]
fn what_is_refused_for_its_form_does_not_fit() {
    for lines in [
        json!({ "imge": "x" }),
        json!({ "memory": [1] }),
        json!({ "kind": "cron" }),
        json!({ "health": { "interval": "10s" } }),
        json!({ "health": { "tcp": 0 } }),
        json!({ "publish": "8080:80" }),
        json!({ "ports": [0] }),
        json!({ "ports": [65536] }),
        json!({ "logging": { "max_files": 0 } }),
        json!({ "read_only": "yes" }),
        json!({ "depends_on": { "db": "ready" } }),
        json!({ "env": "A=1" }),
        json!({ "secrets": [{ "target": "/x" }] }),
    ] {
        check_agree(&task(&lines), false);
    }
    check_agree(&json!({ "job": "j", "tasks": { "t": { "command": "x" } } }), false);
}

/// Every part of the schema says something, and nothing that this file does not know.
#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, root: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                    assert!(root.pointer(&reference[1..]).is_some(), "{reference}");
                    found.insert(reference.to_owned());
                }
                object.values().for_each(|value| walk(value, root, found));
            }
            Value::Array(items) => items.iter().for_each(|value| walk(value, root, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let schema = schema();
    let mut found = BTreeSet::new();
    walk(&schema, &schema, &mut found);
    let defined: BTreeSet<String> = schema["$defs"]
        .as_object()
        .expect("definitions")
        .keys()
        .map(|name| format!("#/$defs/{name}"))
        .collect();
    assert_eq!(found, defined, "each definition is used");
}

/// Set to write the published schema instead of comparing it.
const WRITE: &str = "LITH_WRITE_REFERENCE";

#[test]
fn the_published_schema_is_current() {
    // Where cargo runs the test, not where it was compiled: the checkout may have been moved.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let path = Path::new(&package).join("../../docs/reference/job.schema.json");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, json_schema()).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == json_schema(),
        "docs/reference/job.schema.json is not what the code says: run `{WRITE}=1 cargo test -p lith-spec --test schema`"
    );
}
