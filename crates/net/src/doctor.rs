//! What this machine offers guest networking, and what would break it, in sentences for a person.
//!
//! Looks only; the trial of the packet filter happens in a network namespace that ends with it.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::net::IpAddr;
use std::time::Duration;

use lith_core::connect::{Grant, Reach};
use lith_core::job::access::{BANDWIDTH_MAX, Egress};
use lith_core::job::{Port, Transport};
use lith_core::service::ServiceNumber;
use lith_core::slot::Slot;

use crate::address::{self, GuestNetwork};
use crate::command::{CommandError, run};
use crate::interface::{self, Route};
use crate::opened::{self, Opened};
use crate::ruleset::{self, Surroundings};
use crate::state::{Guest, NetworkState, Redirect, Service};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Guests run, but something may not be reached.
    Warning,
    /// Guests cannot be started.
    Failure,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was found, one sentence, lower case, no full stop.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    fn good(text: String) -> Self {
        Self { severity: Severity::Good, text, hint: None }
    }

    fn warning(text: String, hint: String) -> Self {
        Self { severity: Severity::Warning, text, hint: Some(hint) }
    }

    fn failure(text: String, hint: Option<String>) -> Self {
        Self { severity: Severity::Failure, text, hint }
    }
}

/// Looks at everything. Needs root. Takes some tens of milliseconds.
#[must_use]
pub fn examine(network: GuestNetwork) -> Vec<Finding> {
    let mut findings = vec![version("nft", "--version"), version("ip", "-V"), tun(), trial(network)];
    match interface::routes() {
        Ok(routes) => findings.extend(conflicts(network, &routes)),
        Err(error) => {
            findings.push(Finding::failure(format!("the routes cannot be read: {error}"), error.hint()))
        }
    }
    findings.extend(hindrances());
    findings
}

/// What keeps clients from reaching published ports, though guests run.
#[must_use]
pub fn hindrances() -> Vec<Finding> {
    let mut findings = match run("nft", &["-t", "list", "ruleset"], "") {
        Ok(ruleset) => firewalls(&ruleset),
        Err(error) => vec![Finding::failure(error.to_string(), error.hint())],
    };
    findings.extend(legacy_firewall());
    findings
}

fn version(program: &'static str, argument: &str) -> Finding {
    match run(program, &[argument], "") {
        Ok(output) => Finding::good(output.trim().to_owned()),
        Err(error) => Finding::failure(format!("{program} does not run: {error}"), error.hint()),
    }
}

fn tun() -> Finding {
    match OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Finding::good("/dev/net/tun opens".into()),
        Err(error) => Finding::failure(
            format!("/dev/net/tun does not open: {error}"),
            Some("run as root, with the kernel module: modprobe tun".into()),
        ),
    }
}

/// Puts a state with everything in it in force in a network namespace of its own.
fn trial(network: GuestNetwork) -> Finding {
    let tried = trial_script(network).map(|(taps, script)| {
        let create = |tap: &String| format!("ip tuntap add dev {tap} mode tap vnet_hdr && ");
        let commands = format!("{}exec nft -f -", taps.iter().map(create).collect::<String>());
        run("unshare", &["--net", "sh", "-c", &commands], &script)
    });
    match tried {
        Some(Ok(_)) => Finding::good("the kernel takes the packet filter".into()),
        Some(Err(error)) => {
            let hint = match &error {
                CommandError::Failed { .. } => Some(
                    "the kernel needs tun, nf_tables with nat, masq, numgen, fib, reject, limit, connlimit, log and netdev ingress, and nft 1.0.6 or newer".into(),
                ),
                _ => error.hint(),
            };
            Finding::failure(format!("the kernel does not take the packet filter: {error}"), hint)
        }
        None => Finding::failure("the packet filter cannot be tried".into(), None),
    }
}

fn trial_script(network: GuestNetwork) -> Option<(Vec<String>, String)> {
    let slot = Slot::new(1)?;
    let (other, third) = (Slot::new(2)?, Slot::new(3)?);
    let publish =
        |address, count, transport| Redirect { address, host_port: 1, guest_port: 1, count, transport };
    let gateways = [None, Some(address::GATEWAY.into()), Some(address::GATEWAY_6.into())];
    let publishes = gateways
        .into_iter()
        .zip([Transport::Tcp, Transport::Udp, Transport::Udp])
        .flat_map(|(address, transport)| {
            let range = Redirect { host_port: 2, guest_port: 2, ..publish(address, 2, transport) };
            [publish(address, 1, transport), range]
        })
        .collect();
    let port = |number, last| Port { number, last, transport: Transport::Tcp };
    let grant = |target, number, last| Grant { target, reach: Reach::Ports(port(number, last)) };
    let gone = Slot::new(4)?;
    let connects = vec![
        grant(other, 1, 1),
        grant(other, 3, 4),
        grant(third, 1, 1),
        grant(gone, 1, 1),
        grant(gone, 3, 4),
    ];
    let services: Vec<ServiceNumber> = (1..=3).filter_map(ServiceNumber::new).collect();
    let instances = [vec![other], vec![other, third], vec![]];
    let network_of = |address: IpAddr, port| Egress::Network { address, prefix: 16, port };
    let egress = vec![
        Egress::Internet,
        Egress::Name { name: "example.org".to_owned(), port: None },
        network_of(address::GATEWAY.into(), None),
        network_of(address::GATEWAY_6.into(), Some(port(1, 2))),
    ];
    let state = NetworkState {
        network,
        guests: vec![
            Guest {
                publishes,
                connects,
                services: services.clone(),
                egress,
                bandwidth: Some(BANDWIDTH_MAX),
                slot,
            },
            Guest::closed(other),
            Guest::closed(third),
        ],
        services: services
            .into_iter()
            .zip(instances)
            .map(|(number, instances)| Service { number, instances })
            .collect(),
        resolver: Some(5353),
    };
    let eth0 = BTreeSet::from(["eth0".to_owned()]);
    let surroundings = Surroundings {
        switched: eth0.clone(),
        switched_6: eth0,
        attached: [(address::GATEWAY.into(), 24), (address::GATEWAY_6.into(), 64)].into(),
    };
    let mut script = ruleset::script(&state, "doctor", &surroundings).ok()?;
    let lifetime = Duration::from_secs(1);
    let opened = |address| Opened { slot, address, port: Some(port(1, 1)), lifetime };
    script.push_str(&opened::script(
        &[opened(address::GATEWAY.into()), opened(address::GATEWAY_6.into())],
        |_| true,
    ));
    let taps = [slot, other, third].map(address::tap_name).to_vec();
    Some((taps, script))
}

/// Routes of others into the guests' range.
fn conflicts(network: GuestNetwork, routes: &[Route]) -> Vec<Finding> {
    let is_foreign = |route: &&Route| address::slot_of_tap(&route.device).is_none();
    let overlapping =
        routes.iter().filter(is_foreign).filter(|route| network.overlaps(route.address, route.bits));
    let found: Vec<Finding> = overlapping
        .map(|Route { address, bits, device }| {
            let through = if device.is_empty() { String::new() } else { format!(" through {device}") };
            Finding::warning(
                format!("the route to {address}/{bits}{through} overlaps the guests' range {network}"),
                "give lith another private /16 that nobody here uses".into(),
            )
        })
        .collect();
    if found.is_empty() { vec![Finding::good(format!("nobody else uses {network}"))] } else { found }
}

/// Chains of others that forwarded packets have to pass too: accepting in one table does not overrule a drop in another.
/// A table that speaks of lith's interfaces was told about them by somebody.
fn firewalls(ruleset: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for table in ruleset.split("table ").filter(|table| !table.is_empty()) {
        let name = table.split(" {").next().unwrap_or_default();
        // Bridges are not routed.
        let is_ours = name == "inet lith" || name == "netdev lith";
        let is_routed = ["ip ", "ip6 ", "inet "].iter().any(|family| name.starts_with(family));
        if is_ours || !is_routed || table.contains("\"lith") {
            continue;
        }
        if name == "inet firewalld" {
            found.push(Finding::warning(
                "firewalld may drop what goes to published ports".into(),
                "let it trust the guests' interfaces: firewall-cmd --permanent --zone=trusted --add-interface=lith+ \
                 && firewall-cmd --reload"
                    .into(),
            ));
        }
        let mut chain = "";
        for line in table.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("chain ").and_then(|rest| rest.strip_suffix(" {")) {
                chain = name;
            } else if line.contains("hook forward") && line.contains("policy drop") {
                found.push(Finding::warning(
                    format!("chain {chain} of table {name} drops what is forwarded"),
                    forward_hint(name, chain, table),
                ));
            }
        }
    }
    found
}

fn forward_hint(name: &str, chain: &str, table: &str) -> String {
    match name {
        "ip filter" if table.contains("chain ufw-before-forward {") => {
            "add `-A ufw-before-forward -i lith+ -j ACCEPT` and `-A ufw-before-forward -o lith+ -j ACCEPT` to \
             /etc/ufw/before.rules, before COMMIT, then: ufw reload"
                .to_owned()
        }
        "ip filter" if table.contains("chain DOCKER-USER {") => iptables_hint("iptables", "DOCKER-USER"),
        "ip filter" => iptables_hint("iptables", chain),
        "ip6 filter" if table.contains("chain ufw6-before-forward {") => {
            "add `-A ufw6-before-forward -i lith+ -j ACCEPT` and `-A ufw6-before-forward -o lith+ -j ACCEPT` to \
             /etc/ufw/before6.rules, before COMMIT, then: ufw reload"
                .to_owned()
        }
        "ip6 filter" if table.contains("chain DOCKER-USER {") => iptables_hint("ip6tables", "DOCKER-USER"),
        "ip6 filter" => iptables_hint("ip6tables", chain),
        _ => format!("let packets from and to interfaces \"lith*\" pass in chain {chain} of table {name}"),
    }
}

/// The old packet filter, which `nft` does not show.
fn legacy_firewall() -> Option<Finding> {
    let tables = fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    if !tables.lines().any(|table| table == "filter") {
        return None;
    }
    let rules = run("iptables-legacy", &["-S", "FORWARD"], "").ok()?;
    rules.lines().any(|rule| rule == "-P FORWARD DROP").then(|| {
        Finding::warning(
            "iptables-legacy drops what is forwarded".into(),
            iptables_hint("iptables-legacy", "FORWARD"),
        )
    })
}

/// Lets guests' packets pass there; the rules of lith still hold for them.
fn iptables_hint(program: &str, chain: &str) -> String {
    format!(
        "{program} -I {chain} -i lith+ -j ACCEPT && {program} -I {chain} -o lith+ -j ACCEPT (iptables-persistent keeps \
         it over a reboot)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_firewalls() {
        let check = |chains: &str, expected: &[(&str, &str)]| {
            let found = firewalls(chains);
            let found: Vec<(&str, &str)> = found
                .iter()
                .map(|finding| (finding.text.as_str(), finding.hint.as_deref().unwrap_or("")))
                .collect();
            assert_eq!(found, expected, "{chains}");
        };
        let forward = |table: &str, chain: &str, policy: &str| {
            format!(
                "table {table} {{\n\tchain {chain} {{\n\t\ttype filter hook forward priority filter; policy {policy};\n\t}}\n}}\n"
            )
        };
        check("", &[]);
        check(&forward("ip filter", "FORWARD", "accept"), &[]);
        check(&forward("inet lith", "forward", "drop"), &[]);
        check(
            &forward("ip filter", "FORWARD", "drop"),
            &[(
                "chain FORWARD of table ip filter drops what is forwarded",
                "iptables -I FORWARD -i lith+ -j ACCEPT && iptables -I FORWARD -o lith+ -j ACCEPT (iptables-persistent \
                 keeps it over a reboot)",
            )],
        );
        let with = |more: &str| {
            forward("ip filter", "FORWARD", "drop").replace("}\n}\n", &format!("}}\n{more}}}\n"))
        };
        check(
            &with("\tchain DOCKER-USER {\n\t}\n"),
            &[(
                "chain FORWARD of table ip filter drops what is forwarded",
                "iptables -I DOCKER-USER -i lith+ -j ACCEPT && iptables -I DOCKER-USER -o lith+ -j ACCEPT \
                 (iptables-persistent keeps it over a reboot)",
            )],
        );
        check(
            &with("\tchain ufw-before-forward {\n\t}\n"),
            &[(
                "chain FORWARD of table ip filter drops what is forwarded",
                "add `-A ufw-before-forward -i lith+ -j ACCEPT` and `-A ufw-before-forward -o lith+ -j ACCEPT` to \
                 /etc/ufw/before.rules, before COMMIT, then: ufw reload",
            )],
        );
        // What a person has repaired, and what no guest has to do with.
        check(&with("\tchain DOCKER-USER {\n\t\tiifname \"lith*\" counter accept\n\t}\n"), &[]);
        check(&forward("bridge filter", "FORWARD", "drop"), &[]);
        check(
            &forward("ip6 filter", "FORWARD", "drop"),
            &[(
                "chain FORWARD of table ip6 filter drops what is forwarded",
                "ip6tables -I FORWARD -i lith+ -j ACCEPT && ip6tables -I FORWARD -o lith+ -j ACCEPT (iptables-persistent \
                 keeps it over a reboot)",
            )],
        );
        check(
            &forward("inet mine", "pass", "drop"),
            &[(
                "chain pass of table inet mine drops what is forwarded",
                "let packets from and to interfaces \"lith*\" pass in chain pass of table inet mine",
            )],
        );
    }

    #[test]
    fn address_conflicts() {
        let check = |route: (&str, u32, &str), severity: Severity, text: &str| {
            let route = Route { address: route.0.parse().unwrap(), bits: route.1, device: route.2.into() };
            let found = conflicts(GuestNetwork::default(), &[route]);
            assert_eq!((found[0].severity, found[0].text.as_str()), (severity, text));
        };
        check(
            ("10.83.7.0", 24, "eth0"),
            Severity::Warning,
            "the route to 10.83.7.0/24 through eth0 overlaps the guests' range 10.83.0.0/16",
        );
        check(("10.83.0.7", 32, "lith7"), Severity::Good, "nobody else uses 10.83.0.0/16");
        check(("192.168.1.0", 24, "eth0"), Severity::Good, "nobody else uses 10.83.0.0/16");
    }
}
