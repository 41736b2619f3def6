//! What in a file speaks for a connection between two services.
//!
//! Owns the search for names of services in texts: as whole words, where a host can stand. Must not know what a connection
//! is good for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::compose::project::{HealthTest, Service};

/// Ends of the names of variables that hold where a service is, beside which one that ends in `PORT` holds its port.
const HOST_ENDS: [&str; 6] = ["HOSTNAME", "HOST", "SERVER", "ADDRESS", "ADDR", "ENDPOINT"];
/// Most digits of a port.
const PORT_DIGITS_MAX: usize = 5;
/// Most pieces of evidence that are kept for one connection: a list is read, not searched.
const EVIDENCE_MAX: usize = 8;

/// Something that speaks for a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Evidence {
    /// `depends_on`.
    DependsOn,
    /// `links`.
    Link,
    /// The value of this variable.
    Environment(String),
    /// `command`.
    Command,
    /// `entrypoint`.
    Entrypoint,
    /// `healthcheck`.
    Healthcheck,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DependsOn => f.write_str("depends_on"),
            Self::Link => f.write_str("links"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Command => f.write_str("command"),
            Self::Entrypoint => f.write_str("entrypoint"),
            Self::Healthcheck => f.write_str("healthcheck"),
        }
    }
}

/// What a service says about one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) evidence: BTreeSet<Evidence>,
    /// Ports that are named with it.
    pub(super) ports: BTreeSet<u16>,
    /// Whether it is also named without a port.
    pub(super) is_bare: bool,
}

/// What a service says about each of the names, which are in lower case.
pub(super) fn uses(service: &Service, names: &BTreeSet<String>) -> HashMap<String, Use> {
    let mut found = Found { names, uses: HashMap::new() };
    for (variable, text) in &service.environment {
        let port = beside(variable).and_then(|other| service.environment.get(&other));
        let port = port.and_then(|port| port.value.trim().parse().ok()).filter(|port| *port != 0);
        let place = if found.is_list(&text.value) { Place::Words } else { Place::Value };
        found.text(&text.value, place, port, || Evidence::Environment(variable.clone()));
    }
    for (words, evidence) in
        [(&service.command, Evidence::Command), (&service.entrypoint, Evidence::Entrypoint)]
    {
        for word in words.iter().flat_map(|words| &words.value) {
            found.text(word, Place::Words, None, || evidence.clone());
        }
    }
    match service.healthcheck.as_ref().map(|check| &check.value.test) {
        Some(HealthTest::Command(words)) => {
            for word in words {
                found.text(word, Place::Words, None, || Evidence::Healthcheck);
            }
        }
        Some(HealthTest::Shell(line)) => found.text(line, Place::Words, None, || Evidence::Healthcheck),
        Some(HealthTest::Off | HealthTest::OfTheImage) | None => {}
    }
    found.uses
}

/// The variable that holds the port when this one holds the host.
fn beside(variable: &str) -> Option<String> {
    let end = HOST_ENDS.iter().find(|end| variable.ends_with(**end))?;
    Some(format!("{}PORT", variable.strip_suffix(end)?))
}

struct Found<'a> {
    names: &'a BTreeSet<String>,
    uses: HashMap<String, Use>,
}

/// Where in a text a name can be that of a host, beside addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The text as a whole, and what stands behind `=` or within quotes in it. Other words may be prose.
    Value,
    /// Each word: of a command, or of a list of hosts.
    Words,
}

impl Found<'_> {
    /// Looks at each word of a text; `beside` is the port of a name that has none in the text.
    fn text(&mut self, text: &str, place: Place, beside: Option<u16>, evidence: impl Fn() -> Evidence) {
        let text = text.trim();
        let mut end = 0;
        while let Some(start) = text[end..].find(is_part).map(|start| end + start) {
            end = text[start..].find(|c: char| !is_part(c)).map_or(text.len(), |length| start + length);
            let (before, word, after) = (&text[..start], &text[start..end], &text[end..]);
            // What begins with a dash is an option of a program.
            let name = word.trim_matches('.').to_lowercase();
            if !self.names.contains(&name) || !is_host(before, after, place) {
                continue;
            }
            let found = self.uses.entry(name).or_default();
            if found.evidence.len() < EVIDENCE_MAX {
                found.evidence.insert(evidence());
            }
            match port(after).or(beside) {
                Some(port) => {
                    found.ports.insert(port);
                }
                None => found.is_bare = true,
            }
        }
    }

    /// Whether every word of a text is a host: prose has others, too.
    fn is_list(&self, text: &str) -> bool {
        let is_one = |word: &str| {
            let bare = word.trim_matches('.').to_lowercase();
            bare == "localhost" || bare.contains(['.', ':']) || self.names.contains(&bare)
        };
        text.split([' ', ',', ';']).filter(|word| !word.is_empty()).all(is_one)
    }
}

fn is_part(character: char) -> bool {
    character.is_alphanumeric() || "_-.".contains(character)
}

/// Whether a host stands between these two texts.
fn is_host(before: &str, after: &str, place: Place) -> bool {
    let authority = after.split(|c: char| c.is_whitespace() || "/?#,\"'".contains(c)).next();
    if authority.is_some_and(|authority| authority.contains('@')) {
        // A user, whose name or password it is.
        return false;
    }
    if port(after).is_some() || before.ends_with("://") || before.ends_with('@') {
        return true;
    }
    let ends = after.is_empty() || after.starts_with(|c: char| c.is_whitespace() || "/,;&|)\"'".contains(c));
    match (before.chars().next_back(), place) {
        (None, Place::Value) => after.is_empty() || after.starts_with(['/', '?', '|']),
        (Some('=' | '"' | '\''), _) | (None, Place::Words) => ends,
        (Some(last), Place::Words) => ends && (last.is_whitespace() || ",;&|(".contains(last)),
        (Some(_), Place::Value) => false,
    }
}

/// The port behind a name: a colon and a number.
fn port(after: &str) -> Option<u16> {
    let digits = after.strip_prefix(':')?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let is_number =
        end <= PORT_DIGITS_MAX && !digits[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    digits.get(..end).filter(|_| is_number)?.parse().ok().filter(|port| *port != 0)
}

/// Evidence of which there is the most, in order.
pub(super) fn merge(
    service: &Service,
    target: &Service,
    names: &[String],
    uses: &HashMap<String, Use>,
) -> Use {
    let mut merged = Use::default();
    if service.depends_on.iter().any(|dependency| dependency.value.service == target.name.value) {
        merged.evidence.insert(Evidence::DependsOn);
    }
    if service.links.iter().any(|link| link.value.0 == target.name.value) {
        merged.evidence.insert(Evidence::Link);
    }
    for found in names.iter().filter_map(|name| uses.get(&name.to_lowercase())) {
        merged.evidence.extend(found.evidence.iter().cloned());
        merged.ports.extend(&found.ports);
        merged.is_bare |= found.is_bare;
    }
    merged
}

/// What a name is called for, by name: which services use it with which ports.
pub(super) type UsesOf<'a> = BTreeMap<&'a str, HashMap<String, Use>>;
