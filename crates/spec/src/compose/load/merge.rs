//! Merging: what a later file says on top of an earlier one, and a service on top of the one that it extends.
//!
//! Owns the rule of each key. Mappings are merged deep, lists are appended, single values replaced; what differs from that
//! is listed here. Must not judge values.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use lith_core::value::quoted;

use super::tree::{Class, Data, Member, Scalar, Value};
use crate::diagnostic::{Code, Reporter};
use crate::document::{Key, MergeTag};

/// How two values of one key become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Mappings deep, lists appended, single values replaced.
    Deep,
    /// The later one alone.
    Replace,
    /// `NAME=value` in either form, by name.
    Pairs,
    /// One text is as a list of it.
    Listed,
    /// A list of names is as a mapping of them to nothing.
    Names,
    /// A list of services is as a mapping to what it means.
    Dependencies,
    /// Lists without what both have.
    Distinct,
    /// Text is as a mapping with `context`.
    Build,
    /// As mappings when the driver is the same, else the later one.
    Logging,
}

fn rule(path: &[&str]) -> Rule {
    match path {
        ["services", _, rest @ ..] => service_rule(rest),
        ["networks" | "volumes", _, "labels"] => Rule::Pairs,
        ["networks" | "volumes" | "secrets" | "configs", _, "external"] => Rule::Replace,
        _ => Rule::Deep,
    }
}

fn service_rule(path: &[&str]) -> Rule {
    match path {
        ["command" | "entrypoint"] | ["healthcheck", "test"] | ["ulimits", _] => Rule::Replace,
        ["environment" | "labels" | "annotations" | "sysctls"]
        | ["deploy", "labels"]
        | ["build", "args" | "labels" | "additional_contexts"] => Rule::Pairs,
        ["dns" | "dns_opt" | "dns_search" | "env_file" | "label_file" | "tmpfs"] => Rule::Listed,
        ["networks" | "models"] => Rule::Names,
        ["depends_on"] => Rule::Dependencies,
        ["extra_hosts"] | ["build", "extra_hosts"] => Rule::Distinct,
        ["build"] => Rule::Build,
        ["logging"] => Rule::Logging,
        _ => Rule::Deep,
    }
}

/// Takes out of an earlier value what a later one resets or overrides.
pub(super) fn clear_tagged(earlier: &mut Value, later: &Value) {
    let Data::Map(members) = &mut earlier.data else { return };
    let later: HashMap<&str, &Value> =
        later.members().iter().map(|member| (&*member.key.text, &member.value)).collect();
    members.retain(|member| later.get(&*member.key.text).is_none_or(|value| value.tag.is_none()));
    for member in members {
        if let Some(value) = later.get(&*member.key.text) {
            clear_tagged(&mut member.value, value);
        }
    }
}

/// Takes out what is reset, and every tag: they have had their effect.
pub(super) fn settle(value: &mut Value) {
    value.tag = None;
    match &mut value.data {
        Data::Null | Data::Scalar(_) => {}
        Data::List(items) => {
            items.retain(|item| !item.is_reset());
            items.iter_mut().for_each(settle);
        }
        Data::Map(members) => {
            members.retain(|member| !member.value.is_reset());
            members.iter_mut().for_each(|member| settle(&mut member.value));
        }
    }
}

/// Puts one value over another, at a path.
pub(super) fn merge(base: Value, over: Value, path: &mut Vec<Rc<str>>, reporter: &mut Reporter) -> Value {
    if over.tag == Some(MergeTag::Override) {
        return over;
    }
    let names: Vec<&str> = path.iter().map(|name| &**name).collect();
    match rule(&names) {
        Rule::Replace => over,
        Rule::Deep => deep(base, over, path, reporter),
        Rule::Pairs => deep(pairs(base), pairs(over), path, reporter),
        Rule::Listed => deep(listed(base), listed(over), path, reporter),
        Rule::Names => deep(named(base, |_| None), named(over, |_| None), path, reporter),
        Rule::Dependencies => deep(named(base, started), named(over, started), path, reporter),
        Rule::Distinct => distinct(base, over),
        Rule::Build => deep(build(base), build(over), path, reporter),
        Rule::Logging => {
            let (before, after) = (base.given("driver"), over.given("driver"));
            let is_other = before.zip(after).is_some_and(|(before, after)| before.text() != after.text());
            if is_other { over } else { deep(base, over, path, reporter) }
        }
    }
}

/// Mappings deep, lists appended, single values replaced; nothing leaves what there is.
fn deep(base: Value, over: Value, path: &mut Vec<Rc<str>>, reporter: &mut Reporter) -> Value {
    if over.is_null() && !over.is_reset() {
        return base;
    }
    let is_fit = match (&base.data, &over.data) {
        (Data::Map(_), Data::Map(_)) | (Data::List(_), Data::List(_)) => true,
        (Data::Map(_) | Data::List(_), _) => over.is_reset(),
        (Data::Null | Data::Scalar(_), _) => true,
    };
    if !is_fit {
        let key = path.last().map_or("the file", |name| &**name);
        let (earlier, later) = (base.noun(), over.noun());
        let message = format!("{} is {earlier} in an earlier file, and {later} here", quoted(key));
        let hint = "write it in the same form, or `!override` before it to replace the earlier one";
        reporter.error(Code::WrongType, over.span, message, hint);
        return base;
    }
    let data = match (base.data, over.data) {
        (Data::Map(members), Data::Map(others)) => Data::Map(merge_members(members, others, path, reporter)),
        (Data::List(mut items), Data::List(others)) => {
            items.extend(others);
            Data::List(items)
        }
        (_, data) => data,
    };
    Value { span: over.span, data, tag: over.tag.or(base.tag) }
}

fn merge_members(
    mut members: Vec<Member>,
    others: Vec<Member>,
    path: &mut Vec<Rc<str>>,
    reporter: &mut Reporter,
) -> Vec<Member> {
    let places = members.iter().enumerate().map(|(at, member)| (Rc::clone(&member.key.text), at));
    let places: HashMap<Rc<str>, usize> = places.collect();
    for other in others {
        let Some(at) = places.get(&other.key.text) else {
            members.push(other);
            continue;
        };
        let member = &mut members[*at];
        let before = std::mem::replace(&mut member.value, Value::new(other.key.span, Data::Null));
        path.push(Rc::clone(&other.key.text));
        member.value = merge(before, other.value, path, reporter);
        path.pop();
        member.key = other.key;
    }
    members
}

/// A list of `NAME=value` as a mapping; anything else as it is.
fn pairs(mut value: Value) -> Value {
    let Data::List(items) = &value.data else { return value };
    if items.iter().any(|item| !is_plain_text(item)) {
        return value;
    }
    let mut members: Vec<Member> = Vec::with_capacity(items.len());
    let mut places: HashMap<Rc<str>, usize> = HashMap::new();
    for item in items {
        let member = pair(item);
        match places.get(&member.key.text) {
            Some(at) => members[*at] = member,
            None => {
                places.insert(Rc::clone(&member.key.text), members.len());
                members.push(member);
            }
        }
    }
    value.data = Data::Map(members);
    value
}

fn is_plain_text(value: &Value) -> bool {
    matches!(&value.data, Data::Scalar(scalar) if scalar.class == Class::Text) && value.tag.is_none()
}

/// One item `NAME=value`, or `NAME` for one without a value.
pub(super) fn pair(item: &Value) -> Member {
    let text = item.text().unwrap_or_default();
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Value::of_text(item.span, value)),
        None => (text, Value::new(item.span, Data::Null)),
    };
    Member { key: Key { text: Rc::from(name), span: item.span }, value }
}

/// A single value as the list of it.
fn listed(mut value: Value) -> Value {
    if let Data::Scalar(_) = &value.data {
        let tag = value.tag.take();
        return Value { span: value.span, data: Data::List(vec![value]), tag };
    }
    value
}

/// A list of names as a mapping of them.
fn named(mut value: Value, meaning: fn(&Value) -> Option<Data>) -> Value {
    let Data::List(items) = &value.data else { return value };
    if items.iter().any(|item| !is_plain_text(item)) {
        return value;
    }
    let members = items.iter().map(|item| Member {
        key: Key { text: Rc::from(item.text().unwrap_or_default()), span: item.span },
        value: Value::new(item.span, meaning(item).unwrap_or(Data::Null)),
    });
    value.data = Data::Map(members.collect());
    value
}

/// What a dependency without a condition says.
fn started(item: &Value) -> Option<Data> {
    let member = |key: &str, text: &str, class: Class| Member {
        key: Key { text: Rc::from(key), span: item.span },
        value: Value::new(item.span, Data::Scalar(Scalar { text: Rc::from(text), class })),
    };
    let condition = member("condition", "service_started", Class::Text);
    Some(Data::Map(vec![condition, member("required", "true", Class::Truth)]))
}

/// A build that is only a folder, as the mapping that says so.
fn build(value: Value) -> Value {
    if !is_plain_text(&value) {
        return value;
    }
    let key = Key { text: Rc::from("context"), span: value.span };
    let span = value.span;
    Value::new(span, Data::Map(vec![Member { key, value }]))
}

/// A mapping of hosts as a list of `host=address`.
fn listed_pairs(mut value: Value) -> Value {
    let Data::Map(members) = &value.data else { return value };
    let lines = members.iter().flat_map(|member| {
        let addresses = member.value.items_or_self().iter();
        addresses.map(|address| {
            let text = format!("{}={}", member.key.text, address.text().unwrap_or_default());
            Value::of_text(address.span, &text)
        })
    });
    value.data = Data::List(lines.collect());
    value
}

/// The items of a later list that an earlier one lacks, after it.
fn distinct(base: Value, over: Value) -> Value {
    let (mut base, over) = (listed_pairs(base), listed_pairs(over));
    if let (Data::List(items), Data::List(others)) = (&mut base.data, over.data) {
        let known: HashSet<String> = items.iter().filter_map(|item| item.text().map(str::to_owned)).collect();
        items
            .extend(others.into_iter().filter(|other| other.text().is_none_or(|text| !known.contains(text))));
    }
    base
}
