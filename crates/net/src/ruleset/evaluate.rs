//! A small evaluator: what the text of a model does with a packet. It knows of `nft` what the rules use of it, and fails on
//! everything else.
//!
//! Limits are never reached. Must not know what the rules are for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lith_core::egress::holds;

use super::Model;
use crate::address::{self, Family, MacAddress, slot_of_tap};

/// A packet as it arrives, the first of a connection unless said otherwise.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) device: String,
    pub(super) mac: MacAddress,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// `tcp`, `udp`, or `icmp` for an echo request of either family.
    pub(super) protocol: &'static str,
    pub(super) port: u16,
}

/// Where a packet comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Dropped,
    /// As what may not be.
    Refused,
    /// As where nobody answers.
    Unanswered,
    /// To a socket of the host.
    Host(IpAddr, u16),
    /// Out of a device, with these addresses and this port.
    Sent {
        device: String,
        source: IpAddr,
        destination: IpAddr,
        port: u16,
    },
}

/// What happens next.
enum Step {
    Next,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    Rewrite(IpAddr, Option<u16>),
    Refuse,
    Unanswered,
}

/// A packet on its way, with what connection tracking knows of it.
struct Way<'a> {
    packet: Packet,
    out: Option<String>,
    state: &'static str,
    direction: &'static str,
    is_redirected: bool,
    original: &'a Packet,
    reply_source: IpAddr,
}

/// A machine with these rules.
pub(super) struct Machine<'a> {
    model: &'a Model,
    /// Constant sets.
    sets: BTreeMap<String, Vec<String>>,
    /// Rules, after a line that says where the chain is hooked in if it is.
    chains: BTreeMap<String, Vec<String>>,
    pub(super) local: BTreeSet<IpAddr>,
    /// The guests by address.
    pub(super) guests: BTreeMap<IpAddr, String>,
    /// Which instance comes next.
    pub(super) turn: usize,
}

/// Where everything else is.
pub(super) const CABLE: &str = "lan0";

impl<'a> Machine<'a> {
    pub(super) fn new(model: &'a Model, local: BTreeSet<IpAddr>, guests: BTreeMap<IpAddr, String>) -> Self {
        let (mut sets, mut chains) = (BTreeMap::new(), model.chains.clone());
        let mut within = None;
        for line in model.fixed.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["set" | "chain", name, "{"] => within = Some((words[0], (*name).to_owned())),
                ["}"] => within = None,
                ["elements", "=", "{", elements @ .., "}"] => {
                    let (_, name) = within.clone().unwrap();
                    let elements = elements.iter().map(|element| element.trim_end_matches(',').to_owned());
                    sets.insert(name, elements.collect());
                }
                _ => {
                    if let Some(("chain", name)) = &within {
                        chains.entry(name.clone()).or_default().push(line.trim().to_owned());
                    }
                }
            }
        }
        Self { model, sets, chains, local, guests, turn: 0 }
    }

    /// What becomes of a first packet.
    pub(super) fn send(&self, packet: &Packet) -> Fate {
        if let Some(slot) = slot_of_tap(&packet.device) {
            let way = Way::new(packet);
            let rules = self.model.ingress.get(&slot).map_or(&[][..], Vec::as_slice);
            if !rules.iter().any(|rule| matches!(self.rule(&way, rule), Step::Accept)) {
                return Fate::Dropped;
            }
        }
        self.pass(Way::new(packet))
    }

    /// What becomes of an answer to a first packet that was sent, from where it was sent to.
    pub(super) fn answer(&self, packet: &Packet, sent: &Fate) -> Fate {
        let (device, source, port) = match sent {
            Fate::Sent { device, destination, port, .. } => (device.clone(), *destination, *port),
            Fate::Host(address, port) => (String::new(), *address, *port),
            Fate::Dropped | Fate::Refused | Fate::Unanswered => panic!("nobody answers to {packet:?}"),
        };
        let is_redirected = (packet.destination, packet.port) != (source, port);
        let answer = Packet { device, source, destination: packet.source, port: 0, ..packet.clone() };
        self.pass(Way {
            out: None,
            state: "established",
            direction: "reply",
            is_redirected,
            original: packet,
            reply_source: source,
            packet: answer,
        })
    }

    fn pass(&self, mut way: Way<'_>) -> Fate {
        let is_from_host = way.packet.device.is_empty();
        if !is_from_host && let Some(fate) = self.hook("prerouting", &mut way) {
            return fate;
        }
        let to = way.packet.destination;
        if self.local.contains(&to) {
            return self.hook("input", &mut way).unwrap_or(Fate::Host(to, way.packet.port));
        }
        way.out = Some(self.guests.get(&to).map_or(CABLE, String::as_str).to_owned());
        if let Some(fate) = self.hook(if is_from_host { "output" } else { "forward" }, &mut way) {
            return fate;
        }
        if let Some(fate) = self.hook("postrouting", &mut way) {
            return fate;
        }
        let Packet { source, destination, port, .. } = way.packet;
        Fate::Sent { device: way.out.unwrap_or_default(), source, destination, port }
    }

    /// Through all chains of a hook, in their order.
    fn hook(&self, hook: &str, way: &mut Way<'_>) -> Option<Fate> {
        let mut chains = Vec::new();
        for (name, rules) in &self.chains {
            let Some(place) = rules.first().and_then(|rule| rule.strip_prefix("type ")) else { continue };
            let words: Vec<&str> = place.split([' ', ';']).collect();
            let [kind, "hook", at, "priority", priority, ..] = words.as_slice() else { panic!("{place}") };
            let priority = match *priority {
                "raw" => -300,
                "dstnat" => -100,
                "filter" => 0,
                "srcnat" => 100,
                number => number.parse().unwrap(),
            };
            // Only the first packet of a connection is translated.
            if *at == hook && !(*kind == "nat" && way.state != "new") {
                chains.push((priority, name));
            }
        }
        chains.sort();
        for (_, name) in chains {
            match self.chain(way, name) {
                Step::Drop => return Some(Fate::Dropped),
                Step::Refuse => return Some(Fate::Refused),
                Step::Unanswered => return Some(Fate::Unanswered),
                Step::Rewrite(address, port) if hook == "prerouting" => {
                    way.packet.destination = address;
                    way.packet.port = port.unwrap_or(way.packet.port);
                    way.reply_source = address;
                    way.is_redirected = true;
                }
                Step::Rewrite(address, _) => way.packet.source = address,
                _ => {}
            }
        }
        None
    }

    fn chain(&self, way: &Way<'_>, name: &str) -> Step {
        let rules = self.chains.get(name).unwrap_or_else(|| panic!("no chain {name}"));
        for rule in rules.iter().filter(|rule| !rule.starts_with("type ")) {
            match self.rule(way, rule) {
                Step::Next => {}
                Step::Return => return Step::Return,
                Step::Jump(to) => match self.chain(way, &to) {
                    Step::Next | Step::Return => {}
                    step => return step,
                },
                Step::Goto(to) => return self.chain(way, &to),
                step => return step,
            }
        }
        Step::Return
    }

    fn rule(&self, way: &Way<'_>, rule: &str) -> Step {
        let words: Vec<&str> = rule.split_whitespace().collect();
        let mut rest = words.as_slice();
        loop {
            match rest {
                [] | ["limit" | "add" | "log", ..] => return Step::Next,
                ["accept"] => return Step::Accept,
                ["drop"] => return Step::Drop,
                ["return"] => return Step::Return,
                ["jump", name] => return Step::Jump((*name).to_owned()),
                ["goto", name] => return Step::Goto((*name).to_owned()),
                ["masquerade"] => {
                    let family = Family::of(way.packet.source);
                    let own = self.local.iter().find(|own| Family::of(**own) == family && !own.is_loopback());
                    return Step::Rewrite(*own.unwrap(), None);
                }
                ["reject", "with", "icmpx", "type", "admin-prohibited"] => return Step::Refuse,
                ["reject", ..] => return Step::Unanswered,
                ["dnat" | "snat", family, "to", to @ ..] => {
                    if (*family == "ip6") != way.packet.destination.is_ipv6() {
                        return Step::Next;
                    }
                    return self.translation(way, to);
                }
                _ => match self.holds(way, rest) {
                    Ok(more) => rest = more,
                    Err(step) => return step,
                },
            }
        }
    }

    fn translation(&self, way: &Way<'_>, to: &[&str]) -> Step {
        if let ["numgen", "inc", "mod", count, "map", "{", places @ .., "}"] = to {
            let at = (self.turn % count.parse::<usize>().unwrap()).to_string();
            let place = places.chunks(3).find(|place| place[0] == at).unwrap();
            return Step::Rewrite(place[2].trim_end_matches(',').parse().unwrap(), None);
        }
        if let [literal] = to {
            let socket: Result<std::net::SocketAddr, _> = literal.parse();
            return match socket {
                Ok(socket) => Step::Rewrite(socket.ip(), Some(socket.port())),
                Err(_) => Step::Rewrite(literal.trim_matches(['[', ']']).parse().unwrap(), None),
            };
        }
        let (Some(key), ["map", map]) = self.fields(way, to) else { return Step::Next };
        match self.lookup(map, &key) {
            None => Step::Next,
            Some(value) => match value.split_once(" . ") {
                Some((address, port)) => Step::Rewrite(address.parse().unwrap(), Some(port.parse().unwrap())),
                None => Step::Rewrite(value.parse().unwrap(), None),
            },
        }
    }

    /// What follows a match that holds; else what to do instead.
    fn holds<'b>(&self, way: &Way<'_>, words: &'b [&'b str]) -> Result<&'b [&'b str], Step> {
        let (key, rest) = self.fields(way, words);
        let (is_negated, rest) = match rest {
            ["!=", rest @ ..] => (true, rest),
            // Of bits: here those that a connection has from its second packet on.
            ["&", bit, "!=", same, rest @ ..] if bit == same => {
                let has = match *bit {
                    "confirmed" => way.state != "new",
                    "dnat" => way.is_redirected,
                    other => panic!("{other}"),
                };
                return if has { Err(Step::Next) } else { Ok(rest) };
            }
            rest => (false, rest),
        };
        // What a packet does not have is neither equal nor unequal to anything.
        let (is_held, rest) = match rest {
            ["vmap", map, ..] => {
                let verdict = key.and_then(|key| self.lookup(map, &key)).ok_or(Step::Next)?;
                return Err(match verdict.split_once(' ') {
                    Some(("goto", name)) => Step::Goto(name.to_owned()),
                    Some(("jump", name)) => Step::Jump(name.to_owned()),
                    _ => panic!("{verdict}"),
                });
            }
            [set, rest @ ..] if set.starts_with('@') => {
                (key.map(|key| self.lookup(set, &key).is_some()), rest)
            }
            ["{", rest @ ..] => {
                let end = rest.iter().position(|word| *word == "}").unwrap();
                let is_in = |key: Vec<String>| {
                    rest[..end].iter().any(|word| matches(word.trim_end_matches(','), &key[0]))
                };
                (key.map(is_in), &rest[end + 1..])
            }
            [values, rest @ ..] => {
                let is_in = |key: Vec<String>| values.split(',').any(|value| matches(value, &key[0]));
                (key.map(is_in), rest)
            }
            [] => panic!("{words:?}"),
        };
        if is_held.is_some_and(|is_held| is_held != is_negated) { Ok(rest) } else { Err(Step::Next) }
    }

    /// Fields with dots between them, and what follows. `None` when the packet lacks one.
    fn fields<'b>(&self, way: &Way<'_>, words: &'b [&'b str]) -> (Option<Vec<String>>, &'b [&'b str]) {
        let (first, mut rest) = self.field(way, words);
        let mut key = first.map(|first| vec![first]);
        while let [".", more @ ..] = rest {
            let (next, after) = self.field(way, more);
            key = key.zip(next).map(|(key, next)| [key, vec![next]].concat());
            rest = after;
        }
        (key, rest)
    }

    fn field<'b>(&self, way: &Way<'_>, words: &'b [&'b str]) -> (Option<String>, &'b [&'b str]) {
        let Packet { device, mac, source, destination, protocol, port } = &way.packet;
        let of = |family: &str, address: IpAddr| {
            ((family == "ip6") == address.is_ipv6()).then(|| address.to_string())
        };
        let is_v6 = destination.is_ipv6();
        let protocol_name = if *protocol == "icmp" && is_v6 { "ipv6-icmp" } else { protocol };
        let name = |name: &str| format!("\"{name}\"");
        match words {
            ["iifname", rest @ ..] => (Some(name(device)), rest),
            ["oifname", rest @ ..] => (way.out.as_deref().map(name), rest),
            [family @ ("ip" | "ip6"), "saddr", rest @ ..] => (of(family, *source), rest),
            [family @ ("ip" | "ip6"), "daddr", rest @ ..] => (of(family, *destination), rest),
            ["meta", "l4proto", rest @ ..] => (Some(protocol_name.to_owned()), rest),
            ["meta", "nfproto", rest @ ..] => (Some((if is_v6 { "ipv6" } else { "ipv4" }).to_owned()), rest),
            // Nobody but root would be let through without a reason.
            ["meta", "skuid", rest @ ..] => (Some("1000".to_owned()), rest),
            ["th", "dport", rest @ ..] => (Some(port.to_string()), rest),
            ["ether", "type", rest @ ..] => (Some((if is_v6 { "ip6" } else { "ip" }).to_owned()), rest),
            ["ether", "saddr", rest @ ..] => (Some(mac.to_string()), rest),
            [icmp @ ("icmp" | "icmpv6"), "type", rest @ ..] => {
                let has = *protocol == "icmp" && (*icmp == "icmpv6") == is_v6;
                (has.then(|| "echo-request".to_owned()), rest)
            }
            ["fib", "daddr", "type", rest @ ..] => (Some(self.kind(*destination).to_owned()), rest),
            ["ct", "state", rest @ ..] => (Some(way.state.to_owned()), rest),
            ["ct", "direction", rest @ ..] => (Some(way.direction.to_owned()), rest),
            ["ct", "status", rest @ ..] => {
                (Some((if way.is_redirected { "dnat" } else { "none" }).to_owned()), rest)
            }
            ["ct", "original", "proto-dst", rest @ ..] => (Some(way.original.port.to_string()), rest),
            ["ct", "original", family, "saddr", rest @ ..] => (of(family, way.original.source), rest),
            ["ct", "original", family, "daddr", rest @ ..] => (of(family, way.original.destination), rest),
            ["ct", "reply", family, "saddr", rest @ ..] => (of(family, way.reply_source), rest),
            other => panic!("unknown: {other:?}"),
        }
    }

    fn kind(&self, address: IpAddr) -> &'static str {
        match address {
            _ if self.local.contains(&address) => "local",
            _ if address.is_multicast() => "multicast",
            IpAddr::V4(address) if address.is_broadcast() => "broadcast",
            _ => "unicast",
        }
    }

    /// What an element leads to, in a map; nothing in a set.
    fn lookup(&self, set: &str, key: &[String]) -> Option<&str> {
        let set = set.strip_prefix('@').unwrap();
        let fits = |element: &str| {
            let fields: Vec<&str> = element.split(" . ").collect();
            fields.len() == key.len() && fields.iter().zip(key).all(|(field, value)| matches(field, value))
        };
        if let Some(constants) = self.sets.get(set) {
            return constants.iter().any(|element| fits(element)).then_some("");
        }
        let elements = self.model.elements.get(set)?;
        elements.iter().find(|(element, _)| fits(element)).map(|(_, value)| value.as_str())
    }
}

impl<'a> Way<'a> {
    fn new(packet: &'a Packet) -> Self {
        Self {
            packet: packet.clone(),
            out: None,
            state: "new",
            direction: "original",
            is_redirected: false,
            original: packet,
            reply_source: packet.destination,
        }
    }
}

/// Whether a literal, which may be a range or the beginning of a name, has a value in it.
fn matches(literal: &str, value: &str) -> bool {
    if let Some(beginning) = literal.strip_suffix("*\"") {
        return value.starts_with(beginning);
    }
    if let (Some((first, prefix)), Ok(address)) = (literal.split_once('/'), value.parse()) {
        return holds((first.parse().unwrap(), prefix.parse().unwrap()), address);
    }
    if let (Some((first, last)), Ok(number)) = (literal.split_once('-'), value.parse::<u16>()) {
        return (first.parse().unwrap()..=last.parse().unwrap()).contains(&number);
    }
    literal == value
}

/// The device of a guest.
pub(super) fn device(slot: lith_core::slot::Slot) -> String {
    address::tap_name(slot)
}
