//! Firewalls of others on the machine: what they drop by default is let pass for guests, for what one base chain drops no
//! other can accept.
//!
//! A chain that accepts by default is left alone, and so is every rule of others. Where the default is to drop or to refuse,
//! lith adds rules of its own with the comment `lith`: behind all rules of that chain, so that what somebody has forbidden
//! stays forbidden. They match the guests' interfaces alone, and lith's own rules judge those packets as well: nothing
//! passes that no job declares. They go when the last guest does.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs;

use serde_json::Value;

use crate::address::TAP_PREFIX;
use crate::command::run;
use crate::error::NetworkError;

/// The comment by which lith's rules in others' chains are known.
const MARK: &str = "lith";
/// Keeps its rejecting inside chains that it jumps to, so that only the front of its chains is before all that.
pub(crate) const FIREWALLD: &str = "firewalld";
/// Programs of the packet filter from before nftables, which `nft` does not show.
const LEGACY: [&str; 2] = ["iptables-legacy", "ip6tables-legacy"];

/// A chain: family, table, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chain {
    family: String,
    table: String,
    name: String,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

/// Which packets a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    From,
    To,
}

impl Way {
    /// What a rule matches, and how the older program says it.
    fn key(self) -> (&'static str, &'static str) {
        match self {
            Self::From => ("iifname", "-i"),
            Self::To => ("oifname", "-o"),
        }
    }
}

/// Where in a chain rules are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    First,
    Last,
    /// In front of the rule with this handle, which ends all that comes to it.
    Before(u64),
}

/// A chain that drops what comes to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    chain: Chain,
    place: Place,
    ways: &'static [Way],
    state: State,
}

/// Whether guests pass a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// There are none that would have to.
    Idle,
    /// They do.
    Passed,
    /// They do not.
    Shut,
}

impl Closed {
    /// The table that it is in.
    pub(crate) fn table(&self) -> &str {
        &self.chain.table
    }

    /// Whether guests pass it.
    pub(crate) fn state(&self) -> State {
        self.state
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Chain { family, table, name } = &self.chain;
        write!(f, "chain {name} of table {family} {table}")
    }
}

/// A rule of lith in a chain of others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Ours {
    chain: Chain,
    way: Way,
    handle: u64,
}

/// What a listing of all rules says about others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Others {
    closed: Vec<Closed>,
    ours: Vec<Ours>,
}

/// Lets guests pass where others drop by default, and takes back what is not needed any more.
pub(crate) fn open() -> Result<(), NetworkError> {
    let others = look()?;
    carry_out(&opening(&others))?;
    LEGACY.into_iter().try_for_each(|program| {
        legacy_chains(program).into_iter().try_for_each(|(chain, rules)| open_legacy(program, chain, &rules))
    })
}

/// Takes back all that [`open`] did.
pub(crate) fn close() -> Result<(), NetworkError> {
    let others = look()?;
    carry_out(&others.ours.iter().map(removal).collect::<String>())?;
    LEGACY.into_iter().try_for_each(close_legacy)
}

/// The chains of others that drop what guests send or get, by default.
pub(crate) fn closed() -> Result<Vec<Closed>, NetworkError> {
    Ok(look()?.closed)
}

fn look() -> Result<Others, NetworkError> {
    let purpose = "look at the firewalls of others";
    let listing = run("nft", &["--json", "--terse", "--handle", "list", "ruleset"], "")
        .map_err(|source| NetworkError::Command { purpose, source })?;
    let listing: Value =
        serde_json::from_str(&listing).map_err(|source| NetworkError::Answer { purpose, source })?;
    Ok(read(&listing))
}

fn carry_out(script: &str) -> Result<(), NetworkError> {
    if script.is_empty() {
        return Ok(());
    }
    let done = run("nft", &["-f", "-"], script);
    done.map(drop).map_err(|source| NetworkError::Command { purpose: "pass the firewalls of others", source })
}

/// What to add and to remove.
fn opening(others: &Others) -> String {
    let wanted: BTreeSet<(&Chain, Way)> =
        others.closed.iter().flat_map(|closed| closed.ways.iter().map(|way| (&closed.chain, *way))).collect();
    let mut present = BTreeSet::new();
    let mut script = String::new();
    for ours in &others.ours {
        let is_needed = wanted.contains(&(&ours.chain, ours.way)) && present.insert((&ours.chain, ours.way));
        if !is_needed {
            script.push_str(&removal(ours));
        }
    }
    for Closed { chain, place, ways, .. } in &others.closed {
        for way in ways.iter().filter(|way| !present.contains(&(chain, **way))) {
            let (verb, at) = match place {
                Place::First => ("insert", String::new()),
                Place::Last => ("add", String::new()),
                Place::Before(handle) => ("insert", format!(" handle {handle}")),
            };
            let (key, _) = way.key();
            _ = writeln!(
                script,
                "{verb} rule {chain}{at} {key} \"{TAP_PREFIX}*\" counter accept comment \"{MARK}\""
            );
        }
    }
    script
}

fn removal(ours: &Ours) -> String {
    format!("delete rule {} handle {}\n", ours.chain, ours.handle)
}

/// Reads a listing of all rules as `nft --json` writes it.
fn read(listing: &Value) -> Others {
    let entries = listing.get("nftables").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let rules: Vec<(Chain, &Value)> = entries
        .iter()
        .filter_map(|entry| entry.get("rule"))
        .filter_map(|rule| Some((chain_of(rule, "chain")?, rule)))
        .collect();
    let ours: Vec<Ours> = rules.iter().filter_map(|(chain, rule)| own(chain, rule)).collect();
    let is_running = entries.iter().filter_map(|entry| entry.get("table")).any(is_lith);
    let closed = entries.iter().filter_map(|entry| entry.get("chain")).filter_map(|base| {
        let (chain, ways) = (chain_of(base, "name")?, ways(base)?);
        let mut theirs = rules.iter().filter(|(of, rule)| *of == chain && own(of, rule).is_none());
        let place = match theirs.next_back().and_then(|(_, rule)| ending(rule)) {
            _ if chain.table == FIREWALLD => Place::First,
            Some(handle) => Place::Before(handle),
            None if text(base, "policy") == Some("drop") => Place::Last,
            None => return None,
        };
        let is_passed =
            ways.iter().all(|way| ours.iter().any(|ours| ours.chain == chain && ours.way == *way));
        let state = match (is_running, is_passed) {
            (false, _) => State::Idle,
            (true, true) => State::Passed,
            (true, false) => State::Shut,
        };
        Some(Closed { chain, place, ways, state })
    });
    Others { closed: closed.collect(), ours }
}

fn is_lith(table: &Value) -> bool {
    text(table, "family") == Some("inet") && text(table, "name") == Some("lith")
}

/// What a base chain decides of that concerns guests: nothing unless it is at the right hook, and somebody else's.
fn ways(chain: &Value) -> Option<&'static [Way]> {
    let is_routed = ["ip", "ip6", "inet"].contains(&text(chain, "family")?);
    if !is_routed || text(chain, "table")? == "lith" || text(chain, "type")? != "filter" {
        return None;
    }
    match text(chain, "hook")? {
        "forward" => Some(&[Way::From, Way::To]),
        // Questions for names.
        "input" => Some(&[Way::From]),
        "output" => Some(&[Way::To]),
        _ => None,
    }
}

fn chain_of(entry: &Value, name: &str) -> Option<Chain> {
    let part = |key| text(entry, key).filter(|part| is_plain(part)).map(str::to_owned);
    Some(Chain { family: part("family")?, table: part("table")?, name: part(name)? })
}

/// Whether a name can stand in a script as it is. Others have strange ones; they are left alone.
fn is_plain(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    !name.is_empty() && name.bytes().all(is_plain)
}

/// The rule as one of lith's, if it is.
fn own(chain: &Chain, rule: &Value) -> Option<Ours> {
    if chain.table == "lith" || text(rule, "comment") != Some(MARK) {
        return None;
    }
    let expressions = rule.get("expr")?.as_array()?;
    let key = expressions.iter().find_map(|one| one.pointer("/match/left/meta/key")?.as_str())?;
    let way = [Way::From, Way::To].into_iter().find(|way| way.key().0 == key)?;
    Some(Ours { chain: chain.clone(), way, handle: rule.get("handle")?.as_u64()? })
}

/// The handle of a rule that drops or refuses whatever comes to it.
fn ending(rule: &Value) -> Option<u64> {
    let expressions = rule.get("expr")?.as_array()?;
    let (last, before) = expressions.split_last()?;
    let is_counting = |one: &Value| ["counter", "log"].iter().any(|key| one.get(key).is_some());
    let is_target = |name: &str| last.pointer("/xt/name").and_then(Value::as_str) == Some(name);
    let ends = last.get("drop").is_some()
        || last.get("reject").is_some()
        || is_target("REJECT")
        || is_target("DROP");
    (ends && before.iter().all(is_counting)).then(|| rule.get("handle")?.as_u64()).flatten()
}

fn text<'a>(entry: &'a Value, key: &str) -> Option<&'a str> {
    entry.get(key)?.as_str()
}

/// The chains of the older filter, with their rules; none where nobody uses it.
fn legacy_chains(program: &'static str) -> Vec<(&'static str, Vec<String>)> {
    // Asking for it would load it.
    let file = if program.starts_with("ip6") { "ip6_tables_names" } else { "ip_tables_names" };
    let tables = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
    if !tables.lines().any(|table| table == "filter") {
        return vec![];
    }
    let rules_of = |chain: &'static str| {
        let rules = run(program, &["-S", chain], "").ok()?;
        let rules: Vec<String> = rules.lines().map(str::to_owned).collect();
        Some((chain, rules))
    };
    ["FORWARD", "INPUT", "OUTPUT"].into_iter().filter_map(rules_of).collect()
}

/// The arguments of the rules that a chain of the older filter should have.
fn legacy_rules(chain: &'static str) -> impl Iterator<Item = String> {
    let ways: &[Way] = match chain {
        "FORWARD" => &[Way::From, Way::To],
        "INPUT" => &[Way::From],
        _ => &[Way::To],
    };
    ways.iter().map(move |way| {
        let (_, flag) = way.key();
        format!("{chain} {flag} {TAP_PREFIX}+ -m comment --comment {MARK} -j ACCEPT")
    })
}

fn open_legacy(program: &'static str, chain: &'static str, rules: &[String]) -> Result<(), NetworkError> {
    let is_closed = rules.iter().any(|rule| *rule == format!("-P {chain} DROP"));
    let present = |rule: &String| rules.iter().any(|line| *line == format!("-A {rule}"));
    for rule in legacy_rules(chain).filter(|rule| present(rule) != is_closed) {
        change_legacy(program, if is_closed { "-A" } else { "-D" }, &rule)?;
    }
    Ok(())
}

fn close_legacy(program: &'static str) -> Result<(), NetworkError> {
    for (chain, rules) in legacy_chains(program) {
        for rule in legacy_rules(chain).filter(|rule| rules.contains(&format!("-A {rule}"))) {
            change_legacy(program, "-D", &rule)?;
        }
    }
    Ok(())
}

fn change_legacy(program: &'static str, change: &str, rule: &str) -> Result<(), NetworkError> {
    let arguments: Vec<&str> = [change].into_iter().chain(rule.split(' ')).collect();
    let done = run(program, &arguments, "");
    done.map(drop).map_err(|source| NetworkError::Command { purpose: "pass the firewalls of others", source })
}

#[cfg(test)]
mod tests;
