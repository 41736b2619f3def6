//! Models as text: whole, or what makes one out of another one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lith_core::slot::Slot;

use super::elements::kinds;
use super::model::Model;
use super::{FAMILIES, removal_script};
use crate::address;

/// Elements in one command: `nft` reads long lines slowly.
const ELEMENTS_PER_COMMAND: usize = 500;

impl Model {
    /// The script that puts the rules in force, whatever was there before.
    #[must_use]
    pub fn whole(&self) -> String {
        removal_script() + &self.text()
    }

    /// The script that puts the rules in force where neither table is there. It fails, and changes nothing, where one is.
    ///
    /// It takes a quarter less time: the kernel makes who removes something wait until nobody can be looking at it.
    #[must_use]
    pub fn first(&self) -> String {
        let comment = &self.comment;
        FAMILIES.map(|family| format!("create table {family} lith {{\n{comment}}}\n")).concat() + &self.text()
    }

    fn text(&self) -> String {
        let mut script = format!("table netdev lith {{\n{}", self.comment);
        for (slot, rules) in &self.ingress {
            chain(&mut script, &address::tap_name(*slot), Some(&hook(*slot)), rules);
        }
        _ = write!(script, "}}\ntable inet lith {{\n{}{}", self.comment, self.fixed);
        for (name, limit) in &self.limits {
            _ = writeln!(script, "  limit {name} {{\n    {limit}\n  }}");
        }
        for (name, declaration) in &self.sets {
            _ = writeln!(script, "  set {name} {{ {declaration} }}");
        }
        for (name, rules) in &self.chains {
            chain(&mut script, name, None, rules);
        }
        for kind in kinds() {
            let flags = if kind.is_interval { "\n    flags interval" } else { "" };
            _ = write!(script, "  {} {} {{\n    type {}{flags}\n", kind.noun, kind.name, kind.kind);
            // `nft` refuses an empty list of elements.
            if let Some(elements) = self.elements.get(&kind.name) {
                let elements: Vec<String> = elements.iter().map(|(key, value)| element(key, value)).collect();
                _ = writeln!(script, "    elements = {{\n      {}\n    }}", elements.join(",\n      "));
            }
            script.push_str("  }\n");
        }
        script.push_str("}\n");
        script
    }

    /// The script that makes these rules `wanted` where they are in force as they are here; nothing if they are the same.
    /// `None` where constants differ, so that all must be replaced.
    #[must_use]
    pub fn difference(&self, wanted: &Self) -> Option<String> {
        if (&self.comment, &self.fixed) != (&wanted.comment, &wanted.fixed) {
            return None;
        }
        let mut script = String::new();
        // What is referred to is made before what refers to it, and goes after that.
        self.elements_removed(wanted, &mut script);
        self.ingress_changed(wanted, &mut script);
        self.objects_added(wanted, &mut script);
        self.elements_added(wanted, &mut script);
        self.objects_removed(wanted, &mut script);
        Some(script)
    }

    fn elements_removed(&self, wanted: &Self, script: &mut String) {
        for (set, elements) in &self.elements {
            let others = wanted.elements.get(set);
            let stays = |(key, value): &(&String, &String)| {
                others.and_then(|others| others.get(*key)).is_some_and(|other| other == *value)
            };
            // The value belongs to the element of a map, and is not said here.
            let removed = elements.iter().filter(|element| !stays(element)).map(|(key, _)| key.clone());
            command(script, "delete", set, removed);
        }
    }

    fn elements_added(&self, wanted: &Self, script: &mut String) {
        for (set, elements) in &wanted.elements {
            let others = self.elements.get(set);
            let was_there = |(key, value): &(&String, &String)| {
                others.and_then(|others| others.get(*key)).is_some_and(|other| other == *value)
            };
            let added = elements.iter().filter(|element| !was_there(element));
            command(script, "add", set, added.map(|(key, value)| element(key, value)));
        }
    }

    fn ingress_changed(&self, wanted: &Self, script: &mut String) {
        for slot in self.ingress.keys().filter(|slot| !wanted.ingress.contains_key(slot)) {
            // Kernels before 6.16 remove the chain with its TAP. One that is added here, without a hook, is like nothing.
            let tap = address::tap_name(*slot);
            _ = writeln!(
                script,
                "add chain netdev lith {tap}\nflush chain netdev lith {tap}\ndelete chain netdev lith {tap}"
            );
        }
        for (slot, rules) in &wanted.ingress {
            let tap = address::tap_name(*slot);
            match self.ingress.get(slot) {
                Some(before) if before == rules => continue,
                Some(_) => _ = writeln!(script, "flush chain netdev lith {tap}"),
                None => _ = writeln!(script, "add chain netdev lith {tap} {{ {} }}", hook(*slot)),
            }
            add_rules(script, "netdev", &tap, rules);
        }
    }

    fn objects_added(&self, wanted: &Self, script: &mut String) {
        for (name, declaration) in added(&self.sets, &wanted.sets) {
            _ = writeln!(script, "add set inet lith {name} {{ {declaration} }}");
        }
        for (name, limit) in added(&self.limits, &wanted.limits) {
            _ = writeln!(script, "add limit inet lith {name} {{ {limit}; }}");
        }
        for (name, rules) in added(&self.chains, &wanted.chains) {
            let (hook, rules) = match rules.split_first() {
                Some((hook, rules)) if hook.starts_with("type ") => (format!(" {{ {hook} }}"), rules),
                _ => (String::new(), rules.as_slice()),
            };
            if self.chains.contains_key(name) {
                _ = writeln!(script, "flush chain inet lith {name}");
            } else {
                _ = writeln!(script, "add chain inet lith {name}{hook}");
            }
            add_rules(script, "inet", name, rules);
        }
    }

    fn objects_removed(&self, wanted: &Self, script: &mut String) {
        for name in self.chains.keys().filter(|name| !wanted.chains.contains_key(*name)) {
            _ = writeln!(script, "flush chain inet lith {name}\ndelete chain inet lith {name}");
        }
        for name in self.sets.keys().filter(|name| !wanted.sets.contains_key(*name)) {
            _ = writeln!(script, "delete set inet lith {name}");
        }
        for name in self.limits.keys().filter(|name| !wanted.limits.contains_key(*name)) {
            _ = writeln!(script, "delete limit inet lith {name}");
        }
    }
}

fn hook(slot: Slot) -> String {
    format!("type filter hook ingress device {} priority -500; policy drop;", address::tap_name(slot))
}

fn chain(script: &mut String, name: &str, hook: Option<&str>, rules: &[String]) {
    _ = writeln!(script, "  chain {name} {{");
    for line in hook.into_iter().chain(rules.iter().map(String::as_str)) {
        _ = writeln!(script, "    {line}");
    }
    script.push_str("  }\n");
}

fn add_rules(script: &mut String, family: &str, chain: &str, rules: &[String]) {
    for rule in rules {
        _ = writeln!(script, "add rule {family} lith {chain} {rule}");
    }
}

fn element(key: &str, value: &str) -> String {
    if value.is_empty() { key.to_owned() } else { format!("{key} : {value}") }
}

fn command(script: &mut String, verb: &str, set: &str, elements: impl Iterator<Item = String>) {
    let elements: Vec<String> = elements.collect();
    for part in elements.chunks(ELEMENTS_PER_COMMAND) {
        _ = writeln!(script, "{verb} element inet lith {set} {{ {} }}", part.join(", "));
    }
}

/// What is in `wanted` and is not in `before`, or is another one there.
fn added<'a, V: PartialEq>(
    before: &'a BTreeMap<String, V>,
    wanted: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = (&'a String, &'a V)> {
    wanted.iter().filter(|(name, value)| before.get(*name) != Some(value))
}
