//! The JSON schema of the job file, for editors: made from the table of keys.
//!
//! Owns how what a key takes is said in JSON Schema (draft 2020-12). It is wider than the reader: whatever the reader
//! accepts fits it, and it finds what an editor should underline. Must not know any key.

use lith_core::job::access::{BANDWIDTH_MAX, BANDWIDTH_MIN};
use serde_json::{Map, Value, json};

use crate::keys::{Force, Form, Key, LEVELS, Level, Takes};

/// A DNS label.
const NAME: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

/// The schema as text.
#[must_use]
pub fn json_schema() -> String {
    let mut definitions = Map::new();
    for level in LEVELS {
        definitions.insert(definition_name(level).to_owned(), section(level));
    }
    // What the reader fills in before it looks at a value; any value may be made of variables.
    definitions.insert("variable".to_owned(), json!({ "type": "string", "pattern": r"\$" }));
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lith job file",
        "description": "One job: groups, and in each group tasks.",
        "$ref": "#/$defs/job",
        "$defs": definitions,
    });
    let mut text = serde_json::to_string_pretty(&schema).expect("a value of text keys is JSON");
    text.push('\n');
    text
}

fn definition_name(level: Level) -> &'static str {
    match level {
        Level::Job => "job",
        Level::Group => "group",
        Level::Task => "task",
        Level::Volume => "volume",
        Level::Secret => "secret",
        Level::Config => "config",
        Level::FileUse => "file_use",
        Level::Health => "health",
        Level::Update => "update",
        Level::Logging => "logging",
        Level::Ulimit => "ulimit",
    }
}

/// A mapping with the keys of a level.
fn section(level: Level) -> Value {
    let mut properties = Map::new();
    for key in level.keys() {
        let mut property = json!({ "description": description(key), "anyOf": [] });
        // A key without a value counts as not given.
        let mut forms = forms(key.takes);
        forms.push(json!({ "type": "null" }));
        property["anyOf"] = Value::Array(forms);
        properties.insert(key.name.to_owned(), property);
    }
    // A part of a job that is spread over files lacks what another part has.
    let may_lack = matches!(level, Level::Job);
    let required: Vec<&str> =
        level.keys().iter().filter(|key| key.is_required && !may_lack).map(|key| key.name).collect();
    // `<<` merges another mapping, which may hold what is required.
    properties
        .insert("<<".to_owned(), json!({ "description": "A mapping, or a list of mappings, to merge." }));
    let mut section = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        section["anyOf"] = json!([{ "required": required }, { "required": ["<<"] }]);
    }
    section
}

fn description(key: &Key) -> String {
    let force = match key.force {
        Force::Now => "",
        Force::Later => " Kept, and not in force yet.",
    };
    format!("{}{force} Example: `{}: {}`", key.doc, key.name, key.example)
}

/// Each form that a value may have.
fn forms(takes: Takes) -> Vec<Value> {
    let variable = json!({ "$ref": "#/$defs/variable" });
    match takes {
        Takes::Name => vec![text(NAME), json!({ "type": "integer", "minimum": 0 }), variable],
        // YAML takes a date, a number or `yes` for something else than text, and the reader takes it for text.
        Takes::Text => vec![json!({ "type": ["string", "number", "boolean"] })],
        Takes::Form(form) => of_form(form).into_iter().chain([variable]).collect(),
        Takes::Word(words) => vec![json!({ "enum": words }), variable],
        Takes::Number(least, most) => {
            vec![json!({ "type": "integer", "minimum": least, "maximum": most }), text("^[0-9]+$"), variable]
        }
        Takes::Switch => vec![json!({ "type": "boolean" }), json!({ "enum": ["true", "false"] }), variable],
        Takes::Words => forms(Takes::Any(&[Takes::Text, Takes::List(&Takes::Text)])),
        Takes::List(item) => vec![json!({ "type": "array", "items": any(forms(*item)) })],
        Takes::OneOrList(item) => {
            let mut all = forms(*item);
            all.push(json!({ "type": "array", "items": any(forms(*item)) }));
            all
        }
        Takes::Mapping(value) => {
            vec![json!({ "type": "object", "additionalProperties": any(forms(*value)) })]
        }
        Takes::Section(level) => vec![reference(level)],
        Takes::Members(level) => {
            vec![
                json!({ "type": "object", "additionalProperties": any(vec![reference(level), json!({ "type": "null" })]) }),
            ]
        }
        Takes::Any(all) => all.iter().flat_map(|takes| forms(*takes)).collect(),
    }
}

fn of_form(form: Form) -> Vec<Value> {
    match form {
        Form::Size => vec![
            json!({ "type": "integer", "minimum": 0 }),
            text(r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]([iI]?[bB])?|[bB]|[bB][yY][tT][eE][sS])?$"),
        ],
        Form::Duration => {
            vec![json!({ "const": 0 }), text(r"^(0|([0-9]+(\.[0-9]+)?(h|m|s|ms|us|ns))+)$")]
        }
        Form::Cpus => vec![
            json!({ "type": "number", "minimum": 0.01, "maximum": 64 }),
            text(r"^[0-9]+(\.[0-9]{1,3}0*)?$"),
        ],
        Form::Bandwidth => vec![
            json!({ "type": "integer", "minimum": BANDWIDTH_MIN.0, "maximum": BANDWIDTH_MAX.0 }),
            text(r"^[0-9]+(\.[0-9]+)?\s*[kKmMgG]?([bB][iI][tT]([sS]|/[sS])?|[bB][pP][sS])?$"),
        ],
        Form::Port => vec![
            json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
            text("^[0-9]+(-[0-9]+)?(/([tT][cC][pP]|[uU][dD][pP]))?$"),
        ],
        Form::Publish => vec![
            json!({ "type": "integer", "minimum": 1, "maximum": 65535 }),
            text(r"^((\[[0-9a-fA-F:.]+\]|[0-9.]+):)?[0-9-]+(:[0-9-]+)?(/([tT][cC][pP]|[uU][dD][pP]))?$"),
        ],
        Form::Path => vec![text("^/")],
        Form::Mount => vec![text("^[^:]+:/[^:]*(:(ro|rw))?$")],
    }
}

fn text(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn reference(level: Level) -> Value {
    json!({ "$ref": format!("#/$defs/{}", definition_name(level)) })
}

/// Any of these forms.
fn any(mut forms: Vec<Value>) -> Value {
    if forms.len() == 1 { forms.remove(0) } else { json!({ "anyOf": forms }) }
}
